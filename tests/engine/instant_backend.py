"""A backend that answers each command with events at once, and a run observer that prints nothing."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ashwood.backends.port import Abort, Command, ContinueAttempt, Finish, StartAttempt, Suspend
from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    Event,
    ValidationReported,
)
from ashwood.forecast.time_left import Forecaster
from ashwood.views.progress import Progress

Objective = Callable[[Mapping[str, Any], int], float]


class InstantBackend:
    """Trains every attempt to its target at once, and checks that commands come in a valid order."""

    def __init__(
        self, objective: Objective, *, slots: int = 2, crash: Callable[[int, int], bool] | None = None
    ) -> None:
        self.slots = slots
        self.live: dict[int, StartAttempt] = {}
        self.started: list[StartAttempt] = []
        self.expected: list[int | None] = []
        self.closed = False
        self.woken = False
        self._objective = objective
        self._crash = crash or (lambda trial, attempt: False)
        self._events: deque[Event] = deque()
        self._lengths: dict[int, int] = {}

    def dispatch(self, commands: Sequence[Command]) -> None:
        assert not self.closed
        for command in commands:
            match command:
                case StartAttempt():
                    assert command.trial not in self.live, "two live attempts of one trial"
                    assert len(self.live) < self.slots, "more live attempts than slots"
                    self.live[command.trial] = command
                    self.started.append(command)
                    self._lengths[command.trial] = command.length
                    self._events.append(AttemptStarted(command.trial, command.attempt, 0, command.length))
                    self._train(command.trial, command.target)
                case ContinueAttempt(trial=trial, target=target):
                    self._train(trial, target)
                case Finish(trial=trial, save=save):
                    self._let_go(trial, save)
                case Suspend(trial=trial):
                    self._let_go(trial, save=True)
                case Abort(trial=trial, attempt=attempt):
                    self._abort(trial, attempt)

    def _abort(self, trial: int, attempt: int) -> None:
        if self.live.pop(trial, None) is not None:
            self._events.append(AttemptFailed(trial, attempt, "killed on request"))

    def expect(self, attempts: int | None) -> None:
        assert not self.closed
        self.expected.append(attempts)

    def next_events(self, timeout: float | None) -> Sequence[Event]:
        # One at a time, in the order in which the attempts' events came about.
        return [self._events.popleft()] if self._events else []

    def wake(self) -> None:
        self.woken = True

    def close(self) -> None:
        self.closed = True

    def _train(self, trial: int, target: int) -> None:
        if (attempt := self.live.get(trial)) is None:
            return
        if self._crash(trial, attempt.attempt):
            del self.live[trial]
            self._events.append(AttemptFailed(trial, attempt.attempt, "boom\ndetails"))
            return
        for length in range(self._lengths[trial] + 1, target + 1):
            metrics = {"loss": self._objective(attempt.hparams, length)}
            self._events.append(ValidationReported(trial, attempt.attempt, length, metrics))
        self._lengths[trial] = target

    def _let_go(self, trial: int, save: bool) -> None:
        if (attempt := self.live.pop(trial, None)) is None:
            return
        length = self._lengths[trial]
        if save:
            path = f"/checkpoints/{trial}/{length}"
            self._events.append(CheckpointSaved(trial, attempt.attempt, length, path))
        self._events.append(AttemptEnded(trial, attempt.attempt, length))


class Quiet:
    """A run observer that prints nothing; see `ashwood.engine.session.RunObserver`.

    Attributes:
        progress: the progress of the experiment; there is none before the session has read the event log.
        is_ready: whether trials could start.
    """

    progress: Progress

    def __init__(self) -> None:
        self.is_ready = False

    def folded(self, progress: Progress) -> None:
        self.progress = progress

    def ready(self, slots: int) -> None:
        self.is_ready = True

    def observe(self, entries: Sequence[Entry]) -> None:
        fold(self.progress, entries)

    def summary(self) -> dict[str, Any]:
        return Forecaster(self.progress).summary()

    def interrupted(self, count: int) -> None: ...

    def warn(self, message: str) -> None: ...
