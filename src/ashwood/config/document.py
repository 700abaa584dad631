"""Reads YAML text to plain data and the line of every key.

It differs from PyYAML's own loader in four ways: ``1e-4`` is a number, ``1:30`` and
``2024-01-31`` are text, a key that is given twice or isn't text is an error, and all values have
JSON types.

Time and memory are bounded: a text is refused when more than 100,000 values of it have been read,
those that aliases and merge keys repeat included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from ashwood.config.wording import Path, shorten, shown

_TAG = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT, _STR, _MERGE = (_TAG + name for name in ("null", "bool", "int", "float", "str", "merge"))
_TRUE = frozenset({"yes", "true", "on"})
_LONGEST_TEXT = 1_000_000
_MOST_NODES = 100_000
_DEEPEST = 100
_LONGEST_QUOTE = 80
_LARGEST = 10**308  # Whole numbers must be in the range of floats, whose largest is about 1.8e308.


class _Loader(yaml.SafeLoader):
    """A YAML loader that resolves scalars by the rules of this module and refuses a text with too many values."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own attribute, filled below

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._composed = 0
        self._level = -1

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, or look up the one that an alias names."""
        line = int(self.peek_event().start_mark.line) + 1  # type: ignore[no-untyped-call]
        self._composed += 1
        self._level += 1
        if self._composed > _MOST_NODES:
            raise _Unreadable(line, f"too large: more than {_MOST_NODES:,} values")
        if self._level > _DEEPEST:
            raise _Unreadable(line, f"nested more than {_DEEPEST} levels deep")
        node = super().compose_node(parent, index)
        self._level -= 1
        return node

    def scan_tag_directive_value(self, start_mark: yaml.Mark) -> tuple[str, str]:
        """Refuse an abbreviation of tags: a long one would be repeated by each value that uses it."""
        raise _Unreadable(int(start_mark.line) + 1, "a %TAG directive isn't supported; remove it")


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
    """A problem of the YAML text, with its path and line."""

    path: Path
    line: int | None
    message: str


@dataclass(slots=True)
class Document:
    """The content of a YAML text.

    Attributes:
        data: JSON values, or None if the text can't be read.
        lines: the line, from 1, of every key and list item; the path ``()`` is the whole text.
        flaws: the problems of the text; ``data`` leaves those parts out.
    """

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)


class _Unreadable(Exception):
    def __init__(self, line: int, message: str) -> None:
        self.flaw = Flaw((), line, message)


def parse(text: str) -> Document:
    """Return the content of a YAML text.  Never raises: problems are in the document's flaws."""
    document = Document()
    if len(text) > _LONGEST_TEXT:
        message = f"too large: {len(text):,} characters, but at most {_LONGEST_TEXT:,} are read"
        document.flaws.append(Flaw((), None, message))
        return document
    try:
        root = _compose(text)
        if root is not None:
            document.lines[()] = _line(root)
            document.data = _Builder(document).value(root, ())
    except yaml.MarkedYAMLError as error:
        document.flaws.append(_syntax_flaw(error, text))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        document.flaws.append(
            Flaw((), line, f"not a text file: it has the control character \\x{int(error.character):02x}")
        )
    except _Unreadable as error:
        document.flaws.append(error.flaw)
    return document


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    except (ValueError, OverflowError):  # PyYAML doesn't turn the errors of chr() into its own.
        raise _Unreadable(loader.line + 1, "an escape (\\U…) that stands for no character") from None
    finally:
        loader.dispose()


