"""The backend of virtual time: an agenda of what happens when, and a clock that jumps from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil, inf

from ashwood.backends.port import Abort, Command, Finish, GoOn, StartAttempt, Suspend
from ashwood.errors import BackendError
from ashwood.experiment.events import (
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
        length: total length that it had reached at ``since``.
        towards: total length that its present stretch of training ends at.
        since: when that stretch began, start-up left out.
        seconds: what it takes.
        due: which event comes next, by its sequence number; others of its are void.  0: it waits for a command.
        crashes_in: seconds of work after which it crashes.
        preempted_in: seconds of work after which its worker is taken away.
    """

    number: int
    setting: Setting
    slot: int
    length: int
    target: int
    crashes_in: float
    preempted_in: float
    towards: int = 0
    since: float = 0.0
    seconds: float = 0.0
    due: int = 0


class SimulatedBackend:
    """Runs attempts in virtual time; see `ashwood.backends.port.Backend`.

    One event comes at a time, in order of (virtual time, sequence), so that the same search
    takes the same course on any machine.

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
    ) -> None:
        """A backend for one experiment.

        Args:
            spec: the experiment: the name and the direction of its metric.
            training: what trials take and come to.
            workers: how many there are, for ever or from when on.
            costs: what else takes time.
            faults: what goes wrong.
            period: a validation, and a checkpoint, every so many units of length; None: at targets only.
        """
        schedule = Workers.always(workers) if isinstance(workers, int) else workers
        self.clock = VirtualClock()
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
        self._woken = False
        for at, number in schedule.later():
            self._later(at, CapacityChanged(number), None)

    # -- the port -----------------------------------------------------------------------------

    def dispatch(self, commands: Sequence[Command]) -> None:
        """Carry commands out."""
        for command in commands:
            if isinstance(command, StartAttempt):
                self._start(command)
            elif (attempt := self._live.get(command.trial)) is not None and attempt.number == command.attempt:
                self._obey(attempt, command)

    def next_events(self, timeout: float | None) -> Sequence[Event]:
        """What happens next, with the clock moved to it; nothing where that is later than ``timeout``.

        Raises:
            BackendError: nothing will ever happen any more.
        """
        if self._woken:
            self._woken = False
            return ()
        if self._untold:
            told, self._untold = self._untold, []
            return told
        until = inf if timeout is None else self.clock.now + timeout
        while self._agenda and self._agenda[0][0] <= until:
            at, number, event, attempt = heappop(self._agenda)
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

    # -- attempts -----------------------------------------------------------------------------

    def _start(self, start: StartAttempt) -> None:
        live = self._live.get(start.trial)
        if live is not None and live.number == start.attempt:
            return
        attempt = _Attempt(
            start.attempt,
            Setting(start.trial, start.seed, start.hparams),
            heappop(self._free),
            start.length,
            start.target,
            self._faults.crash_after(start.seed, start.attempt),
            self._faults.preempted_after(start.seed, start.attempt),
        )
        self._live[start.trial] = attempt
        self._untold.append(AttemptStarted(start.trial, start.attempt, attempt.slot, start.length))
        self._train(attempt, self._costs.setting_up(start.length))

    def _obey(self, attempt: _Attempt, command: GoOn | Finish | Suspend | Abort) -> None:
        waits = attempt.due == 0
        match command:
            case GoOn(target=target) if waits:
                attempt.target = target
                self._train(attempt, 0.0)
            case Finish(save=save) if waits:
                self._let_go(attempt, 0.0, save=save)
            case Suspend() if waits:
                self._let_go(attempt, 0.0, save=True)
            case Suspend():
                self._suspend(attempt)
            case Abort(trial=trial, attempt=number):
                self._due(attempt, 0.0, AttemptFailed(trial, number, "killed on request"))

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
        report = ValidationReported(setting.trial, attempt.number, end, metrics)
        fault = self._fault(attempt, delay + seconds)
        self._due(attempt, *(fault or (delay + seconds, report)))

    def _fault(self, attempt: _Attempt, seconds: float) -> tuple[float, Event] | None:
        """When within so many seconds of work a fault ends the attempt, and which; None: none does."""
        if (first := min(attempt.crashes_in, attempt.preempted_in)) > seconds:
            attempt.crashes_in -= seconds
            attempt.preempted_in -= seconds
            return None
        trial, number = attempt.setting.trial, attempt.number
        if first == attempt.crashes_in:
            return first, AttemptFailed(trial, number, "simulated crash")
        return first, AttemptPreempted(trial, number, "simulated preemption")

    def _suspend(self, attempt: _Attempt) -> None:
        """Let go in the middle of a stretch, after the step that is being trained; before the first one, at once."""
        passed = self.clock.now - attempt.since
        if passed < 0 or attempt.towards <= attempt.length:
            self._let_go(attempt, 0.0, save=False)
            return
        steps = attempt.towards - attempt.length
        done = min(steps, ceil(steps * passed / attempt.seconds)) if attempt.seconds else steps
        attempt.length += done
        self._let_go(attempt, max(0.0, attempt.seconds * done / steps - passed), save=True)

    def _let_go(self, attempt: _Attempt, seconds: float, *, save: bool) -> None:
        """End in good order, ``seconds`` from now and what saving takes."""
        if save:
            self._due(attempt, seconds + self._costs.save, self._saved(attempt))
        else:
            self._due(attempt, seconds, AttemptEnded(attempt.setting.trial, attempt.number, attempt.length))

    def _saved(self, attempt: _Attempt) -> CheckpointSaved:
        trial, number, length = attempt.setting.trial, attempt.number, attempt.length
        return CheckpointSaved(trial, number, length, f"trial-{trial}/length-{length}-attempt-{number}")

    def _happen(self, event: Event, attempt: _Attempt | None) -> Sequence[Event]:
        """Let an event happen; returns it, and what it entails at once."""
        if attempt is None:
            if isinstance(event, CapacityChanged):
                self._resize(event.slots)
            return (event,)
        if isinstance(event, ValidationReported):
            attempt.length, attempt.due = event.length, 0
            if event.length >= attempt.target:
                return (event,)
            saved = self._saved(attempt)
            self._train(attempt, 0.0)
            return (event, saved)
        del self._live[attempt.setting.trial]
        if attempt.slot < self.slots:
            heappush(self._free, attempt.slot)
        if isinstance(event, CheckpointSaved):
            return (event, AttemptEnded(*event[:3]))
        return (event,)

    def _resize(self, slots: int) -> None:
        for attempt in self._live.values():
            if attempt.slot >= slots:
                trial, number = attempt.setting.trial, attempt.number
                self._due(attempt, 0.0, AttemptPreempted(trial, number, "its worker was taken away"))
        taken = {attempt.slot for attempt in self._live.values()}
        self._free = sorted(set(range(slots)) - taken)
        self.slots = slots

    # -- the agenda ---------------------------------------------------------------------------

    def _due(self, attempt: _Attempt, seconds: float, event: Event) -> None:
        """What happens to an attempt next, in place of what was to."""
        attempt.due = self._later(seconds, event, attempt)

    def _later(self, seconds: float, event: Event, attempt: _Attempt | None) -> int:
        self._seq += 1
        heappush(self._agenda, (self.clock.now + seconds, self._seq, event, attempt))
        return self._seq
