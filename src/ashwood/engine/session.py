"""Sessions: a driver takes the lease of an experiment, reads its event log, runs it, and releases the lease."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from ashwood.backends.port import Backend
from ashwood.checkpoints import Patience, is_remote
from ashwood.checkpoints.port import parsed
from ashwood.engine.background import while_beating
from ashwood.engine.clock import Clock, WallClock, elapsed
from ashwood.engine.deletion import CheckpointDeletion
from ashwood.engine.loop import Engine
from ashwood.engine.past import with_past_trials
from ashwood.engine.recorder import Recorder
from ashwood.engine.recovery import Recovery, delete_unneeded, is_wanted, set_aside_foreign, unrecorded
from ashwood.engine.sources import keep_source
from ashwood.engine.worker_hosts import ReservationOptions, WorkerHost, worker_host
from ashwood.errors import (
    CheckpointError,
    ConfigError,
    DiskFull,
    EventLogError,
    NotFound,
    Problem,
    RequestRefused,
    StorageUnreachable,
)
from ashwood.eventlog.fold_cache import Folded, fold
from ashwood.eventlog.fold_cache import save as save_snapshot
from ashwood.eventlog.home import WAITS, Home, with_own_storage
from ashwood.eventlog.lease import Lease
from ashwood.eventlog.port import LARGEST_ID, EventLog, ExperimentId
from ashwood.eventlog.reserve import ReserveFile
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    CancelRequested,
    CheckpointSaved,
    DriverStopped,
    KillRequested,
    PauseRequested,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import ExperimentSpec, RayCluster
from ashwood.experiment.trial import TrialRecord
from ashwood.views.progress import VIEWS, Progress

Cluster: TypeAlias = RayCluster | Literal["local", "recorded"]
"""Where trials run: on a Ray cluster, on this machine, or as the experiment's spec says (``recorded``)."""

_LONGEST_SHOWN = 200
_SNAPSHOT_ENTRIES = 20_000
_SNAPSHOT_SHARE = 50
_MOST_NAMED = 3
_SLOW_BEATS = 10
"""Number of beats after which a starting driver says what it waits for: about 5 seconds."""


class RunObserver(Protocol):
    """An object that is informed about a run, for example to show its progress."""

    def folded(self, progress: Progress) -> None:
        """Receive the progress at the end of the event log; `observe` must apply later entries to it."""

    def ready(self, slots: int) -> None:
        """Record that the backend is ready and has ``slots`` slots; trials start now."""

    def observe(self, entries: Sequence[Entry]) -> None:
        """Process new entries of the event log, which are durable."""

    def summary(self) -> Mapping[str, Any]:
        """Return the summary for lists of experiments."""

    def interrupted(self, count: int) -> None:
        """Record the ``count``-th Ctrl-C.  A signal handler calls this, so it must not write or take a lock."""

    def warn(self, message: str) -> None:
        """Show a message that is not in the event log."""


