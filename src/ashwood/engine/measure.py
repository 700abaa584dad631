"""Measures how long training takes on this machine, with a few short trials of an experiment's own code."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from ashwood.engine.removal import remove_experiment
from ashwood.engine.session import Session
from ashwood.engine.sources import path_without_home
from ashwood.errors import AshwoodError
from ashwood.eventlog.home import Home, open_home
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.plan import plan_search
from ashwood.search.settings import Method, SearchSettings
from ashwood.views.measured import Measured, Measuring
from ashwood.views.progress import Progress

_FEWEST_TRIALS = 6
_MOST_TRIALS = 16


class Findings(NamedTuple):
    """The results of a measurement.

    Attributes:
        measured: times, for example of one unit of length and of saving a checkpoint.
        checkpoint_bytes: mean size of a checkpoint in bytes, or None if none was saved.
    """

    measured: Measured
    checkpoint_bytes: float | None


def measure(
    spec: ExperimentSpec,
    *,
    workers: int | None = None,
    share: bool = False,
    warn: Callable[[str], None] = lambda _: None,
) -> Findings:
    """Train a few trials of an experiment, at most to its first rung, and return the measured times.

    All files are deleted at the end.  Ctrl-C ends the measurement early, with the results so far.

    Args:
        spec: the experiment.
        workers: number of trials to train at once; by default, as many as this machine has slots.
        share: whether to use GPUs that other drivers have reserved.
        warn: called with a message for the user, for example that the measurement waits for GPUs.

    Raises:
        AshwoodError: nothing could be measured; the message says why.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ashwood-measure-") as directory,
        open_home(Path(directory, "home"), create=True) as home,
    ):
        session = Session.create(home, _short(spec, workers), at=time.time())
        listener = _Listener(session.spec, warn)
        try:
            session.run(listener, workers=workers, share=share)
            measured = listener.measuring.result()
            size = checkpoint_size(home, session.id)
        finally:
            remove_experiment(home, session.id)
    if measured is None:
        errors = [row.errors[-1].partition("\n")[0] for row in listener.progress.trials.rows.values() if row.errors]
        raise AshwoodError(
            "cannot measure training, because no trial trained to its end: "
            f"{errors[-1] if errors else listener.progress.why_ended}"
        )
    return Findings(measured, size)


def recall(home: Home, experiment: ExperimentId) -> Findings:
    """Return the training times of an experiment that has already run.

    Raises:
        NotFound: there is no experiment with that ID.
        AshwoodError: none of its trials has reported a metric.
    """
    measured = fold(Measuring(), (entry for _, entry in home.store.log(experiment).read())).result()
    if measured is None:
        raise AshwoodError(
            f"cannot measure training from experiment {experiment}: none of its trials has reported a metric"
        )
    return Findings(measured, checkpoint_size(home, experiment))


def checkpoint_size(home: Home, experiment: ExperimentId) -> float | None:
    """Return the mean size of an experiment's checkpoints in bytes, or None if it has none."""
    sizes = [stored.size for stored in home.storage(experiment, home.store.spec(experiment)).complete()]
    return fmean(sizes) if sizes else None


def short_search(search: SearchSettings, workers: int) -> SearchSettings:
    """Return settings of a short search with two rungs, so that trials are paused, promoted and resumed."""
    first = min(bracket.lengths[0] for bracket in plan_search(search).brackets)
    return SearchSettings(
        method=Method.ASYNC_HALVING,
        max_length=min(search.max_length, max(2, first)),
        max_trials=max(_FEWEST_TRIALS, min(workers, _MOST_TRIALS)),
        max_concurrent_trials=0,
        divisor=Fraction(2),
        num_rungs=2,
        stop_once=search.stop_once,
    )


def _short(spec: ExperimentSpec, workers: int | None) -> ExperimentSpec:
    return replace(
        spec,
        search=short_search(spec.search, workers or 0),
        max_restarts=0,
        metric_at=None,
        max_time=None,
        max_trial_time=None,
        max_size=None,
        source_checkpoint=path_without_home(spec),
        name="measuring",
    )


class _Listener:
    """A run observer that measures times and passes warnings on."""

    def __init__(self, spec: ExperimentSpec, warn: Callable[[str], None]) -> None:
        self.warn = warn
        self.measuring = Measuring()
        self.progress = Progress(spec)

    def folded(self, progress: Progress) -> None:
        self.progress = progress

    def ready(self, slots: int) -> None:
        pass

    def observe(self, entries: Sequence[Entry]) -> None:
        fold(self.measuring, entries)
        fold(self.progress, entries)

    def summary(self) -> Mapping[str, Any]:
        return {}

    def interrupted(self, count: int) -> None:
        pass
