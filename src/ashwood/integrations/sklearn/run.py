"""Run the experiment of an `AshwoodSearchCV`: in this process, or in worker processes."""

from __future__ import annotations

import pickle
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sklearn.exceptions import FitFailedWarning

from ashwood.errors import AshwoodError, RequestRefused
from ashwood.integrations.common import require
from ashwood.integrations.sklearn.fit import CrossValidation, write
from ashwood.integrations.sklearn.resources import SCORE
from ashwood.integrations.sklearn.trials import ENTRYPOINT, save

if TYPE_CHECKING:
    from ashwood.api.experiment import Experiment
    from ashwood.forecast.training import Setting, Trained
joblib = require("joblib", "sklearn")


class _Training:
    """Trains the trials of a search when the simulated backend asks for the result of their training."""

    def __init__(self, search: CrossValidation) -> None:
        self._search = search

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        """Train a trial from a total length of ``begin`` to one of ``end``."""
        from ashwood.forecast.training import Trained

        # Estimators are written to files, because those of all paused trials may not fit into memory.
        file, began = self._search.directory / f"fitted-{setting.trial}.pkl", perf_counter()
        fitted = pickle.loads(file.read_bytes()) if file.exists() else []  # noqa: S301 - written below
        metrics, fitted = self._search.train(setting.trial, setting.hparams, setting.seed, fitted, begin, end)
        if fitted:
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

    loaded = build_experiment({**tree, "entrypoint": ENTRYPOINT}, workdir=Path.cwd())
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
    from ashwood.api.tables import read_trials
    from ashwood.engine import open_home
    from ashwood.experiment.lifecycle import TrialState

    opened, label = open_home(home, create=True), _label(search, tree)
    same = [
        each.id
        for each in opened.store.experiments()
        if label in each.labels and not each.state.ended and not opened.is_driven(each.id)
    ]
    if same:
        experiment = open_experiment(same[-1], home=home)
        search = replace(search, directory=Path(experiment.spec.data["directory"]))
    else:
        top = opened.path / "sklearn"
        top.mkdir(exist_ok=True)
        search = replace(search, directory=Path(tempfile.mkdtemp(dir=top)))
        save(search)
        others = {name: value for name, value in tree.items() if name != "hyperparameters"}
        others |= {"labels": [label], "data": {"directory": str(search.directory)}, "home": home}
        experiment = create(ENTRYPOINT, hparams=tree["hyperparameters"], **others)
    try:
        with warnings.catch_warnings():
            # The working directory may be a repository, but the training code is not from there.
            warnings.filterwarnings("ignore", ".* content is not recorded", UserWarning)
            experiment.resume(workers=workers, progress=progress, share=True)
    except AshwoodError:
        if not search.error.exists():
            raise
    if search.error.exists():
        with suppress(RequestRefused):  # It has ended already.
            experiment.kill()
        raise pickle.loads(search.error.read_bytes())  # noqa: S301 - written by a worker
    if not experiment.state.ended:
        raise KeyboardInterrupt(f"{experiment!r} was interrupted; fit() with the same home continues it")
    failed = [row for row in read_trials(opened, experiment.id)[1].ranked() if row.state == TrialState.ERRORED]
    if failed:
        warnings.warn(
            f"{len(failed)} candidates have no score, because their processes failed: {failed[0].errors[-1]}",
            FitFailedWarning,
            stacklevel=5,
        )
    return experiment, search


def _label(search: CrossValidation, tree: Mapping[str, Any]) -> str:
    """Return a label by which an interrupted experiment of the same search is recognized."""
    searched = (tree["hyperparameters"], tree["searcher"], search.estimator, search.options)
    try:
        return f"sklearn-{joblib.hash((searched, search.x, search.y, search.splits))}"
    except (pickle.PicklingError, AttributeError, TypeError):  # A local function has no name, so it is not recognized.
        return f"sklearn-{uuid4().hex}"
