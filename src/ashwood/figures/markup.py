"""Builds HTML.  Text is escaped unless it is markup already, so names that users choose can't inject HTML."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any, TypeAlias

_EMPTY = frozenset(("br", "hr", "meta"))


class Markup(str):
    """A string that is HTML and not text."""

    __slots__ = ()


Child: TypeAlias = "Markup | str | int | Iterable[Child] | None"
"""What an element can contain.  None adds nothing."""


def h(tag: str, *children: Child, **attributes: str | bool | None) -> Markup:
    """Return an element with its children and attributes.

    Underscores in the names of attributes become hyphens, and a trailing one is dropped: ``class_``, ``data_trial``.
    An attribute that is True has no value; one that is None or False is left out.

    Example::

        h("p", "loss < 0.1", class_="muted")    # <p class="muted">loss &lt; 0.1</p>
    """
    named = "".join(_attribute(name, value) for name, value in attributes.items())
    return Markup(f"<{tag}{named}>" if tag in _EMPTY else f"<{tag}{named}>{markup(children)}</{tag}>")


def markup(child: Child) -> Markup:
    """Return the HTML of anything that an element can contain."""
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