class Session:
    """Runs an experiment of a home in this process, as its driver.

    Attributes:
        id: the ID of the experiment.
        spec: the spec of the experiment.
    """

    def __init__(self, home: Home, experiment: ExperimentId) -> None:
        self._home = home
        self.id = experiment
        self.spec = home.store.spec(experiment)
        self._left_out: list[ExperimentId] = []

    @classmethod
    def create(cls, home: Home, spec: ExperimentSpec, *, at: float) -> Session:
        """Record a new experiment.

        Args:
            home: the home to record it in.
            spec: the spec of the experiment.
            at: time of creation, in seconds since 1970.

        Raises:
            ConfigError: the checkpoint from which its trials start does not exist, or cannot be kept; or a search of
                ``warm_start`` cannot be read.
        """
        left_out: list[ExperimentId] = []
        spec = with_own_storage(with_past_trials(home, _with_source(home, spec)), at)
        session = cls(home, home.create(spec, at=at, left_out=left_out.append))
        session._left_out = left_out
        return session

    def run(
        self,
        observer: RunObserver,
        *,
        workers: int | None = None,
        cluster: Cluster = "recorded",
        share: bool = False,
    ) -> ExperimentState:
        """Continue the experiment from the end of its event log until it ends or is paused.

        The first Ctrl-C (or SIGTERM, or the loss of the terminal) pauses it.  The second one ends it at once, and
        running trials lose all training since their latest checkpoints.

        Args:
            observer: is informed about the run.
            workers: number of slots to use; by default, all GPUs, or all cores if there are no GPUs.
            cluster: where trials run this time.
            share: whether to use GPUs of this machine that other drivers have reserved.

        Raises:
            ExperimentBusy: another driver runs the experiment.
            RequestRefused: the experiment has ended, has reached a bound, or was not imported completely; or it was
                asked to pause or end before it started.
            DiskFull: there is no space for the reserve file.
            EventLogError: the event log is damaged.
            ReplayDivergence: the event log contains decisions that differ from those of this version of Ashwood.
            CheckpointError: checkpoints cannot be saved to the storage.
            ClusterError: the cluster cannot be used, or none of its nodes can run a trial.
            BackendError: no trial can run at all.
        """
        directory = self._home.directory(self.id)
        self._home.store.hurry(on=False)
        for number in self._left_out:
            observer.warn(
                f"{directory.with_name(str(number))} contains files of an experiment that is not in the database, so "
                f"ID {number} was not used"
            )
        with (
            worker_host(self._home, self.id, self.spec, self._cluster(cluster)) as host,
            self._home.lease(self.id) as lease,
            self._home.reserve_file(self.id) as reserve,
            ExitStack() as opened,
        ):
            log = opened.enter_context(self._home.log(self.id, lease.token))
            # This check comes before former workers are ended: if the database is an older copy, the workers may belong
            # to a driver that uses the newer one.
            log.check()
            self._await_former_workers(host, lease, observer)
            self._home.check_imported(self.id)
            folded = fold(self.spec, log, self._home.snapshot(self.id), views=VIEWS, beat=lease.beat)
            clock = WallClock(not_before=0.0 if folded.last is None else folded.last.at)
            observer.folded(folded.progress)
            if folded.experiment.state.ended:
                raise RequestRefused(f"experiment {self.id} {_why_over(folded.experiment, self.id)}")
            start = _Start(self._home, self.id, lease, observer)
            self._prepare_storage(start, resumed=folded.last is not None)
            folded = self._catch_up(folded, Recorder(folded.experiment, log, clock), observer, host, start)
            state = folded.experiment.state
            if not state.ended:  # `_catch_up` may have ended the experiment.
                self._check_bounds(folded)
                options = ReservationOptions(share, observer.warn, partial(start.waits_for_gpus, log), start.sleep)
                make_backend = partial(host.backend, workers, options)
                state = self._drive(folded, log, lease, reserve, clock, observer, make_backend)
            if state.ended:
                with suppress(EventLogError):  # Everything is recorded, so losing the lease does no harm.
                    while_beating(host.clean, lease.beat)
            return state

    @property
    def _is_remote(self) -> bool:
        return is_remote(self._home.checkpoints(self.id, self.spec))

    def _cluster(self, cluster: Cluster) -> RayCluster | None:
        if isinstance(cluster, RayCluster):
            return cluster
        return self.spec.ray if cluster == "recorded" else None

    def _await_former_workers(self, host: WorkerHost, lease: Lease, observer: RunObserver) -> None:
        def say(processes: int, seconds: float) -> None:
            workers = f"{processes or 'the'} worker{'' if processes == 1 else 's'} of the former driver"
            observer.warn(f"waiting up to {seconds:.0f} s for {workers} to save and end")

        def sleep(seconds: float) -> None:
            lease.beat()
            time.sleep(seconds)

        host.clear(sleep, say)

    def _prepare_storage(self, start: _Start, *, resumed: bool) -> None:
        """Check that checkpoints can be saved, before the other steps of the start, which take longer."""
        storage = self._home.storage(self.id, self.spec)
        start.waits_for(f"the checkpoint storage {self._home.checkpoints(self.id, self.spec)}")
        while_beating(storage.probe, start.beat)
        if resumed:
            # No process of this experiment saves now, so all unfinished uploads are left over.  The user may not have
            # the permission to list uploads; that is no reason not to run.
            with suppress(StorageUnreachable):
                while_beating(storage.abort_uploads, start.beat)

    def _catch_up(
        self, folded: Folded, recorder: Recorder, observer: RunObserver, host: WorkerHost, start: _Start
    ) -> Folded:
        """Record events that a dead driver did not record, and end the experiment if nothing is left to run."""
        experiment, entries = folded.experiment, list[Entry]()
        storage = self._home.storage(self.id, self.spec, Patience())
        # These events happened while the last driver ran, or moments later, so they get the time of the last entry.
        # Time without a driver does not count as time of the experiment.
        at = None if folded.last is None else folded.last.at

        def record(trials: Sequence[TrialRecord]) -> None:
            for event in unrecorded(experiment, storage, trials, start.beat):
                entries.extend(recorder.take([event], at=at))

        # A paused trial, too, may have a checkpoint on a node that the last driver did not know of.
        start.waits_for("the nodes of the cluster, which may hold checkpoints")
        collected = host.collect_checkpoints(partial(is_wanted, experiment))
        while (name := while_beating(partial(next, collected, None), start.beat)) is not None:
            record([experiment.trials[parsed(name).trial]])
        start.waits_for(f"the checkpoint storage {self._home.checkpoints(self.id, self.spec)}")
        if folded.last is not None and (moved := set_aside_foreign(experiment, storage, start.beat)):
            names = ", ".join(name for name, _ in moved[:_MOST_NAMED])
            observer.warn(
                f"{len(moved)} of the checkpoints in the experiment's directory do not belong to this experiment, "
                f"according to its event log, and are not used: {names}{', …' if len(moved) > _MOST_NAMED else ''}. "
                f"They are kept, the first as {moved[0][1]}"
            )
        record(experiment.unsettled())
        if experiment.max_size is not None:
            start.waits_for("the checkpoint storage, from which checkpoints are deleted to keep max_size")
            with suppress(StorageUnreachable):  # The next driver tries again.
                delete_unneeded(experiment, storage, start.beat)
        if experiment.state is ExperimentState.STOPPING or (experiment.over and experiment.state.active):
            entries += recorder.take([DriverStopped()])
        if not entries:
            return folded
        observer.observe(entries)
        with CheckpointDeletion(storage) as deletion:
            deletion.observe(entries)
        # If the experiment ends here, or must not run, no engine starts that would update the summary.
        with suppress(EventLogError):  # The summary can be rebuilt from the event log.
            recorder.summarize(observer.summary())
        return folded._replace(seq=folded.seq + len(entries), last=entries[-1])

    def _check_bounds(self, folded: Folded) -> None:
        experiment = folded.experiment
        if (goal := experiment.goal_reached) is not None:
            raise RequestRefused(
                f"experiment {self.id} has already reached its goal ({goal}). Set a better goal: ashwood resume "
                f"{self.id} --stop-when metric_at=METRIC; or remove it: ashwood resume {self.id} --stop-when none"
            )
        if (invalid := experiment.too_many_invalid) is not None:
            raise RequestRefused(
                f"experiment {self.id} is paused: {invalid}. To continue, raise the limit, then resume: "
                f"ashwood set {self.id} max_invalid_trials={2 * invalid.trials}"
            )
        ran, limit = folded.progress.trials.spending.driver_seconds, experiment.max_time
        if limit is not None and ran >= limit:
            raise RequestRefused(
                f"experiment {self.id} has run for {ran:.0f} s, and its max_time is {limit:.0f} s. Set a longer time: "
                f"ashwood resume {self.id} --stop-when max_time=TIME; or remove it: ashwood resume {self.id} "
                "--stop-when none"
            )

    def _drive(
        self,
        folded: Folded,
        log: EventLog,
        lease: Lease,
        reserve: ReserveFile,
        clock: Clock,
        observer: RunObserver,
        make_backend: Callable[[], AbstractContextManager[Backend]],
    ) -> ExperimentState:
        storage = self._home.storage(self.id, self.spec, Patience())
        snapshots = _SnapshotSaver(self._home.snapshot(self.id), folded, lease)
        with (
            CheckpointDeletion(storage) as deletion,
            make_backend() as backend,
        ):
            observer.ready(backend.slots)
            engine = Engine(
                folded.experiment,
                log,
                backend,
                observers=[observer.observe, deletion.observe, snapshots.observe],
                summarize=observer.summary,
                clock=clock,
                requests=lambda: self._home.store.pending(self.id),
                beat=lease.beat,
                make_room=reserve.release,
                recovery=Recovery(folded.experiment, storage, remote=self._is_remote),
                ran_before=folded.progress.trials.spending.driver_seconds,
                say=observer.warn,
            )
            with _interruptible(engine, observer.interrupted, self._home.store.hurry):
                state = engine.run()
            if state.ended:
                # In a large search this takes seconds.  Everything that shows the result finds it in the snapshot.
                folded.progress.trust.reading()
            # No snapshot is saved after an error, because the state in memory may contain events that could not be
            # recorded.
            snapshots.save()
            return state


