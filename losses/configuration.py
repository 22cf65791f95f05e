"""Configuration: names, mappings, YAML and JSON files become losses, and losses describe themselves.

Configuration is data: reading one never imports or runs what it says. Everything here is derived from the registry and
from the annotated signatures of the constructors.
"""

from __future__ import annotations

import inspect
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from losses.core.building import ANY_LOSS, build
from losses.core.data.file import text_of
from losses.core.data.json_text import data_from_json
from losses.core.data.yaml_scalars import resolved
from losses.core.docstrings import documentation
from losses.core.errors import LONGEST, ConfigError, Problem, dotted, listed, quoted, suggestion
from losses.core.parameters import DeclaredParameter, declared_parameters, model_of
from losses.core.registry import ALIASES, LIBRARIES, PENALTIES, SPECS, Spec, find, load_plugins

if TYPE_CHECKING:
    from torch import nn

    from losses.core.loss import Loss


def of_pytorch_metric_learning(name: str) -> Spec:
    """Return the record of a loss of pytorch-metric-learning, which is imported here and not before."""
    from losses.adapters.pml.catalogue import spec_of

    return spec_of(name)


LIBRARIES["pml"] = of_pytorch_metric_learning


def create(name_or_mapping: str | Mapping[str, Any] | None = None, /, **parameters: Any) -> Loss:
    """Return the loss that a name or a configuration describes.

    Args:
        name_or_mapping: a name or alias, or a mapping with a ``name`` and the loss's parameters. Left out, the name is
            a keyword too: ``create(**config)``, or Hydra's ``_target_: losses.create`` with ``name: huber`` beside it.
        parameters: parameters of the loss, which replace or complete those of the mapping.

    Raises:
        ConfigError: the name, a key or a value is not accepted; all problems at once.

    >>> create("huber", delta=2.0)
    HuberLoss(delta=2.0, reduction='mean')
    >>> create({"name": "l1"}, reduction="sum").config()
    {'name': 'mae', 'reduction': 'sum'}
    >>> create(name="triplet", margin=0.5).config()["margin"]
    0.5
    """
    if name_or_mapping is None and parameters:
        return create(parameters)
    mapping = {"name": name_or_mapping} if isinstance(name_or_mapping, str) else name_or_mapping
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"got {quoted(name_or_mapping)}, expected the name of a loss or a mapping with a name")
    if "name" in mapping and "name" in parameters and mapping["name"] != parameters["name"]:
        names = f"{quoted(mapping['name'])} and {quoted(parameters['name'])}"
        raise ConfigError(Problem(("name",), f"is given twice, {names}; leave one of them out"))
    built: Loss = build({**mapping, **parameters})
    return built


def load(path: str | PathLike[str], key: str | None = None) -> Loss:
    """Return the loss that a YAML or JSON file describes.

    YAML is read as YAML 1.2: ``010`` is ten, ``1e-3`` a number, and ``yes``, ``no``, ``1:30`` and ``2026-01-01`` are
    text. A file may be 1 MiB long and hold 50,000 values (keys count, and what an alias repeats counts each time), 100
    levels and integers of 400 digits; no more of it is read.

    Args:
        path: the file, a regular one in UTF-8; ``.json`` is read as JSON, anything else as YAML.
        key: where in the file the loss stands, such as ``"training.loss"``; by default the whole file is the loss. A
            part that looks like a number, such as the 3 of ``"runs.3.loss"``, finds that number and the text alike.

    Raises:
        ConfigError: the file cannot be read as data, or what it says is not a loss; all problems at once.
    """
    content: Any = read_mapping(path)
    parts = tuple(key.split(".")) if key else ()
    for depth, part in enumerate(parts):
        found = keys_meant(content, part)
        if len(found) != 1:
            known = [str(name) for name in content] if isinstance(content, Mapping) else []
            raise ConfigError(
                f"{path}: there are {listed(map(quoted, found))}, each of which {dotted(parts[: depth + 1])!r} may mean"
                if found
                else f"{path}: there is no key {dotted(parts[: depth + 1])!r}, the keys there are "
                f"{listed(known) or 'none'}.{suggestion(part, known)}"
            )
        content = content[found[0]]
    try:
        return create(content)
    except ConfigError as error:
        if not key and (place := place_of_loss(content)):
            raise ConfigError(f'{path}: is not a loss itself, but holds one; write load(path, key="{place}")') from None
        raise error.under(*parts).within(str(path)) from None


def keys_meant(content: object, part: str) -> list[Any]:
    """Return the keys of a mapping that a part of a dotted key may mean: the text itself, or what YAML reads it as.

    >>> keys_meant({3: "a", "b": "c"}, "3")
    [3]
    """
    meanings: list[Any] = [part]
    with suppress(ValueError):  # a number too long to be read
        meanings.append(resolved(part))
    typed = [(type(meaning), meaning) for meaning in meanings]  # 1 and true are equal, but of two types
    return [name for name in content if (type(name), name) in typed] if isinstance(content, Mapping) else []


