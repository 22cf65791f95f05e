"""Names of other libraries: each row of the table is built on both sides as it stands there, and compared."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import losses
from losses import ConfigError, Gaussian, Pairs, Triplets
from losses.adapters.pytorch_metric_learning import losses as pml_losses
from losses.core.foreign_names import LOSSES, PARAMETERS, PML, TORCH, VALUES, ForeignLoss, bare, foreign_losses
from losses.core.parameters import declared_parameters
from losses.core.registry import ALIASES, PENALTIES, SPECS, find
from tests.refusals import refused

NAMES = losses.available()
EQUAL = [row for row in LOSSES if row.here is not None and row.library]
ABSENT = [row for row in LOSSES if row.here is None]
NOT_LOSSES = {"BaseLossWrapper", "BaseMetricLossFunction", "EmbeddingRegularizerMixin", "WeightRegularizerMixin"}
NOT_LOSSES |= {"GenericPairLoss"}  # abstract
OF_TORCH = [name for name in dir(nn) if name.endswith("Loss")]
FUNCTIONS = [name for name in dir(F) if re.search(r"_loss$|^kl_div$|cross_entropy", name) and name[0] != "_"]
OF_PML = [name for name, it in vars(pml_losses).items() if inspect.isclass(it) and name not in NOT_LOSSES]


class Called(NamedTuple):
    """What either side is called with, and the tensors whose gradients are compared."""

    ours: tuple[Any, ...]
    theirs: tuple[Any, ...]
    leaves: tuple[Tensor, ...]


def number(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def predictions(seed: int) -> Called:
    prediction, target = number(seed, 6, 3), number(seed + 1, 6, 3)
    return Called((prediction, target), (prediction, target), (prediction, target))


def logits(seed: int, change: Callable[[Tensor], Tensor] = lambda logits: logits) -> Called:
    given, target = number(seed, 6, 4), torch.arange(6) % 4
    return Called((given, target), (change(given), target), (given,))


def binary(
    seed: int,
    change: Callable[[Tensor], Tensor] = lambda logits: logits,
    encode: Callable[[Tensor], Tensor] = lambda target: target,
) -> Called:
    given, target = number(seed, 6, 4), (number(seed + 1, 6, 4).detach() > 0).double()
    return Called((given, target), (change(given), encode(target)), (given,))


def ranking(seed: int) -> Called:
    first, second, side = number(seed, 9), number(seed + 1, 9), number(seed + 2, 9).detach().sign()
    return Called((first - second, side), (first, second, side), (first, second))


def distributions(seed: int) -> Called:
    given, target = number(seed, 6, 4), number(seed + 1, 6, 4).detach().softmax(-1)
    log_probs = given.log_softmax(-1)
    return Called((log_probs, target), (log_probs, target), (given,))


def pairs(seed: int) -> Called:
    first, second, side = number(seed, 9, 3), number(seed + 1, 9, 3), number(seed + 2, 9).detach().sign()
    return Called((Pairs(first, second), side), (first, second, side), (first, second))


def distances(seed: int) -> Called:
    (pair, side), _, leaves = pairs(seed)
    return Called((pair, side), ((pair.first - pair.second).norm(dim=1), side), leaves)


def triplets(seed: int) -> Called:
    parts = number(seed, 9, 3), number(seed + 1, 9, 3), number(seed + 2, 9, 3)
    return Called((Triplets(*parts),), parts, parts)


def labelled(seed: int) -> Called:
    embeddings, labels = number(seed, 12, 5), torch.arange(12) % 4
    return Called((embeddings, labels), (embeddings, labels), (embeddings,))


def normalised(seed: int) -> Called:
    _, theirs, leaves = labelled(seed)
    return Called((F.normalize(theirs[0]), theirs[1]), theirs, leaves)


def queries(seed: int) -> Called:
    query, key = number(seed, 7, 4), number(seed + 1, 7, 4)
    return Called((Pairs(query, key),), (query, key), (query, key))


def gaussians(seed: int) -> Called:
    mean, log_variance, target = number(seed, 9), number(seed + 1, 9), 3 * number(seed + 2, 9).detach()
    theirs = mean, target, log_variance.exp()
    return Called((Gaussian(mean, log_variance), target), theirs, (mean, log_variance))


def counts(seed: int) -> Called:
    log_rates, target = number(seed, 9), torch.arange(9, dtype=torch.float64) % 3
    return Called((log_rates, target), (log_rates, target), (log_rates,))


CALLED: dict[str, Callable[[int], Called]] = {
    "L1Loss": predictions,
    "MSELoss": predictions,
    "HuberLoss": predictions,
    "SmoothL1Loss": predictions,
    "CrossEntropyLoss": logits,
    "NLLLoss": lambda seed: logits(seed, lambda given: given.log_softmax(1)),
    "BCEWithLogitsLoss": binary,
    "BCELoss": lambda seed: binary(seed, torch.sigmoid),
    "MultiLabelSoftMarginLoss": binary,
    "SoftMarginLoss": lambda seed: binary(seed, encode=lambda target: 2 * target - 1),
    "MarginRankingLoss": ranking,
    "KLDivLoss": distributions,
    "HingeEmbeddingLoss": distances,
    "CosineEmbeddingLoss": pairs,
    "TripletMarginWithDistanceLoss": triplets,
    "GaussianNLLLoss": gaussians,
    "PoissonNLLLoss": counts,
    "InfoNCE": queries,
    f"{TORCH} TripletMarginLoss": triplets,
    f"{PML} TripletMarginLoss": normalised,
    "ContrastiveLoss": normalised,
    "CircleLoss": labelled,
    "MultiSimilarityLoss": labelled,
    "NTXentLoss": labelled,
    "SupConLoss": labelled,
}


class InfoNCE:
    """As the documentation of info-nce-pytorch says it, without further negative keys."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, query: Tensor, positive_key: Tensor) -> Tensor:
        similarity = F.normalize(query, dim=-1) @ F.normalize(positive_key, dim=-1).T
        return F.cross_entropy(similarity / self.temperature, torch.arange(len(query)))


