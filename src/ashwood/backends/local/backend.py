"""The local backend: one worker process a slot, spoken to over sockets."""

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
from types import TracebackType
from typing import Self

from ashwood.backends.local.command import fill_in
from ashwood.backends.local.exits import describe_exit
from ashwood.backends.local.liveness import Liveness
from ashwood.backends.local.logs import tail, trial_log, worker_log
from ashwood.backends.local.process import WardenProcess, WorkerProcess
from ashwood.backends.local.scratch import scratch_file
from ashwood.backends.local.setup import ALONE, Setup, Team
from ashwood.backends.local.slots import Machine, Slot, plan, survey
from ashwood.backends.local.trimmer import LogTrimmer
from ashwood.backends.local.warden import GRACE
from ashwood.backends.port import Abort, Command, Finish, GoOn, NoteBest, StartAttempt, Suspend
from ashwood.backends.waker import Waker
from ashwood.errors import BackendError, TrainingCodeError
from ashwood.experiment.events import (
    ABORTED,
    UNREACHABLE,
    AttemptEnded,
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CheckpointDamaged,
    CheckpointSaved,
    Event,
    HparamsRejected,
    StorageFailed,
    TrialStopped,
    TrialTrained,
    TrialWarned,
    ValidationReported,
)
from ashwood.experiment.placeholders import OTHERS
from ashwood.experiment.spec import EntrypointKind, ExperimentSpec, Length
from ashwood.search.vocabulary import TrialId
from ashwood.trial.channel import Message, Phase
from ashwood.trial.directory import FOLDER, directory_name
from ashwood.trial.sharing import make_shared

_CLOSE_SECONDS = 1.0
_PULSE = 1.0
_BURIAL_SECONDS = 5.0
"""Seconds after which a killed worker is given up, though the kernel has not ended it: a disk may not answer."""
_LAST = frozenset({"ended", "failed", "no_space", "no_storage", "damaged", "invalid", "stopped"})
_TRAINED_SECONDS = (0.5, 60.0)
"""Shortest and longest training time after which it is told how long an attempt has trained, if that is limited."""
_ROUNDING = 1e-3
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""Exits that training code doesn't take by itself."""


@dataclass(slots=True)
class _Place:
    """A slot.

    Attributes:
        worker: the worker in it, or None.
        attempt: the attempt that the worker has, or None.
        aborted: whether the attempt was killed on request.
        ending: how an attempt ends that was killed because it hangs, or None if it was not.
        buried_at: when a worker that was killed is given up, though its process has not ended.
        liveness: the signs of life of the attempt.
        target: total length at which the attempt waits for the search.
        directory: the directory of the trial.
        told: for how many seconds the attempt has trained as far as that was told.
        tells_every: seconds of training after which that is told again; infinite: never.
    """

    slot: Slot
    worker: WorkerProcess | None = None
    attempt: tuple[TrialId, int] | None = None
    aborted: bool = False
    ending: AttemptPreempted | AttemptFailed | None = None
    buried_at: float = inf
    liveness: Liveness | None = None
    target: int = 0
    directory: Path = Path()
    told: float = 0.0
    tells_every: float = inf

    @property
    def is_killed(self) -> bool:
        return self.aborted or self.ending is not None

    @property
    def due(self) -> float:
        """When the attempt must be looked at, whatever it says by then."""
        if self.liveness is None or self.is_killed:
            return self.buried_at
        return min(self.liveness.due, self.liveness.trained_for(self.told + self.tells_every))

    def tell_training(self, now: float, at_least: float = 0.0) -> Iterator[TrialTrained]:
        """Yield for how long the attempt has trained since that was told last, if it is longer than ``at_least``.

        An attempt that was killed on request has only its last word left to tell.
        """
        if self.attempt is None or self.liveness is None or self.tells_every == inf or self.aborted:
            return
        if (seconds := self.liveness.trained(now) - self.told) > at_least:
            self.told += seconds
            yield TrialTrained(*self.attempt, seconds)


