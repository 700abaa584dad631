"""The simulated backend: an agenda of future events, and a clock that jumps from each event to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil, inf

from ashwood.backends.port import Abort, Command, ContinueAttempt, Finish, NoteBest, StartAttempt, Suspend
from ashwood.errors import BackendError
from ashwood.experiment import events as e
from ashwood.experiment.spec import ExperimentSpec
from ashwood.forecast.costs import NO_COSTS, NO_FAULTS, Costs, Faults, Workers
from ashwood.forecast.training import Setting, Training
from ashwood.search.vocabulary import TrialId

_MOST_PREEMPTIONS = 1_000
_MOST_PREEMPTIONS_PER_WORKER = 100


class VirtualClock:
    """A clock that only the simulated backend moves."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the virtual time in seconds since the start."""
        return self.now

    def elapsed(self) -> float:
        """Return the virtual time in seconds since the start."""
        return self.now


@dataclass(slots=True)
class _Attempt:
    """A simulated attempt.

    A segment is the training between two reports.

    Attributes:
        number: number of the attempt of its trial.
        setting: the trial.
        slot: number of the slot that it occupies.
        length: total length that it has reached, where the current segment begins.
        target: total length at which it reports and waits for a command.
        saved: total length of its latest checkpoint, or of the one that it started from.
        fails_at: virtual time of its crash or preemption, if it has not ended before; infinity without one.
        fault: that crash or preemption, or None.
        towards: total length at which the current segment ends.
        since: virtual time at which the segment began, after start-up.
        seconds: duration of the segment.
        due: sequence number of its next event on the agenda, or 0 if it waits for a command; all its other events on
            the agenda are void.
        leaving: whether it saves, or is about to end.
        reported: its latest report.
    """

    number: int
    setting: Setting
    slot: int
    length: int
    target: int
    saved: int
    fails_at: float
    fault: e.Event | None
    towards: int = 0
    since: float = 0.0
    seconds: float = 0.0
    due: int = 0
    leaving: bool = False
    reported: e.ValidationReported | None = None


