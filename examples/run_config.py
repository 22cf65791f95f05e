"""What a run is: one file of data, with what the command line changes about it, checked as a whole before anything
starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

from networks import NETWORKS, NetworkSettings
from optimisers import OPTIMISERS, OptimiserSettings
from pydantic import BeforeValidator, model_validator
from settings import Count, Settings, Size, one_of, read
from tasks import TASKS
from tasks.task import Task

from losses import ConfigError, create
from losses.configuration import from_yaml, read_mapping
from losses.core.errors import Problem, quoted, suggestion
from losses.core.inputs import Kind
from losses.core.parameters import Wording
from losses.core.registry import SPECS

CONFIGS = Path(__file__).parent / "configs"


class Run(Settings):
    """Everything that decides what a run does."""

    task: Annotated[Task, one_of("task", TASKS), Wording("the name of a task or a mapping with a name")]
    network: Annotated[
        NetworkSettings, one_of("network", NETWORKS), Wording("the name of a network or a mapping with a name")
    ]
    loss: Annotated[
        dict[str, Any],
        BeforeValidator(lambda value: create(value).config()),
        Wording("the name of a loss or a mapping with a name"),
    ]
    input: Annotated[str | None, Wording("a kind of input, for a loss that takes several")] = None
    optimiser: Annotated[
        OptimiserSettings, one_of("optimiser", OPTIMISERS), Wording("the name of an optimiser or a mapping with a name")
    ]
    batch_size: Size
    steps: Count
    validate_every: Size
    validation_batches: Size
    seed: Count
    stop_after: Annotated[Size | None, Wording("an integer of at least 1, or null")] = None
    """Evaluations without a lower validation loss after which the run ends, with its best network; none: it goes on to
    the end."""

    @property
    def kinds(self) -> list[Kind]:
        """The kinds of input that this run can feed a loss, the preferred one first."""
        return [kind for kind in self.task.feeds if self.input in (None, word(kind))]

    @property
    def kind(self) -> Kind:
        """The kind of input that the loss is fed: it decides what the network returns and what a batch holds."""
        return next(kind for kind in self.kinds if kind in create(self.loss).inputs)

    def values(self) -> dict[str, Any]:
        """Return the run as plain data, with every default filled in: :func:`read` makes the same run of it."""
        return self.model_dump(serialize_as_any=True)

    @model_validator(mode="after")
    def fits_together(self) -> Run:
        """Raise unless the task can feed the loss and the network can make what it is fed."""
        problems = [*self.misfits()]
        if problems:
            raise ConfigError(*problems)
        return self

    def misfits(self) -> Iterator[Problem]:
        """Yield what is wrong between values that are each right by themselves."""
        if reason := self.task.misfit(self.batch_size):
            yield Problem(("batch_size",), reason)
        if reason := self.network.misfit(self.task.shape):
            yield Problem(("network",), reason)
        if self.loss.get("reduction") == "none":
            yield Problem(
                ("loss", "reduction"), "got 'none', expected 'mean' or 'sum': a training step needs one number"
            )
        loss = create(self.loss)
        if not self.kinds:
            hint = suggestion(self.input, map(word, self.task.feeds))
            yield Problem(
                ("input",),
                f"got {quoted(self.input)}, the task {self.task.name!r} feeds {words(self.task.feeds)}.{hint}",
            )
        elif not set(self.kinds) & set(loss.inputs):
            fitting = sorted(spec.name for spec in SPECS.values() if set(spec.inputs) & set(self.kinds))
            yield Problem(
                ("loss",),
                f"{loss.spec.name!r} takes {words(loss.inputs)}, this run of the task {self.task.name!r} feeds "
                f"{words(self.kinds)}; "
                f"losses that fit are {', '.join(fitting)}",
            )
        elif self.kind.returns not in self.network.returns:
            fitting = [name for name, network in NETWORKS.items() if self.kind.returns in network.returns]
            yield Problem(
                ("network",),
                f"{self.network.name!r} cannot return {self.kind.output_text}, which the loss {loss.spec.name!r} "
                f"takes; networks that can are {', '.join(fitting)}",
            )


def planned(name: str, losses: Sequence[str] = (), changes: Sequence[str] = ()) -> dict[str, Run]:
    """Return the runs that a command line asks for, by the names of their folders.

    Args:
        name: name of a file in ``configs/``, or the path of one anywhere.
        losses: a run is made for each; names, or mappings in YAML. None means the loss of the file.
        changes: ``key=value`` with a dotted key and a value in YAML, applied to every run.

    Raises:
        ConfigError: with every problem of every run.
    """
    file = located(name)
    content = read_mapping(file)
    folders: dict[str, dict[str, Any]] = {} if losses else {file.stem: content}
    for loss in chosen(losses):
        folder = f"{file.stem}-{label(loss)}"
        if folders.setdefault(folder, {**content, "loss": loss})["loss"] != loss:
            raise ConfigError(f"--loss {loss}: another of the losses would be kept in the same folder, {folder}")
    runs, problems = {}, []
    for folder, values in folders.items():
        try:
            runs[folder] = read(Run, changed(values, changes))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*dict.fromkeys(problems))  # what is wrong in the file is wrong in every run
    return runs


def left_out(name: str, losses: Sequence[str], changes: Sequence[str] = ()) -> Iterator[str]:
    """Yield a line for every ``--loss`` with parameters that the file gives other values: what is not named is the
    default of the loss, not what the file says."""
    file = located(name)
    given = as_mapping(read_mapping(file).get("loss"))
    of_loss = [change for change in changes if change.startswith("loss.")]
    for loss in chosen(losses):
        asked = as_mapping(changed({"loss": loss}, of_loss)["loss"])
        taken = create(asked).config()
        differ = {key: value for key, value in given.items() if key in taken and key not in asked}
        differ = {key: value for key, value in differ.items() if taken[key] != value}
        if differ:
            yield (
                f"--loss {taken['name']}: {listed({key: taken[key] for key in differ})} by default; {file.name} has "
                f"{listed(differ)} for {given['name']}. To take that over, --loss '{{name: {taken['name']}, "
                f"{listed(differ, ': ')}}}'"
            )


def listed(parameters: Mapping[str, Any], between: str = "=") -> str:
    return ", ".join(f"{key}{between}{value}" for key, value in parameters.items())


def chosen(losses: Sequence[str]) -> list[Any]:
    """Return the losses that a command line names: names, or mappings."""
    return [parsed(text, f"--loss {text}") for text in losses]


def as_mapping(loss: object) -> dict[str, Any]:
    return loss if isinstance(loss, dict) else {"name": loss}


def parsed(text: str, argument: str) -> Any:
    """Return the YAML text of a command line argument as data."""
    try:
        return from_yaml(text)
    except ConfigError as error:
        raise error.within(argument) from None


def located(name: str) -> Path:
    """Return the file of a run."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml", ".json"):
        return path
    known = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
    if name not in known:
        raise ConfigError(
            f"unknown run {name!r}, available are {', '.join(known)}, or the path of a YAML "
            f"file.{suggestion(name, known)}"
        )
    return CONFIGS / f"{name}.yaml"