class LocalBackend:
    """Runs attempts in processes on this machine.

    A worker starts when it is first needed, imports the training code once, and stays.  One that
    dies takes its attempt with it, and nothing else; its slot gets a new one.
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
        fence: Path | None = None,
        machine: Machine | None = None,
        locks: Callable[[Sequence[str]], Sequence[int]] = lambda _: (),
        grace: float = GRACE,
        team: Team = ALONE,
        number: int = 0,
    ) -> None:
        """Look the machine over; no process starts yet.

        Args:
            spec: the experiment.
            checkpoints: storage of the checkpoints, an absolute directory or a URL.
            logs: directory for what trials and workers print.
            directories: folder for the directories of trials; None: the folder ``trials`` beside ``logs``.
            workers: how many workers; None: as many as the GPUs, or without any the cores, have room for.
            process_per_attempt: run each attempt in a process forked from its worker, so that whatever it
                held is surely free afterwards; by default, on GPUs and if the experiment says so.
            fence: file that every process of an attempt holds locked for as long as it lives, so that the next
                driver can `ashwood.backends.local.clear_former_workers`; None: nobody will ask.
            machine: what of this machine there is to run on; None: all of it.
            locks: returns the descriptors that a worker holds as long as it lives, given its GPUs; see
                `ashwood.backends.local.reservation`.
            grace: seconds that workers get to save their trials should this process die.
            team: which of the processes that train a trial together this backend has.
            number: number of the experiment in its home.

        Raises:
            BackendError: not even one trial fits, or the command names an unknown hyperparameter.
        """
        self._spec = spec
        self._logs = logs.absolute()
        self._locks = locks
        self._directories = (directories or logs.with_name(FOLDER)).absolute()
        self._fence = None if fence is None else fence.absolute()
        base = dict(os.environ)
        slots = plan(spec, machine or survey(base | dict(spec.environment)), workers, base)
        if process_per_attempt is None:
            process_per_attempt = bool(slots[0].gpus) or not spec.reuse_workers
        self._places = [_Place(slot) for slot in slots]
        self._live: dict[tuple[TrialId, int], _Place] = {}
        self._untold: dict[tuple[TrialId, int], Event] = {}
        self._loaded_once = False
        self._leads = team.rank == 0
        self._is_alone = team.world_size == 1
        self._broken: str | None = None
        self._closed = False
        check_command(spec)
        if not Path(spec.workdir).is_dir():
            raise BackendError(
                f"the work directory {spec.workdir} isn't there; if it was moved, resume with --workdir DIR"
            )
        try:
            make_shared(self._logs)
        except OSError as error:
            raise BackendError(f"can't make {self._logs}, where trials' output goes: {error.strerror}") from error
        self._setup = scratch_file()
        setup = _setup(spec, checkpoints, self._logs, process_per_attempt, team, number)
        self._setup.write(json.dumps(setup).encode())
        self._setup.flush()
        self._selector = selectors.DefaultSelector()
        self._waker = Waker()
        self._selector.register(self._waker, selectors.EVENT_READ, None)
        self._grace = grace
        self._warden: WardenProcess | None = None
        self._trimmer = LogTrimmer(spec.max_log_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def slots(self) -> int:
        """How many attempts can be live at once: one a worker."""
        return len(self._places)

    # -- commands -----------------------------------------------------------------------------

    def dispatch(self, commands: Sequence[Command]) -> None:
        """Carry commands out; see `ashwood.backends.port.Backend`."""
        if self._broken is not None or self._closed:
            raise BackendError(self._broken or "the backend is closed")
        starts: dict[tuple[TrialId, int], StartAttempt] = {}
        for command in commands:
            attempt = (command.trial, command.attempt)
            if isinstance(command, StartAttempt):
                if attempt not in self._live and attempt not in self._untold:
                    starts[attempt] = command
            elif attempt in starts:
                # A worker that had the job already might begin to train before it learns that it shall not.
                if isinstance(command, Abort):
                    del starts[attempt]
                    self._untold[attempt] = AttemptFailed(*attempt, ABORTED)
                elif isinstance(command, Suspend):
                    self._untold[attempt] = AttemptEnded(*attempt, starts.pop(attempt).length)
            elif (place := self._live.get(attempt)) is not None and place.worker is not None:
                if isinstance(command, Abort):
                    place.aborted = True
                    self._kill(place, place.worker)
                else:
                    _note_command(place, command)
                    place.worker.send(*_message(command))
        for attempt, start in starts.items():
            self._start(attempt, start)

    def expect(self, attempts: int | None) -> None:
        """This machine is as large as it is."""

    def _start(self, attempt: tuple[TrialId, int], command: StartAttempt) -> None:
        free = [place for place in self._places if place.attempt is None]
        if not free:
            raise BackendError(f"no slot is free for trial {command.trial}: all {self.slots} are taken")
        place = next((place for place in free if place.worker is not None), free[0])
        worker = place.worker or self._spawn(place)
        place.attempt = attempt
        place.liveness = Liveness(
            time.monotonic(),
            grace=self._spec.grace_period,
            # The other processes of a trial wait for the one that leads.
            max_silence=self._spec.max_silence if self._leads else None,
            pulse=_pulse(self._spec),
        )
        place.target = command.target
        place.told, place.tells_every = 0.0, _tells_every(self._spec) if self._leads else inf
        self._live[attempt] = place
        self._trimmer.keep(trial_log(self._logs, command.trial))
        place.directory = self._directories / directory_name(command.trial, command.hparams, command.seed)
        worker.send("job", {**command._asdict(), "trial_directory": str(place.directory)})

    def _kill(self, place: _Place, worker: WorkerProcess) -> None:
        worker.kill_job()
        place.buried_at = time.monotonic() + _BURIAL_SECONDS

    def _spawn(self, place: _Place) -> WorkerProcess:
        slot = place.slot
        log = worker_log(self._logs, slot.number)
        try:
            if self._warden is None:
                self._warden = WardenProcess(self._grace)
            locks = self._locks(slot.gpus)
            worker = WorkerProcess(self._setup, slot.environment, self._spec.workdir, log, self._fence, locks)
            self._warden.watch(worker.pid)
        except OSError as error:
            raise BackendError(f"can't start a worker process: {error}") from error
        place.worker = worker
        self._trimmer.keep(log)
        for source, tells_end in worker.sources.items():
            self._selector.register(source, selectors.EVENT_READ, (place, tells_end))
        return worker

    # -- events -------------------------------------------------------------------------------

    def next_events(self, timeout: float | None) -> Sequence[Event]:
        """What happened since the last call; see `ashwood.backends.port.Backend`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        events = list(self._untold.values())
        self._untold.clear()
        events.extend(self._kill_hung())
        while not events:
            if self._broken is not None:
                raise BackendError(self._broken)
            until = min(inf if deadline is None else deadline, *(place.due for place in self._places))
            ready = self._selector.select(None if until == inf else max(0.0, until - time.monotonic()))
            woken = False
            for key, _ in ready:
                if key.data is None:
                    self._waker.rest()
                    woken = True
                else:
                    events.extend(self._hear(*key.data))
            if not ready or woken:
                break
        return events

    def _kill_hung(self) -> Iterator[Event]:
        """Kill attempts that hang, and give up workers that the kernel does not end."""
        for place in self._places:
            worker, liveness, now = place.worker, place.liveness, time.monotonic()
            if worker is None or liveness is None or now < place.due:
                continue
            if place.is_killed:
                yield from self._bury(place, worker)
                continue
            yield from place.tell_training(now, at_least=place.tells_every - _ROUNDING)
            if liveness.is_hung(now, _size_of):
                # What it has sent and the driver has not read may be a sign of life, or its last message.
                yield from self._hear(place, exited=False)
                if place.liveness is liveness and liveness.is_hung(now, _size_of):
                    place.ending = self._ending_of(place.attempt, liveness)
                    self._kill(place, worker)

    def _ending_of(
        self, attempt: tuple[TrialId, int] | None, liveness: Liveness
    ) -> AttemptPreempted | AttemptFailed | None:
        if attempt is None:
            return None
        silent = "it finished no step and no save for"
        if liveness.must_stop:
            return AttemptPreempted(*attempt, f"{silent} {liveness.limit:g} s after the request to stop", hung=True)
        said = tail(trial_log(self._logs, attempt[0]))
        return AttemptFailed(*attempt, f"{silent} {self._spec.max_silence:g} s (max_silence){said}")

    def _hear(self, place: _Place, exited: bool) -> Iterator[Event]:
        worker = place.worker
        if worker is None:  # buried earlier in this very round
            return
        messages, open_ = worker.read()
        yield from self._translate(messages, place, worker)
        if exited or not open_ or worker.doomed:
            yield from self._bury(place, worker)

    def _translate(self, messages: Sequence[Message], place: _Place, worker: WorkerProcess) -> Iterator[Event]:
        for message in messages:
            kind = message[0]
            if kind == "ready":
                worker.loaded = self._loaded_once = True
            elif kind == "cannot_load" and self._loaded_once:
                # It could be loaded before: what came since costs this attempt, not those of the other workers.
                worker.complaint = message[1]
            elif kind in ("cannot_load", "unusable"):
                self._broken = message[1]
            elif place.attempt is None:
                continue
            elif kind == "group":
                self._note_group(place, worker, message[1])
            elif kind == "joined":
                self._note_joined(place, worker, message[1])
            else:
                yield from self._tell(message, place, worker, place.attempt)

    def _tell(
        self, message: Message, place: _Place, worker: WorkerProcess, attempt: tuple[TrialId, int]
    ) -> Iterator[Event]:
        """Return the event that a message about an attempt tells of, if it does, and take note of signs of life."""
        kind = message[0]
        _note_progress(place, message, self._spec.metric)
        if kind in ("alive", "phase") or (place.aborted and kind not in _LAST):
            return
        event = _event(message, attempt, place.slot.number)
        if place.aborted:  # Whatever the word is: after a failure the engine looks for untold checkpoints.
            event = AttemptFailed(*attempt, ABORTED)
        elif place.ending is not None and kind == "failed":
            event = place.ending
        if kind in _LAST:
            yield from place.tell_training(time.monotonic())
            self._free(place, worker)
        yield event

    def _note_group(self, place: _Place, worker: WorkerProcess, group: int | None) -> None:
        """The job has a process group of its own (None: it has ended)."""
        if self._warden is not None:
            for former in (*worker.joined, *filter(None, (worker.group,))):
                self._warden.forget(former)
            if group is not None:
                self._warden.watch(group)
        worker.group = group
        worker.joined.clear()
        if place.is_killed and group is not None:  # it began while its predecessor was killed
            worker.kill_job()

    def _note_joined(self, place: _Place, worker: WorkerProcess, group: int) -> None:
        """A process of the job has another process group: a launcher started it in a session of its own."""
        worker.join(group)
        if self._warden is not None:
            self._warden.watch(group)
        if place.is_killed:
            worker.kill_job()

    def _free(self, place: _Place, worker: WorkerProcess) -> None:
        if place.attempt is not None:
            del self._live[place.attempt]
            self._trimmer.release(trial_log(self._logs, place.attempt[0]))
            place.attempt = None
            place.aborted, place.ending, place.buried_at, place.liveness = False, None, inf, None
            if self._is_alone:  # Otherwise another process of the trial may be about to write into it.
                with suppress(OSError):  # It is not empty, so it is kept.
                    place.directory.rmdir()
        if worker.group is not None:
            self._note_group(place, worker, None)

    def _bury(self, place: _Place, worker: WorkerProcess) -> Iterator[Event]:
        """A worker is dead: its attempt has failed, its slot is free."""
        for source in worker.sources:
            self._selector.unregister(source)
        code, last_words = worker.bury()
        yield from self._translate(last_words, place, worker)
        place.worker = None
        self._trimmer.release(worker_log(self._logs, place.slot.number))
        if self._warden is not None:
            self._warden.forget(worker.pid)
        attempt, aborted, ending = place.attempt, place.aborted, place.ending
        yield from place.tell_training(time.monotonic())
        self._free(place, worker)
        if attempt is None:
            return
        if aborted:
            yield AttemptFailed(*attempt, ABORTED)
            return
        if ending is not None:
            yield ending
            return
        if worker.complaint is not None:
            yield AttemptFailed(*attempt, worker.complaint)
            return
        story = describe_exit(code, "the worker process")
        if worker.loaded:
            yield AttemptFailed(*attempt, story + tail(trial_log(self._logs, attempt[0])))
            return
        story = f"{story} while it imported the training code{tail(worker_log(self._logs, place.slot.number))}"
        if self._loaded_once or code in _FROM_OUTSIDE:
            yield AttemptFailed(*attempt, story)
        else:
            self._broken = self._broken or story

    def wake(self) -> None:
        """Make `next_events` return early."""
        self._waker.wake()

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """End every process that is left: idle workers leave, busy ones are terminated, and killed if need be."""
        if self._closed:
            return
        self._closed = True
        workers = [place.worker for place in self._places if place.worker is not None]
        for place in self._places:
            if place.worker is not None:
                place.worker.hang_up()
                if place.attempt is not None:
                    place.worker.kill(signal.SIGTERM)
        deadline = time.monotonic() + _CLOSE_SECONDS
        for worker in workers:
            worker.wait(deadline - time.monotonic())
        for worker in workers:
            worker.kill(signal.SIGKILL)
            worker.bury()
        if self._warden is not None:
            for group in (group for worker in workers for group in (worker.pid, worker.group, *worker.joined) if group):
                self._warden.forget(group)
            self._warden.close()
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
            "max_length": spec.search.max_length,
            "experiment_id": number,
            "experiment_name": spec.name,
            "pulse": _pulse(spec),
            **team._asdict(),
        },
    )


