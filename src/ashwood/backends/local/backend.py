"""The local backend: one worker process in each slot, connected by a socket."""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Self

from ashwood.backends.local.command import fill_in
from ashwood.backends.local.exits import describe_exit
from ashwood.backends.local.liveness import Liveness
from ashwood.backends.local.logs import tail, trial_log, worker_log
from ashwood.backends.local.process import ReaperProcess, WorkerProcess
from ashwood.backends.local.reaper import GRACE
from ashwood.backends.local.scratch import scratch_file
from ashwood.backends.local.setup import ALONE, Setup, Team, file_settings
from ashwood.backends.local.slots import Machine, Slot, plan, survey
from ashwood.backends.local.trimmer import LogTrimmer
from ashwood.backends.port import Abort, Command, ContinueAttempt, Finish, NoteBest, StartAttempt, Suspend
from ashwood.backends.waker import Waker
from ashwood.checkpoints.directory import FOLDER, directory_name
from ashwood.checkpoints.sharing import make_shared
from ashwood.errors import BackendError, TrainingCodeError
from ashwood.experiment import events as e
from ashwood.experiment.placeholders import OTHERS
from ashwood.experiment.spec import EntrypointKind, ExperimentSpec, Length
from ashwood.search.vocabulary import TrialId
from ashwood.trial.channel import Message, Phase

_CLOSE_SECONDS = 1.0
"""Seconds between SIGTERM and SIGKILL for workers when the backend is closed."""
_PULSE = 1.0
"""Longest time in seconds until a worker reports that steps were finished."""
_GIVE_UP_SECONDS = 5.0
"""Seconds after which a killed worker is given up if the kernel has not ended it, perhaps because of a dead disk."""
_LAST = {cls.__name__: cls for cls in e.FinalEvent.__args__}
_REPORT_SECONDS = (0.5, 60.0)
"""Shortest and longest interval between events about an attempt's training time, if that is limited."""
_ROUNDING = 1e-3
_EXTERNAL_SIGNALS = (-signal.SIGKILL, -signal.SIGTERM)
"""Exit codes of processes that were killed from outside, not by their training code."""


@dataclass(slots=True)
class _SlotState:
    """A slot, its worker, and the worker's attempt.

    Attributes:
        worker: the worker process, or None.
        attempt: the attempt that the worker runs, or None.
        aborted: whether an `Abort` command killed the attempt.
        ending: last event of an attempt that was killed because it hung, or None if it was not.
        give_up_at: time at which a killed worker is given up if its process has not ended; infinite if it lives.
        liveness: signs of life of the attempt.
        target: total length at which the attempt waits for a command.
        directory: directory of the trial.
        reported: seconds of the attempt's training time that were reported in events.
        report_every: seconds of training time between such events; infinite if there are none.
    """

    slot: Slot
    worker: WorkerProcess | None = None
    attempt: tuple[TrialId, int] | None = None
    aborted: bool = False
    ending: e.AttemptPreempted | e.AttemptFailed | None = None
    give_up_at: float = inf
    liveness: Liveness | None = None
    target: int = 0
    directory: Path = Path()
    reported: float = 0.0
    report_every: float = inf

    @property
    def is_killed(self) -> bool:
        return self.aborted or self.ending is not None

    @property
    def due(self) -> float:
        """Time at which the attempt must be examined even if it sends no message."""
        if self.liveness is None or self.is_killed:
            return self.give_up_at
        return min(self.liveness.due, self.liveness.trained_for(self.reported + self.report_every))

    def report_training(self, now: float, at_least: float = 0.0) -> Iterator[e.TrialTrained]:
        """Yield an event with the training time since the last such event, if it is longer than ``at_least`` seconds.

        There is none for an aborted attempt, whose only remaining event is its final event.
        """
        if self.attempt is None or self.liveness is None or self.report_every == inf or self.aborted:
            return
        if (seconds := self.liveness.trained(now) - self.reported) > at_least:
            self.reported += seconds
            yield e.TrialTrained(*self.attempt, seconds)


