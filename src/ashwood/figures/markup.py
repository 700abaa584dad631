"""HTML that can't be broken by what users named: text is escaped unless it is markup already."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any, TypeAlias

_EMPTY = frozenset(("br", "meta"))


class Markup(str):
    """HTML, as opposed to text."""

    __slots__ = ()


Child: TypeAlias = "Markup | str | int | Iterable[Child] | None"
"""What an element can hold; None: nothing."""


def h(tag: str, *children: Child, **attributes: str | bool | None) -> Markup:
    """An element.

    An attribute's underscores are hyphens, but for the last one of a word of Python's own, ``class_``; True: it is
    there, without a value; None or False: it is not.
    """
    named = "".join(_attribute(name, value) for name, value in attributes.items())
    return Markup(f"<{tag}{named}>" if tag in _EMPTY else f"<{tag}{named}>{markup(children)}</{tag}>")


def markup(child: Child) -> Markup:
    """Anything that an element can hold, as HTML."""
    match child:
        case None:
            return Markup()
        case Markup():
            return child
        case str() | int():
            return Markup(escape(str(child)))
    return Markup("".join(map(markup, child)))


def _attribute(name: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    name = name.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(value)}"'
