"""Ashwood: hyperparameter search with adaptive ASHA.

Scripts and notebooks that run a search use `run` and a searcher.  Training code uses `Trial` or `get_trial`::

    import ashwood

    def train(trial):
        for step in trial.steps():
            loss = (trial.hparams.x - 0.3) ** 2 + 1 / (step + 1)
            trial.report(loss=loss)

    if __name__ == "__main__":
        experiment = ashwood.run(
            train,
            hparams={"x": ashwood.Double(0.0, 1.0)},
            searcher=ashwood.AdaptiveASHA(metric="loss", max_length=16, max_trials=20),
        )
        print(experiment.best_trial)

Each name is imported when it is first used, so ``import ashwood`` takes hardly any time in a training process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ashwood import spaces
    from ashwood.api.check import check
    from ashwood.api.experiment import Experiment, create, open_experiment, run
    from ashwood.api.searchers import AdaptiveASHA, AsyncHalving, Grid, RandomSearch, Single, SyncHalving
    from ashwood.errors import AshwoodError
    from ashwood.integrations import (  # noqa: F401 - not in __all__, see _INTEGRATIONS
        catboost,
        keras,
        lightgbm,
        lightning,
        sklearn,
        torch,
        transformers,
        xgboost,
    )
    from ashwood.search.space import Categorical, Const, Double, Int, Log
    from ashwood.trial import Trial, get_trial

__version__ = "0.1.0"

_NAMES = {
    "ashwood.api.check": ("check",),
    "ashwood.api.experiment": ("Experiment", "create", "open_experiment", "run"),
    "ashwood.api.searchers": ("AdaptiveASHA", "AsyncHalving", "Grid", "RandomSearch", "Single", "SyncHalving"),
    "ashwood.errors": ("AshwoodError",),
    "ashwood.search.space": ("Categorical", "Const", "Double", "Int", "Log"),
    "ashwood.trial": ("Trial", "get_trial"),
}
_INTEGRATIONS = ("catboost", "keras", "lightgbm", "lightning", "sklearn", "torch", "transformers", "xgboost")
"""Modules that need a framework.  They are not in ``__all__``, so that ``from ashwood import *`` does not import it."""

_MODULES = {name: module for module, names in _NAMES.items() for name in names}

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
    "spaces",
]


def __getattr__(name: str) -> Any:
    if name == "spaces":
        value: Any = import_module("ashwood.spaces")
    elif name in _INTEGRATIONS:
        value = import_module(f"ashwood.integrations.{name}")
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'ashwood' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *_INTEGRATIONS]