class LocalBackend:
    """Runs attempts in worker processes on this machine.

    A worker starts when it is first needed, imports the training code once, and runs one attempt after the other.  If a
    worker dies, its attempt fails, no other attempt is affected, and its slot gets a new worker.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        *,
        checkpoints: str | Path,
        logs: Path,
        directories: Path | None = None,
        workers: int | None = None,
        process_per_attempt: bool | None = None,
        worker_lock: Path | None = None,
        machine: Machine | None = None,
        locks: Callable[[Sequence[str]], Sequence[int]] = lambda _: (),
        grace: float = GRACE,
        team: Team = ALONE,
        number: int = 0,
    ) -> None:
        """Plan the slots of this machine.  Processes start later, when they are needed.

        Args:
            spec: the experiment.
            checkpoints: checkpoint storage, an absolute directory or a URL.
            logs: directory for the output of trials and workers.
            directories: directory that contains those of the trials; by default ``trials`` beside ``logs``.
            workers: number of workers, or None for as many as fit on the GPUs, or on the cores if there is no GPU.
            process_per_attempt: run each attempt in a process forked from its worker, so that its memory and GPU are
                certainly free afterwards; by default on GPUs, and if the experiment sets ``reuse_workers: false``.
            worker_lock: file that every process of an attempt holds locked for as long as it lives, for
                `ashwood.backends.local.worker_lock.clear_former_workers` of the next driver; None for no such file.
            machine: the part of this machine to use, or None for all of it.
            locks: function that takes a worker's GPUs and returns descriptors that the worker holds for as long as it
                lives; see `ashwood.backends.local.reservation`.
            grace: seconds that workers get to save their trials if this process dies.
            team: rank of this backend's process among those that train a trial together.
            number: number of the experiment in its home.

        Raises:
            BackendError: not even one trial fits on the machine, the work directory is missing, or the command names
                an unknown hyperparameter.
        """
        self._spec = spec
        self._logs = logs.absolute()
        self._locks = locks
        self._directories = (directories or logs.with_name(FOLDER)).absolute()
        self._worker_lock = None if worker_lock is None else worker_lock.absolute()
        base = dict(os.environ)
        slots = plan(spec, machine or survey(base | dict(spec.environment)), workers, base)
        if process_per_attempt is None:
            process_per_attempt = bool(slots[0].gpus) or not spec.reuse_workers
        self._slot_states = [_SlotState(slot) for slot in slots]
        self._live: dict[tuple[TrialId, int], _SlotState] = {}
        self._undelivered: dict[tuple[TrialId, int], e.Event] = {}
        self._loaded_once = False
        self._leads = team.rank == 0
        self._is_alone = team.world_size == 1
        self._broken: str | None = None
        self._closed = False
        check_command(spec)
        if not Path(spec.workdir).is_dir():
            raise BackendError(
                f"The work directory {spec.workdir} does not exist. If it was moved, resume with --workdir DIR"
            )
        try:
            make_shared(self._logs)
        except OSError as error:
            raise BackendError(f"Cannot create {self._logs} for the output of trials: {error.strerror}") from error
        self._setup = scratch_file()
        setup = _setup(spec, checkpoints, self._logs, process_per_attempt, team, number)
        self._setup.write(json.dumps(setup).encode())
        self._setup.flush()
        self._selector = selectors.DefaultSelector()
        self._waker = Waker()
        self._selector.register(self._waker, selectors.EVENT_READ, None)
        self._grace = grace
        self._reaper: ReaperProcess | None = None
        self._trimmer = LogTrimmer(spec.max_log_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def slots(self) -> int:
        """Number of attempts that can be live at once, which is the number of workers."""
        return len(self._slot_states)

    # -- commands -----------------------------------------------------------------------------

    def dispatch(self, commands: Sequence[Command]) -> None:
        """Execute commands; see `ashwood.backends.port.Backend`."""
        if self._broken is not None or self._closed:
            raise BackendError(self._broken or "the backend is closed")
        starts: dict[tuple[TrialId, int], StartAttempt] = {}
        for command in commands:
            attempt = (command.trial, command.attempt)
            if isinstance(command, StartAttempt):
                if attempt not in self._live and attempt not in self._undelivered:
                    starts[attempt] = command
            elif attempt in starts:
                # This batch also starts the attempt.  If the job were sent to a worker first, the worker could begin to
                # train before it reads the second command.  So the job is not sent.
                if isinstance(command, Abort):
                    del starts[attempt]
                    self._undelivered[attempt] = e.AttemptFailed(*attempt, e.ABORTED)
                elif isinstance(command, Suspend):
                    self._undelivered[attempt] = e.AttemptEnded(*attempt, starts.pop(attempt).length)
            elif (state := self._live.get(attempt)) is not None and state.worker is not None:
                if isinstance(command, Abort):
                    state.aborted = True
                    self._kill(state, state.worker)
                else:
                    _note_command(state, command)
                    state.worker.send(*_message(command))
        for attempt, start in starts.items():
            self._start(attempt, start)

    def expect(self, attempts: int | None) -> None:
        """Do nothing: a local machine has a fixed number of slots."""

    def _start(self, attempt: tuple[TrialId, int], command: StartAttempt) -> None:
        free = [state for state in self._slot_states if state.attempt is None]
        if not free:
            raise BackendError(f"Cannot start trial {command.trial}: none of the {self.slots} slots is free")
        state = next((state for state in free if state.worker is not None), free[0])
        worker = state.worker or self._spawn(state)
        state.attempt = attempt
        state.liveness = Liveness(
            time.monotonic(),
            grace=self._spec.grace_period,
            # Only the leader of a trial (rank 0) reports progress; processes of other ranks wait for it.
            max_silence=self._spec.max_silence if self._leads else None,
            pulse=_pulse(self._spec),
        )
        state.target = command.target
        state.reported, state.report_every = 0.0, _report_every(self._spec) if self._leads else inf
        self._live[attempt] = state
        self._trimmer.keep(trial_log(self._logs, command.trial))
        state.directory = self._directories / directory_name(command.trial, command.hparams, command.seed)
        longest = self._spec.search.max_length if command.max_length is None else command.max_length
        worker.send("job", {**command._asdict(), "max_length": longest, "trial_directory": str(state.directory)})

    def _kill(self, state: _SlotState, worker: WorkerProcess) -> None:
        worker.kill_job()
        state.give_up_at = time.monotonic() + _GIVE_UP_SECONDS

    def _spawn(self, state: _SlotState) -> WorkerProcess:
        slot = state.slot
        log = worker_log(self._logs, slot.number)
        try:
            if self._reaper is None:
                self._reaper = ReaperProcess(self._grace)
            locks = self._locks(slot.gpus)
            worker = WorkerProcess(self._setup, slot.environment, self._spec.workdir, log, self._worker_lock, locks)
            self._reaper.watch(worker.pid)
        except OSError as error:
            raise BackendError(f"Cannot start a worker process: {error}") from error
        state.worker = worker
        self._trimmer.keep(log)
        for source, shows_end in worker.sources.items():
            self._selector.register(source, selectors.EVENT_READ, (state, shows_end))
        return worker

    # -- events -------------------------------------------------------------------------------

    def next_events(self, timeout: float | None) -> Sequence[e.Event]:
        """Return the events since the last call; see `ashwood.backends.port.Backend`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        events = list(self._undelivered.values())
        self._undelivered.clear()
        events.extend(self._kill_hung())
        while not events:
            if self._broken is not None:
                raise BackendError(self._broken)
            until = min(inf if deadline is None else deadline, *(state.due for state in self._slot_states))
            ready = self._selector.select(None if until == inf else max(0.0, until - time.monotonic()))
            woken = False
            for key, _ in ready:
                if key.data is None:
                    self._waker.drain()
                    woken = True
                else:
                    events.extend(self._read(*key.data))
            if not ready or woken:
                break
        return events

    def _kill_hung(self) -> Iterator[e.Event]:
        """Kill attempts that hang, give up workers that the kernel does not end, and yield the events of both."""
        for state in self._slot_states:
            worker, liveness, now = state.worker, state.liveness, time.monotonic()
            if worker is None or liveness is None or now < state.due:
                continue
            if state.is_killed:
                yield from self._reap(state, worker)
                continue
            yield from state.report_training(now, at_least=state.report_every - _ROUNDING)
            if liveness.is_hung(now, _size_of):
                # Messages that the driver has not read yet may contain a sign of life, or the last message of the
                # attempt.  Then it must not be killed.
                yield from self._read(state, exited=False)
                if state.liveness is liveness and liveness.is_hung(now, _size_of):
                    state.ending = self._ending_of(state.attempt, liveness)
                    self._kill(state, worker)

    def _ending_of(
        self, attempt: tuple[TrialId, int] | None, liveness: Liveness
    ) -> e.AttemptPreempted | e.AttemptFailed | None:
        if attempt is None:
            return None
        silent = "it finished no step and no save for"
        if liveness.must_stop:
            return e.AttemptPreempted(*attempt, f"{silent} {liveness.limit:g} s after the request to stop", hung=True)
        output = tail(trial_log(self._logs, attempt[0]))
        return e.AttemptFailed(*attempt, f"{silent} {self._spec.max_silence:g} s (max_silence){output}")

    def _read(self, state: _SlotState, exited: bool) -> Iterator[e.Event]:
        worker = state.worker
        if worker is None:  # The end of this worker was handled earlier in this round of the selector.
            return
        messages, open_ = worker.read()
        yield from self._translate(messages, state, worker)
        if exited or not open_ or worker.was_killed:
            yield from self._reap(state, worker)

    def _translate(self, messages: Sequence[Message], state: _SlotState, worker: WorkerProcess) -> Iterator[e.Event]:
        for message in messages:
            kind = message[0]
            if kind == "ready":
                worker.loaded = self._loaded_once = True
            elif kind == "cannot_load" and self._loaded_once:
                # Another worker has loaded the same code, so the cause may be temporary.  Only this attempt fails, not
                # the experiment.
                worker.load_error = message[1]
            elif kind in ("cannot_load", "unusable"):
                self._broken = message[1]
            elif state.attempt is None:
                continue
            elif kind == "group":
                self._note_group(state, worker, message[1])
            elif kind == "joined":
                self._note_joined(state, worker, message[1])
            else:
                yield from self._translate_one(message, state, worker, state.attempt)

    def _translate_one(
        self, message: Message, state: _SlotState, worker: WorkerProcess, attempt: tuple[TrialId, int]
    ) -> Iterator[e.Event]:
        """Record the signs of life in a message about an attempt, and yield its event if it has one."""
        kind = message[0]
        _note_progress(state, message, self._spec.metric)
        if kind in ("alive", "phase") or (state.aborted and kind not in _LAST):
            return
        event = _event(message, attempt, state.slot.number)
        if state.aborted:
            # An aborted attempt is reported as failed whatever its last message is, even AttemptEnded: after a failure,
            # the engine looks for checkpoints that no event has reported, because the abort may have hidden those
            # events.
            event = e.AttemptFailed(*attempt, e.ABORTED)
        elif state.ending is not None and kind == "AttemptFailed":
            event = state.ending
        if kind in _LAST:
            yield from state.report_training(time.monotonic())
            self._free(state, worker)
        yield event

    def _note_group(self, state: _SlotState, worker: WorkerProcess, group: int | None) -> None:
        """Record the process group of the current job, or None if the job has ended."""
        if self._reaper is not None:
            for former in (*worker.joined, *filter(None, (worker.group,))):
                self._reaper.unwatch(former)
            if group is not None:
                self._reaper.watch(group)
        worker.group = group
        worker.joined.clear()
        if state.is_killed and group is not None:
            # A command that ended early was started again while its previous process was being killed.
            worker.kill_job()

    def _note_joined(self, state: _SlotState, worker: WorkerProcess, group: int) -> None:
        """Record another process group of the current job, such as that of a process that a launcher started."""
        worker.join(group)
        if self._reaper is not None:
            self._reaper.watch(group)
        if state.is_killed:
            worker.kill_job()

    def _free(self, state: _SlotState, worker: WorkerProcess) -> None:
        if state.attempt is not None:
            del self._live[state.attempt]
            self._trimmer.release(trial_log(self._logs, state.attempt[0]))
            state.attempt = None
            state.aborted, state.ending, state.give_up_at, state.liveness = False, None, inf, None
        if worker.group is not None:
            self._note_group(state, worker, None)

    def _reap(self, state: _SlotState, worker: WorkerProcess) -> Iterator[e.Event]:
        """Collect the exit code of a dead worker, free its slot, and yield the last events of its attempt."""
        for source in worker.sources:
            self._selector.unregister(source)
        code, final_messages = worker.reap()
        yield from self._translate(final_messages, state, worker)
        state.worker = None
        self._trimmer.release(worker_log(self._logs, state.slot.number))
        if self._reaper is not None:
            self._reaper.unwatch(worker.pid)
        attempt, aborted, ending = state.attempt, state.aborted, state.ending
        # A worker that lives removes the directory itself if it is empty, so that it costs this thread nothing.
        if attempt is not None and self._is_alone:
            with suppress(OSError):
                state.directory.rmdir()
        yield from state.report_training(time.monotonic())
        self._free(state, worker)
        if attempt is None:
            return
        if aborted:
            yield e.AttemptFailed(*attempt, e.ABORTED)
            return
        if ending is not None:
            yield ending
            return
        if worker.load_error is not None:
            yield e.AttemptFailed(*attempt, worker.load_error)
            return
        error = describe_exit(code, "the worker process")
        if worker.loaded:
            yield e.AttemptFailed(*attempt, error + tail(trial_log(self._logs, attempt[0])))
            return
        error = f"{error} while it imported the training code{tail(worker_log(self._logs, state.slot.number))}"
        if self._loaded_once or code in _EXTERNAL_SIGNALS:
            yield e.AttemptFailed(*attempt, error)
        else:
            # The import crashed by itself and never succeeded in any worker, so no trial can run.
            self._broken = self._broken or error

    def wake(self) -> None:
        """Make `next_events` return early."""
        self._waker.wake()

    # -- closing ------------------------------------------------------------------------------

    def close(self) -> None:
        """End all processes: idle workers exit by themselves, and busy ones get SIGTERM, and SIGKILL a second later."""
        if self._closed:
            return
        self._closed = True
        workers = [state.worker for state in self._slot_states if state.worker is not None]
        for state in self._slot_states:
            if state.worker is not None:
                state.worker.disconnect()
                if state.attempt is not None:
                    state.worker.kill(signal.SIGTERM)
        deadline = time.monotonic() + _CLOSE_SECONDS
        for worker in workers:
            worker.wait(deadline - time.monotonic())
        for worker in workers:
            worker.kill(signal.SIGKILL)
            worker.reap()
        if self._reaper is not None:
            # The reaper kills the groups that it still watches when it ends.  These have ended, and their numbers may
            # have been reused.
            for group in (group for worker in workers for group in (worker.pid, worker.group, *worker.joined) if group):
                self._reaper.unwatch(group)
            self._reaper.close()
        self._trimmer.close()
        self._selector.close()
        self._waker.close()
        self._setup.close()


