"""The search from a script or a notebook: the same experiments as the command line's, the same record."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from ashwood.api.callables import (
    arguments,
    changed_under_guard,
    check_signature,
    entrypoint_of,
    name_of,
    refuse_while_imported,
    share_main,
    workdir_of,
)
from ashwood.api.searchers import Searcher, StopWhen
from ashwood.cli.export import make_frame, read_trials, report_records
from ashwood.cli.progress import Reporter, make_reporter
from ashwood.cli.where import BackendOptions, check_room
from ashwood.config import Loaded, build_experiment, parse_backend, parse_stop_when
from ashwood.engine import Home, Session, open_home
from ashwood.engine.control import ask
from ashwood.engine.provenance import collect, dirt, with_workdir
from ashwood.engine.session import Cluster
from ashwood.errors import AshwoodError, NotFound
from ashwood.eventlog.port import LARGEST_ID, ExperimentId
from ashwood.experiment.events import (
    AttemptFailed,
    CancelRequested,
    KillRequested,
    PauseRequested,
    RetryFailedRequested,
    SettingsChanged,
    TrialKillRequested,
    TrialStopRequested,
)
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.figures import Figures
from ashwood.search.vocabulary import TrialId
from ashwood.trial.storage.links import copy_contents
from ashwood.views.table import trial_records
from ashwood.views.trials import TrialRow

if TYPE_CHECKING:
    import pandas as pd

_POLL_SECONDS = 0.05

BackendLike: TypeAlias = Literal["local", "ray"] | Mapping[str, Any]
"""``"ray"``, or ``{"type": "ray", "address": "10.0.0.1:6379"}`` and whatever else a file may say of the cluster."""


class BestCheckpoint(NamedTuple):
    """The best checkpoint of an experiment.

    Attributes:
        directory: where it is on this machine.
        metric: the searcher's metric at its length.
        length: total training of the checkpoint, in the experiment's unit.
        trial: the number of its trial.
        hparams: the hyperparameters of its trial.
    """

    directory: Path
    metric: float
    length: int
    trial: TrialId
    hparams: Mapping[str, Any]


class _Quiet(Reporter):
    """Shows nothing, but warns if the run does not start as expected, for example because it waits for GPUs."""

    def warn(self, message: str) -> None:
        if not self.running:
            warnings.warn(message, stacklevel=2)


class Experiment:
    """An experiment of a home, read from its record whenever it is asked.

    Attributes:
        id: its number.
        spec: what it is.
    """

    def __init__(self, home: Home, experiment: ExperimentId, address: str | None = None) -> None:
        """Read an experiment of a home; ``address`` is the home as ``--home`` takes it, or None for the default."""
        self._home = home
        self._address = address
        self.id = experiment
        self._notes: Sequence[str] = ()
        self._driver: subprocess.Popen[bytes] | None = None
        self.spec: ExperimentSpec = home.store.spec(experiment)

    @property
    def state(self) -> ExperimentState:
        """Where it stands."""
        return self._home.store.record(self.id).state

    @property
    def best_trial(self) -> TrialRow | None:
        """The trial with the best result, or None if no trial has reported a number yet.

        If the experiment saves checkpoints, that is the trial of the best checkpoint; its ``metric`` is that of the
        checkpoint, and its ``seen`` is the best metric that it reported.
        """
        _, table = read_trials(self._home, self.id)
        return table.leader

    def trials(self) -> pd.DataFrame:
        """One row a trial: its state, lengths, metrics, and a column ``hparams.NAME`` for each hyperparameter.

        ``best.NAME`` is the searcher's metric of the best result, which is that of ``checkpoint`` if the experiment
        saves checkpoints; ``seen.NAME`` is the best report; ``last.NAME`` is the last report of each metric.

        Raises:
            AshwoodError: pandas is not installed.
        """
        _, table = read_trials(self._home, self.id)
        return make_frame(trial_records(table, self.spec.metric, self._home.storage(self.id, self.spec).locate))

    def reports(self) -> pd.DataFrame:
        """Return one row for each report, in the order in which they arrived: trial, length, attempt, time, metrics.

        Raises:
            AshwoodError: pandas is not installed.
        """
        return make_frame(report_records(entry for _, entry in self._home.store.log(self.id).read()))

    def best_checkpoint(self) -> BestCheckpoint:
        """Return the kept checkpoint with the best value of the searcher's metric.

        A checkpoint at a URL is downloaded to a temporary directory, which the caller may remove.

        Raises:
            NotFound: no checkpoint with a metric is kept.
            CheckpointError: it is damaged, or cannot be read.
        """
        _, table = read_trials(self._home, self.id)
        row = table.leader
        checkpoint = None if row is None else row.best_checkpoint
        if row is None or checkpoint is None or checkpoint.metric is None:
            raise NotFound(f"experiment {self.id} has no checkpoint with a value of {self.spec.metric!r}")
        storage = self._home.storage(self.id, self.spec)
        with storage.fetch(checkpoint.path) as directory:
            if "://" in storage.locate(checkpoint.path):
                kept = Path(tempfile.mkdtemp(prefix="ashwood-best-"))
                copy_contents(directory, kept)
                directory = kept
        return BestCheckpoint(directory, checkpoint.metric, checkpoint.length, row.id, row.hparams)

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
        self,
        *,
        workers: int | None = None,
        backend: BackendLike | None = None,
        progress: bool = True,
        train: Callable[..., Any] | None = None,
        workdir: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        share: bool = False,
    ) -> Experiment:
        """Continue to the end and return the experiment itself.

        Args:
            workers: slots to use, as with `run`.
            backend: where trials run this time; by default, as recorded when the experiment was created.
            progress: whether to show how it goes.
            train: corrected training code, which it has from now on.
            workdir: where its training code is now, if that was moved.
            retry_failed: whether to retry trials that failed, from their latest checkpoints. It also continues an
                experiment that has ended.
            share: use GPUs also if another driver has reserved them, as with `run`.

        Raises:
            ConfigError: that is no backend.
            AshwoodError: it could not be run, or its trials failed; ``experiment`` of the error is this experiment.
        """
        cluster: Cluster = "recorded" if backend is None else parse_backend(backend) or "local"
        try:
            if train is not None:
                check_signature(train)
                notes = [*changed_under_guard(train)]
                spec = replace(self.spec, entrypoint=entrypoint_of(train, self._functions, notes))
                self._change(replace(spec, workdir=str(workdir_of(train))))
                self._notes = [*self._notes, *notes]
            if workdir is not None:
                self._change(with_workdir(self.spec, Path(workdir)))
            if retry_failed:
                ask(self._home, self.id, RetryFailedRequested())
            self._drive(workers, progress=progress, cluster=cluster, share=share)
        except AshwoodError as error:
            error.experiment = self
            raise
        return self

    def start(self, *, workers: int | None = None, share: bool = False) -> Experiment:
        """Continue in a process of its own, and return as soon as it runs; `wait` waits for its end.

        Args:
            workers: slots to use, as with `run`.
            share: use GPUs also if another driver has reserved them, as with `run`.

        Raises:
            RequestRefused: it runs already, or has ended.
            AshwoodError: it could not be run.
        """
        from ashwood.cli.activate import start_driver  # It starts a command, so it needs much.

        self._driver, _ = start_driver(self._address, self.id, workers=workers, where=BackendOptions(), share=share)
        return self

    def wait(self, timeout: float | None = None) -> ExperimentState:
        """Return the state in which the driver leaves the experiment, or its state after ``timeout`` seconds."""
        if self._driver is not None:
            with suppress(subprocess.TimeoutExpired):
                self._driver.wait(timeout)
            return self.state
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._home.is_driven(self.id) and (deadline is None or time.monotonic() < deadline):
            time.sleep(_POLL_SECONDS)
        return self.state

    @property
    def _functions(self) -> Path:
        return self._home.path / "functions"

    def _change(self, spec: ExperimentSpec) -> None:
        with self._home.lease(self.id):
            self._home.store.change_spec(self.id, spec)
        self.spec = spec

    def _drive(self, workers: int | None, *, progress: bool, cluster: Cluster, share: bool) -> None:
        session = Session(self._home, self.id)
        reporter = make_reporter("text", self.id, self.spec) if progress else _Quiet(self.id, self.spec)
        for note in self._notes:
            if progress:
                reporter.warn(note)
            else:
                warnings.warn(note, stacklevel=4)
        self._notes = ()
        with reporter:
            state = session.run(reporter, workers=workers, cluster=cluster, share=share)
        if state is not ExperimentState.ERRORED and not reporter.needs_fix:
            return
        failed = state is ExperimentState.ERRORED
        message = f"experiment {self.id} {'failed' if failed else 'paused'}: {reporter.why_it_ended}"
        if not failed:
            message += "; correct that, then resume it"
        # Progress shows each failure when it happens.
        raise AshwoodError(message if progress else message + self._last_failure())

    def _last_failure(self) -> str:
        """Return what the last attempt that failed said, with the traceback of the training code."""
        failures = (e.event for _, e in self._home.store.log(self.id).read() if isinstance(e.event, AttemptFailed))
        last = deque(failures, maxlen=1)
        return f"\n\nThe last failure was that of trial {last[0].trial}:\n{last[0].error}" if last else ""

    # -- steering: from another thread or process, or while it does not run ------------------------

    def pause(self) -> None:
        """Let running trials save a checkpoint and release their workers; `resume` continues.

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
        max_invalid_trials: int | None = None,
        stop_when: StopWhen | None = None,
    ) -> None:
        """Change settings, also while it runs; None leaves one as it is.

        Args:
            max_concurrent_trials: how many trials may train at once; 0: as many as there is room for.
            max_trials: how many trials to create in all.
            max_invalid_trials: it pauses when so many trials have declared their hyperparameters invalid.
            stop_when: the bounds that hold from now on, instead of those before; ``{}``: none.

        Raises:
            ConfigError: a bound is no number or duration.
            RequestRefused: it has ended, or so few trials would be fewer than there are.
        """
        numbers = {
            "max_concurrent_trials": max_concurrent_trials,
            "max_trials": max_trials,
            "max_invalid_trials": max_invalid_trials,
        }
        changed: dict[str, float | None] = {name: value for name, value in numbers.items() if value is not None}
        if stop_when is not None:
            given = parse_stop_when([f"{key}={value}" for key, value in stop_when.items()], option="stop_when")
            changed |= {"stop_at": None, "max_seconds": None, **given}
        ask(self._home, self.id, SettingsChanged(changed))

    def __repr__(self) -> str:
        return f"<ashwood experiment {self.id} ({self.spec.name}): {self.state}>"


