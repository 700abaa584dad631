"""Hyperparameter search with the interface of scikit-learn's searches, and training by ``partial_fit``.

Its modules are imported when they are first used, so worker processes import only what trials need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ashwood.integrations.common import require

if TYPE_CHECKING:
    from ashwood.integrations.sklearn.epochs import partial_fit
    from ashwood.integrations.sklearn.search import AshwoodSearchCV

require("sklearn", "sklearn")

__all__ = ["AshwoodSearchCV", "partial_fit"]

_MODULES = {"AshwoodSearchCV": "search", "partial_fit": "epochs"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
