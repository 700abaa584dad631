"""Every exception that Ashwood raises, on one page.

Each message says what was wrong, where, what was expected and what to do.  The
command line prints the message alone; a traceback is for bugs in Ashwood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class AshwoodError(Exception):
    """The base of all errors that a user can act on.

    Attributes:
        experiment: the `ashwood.Experiment` that could not be run, or failed, if the error comes from the Python API.
    """

    experiment: Any = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an experiment file.

    Attributes:
        key: dotted path of the key, for example ``searcher.max_length``; empty for the whole file.
        message: what is wrong, what was expected, and the nearest right spelling where there is one.
        file: the file as the user named it; None where the experiment was built in Python.
        line: 1-based line in the file, None where there is none.
    """

    key: str
    message: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(AshwoodError):
    """An experiment's description is wrong; ``problems`` holds everything that is, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SearchError(AshwoodError):
    """A search method was told something that can't have happened; its state is unchanged."""


class IllegalEvent(AshwoodError):
    """An experiment was told something that can't have happened; its state is unchanged."""


class EventLogError(AshwoodError):
    """The durable record can't be read or written."""


class DiskFull(EventLogError):
    """There is no room for the durable record; nothing of what was to be added was added."""


class LeaseLost(EventLogError):
    """Another driver has taken the experiment over; nothing of what was to be added was added."""


class NotFound(AshwoodError):
    """There is no such experiment, trial, checkpoint or home."""


class ExperimentBusy(AshwoodError):
    """Another driver owns this experiment."""


class RequestRefused(AshwoodError):
    """What was asked of an experiment can't be done; it is as it was."""


class CheckpointError(AshwoodError):
    """A checkpoint is missing or damaged, or the storage of checkpoints can't be reached."""


class StorageUnreachable(CheckpointError):
    """The storage of checkpoints can't be reached or used; what is in it may be as good as ever."""


class ReplayDivergence(EventLogError):
    """Replaying a log decided otherwise than was recorded; the message names the entry."""


class BackendError(AshwoodError):
    """The backend can't run trials at all (as opposed to one trial failing)."""


class MachineError(BackendError):
    """This machine has no room for a trial, or its GPUs can't be reserved: no fault of the training code."""


class ClusterError(BackendError):
    """The cluster can't be used, or has no room for a trial: no fault of the training code."""


class TrainingCodeError(AshwoodError):
    """The user's training code can't be loaded or was called in the wrong way."""