def _pulse(spec: ExperimentSpec) -> float:
    """Return how many seconds the news of a finished step may be late."""
    limits = [limit / 4 for limit in (spec.grace_period, spec.max_silence) if limit is not None]
    return min([_PULSE, *limits])


def _tells_every(spec: ExperimentSpec) -> float:
    """Return after how many seconds of training it is told how long an attempt has trained; infinite: never.

    A trial may train for so much longer than it may, and so much is not counted if the driver is killed.
    """
    shortest, longest = _TRAINED_SECONDS
    return inf if spec.max_trial_time is None else max(shortest, min(longest, spec.max_trial_time / 100))


def _note_command(place: _Place, command: GoOn | Finish | Suspend | NoteBest) -> None:
    if place.liveness is None or isinstance(command, NoteBest):
        return
    if isinstance(command, Suspend):
        place.liveness.ask_to_stop(time.monotonic())
        return
    if isinstance(command, GoOn):
        place.target = command.target
    if place.liveness.waits:  # What comes next is measured from the answer on.
        place.liveness.alive(time.monotonic())


def _note_progress(place: _Place, message: Message, metric: str) -> None:
    if place.liveness is None:
        return
    now = time.monotonic()
    match message:
        case ["alive", longest]:
            place.liveness.alive(now, longest)
        case ["phase", phase, directory]:
            place.liveness.enter(now, Phase(phase), directory)
        case ["started", *_]:
            place.liveness.begin(now)
        case ["checkpoint", *_]:
            place.liveness.alive(now)
        case ["report", length, metrics] if length >= place.target and metric in metrics:
            place.liveness.wait(now)


