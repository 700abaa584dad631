"""Markdown notes as trees of elements, for reports and the dashboard.

Users write notes, and others open them, so a note must not run scripts or load anything.  The trees contain only the
elements below and texts, and those who show them escape all texts.  Raw HTML and images stay text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

from ashwood.figures.markup import Markup, h

_SCHEMES: Final = ("http://", "https://", "mailto:")
_TAGS: Final = frozenset(
    (
        *("p", "br", "hr", "blockquote", "pre", "code", "ul", "ol", "li", "em", "strong", "s", "a"),
        *("table", "thead", "tbody", "tr", "th", "td", "h1", "h2", "h3", "h4", "h5", "h6"),
    )
)
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_MARK: Final = re.compile(r"[*_~`\[\]<&\\]")
_MOST_MARKS: Final = 500
_DEEPEST: Final = 40
"""Depth of the tree.  Elements that would be deeper are left out, and their content stays."""


@dataclass(frozen=True)
class NoteElement:
    """An HTML element of a note; its children are elements and texts."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[NoteNode] = field(default_factory=list)


NoteNode: TypeAlias = NoteElement | str


def parse_note(text: str, *, top: int = 3) -> list[NoteNode]:
    """Return the elements of a Markdown text.

    Its highest headings get the level ``top``, and no level is skipped, whatever levels the text uses.  Links lead to
    HTTP, HTTPS and mail addresses only; other links stay text.
    """
    builder = _Builder(top)
    for token in _flat(_parser().parse(text)):
        builder.take(token)
    return builder.root.children


def note_markup(text: str, *, top: int = 3) -> Markup:
    """Return a Markdown text as HTML; see `parse_note`."""
    return h("div", *map(_markup, parse_note(text, top=top)), class_="note")


def _markup(node: NoteNode) -> Markup | str:
    if isinstance(node, str):
        return node
    return h(node.tag, *map(_markup, node.children), **node.attributes)


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
    parser.validateLink = _is_allowed  # type: ignore[method-assign]
    parser.core.ruler.before("inline", "plain", _leave_plain)
    return parser


def _leave_plain(state: StateCore) -> None:
    """Keep paragraphs as they are written if they have very many marks, for which the parser takes quadratic time."""
    for token in state.tokens:
        if token.type == "inline" and len(_MARK.findall(token.content)) > _MOST_MARKS:
            token.type = "text"


def _is_allowed(url: str) -> bool:
    return url.lower().startswith(_SCHEMES)


def _flat(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        if token.type == "inline":
            yield from token.children or ()
        else:
            yield token


class _Builder:
    """Builds the tree from a flat sequence of tokens, without recursion: users decide how deep it would be."""

    def __init__(self, top: int) -> None:
        self.root = NoteElement("div")
        self._top = top
        # The open elements; None stands for one that is left out.
        self._open: list[NoteElement | None] = [self.root]
        self._headings: list[int] = []

    def take(self, token: Token) -> None:
        """Add an element or a text, or open or close an element."""
        if token.nesting == 1:
            element = self._element(token)
            if element is not None:
                self._parent().append(element)
            self._open.append(element)
        elif token.nesting == -1:
            self._open.pop()
        else:
            self._leaf(token)

    def _parent(self) -> list[NoteNode]:
        return next(each for each in reversed(self._open) if each is not None).children

    def _element(self, token: Token) -> NoteElement | None:
        if token.hidden or token.tag not in _TAGS or len(self._open) > _DEEPEST:
            return None
        attributes: dict[str, Any] = {}
        if token.tag == "a":
            attributes = {"href": str(token.attrGet("href")), "rel": "noopener noreferrer nofollow"}
        elif token.tag == "ol" and token.attrGet("start") is not None:
            attributes = {"start": str(token.attrGet("start"))}
        tag = self._heading(_HEADINGS[token.tag]) if token.tag in _HEADINGS else token.tag
        return NoteElement(tag, attributes)

    def _heading(self, level: int) -> str:
        while self._headings and self._headings[-1] >= level:
            self._headings.pop()
        self._headings.append(level)
        return f"h{min(self._top + len(self._headings) - 1, 6)}"

    def _leaf(self, token: Token) -> None:
        match token.type:
            case "softbreak":
                self._parent().append("\n")
            case "hardbreak":
                self._parent().append(NoteElement("br"))
            case "hr":
                self._parent().append(NoteElement("hr"))
            case "code_inline":
                self._parent().append(NoteElement("code", {}, [token.content]))
            case "code_block" | "fence":
                self._parent().append(NoteElement("pre", {}, [NoteElement("code", {}, [token.content])]))
            case _ if token.content:
                self._parent().append(token.content)