def label(loss: object) -> str:
    """Return a loss's configuration as a short name that can also name a folder.

    >>> label({"name": "triplet", "margin": 0.1})
    'triplet-margin=0.1'
    """
    parts = (
        [loss]
        if not isinstance(loss, dict)
        else [loss.get("name"), *(f"{key}={value}" for key, value in loss.items() if key != "name")]
    )
    return re.sub(r"[^\w.=-]+", "_", "-".join(map(str, parts)))


def changed(values: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Return a copy of a run's values with ``key=value`` changes made; a name that is changed inside becomes a mapping.

    >>> changed({"loss": "triplet", "steps": 200}, ["loss.margin=0.3", "steps=50"])
    {'loss': {'name': 'triplet', 'margin': 0.3}, 'steps': 50}
    """
    values = deepcopy(values)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change}: expected key=value, such as --set loss.margin=0.3")
        *parents, last = key.split(".")
        inner = values
        for depth, parent in enumerate(parents):
            if isinstance(inner.get(parent), str):
                inner[parent] = {"name": inner[parent]}
            inner = inner.get(parent)
            if not isinstance(inner, dict):
                raise ConfigError(
                    Problem(
                        tuple(parents[: depth + 1]), f"--set {change}: got {quoted(inner)} there, expected a mapping"
                    )
                )
        inner[last] = parsed(text, f"--set {change}")
    return values


def word(kind: Kind) -> str:
    """Return a kind of input as a run's ``input`` says it."""
    return kind.name.lower()


def words(kinds: Sequence[Kind]) -> str:
    return ", ".join(map(word, kinds))
