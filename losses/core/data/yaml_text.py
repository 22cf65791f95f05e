"""YAML text as plain data: PyYAML finds the structure, and what it means is said here, after YAML 1.2.

Data is built from the parser's events, one after the other, so that what is too much is refused where it begins to be:
nothing is expanded before it is counted. No tag can run anything, since only those of the core schema mean something.
Merge keys (``<<``), which everybody writes though YAML 1.2 has none, are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import yaml

from losses.core.data.file import MOST_BYTES
from losses.core.data.plain import MOST_VALUES, Allowance, as_data
from losses.core.data.yaml_scalars import CORE_SCHEMA, Scalar, resolved
from losses.core.errors import ConfigError, quoted

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML was built with it, twenty times as fast
MOST_DIRECTIVES = 100
"""How often ``%TAG`` may be said: the parser compares every one with all before it."""

CORE = "tag:yaml.org,2002:"


def data_from_yaml(text: str) -> Any:
    """Return YAML text as plain data.

    Raises:
        ConfigError: it is no YAML, holds two documents, a key twice, a key that is a list or mapping, an alias of
            nothing or of what it stands in, a tag of no core type, or more than the limits of files.
    """
    if len(text) > MOST_BYTES:
        raise ConfigError(f"has {len(text):,} characters, at most {MOST_BYTES:,} are read")
    if (directives := text.count("%TAG")) > MOST_DIRECTIVES:
        raise ConfigError(f"has {directives:,} directives %TAG, at most {MOST_DIRECTIVES} are read")
    try:
        tree = Document(yaml.parse(text, Loader=LOADER)).content()
    except ConfigError:
        raise
    except yaml.YAMLError as error:
        words = " ".join(str(error).split()).replace(' in "<unicode string>",', ", in")
        raise ConfigError(f"is not plain YAML: {words}") from None
    except Exception as error:  # what the parser itself stumbles over: half a character
        raise ConfigError(f"is not plain YAML: {type(error).__name__}: {error}") from None
    return as_data(tree, MOST_VALUES)  # a copy for every alias; aliases of aliases may be nested too deep


class Anchored(NamedTuple):
    """What an anchor names, and how many values it holds; ``size`` is None while it is still being read."""

    value: Any
    size: int | None


class Document:
    """The one document of a text, built from a parser's events.

    Args:
        events: what :func:`yaml.parse` yields.
    """

    def __init__(self, events: Iterator[Any]) -> None:
        self.events = events
        self.allowance = Allowance(MOST_VALUES)
        self.anchors: dict[str, Anchored] = {}

    def content(self) -> Any:
        """Return what the document holds, None if there is no document."""
        next(self.events)  # the stream begins
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return None
        value = self.value(next(self.events), 0)
        next(self.events)  # the document ends
        if not isinstance(after := next(self.events), yaml.StreamEndEvent):
            refuse(after, "expected a single document, another begins here")
        return value

    def value(self, event: Any, depth: int) -> Any:
        """Return the value that begins with an event."""
        before = self.allowance.left
        self.allowance.take(1, depth)
        if isinstance(event, yaml.AliasEvent):
            return self.aliased(event, depth)
        if event.anchor:
            self.anchors[event.anchor] = Anchored(None, None)
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self.sequence(event, depth)
        else:
            value = self.mapping(event, depth)
        if event.anchor:
            self.anchors[event.anchor] = Anchored(value, before - self.allowance.left)
        return value

    def aliased(self, event: Any, depth: int) -> Any:
        anchored = self.anchors.get(event.anchor)
        if anchored is None:
            refuse(event, f"nothing before it has the anchor {quoted(event.anchor)}")
        if anchored.size is None:
            refuse(event, f"what has the anchor {quoted(event.anchor)} stands in itself")
        self.allowance.take(anchored.size - 1, depth)  # the alias itself was counted
        return anchored.value

    def sequence(self, start: Any, depth: int) -> list[Any]:
        require_tag(start, "seq")
        items = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.value(event, depth + 1))
        return items

    def mapping(self, start: Any, depth: int) -> dict[Any, Any]:
        require_tag(start, "map")
        merged: dict[Any, Any] = {}
        entries: dict[Any, Any] = {}
        written: dict[Any, str] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.key(event, depth + 1)
            text = getattr(event, "value", f"*{event.anchor}")
            if key in written:  # equal in Python: 1 and 0x1, 1.0 and true too
                known = written[key]
                as_well = "" if text == known else f", which is written {quoted(known)} before"
                refuse(event, f"the key {quoted(text)} stands there twice{as_well}")
            written[key] = text
            value = self.value(next(self.events), depth + 1)
            if is_merge(event):
                merged = self.merged(event, value)
            else:
                entries[key] = value
        return {**merged, **entries}

    def key(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.CollectionStartEvent):
            refuse(event, "a key is a list or a mapping, expected text or a number")
        key = self.value(event, depth)
        if isinstance(key, list | dict):
            refuse(event, "a key is an alias of a list or a mapping, expected text or a number")
        return key

    def merged(self, event: Any, value: Any) -> dict[Any, Any]:
        """Return what a merge key adds: the entries of one mapping, or of several, of which the first counts most."""
        mappings = value if isinstance(value, list) else [value]
        if not all(isinstance(mapping, dict) for mapping in mappings):
            refuse(event, f"<< is given {quoted(value)}, expected a mapping or a list of mappings")
        return {key: item for mapping in reversed(mappings) for key, item in mapping.items()}


def is_merge(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.tag is None and bool(event.implicit[0])


def scalar(event: Any) -> Scalar:
    """Return what a scalar means: a word without quotes and tag after the core schema, else what its tag says."""
    try:
        return resolved(event.value) if event.tag is None and event.implicit[0] else tagged(event)
    except ValueError as error:
        refuse(event, str(error))


def tagged(event: Any) -> Scalar:
    if event.tag in (None, "!"):  # of quotes
        return str(event.value)
    kind = CORE_SCHEMA.get(event.tag.removeprefix(CORE)) if event.tag.startswith(CORE) else None
    if kind is None:
        refuse_tag(event)
    if not kind.pattern.fullmatch(event.value):
        refuse(event, f"{quoted(event.value)} is not what the tag {event.tag.replace(CORE, '!!')} says")
    return kind.read(event.value)


def require_tag(event: Any, kind: str) -> None:
    if event.tag not in (None, "!", CORE + kind):
        refuse_tag(event)


def refuse_tag(event: Any) -> NoReturn:
    tag = quoted(event.tag.replace(CORE, "!!"))
    refuse(event, f"the tag {tag} is not accepted, expected none or one of YAML 1.2's core schema, such as !!str")


def refuse(event: Any, message: str) -> NoReturn:
    """Raise what a parser would raise there."""
    raise yaml.MarkedYAMLError(problem=message, problem_mark=event.start_mark)
