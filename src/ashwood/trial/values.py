"""Nested values with item and attribute access, for hyperparameters and data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ashwood.errors import did_you_mean


class UnknownName(KeyError, AttributeError):
    """The error for a name that does not exist; its message lists the names that do."""

    def __str__(self) -> str:
        return str(self.args[0])


class Values(dict[str, Any]):
    """A dict whose string keys can also be read as attributes, at any depth.

    ``values.optimizer.lr``, ``values["optimizer"]["lr"]`` and ``build(**values)`` all work.  A key with the name of a
    dict's method (``items``, ``get``, …) can be read by item access only.
    """

    __slots__ = ()

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__((name, _wrap(value)) for name, value in values.items())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copy and pickle look for such attributes, and expect an AttributeError.
            raise AttributeError(name)
        return self[name]

    def __missing__(self, name: str) -> Any:
        raise UnknownName(
            f"there is no {name!r}{did_you_mean(name, self)}; there is: {', '.join(map(str, self)) or 'nothing'}"
        )

    def __reduce__(self) -> tuple[type[Values], tuple[dict[str, Any]]]:
        return Values, (dict(self),)


def _wrap(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Values(value)
    if isinstance(value, list):
        return [_wrap(item) for item in value]
    return value
