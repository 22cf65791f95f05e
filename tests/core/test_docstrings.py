"""Documentation as text: no markup in anything that describes a loss, and every symbol of a formula explained."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import losses
from losses.core.docstrings import documentation, formula_lines, prose
from losses.core.registry import find

NAMES = losses.available()
MARKUP = ["`", "\\", ":math:", ":class:", ":meth:", "..", "**", "{\\", "^{", "_{", "$"]
SIGNS = str.maketrans("", "", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")
WORDS = "loss log exp cosh max min sum over of in integral from to where for softmax prediction target pairs one two "
WORDS += "class classes forward reverse or soft the is above elsewhere"
"""What a formula says in words."""


def read(text: str) -> str:
    """Return a text with indices and powers as words of their own."""
    return text.translate(SIGNS).replace("_", " ")


def symbols_of(formula: str) -> set[str]:
    """Return the symbols and the indices of a formula."""
    indices = {letter for index in re.findall(r"_([^\W\d_]+)", formula) for letter in index}
    rest = re.sub(r"_[^\W\d_]+|\bd(?=q\b)", " ", formula.translate(SIGNS))
    return (indices | set(re.findall(r"[^\W\d_]+\u0302?", rest))) - set(WORDS.split())


@pytest.mark.parametrize("name", NAMES)
def test_a_description_holds_no_markup(name: str) -> None:
    description = losses.describe(name)
    texts = [str(description), description.summary, find(name).summary, *description.meanings.values()]
    rules = losses.schema()["$defs"][name]
    texts += [rules["description"], *(rule.get("description", "") for rule in rules["properties"].values())]
    for text in texts:
        without_dots = text.replace("...", "")
        assert not [mark for mark in MARKUP if mark in without_dots], text


@pytest.mark.parametrize("name", NAMES)
def test_a_description_shows_the_formula_and_explains_its_symbols(name: str) -> None:
    description = losses.describe(name)
    assert description.formula
    formula = "\n".join(description.formula)
    for line in description.formula:
        assert f"\n    {line}\n" in str(description)
    defined = set(re.findall(r"^(\w) [=←]", formula, re.MULTILINE))
    bound = set(re.findall(r"\bover (\w)\b", formula))
    said = read(" ".join([*description.details, *description.meanings, *description.meanings.values()]))
    explained = set(re.findall(r"[^\W\d_]+\u0302?", said))
    named = {letter for index in re.findall(r"_([^\W\d_]+)", " ".join(description.details)) for letter in index}
    assert symbols_of(formula) <= defined | bound | explained | named, symbols_of(formula) - explained - bound - defined


@pytest.mark.parametrize("name", NAMES)
def test_what_is_prose_fits_a_terminal(name: str) -> None:
    description = losses.describe(name)
    for text in (*description.details, *description.meanings.values()):
        assert text in " ".join(str(description).split())
        lines = [line for line in str(description).splitlines() if line.strip() in text]
        assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("latex", "lines"),
    [
        (r"\ell(r) = r^2", ["loss(r) = r²"]),
        (r"\frac12 x", ["1/2 x"]),
        (r"\tfrac1p \max(0,\ m - d)^p", ["1/p max(0, m - d)^p"]),
        (r"-\log \frac{a + b}{c}", ["-log ((a + b) / c)"]),
        (r"\frac{f(a + b)}{g((a) + b) + 1}", ["(f(a + b) / (g((a) + b) + 1))"]),
        (r"\Sigma \pi", ["Σ π"]),
        (r"\frac{a}{b + c}", ["(a / (b + c))"]),
        (r"\sum_{p \in P(i)} e^{s_{ip} / T}", ["sum over p in P(i) of exp(s_ip / T)"]),
        (r"\int_0^1 \big|F^{-1}(q)\big|^p \, dq", ["integral from 0 to 1 of |F⁻¹(q)|^p dq"]),
        (r"\min_p s_{ip} - \epsilon", ["min over p of s_ip - ε"]),
        (r"[s^-_j + m]_+", ["[s⁻_j + m]_+"]),
        (r"a \qquad b \\ c", ["a", "b", "c"]),
        (r"\mathrm{KL}(t \,\|\, o)", ["KL(t ‖ o)"]),
        (r"t \leftarrow t,", ["t ← t"]),
        (r"\hat x_e", ["x̂_e"]),
        (r"\underbrace{\textstyle\sum_e r}_{\text{part}} + \beta", ["sum over e of r + β"]),
        (r"\begin{cases} a & |r| \le \delta \\ b & |r| > \delta \end{cases} \qquad r", None),
        (r"\begin{cases} a & \text{pairs} \\ b & \text{others} \end{cases}", ["a for pairs; b for others"]),
        (r"\sqrt{o_k t_k}", ["sqrt(o_k t_k)"]),
        (r"\unknown{x} \% \beta", ["unknownx β"]),
        ("", []),
        ("\\", []),
    ],
)
def test_mathematics_is_read_as_text(latex: str, lines: list[str] | None) -> None:
    assert formula_lines(latex) == (["a where |r| ≤ δ; b where |r| > δ", "r"] if lines is None else lines)


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("``margin`` and `other`", "margin and other"),
        (":class:`~losses.extend.EmbeddingLoss`, :meth:`items`", "EmbeddingLoss, items"),
        ("a `paper <https://example.org>`_ says", "a paper says"),
        ("**summed** over\n  two lines", "summed over two lines"),
        (r":math:`\beta = 1` is :math:`W_p^p`", "β = 1 is W_p^p"),
        ('1 - ``"cosine"``, 2 * 3 ** 4', '1 - "cosine", 2 * 3 ** 4'),
    ],
)
def test_markup_is_taken_out_of_prose(text: str, read_as: str) -> None:
    assert prose(text) == read_as


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from([*"\\{}^_&|ex1 ", r"\frac", r"\sum", r"\begin{cases}", r"\end", r"\\", r"\alpha", r"\qquad"])
    )
)
def test_no_mathematics_of_a_stranger_stops_a_description(parts: list[str]) -> None:
    latex = "".join(parts)
    for line in formula_lines(latex):
        assert "\\" not in line
    prose(f":math:`{latex}` and ``{latex}``")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=200))
def test_any_documentation_is_read(text: str) -> None:
    said = documentation(type("Strange", (), {"__doc__": text}))
    assert "\n" not in said.summary


def test_paragraphs_that_belong_to_no_section_are_details() -> None:
    class Documented:
        r"""First.

        .. math::
            \ell = x

        Second ``paragraph``.

        Args:
            x: :math:`x`, the
                number.
            y: another.

        Third.

        Raises:
            ConfigError: never.

        >>> 1
        1
        """

    assert documentation(Documented) == (
        "First.",
        ("loss = x",),
        ("Second paragraph.", "Third."),
        {"x": "x, the number.", "y": "another."},
    )
    assert documentation(type("Silent", (), {})) == ("", (), (), {})