def _size_of(directory: str) -> object:
    """Return the number of files under a directory, their bytes in all, and when the latest was changed."""
    count, size, changed = 0, 0, 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):  # it is renamed or deleted meanwhile
                found = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - faster for many files
                count, size, changed = count + 1, size + found.st_size, max(changed, found.st_mtime_ns)
    return count, size, changed


def _pair(length: Length | None) -> tuple[int, str] | None:
    return None if length is None else (length.count, length.unit)


def check_command(spec: ExperimentSpec) -> None:
    """Make sure that a command, where that is the training code, names hyperparameters that there are.

    Raises:
        BackendError: it doesn't.
    """
    if spec.entrypoint.kind is not EntrypointKind.COMMAND:
        return
    try:
        fill_in(spec.entrypoint.target, spec.space.sample(spec.seed, 0, 0), dict.fromkeys(OTHERS[1:], ""))
    except TrainingCodeError as error:
        raise BackendError(f"entrypoint: {error}") from None


def _message(command: GoOn | Finish | Suspend | NoteBest) -> Message:
    match command:
        case GoOn(target=target):
            return ["go", target]
        case Finish(save=save):
            return ["finish", save]
        case Suspend():
            return ["suspend"]
        case NoteBest(loss=loss):
            return ["best", loss]


def _event(message: Message, attempt: tuple[TrialId, int], slot: int) -> Event:
    match message:
        case ["report", length, metrics]:
            return ValidationReported(*attempt, length, metrics)
        case ["started", length]:
            return AttemptStarted(*attempt, slot, length)
        case ["checkpoint", length, path, metrics]:
            return CheckpointSaved(*attempt, length, path, metrics)
        case ["warning", said]:
            return TrialWarned(*attempt, said)
        case ["ended", length]:
            return AttemptEnded(*attempt, length)
        case ["failed", error, *cause]:
            return AttemptFailed(*attempt, error, *cause)
        case ["no_space", error]:
            return StorageFailed(*attempt, error)
        case ["no_storage", error]:
            return StorageFailed(*attempt, error, UNREACHABLE)
        case ["invalid", why]:
            return HparamsRejected(*attempt, why)
        case ["stopped"]:
            return TrialStopped(*attempt)
        case ["damaged", path, why]:
            return CheckpointDamaged(*attempt, path, why)
    raise BackendError(f"a worker sent {message!r}, which no version of the protocol knows")
