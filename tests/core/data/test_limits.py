"""What no file and no mapping can do: take more than a second, more than 100 MB, or anything but a ConfigError."""

import codecs
import gc
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import losses
from losses import ConfigError
from losses.configuration import from_yaml
from losses.core.data import yaml_text
from losses.core.data.file import MOST_BYTES
from losses.core.data.json_text import data_from_json
from losses.core.data.plain import DEEPEST, MOST_VALUES, MOST_VALUES_IN_MEMORY, as_data
from losses.core.data.yaml_scalars import MOST_DIGITS
from losses.core.errors import quoted, suggestion
from tests.core.data.hostile import HOSTILE, bomb
from tests.refusals import refused

SECOND = 1.0


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Import what the first file imports, pydantic and PyYAML, and keep the garbage collector from looking through
    what thousands of tests left behind: it would do so once more for each ten thousand lists."""
    losses.create("huber", delta=from_yaml("2.0"))
    gc.collect()
    gc.freeze()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_a_second_for_its_reason(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(HOSTILE[name].make())
    started = time.process_time()
    with refused([str(file), HOSTILE[name].reason], ConfigError) as caught:
        losses.load(file)
    assert time.process_time() - started < SECOND
    assert len(str(caught.value)) < 20_000


@pytest.mark.integration  # a quarter of a minute
@pytest.mark.skipif(not hasattr(yaml, "CSafeLoader"), reason="PyYAML has its parser in Python alone here")
@pytest.mark.parametrize("name", [name for name in HOSTILE if name.endswith(".yaml")])
def test_the_parser_in_python_refuses_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is slower: the second is for the one that is compiled."""
    monkeypatch.setattr(yaml_text, "LOADER", yaml.SafeLoader)
    file = tmp_path / name
    file.write_text(HOSTILE[name].make())
    with refused([str(file), HOSTILE[name].reason], ConfigError):
        losses.load(file)


