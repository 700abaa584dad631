"""Turns decisions into commands for the backend: start, continue or finish an attempt.

Pure: the time is an argument.  A trial may be promoted while its last attempt still saves a checkpoint.
Its next attempt starts when that one has ended, from the checkpoint that it saved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from math import inf
from typing import NamedTuple

from ashwood.backends.port import Abort, Command, ContinueAttempt, Finish, NoteBest, StartAttempt, Suspend
from ashwood.experiment import decisions as d
from ashwood.experiment.events import Event, FinalEvent
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import SaveOn
from ashwood.experiment.trial import TrialRecord
from ashwood.search.vocabulary import TrialId

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 60.0


def retry_delay(failure: int) -> float:
    """Return seconds to wait before the retry after the n-th failure: 0 after the first, then doubling up to 60.

    Meanwhile the trial still counts as running, so the search does not start another one instead.
    """
    return 0.0 if failure <= 1 else min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** (failure - 2))


class _Waiting(NamedTuple):
    """An attempt that waits to start, at the earliest at ``due``; 0 if it may start at any time."""

    trial: TrialId
    attempt: int
    due: float


class Dispatcher:
    """The attempts that run, and those that wait for a slot or for the end of their retry delay.

    Attributes:
        live: the attempt that a process runs, by trial.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._queue: deque[_Waiting] = deque()
        self.live: dict[TrialId, int] = {}
        self._suspended: set[tuple[TrialId, int]] = set()
        self._slots = 0
        # Workers save a checkpoint when a report is better than the best one, so they must know it.
        self._best = experiment.best_saved

    @property
    def next_due(self) -> float:
        """Time at which the next attempt that waits only for its retry delay may start; infinite if there is none."""
        if self._experiment.state is not ExperimentState.RUNNING or len(self.live) >= self._slots:
            return inf
        return min((each.due for each in self._queue if each.due and self._waits_for_delay_only(each)), default=inf)

    def _waits_for_delay_only(self, waiting: _Waiting) -> bool:
        return waiting.trial not in self.live and self._is_wanted(waiting)

    def _is_wanted(self, waiting: _Waiting) -> bool:
        trial = self._experiment.trials[waiting.trial]
        return trial.state is TrialState.RUNNING and trial.attempt == waiting.attempt

    def note(self, event: Event) -> None:
        """Record an event of the backend: the last event of an attempt frees its slot."""
        if isinstance(event, FinalEvent) and self.live.get(event.trial) == event.attempt:
            del self.live[event.trial]
            self._suspended.discard((event.trial, event.attempt))

    def commands(self, decisions: Iterable[d.Decision], slots: int, now: float) -> list[Command]:
        """Return the commands that follow from these decisions and from attempts that waited.

        Args:
            decisions: new decisions.
            slots: number of slots that the backend has now.
            now: seconds since a fixed moment; they never go back.
        """
        self._slots = slots
        commands = [command for decision in decisions for command in self._command(decision, now)]
        commands.extend(self._hurry())
        if self._experiment.best_saved != self._best:
            self._best = self._experiment.best_saved
            if self._experiment.spec.save_on is SaveOn.BEST:
                commands.extend(NoteBest(*attempt, self._best) for attempt in self.live.items())
        if self._queue:
            commands.extend(self._starts(slots, now))
        return commands

    def _command(self, decision: d.Decision, now: float) -> Iterator[Command]:
        match decision:
            case d.CreateTrial(trial=trial):
                self._queue.append(_Waiting(trial, 1, 0.0))
            case d.TrainTrial(trial=trial, attempt=attempt, why=why):
                delay = retry_delay(why.failure) if isinstance(why, d.Retried) else 0.0
                self._queue.append(_Waiting(trial, attempt, now + delay if delay else 0.0))
            case d.ContinueTrial(trial=trial, attempt=attempt, target=target):
                yield ContinueAttempt(trial, attempt, target)
            case d.PauseTrial(trial=trial, attempt=attempt) | d.CompleteTrial(trial=trial, attempt=attempt):
                yield Finish(trial, attempt, save=True)
            case d.StopTrial(trial=trial, attempt=attempt):
                yield Finish(trial, attempt, save=False)
            case d.SuspendTrial(trial=trial, attempt=attempt) if self.live.get(trial) == attempt:
                self._suspended.add((trial, attempt))
                yield Suspend(trial, attempt)
            case d.AbortTrial(trial=trial, attempt=attempt) if self.live.get(trial) == attempt:
                self._suspended.add((trial, attempt))
                yield Abort(trial, attempt)

    def _start_of(self, trial: TrialRecord) -> tuple[int, str | None]:
        """Return the length and the name of the checkpoint that a trial starts from."""
        spec = self._experiment.spec
        if trial.checkpoint_length < spec.search.max_length:
            return trial.checkpoint_length, trial.checkpoint
        # Its process died between saving the last checkpoint and reporting.  From that checkpoint it could only report
        # after training beyond max_length, which it must not.  So it starts from the checkpoint before.
        latest = self._experiment.checkpoints.latest(trial.id, below=spec.search.max_length)
        return (0, spec.source_checkpoint) if latest is None else (latest.length, latest.name)

    def _hurry(self) -> Iterator[Command]:
        """Yield commands to suspend attempts that are finishing, because the experiment pauses or ends early.

        These attempts only save a checkpoint.  If the storage does not answer, an attempt tries for a minute; a
        suspended one gives up earlier.
        """
        if self._experiment.state in (ExperimentState.PAUSING, ExperimentState.STOPPING):
            for attempt in self.live.items():
                if attempt not in self._suspended:
                    self._suspended.add(attempt)
                    yield Suspend(*attempt)

    def _starts(self, slots: int, now: float) -> Iterator[Command]:
        if self._experiment.state is not ExperimentState.RUNNING or self._experiment.over:
            return
        held: list[_Waiting] = []
        while self._queue and len(self.live) < slots:
            waiting = self._queue.popleft()
            if not self._is_wanted(waiting):
                continue
            trial = self._experiment.trials[waiting.trial]
            if trial.id in self.live or waiting.due > now:
                held.append(waiting)
                continue
            self.live[trial.id] = trial.attempt
            length, checkpoint = self._start_of(trial)
            best = self._best if self._best < inf else None
            start = (trial.id, trial.attempt, trial.target, trial.hparams, trial.seed, length, checkpoint, best)
            yield StartAttempt(*start, self._experiment.spec.search.max_length)
        self._queue.extendleft(reversed(held))
