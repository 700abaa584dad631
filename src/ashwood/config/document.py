"""YAML text to plain data and the line of every key.

What differs from PyYAML's own loader: ``1e-4`` is a number, ``1:30`` and ``2024-01-31`` are
text, a key that is given twice or isn't text is an error, and nothing but JSON's types
comes out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from ashwood.config.wording import Path, shown

_TAG = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT, _STR, _MERGE = (_TAG + name for name in ("null", "bool", "int", "float", "str", "merge"))
_TRUE = frozenset({"yes", "true", "on"})
_MOST_NODES = 200_000
_DEEPEST = 100


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars by the rules of this module."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own attribute, filled below


for _tag, _pattern, _first in (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"(?:yes|no|true|false|on|off)", list("yntfo")),
    (_BOOL, r"(?:Yes|No|True|False|On|Off|YES|NO|TRUE|FALSE|ON|OFF)", list("YNTFO")),
    (_INT, r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o[0-7_]+|0[0-7_]*|[1-9][0-9_]*)", list("-+0123456789")),
    (_FLOAT, r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?", list("-+0123456789.")),
    (_FLOAT, r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.")),
    (_MERGE, r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong with the text itself."""

    path: Path
    line: int | None
    message: str


@dataclass(slots=True)
class Document:
    """What a text says.

    Attributes:
        data: JSON values; None where the text can't be read at all.
        lines: the line, from 1, of every key and list item; the path ``()`` is the whole text.
        flaws: what is wrong with the text; ``data`` leaves those parts out.
    """

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)


class _Unreadable(Exception):
    def __init__(self, line: int, message: str) -> None:
        self.flaw = Flaw((), line, message)


def parse(text: str) -> Document:
    """Read YAML text.  Never raises: what is wrong is in the document's flaws."""
    document = Document()
    try:
        root = _compose(text)
        if root is not None:
            document.lines[()] = _line(root)
            document.data = _Builder(document).value(root, (), ())
    except yaml.MarkedYAMLError as error:
        document.flaws.append(_syntax_flaw(error, text))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        document.flaws.append(
            Flaw((), line, f"not a text file: it has the control character \\x{int(error.character):02x}")
        )
    except RecursionError:
        document.flaws.append(Flaw((), None, "nested too deeply to be read"))
    except _Unreadable as error:
        document.flaws.append(error.flaw)
    return document


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


