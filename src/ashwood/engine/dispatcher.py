"""From decisions to commands: which process starts, which goes on, which lets go.

Pure.  A trial may be promoted while its last process still saves its checkpoint; its next
attempt starts when that one has ended, from what it saved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from ashwood.backends.port import Command, Finish, GoOn, StartAttempt, Suspend
from ashwood.experiment.decisions import (
    CompleteTrial,
    ContinueTrial,
    CreateTrial,
    Decision,
    PauseTrial,
    StopTrial,
    SuspendTrial,
    TrainTrial,
)
from ashwood.experiment.events import AttemptEnded, AttemptFailed, Event, HparamsRejected, TrialStopped
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.search.vocabulary import TrialId

_LETS_GO = (AttemptEnded, AttemptFailed, HparamsRejected, TrialStopped)


class Dispatcher:
    """Knows which attempts live and which wait for a slot.

    Attributes:
        live: the attempt that a process works on, by trial.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._queue: deque[tuple[TrialId, int]] = deque()
        self.live: dict[TrialId, int] = {}

    def note(self, event: Event) -> None:
        """Take in what a backend said."""
        if isinstance(event, _LETS_GO) and self.live.get(event.trial) == event.attempt:
            del self.live[event.trial]

    def commands(self, decisions: Iterable[Decision], slots: int) -> list[Command]:
        """What to tell the backend, of these decisions and of what waited for a slot."""
        commands = [command for decision in decisions for command in self._command(decision)]
        commands.extend(self._starts(slots))
        return commands

    def _command(self, decision: Decision) -> Iterator[Command]:
        match decision:
            case CreateTrial(trial=trial):
                self._queue.append((trial, 1))
            case TrainTrial(trial=trial, attempt=attempt):
                self._queue.append((trial, attempt))
            case ContinueTrial(trial=trial, attempt=attempt, target=target):
                yield GoOn(trial, attempt, target)
            case PauseTrial(trial=trial, attempt=attempt) | CompleteTrial(trial=trial, attempt=attempt):
                yield Finish(trial, attempt, save=True)
            case StopTrial(trial=trial, attempt=attempt):
                yield Finish(trial, attempt, save=False)
            case SuspendTrial(trial=trial, attempt=attempt) if self.live.get(trial) == attempt:
                yield Suspend(trial, attempt)

    def _starts(self, slots: int) -> Iterator[Command]:
        if self._experiment.state is not ExperimentState.RUNNING or self._experiment.over:
            return
        held: list[tuple[TrialId, int]] = []
        while self._queue and len(self.live) < slots:
            waiting = self._queue.popleft()
            trial = self._experiment.trials[waiting[0]]
            if trial.state is not TrialState.RUNNING or trial.attempt != waiting[1]:
                continue
            if trial.id in self.live:
                held.append(waiting)
                continue
            self.live[trial.id] = trial.attempt
            yield StartAttempt(
                trial.id,
                trial.attempt,
                trial.target,
                trial.hparams,
                trial.seed,
                trial.checkpoint_length,
                trial.checkpoint,
            )
        self._queue.extendleft(reversed(held))