def _setup(
    spec: ExperimentSpec, checkpoints: str | Path, logs: Path, process_per_attempt: bool, team: Team, number: int
) -> Setup:
    return Setup(
        kind=spec.entrypoint.kind,
        target=spec.entrypoint.target,
        workdir=spec.workdir,
        logs=str(logs),
        arguments=spec.arguments,
        process_per_attempt=process_per_attempt,
        others={"experiment.id": number, "experiment.name": spec.name},
        common={
            "checkpoints": str(checkpoints),
            "data": dict(spec.data),
            "metric": spec.metric or None,
            "unit": spec.unit,
            "records_per_epoch": spec.records_per_epoch,
            "validation_period": _pair(spec.min_validation_period),
            "checkpoint_period": _pair(spec.min_checkpoint_period),
            "save_on": spec.save_on,
            "smaller_is_better": spec.smaller_is_better,
            "experiment": spec.identity,
            "halving": spec.search.method.is_halving,
            "open_ended": spec.search.open_ended,
            "experiment_id": number,
            "experiment_name": spec.name,
            "config": file_settings(spec.config_text, spec.provenance.get("overrides", ())),
            "pulse": _pulse(spec),
            **team._asdict(),
        },
    )


def _pulse(spec: ExperimentSpec) -> float:
    """Return the longest delay in seconds with which a worker reports finished steps."""
    limits = [limit / 4 for limit in (spec.grace_period, spec.max_silence) if limit is not None]
    return min([_PULSE, *limits])