def place_of_loss(content: Mapping[str, Any]) -> str | None:
    """Return the key under which a larger configuration holds a loss; ``None`` if it is one itself, or holds none."""
    if is_name_of_loss(content.get("name")):
        return None
    places = keys_of_losses(content)
    called = [place for place in places if place.rpartition(".")[2] == "loss"]
    if "name" not in content:  # else it may be a loss misspelt, whose parts are losses
        called = called or places
    return called[0] if called else None


def keys_of_losses(content: Mapping[str, Any], prefix: str = "", depth: int = 3) -> list[str]:
    """Return the dotted keys of a configuration that are called ``loss`` or hold a mapping with the name of one."""
    places = []
    for key, value in content.items():
        if len(str(key)) > LONGEST:  # nobody means it, and before each of many keys it would fill the memory
            continue
        if key == "loss" or (isinstance(value, Mapping) and is_name_of_loss(value.get("name"))):
            places.append(f"{prefix}{key}")
        elif isinstance(value, Mapping) and depth > 1:
            places += keys_of_losses(value, f"{prefix}{key}.", depth - 1)
    return places


def is_name_of_loss(name: object) -> bool:
    return isinstance(name, str) and (name in SPECS or name in ALIASES or name.partition(".")[0] in LIBRARIES)


def read_mapping(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the mapping that a YAML or JSON file holds, as plain data; for the limits see :func:`load`.

    Raises:
        ConfigError: the file is missing, no regular file, beyond a limit, empty, not a mapping, says a key twice, or
            holds tags that would run code.
    """
    try:
        file = Path(path)
    except TypeError:
        raise ConfigError(f"got {quoted(path)}, expected the path of a file") from None
    try:
        text = text_of(file)
        content = data_from_json(text) if file.suffix == ".json" else from_yaml(text)
    except ConfigError as error:
        raise error.within(str(file)) from None
    if content is None:
        raise ConfigError(f"{file}: is empty, expected a mapping such as 'name: huber'")
    if not isinstance(content, dict):
        raise ConfigError(
            f"{file}: holds {type(content).__name__} {quoted(content)}, expected a mapping such as 'name: huber'"
        )
    return content


def available(family: str | None = None) -> list[str]:
    """Return the names of all losses, or of one family's, in alphabetical order.

    The losses of pytorch-metric-learning are the family ``"pml"``: ``available("pml")`` imports it and lists them. They
    are not among all losses, for what there is does not depend on another library.

    >>> "huber" in available("regression")
    True
    >>> "pml.ArcFaceLoss" in available("pml")
    True
    """
    load_plugins()
    if family == "pml":
        from losses.adapters.pml.catalogue import names

        return names()
    families = sorted({spec.family for spec in SPECS.values()})
    if family is not None and family not in families:
        known = sorted([*families, *LIBRARIES])
        raise ConfigError(f"unknown family {family!r}, there are {', '.join(known)}.{suggestion(family, known)}")
    return sorted(spec.name for spec in SPECS.values() if family in (None, spec.family))


@dataclass(frozen=True)
class Description:
    """What there is to know of a loss before using it; ``str()`` of it is a page to read."""

    name: str
    aliases: tuple[str, ...]
    cls: type[Loss]
    family: str
    summary: str
    formula: tuple[str, ...]
    details: tuple[str, ...]
    suits: str
    inputs: tuple[tuple[str, str], ...]
    parameters: tuple[DeclaredParameter, ...]
    meanings: Mapping[str, str]
    laws: tuple[str, ...]
    source: str

    def __str__(self) -> str:
        lines = [f"{self.name} ({', '.join((*self.aliases, self.cls.__name__))}): {self.summary}"]
        lines += [f"    {line}" for line in self.formula]
        lines += [wrapped("  ", detail) for detail in self.details]
        lines += [f"  for     {self.suits}"]
        lines += [f"  takes   {output}  against  {target}" for output, target in self.inputs]
        for parameter in self.parameters:
            required = parameter.default is inspect.Parameter.empty
            default = ", required" if required else f"={quoted(parameter.default)}"
            lines += [f"  {parameter.name}{default}: {parameter.accepts}"]
            lines += [wrapped("      ", meaning) for meaning in (self.meanings.get(parameter.name),) if meaning]
        lines += [f"  law     {law}" for law in self.laws]
        return "\n".join([*lines, f"  source  {self.source}"])


def wrapped(indent: str, text: str) -> str:
    """Return a paragraph in lines that a terminal holds."""
    return textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def describe(name: str) -> Description:
    """Return what there is to know of a loss, by its name or alias.

    >>> print(describe("l2"))
    mse (l2, MSELoss): Squared difference between prediction and target.
        loss(r) = r²
        r = prediction - target
      for     regression with noise of one size everywhere; predicts the mean
      takes   prediction (*)  against  the same shape
      reduction='mean': 'mean', 'sum' or 'none'
          "mean", "sum" or "none"; an item is one element.
      law     no item is below 0
      law     the loss of the target against itself is 0
      law     output and target can change places
      law     moving everything by a constant changes nothing
      law     the loss is in the unit of the data to the power 2
      source  C. F. Gauss, Theoria combinationis observationum erroribus minimis obnoxiae, 1823
    """
    spec = find(name)
    said = documentation(spec.cls)
    return Description(
        name=spec.name,
        aliases=spec.aliases,
        cls=spec.cls,
        family=spec.family,
        summary=said.summary,
        formula=said.formula,
        details=said.details,
        suits=spec.suits,
        inputs=tuple((kind.output_text, kind.target_text) for kind in spec.inputs),
        parameters=tuple(declared_parameters(spec.cls.__init__)),
        meanings=said.parameters,
        laws=tuple(law.sentence for law in spec.laws),
        source=spec.source,
    )


def schema(*families: str) -> dict[str, Any]:
    """Return a JSON Schema that accepts exactly the configurations that :func:`create` accepts.

    Args:
        families: ``"pml"`` says what each loss of pytorch-metric-learning takes too, and imports it; without it any
            parameters are accepted beside a name that begins with ``pml.``.
    """
    load_plugins()
    definitions: dict[str, Any] = {}
    theirs = [find(name) for family in families for name in available(family) if name not in SPECS]
    for spec in sorted([*SPECS.values(), *theirs], key=lambda spec: spec.name):
        try:
            definitions[spec.name] = schema_of(spec)
        except Exception as error:  # a parameter of a plugin that JSON cannot say must not take the others with it
            warnings.warn(f"{spec.name!r} has no schema: {type(error).__name__}: {error}", stacklevel=2)
    definitions |= {name: rules_of(penalty, [name]) for name, penalty in sorted(PENALTIES.items())}
    demanding = {name for name, rules in definitions.items() if len(rules["required"]) > 1}  # the name is not enough
    names = sorted({*SPECS, *PENALTIES, *(spec.name for spec in theirs)} - demanding)
    names = sorted([*names, *(alias for alias, name in ALIASES.items() if name not in demanding)])
    options = [{"enum": names}, *({"$ref": f"#/$defs/{name}"} for name in sorted(definitions))]
    for library in sorted({*LIBRARIES} - {spec.family for spec in theirs}):
        name = {"type": "string", "pattern": rf"^{library}\."}
        options += [name, {"type": "object", "properties": {"name": name}, "required": ["name"]}]
    definitions["loss"] = {"anyOf": options}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/$defs/loss", "$defs": definitions}


def schema_of(spec: Spec) -> dict[str, Any]:
    """Return the JSON Schema of one loss's configurations."""
    return rules_of(spec.cls, [spec.name, *spec.aliases])


def rules_of(cls: type[nn.Module], names: Sequence[str]) -> dict[str, Any]:
    """Return the JSON Schema of what is built by one of these names."""
    place = f"#/$defs/{names[0]}/$defs/{{model}}"  # of what a parameter's own type refers to
    body = model_of(cls.__init__).model_json_schema(ref_template=place)
    said = documentation(cls)
    properties: dict[str, Any] = {"name": {"enum": [*names]}}
    for name, rule in body.get("properties", {}).items():
        properties[name] = referring(rule)
        properties[name]["description"] = said.parameters.get(name, "")
    return {
        "description": said.summary,
        "type": "object",
        "properties": properties,
        "required": ["name", *body.get("required", [])],
        "additionalProperties": False,
        **({"$defs": body["$defs"]} if "$defs" in body else {}),
    }


def referring(rule: Any) -> Any:
    """Return a part of a schema that refers to all losses where any of them may stand, without pydantic's titles."""
    if isinstance(rule, list):
        return [referring(part) for part in rule]
    if not isinstance(rule, dict):
        return rule
    if rule.items() >= ANY_LOSS.items():
        return {"$ref": "#/$defs/loss"}
    return {key: referring(part) for key, part in rule.items() if key != "title" or not isinstance(part, str)}


def from_yaml(text: str) -> Any:
    """Return YAML text as plain data, read as YAML 1.2, within the limits of :func:`load` and without running anything.

    Raises:
        ConfigError: it cannot be read as data.
    """
    from losses.core.data.yaml_text import data_from_yaml  # PyYAML is imported with the first file

    return data_from_yaml(text)