WHOLE = """
import resource, sys
import losses

losses.create("huber", delta=2.0)
losses.load(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
for file in ["/dev/zero", *sys.argv[2:]]:
    try:
        losses.load(file)
    except losses.ConfigError as error:
        str(error)
    else:
        raise SystemExit(f"{file} was read")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if grown > 100:
        raise SystemExit(f"{file} made the process grow by {grown:.0f} MiB")
print("refused all of them")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is counted in KiB on Linux")
def test_a_process_that_reads_all_of_them_grows_by_less_than_100_megabytes(tmp_path: Path) -> None:
    """What the compiled parser takes is counted too."""
    good = tmp_path / "good.yaml"
    good.write_text("name: huber\n")
    for name, hostile in HOSTILE.items():
        (tmp_path / name).write_text(hostile.make())
    command = [sys.executable, "-c", WHOLE, str(good), *(str(tmp_path / name) for name in HOSTILE)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert outcome.stdout == "refused all of them\n", outcome.stderr


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device", "device that never ends", "loop", "dangling"])
def test_what_is_no_regular_file_is_refused_at_once(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.yaml"
    words = f"cannot be read: it is a {kind.split()[0]}, expected a regular file"
    with socket.socket(socket.AF_UNIX) as server:
        match kind:
            case "folder":
                file.mkdir()
            case "pipe":
                os.mkfifo(file)
            case "socket":
                monkeypatch.chdir(tmp_path)  # the path of a socket is short
                server.bind("run.yaml")
            case "device":
                file = Path("/dev/null")
            case "device that never ends":
                file.symlink_to("/dev/zero")
            case "loop":
                file.symlink_to(file)
                words = "cannot be read"
            case "dangling":
                file.symlink_to(tmp_path / "nothing")
                words = "there is no such file"
        with refused([str(file), words], ConfigError):
            losses.load(file)


def test_a_huge_sparse_file_is_refused_and_a_link_to_a_good_one_is_read(tmp_path: Path) -> None:
    file = tmp_path / "sparse.yaml"
    with file.open("wb") as stream:
        stream.truncate(10**12)
    with refused([str(file), "has 1,000,000,000,000 bytes, at most 1,048,576 are read"], ConfigError):
        losses.load(file)
    (tmp_path / "good.json").write_text('{"name": "mse"}')
    (tmp_path / "link.json").symlink_to(tmp_path / "good.json")
    assert losses.load(tmp_path / "link.json").config()["name"] == "mse"


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_text_is_utf_8_with_or_without_a_byte_order_mark(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"run.{suffix}"
    text = '{"name": "huber", "delta": 2}'
    for mark in (b"", codecs.BOM_UTF8):
        file.write_bytes(mark + text.encode())
        assert losses.load(file).config()["delta"] == 2
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"):
        file.write_bytes(text.encode(encoding))
        with refused([str(file), "the byte 0, as UTF-16 does; save it as UTF-8"], ConfigError):
            losses.load(file)
    for content in (text.encode() + "é".encode("latin-1"), b"\x1f\x8b\x08", b"\xed\xa0\x80", bytes(range(1, 256))):
        file.write_bytes(content)
        with refused([str(file), "cannot be read as text", "save it as UTF-8"], ConfigError):
            losses.load(file)


def test_a_file_may_be_just_as_long_as_the_limit_says(tmp_path: Path) -> None:
    for name, text in {"run.yaml": "name: huber\n#", "run.json": '{"name": "huber"} '}.items():
        file = tmp_path / name
        file.write_text(text.ljust(MOST_BYTES, text[-1]))
        assert losses.load(file).config()["name"] == "huber"
        file.write_text(text.ljust(MOST_BYTES + 1, text[-1]))
        with refused(["has 1,048,577 bytes"], ConfigError):
            losses.load(file)


def listing(values: int) -> str:
    """Return a list of numbers in JSON, which is YAML too, that holds so many values with itself."""
    return "[" + ",".join(["0"] * (values - 1)) + "]"


READERS = {"yaml": from_yaml, "json": data_from_json}


@pytest.mark.parametrize("reader", READERS)
def test_a_file_may_hold_just_as_much_as_the_limits_say(reader: str) -> None:
    read = READERS[reader]
    assert len(read(listing(MOST_VALUES))) == MOST_VALUES - 1
    pairs = (MOST_VALUES - 1) // 2
    assert len(read("{" + ",".join(f'"{n}": 0' for n in range(pairs)) + "}")) == pairs
    for text in (listing(MOST_VALUES + 1), "{" + ",".join(f'"{n}": 0' for n in range(pairs + 1)) + "}"):
        with refused(["holds more than 50,000 values"], ConfigError):
            read(text)
    for inner in ("", "0"):
        assert read("[" * DEEPEST + inner + "]" * DEEPEST)
        with refused(["is nested more than 100 deep"], ConfigError):
            read("[" * (DEEPEST + 1) + inner + "]" * (DEEPEST + 1))
    for sign in ("", "-"):
        digits = sign + "9" * (MOST_DIGITS - len(sign))
        assert read(f'{{"a": {digits}}}')["a"] == int(digits)
        with refused([f"an integer has {MOST_DIGITS + 1} digits, at most {MOST_DIGITS}"], ConfigError):
            read(f'{{"a": {digits}9}}')


def test_what_an_alias_repeats_counts_each_time() -> None:
    half = MOST_VALUES // 2 - 2  # the whole, its keys, and an anchored list beside an alias of it
    assert len(from_yaml(f"a: &a {listing(half)}\nb: *a\n")["b"]) == half - 1
    with refused(["holds more than 50,000 values"], ConfigError):
        from_yaml(f"a: &a {listing(half + 2)}\nb: *a\n")
    deep = "[" * 60 + "]" * 60
    with refused(["is nested more than 100 deep"], ConfigError):
        from_yaml(f"a: &a {deep}\nb: {'[' * 60}*a{']' * 60}\n")


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_weights_of_all_classes_of_imagenet_21k_are_read(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"run.{suffix}"
    weights = [1 / (number + 3) for number in range(21_841)]
    file.write_text(f'{{"loss": {{"name": "ce", "class_weight": {weights}}}}}')
    assert losses.load(file, "loss").config()["class_weight"] == pytest.approx(weights)


class Endless(Sequence[float]):
    """A sequence that says it is short and never ends."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: Any) -> Any:
        return 1.0