def _report_every(spec: ExperimentSpec) -> float:
    """Return the interval between two events with training time, or infinity if training time is not limited.

    A trial can exceed its limit by this interval.  If the driver is killed, up to this much training time is not
    counted.
    """
    shortest, longest = _REPORT_SECONDS
    return inf if spec.max_trial_time is None else max(shortest, min(longest, spec.max_trial_time / 100))


def _note_command(state: _SlotState, command: ContinueAttempt | Finish | Suspend | NoteBest) -> None:
    if state.liveness is None or isinstance(command, NoteBest):
        return
    if isinstance(command, Suspend):
        state.liveness.ask_to_stop(time.monotonic())
        return
    if isinstance(command, ContinueAttempt):
        state.target = command.target
    if state.liveness.waits:  # The time until the next sign of life is measured from this answer on.
        state.liveness.alive(time.monotonic())


def _note_progress(state: _SlotState, message: Message, metric: str) -> None:
    if state.liveness is None:
        return
    now = time.monotonic()
    match message:
        case ["alive", longest]:
            state.liveness.alive(now, longest)
        case ["phase", phase, directory]:
            state.liveness.enter(now, Phase(phase), directory)
        case ["started", *_]:
            state.liveness.begin(now)
        case ["checkpoint", *_]:
            state.liveness.alive(now)
        case ["report", length, metrics] if length >= state.target and metric in metrics:
            state.liveness.wait(now)


