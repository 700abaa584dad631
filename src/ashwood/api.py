"""The search from a script or a notebook: the same experiments as the command line's, the same record."""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from ashwood.backends.local.load import IMPORTING
from ashwood.cli.export import make_frame, read_trials
from ashwood.cli.progress import make_reporter
from ashwood.config import build_experiment, parse_backend, parse_stop_when
from ashwood.engine import Home, Session, open_home
from ashwood.engine.control import ask
from ashwood.engine.provenance import collect, dirt
from ashwood.engine.session import Cluster
from ashwood.errors import AshwoodError, NotFound, TrainingCodeError
from ashwood.eventlog.port import LARGEST_ID, ExperimentId
from ashwood.experiment.events import (
    CancelRequested,
    KillRequested,
    PauseRequested,
    SettingsChanged,
    TrialKillRequested,
    TrialStopRequested,
)
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec
from ashwood.figures import Figures
from ashwood.search.vocabulary import TrialId
from ashwood.trial.sharing import make_shared
from ashwood.views.table import trial_records
from ashwood.views.trials import TrialRow

if TYPE_CHECKING:
    import pandas as pd

LengthLike: TypeAlias = int | Mapping[Literal["batches", "records", "epochs"], int]
"""``{"epochs": 27}``, or a bare number of whatever the training code counts."""


StopWhen: TypeAlias = Mapping[Literal["metric_at", "max_time"], float | str]
"""What is enough: ``{"metric_at": 0.98, "max_time": "2h"}``, or one of them; a time is in seconds or text."""

BackendLike: TypeAlias = Literal["local", "ray"] | Mapping[str, Any]
"""``"ray"``, or ``{"type": "ray", "address": "10.0.0.1:6379"}`` and whatever else a file may say of the cluster."""


@dataclass(frozen=True, kw_only=True)
class _Searcher:
    name: ClassVar[str]

    metric: str
    max_length: LengthLike
    smaller_is_better: bool = True
    stop_when: StopWhen | None = None

    def to_config(self) -> dict[str, Any]:
        """The ``searcher`` section of the experiment file that says the same."""
        settings = {key: value for key, value in asdict(self).items() if value is not None}
        return {"name": self.name, **settings}


@dataclass(frozen=True, kw_only=True)
class _ManyTrials(_Searcher):
    max_concurrent_trials: int = 16


@dataclass(frozen=True, kw_only=True)
class AdaptiveASHA(_ManyTrials):
    """Several brackets of asynchronous successive halving, from aggressive to conservative."""

    name: ClassVar[str] = "adaptive_asha"

    max_trials: int
    mode: Literal["aggressive", "standard", "conservative", "auto"] = "standard"
    divisor: float | None = None
    max_rungs: int | None = None
    sampler: Literal["random", "density"] | None = None
    bracket_rungs: Sequence[int] | None = None
    stop_once: bool = False


@dataclass(frozen=True, kw_only=True)
class AsyncHalving(_ManyTrials):
    """One bracket of asynchronous successive halving."""

    name: ClassVar[str] = "async_halving"

    max_trials: int
    num_rungs: int | None = None
    divisor: float = 4
    stop_once: bool = False


@dataclass(frozen=True, kw_only=True)
class SyncHalving(_ManyTrials):
    """One bracket of synchronous successive halving."""

    name: ClassVar[str] = "sync_halving"

    max_trials: int
    num_rungs: int | None = None
    divisor: float = 4


@dataclass(frozen=True, kw_only=True)
class RandomSearch(_ManyTrials):
    """Every trial trains to the end."""

    name: ClassVar[str] = "random"

    max_trials: int


@dataclass(frozen=True, kw_only=True)
class Grid(_ManyTrials):
    """Every point of a grid trains to the end; int, double and log hyperparameters need a ``count``."""

    name: ClassVar[str] = "grid"


@dataclass(frozen=True, kw_only=True)
class Single(_Searcher):
    """One trial, trained to the end."""

    name: ClassVar[str] = "single"


