"""How a worker runs one attempt: in itself, or (see `ashwood.backends.local.children`) in a child."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ashwood.trial.attempt import Failed, Outcome
from ashwood.trial.channel import Channel, DriverLink, Message
from ashwood.trial.job import Job
from ashwood.trial.run import message_of, run

TrainingCode = Callable[[Any], Any]


class Runner(Protocol):
    """A way of running attempts."""

    def __call__(self, job: Job, channel: Channel, log: Path, /) -> Message:
        """Run one, whose output goes to ``log``; returns the last message about it."""
        ...


class Inline:
    """In the worker itself: nothing to start, nothing to wait for."""

    def __init__(self, function: TrainingCode) -> None:
        self._function = function

    def __call__(self, job: Job, channel: Channel, _log: Path, /) -> Message:
        """Call the training function."""
        return message_of(train(self._function, job, channel))


def train(function: TrainingCode, job: Job, channel: Channel) -> Outcome:
    """Run an attempt in this process; a failure is left in the trial's log too, where people look for it."""
    outcome = run(function, job, DriverLink(channel))
    if isinstance(outcome, Failed):
        print(outcome.error, file=sys.stderr, flush=True)
    return outcome