def _size_of(directory: str) -> object:
    """Return the number of files under a directory, their total size, and the time of the latest change."""
    count, size, changed = 0, 0, 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):  # The file was renamed or deleted meanwhile.
                found = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - faster for many files
                count, size, changed = count + 1, size + found.st_size, max(changed, found.st_mtime_ns)
    return count, size, changed


def _pair(length: Length | None) -> tuple[int, str] | None:
    return None if length is None else (length.count, length.unit)


def check_command(spec: ExperimentSpec) -> None:
    """Check that a command names only hyperparameters of the experiment.  Other training code is not checked.

    Raises:
        BackendError: the command names an unknown hyperparameter.
    """
    if spec.entrypoint.kind is not EntrypointKind.COMMAND:
        return
    try:
        fill_in(spec.entrypoint.target, spec.space.sample(spec.seed, 0, 0), dict.fromkeys(OTHERS[1:], ""))
    except TrainingCodeError as error:
        raise BackendError(f"entrypoint: {error}") from None


def _message(command: ContinueAttempt | Finish | Suspend | NoteBest) -> Message:
    match command:
        case ContinueAttempt(target=target):
            return ["continue", target]
        case Finish(save=save):
            return ["finish", save]
        case Suspend():
            return ["suspend"]
        case NoteBest(loss=loss):
            return ["best", loss]


def _event(message: Message, attempt: tuple[TrialId, int], slot: int) -> e.Event:
    match message:
        case ["report", length, metrics]:
            return e.ValidationReported(*attempt, length, metrics)
        case ["started", length]:
            return e.AttemptStarted(*attempt, slot, length)
        case ["checkpoint", length, path, metrics, size]:
            return e.CheckpointSaved(*attempt, length, path, metrics, size)
        case ["warning", output]:
            return e.TrialWarned(*attempt, output)
        case [kind, *fields] if kind in _LAST:
            event: e.Event = _LAST[kind](*attempt, *fields)
            return event
    raise BackendError(f"Internal error: a worker sent an unknown message: {message!r}. Please report this")