class Experiment:
    """An experiment of a home, read from its record whenever it is asked.

    Attributes:
        id: its number.
        spec: what it is.
    """

    def __init__(self, home: Home, experiment: ExperimentId) -> None:
        self._home = home
        self.id = experiment
        self.spec: ExperimentSpec = home.store.spec(experiment)

    @property
    def state(self) -> ExperimentState:
        """Where it stands."""
        return self._home.store.record(self.id).state

    @property
    def best_trial(self) -> TrialRow | None:
        """The trial with the best value of the searcher's metric; None: no trial has reported a number yet."""
        _, table = read_trials(self._home, self.id)
        return table.leader

    def trials(self) -> pd.DataFrame:
        """One row a trial: its state, lengths, metrics, and a column ``hparams.NAME`` for each hyperparameter.

        Raises:
            AshwoodError: pandas is not installed.
        """
        _, table = read_trials(self._home, self.id)
        return make_frame(trial_records(table, self.spec.metric, self._home.storage(self.id, self.spec).locate))

    @property
    def figures(self) -> Figures:
        """Its figures: ``experiment.figures.timeline()`` is a Plotly figure."""
        log = self._home.store.log(self.id)
        return Figures(self.spec, lambda: (entry for _, entry in log.read()))

    def report(self, out: str | os.PathLike[str]) -> None:
        """Write a report to send to a colleague: ``report.html``; or ``.pdf`` or ``.png``, where there is a browser.

        Raises:
            AshwoodError: it can't be written; or a library, or the browser that it takes, is missing.
        """
        from ashwood.cli.report import write_report

        write_report(self._home, self.id, Path(out))

    def resume(
        self, *, workers: int | None = None, backend: BackendLike | None = None, progress: bool = True
    ) -> Experiment:
        """Go on with it, to its end; returns itself.

        Args:
            workers: slots to use, as with `run`.
            backend: where trials run this time; None: where they were to run when it began.
            progress: whether to show how it goes.

        Raises:
            ConfigError: that is no backend.
        """
        cluster: Cluster = "recorded" if backend is None else parse_backend(backend) or "local"
        _drive(Session(self._home, self.id), workers, progress, cluster=cluster)
        return self

    # -- steering: from another thread or process, or while nobody runs it -------------------------

    def pause(self) -> None:
        """Let running trials save a checkpoint and let go; `resume` goes on.

        Raises:
            RequestRefused: it has ended.
        """
        ask(self._home, self.id, PauseRequested())

    def cancel(self) -> None:
        """End it for good; running trials save a checkpoint first.

        Raises:
            RequestRefused: it has ended.
        """
        ask(self._home, self.id, CancelRequested())

    def kill(self) -> None:
        """End it for good, at once.

        Raises:
            RequestRefused: it has ended.
        """
        ask(self._home, self.id, KillRequested())

    def kill_trial(self, trial: TrialId) -> None:
        """End a trial for good, at once; it counts as the worst in its rung.

        Raises:
            RequestRefused: there is no such trial, or it has ended.
        """
        ask(self._home, self.id, TrialKillRequested(trial))

    def stop_trial(self, trial: TrialId) -> None:
        """End a trial where it is; its results stand.

        Raises:
            RequestRefused: there is no such trial, or it has ended.
        """
        ask(self._home, self.id, TrialStopRequested(trial))

    def set(
        self,
        *,
        max_concurrent_trials: int | None = None,
        max_trials: int | None = None,
        stop_when: StopWhen | None = None,
    ) -> None:
        """Change settings, also while it runs; None leaves one as it is.

        Args:
            max_concurrent_trials: how many trials may train at once; 0: as many as there is room for.
            max_trials: how many trials to create in all.
            stop_when: the bounds that hold from now on, instead of those before; ``{}``: none.

        Raises:
            ConfigError: a bound is no number or duration.
            RequestRefused: it has ended, or so few trials would be fewer than there are.
        """
        numbers = {"max_concurrent_trials": max_concurrent_trials, "max_trials": max_trials}
        changed: dict[str, float | None] = {name: value for name, value in numbers.items() if value is not None}
        if stop_when is not None:
            given = parse_stop_when([f"{key}={value}" for key, value in stop_when.items()], option="stop_when")
            changed |= {"stop_at": None, "max_seconds": None, **given}
        ask(self._home, self.id, SettingsChanged(changed))

    def __repr__(self) -> str:
        return f"<ashwood experiment {self.id} ({self.spec.name}): {self.state}>"


