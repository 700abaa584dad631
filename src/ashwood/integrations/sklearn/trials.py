"""The training code of the experiments of `AshwoodSearchCV`.  Worker processes import this module."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from traceback import format_exc
from typing import Any

from ashwood.integrations.common import require
from ashwood.integrations.sklearn.fit import CrossValidation, write
from ashwood.trial import Trial

joblib = require("joblib", "sklearn")

ENTRYPOINT = f"{__name__}:train"

_ESTIMATORS = "estimators.pkl"
_SEARCH, _ARRAYS = "search.pkl", "arrays.joblib"


def train(trial: Trial) -> None:
    """Train a trial, and report at each target."""
    search, length, fitted = load(Path(trial.data["directory"])), trial.length, list[Any]()
    if search.error.exists():  # The first error ends all trials.
        trial.stop()
    if trial.checkpoint:
        fitted = pickle.loads((trial.checkpoint / _ESTIMATORS).read_bytes())  # noqa: S301 - written below

    def save_estimators(directory: Path) -> None:
        write(directory / _ESTIMATORS, fitted)

    while not trial.should_stop:
        try:
            metrics, fitted = search.train(trial.id, trial.hparams, trial.seed, fitted, length, trial.target)
        except Exception as error:
            error.add_note(f"In a worker process:\n{format_exc()}")
            write(search.error, error)
            raise
        length = trial.target
        trial.report(metrics, length=length, checkpoint=save_estimators)


def save(search: CrossValidation) -> None:
    """Write a search to its directory.  Arrays get a file of their own, which workers map to memory."""
    import cloudpickle

    arrays = {name: array for name in ("x", "y") if hasattr(array := getattr(search, name), "shape")}
    joblib.dump(arrays, search.directory / _ARRAYS)
    absent: dict[str, Any] = dict.fromkeys(arrays)
    write(search.directory / _SEARCH, (sys.path, cloudpickle.dumps(replace(search, **absent))))


@lru_cache(maxsize=1)
def load(directory: Path) -> CrossValidation:
    """Return the search that `save` wrote to a directory."""
    path, content = pickle.loads((directory / _SEARCH).read_bytes())  # noqa: S301 - written by `save`
    # The estimator may be of a module that only the program of the search can import.
    sys.path += [place for place in path if place not in sys.path]
    return replace(pickle.loads(content), **joblib.load(directory / _ARRAYS, mmap_mode="r"))  # noqa: S301
