"""Run the experiment of an `AshwoodSearchCV`: in this process, or in worker processes."""

from __future__ import annotations

import pickle
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ashwood.errors import AshwoodError
from ashwood.integrations.common import require
from ashwood.integrations.sklearn_fit import CrossValidation, write
from ashwood.integrations.sklearn_space import SCORE
from ashwood.trial import Trial

if TYPE_CHECKING:
    from ashwood.api.experiment import Experiment
    from ashwood.forecast.training import Setting, Trained

joblib = require("joblib", "sklearn")

_ENTRYPOINT = f"{__name__}:train"


def train(trial: Trial) -> None:
    """Train a trial in a worker process."""
    search, length, fitted = load(Path(trial.data["directory"])), trial.length, list[Any]()
    if search.error.exists():  # The first error ends all trials.
        trial.stop()
    if trial.checkpoint:
        fitted = pickle.loads((trial.checkpoint / "estimators.pkl").read_bytes())  # noqa: S301 - written by `write`

    def save_estimators(directory: Path) -> None:
        write(directory / "estimators.pkl", fitted)

    while not trial.should_stop:
        try:
            metrics, fitted = search.train(trial.id, trial.hparams, trial.seed, fitted, length, trial.target)
        except Exception as error:
            write(search.error, error)
            raise
        length = trial.target
        trial.report(metrics, length=length, checkpoint=save_estimators)


@lru_cache(maxsize=1)
def load(directory: Path) -> CrossValidation:
    """Return the search that was saved to a directory."""
    path, content = pickle.loads((directory / "search.pkl").read_bytes())  # noqa: S301 - written by `write`
    sys.path += [place for place in path if place not in sys.path]  # for modules of the program that searches
    arrays = joblib.load(directory / "arrays.joblib", mmap_mode="r")
    return replace(pickle.loads(content), **arrays)  # noqa: S301


def save(search: CrossValidation) -> None:
    """Write a search to its directory, for worker processes; arrays get a file that they map to memory."""
    import cloudpickle

    arrays = {name: array for name in ("x", "y") if hasattr(array := getattr(search, name), "shape")}
    joblib.dump(arrays, search.directory / "arrays.joblib")
    write(search.directory / "search.pkl", (sys.path, cloudpickle.dumps(replace(search, **dict.fromkeys(arrays)))))


class _Training:
    """Trains the trials of a search when the simulated backend asks for the result of their training."""

    def __init__(self, search: CrossValidation) -> None:
        self._search = search

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        """Train a trial from a total length of ``begin`` to one of ``end``."""
        from ashwood.forecast.training import Trained

        # Estimators are written to files, because those of all paused trials may not fit into memory.
        file, began = self._search.directory / f"fitted-{setting.trial}.pkl", perf_counter()
        fitted = pickle.loads(file.read_bytes()) if begin else []  # noqa: S301 - written below
        metrics, fitted = self._search.train(setting.trial, setting.hparams, setting.seed, fitted, begin, end)
        write(file, fitted)
        return Trained(perf_counter() - began, -metrics[SCORE])


def run_here(search: CrossValidation, tree: Mapping[str, Any]) -> None:
    """Run an experiment in this process, one trial at a time, without recording it.

    The simulated backend of forecasts runs it.  Its training is real, and its virtual time is the time of training.

    Args:
        search: what the trials train.
        tree: the experiment in the shape of a file.
    """
    from ashwood.backends.simulated import SimulatedBackend
    from ashwood.config import build_experiment
    from ashwood.engine.loop import Engine
    from ashwood.eventlog.null_log import NullLog
    from ashwood.experiment.experiment import Experiment

    loaded = build_experiment({**tree, "entrypoint": _ENTRYPOINT}, workdir=Path.cwd())
    for warning in loaded.warnings:
        warnings.warn(warning, stacklevel=4)
    backend = SimulatedBackend(loaded.spec, _Training(search), workers=1)
    Engine(Experiment(loaded.spec), NullLog(), backend, clock=backend.clock).run()


def run_in_workers(
    search: CrossValidation, tree: Mapping[str, Any], workers: int, home: Any, *, progress: bool
) -> tuple[Experiment, CrossValidation]:
    """Run an experiment in worker processes, or continue an interrupted one of the same search.

    Returns:
        The experiment, and the search with the directory of its results.

    Raises:
        KeyboardInterrupt: the experiment was interrupted.
        Exception: the error of an estimator, with ``error_score="raise"``.
        AshwoodError: the experiment could not be run.
    """
    from ashwood.api.experiment import create, open_experiment
    from ashwood.engine import open_home

    opened = open_home(home, create=True)
    label = f"sklearn-{joblib.hash(repr((search, tree)))[:16]}-{joblib.hash((search.x, search.y, search.splits))[:16]}"
    same = [each.id for each in opened.store.experiments() if label in each.labels and not each.state.ended]
    if same:
        experiment = open_experiment(same[-1], home=home)
        search = replace(search, directory=Path(experiment.spec.data["directory"]))
    else:
        top = opened.path / "sklearn"
        top.mkdir(exist_ok=True)
        search = replace(search, directory=Path(tempfile.mkdtemp(dir=top)))
        save(search)
        about = {"labels": [label], "data": {"directory": str(search.directory)}, "home": home}
        fields = {name: value for name, value in tree.items() if name != "hyperparameters"}
        experiment = create(
            "ashwood.integrations.sklearn_run:train", hparams=tree["hyperparameters"], **fields, **about
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* content is not recorded", UserWarning)  # The code is scikit-learn's.
            experiment.resume(workers=workers, progress=progress, share=True)
    except AshwoodError:
        if not search.error.exists():
            raise
    if search.error.exists():
        raise pickle.loads(search.error.read_bytes())  # noqa: S301 - written by a worker
    if not experiment.state.ended:
        raise KeyboardInterrupt(f"{experiment!r} was interrupted; with the same home, fit() continues it")
    return experiment, search