def _why_over(experiment: Experiment, number: ExperimentId) -> str:
    """Return why an experiment that has ended cannot be resumed, and how to retry its failed trials if it has some."""
    state = experiment.state
    failed = sum(trial.state is TrialState.ERRORED for trial in experiment.trials.values())
    if state is ExperimentState.CANCELED or not (failed or state is ExperimentState.ERRORED):
        more = f". To add trials or train longer: ashwood extend {number}" if state is ExperimentState.COMPLETED else ""
        return f"is {state}: there is nothing left to run{more}"
    trials = f"; {failed} of its trials failed" if failed else ""
    return f"is {state}{trials}. To retry them, fix the cause, then: ashwood resume {number} --retry-failed"


class _Start:
    """The start of a driver: renews the lease, says what the driver waits for, and aborts if a request asks for it.

    If there is no driver, the command that sent a request carries it out.  So a driver that still starts raises an
    error instead of answering the request, and the command does not wait for a storage.
    """

    def __init__(self, home: Home, experiment: ExperimentId, lease: Lease, observer: RunObserver) -> None:
        self._home = home
        self._experiment = experiment
        self._lease = lease
        self._observer = observer
        self._what = ""
        self._beats = 0

    def waits_for(self, what: str) -> None:
        """Set the description of what the driver waits for, for messages."""
        self._what, self._beats = what, 0

    def waits_for_gpus(self, log: EventLog, what: str) -> None:
        """Say at once which GPUs the driver waits for, also in lists of experiments."""
        self._what, self._beats = what, _SLOW_BEATS
        self._observer.warn(f"waiting for {what}. To use all GPUs without waiting, add --share")
        with suppress(EventLogError):
            log.append([], summary={**self._observer.summary(), WAITS: {"process": os.getpid(), "for": what}})

    def sleep(self, seconds: float) -> None:
        """Wait, and renew the lease."""
        self.beat()
        time.sleep(seconds)

    def beat(self) -> None:
        """Renew the lease.

        Raises:
            RequestRefused: there is a request to pause or end the experiment.
        """
        self._lease.beat()
        self._beats += 1
        if self._beats == _SLOW_BEATS:
            self._observer.warn(f"waiting for {self._what}")
        for _, request in self._home.store.pending(self._experiment):
            if isinstance(request, PauseRequested | CancelRequested | KillRequested):
                raise RequestRefused(
                    f"experiment {self._experiment} was not started: it was asked to pause or to end while its driver "
                    f"waited for {self._what}"
                )