SCOPES: dict[str, dict[str, Any]] = {TORCH: vars(nn), PML: vars(pml_losses), "info-nce-pytorch": {"InfoNCE": InfoNCE}}


def row_of(library: str, name: str) -> ForeignLoss:
    (row,) = [row for row in LOSSES if (row.library, row.name) == (library, name)]
    return row


def compare(row: ForeignLoss, ours: Any = None, theirs: Any = None, factor: float = 1.0) -> None:
    """Compare value and gradients of both sides, by default as the row says them."""
    ours = losses.create(row.here) if ours is None else ours
    theirs = eval(row.call, dict(SCOPES[row.library])) if theirs is None else theirs
    draw = CALLED.get(row.name) or CALLED[f"{row.library} {row.name}"]
    for seed in (0, 10, 20):
        called = draw(seed)
        value, expected = ours(*called.ours) * factor, theirs(*called.theirs)
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
        assert expected > 0
        gradients = torch.autograd.grad(value, called.leaves, retain_graph=True)
        for gradient, wanted in zip(gradients, torch.autograd.grad(expected, called.leaves), strict=True):
            torch.testing.assert_close(gradient, wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("row", EQUAL, ids=lambda row: f"{row.library} {row.name}")
def test_what_a_loss_of_another_library_is_here_has_its_value_and_gradient(row: ForeignLoss) -> None:
    compare(row)


OTHER_VALUES: dict[str, Any] = {
    "m": 0.25,
    "gamma": 16.0,
    "neg_margin": 1.25,
    "pos_margin": 0.125,
    "weight": torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64),
    "pos_weight": torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64),
}


@pytest.mark.parametrize(
    ("row", "theirs"),
    [(row, theirs) for row in EQUAL for theirs in row.renames],
    ids=lambda part: part if isinstance(part, str) else f"{part.library} {part.name}",
)
def test_a_renamed_parameter_means_the_same_at_another_value(row: ForeignLoss, theirs: str) -> None:
    value, cls = OTHER_VALUES[theirs], SCOPES[row.library][row.name]
    assert theirs in inspect.signature(cls).parameters
    compare(row, losses.create(row.here, **{row.renames[theirs]: value}), cls(**{theirs: value}))


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")  # which is what is compared
@pytest.mark.parametrize(
    ("library", "name", "ours", "theirs", "factor"),
    [
        (TORCH, "SmoothL1Loss", {"delta": 0.4}, {"beta": 0.4}, 1 / 0.4),
        (TORCH, "SmoothL1Loss", {"delta": 2.5}, {"beta": 2.5}, 1 / 2.5),
        (TORCH, "HuberLoss", {"delta": 0.4}, {"delta": 0.4}, 1),
        (TORCH, "CrossEntropyLoss", {"label_smoothing": 0.2}, {"label_smoothing": 0.2}, 1),
        (TORCH, "CrossEntropyLoss", {"ignore_index": 1}, {"ignore_index": 1}, 1),
        (TORCH, "MarginRankingLoss", {"margin": 0.3}, {"margin": 0.3}, 1),
        (TORCH, "KLDivLoss", {}, {"reduction": "mean"}, 1 / 4),
        (TORCH, "HingeEmbeddingLoss", {"margin": 2.0}, {"margin": 2.0}, 1),
        (TORCH, "CosineEmbeddingLoss", {"margin": 0.25}, {"margin": 0.25}, 1),
        (TORCH, "GaussianNLLLoss", {"full": True}, {"full": True}, 1),
        (TORCH, "TripletMarginLoss", {"swap": True}, {"swap": True, "eps": 0.0}, 1),
        (TORCH, "TripletMarginWithDistanceLoss", {"distance": "cosine", "swap": True}, {"swap": True, "cosine": 1}, 1),
        (PML, "TripletMarginLoss", {"swap": True}, {"swap": True}, 1),
        (PML, "TripletMarginLoss", {"margin": "soft"}, {"smooth_loss": True, "margin": 0.0}, 1),
        (PML, "TripletMarginLoss", {"margin": 0.2}, {"margin": 0.2}, 1),
        (PML, "NTXentLoss", {"temperature": 0.5}, {"temperature": 0.5}, 1),
        (PML, "SupConLoss", {"temperature": 0.5}, {"temperature": 0.5}, 1),
    ],
)
def test_what_a_note_says_holds(library: str, name: str, ours: Any, theirs: Any, factor: float) -> None:
    row, cls = row_of(library, name), SCOPES[library][name]
    if theirs.pop("cosine", None):
        theirs["distance_function"] = lambda first, second: 1 - F.cosine_similarity(first, second)
    compare(row, losses.create(row.here, **ours), cls(**theirs), factor)