def run(
    train: Callable[..., Any] | str,
    *,
    hparams: Mapping[str, Any],
    searcher: _Searcher | Mapping[str, Any],
    name: str | None = None,
    data: Mapping[str, Any] | None = None,
    seed: int | None = None,
    home: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    backend: BackendLike | None = None,
    progress: bool = True,
    **fields: Any,
) -> Experiment:
    """Run an experiment to its end and return it.

    Args:
        train: the training code: a function that takes a `Trial`, or what ``entrypoint`` takes in a file.
        hparams: hyperparameters and their ranges, nested as you like; plain values are constants.
        searcher: `AdaptiveASHA` or another searcher, or the ``searcher`` section of a file.
        name: for people; the function's name if None.
        data: handed to the training code as ``trial.data``.
        seed: fixes every random draw of the search; drawn and recorded if None.
        home: where experiments live; None: ``ASHWOOD_HOME`` or ``.ashwood``.
        workers: slots to use; None: all GPUs, or all cores where there are none, of a cluster all that it has.
        backend: where trials run: on this machine, or ``"ray"``, or a map as in a file.
        progress: whether to show how it goes.
        fields: other fields of an experiment file, such as ``max_restarts=0`` or ``labels=["try"]``.

    Raises:
        ConfigError: the description is wrong; says everything that is.
        AshwoodError: the experiment could not be run, or its trials failed; or a disk is full.
    """
    if script := os.environ.get(IMPORTING):
        raise TrainingCodeError(
            f"{script} starts a search when it is imported, as worker processes do to find its training function: "
            'put the call of ashwood.run() under if __name__ == "__main__":'
        )
    opened = open_home(home, create=True)
    entrypoint: Entrypoint | str = train if isinstance(train, str) else _entrypoint(train, opened.path / "functions")
    tree: dict[str, Any] = {
        "name": name or (train if isinstance(train, str) else train.__name__),
        "entrypoint": entrypoint,
        "hyperparameters": hparams,
        "searcher": searcher.to_config() if isinstance(searcher, _Searcher) else searcher,
        **({} if data is None else {"data": data}),
        **({} if seed is None else {"reproducibility": {"experiment_seed": seed}}),
        **({} if backend is None else {"backend": backend}),
        **fields,
    }
    workdir = _workdir(train)
    loaded = build_experiment(tree, workdir=workdir, default_seed=int.from_bytes(os.urandom(4), "big") >> 1)
    provenance = collect(workdir)
    session = Session.create(opened, replace(loaded.spec, provenance=provenance), at=time.time())
    unrecorded = dirt(provenance)
    _drive(session, workers, progress, loaded.warnings if unrecorded is None else (*loaded.warnings, unrecorded))
    return Experiment(opened, session.id)


def open_experiment(experiment: ExperimentId, *, home: str | os.PathLike[str] | None = None) -> Experiment:
    """An experiment that is recorded already.

    Raises:
        NotFound: there is none of that number.
    """
    opened = open_home(home)
    if experiment > LARGEST_ID:
        raise NotFound(f"there is no experiment {experiment} in {opened.name}")
    return Experiment(opened, experiment)


def _drive(
    session: Session,
    workers: int | None,
    progress: bool,
    warnings: Sequence[str] = (),
    *,
    cluster: Cluster = "recorded",
) -> None:
    reporter = make_reporter("text" if progress else "quiet", session.id, session.spec)
    for warning in warnings:
        reporter.warn(warning)
    with reporter:
        state = session.run(reporter, workers=workers, cluster=cluster)
    if state is ExperimentState.ERRORED:
        raise AshwoodError(f"experiment {session.id} failed: {reporter.why_it_ended}")
    if reporter.has_to_be_mended:
        raise AshwoodError(f"experiment {session.id} paused: {reporter.why_it_ended}; mend that, then resume it")


def _entrypoint(train: Callable[..., Any], functions: Path) -> Entrypoint:
    """How worker processes find a function.

    A function of a module is imported; one of a script that is run itself is imported from
    the script's file; one of a notebook is pickled.
    """
    if "<locals>" in train.__qualname__ or train.__name__ == "<lambda>" or train.__module__ not in sys.modules:
        return _pickled(train, functions)
    if train.__module__ != "__main__":
        return Entrypoint(EntrypointKind.FUNCTION, f"{train.__module__}:{train.__qualname__}")
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None:
        return _pickled(train, functions)
    return Entrypoint(EntrypointKind.SCRIPT, f"{Path(script).absolute()}:{train.__qualname__}")


def _pickled(train: Callable[..., Any], functions: Path) -> Entrypoint:
    import hashlib

    import cloudpickle

    try:
        content = cloudpickle.dumps(train)
    except Exception as error:
        raise TrainingCodeError(
            f"the function {train.__name__!r} can't be sent to worker processes ({error}); move it into a module"
        ) from error
    make_shared(functions)
    path = functions / f"{train.__name__.strip('<>')}-{hashlib.sha256(content).hexdigest()[:16]}.pkl"
    path.write_bytes(content)
    return Entrypoint(EntrypointKind.PICKLE, str(path))


def _workdir(train: Callable[..., Any] | str) -> Path:
    """Where the training code runs: the directory that its module is imported from."""
    if isinstance(train, str) or train.__module__ == "__main__" or train.__module__ not in sys.modules:
        return Path.cwd()
    file = inspect.getsourcefile(train)
    if file is None:
        return Path.cwd()
    # A module of a package is imported from the directory that the package lies in.
    return Path(file).absolute().parents[train.__module__.count(".")]
