"""Every way to name a loss and its parameters, also in the objects of other configuration libraries."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import losses
from losses import ConfigError
from tests.refusals import refused


class MappingOfHydra(Mapping[str, Any]):
    """Like omegaconf's DictConfig: a mapping, and no dict."""

    def __init__(self, **content: Any) -> None:
        self.content = content

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)


class ListOfHydra(Sequence[Any]):
    """Like omegaconf's ListConfig: a sequence, and neither list nor tuple."""

    def __init__(self, *content: Any) -> None:
        self.content = content

    def __getitem__(self, index: Any) -> Any:
        return self.content[index]

    def __len__(self) -> int:
        return len(self.content)


def instantiate(target: Any, **node: Any) -> Any:
    """Call a target as hydra.utils.instantiate does: by keyword, nested nodes as its own mappings and lists."""
    return target(**node)


@pytest.mark.parametrize(
    "make",
    [
        lambda: losses.create("huber", delta=2),
        lambda: losses.create({"name": "huber", "delta": 2}),
        lambda: losses.create({"name": "huber", "delta": 5}, delta=2),
        lambda: losses.create({"name": "huber", "delta": 2}, name="huber"),
        lambda: losses.create("huber", name="huber", delta=2),
        lambda: losses.create(name="huber", delta=2),
        lambda: losses.create(**MappingOfHydra(name="huber", delta=2)),
        lambda: losses.create(MappingOfHydra(name="huber", delta=2)),
        lambda: losses.create(MappingOfHydra(name="huber"), delta=2),
        lambda: losses.create({"delta": 2}, name="huber"),
        lambda: instantiate(losses.create, name="huber", delta=2),
        lambda: instantiate(losses.HuberLoss, delta=2),
    ],
)
def test_a_name_and_its_parameters_are_given_in_any_of_these_ways(make: Any) -> None:
    assert make().config() == {"name": "huber", "delta": 2.0, "reduction": "mean"}


def test_lists_and_mappings_of_other_libraries_are_parameters_by_function_and_by_class() -> None:
    weights = ListOfHydra(1.0, 2.0)
    for loss in (
        instantiate(losses.create, name="ce", class_weight=weights),
        instantiate(losses.CrossEntropyLoss, class_weight=weights),
        losses.create(MappingOfHydra(name="ce", class_weight=weights)),
    ):
        assert loss.config()["class_weight"] == [1.0, 2.0]
    inner = MappingOfHydra(name="bce", positive_weight=weights)
    for loss in (
        instantiate(losses.create, name="elbo", reconstruction=inner),
        instantiate(losses.ELBOLoss, reconstruction=inner),
        instantiate(
            losses.create, name="elbo", reconstruction=losses.create(inner)
        ),  # Hydra builds inner targets first
    ):
        assert loss.config()["reconstruction"]["positive_weight"] == [1.0, 2.0]


@pytest.mark.parametrize("value", ["12", b"12", bytearray(b"12")], ids=repr)
def test_text_is_no_list_of_numbers(value: Any) -> None:
    with refused(["class_weight: got", "expected a list"], ConfigError):
        losses.CrossEntropyLoss(class_weight=value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: losses.create("mse", name="mae"), ["name: is given twice, 'mse' and 'mae'", "leave one of them out"]),
        (lambda: losses.create({"name": "mse"}, name="mae"), ["name: is given twice, 'mse' and 'mae'", "leave one"]),
        (lambda: losses.create("mse", name=None), ["name: is given twice, 'mse' and None"]),
        (lambda: losses.create(), ["got None", "expected the name of a loss or a mapping"]),
        (lambda: losses.create(delta=2), ["name: is missing, expected one of", "huber"]),
        (lambda: losses.create(name=None), ["name: unknown loss None"]),
        (lambda: losses.create(name={"name": "mse"}), ["name: unknown loss {'name': 'mse'}"]),
        (lambda: losses.create(name="hubr"), ["name: unknown loss 'hubr'", "Did you mean 'huber'?"]),
        (lambda: losses.create(name="huber", delta=-2), ["delta: got -2"]),
    ],
)
def test_a_name_twice_or_not_at_all_is_refused(make: Any, words: list[str]) -> None:
    with refused(words, ConfigError):
        make()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("loss: {name: huber}\nsteps: 3\n", "loss"),
        ("loss: huber\n", "loss"),
        ("name: my experiment\nloss: {name: huber}\n", "loss"),
        ("training:\n  loss: {name: huber}\n  optimiser: {name: adam}\n", "training.loss"),
        ("optimiser: {name: adam}\nobjective: {name: huber}\n", "objective"),
        ("critic: {name: mse}\nloss: {name: huber}\n", "loss"),
        ("a: {b: {loss: huber}}\n", "a.b.loss"),
    ],
)
def test_a_larger_file_without_key_is_told_the_key_that_loads_it(tmp_path: Path, text: str, key: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with refused(["run.yaml: is not a loss itself", f'load(path, key="{key}")'], ConfigError):
        losses.load(file)
    assert losses.load(file, key=key).config()["name"] == "huber"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: elboo\nreconstruction: {name: mse}\n", "Did you mean 'elbo'?"),
        ("name: elbo\nreconstruction: {name: mse}\nbeta: -1\n", "beta: got -1"),
        ("steps: 3\n", "name: is missing"),
        ("optimiser: {name: adam}\n", "name: is missing"),
    ],
)
def test_a_loss_that_is_wrong_itself_is_told_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        losses.load(tmp_path / "run.yaml")
    assert words in str(caught.value)
    assert "key=" not in str(caught.value)