class _SnapshotSaver:
    """Saves a snapshot every 20,000 entries and at the end, so that a resumed experiment starts quickly."""

    def __init__(self, path: Path, folded: Folded, lease: Lease) -> None:
        self._path = path
        self._folded = folded
        self._lease = lease
        self._saved = folded.seq
        self._not_before = 0.0

    def observe(self, entries: Sequence[Entry]) -> None:
        """Count new entries of the event log, and save a snapshot if it is time for one."""
        self._folded = self._folded._replace(seq=self._folded.seq + len(entries), last=entries[-1])
        if self._folded.seq - self._saved >= _SNAPSHOT_ENTRIES and elapsed() >= self._not_before:
            self.save()

    def save(self) -> None:
        """Save a snapshot of the present state, unless it is already saved."""
        if self._folded.seq == self._saved:
            return
        began = elapsed()
        # For 100,000 trials this takes many seconds, so the lease is renewed meanwhile.
        save_snapshot(self._path, self._folded, self._beat)
        self._saved = self._folded.seq
        # Saving takes at most 2 % of the driver's time, also for a large experiment.
        self._not_before = elapsed() + _SNAPSHOT_SHARE * (elapsed() - began)

    def _beat(self) -> None:
        with suppress(DiskFull):  # The engine gets the same error at its next beat, and pauses the experiment.
            self._lease.beat()