def test_weights_of_torch_are_weights_of_the_call_with_its_normalizer() -> None:
    weight = torch.rand(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    row = row_of(TORCH, "BCEWithLogitsLoss")
    ours = losses.create(row.here)
    compare(row, lambda *batch: ours(*batch, weight=weight, normalizer=weight.numel()), nn.BCEWithLogitsLoss(weight))
    by_weight = lambda *batch: nn.BCEWithLogitsLoss(weight, reduction="sum")(*batch) / weight.sum()  # noqa: E731
    compare(row, lambda *batch: ours(*batch, weight=weight), by_weight)


def test_targets_that_are_logarithms_are_a_form_of_the_target() -> None:
    ours = losses.create(row_of(TORCH, "KLDivLoss").here, target_form="log_probs")
    output, target = number(0, 5, 3).log_softmax(-1), number(1, 5, 3).log_softmax(-1)
    theirs = nn.KLDivLoss(reduction="batchmean", log_target=True)
    torch.testing.assert_close(ours(output, target), theirs(output, target))


@pytest.mark.parametrize("inner", ["NTXentLoss", "SupConLoss"])
def test_two_views_with_numbered_samples_are_what_the_wrapper_makes(inner: str) -> None:
    first, second = number(0, 6, 4), number(1, 6, 4)
    row = row_of(PML, inner)
    wrapped = pml_losses.SelfSupervisedLoss(eval(row.call, dict(SCOPES[PML])))
    ours = losses.create(row.here)(torch.cat([first, second]), torch.arange(6).repeat(2))
    torch.testing.assert_close(ours, wrapped(first, second))


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # two of them call scipy in an old way
@pytest.mark.parametrize(
    "row", [row for row in ABSENT if "weight for every class" in row.note], ids=lambda row: row.name
)
def test_what_is_said_to_hold_weights_holds_some(row: ForeignLoss) -> None:
    sizes = {"num_classes": 4, "embedding_size": 6, "descriptors_dim": 6, "l": 6}
    cls = getattr(pml_losses, row.name)
    taken = set(inspect.signature(cls.__init__).parameters) | set(inspect.signature(cls.__mro__[1].__init__).parameters)
    assert list(cls(**{name: size for name, size in sizes.items() if name in taken}).parameters())


def test_a_hinge_that_is_squared_is_the_square_of_a_hinge() -> None:
    (row,) = foreign_losses("squared_hinge")
    scores, target = number(0, 9), number(1, 9).detach().sign()
    expected = (1 - target * scores).relu().square().mean()
    torch.testing.assert_close(losses.create(row.here)(scores, target), expected)


@pytest.mark.parametrize("name", [*OF_TORCH, *FUNCTIONS, *OF_PML])
def test_no_loss_of_torch_or_pytorch_metric_learning_is_left_out(name: str) -> None:
    assert foreign_losses(name), name


def spellings(name: str) -> set[str]:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    short = name.removesuffix("Loss")
    return {
        name,
        short,
        snake,
        snake.removesuffix("_loss"),
        f"nn.{name}",
        f"torch.nn.{name}",
        f"losses.{name}",
        f"F.{snake}",
    }


@pytest.mark.parametrize("row", [row for row in LOSSES if row.library], ids=lambda row: f"{row.library} {row.name}")
def test_however_a_name_is_spelt_the_message_says_what_it_is_here(row: ForeignLoss) -> None:
    for name in spellings(row.name) - {*SPECS, *ALIASES}:
        here = "has no equal here" if row.here is None else f"here{';' if row.note or row.renames else '.'}"
        with refused([f"name: unknown loss {name!r}", f"{row.library}'s {row.call}", here, row.note], ConfigError):
            losses.create(name)


@pytest.mark.parametrize("row", [row for row in LOSSES if not row.library], ids=lambda row: row.name)
def test_a_name_of_the_field_is_told_what_it_is_here_and_no_silly_name(row: ForeignLoss) -> None:
    if row.here is not None:
        losses.create(row.here)
    for name in {row.name, *row.also}:
        with pytest.raises(ConfigError) as caught:
            losses.create(name)
        assert f"{name!r} {'has no equal' if row.here is None else 'is {name: '}" in str(caught.value)
        assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("row", LOSSES, ids=lambda row: f"{row.library} {row.name}".strip())
def test_a_row_names_losses_that_are_here_and_none_that_it_says_is_not(row: ForeignLoss) -> None:
    accepted = {"euclidean", "squared_euclidean", "cosine", "mean"}
    for word in re.findall(r"(?<![=\w])'(\w+)'", row.note):
        assert word in {*SPECS, *PENALTIES, *accepted}, word
    if row.here is None:
        assert bare(row.name) not in map(bare, (*SPECS, *ALIASES)), f"{row.name} is here now"


@pytest.mark.parametrize(
    ("name", "ours"),
    [*((find(name).cls.__name__, name) for name in NAMES), ("InfoNCE", "info_nce"), ("losses.TripletLoss", "triplet")],
)
def test_a_class_of_ours_is_told_its_name(name: str, ours: str) -> None:
    with refused([f"Did you mean {ours!r}?"], ConfigError):
        losses.create(name)


@pytest.mark.parametrize(
    ("word", "near"),
    [("mes", "mse"), ("hubr", "huber"), ("triplett", "triplet"), ("crossentropi", "cross_entropy"), ("HUBER", "huber")],
)
def test_near_names_are_suggested(word: str, near: str) -> None:
    with refused([f"Did you mean {near!r}?"], ConfigError):
        losses.create(word)


@pytest.mark.parametrize("word", ["mmd", "ncc", "foo", "ice cream", "", "x", "adam", "loss"])
def test_what_is_near_to_nothing_gets_no_suggestion(word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        losses.create(word)
    assert "Did you mean" not in str(caught.value)
    assert "available are" in str(caught.value)


def parameters_of(name: str) -> set[str]:
    return {parameter.name for parameter in declared_parameters(find(name).cls.__init__)}


@pytest.mark.parametrize("row", [row for row in PARAMETERS if row.here], ids=lambda row: f"{row.names[0]} {row.here}")
def test_a_parameter_of_another_library_is_told_its_name_here(row: Any) -> None:
    takers = [name for name in NAMES if row.here in parameters_of(name)]
    assert takers
    told = 0
    for name in takers:
        for theirs in set(row.names) - parameters_of(name):
            with refused([f"{theirs}: unknown key", f"{theirs!r} is called {row.here!r} here", row.note], ConfigError):
                losses.create(name, **{theirs: 2})
            told += 1
    assert told


@pytest.mark.parametrize("row", [row for row in PARAMETERS if not row.here], ids=lambda row: row.names[0])
def test_what_is_no_parameter_here_is_told_what_there_is(row: Any) -> None:
    for theirs in row.names:
        with refused([f"{theirs}: unknown key", row.note[1:]], ConfigError):
            losses.create("mse", **{theirs: 2})


@pytest.mark.parametrize(("parameter", "value"), VALUES)
def test_a_value_of_another_library_is_told_the_one_here(parameter: str, value: str) -> None:
    takers = [name for name in NAMES if parameter in parameters_of(name)]
    (word,) = re.findall(r"'(\w+)'", VALUES[parameter, value])
    for name in takers:
        find(name).instance(**{parameter: word})
        with refused([f"{parameter}: got {value!r}", VALUES[parameter, value]], ConfigError):
            find(name).instance(**{parameter: value})


@pytest.mark.parametrize(
    ("name", "given", "here"),
    [
        ("huber", "beta", "'delta'"),
        ("binary_cross_entropy", "pos_weight", "'positive_weight'"),
        ("cross_entropy", "weight", "'class_weight'"),
        ("info_nce", "tau", "'temperature'"),
        ("mse", "size_average", "'reduction'"),
        ("mse", "weight", "loss(..., weight=w)"),
        ("triplet", "p", "'distance'"),
        ("elbo", "_target_", "hydra.utils.instantiate"),
        ("triplet", "margn", "Did you mean 'margin'?"),
    ],
)
def test_unknown_parameters_of_daily_use(name: str, given: str, here: str) -> None:
    for make in (lambda: losses.create(name, **{given: 1}), lambda: find(name).cls(**{given: 1})):
        with refused([f"{given}: unknown key", here], ConfigError):
            make()
