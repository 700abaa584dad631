"""How a worker runs one attempt: in itself, or (see `ashwood.backends.local.children`) in a child."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from ashwood.backends.local.logs import flush, tail
from ashwood.trial.attempt import Failed, NoSpace, NoStorage, Outcome
from ashwood.trial.channel import Channel, DriverLink, Message
from ashwood.trial.job import Job
from ashwood.trial.run import message_of, run

TrainingCode = Callable[[Any], Any]

_TRAINED_BEFORE = (
    " (this worker process had trained before; if the code cannot run twice in one process, set reuse_workers: false)"
)


class Runner(Protocol):
    """A way of running attempts."""

    def __call__(self, job: Job, channel: Channel, log: Path, /) -> Message:
        """Run one, whose output goes to ``log``; returns the last message about it."""
        ...


class Inline:
    """In the worker itself: nothing to start, nothing to wait for."""

    def __init__(self, function: TrainingCode) -> None:
        self._function = function
        self._has_worked = False

    def __call__(self, job: Job, channel: Channel, log: Path, /) -> Message:
        """Call the training function."""
        outcome = train(self._function, job, channel, log)
        if not isinstance(outcome, Failed):
            self._has_worked = True
        elif self._has_worked and not outcome.has_reported:
            headline, _, details = outcome.error.partition("\n")
            outcome = outcome._replace(error=f"{headline}{_TRAINED_BEFORE}\n{details}")
        return message_of(outcome)


def train(function: TrainingCode, job: Job, channel: Channel, log: Path) -> Outcome:
    """Run an attempt in this process.

    A failure is left in the trial's log too, where people look for it; and what the log said before
    goes with the failure, for that may be its true cause.
    """
    outcome = run(function, job, DriverLink(channel))
    if isinstance(outcome, Failed | NoSpace | NoStorage):
        flush(sys.stdout, sys.stderr)
        said = tail(log)
        with suppress(AttributeError, OSError, ValueError):  # training code closed it, or the disk is full
            print(outcome.error, file=sys.stderr, flush=True)
        return outcome._replace(error=outcome.error + said)
    return outcome