class _Builder:
    """Turns YAML nodes into values, expanding aliases and merge keys."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0

    def value(self, node: yaml.Node, path: Path, above: tuple[yaml.Node, ...]) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise _Unreadable(_line(node), f"too large: more than {_MOST_NODES:,} values, aliases (*name) expanded")
        if node in above:
            raise _Unreadable(_line(node), "an alias (*name) that stands inside its own anchor (&name)")
        if len(above) > _DEEPEST:
            raise _Unreadable(_line(node), f"nested more than {_DEEPEST} levels deep")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path, (*above, node))
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return self._sequence(node, path, (*above, node))
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path, above: tuple[yaml.Node, ...]) -> dict[str, Any]:
        values = {}
        for name, (key, child) in self._entries(node, path, above).items():
            self._document.lines[*path, name] = _line(key)
            values[name] = self.value(child, (*path, name), above)
        return values

    def _sequence(self, node: yaml.SequenceNode, path: Path, above: tuple[yaml.Node, ...]) -> list[Any]:
        values = []
        for position, child in enumerate(node.value):
            self._document.lines[*path, position] = _line(child)
            values.append(self.value(child, (*path, position), above))
        return values

    def _entries(
        self, node: yaml.MappingNode, path: Path, above: tuple[yaml.Node, ...]
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Keys and values, those of ``<<`` first, which the map's own keys replace."""
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, child in node.value:
            if key.tag == _MERGE:
                for base in reversed(self._merge_sources(child)):
                    if base in above:
                        raise _Unreadable(_line(key), "<< merges a map into itself")
                    merged |= self._entries(base, path, (*above, base))
                continue
            name = self._key(key, path)
            if name in own:
                message = f"given twice, first in line {_line(own[name][0])}: keep one of them"
                self._document.flaws.append(Flaw((*path, name), _line(key), message))
            own.setdefault(name, (key, child))
        return merged | own

    def _merge_sources(self, node: yaml.Node) -> list[yaml.MappingNode]:
        maps = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(isinstance(each, yaml.MappingNode) for each in maps):
            raise _Unreadable(_line(node), "<< merges maps: write <<: *name, where &name marks a map")
        return list(maps)

    def _key(self, node: yaml.Node, path: Path) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise _Unreadable(_line(node), "a list or map can't be a key; keys are text")
        if node.tag != _STR:
            meaning = {_NULL: "nothing (null)", _BOOL: "true or false"}.get(node.tag, "a number")
            message = f"the key {node.value or '(empty)'} is {meaning} to YAML, but keys must be text"
            fix = f': write "{node.value}" in quotes' if node.value else ""
            self._document.flaws.append(Flaw((*path, node.value), _line(node), message + fix))
        return str(node.value)

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text = str(node.value)
        try:
            match node.tag:
                case t if t in (_STR, _MERGE):
                    return text
                case t if t == _NULL:
                    return None
                case t if t == _BOOL:
                    return text.lower() in _TRUE
                case t if t == _INT:
                    return _int(text)
                case t if t == _FLOAT:
                    return _float(text)
        except ValueError:
            message = f"{shown(text)} isn't a number that can be read"
        else:
            message = f"the tag {node.tag.replace(_TAG, '!!')} isn't supported; leave it out"
        self._document.flaws.append(Flaw(path, _line(node), message))
        return None


def _int(text: str) -> int:
    digits = text.replace("_", "").lower()
    sign, bare = (-1 if digits.startswith("-") else 1), digits.lstrip("+-")
    for prefix, base in (("0b", 2), ("0x", 16), ("0o", 8), ("0", 8)):
        if bare.startswith(prefix) and bare != "0":
            return sign * int(bare.removeprefix(prefix), base)
    return sign * int(bare)


def _float(text: str) -> float:
    bare = text.replace("_", "").lower()
    return float(bare.replace(".inf", "inf").replace(".nan", "nan"))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _syntax_flaw(error: yaml.MarkedYAMLError, text: str) -> Flaw:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else None
    problem = error.problem or error.context or "it can't be read"
    if "stream end" in problem or "end of stream" in problem:
        return Flaw((), _last_opened(text) or line, "not valid YAML: a [, { or quote that is never closed")
    lines = text.splitlines()
    here = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "'\\t'" in problem or here[: len(here) - len(here.lstrip())].count("\t"):
        return Flaw((), line, "not valid YAML: a tab; indent with spaces")
    if "expected a single document" in (error.context or ""):
        return Flaw((), line, "holds several documents, split by ---; an experiment file has one")
    hint = _SYNTAX_HINTS.get(problem, "")
    seen = f": {here.strip()}" if here.strip() else ""
    return Flaw((), line, f"not valid YAML: {problem}{hint}{seen}")


def _last_opened(text: str) -> int | None:
    """The line of the innermost bracket or the quote that nothing closes."""
    opened: list[int] = []
    try:
        for token in yaml.scan(text, Loader=_Loader):
            if isinstance(token, yaml.FlowSequenceStartToken | yaml.FlowMappingStartToken):
                opened.append(token.start_mark.line + 1)
            elif isinstance(token, yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken) and opened:
                opened.pop()
    except yaml.MarkedYAMLError as error:
        if error.context_mark:
            return int(error.context_mark.line) + 1
    return opened[-1] if opened else None


_SYNTAX_HINTS = {
    "mapping values are not allowed here": " (text that holds ': ' needs quotes; or the indentation is off)",
    "could not find expected ':'": " (a key without ':', or text that wants quotes)",
    "expected <block end>, but found '<block mapping start>'": " (the indentation is off)",
    "expected <block end>, but found '-'": " (the indentation is off)",
}
