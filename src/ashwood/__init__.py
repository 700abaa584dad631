"""Ashwood finds good hyperparameters fast, with adaptive ASHA.

Training code needs `Trial` (or `get_trial`); scripts and notebooks that run a search need
`run` and one of the searchers.  Everything is imported when it is first used, so that
``import ashwood`` costs a training process next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ashwood.api.check import check
    from ashwood.api.experiment import Experiment, create, open_experiment, run
    from ashwood.api.searchers import AdaptiveASHA, AsyncHalving, Grid, RandomSearch, Single, SyncHalving
    from ashwood.errors import AshwoodError
    from ashwood.search.space import Categorical, Const, Double, Int, Log
    from ashwood.trial import Trial, get_trial

__version__ = "0.1.0"

_HOMES = {
    "ashwood.api.check": ("check",),
    "ashwood.api.experiment": ("Experiment", "create", "open_experiment", "run"),
    "ashwood.api.searchers": ("AdaptiveASHA", "AsyncHalving", "Grid", "RandomSearch", "Single", "SyncHalving"),
    "ashwood.errors": ("AshwoodError",),
    "ashwood.search.space": ("Categorical", "Const", "Double", "Int", "Log"),
    "ashwood.trial": ("Trial", "get_trial"),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AdaptiveASHA",
    "AshwoodError",
    "AsyncHalving",
    "Categorical",
    "Const",
    "Double",
    "Experiment",
    "Grid",
    "Int",
    "Log",
    "RandomSearch",
    "Single",
    "SyncHalving",
    "Trial",
    "__version__",
    "check",
    "create",
    "get_trial",
    "open_experiment",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'ashwood' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