class SimulatedBackend:
    """A backend that runs attempts in virtual time; see `ashwood.backends.port.Backend`.

    Events happen one at a time, in order of (virtual time, sequence number), so the same search
    has the same events on any machine.  When a worker is removed or its process crashes, all
    training since the latest checkpoint is lost.

    Attributes:
        clock: virtual time in seconds since the start; the engine uses the same clock.
        slots: current number of workers.
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
        """Create a backend for one experiment.

        Args:
            spec: the experiment, for the name and the direction of its metric.
            training: model of the training code.
            workers: number of workers, or its changes over time, counted from now.
            costs: durations of everything but training.
            faults: rates of crashes and preemptions.
            period: units of length between reports, each with a checkpoint that takes no time; if None, trials report
                only at targets, and save only when they end.
            clock: clock of an earlier backend of the experiment, to continue its time; None for a new one.
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
        # Future events: (virtual time, sequence number, event, attempt).
        self._agenda: list[tuple[float, int, e.Event, _Attempt | None]] = []
        # Events that have happened and that `next_events` has not returned yet.
        self._pending: list[e.Event] = []
        self._live: dict[TrialId, _Attempt] = {}
        self._free = list(range(self.slots))
        self._preempted_in_a_row = 0
        self._woken = False
        for at, number in schedule.later():
            self._schedule(self.clock.now + at, e.CapacityChanged(number), None)

    # -- the port -----------------------------------------------------------------------------

    def dispatch(self, commands: Sequence[Command]) -> None:
        """Execute commands."""
        for command in commands:
            attempt = self._live.get(command.trial)
            is_live = attempt is not None and attempt.number == command.attempt
            if isinstance(command, StartAttempt):
                if not is_live:
                    self._start(command)
            elif attempt is not None and is_live:
                self._execute(attempt, command)

    def expect(self, attempts: int | None) -> None:
        """Do nothing: the number of workers is given from the start."""

    def next_events(self, timeout: float | None) -> Sequence[e.Event]:
        """Move the clock to the next event and return it, or nothing if it is later than ``timeout``.

        Raises:
            BackendError: no event will ever happen, or too many attempts in a row were preempted before any reported.
        """
        if self._woken:
            self._woken = False
            return ()
        if self._pending:
            pending, self._pending = self._pending, []
            return pending
        until = inf if timeout is None else self.clock.now + timeout
        agenda = self._agenda
        while agenda and agenda[0][0] <= until:
            at, number, event, attempt = heappop(agenda)
            if attempt is None or attempt.due == number:
                self.clock.now = at
                return self._process(event, attempt)
        if timeout is None:
            raise BackendError("the simulation has come to a standstill: no further event is scheduled")
        self.clock.now = until
        return ()

    def wake(self) -> None:
        """Make ``next_events`` return nothing once."""
        self._woken = True

    def close(self) -> None:
        """Delete all attempts and future events."""
        self._agenda.clear()
        self._pending.clear()
        self._live.clear()

    # -- commands --------------------------------------------------------------------------------

    def _start(self, start: StartAttempt) -> None:
        trial, number = start.trial, start.attempt
        fails_at, fault = self._fault(start)
        setting = Setting(trial, start.seed, start.hparams)
        slot = heappop(self._free)
        attempt = _Attempt(number, setting, slot, start.length, start.target, start.length, fails_at, fault)
        self._live[trial] = attempt
        self._pending.append(e.AttemptStarted(trial, number, slot, start.length))
        self._train(attempt, self._costs.setting_up(start.length))

    def _fault(self, start: StartAttempt) -> tuple[float, e.Event | None]:
        """Return the time and the event of the fault that ends an attempt that starts now, or (infinity, None)."""
        crash = self._faults.crash_after(start.seed, start.attempt)
        preemption = self._faults.preempted_after(start.seed, start.attempt)
        if crash == preemption == inf:
            return inf, None
        if crash <= preemption:
            return self.clock.now + crash, e.AttemptFailed(start.trial, start.attempt, "simulated crash")
        return self.clock.now + preemption, e.AttemptPreempted(start.trial, start.attempt, "simulated preemption")

    def _execute(self, attempt: _Attempt, command: ContinueAttempt | Finish | Suspend | NoteBest | Abort) -> None:
        waits = attempt.due == 0
        match command:
            case ContinueAttempt(target=target) if waits:
                attempt.target = target
                self._train(attempt, 0.0)
            case Finish(save=save) if waits:
                self._end(attempt, 0.0, save=save)
            case Suspend() if not attempt.leaving:
                self._suspend(attempt)
            case Abort(trial=trial, attempt=number):
                attempt.leaving = True
                # After an abort only the last event of the attempt is returned.
                self._pending = [event for event in self._pending if event[:2] != (trial, number)]
                self._schedule_next(attempt, 0.0, e.AttemptFailed(trial, number, e.ABORTED))

    def _train(self, attempt: _Attempt, delay: float) -> None:
        """Schedule the report at the target or at the next periodic validation, after ``delay`` seconds of start-up."""
        setting, begin = attempt.setting, attempt.length
        end = max(begin, attempt.target)
        if self._period is not None:
            end = min(end, (begin // self._period + 1) * self._period)
        seconds, loss = self._training.train(setting, begin, end)
        seconds *= self._costs.delay(setting.seed, begin)
        attempt.towards, attempt.since, attempt.seconds = end, self.clock.now + delay, seconds
        metrics = {self._metric: self._sign * loss}
        self._schedule_next(attempt, delay + seconds, e.ValidationReported(setting.trial, attempt.number, end, metrics))

    def _suspend(self, attempt: _Attempt) -> None:
        """Save and end after the current step, or at once if no step has begun."""
        steps, passed = attempt.towards - attempt.length, self.clock.now - attempt.since
        rest = 0.0
        if attempt.due and steps > 0 and passed > 0:
            done = min(steps, ceil(steps * passed / attempt.seconds))
            rest = max(0.0, attempt.seconds * done / steps - passed)
            attempt.length += done
        self._end(attempt, rest, save=attempt.length > attempt.saved)

    def _end(self, attempt: _Attempt, seconds: float, *, save: bool) -> None:
        """Schedule the end of an attempt in ``seconds``, or later by the time to save if it must save."""
        attempt.leaving = True
        if save:
            self._schedule_next(attempt, seconds + self._costs.save, self._checkpoint(attempt))
        else:
            self._schedule_next(attempt, seconds, e.AttemptEnded(attempt.setting.trial, attempt.number, attempt.length))

    def _checkpoint(self, attempt: _Attempt) -> e.CheckpointSaved:
        trial, number, length = attempt.setting.trial, attempt.number, attempt.length
        report = attempt.reported
        metrics = report.metrics if report is not None and report.length == length else {}
        return e.CheckpointSaved(trial, number, length, f"trial-{trial}/length-{length}-attempt-{number}", metrics)

    # -- events ---------------------------------------------------------------------------------

    def _process(self, event: e.Event, attempt: _Attempt | None) -> Sequence[e.Event]:
        """Apply an event, and return it with the events that it causes at once."""
        if attempt is None:
            if isinstance(event, e.CapacityChanged):
                self._resize(event.slots)
            return (event,)
        if isinstance(event, e.ValidationReported):
            self._preempted_in_a_row = 0
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
        if isinstance(event, e.CheckpointSaved):
            return (event, e.AttemptEnded(event.trial, event.attempt, event.length))
        if isinstance(event, e.AttemptPreempted):
            self._count_preemption()
        return (event,)

    def _count_preemption(self) -> None:
        self._preempted_in_a_row += 1
        if self._preempted_in_a_row > _MOST_PREEMPTIONS + _MOST_PREEMPTIONS_PER_WORKER * self.slots:
            raise BackendError(
                f"the simulation makes no progress: {self._preempted_in_a_row} attempts in a row were preempted before "
                "any reported. Reduce the rate of preemptions, or set a period, so that attempts save during training"
            )

    def _resize(self, slots: int) -> None:
        """Change the number of workers; those with the highest slot numbers are removed first."""
        self.slots = slots
        for trial, attempt in self._live.items():
            if attempt.slot >= slots:
                attempt.leaving = True
                self._schedule_next(
                    attempt, 0.0, e.AttemptPreempted(trial, attempt.number, "its worker was taken away")
                )
        taken = {attempt.slot for attempt in self._live.values()}
        self._free = [slot for slot in range(slots) if slot not in taken]

    # -- the agenda -----------------------------------------------------------------------------

    def _schedule_next(self, attempt: _Attempt, seconds: float, event: e.Event) -> None:
        """Schedule the next event of an attempt in place of an earlier one, or its fault if that comes first."""
        at = self.clock.now + seconds
        if attempt.fault is not None and attempt.fails_at < at:
            # A fault that came while the attempt waited for a command takes effect now: time cannot go back.
            at, event = max(self.clock.now, attempt.fails_at), attempt.fault
        attempt.due = self._schedule(at, event, attempt)

    def _schedule(self, at: float, event: e.Event, attempt: _Attempt | None) -> int:
        self._seq += 1
        heappush(self._agenda, (at, self._seq, event, attempt))
        return self._seq