class _Builder:
    """A converter of YAML nodes to values, which expands aliases and merge keys."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._visited = 0
        self._open: list[yaml.Node] = []

    def value(self, node: yaml.Node, path: Path) -> Any:
        if isinstance(node, yaml.ScalarNode):
            self._count(1, node)
            return self._scalar(node, path)
        self._enter(node, "an alias (*name) that stands inside its own anchor (&name)")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            value: Any = self._mapping(node, path)
        elif isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            value = self._sequence(node, path)
        else:
            value = None
            self._unsupported(node, path)
        self._open.pop()
        return value

    def _enter(self, node: yaml.Node, endless: str) -> None:
        """Add a list or map to those that are being read, unless it is inside itself or too deep."""
        self._count(1, node)
        if any(node is outer for outer in self._open):
            raise _Unreadable(_line(node), endless)
        if len(self._open) > _DEEPEST:
            raise _Unreadable(_line(node), f"nested more than {_DEEPEST} levels deep")
        self._open.append(node)

    def _count(self, nodes: int, node: yaml.Node) -> None:
        """Count visited nodes.  A short text with aliases of aliases can stand for any number of them."""
        self._visited += nodes
        if self._visited > _MOST_NODES:
            message = f"more than {_MOST_NODES:,} values when aliases (*name) and merge keys (<<) are expanded"
            raise _Unreadable(_line(node), f"too large: {message}")

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values = {}
        for name, (key, child) in self._entries(node, path).items():
            self._document.lines[*path, name] = _line(key)
            values[name] = self.value(child, (*path, name))
        return values

    def _sequence(self, node: yaml.SequenceNode, path: Path) -> list[Any]:
        values = []
        for position, child in enumerate(node.value):
            self._document.lines[*path, position] = _line(child)
            values.append(self.value(child, (*path, position)))
        return values

    def _entries(self, node: yaml.MappingNode, path: Path) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Return the key and value nodes of a map.  Its own keys take precedence over those of ``<<``."""
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, child in node.value:
            if key.tag == _MERGE:
                for base in reversed(self._merge_sources(child)):
                    self._enter(base, "<< merges a map into itself")
                    self._count(len(base.value), base)
                    merged |= self._entries(base, path)
                    self._open.pop()
                continue
            name = self._key(key, path)
            if name in own:
                message = f"given twice, first in line {_line(own[name][0])}: remove one of the two"
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
            key = shorten(node.value, _LONGEST_QUOTE)
            message = f"the key {key or '(empty)'} is {meaning} to YAML, but keys must be text"
            fix = f': write "{key}" in quotes' if key else ""
            self._document.flaws.append(Flaw((*path, node.value), _line(node), message + fix))
        return self._text(node, path)

    def _text(self, node: yaml.ScalarNode, path: Path) -> str:
        """Return the text of a scalar.

        JSON writes characters above U+FFFF as two escapes.  Each such surrogate pair is joined to its character.
        """
        text = str(node.value)
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            message = "contains half a character (an escape from \\uD800 to \\uDFFF without its other half): remove it"
            self._document.flaws.append(Flaw(path, _line(node), message))
            return text.encode(errors="replace").decode()

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = str(node.value)
        try:
            match node.tag:
                case t if t in (_STR, _MERGE):
                    return self._text(node, path)
                case t if t == _NULL:
                    return None
                case t if t == _BOOL:
                    return text.lower() in _TRUE
                case t if t == _INT:
                    return _int(text)
                case t if t == _FLOAT:
                    return _float(text)
        except ValueError:
            self._document.flaws.append(Flaw(path, _line(node), f"{shown(text)} isn't a number that can be read"))
            return None
        return self._unsupported(node, path)

    def _unsupported(self, node: yaml.Node, path: Path) -> None:
        tag = shorten(node.tag.replace(_TAG, "!!"), _LONGEST_QUOTE)
        self._document.flaws.append(Flaw(path, _line(node), f"the tag {tag} isn't supported; remove it"))


def _int(text: str) -> int:
    digits = text.replace("_", "").lower()
    sign, bare = (-1 if digits.startswith("-") else 1), digits.lstrip("+-")
    bases = (("0b", 2), ("0x", 16), ("0o", 8), ("0", 8))
    prefix, base = next(((p, b) for p, b in bases if bare.startswith(p) and bare != "0"), ("", 10))
    size = int(bare.removeprefix(prefix), base)
    if size > _LARGEST:
        raise ValueError
    return sign * size


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
    seen = f": {shorten(here.strip(), _LONGEST_QUOTE)}" if here.strip() else ""
    return Flaw((), line, f"not valid YAML: {shorten(problem, _LONGEST_QUOTE)}{hint}{seen}")


def _last_opened(text: str) -> int | None:
    """Return the line of the innermost bracket or quote that is never closed, or None if all are closed."""
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
