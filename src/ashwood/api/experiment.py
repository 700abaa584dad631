"""Runs experiments from a script or a notebook; the command line can show and control them, too."""

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

from ashwood.api.background import start_driver
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
from ashwood.api.searchers import LengthLike, Searcher, StopWhen
from ashwood.api.slots import check_room
from ashwood.api.tables import make_frame, read_fold, read_trials, report_records
from ashwood.checkpoints.links import copy_contents
from ashwood.config import (
    Loaded,
    build_experiment,
    parse_backend,
    parse_max_length,
    parse_max_size,
    parse_stop_when,
    plain_hparams,
)
from ashwood.engine import Home, Session, open_home
from ashwood.engine.control import ask, write_note
from ashwood.engine.provenance import collect, dirt, with_workdir
from ashwood.engine.session import Cluster
from ashwood.errors import AshwoodError, ConfigError, NotFound, Problem
from ashwood.eventlog.fold_cache import read_progress
from ashwood.eventlog.port import LARGEST_ID, ExperimentId
from ashwood.experiment.events import (
    AddTrialRequested,
    AttemptFailed,
    CancelRequested,
    ExtendRequested,
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
from ashwood.terminal.live import make_reporter
from ashwood.terminal.reporter import Reporter
from ashwood.views.recommendation import Recommendation
from ashwood.views.table import trial_columns, trial_records
from ashwood.views.trials import TrialRow
from ashwood.views.trust import TrustReading

if TYPE_CHECKING:
    import pandas as pd

_POLL_SECONDS = 0.05

BackendLike: TypeAlias = Literal["local", "ray"] | Mapping[str, Any]
"""``"local"``, ``"ray"``, or the ``backend`` section of a file as a mapping.

For example ``{"type": "ray", "address": "10.0.0.1:6379"}``.
"""


class BestCheckpoint(NamedTuple):
    """The checkpoint of the recommended trial of an experiment.

    Attributes:
        directory: directory of the checkpoint on this machine.
        metric: value of the searcher's metric at this checkpoint.
        length: total training up to the checkpoint, in the unit of ``max_length``.
        trial: ID of its trial.
        hparams: hyperparameters of its trial.
    """

    directory: Path
    metric: float
    length: int
    trial: TrialId
    hparams: Mapping[str, Any]


class _QuietReporter(Reporter):
    """A reporter that shows nothing, except for warnings before trials run, for example that it waits for GPUs."""

    def warn(self, message: str) -> None:
        if not self.running:
            warnings.warn(message, stacklevel=2)


class Experiment:
    """An experiment of a home.

    `run`, `create` and `open_experiment` return one.  Each property and method reads the event log again, so the
    results are up to date while the experiment runs in another process::

        experiment = ashwood.open_experiment(3)
        print(experiment.state, experiment.best_trial)
        experiment.figures.learning_curves().show()

    Attributes:
        id: ID of the experiment.
        spec: complete description of the experiment.
    """

    def __init__(self, home: Home, experiment: ExperimentId, address: str | None = None) -> None:
        """Open an experiment of a home; use `open_experiment` instead.

        Args:
            home: the home of the experiment.
            experiment: ID of the experiment.
            address: the home as ``--home`` takes it, or None for the default home.
        """
        self._home = home
        self._address = address
        self.id = experiment
        self._notes: Sequence[str] = ()
        self._driver: subprocess.Popen[bytes] | None = None
        self.spec: ExperimentSpec = home.store.spec(experiment)

    @property
    def state(self) -> ExperimentState:
        """State of the experiment, for example ``running``, ``paused`` or ``completed``."""
        return self._home.store.record(self.id).state

    @property
    def best_trial(self) -> TrialRow | None:
        """The recommended trial, or None if no trial has reported a finite metric yet.

        When all trials have been compared, this is the one with the best expected result at ``max_length``: the mean
        over its seeds, see `recommended`.  Before, it is the trial with the best result, which is that of the best
        checkpoint if the experiment saves checkpoints.  Then ``metric`` is the metric of the checkpoint, and ``seen``
        is the best metric that the trial has reported.
        """
        return read_fold(self._home, self.id).recommended

    @property
    def recommended(self) -> list[Recommendation]:
        """The settings that have trained to ``max_length``, the one to use first; empty before all are compared.

        Each has the results of its original and its replicates, their mean and standard deviation, and the mean that is
        expected for further seeds.  Example::

            first = experiment.recommended[0]
            print(f"trial {first.trial}: {first.mean} ± {first.spread} over {first.seeds} seeds")
        """
        progress = read_fold(self._home, self.id)
        return progress.recommendations(len(progress.trials.rows))

    @property
    def trust(self) -> TrustReading | None:
        """Whether early stopping can be believed, or None if the search stops no trial early.

        Example::

            reading = experiment.trust
            if reading is not None and reading.level == "not_trustworthy":
                print(reading.sentence, reading.reasons)
                for advice in reading.advice:
                    print(advice.text, *advice.settings)
        """
        return read_progress(self._home, self.id).trust.reading()

    @property
    def note(self) -> str:
        """The note on the experiment in Markdown, or an empty text; `set_note` writes it."""
        return self._home.store.notes(self.id).get(None, "")

    @property
    def trial_notes(self) -> dict[TrialId, str]:
        """The notes on trials in Markdown, by the ID of the trial; `set_note` writes them."""
        return {trial: text for trial, text in self._home.store.notes(self.id).items() if trial is not None}

    def set_note(self, text: str, *, trial: TrialId | None = None) -> None:
        """Replace the note on the experiment, or on a trial; an empty text removes it.

        The dashboard and reports show notes.  Example::

            experiment.set_note("Good start. Next: a larger **batch size**.")
            experiment.set_note("Diverged twice.", trial=7)

        Args:
            text: the text in Markdown, at most 64 KiB.
            trial: ID of the trial, or None for the experiment.

        Raises:
            NotFound: there is no such trial.
            AshwoodError: the text is too long or contains a NUL character.
        """
        write_note(self._home, self.id, trial, text)

    def trials(self) -> pd.DataFrame:
        """Return a data frame with one row for each trial: its state, lengths, metrics and hyperparameters.

        For a metric or hyperparameter ``NAME``, the columns are:

        - ``hparams.NAME``: value of the hyperparameter.
        - ``best.NAME``: the searcher's metric of the trial's best result.  If the experiment saves checkpoints, that is
          the metric of the checkpoint in the column ``checkpoint``.
        - ``seen.NAME``: the best value of the searcher's metric that the trial has reported.
        - ``last.NAME``: the last reported value of the metric.

        Example::

            trials = experiment.trials()
            print(trials.sort_values("best.loss").head())

        Raises:
            AshwoodError: pandas is not installed.
        """
        _, table = read_trials(self._home, self.id)
        records = list(trial_records(table, self.spec, self._home.storage(self.id, self.spec).locate))
        return make_frame(records, trial_columns(records, self.spec.space))

    def reports(self) -> pd.DataFrame:
        """Return a data frame with one row for each report: its trial, length, attempt, time and metrics.

        Reports are in the order in which they arrived.

        Raises:
            AshwoodError: pandas is not installed.
        """
        return make_frame(report_records(entry for _, entry in self._home.store.log(self.id).read()))

    def best_checkpoint(self) -> BestCheckpoint:
        """Return the best checkpoint of the recommended trial, see `best_trial`.

        A checkpoint at a URL is downloaded to a temporary directory, which the caller may delete.  Example::

            best = experiment.best_checkpoint()
            model.load(best.directory / "model.pt")

        Raises:
            NotFound: there is no checkpoint with a value of the metric.
            CheckpointError: the checkpoint is damaged, or cannot be read.
        """
        row = read_fold(self._home, self.id).recommended
        checkpoint = None if row is None else row.best_checkpoint
        if row is None or checkpoint is None or checkpoint.metric is None:
            advice = (
                "training code saves one with trial.report(…, checkpoint=function)"
                if self.state.ended
                else f"it is {self.state} and continues with resume()"
            )
            raise NotFound(f"experiment {self.id} has no checkpoint with a value of {self.spec.metric!r}: {advice}")
        storage = self._home.storage(self.id, self.spec)
        with storage.fetch(checkpoint.path) as directory:
            if "://" in storage.locate(checkpoint.path):
                kept = Path(tempfile.mkdtemp(prefix="ashwood-best-"))
                copy_contents(directory, kept)
                directory = kept
        return BestCheckpoint(directory, checkpoint.metric, checkpoint.length, row.id, row.hparams)

    @property
    def figures(self) -> Figures:
        """Figures of the experiment; for example, ``experiment.figures.timeline()`` returns a Plotly figure."""
        log = self._home.store.log(self.id)
        return Figures(self.spec, lambda: (entry for _, entry in log.read()))

    def report(self, out: str | os.PathLike[str]) -> None:
        """Write a report of the experiment to one file, for example to send it to a colleague.

        Args:
            out: path of the file.  Its suffix is the format: ``.html``, ``.pdf`` or ``.png``.  PDF and PNG need a
                browser on this machine.

        Raises:
            AshwoodError: the file cannot be written, or a package or the browser is missing.
        """
        from ashwood.api.report import write_report

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
        """Continue the experiment until it ends, and return it.

        Args:
            workers: number of slots to use, as for `run`.
            backend: where trials run this time; by default, as recorded when the experiment was created.
            progress: whether to show the progress.
            train: corrected training code, which replaces the recorded one.
            workdir: new directory of the training code, if it was moved.
            retry_failed: whether to retry failed trials from their latest checkpoints.  This also continues an
                experiment that has ended.
            share: whether to use GPUs that other drivers have reserved, as for `run`.

        Raises:
            ConfigError: ``backend`` is invalid.
            AshwoodError: the experiment could not be run, or it failed; the error's ``experiment`` is this experiment.
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
        """Continue the experiment in another process, and return when it runs.

        Example::

            experiment.start()
            state = experiment.wait()

        Args:
            workers: number of slots to use, as for `run`.
            share: whether to use GPUs that other drivers have reserved, as for `run`.

        Raises:
            RequestRefused: the experiment is already running, or has ended.
            AshwoodError: the experiment could not be run.
        """
        slots = [] if workers is None else ["--workers", str(workers)]
        self._driver, _ = start_driver(self._address, self.id, [*slots, *["--share"] * share])
        return self

    def wait(self, timeout: float | None = None) -> ExperimentState:
        """Wait until no driver runs the experiment, and return its state.

        Args:
            timeout: maximum number of seconds to wait; by default, there is no limit.
        """
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
        reporter = make_reporter(self.id, self.spec) if progress else _QuietReporter(self.id, self.spec)
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
        message = f"experiment {self.id} {'failed' if failed else 'paused'}: {reporter.progress.why_ended}"
        if not failed:
            message += ". Fix the cause, then continue with experiment.resume()"
        # If progress is shown, it includes each failure.
        raise AshwoodError(message if progress else message + self._last_failure())

    def _last_failure(self) -> str:
        """Return a paragraph for a message: the error of the last failed attempt, with its traceback."""
        failures = (e.event for _, e in self._home.store.log(self.id).read() if isinstance(e.event, AttemptFailed))
        last = deque(failures, maxlen=1)
        return f"\n\nLast failure, of trial {last[0].trial}:\n{last[0].error}" if last else ""

    # -- requests: from another thread or process, or while the experiment does not run ------------

    def pause(self) -> None:
        """Pause the experiment: running trials save a checkpoint and release their workers.  `resume` continues it.

        Raises:
            RequestRefused: the experiment has ended.
        """
        ask(self._home, self.id, PauseRequested())

    def cancel(self) -> None:
        """Stop the experiment permanently, after running trials have saved a checkpoint.

        Raises:
            RequestRefused: the experiment has already ended.
        """
        ask(self._home, self.id, CancelRequested())

    def kill(self) -> None:
        """Stop the experiment immediately and permanently; running trials save no checkpoint.

        Raises:
            RequestRefused: the experiment has already ended.
        """
        ask(self._home, self.id, KillRequested())

    def kill_trial(self, trial: TrialId) -> None:
        """Stop a trial immediately and permanently; it is ranked last in its rung.

        Raises:
            RequestRefused: the trial does not exist, or has already ended.
        """
        ask(self._home, self.id, TrialKillRequested(trial))

    def stop_trial(self, trial: TrialId) -> None:
        """Stop a trial early; its results so far still count.

        Raises:
            RequestRefused: the trial does not exist, or has already ended.
        """
        ask(self._home, self.id, TrialStopRequested(trial))

    def add_trial(self, hparams: Mapping[str, Any], *, extra: bool = False) -> None:
        """Add a trial with given hyperparameters, also while the experiment runs.

        It is the next new trial of the first bracket that creates one, and takes the place of a drawn trial.  Example::

            experiment.add_trial({"lr": 0.1, "optimizer": {"name": "sgd"}})

        Args:
            hparams: hyperparameters of the trial, nested or with dotted names; the others are drawn.
            extra: whether to create one trial more than ``max_trials``, instead of one of the planned trials.

        Raises:
            ConfigError: a value is of a type that a file cannot contain.
            RequestRefused: the experiment has ended, a hyperparameter is unknown or has a wrong value, or all trials
                were created and ``extra`` is False.
        """
        ask(self._home, self.id, AddTrialRequested(plain_hparams(hparams), extra=extra))

    def set(
        self,
        *,
        max_concurrent_trials: int | None = None,
        max_trials: int | None = None,
        max_invalid_trials: int | None = None,
        replicates: int | None = None,
        stop_when: StopWhen | None = None,
        max_size: int | str | None = None,
    ) -> None:
        """Change settings of the experiment, also while it runs.  Settings that are None are not changed.

        Example::

            experiment.set(max_trials=200, stop_when={"max_time": "2h"})

        Args:
            max_concurrent_trials: maximum number of trials that train at the same time; 0 means one for each slot.
            max_trials: total number of trials to create.
            max_invalid_trials: number of trials with invalid hyperparameters at which the experiment pauses.
            replicates: number of the best trials that train again with another seed at the end.
            stop_when: new bounds, which replace all earlier ones; ``{}`` removes them.
            max_size: largest size of all checkpoints together, in bytes or as text such as ``"200GB"``; ``"none"``
                removes the limit.

        Raises:
            ConfigError: ``stop_when`` has an unknown bound or an invalid value, or ``max_size`` is not a size.
            RequestRefused: the experiment has ended, or ``max_trials`` is less than the number of trials so far.
        """
        numbers = {
            "max_concurrent_trials": max_concurrent_trials,
            "max_trials": max_trials,
            "max_invalid_trials": max_invalid_trials,
            "replicates": replicates,
        }
        changed: dict[str, float | None] = {name: value for name, value in numbers.items() if value is not None}
        if stop_when is not None:
            given = parse_stop_when([f"{key}={value}" for key, value in stop_when.items()], option="stop_when")
            changed |= {"metric_at": None, "max_time": None, **given}
        if max_size is not None:
            try:
                changed["max_size"] = parse_max_size(str(max_size))
            except ValueError as error:
                raise ConfigError([Problem("max_size", str(error), "set")]) from None
        ask(self._home, self.id, SettingsChanged(changed))

    def extend(
        self,
        *,
        max_trials: int | None = None,
        max_length: LengthLike | None = None,
        replicates: int | None = None,
    ) -> None:
        """Add trials, longer training or replicates to the search, also after it has ended.

        Numbers that are None do not change.  Nothing is trained again: trials continue from their checkpoints.
        `resume` runs the rest, unless a driver runs the experiment.

        Example::

            experiment.extend(max_trials=800, max_length={"epochs": 243})
            experiment.resume()

        Args:
            max_trials: new total number of trials, which is larger than the present one.
            max_length: new total length to which the best trials train.  Schedules that are tied to the former one,
                such as learning rate schedules, end there.
            replicates: new number of the best trials that train again with another seed, larger than the present one.

        Raises:
            ConfigError: ``max_length`` is not a length in the unit of the experiment.
            RequestRefused: the search cannot be extended so, or the experiment has failed or was canceled.
        """
        try:
            length = None if max_length is None else parse_max_length(max_length, self.spec.unit)
        except ValueError as error:
            raise ConfigError([Problem("max_length", str(error), "extend")]) from None
        ask(self._home, self.id, ExtendRequested(max_trials, length, replicates))

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
    """Create an experiment without running it.

    To run it in the background::

        experiment = ashwood.create(train, hparams=hparams, searcher=searcher)
        experiment.start()

    The arguments are those of `run`.

    Raises:
        ConfigError: the description is invalid; the message lists all problems.
        TrainingCodeError: the training code cannot be loaded by worker processes, or does not take a trial.
    """
    return _create(lambda _: None, train, hparams, searcher, name, data, seed, home, backend, fields)


def _create(
    check: Callable[[Loaded], None],
    train: Callable[..., Any] | str,
    hparams: Mapping[str, Any],
    searcher: Searcher | Mapping[str, Any],
    name: str | None,
    data: Mapping[str, Any] | None,
    seed: int | None,
    home: str | os.PathLike[str] | None,
    backend: BackendLike | None,
    fields: Mapping[str, Any],
) -> Experiment:
    """Create an experiment, unless ``check`` raises an exception for it."""
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
    """Create an experiment, run it to its end, and return it.

    Example::

        def train(trial):
            for step in trial.steps():
                trial.report(loss=(trial.hparams.x - 0.3) ** 2 + 1 / (step + 1))

        if __name__ == "__main__":
            experiment = ashwood.run(
                train,
                hparams={"x": ashwood.Double(0.0, 1.0)},
                searcher=ashwood.AdaptiveASHA(metric="loss", max_length=16, max_trials=20),
            )
            print(experiment.best_trial)

    Args:
        train: the training code: a callable that takes a `Trial`, or a string as for ``entrypoint`` in a file.
        hparams: hyperparameters and their ranges; they may be nested, and plain values are constants.
        searcher: `AdaptiveASHA` or another searcher, or the ``searcher`` section of a file as a mapping.
        name: name of the experiment; by default, that of the function.
        data: value of ``trial.data`` in the training code.
        seed: seed for all random draws of the search; by default, a random seed, which is recorded.
        home: directory or database of experiments; by default, ``ASHWOOD_HOME`` or ``.ashwood``.
        workers: number of slots to use; by default, all GPUs, or all cores if there are no GPUs.  On a cluster, all
            slots of the cluster.
        backend: where trials run: ``"local"`` (the default), ``"ray"``, or the ``backend`` section of a file as a
            mapping.
        progress: whether to show the progress; otherwise, warnings are issued with `warnings.warn`.
        share: whether to use GPUs of this machine that other drivers have reserved; by default, only free GPUs are
            used, and `run` waits if there are none.
        fields: other fields of an experiment file, such as ``max_restarts=0`` or ``labels=["try"]``.

    Raises:
        ConfigError: the description is invalid; the message lists all problems.
        AshwoodError: the experiment could not be run, or it failed.  The error's ``experiment`` is the experiment, or
            None if it was not created.
    """
    check = partial(check_room, workers=workers)
    experiment = _create(check, train, hparams, searcher, name, data, seed, home, backend, fields)
    return experiment.resume(workers=workers, progress=progress, share=share)


def open_experiment(experiment: ExperimentId, *, home: str | os.PathLike[str] | None = None) -> Experiment:
    """Return an experiment that already exists, for example to read its results or to resume it.

    Example::

        experiment = ashwood.open_experiment(3)
        print(experiment.best_trial)

    Args:
        experiment: ID of the experiment, as ``ashwood list`` shows it.
        home: directory or database of experiments; by default, ``ASHWOOD_HOME`` or ``.ashwood``.

    Raises:
        NotFound: there is no experiment with that ID.
    """
    share_main()
    opened = open_home(home)
    if experiment > LARGEST_ID:
        raise NotFound(f"there is no experiment {experiment} in {opened.name}")
    return Experiment(opened, experiment, None if home is None else os.fspath(home))