_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the loss of its terminal (SIGHUP)"}
"""Signals that pause an experiment, with names for messages."""


@contextmanager
def _interruptible(engine: Engine, on_interrupt: Callable[[int], None], hurry: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C pause an engine, and the second one end it at once.

    ``hurry`` is called at the second one: the engine then no longer waits for a database that is unreachable.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    count = 0

    def interrupt(number: int, _frame: object) -> None:
        nonlocal count
        count += 1
        if count == 1:
            engine.pause(by=_SIGNALS[signal.Signals(number)])
        else:
            engine.abandon()
        on_interrupt(count)
        if count > 1:
            hurry()

    # The loss of the terminal pauses, too, unless SIGHUP is ignored, as under nohup.
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    former = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _with_source(home: Home, spec: ExperimentSpec) -> ExperimentSpec:
    """Return the spec with the checkpoint that trials start from as an absolute directory or a URL."""
    source = spec.source_checkpoint
    if source is None or is_remote(source):
        return spec
    path = Path(spec.workdir, source).expanduser()
    location = str(path.absolute()) if path.is_dir() else _find_checkpoint(home, source)
    try:
        return replace(spec, source_checkpoint=keep_source(home, location))
    except (CheckpointError, OSError) as error:
        raise ConfigError([Problem("searcher", f"cannot keep checkpoint {location}: {error}")]) from error


def _find_checkpoint(home: Home, source: str) -> str:
    """Return the path or URL of a checkpoint.

    ``source`` is ``EXPERIMENT/TRIAL`` for the latest checkpoint of a trial, or
    ``EXPERIMENT/trial-N/length-N-attempt-N``.
    """
    experiment, _, rest = source.partition("/")
    key = "searcher.source_trial_id" if rest.isdigit() else "searcher.source_checkpoint_uuid"
    try:
        number = int(experiment)
        if number > LARGEST_ID:
            raise NotFound(f"there is no experiment {number} in {home.name}")
        spec = home.store.spec(number)
        storage = home.storage(number, spec)
        name = _latest_checkpoint(home.store.log(number), int(rest)) if rest.isdigit() else rest
        with storage.fetch(name):
            return storage.locate(name)
    except (ValueError, NotFound, EventLogError, CheckpointError) as error:
        raise ConfigError([Problem(key, f"cannot find checkpoint {source[:_LONGEST_SHOWN]!r}: {error}")]) from error


def _latest_checkpoint(log: EventLog, trial: int) -> str:
    saved = [e.event.path for _, e in log.read() if isinstance(e.event, CheckpointSaved) and e.event.trial == trial]
    if not saved:
        raise NotFound(f"trial {trial} has no checkpoint")
    return saved[-1]