def create(
    train: Callable[..., Any] | str,
    *,
    hparams: Mapping[str, Any],
    searcher: Searcher | Mapping[str, Any],
    name: str | None = None,
    data: Mapping[str, Any] | None = None,
    seed: int | None = None,
    home: str | os.PathLike[str] | None = None,
    backend: BackendLike | None = None,
    **fields: Any,
) -> Experiment:
    """Record an experiment without running it: ``create(train, …).start()`` runs it in the background.

    The arguments are those of `run`.

    Raises:
        ConfigError: the description is wrong; says everything that is.
        TrainingCodeError: the training code cannot be sent to workers, or takes no trial.
    """
    return _create(
        lambda _: None,
        train,
        hparams=hparams,
        searcher=searcher,
        name=name,
        data=data,
        seed=seed,
        home=home,
        backend=backend,
        fields=fields,
    )


def _create(
    check: Callable[[Loaded], None],
    train: Callable[..., Any] | str,
    *,
    hparams: Mapping[str, Any],
    searcher: Searcher | Mapping[str, Any],
    name: str | None,
    data: Mapping[str, Any] | None,
    seed: int | None,
    home: str | os.PathLike[str] | None,
    backend: BackendLike | None,
    fields: Mapping[str, Any],
) -> Experiment:
    """Record an experiment, unless ``check`` raises an exception for it."""
    refuse_while_imported("starts a search", "run")
    share_main()
    notes: list[str] = []
    if not isinstance(train, str):
        check_signature(train, hparams)
        notes += changed_under_guard(train)
    opened = open_home(home, create=True)
    functions = opened.path / "functions"
    entrypoint = train if isinstance(train, str) else entrypoint_of(train, functions, notes)
    tree: dict[str, Any] = {
        "name": name or (train if isinstance(train, str) else name_of(train)),
        "entrypoint": entrypoint,
        "hyperparameters": hparams,
        "searcher": searcher.to_config() if isinstance(searcher, Searcher) else searcher,
        **({} if data is None else {"data": data}),
        **({} if seed is None else {"reproducibility": {"experiment_seed": seed}}),
        **({} if backend is None else {"backend": backend}),
        **fields,
    }
    workdir = workdir_of(train)
    loaded = build_experiment(tree, workdir=workdir, default_seed=int.from_bytes(os.urandom(4), "big") >> 1)
    check(loaded)
    provenance = collect(workdir)
    spec = replace(loaded.spec, provenance=provenance, arguments=arguments())
    session = Session.create(opened, spec, at=time.time())
    unrecorded = dirt(provenance)
    experiment = Experiment(opened, session.id, None if home is None else os.fspath(home))
    experiment._notes = [*notes, *loaded.warnings, *([] if unrecorded is None else [unrecorded])]
    return experiment


