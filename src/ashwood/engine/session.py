"""One driver's time with one experiment: take it on, fold its log, run it, let go of it."""

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
from ashwood.engine.background import while_beating
from ashwood.engine.clock import Clock, WallClock, elapsed
from ashwood.engine.deletion import CheckpointDeletion
from ashwood.engine.loop import Engine
from ashwood.engine.recorder import Recorder
from ashwood.engine.recovery import Recovery, is_wanted, set_aside_foreign, unrecorded
from ashwood.engine.snapshot import Folded, check_imported, fold
from ashwood.engine.snapshot import save as save_snapshot
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
from ashwood.eventlog.home import WAITS, Home, with_own_storage
from ashwood.eventlog.lease import Lease
from ashwood.eventlog.port import LARGEST_ID, Entry, EventLog, ExperimentId
from ashwood.eventlog.reserve import ReserveFile
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
from ashwood.experiment.trial import Trial
from ashwood.trial.storage import Patience, is_remote
from ashwood.trial.storage.port import parsed
from ashwood.views.progress import VIEWS, Progress

Cluster: TypeAlias = RayCluster | Literal["local", "recorded"]
"""Where trials run: on a Ray cluster, on this machine, or where the experiment's record says."""

_LONGEST_SHOWN = 200
_SNAPSHOT_ENTRIES = 20_000
_SNAPSHOT_SHARE = 50
_MOST_NAMED = 3
_SLOW_BEATS = 10
"""Beats after which a driver that has not begun says what it waits for: about 5 seconds."""


class RunObserver(Protocol):
    """Who follows a run."""

    def folded(self, progress: Progress) -> None:
        """The experiment as its log tells it so far; `observe` is to keep it up to date from now on."""
        ...

    def ready(self, slots: int) -> None:
        """The backend has so many slots; trials start now."""
        ...

    def observe(self, entries: Sequence[Entry]) -> None:
        """The entries of a turn are durable."""
        ...

    def summary(self) -> Mapping[str, Any]:
        """What the list of experiments is to show."""
        ...

    def interrupted(self, count: int) -> None:
        """Take note of the ``count``-th Ctrl-C.  Called by a signal handler: it must not write or take a lock."""
        ...

    def warn(self, message: str) -> None:
        """Show a message that is no entry of the log."""
        ...


