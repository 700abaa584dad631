"""The backend of virtual time: an agenda of what happens when, and a clock that jumps from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil, inf

from ashwood.backends.port import Abort, Command, Finish, GoOn, NoteBest, StartAttempt, Suspend
from ashwood.errors import BackendError
from ashwood.experiment.events import (
    ABORTED,
    AttemptEnded,
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CapacityChanged,
    CheckpointSaved,
    Event,
    ValidationReported,
)
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId
from ashwood.simulation.costs import NO_COSTS, NO_FAULTS, Costs, Faults, Workers
from ashwood.simulation.training import Setting, Training

_LOST_AT_LEAST = 1_000
_LOST_PER_WORKER = 100


class VirtualClock:
    """Seconds that pass when something happens, and only then."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Seconds since the start."""
        return self.now

    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.now


@dataclass(slots=True)
class _Attempt:
    """A process that is thought of.

    Attributes:
        length: total length that it has reached: where its present stretch of training begins.
        target: total length at which it is to wait for a command.
        saved: total length of its latest checkpoint, or of the one that it started from.
        fate: what ends it against its will, unless it has ended by ``doom``.
        towards: total length at which its present stretch ends.
        since: when that stretch began, start-up left out.
        seconds: what it takes.
        due: which happening of the agenda comes next, by its sequence number; others of its are void.
            0: it waits for a command.
        leaving: it lets go of the trial, or is about to end otherwise.
        reported: its latest report.
    """

    number: int
    setting: Setting
    slot: int
    length: int
    target: int
    saved: int
    doom: float
    fate: Event | None
    towards: int = 0
    since: float = 0.0
    seconds: float = 0.0
    due: int = 0
    leaving: bool = False
    reported: ValidationReported | None = None


