"""The backend port: start processes that work on trials, steer them, hear from them.

The engine promises: no more live attempts than ``slots``, as far as it was told; one live attempt a
trial; a command only for a live attempt that has to expect it.  The backend promises: every
attempt that was started ends in exactly one `LastWord`, after which its slot is free; what it reported and
saved before comes first, in order.  After an `Abort` only the last word comes.  An attempt that one batch of
commands starts, and aborts or suspends as well, trains nothing and ends at once.  A command for an attempt
that is gone is ignored.  Where ``slots`` changes, a `CapacityChanged` tells so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from ashwood.experiment.events import Event
from ashwood.search.vocabulary import TrialId


class StartAttempt(NamedTuple):
    """Begin to work on a trial.

    Attributes:
        target: total length to train to; there the process reports and waits for a command.
        length: total length of the checkpoint; 0 without one.
        checkpoint: what to start from: relative to the experiment's checkpoint storage, or an absolute directory;
            None: from scratch.
        best: lowest loss of the experiment's checkpoints, or None if there is none.
    """

    trial: TrialId
    attempt: int
    target: int
    hparams: Mapping[str, Any]
    seed: int
    length: int
    checkpoint: str | None
    best: float | None = None


class GoOn(NamedTuple):
    """Answer to a report at the target: train on to ``target``."""

    trial: TrialId
    attempt: int
    target: int


class Finish(NamedTuple):
    """Answer to a report at the target: save if ``save`` (where the code can), then let go of the trial."""

    trial: TrialId
    attempt: int
    save: bool


class Suspend(NamedTuple):
    """At any time: save as soon as the training code can, then let go of the trial."""

    trial: TrialId
    attempt: int


class NoteBest(NamedTuple):
    """At any time: a checkpoint with a better metric was saved; its ``loss`` is the lowest of the experiment."""

    trial: TrialId
    attempt: int
    loss: float


class Abort(NamedTuple):
    """At any time: end the process at once.

    Of the attempt only its last word is told from then on: `AttemptFailed`, unless its worker is lost first.
    What it saved is in the checkpoint storage all the same.
    """

    trial: TrialId
    attempt: int


Command: TypeAlias = StartAttempt | GoOn | Finish | Suspend | NoteBest | Abort


class Backend(Protocol):
    """Runs attempts."""

    @property
    def slots(self) -> int:
        """How many attempts can be live at once."""
        ...

    def dispatch(self, commands: Sequence[Command]) -> None:
        """Carry commands out.  Returns at once.

        Raises:
            BackendError: no trial can run at all, now or later.
        """
        ...

    def expect(self, attempts: int | None) -> None:
        """So many attempts could be live at once from now on, were there slots; None: any number.

        Whoever can grow makes slots for as many, and gives up those that nobody will use.
        """
        ...

    def next_events(self, timeout: float | None) -> Sequence[Event]:
        """What happened since the last call, in order; waits up to ``timeout`` seconds (None: for ever) for something.

        Raises:
            BackendError: no trial can run at all, for example because the training code can't be imported.
        """
        ...

    def wake(self) -> None:
        """Make ``next_events`` return early; safe to call from a signal handler."""
        ...

    def close(self) -> None:
        """End every process that is left, at once.  Idempotent."""
        ...
