"""Run attempts in the worker process itself.  For children, see `ashwood.backends.local.children`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ashwood.backends.local.logs import flush, tail
from ashwood.trial.attempt import Failed, Outcome, StorageTrouble
from ashwood.trial.channel import Channel, DriverLink, Message
from ashwood.trial.job import WorkerJob
from ashwood.trial.run import message_of, run

TrainingCode = Callable[[Any], Any]

_TRAINED_BEFORE = (
    "This worker process had trained before. If the code cannot run twice in one process, set reuse_workers: false."
)
"""Last line of some errors.  It is not in their first line, by which equal errors are recognized."""


Runner = Callable[[WorkerJob, Channel, Path], Message]
"""Runs an attempt, whose output goes to a log file, and returns the last message about it."""


class InlineRunner:
    """Runs each attempt in the worker process itself, without a child process."""

    def __init__(self, function: TrainingCode) -> None:
        self._function = function
        self._has_worked = False

    def __call__(self, job: WorkerJob, channel: Channel, log: Path, /) -> Message:
        """Call the training function."""
        outcome = train(self._function, job, channel, log)
        if not isinstance(outcome, Failed):
            self._has_worked = True
        elif self._has_worked and not outcome.has_reported:
            outcome = outcome._replace(error=f"{outcome.error.rstrip()}\n\n{_TRAINED_BEFORE}")
        return message_of(outcome)


def train(function: TrainingCode, job: WorkerJob, channel: Channel, log: Path) -> Outcome:
    """Run an attempt in this process.

    The error of a failed attempt is also written to the trial's log, for people who read that.  The last lines of the
    log are appended to the error, because they may show its true cause.
    """
    outcome = run(function, job, DriverLink(channel))
    if isinstance(outcome, Failed | StorageTrouble):
        flush(sys.stdout, sys.stderr)
        output = tail(log)
        with suppress(AttributeError, OSError, ValueError):  # Training code has closed the stream, or the disk is full.
            print(outcome.error, file=sys.stderr, flush=True)
        return outcome._replace(error=outcome.error + output)
    return outcome