class EndlessMapping(Mapping[str, float]):
    """A mapping that says it is short and never ends."""

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[str]:
        while True:
            yield "key"

    def __getitem__(self, key: str) -> float:
        return 1.0


def repeated(make: Any, levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = make(value)
    return value


LISTS, DICTS = repeated(lambda value: [value] * 10, 12), repeated(lambda value: {"a": value, "b": value}, 40)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"name": "ce", "class_weight": LISTS}, id="lists"),
        pytest.param({"name": "huber", "delta": DICTS}, id="mappings"),
        pytest.param({"name": "elbo", "reconstruction": DICTS}, id="losses"),
        pytest.param({"name": LISTS}, id="a name"),
        pytest.param({"name": "ce", "class_weight": range(10**12)}, id="a range"),
        pytest.param({"name": "ce", "class_weight": Endless()}, id="an endless sequence"),
        pytest.param({"name": "huber", "delta": EndlessMapping()}, id="an endless mapping"),
        pytest.param(yaml.safe_load(bomb(12, 9).replace("a11:", "delta:") + "name: huber\n"), id="a bomb of PyYAML"),
    ],
)
def test_a_mapping_that_repeats_itself_without_end_is_refused_in_a_second(config: Any) -> None:
    started = time.process_time()
    with refused([f"holds more than {MOST_VALUES_IN_MEMORY:,} values", "as a tensor"], ConfigError):
        losses.create(config)
    assert time.process_time() - started < SECOND


def test_long_lists_in_memory_and_whatever_is_no_container_are_taken_as_they_are() -> None:
    assert len(losses.create("ce", class_weight=[1.0] * 200_000).config()["class_weight"]) == 200_000
    loss = losses.create("mse")
    assert as_data({"a": (1, {"b": loss}), "c": "text"}) == {"a": [1, {"b": loss}], "c": "text"}


def test_messages_show_the_beginning_of_what_is_long() -> None:
    started = time.process_time()
    tuples = repeated(lambda value: (value, value), 60)
    for value in (LISTS, DICTS, [DICTS], {1: LISTS}, tuples, (1, 2), "x" * 10**6, 10**5000, [10**5000]):
        assert len(quoted(value)) <= 203
    for value in ({"a": [1, "b"], 2: (3,)}, [], {}, (), (1, [2]), [[1, 2], {3: 4, 5: 6}], {1, 2}, "a'b", None, 1.5):
        assert quoted(value) == repr(value)
    with refused(["expected the name of a loss or a mapping"], ConfigError):
        losses.create(tuples)
    assert suggestion("hubr" * 10**6, ["huber"]) == ""
    assert time.process_time() - started < SECOND
    with pytest.raises(ConfigError) as caught:
        losses.create("ce", class_weight=["x"] * 60 + [1.0])
    assert len(caught.value.problems) == 51
    assert str(caught.value).endswith("and 10 problems more")


def test_an_absent_key_of_a_file_of_many_is_answered_in_a_second(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("".join(f"kye{number}: 1\n" for number in range(24_000)))
    started = time.process_time()
    with refused(["there is no key 'key7'", "kye0, kye1", "and 23,950 more"], ConfigError) as caught:
        losses.load(file, "key7")
    assert time.process_time() - started < SECOND
    assert len(str(caught.value)) < 1500
