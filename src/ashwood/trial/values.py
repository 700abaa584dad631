"""Nested values with item and attribute access: hyperparameters and data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class UnknownName(KeyError, AttributeError):
    """There is no value of this name; the message lists those that there are."""

    def __str__(self) -> str:
        return str(self.args[0])


class Values(dict[str, Any]):
    """A dict whose string keys can also be read as attributes, at any depth.

    ``values.optimizer.lr``, ``values["optimizer"]["lr"]`` and ``build(**values)`` all work.
    A name that a dict's own method has (``items``, ``get``, …) is reached by item access.
    """

    __slots__ = ()

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__((name, _wrap(value)) for name, value in values.items())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # protocols that probe, such as copy and pickle
            raise AttributeError(name)
        return self[name]

    def __missing__(self, name: str) -> Any:
        raise UnknownName(
            f"there is no {name!r}{nearest(name, self)}; there is: {', '.join(map(str, self)) or 'nothing'}"
        )

    def __reduce__(self) -> tuple[type[Values], tuple[dict[str, Any]]]:
        return Values, (dict(self),)


def nearest(name: object, known: Mapping[str, Any] | list[str]) -> str:
    """``, did you mean 'lr'?`` where one of the known names is close, else nothing."""
    from difflib import get_close_matches  # only errors need it, and workers start fast without

    close = get_close_matches(str(name), [str(other) for other in known], n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _wrap(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Values(value)
    if isinstance(value, list):
        return [_wrap(item) for item in value]
    return value
