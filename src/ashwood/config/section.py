"""Sections of an experiment file: maps with fixed keys, each of which is declared once with `key`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

from ashwood.config import determined
from ashwood.config.kinds import ANY, Kind
from ashwood.config.report import Report
from ashwood.config.wording import Path, dotted, must_be
from ashwood.errors import nearest
from ashwood.views.wording import any_of

_S = TypeVar("_S", bound="Section")


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a map in the file.

    Attributes:
        kind: the kind of its value.
        description: one or more sentences for users.
        default: the value if the key is missing or null.
        otherwise: description of the default, if ``default`` is None or should not be shown.
        required: what the key is for, in the message that it is missing; empty if it isn't required.
        only: search methods, or types of the section, to which the key applies; empty for all.
    """

    kind: Kind
    description: str
    default: Any = None
    otherwise: str = "none"
    required: str = ""
    only: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of its value, with description and default."""
        default = self.default.value if isinstance(self.default, StrEnum) else self.default
        stated = {"default": default} if isinstance(default, str | int | float) else {}
        return self.kind.schema | {"description": self.description} | stated


def key(kind: Kind, description: str, default: Any = None, **more: Any) -> Any:
    """Return a field of a `Section` that is read from the file; see `Key`."""
    declared = Key(kind, description, default, **more)
    return field(default=kind.model() if kind.model else default, metadata={"key": declared})


@dataclass(frozen=True, kw_only=True)
class Section:
    """A map of the file with fixed keys; null means the default, as in Determined's files.

    Attributes:
        at: path of the section in the file.
        selector: name of the key to whose value `Key.only` refers, if there is one.
        given: the keys that the file has, with a correct value.
    """

    at: ClassVar[Path]
    selector: ClassVar[str]

    given: frozenset[str] = frozenset()

    def __init_subclass__(cls, at: Path = (), selector: str = "") -> None:
        cls.at, cls.selector = at, selector

    @classmethod
    def declared(cls) -> dict[str, Key]:
        """Return the keys of the section by name."""
        return {each.name: each.metadata["key"] for each in fields(cls) if "key" in each.metadata}


def section(model: type[Section], short: Kind | None = None, stands_for: str = "") -> Kind:
    """Return the kind of a section.

    Args:
        model: the section.
        short: the kind of a value that can be written instead of the map.
        stands_for: the field of the section that such a value sets.
    """

    def read(value: Any, path: Path, report: Report) -> Section | None:
        if short is None or isinstance(value, Mapping):
            return _read(model, value, report)
        found = short.read(value, path, report)
        return None if found is None else model(**{stands_for: found})

    schema = map_schema(model.declared(), model.__doc__, model.at)
    return Kind(schema if short is None else {"anyOf": [short.schema, schema]}, read, model)


def map_schema(keys: Mapping[str, Key], description: str | None, at: Path | None = None) -> dict[str, Any]:
    """Return the JSON schema of a map with these keys, and with the keys of Determined that are ignored at a path."""
    properties = {name: each.schema for name, each in keys.items()}
    for path in determined.IGNORED:
        if path[:-1] == at:
            description_of = f"Of Determined, {determined.effect(path)}."
            properties[str(path[-1])] = {"deprecated": True, "description": description_of}
    required = [name for name, each in keys.items() if each.required]
    return {"type": "object", "description": description, "properties": properties, "additionalProperties": False} | (
        {"required": required} if required else {}
    )


def read_keys(
    keys: Mapping[str, Key], data: Mapping[str, Any], path: Path, report: Report, unknown: Callable[[str, Any], None]
) -> dict[str, Any]:
    """Return the values of a map by key.  Wrong and missing ones are reported and left out.

    Args:
        keys: the keys that the map can have.
        data: the map.
        path: its path.
        report: collects the problems.
        unknown: function that reports another key, with its value.
    """
    # Unknown keys come first: if one is a misspelt required key, that key is not reported as missing.
    for name, value in data.items():
        if name not in keys and not report.is_full and not report.known_bad((*path, name)):
            unknown(name, value)
    values = {}
    for name, each in keys.items():
        at = (*path, name)
        if data.get(name) is not None or (name in data and each.kind is ANY):
            value = each.kind.read(data[name], at, report)
            if value is not None or each.kind is ANY:
                values[name] = value
        elif each.required:
            report.missing(at, each.required)
    return values


def _read(model: type[_S], data: Any, report: Report) -> _S | None:
    if not isinstance(data, Mapping):
        raise ValueError(must_be("a map (key: value)", data))
    keys = model.declared()
    values = read_keys(keys, data, model.at, report, lambda name, each: _report_unknown(model, name, each, report))
    chosen = values.get(model.selector)
    for name in list(values):
        only = keys[name].only
        if chosen is not None and only and chosen not in only:
            report.error((*model.at, name), f"is for {any_of(only)}, not for {chosen}: remove it")
            del values[name]
    return model(given=frozenset(values), **values)


def _report_unknown(model: type[Section], name: str, value: Any, report: Report) -> None:
    path, keys = (*model.at, name), model.declared()
    if path in determined.IGNORED:
        if value is not None:
            report.warn(path, f"has {determined.effect(path)}")
    elif message := determined.refusal(model.at, name, value):
        if value is None:
            return
        report.error(path, message)
        # The message says which keys to write instead, so these are not reported as missing, too.
        for other in set(re.findall(r"\w+", message)) & set(keys):
            report.excuse((*model.at, other))
    elif (home := next((at for at, known in _sections() if name in known and at != model.at), None)) is not None:
        report.error(
            path, f"is in the wrong place: write it as {dotted((*home, name))}{'' if home else ', at the top'}"
        )
    elif far := _similar(name, model):
        report.error(path, f"unknown key; did you mean {far[-1] if far[:-1] == model.at else dotted(far)}?")
        report.excuse(far)
    else:
        report.error(path, f"unknown key; known keys here: {', '.join(sorted(keys))}")


def in_its_section(path: Path) -> Path:
    """Return the path of a key that was written without its section: ``searcher.max_trials`` for ``max_trials``."""
    sections = list(_sections())
    if len(path) != 1 or any(path[0] in known for at, known in sections if not at):
        return path
    # As in `ashwood set`, max_time is that of stop_when; searcher.max_time is another way to write max_length.
    homes = [at for at, known in sections if path[0] in known and (*at, *path) != ("searcher", "max_time")]
    return (*homes[0], *path) if homes else path


def _similar(name: str, model: type[Section]) -> Path | None:
    """Return the path of the key that was probably meant: one of the section, else one of another section."""
    sections = [(model.at, set(model.declared())), *_sections()]
    return next(((*at, close) for at, known in sections if (close := nearest(name, sorted(known)))), None)


def _sections() -> Iterator[tuple[Path, set[str]]]:
    """Yield the path and the keys of each section, outer sections first; ignored keys of Determined are included."""
    for model in sorted(Section.__subclasses__(), key=lambda model: len(model.at)):
        own = model.declared().keys() - {"type"}  # Several sections have this key, so it belongs to none of them.
        yield model.at, {*own, *(str(path[-1]) for path in determined.IGNORED if path[:-1] == model.at)}
