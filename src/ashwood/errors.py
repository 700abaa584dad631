"""All public exceptions of Ashwood.

Each message says what failed, the value, what was expected and what to do.  The command line prints only the
message; it prints a traceback only for internal errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class AshwoodError(Exception):
    """Base class of all errors of Ashwood that a user can act on.

    If an experiment fails, the error has it as an attribute::

        try:
            experiment = ashwood.run(train, hparams=hparams, searcher=searcher)
        except ashwood.AshwoodError as error:
            if error.experiment is None:  # The experiment was not created.
                raise
            experiment = error.experiment

    Attributes:
        experiment: the `ashwood.Experiment` that failed or could not be run, or None.  Only the Python API sets it.
    """

    experiment: Any = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem in an experiment file, or in the arguments of `ashwood.run`.

    Attributes:
        key: dotted path of the key, for example ``searcher.max_length``, or an empty string for the whole file.
        message: what is wrong, what was expected, and the nearest valid spelling if there is one.
        file: path of the file as the user wrote it, or None if the experiment was described in Python.
        line: line in the file, counted from 1, or None if it is not known.
    """

    key: str
    message: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        position = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return ": ".join(part for part in (position, self.key, self.message) if part)


class ConfigError(AshwoodError):
    """The description of an experiment is invalid.

    Attributes:
        problems: all problems, not only the first one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SearchError(AshwoodError):
    """A search method got a report or an exit that is impossible in its state; its state is unchanged."""


class IllegalEvent(AshwoodError):
    """An event or a request is impossible in the present state of an experiment; its state is unchanged."""


class EventLogError(AshwoodError):
    """An event log, or a file made from it, cannot be read or written."""


class DiskFull(EventLogError):
    """The disk is full, so the event log could not be written; none of the new entries were added."""


class LeaseLost(EventLogError):
    """Another driver owns the experiment now; none of the new entries were added."""


class NotFound(AshwoodError):
    """An experiment, trial, checkpoint or home does not exist."""


class ExperimentBusy(AshwoodError):
    """Another driver owns the experiment, so this process cannot run or change it."""


class RequestRefused(AshwoodError):
    """An experiment refused a request, for example to pause after it has ended; nothing was changed.

    Attributes:
        fields: what is wrong with values of the request, by their names.
    """

    def __init__(self, message: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.fields: Mapping[str, str] = fields or {}


class MissingPackage(AshwoodError, ImportError):
    """A package that an optional feature needs is not installed; the message says how to install it."""


class CheckpointError(AshwoodError):
    """A checkpoint is missing or damaged, or the storage of checkpoints cannot be used."""


class StorageUnreachable(CheckpointError):
    """The storage of checkpoints cannot be reached or used; the checkpoints in it may be undamaged."""


class ReplayDivergence(EventLogError):
    """The replay of an event log made a decision that differs from the recorded one; the message names the entry."""


class BackendError(AshwoodError):
    """The backend cannot run any trial.  If only one trial fails, no such error is raised."""


class MachineError(BackendError):
    """This machine cannot run a trial, or its GPUs cannot be reserved; the training code is not the cause."""


class ClusterError(BackendError):
    """The cluster cannot be used, or none of its nodes can run a trial; the training code is not the cause."""


class TrainingCodeError(AshwoodError):
    """The user's training code cannot be loaded or called, or it calls Ashwood in a wrong way."""


_SHORT = 4  # Words up to this length need less similarity: a typing mistake changes a large part of them.
_TELLING = 3  # A word of at least this length can abbreviate one that begins or ends with it (min for minval).


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that the user most likely meant, for a message, or None if no word is similar."""
    from difflib import SequenceMatcher, get_close_matches  # imported here, so that workers start faster

    by_plain_form = {_plain(name): name for name in known}
    plain = _plain(word)
    if close := get_close_matches(plain, by_plain_form, cutoff=0.6 if len(plain) <= _SHORT else 0.7):
        # Of words that are equally similar without their case, the one whose case is right was meant: train, not Trial.
        return max(
            (by_plain_form[form] for form in close),
            key=lambda name: (
                SequenceMatcher(None, _plain(name), plain).ratio(),
                SequenceMatcher(None, name, word).ratio(),
            ),
        )
    longer = [
        name
        for form, name in by_plain_form.items()
        if len(plain) >= _TELLING and plain in (form[: len(plain)], form[-len(plain) :])
    ]
    return longer[0] if len(longer) == 1 else None


def did_you_mean(word: object, known: Iterable[object]) -> str:
    """Return `` (did you mean 'lr'?)`` with the nearest known word, or an empty text if no word is similar."""
    close = nearest(str(word), map(str, known))
    return f" (did you mean {close!r}?)" if close else ""


def singular(unit: str) -> str:
    """Return the word for one step of a unit of lengths: ``batch`` for ``batches``."""
    return unit.removesuffix("es" if unit == "batches" else "s")


def _plain(word: str) -> str:
    """Return a name in lower case with underscores, so that maxTrials and MAX-TRIALS equal max_trials."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word).lower().replace("-", "_").replace(" ", "_")