def run(
    train: Callable[..., Any] | str,
    *,
    hparams: Mapping[str, Any],
    searcher: Searcher | Mapping[str, Any],
    name: str | None = None,
    data: Mapping[str, Any] | None = None,
    seed: int | None = None,
    home: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    backend: BackendLike | None = None,
    progress: bool = True,
    share: bool = False,
    **fields: Any,
) -> Experiment:
    """Run an experiment to its end and return it.

    Args:
        train: the training code: a callable that takes a `Trial`, or what ``entrypoint`` takes in a file.
        hparams: hyperparameters and their ranges, nested as you like; plain values are constants.
        searcher: `AdaptiveASHA` or another searcher, or the ``searcher`` section of a file.
        name: for people; the function's name if None.
        data: handed to the training code as ``trial.data``.
        seed: fixes every random draw of the search; drawn and recorded if None.
        home: directory of experiments; by default, ``ASHWOOD_HOME`` or ``.ashwood``.
        workers: slots to use; by default, all GPUs, or all cores if there are none; on a cluster, all that it has.
        backend: where trials run: on this machine, or ``"ray"``, or a map as in a file.
        progress: whether to show how it goes; if not, warnings go to `warnings`.
        share: use all GPUs of this machine also if other drivers have reserved some of them; by default, take the free
            ones, or wait for one.
        fields: other fields of an experiment file, such as ``max_restarts=0`` or ``labels=["try"]``.

    Raises:
        ConfigError: the description is wrong; says everything that is.
        AshwoodError: the experiment could not be run, or its trials failed; or a disk is full.  ``experiment`` of the
            error is the experiment if there is one already.
    """
    experiment = _create(
        partial(check_room, workers=workers),
        train,
        hparams=hparams,
        searcher=searcher,
        name=name,
        data=data,
        seed=seed,
        home=home,
        backend=backend,
        fields=fields,
    )
    return experiment.resume(workers=workers, progress=progress, share=share)


def open_experiment(experiment: ExperimentId, *, home: str | os.PathLike[str] | None = None) -> Experiment:
    """An experiment that is recorded already.

    Raises:
        NotFound: there is none of that number.
    """
    share_main()
    opened = open_home(home)
    if experiment > LARGEST_ID:
        raise NotFound(f"there is no experiment {experiment} in {opened.name}")
    return Experiment(opened, experiment, None if home is None else os.fspath(home))
