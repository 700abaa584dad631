"""The backend port: start attempts, send them commands, and return their events.

The engine promises:

- At most ``slots`` attempts are live, by the latest number of slots that the backend reported.
- Each trial has at most one live attempt.
- A command is sent only to a live attempt in a state that allows it.

The backend promises:

- Every attempt that was started ends with exactly one `FinalEvent`.  Its slot is free from then on.
- The events before it come in order.  After an `Abort`, only the final event comes.
- An attempt that one batch of commands both starts and aborts or suspends trains nothing and ends at once.
- A command for an attempt that has ended is ignored.
- When ``slots`` changes, a `CapacityChanged` event says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from ashwood.experiment.events import Event
from ashwood.search.vocabulary import TrialId


class StartAttempt(NamedTuple):
    """Start an attempt of a trial.

    Attributes:
        target: total length to train to; the attempt reports there and waits for a command.
        length: total length of the checkpoint, or 0 if there is none.
        checkpoint: name of the checkpoint in the experiment's checkpoint storage, or an absolute directory, or None to
            train from the start.
        best: lowest loss of the experiment's checkpoints, or None if there is none.
        max_length: greatest total length of a trial, or None for that of the spec.  The search may have been extended
            since the backend was created.
    """

    trial: TrialId
    attempt: int
    target: int
    hparams: Mapping[str, Any]
    seed: int
    length: int
    checkpoint: str | None
    best: float | None = None
    max_length: int | None = None


class ContinueAttempt(NamedTuple):
    """Answer a report at the target: continue to ``target``, a greater total length."""

    trial: TrialId
    attempt: int
    target: int


class Finish(NamedTuple):
    """Answer a report at the target: end the attempt, after a save if ``save`` is true and the code can save."""

    trial: TrialId
    attempt: int
    save: bool


class Suspend(NamedTuple):
    """Ask an attempt, at any time, to save as soon as the training code can, and then to end."""

    trial: TrialId
    attempt: int


class NoteBest(NamedTuple):
    """Inform an attempt, at any time, that ``loss`` is now the lowest loss of the experiment's checkpoints."""

    trial: TrialId
    attempt: int
    loss: float


class Abort(NamedTuple):
    """Kill an attempt, at any time.

    The only event of the attempt from then on is its final event: `AttemptFailed`, unless its worker is lost first.
    Checkpoints that it saved stay in the checkpoint storage.
    """

    trial: TrialId
    attempt: int


Command: TypeAlias = StartAttempt | ContinueAttempt | Finish | Suspend | NoteBest | Abort


class Backend(Protocol):
    """Runs attempts of trials in slots."""

    @property
    def slots(self) -> int:
        """Number of attempts that can be live at once."""

    def dispatch(self, commands: Sequence[Command]) -> None:
        """Execute commands, without waiting for their effects.

        Raises:
            BackendError: no trial can run, now or later.
        """

    def expect(self, attempts: int | None) -> None:
        """Announce how many attempts the search could use at once from now on, or None for any number.

        A backend that can grow adds slots for them, and releases slots beyond that number.
        """

    def next_events(self, timeout: float | None) -> Sequence[Event]:
        """Return the events since the last call, in order.

        If there are none yet, wait for one for up to ``timeout`` seconds, or without limit if that is None.

        Raises:
            BackendError: no trial can run, for example because the training code can't be imported.
        """

    def wake(self) -> None:
        """Make ``next_events`` return early.  It is safe to call this from a signal handler."""

    def close(self) -> None:
        """End all processes of the backend.  Further calls do nothing."""