class SimulatedBackend:
    """Runs attempts in virtual time; see `ashwood.backends.port.Backend`.

    One thing happens at a time, in order of (virtual time, sequence), so that the same search
    takes the same course on any machine.  A worker that is taken away, and one whose process
    crashes, takes with it what was trained since the latest checkpoint.

    Attributes:
        clock: the virtual time, in seconds since the start; the engine's clock too.
        slots: how many workers there are now.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        training: Training,
        workers: Workers | int,
        *,
        costs: Costs = NO_COSTS,
        faults: Faults = NO_FAULTS,
        period: int | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        """A backend for one experiment.

        Args:
            spec: the experiment: the name and the direction of its metric.
            training: what trials take and come to.
            workers: how many there are, for ever or from when on, counted from now.
            costs: what else takes time.
            faults: what goes wrong.
            period: a validation, and a checkpoint that takes no time, every so many units of length;
                None: validations at targets only, checkpoints when a trial lets go.
            clock: that of the backend that ran the experiment before, whose time goes on; None: a new one.
        """
        schedule = Workers.always(workers) if isinstance(workers, int) else workers
        self.clock = clock or VirtualClock()
        self.slots = schedule.first
        self._metric = spec.metric
        self._sign = 1 if spec.smaller_is_better else -1
        self._training = training
        self._costs = costs
        self._faults = faults
        self._period = period
        self._seq = 0
        # What happens when: (time, sequence, event, its attempt).
        self._agenda: list[tuple[float, int, Event, _Attempt | None]] = []
        # What has happened already and wasn't told.
        self._untold: list[Event] = []
        self._live: dict[TrialId, _Attempt] = {}
        self._free = list(range(self.slots))
        self._lost_in_a_row = 0
        self._woken = False
        for at, number in schedule.later():
            self._plan(self.clock.now + at, CapacityChanged(number), None)

    # -- the port -----------------------------------------------------------------------------

    def dispatch(self, commands: Sequence[Command]) -> None:
        """Carry commands out."""
        for command in commands:
            attempt = self._live.get(command.trial)
            is_live = attempt is not None and attempt.number == command.attempt
            if isinstance(command, StartAttempt):
                if not is_live:
                    self._start(command)
            elif attempt is not None and is_live:
                self._obey(attempt, command)

    def expect(self, attempts: int | None) -> None:
        """Its workers come and go as they were told to."""

    def next_events(self, timeout: float | None) -> Sequence[Event]:
        """What happens next, with the clock moved to it; nothing where that is later than ``timeout``.

        Raises:
            BackendError: nothing will ever happen any more, or the same for ever: attempts that are lost
                before any reports.
        """
        if self._woken:
            self._woken = False
            return ()
        if self._untold:
            told, self._untold = self._untold, []
            return told
        until = inf if timeout is None else self.clock.now + timeout
        agenda = self._agenda
        while agenda and agenda[0][0] <= until:
            at, number, event, attempt = heappop(agenda)
            if attempt is None or attempt.due == number:
                self.clock.now = at
                return self._happen(event, attempt)
        if timeout is None:
            raise BackendError("the simulation has come to a standstill: no worker has anything left to do")
        self.clock.now = until
        return ()

    def wake(self) -> None:
        """Make ``next_events`` return nothing once."""
        self._woken = True

    def close(self) -> None:
        """Forget everything that was to happen."""
        self._agenda.clear()
        self._untold.clear()
        self._live.clear()

    # -- what attempts are told ------------------------------------------------------------------

    def _start(self, start: StartAttempt) -> None:
        trial, number = start.trial, start.attempt
        doom, fate = self._fate(start)
        setting = Setting(trial, start.seed, start.hparams)
        slot = heappop(self._free)
        attempt = _Attempt(number, setting, slot, start.length, start.target, start.length, doom, fate)
        self._live[trial] = attempt
        self._untold.append(AttemptStarted(trial, number, slot, start.length))
        self._train(attempt, self._costs.setting_up(start.length))

    def _fate(self, start: StartAttempt) -> tuple[float, Event | None]:
        """When an attempt that starts now comes to grief, and how; infinite: never."""
        crash = self._faults.crash_after(start.seed, start.attempt)
        preemption = self._faults.preempted_after(start.seed, start.attempt)
        if crash == preemption == inf:
            return inf, None
        if crash <= preemption:
            return self.clock.now + crash, AttemptFailed(start.trial, start.attempt, "simulated crash")
        return self.clock.now + preemption, AttemptPreempted(start.trial, start.attempt, "simulated preemption")

    def _obey(self, attempt: _Attempt, command: GoOn | Finish | Suspend | NoteBest | Abort) -> None:
        waits = attempt.due == 0
        match command:
            case GoOn(target=target) if waits:
                attempt.target = target
                self._train(attempt, 0.0)
            case Finish(save=save) if waits:
                self._let_go(attempt, 0.0, save=save)
            case Suspend() if not attempt.leaving:
                self._suspend(attempt)
            case Abort(trial=trial, attempt=number):
                attempt.leaving = True
                self._untold = [event for event in self._untold if event[:2] != (trial, number)]
                self._due(attempt, 0.0, AttemptFailed(trial, number, ABORTED))

    def _train(self, attempt: _Attempt, delay: float) -> None:
        """Train to the target, or to where the next validation is, after so many seconds of start-up."""
        setting, begin = attempt.setting, attempt.length
        end = max(begin, attempt.target)
        if self._period is not None:
            end = min(end, (begin // self._period + 1) * self._period)
        seconds, loss = self._training.train(setting, begin, end)
        seconds *= self._costs.delay(setting.seed, begin)
        attempt.towards, attempt.since, attempt.seconds = end, self.clock.now + delay, seconds
        metrics = {self._metric: self._sign * loss}
        self._due(attempt, delay + seconds, ValidationReported(setting.trial, attempt.number, end, metrics))

    def _suspend(self, attempt: _Attempt) -> None:
        """Let go after the step that is being trained; where none has begun, at once."""
        steps, passed = attempt.towards - attempt.length, self.clock.now - attempt.since
        rest = 0.0
        if attempt.due and steps > 0 and passed > 0:
            done = min(steps, ceil(steps * passed / attempt.seconds))
            rest = max(0.0, attempt.seconds * done / steps - passed)
            attempt.length += done
        self._let_go(attempt, rest, save=attempt.length > attempt.saved)

    def _let_go(self, attempt: _Attempt, seconds: float, *, save: bool) -> None:
        """End in good order, ``seconds`` from now and what saving takes."""
        attempt.leaving = True
        if save:
            self._due(attempt, seconds + self._costs.save, self._checkpoint(attempt))
        else:
            self._due(attempt, seconds, AttemptEnded(attempt.setting.trial, attempt.number, attempt.length))

    def _checkpoint(self, attempt: _Attempt) -> CheckpointSaved:
        trial, number, length = attempt.setting.trial, attempt.number, attempt.length
        report = attempt.reported
        metrics = report.metrics if report is not None and report.length == length else {}
        return CheckpointSaved(trial, number, length, f"trial-{trial}/length-{length}-attempt-{number}", metrics)

    # -- what happens ---------------------------------------------------------------------------

    def _happen(self, event: Event, attempt: _Attempt | None) -> Sequence[Event]:
        """Let something happen; returns it, and what it entails at once."""
        if attempt is None:
            if isinstance(event, CapacityChanged):
                self._resize(event.slots)
            return (event,)
        if isinstance(event, ValidationReported):
            self._lost_in_a_row = 0
            attempt.length, attempt.due, attempt.reported = event.length, 0, event
            if event.length >= attempt.target:
                return (event,)
            saved = self._checkpoint(attempt)
            attempt.saved = event.length
            self._train(attempt, 0.0)
            return (event, saved)
        del self._live[attempt.setting.trial]
        if attempt.slot < self.slots:
            heappush(self._free, attempt.slot)
        if isinstance(event, CheckpointSaved):
            return (event, AttemptEnded(event.trial, event.attempt, event.length))
        if isinstance(event, AttemptPreempted):
            self._note_loss()
        return (event,)

    def _note_loss(self) -> None:
        self._lost_in_a_row += 1
        if self._lost_in_a_row > _LOST_AT_LEAST + _LOST_PER_WORKER * self.slots:
            raise BackendError(
                f"the simulation gets nowhere: {self._lost_in_a_row} attempts in a row were preempted before any "
                "reported anything. Let preemptions be rarer, or give a period, so that attempts save on the way"
            )

    def _resize(self, slots: int) -> None:
        """There is another number of workers; those with the highest numbers go first."""
        self.slots = slots
        for trial, attempt in self._live.items():
            if attempt.slot >= slots:
                attempt.leaving = True
                self._due(attempt, 0.0, AttemptPreempted(trial, attempt.number, "its worker was taken away"))
        taken = {attempt.slot for attempt in self._live.values()}
        self._free = [slot for slot in range(slots) if slot not in taken]

    # -- the agenda -----------------------------------------------------------------------------

    def _due(self, attempt: _Attempt, seconds: float, event: Event) -> None:
        """What happens to an attempt next, in place of what was to; its fate, if that comes earlier."""
        at = self.clock.now + seconds
        if attempt.fate is not None and attempt.doom < at:
            # While it waited for a command its hour may have come and gone.
            at, event = max(self.clock.now, attempt.doom), attempt.fate
        attempt.due = self._plan(at, event, attempt)

    def _plan(self, at: float, event: Event, attempt: _Attempt | None) -> int:
        self._seq += 1
        heappush(self._agenda, (at, self._seq, event, attempt))
        return self._seq