class Session:
    """Drives an experiment of a home on this machine.

    Attributes:
        id: the experiment.
        spec: what it is.
    """

    def __init__(self, home: Home, experiment: ExperimentId) -> None:
        self._home = home
        self.id = experiment
        self.spec = home.store.spec(experiment)
        self._left_out: list[ExperimentId] = []

    @classmethod
    def create(cls, home: Home, spec: ExperimentSpec, *, at: float) -> Session:
        """Take a new experiment in.

        Raises:
            ConfigError: the checkpoint that its trials are to start from isn't there.
        """
        left_out: list[ExperimentId] = []
        spec = with_own_storage(_with_source(home, spec), at)
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
        """Run the experiment from where its log ends until it ends or is paused.

        The first Ctrl-C (or SIGTERM, or the loss of the terminal) pauses it, the second ends everything at once.

        Args:
            observer: who follows it.
            workers: how many slots to use; None: all GPUs, or all cores where there are none.
            cluster: where to run this time.
            share: use GPUs of this machine also if another driver has reserved them.

        Raises:
            ExperimentBusy: another process drives it.
            RequestRefused: it has ended, has what it was to reach, or was not imported completely.
            DiskFull: there is no room to record that it pauses, should the disk fill.
            EventLogError: its log is damaged.
            ReplayDivergence: its log holds other decisions than this Ashwood takes.
            CheckpointError: checkpoints can't be kept where they are to be.
            ClusterError: the cluster can't be used, or has no room for a trial.
            BackendError: no trial can run at all.
        """
        directory = self._home.directory(self.id)
        self._home.store.hurry(on=False)
        for number in self._left_out:
            observer.warn(
                f"{directory.with_name(str(number))} holds files of an experiment that is not in the database, so "
                f"number {number} was not used"
            )
        with (
            worker_host(self._home, self.id, self.spec, self._cluster(cluster)) as host,
            self._home.lease(self.id) as lease,
            self._home.reserve_file(self.id) as reserve,
            ExitStack() as opened,
        ):
            log = opened.enter_context(self._home.log(self.id, lease.token))
            # First, because workers may be of another driver if the database is an older copy.
            log.check()
            self._await_former_workers(host, lease, observer)
            check_imported(self.id, self.spec, log)
            folded = fold(self.spec, log, self._home.snapshot(self.id), views=VIEWS, beat=lease.beat)
            clock = WallClock(not_before=0.0 if folded.last is None else folded.last.at)
            observer.folded(folded.progress)
            if folded.experiment.state.ended:
                raise RequestRefused(f"experiment {self.id} {_why_over(folded.experiment, self.id)}")
            start = _Start(self._home, self.id, lease, observer)
            self._prepare_storage(start, resumed=folded.last is not None)
            folded = self._catch_up(folded, Recorder(folded.experiment, log, clock), observer, host, start)
            state = folded.experiment.state
            if not state.ended:  # Its last driver may have died when only the end was not recorded.
                self._check_bounds(folded)
                room = ReservationOptions(share, observer.warn, partial(start.waits_for_gpus, log), start.sleep)
                make_backend = partial(host.backend, workers, room)
                state = self._drive(folded, log, lease, reserve, clock, observer, make_backend)
            if state.ended:
                with suppress(EventLogError):  # All is recorded, so a lost lease does no harm.
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
            who = f"{processes or 'the'} process{'' if processes == 1 else 'es'} of the former driver"
            observer.warn(f"waiting: up to {seconds:.0f} s for {who} to save and leave")

        def sleep(seconds: float) -> None:
            lease.beat()
            time.sleep(seconds)

        host.clear(sleep, say)

    def _prepare_storage(self, start: _Start, *, resumed: bool) -> None:
        """Make sure that checkpoints can be kept, before anything that takes longer if they cannot."""
        storage = self._home.storage(self.id, self.spec)
        start.waits_for(f"the checkpoint storage {self._home.checkpoints(self.id, self.spec)}")
        while_beating(storage.probe, start.beat)
        if resumed:
            # No process of this experiment saves now. Rights to list uploads may be missing, and it runs without.
            with suppress(StorageUnreachable):
                while_beating(storage.abort_uploads, start.beat)

    def _catch_up(
        self, folded: Folded, recorder: Recorder, observer: RunObserver, host: WorkerHost, start: _Start
    ) -> Folded:
        """Record what happened after the last entry of the log, and the end of the experiment if it is due."""
        experiment, entries = folded.experiment, list[Entry]()
        storage = self._home.storage(self.id, self.spec, Patience())
        # While nobody drove no time passed: it happened when the last driver lived, or moments later.
        at = None if folded.last is None else folded.last.at

        def record(trials: Sequence[Trial]) -> None:
            for event in unrecorded(experiment, storage, trials, start.beat):
                entries.extend(recorder.take([event], at=at))

        # Of any trial: also one that waits at a rung may have saved on a node that the driver had not heard of.
        start.waits_for("the nodes of the cluster, which may hold checkpoints")
        collected = host.collect_checkpoints(partial(is_wanted, experiment))
        while (name := while_beating(partial(next, collected, None), start.beat)) is not None:
            record([experiment.trials[parsed(name).trial]])
        start.waits_for(f"the checkpoint storage {self._home.checkpoints(self.id, self.spec)}")
        if folded.last is not None and (moved := set_aside_foreign(experiment, storage, start.beat)):
            names = ", ".join(name for name, _ in moved[:_MOST_NAMED])
            observer.warn(
                f"{len(moved)} of the checkpoints in the experiment's directory are not of this experiment as its "
                f"log tells it, and are not used: {names}{', …' if len(moved) > _MOST_NAMED else ''}. They are "
                f"kept, the first as {moved[0][1]}"
            )
        record(experiment.unsettled())
        if experiment.state is ExperimentState.STOPPING or (experiment.over and experiment.state.active):
            entries += recorder.take([DriverStopped()])
        if not entries:
            return folded
        observer.observe(entries)
        with CheckpointDeletion(storage) as deletion:
            deletion.observe(entries)
        # If the experiment ends here, or may not run, no engine follows that would update the summary.
        with suppress(EventLogError):  # it can be rebuilt from the log
            recorder.summarize(observer.summary())
        return folded._replace(seq=folded.seq + len(entries), last=entries[-1])

    def _check_bounds(self, folded: Folded) -> None:
        experiment = folded.experiment
        if (goal := experiment.goal_reached) is not None:
            raise RequestRefused(
                f"experiment {self.id} is where it was to get: {goal}. To go on, give it a better one, or none: "
                f"ashwood resume {self.id} --stop-when metric_at=METRIC (or none)"
            )
        if (invalid := experiment.too_many_invalid) is not None:
            raise RequestRefused(
                f"experiment {self.id} is paused: {invalid}. To continue, raise the limit, then resume: "
                f"ashwood set {self.id} max_invalid_trials={2 * invalid.trials}"
            )
        ran, limit = folded.progress.trials.spending.driver_seconds, experiment.max_seconds
        if limit is not None and ran >= limit:
            raise RequestRefused(
                f"experiment {self.id} ran for {ran:.0f} s, and may run for {limit:.0f} s. To go on, give it more "
                f"time, or no limit: ashwood resume {self.id} --stop-when max_time=TIME (or none)"
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
        keeper = _SnapshotKeeper(self._home.snapshot(self.id), folded, lease)
        with (
            CheckpointDeletion(storage) as deletion,
            make_backend() as backend,
        ):
            observer.ready(backend.slots)
            engine = Engine(
                folded.experiment,
                log,
                backend,
                observers=[observer.observe, deletion.observe, keeper.observe],
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
            # Not after an error: what could not be recorded must not be in a snapshot either.
            keeper.save()
            return state


def _why_over(experiment: Experiment, number: ExperimentId) -> str:
    """Say why an experiment that has ended is not resumed, and how it can be if trials of it have failed."""
    state = experiment.state
    failed = sum(trial.state is TrialState.ERRORED for trial in experiment.trials.values())
    if state is ExperimentState.CANCELED or not (failed or state is ExperimentState.ERRORED):
        return f"is {state}: there is nothing left to run"
    trials = f"; {failed} of its trials failed" if failed else ""
    return f"is {state}{trials}. To retry them, fix the cause, then: ashwood resume {number} --retry-failed"


class _Start:
    """Beats while a driver waits before its loop begins, says what it waits for, and gives way to requests.

    When there is no driver, the command that sent a request carries it out, so no request waits for a storage.
    """

    def __init__(self, home: Home, experiment: ExperimentId, lease: Lease, observer: RunObserver) -> None:
        self._home = home
        self._experiment = experiment
        self._lease = lease
        self._observer = observer
        self._what = ""
        self._beats = 0

    def waits_for(self, what: str) -> None:
        """Note what the next steps wait for."""
        self._what, self._beats = what, 0

    def waits_for_gpus(self, log: EventLog, what: str) -> None:
        """Say at once which GPUs the driver waits for, also in lists."""
        self._what, self._beats = what, _SLOW_BEATS
        self._observer.warn(f"waiting for {what}. To use all GPUs nevertheless: --share")
        with suppress(EventLogError):
            log.append([], summary={**self._observer.summary(), WAITS: {"process": os.getpid(), "for": what}})

    def sleep(self, seconds: float) -> None:
        """Wait, and give a sign of life."""
        self.beat()
        time.sleep(seconds)

    def beat(self) -> None:
        """Give a sign of life.

        Raises:
            RequestRefused: somebody wants the experiment to pause or to end.
        """
        self._lease.beat()
        self._beats += 1
        if self._beats == _SLOW_BEATS:
            self._observer.warn(f"waiting for {self._what}")
        for _, request in self._home.store.pending(self._experiment):
            if isinstance(request, PauseRequested | CancelRequested | KillRequested):
                raise RequestRefused(
                    f"experiment {self._experiment} was not started: somebody asked for it to pause or to end while "
                    f"its driver waited for {self._what}"
                )


class _SnapshotKeeper:
    """Keeps a snapshot every so many entries, and at the end, so that a resumed experiment starts soon."""

    def __init__(self, path: Path, folded: Folded, lease: Lease) -> None:
        self._path = path
        self._folded = folded
        self._lease = lease
        self._saved = folded.seq
        self._not_before = 0.0

    def observe(self, entries: Sequence[Entry]) -> None:
        """Count the entries of a turn."""
        self._folded = self._folded._replace(seq=self._folded.seq + len(entries), last=entries[-1])
        if self._folded.seq - self._saved >= _SNAPSHOT_ENTRIES and elapsed() >= self._not_before:
            self.save()

    def save(self) -> None:
        """Keep a snapshot of what was observed last."""
        if self._folded.seq == self._saved:
            return
        began = elapsed()
        # One of 100,000 trials takes many seconds, in which nothing else beats.
        save_snapshot(self._path, self._folded, self._beat)
        self._saved = self._folded.seq
        # A large experiment's takes long, and mustn't take much of the driver's time.
        self._not_before = elapsed() + _SNAPSHOT_SHARE * (elapsed() - began)

    def _beat(self) -> None:
        with suppress(DiskFull):  # the next beat of the engine pauses the experiment for that reason
            self._lease.beat()


_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the loss of its terminal (SIGHUP)"}
"""Signals that pause an experiment, as people call them."""


@contextmanager
def _interruptible(engine: Engine, on_interrupt: Callable[[int], None], hurry: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C pause an engine, and the second one end it at once, also while its store is away."""
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

    # A lost terminal pauses too, unless somebody (nohup) had it ignored.
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
    place = str(path.absolute()) if path.is_dir() else _find_checkpoint(home, source)
    try:
        return replace(spec, source_checkpoint=keep_source(home, place))
    except (CheckpointError, OSError) as error:
        raise ConfigError([Problem("searcher", f"cannot keep checkpoint {place}: {error}")]) from error


def _find_checkpoint(home: Home, source: str) -> str:
    """The place of ``EXPERIMENT/TRIAL`` (its latest checkpoint) or ``EXPERIMENT/trial-N/length-N-attempt-N``."""
    experiment, _, rest = source.partition("/")
    key = "searcher.source_trial_id" if rest.isdigit() else "searcher.source_checkpoint_uuid"
    try:
        number = int(experiment)
        if number > LARGEST_ID:
            raise NotFound(f"there is no experiment of that number in {home.name}")
        spec = home.store.spec(number)
        storage = home.storage(number, spec)
        name = _latest_checkpoint(home.store.log(number), int(rest)) if rest.isdigit() else rest
        with storage.fetch(name):
            return storage.locate(name)
    except (ValueError, NotFound, EventLogError, CheckpointError) as error:
        raise ConfigError([Problem(key, f"no checkpoint {source[:_LONGEST_SHOWN]!r}: {error}")]) from error


def _latest_checkpoint(log: EventLog, trial: int) -> str:
    saved = [e.event.path for _, e in log.read() if isinstance(e.event, CheckpointSaved) and e.event.trial == trial]
    if not saved:
        raise NotFound(f"trial {trial} has no checkpoint")
    return saved[-1]
