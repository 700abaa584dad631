"""Run an attempt: call the training function, and turn its result or exception into an outcome."""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from ashwood.checkpoints import CheckpointInfo, Patience, open_storage
from ashwood.errors import CheckpointError, StorageUnreachable
from ashwood.trial.api import Trial, running
from ashwood.trial.attempt import (
    Again,
    Damaged,
    Ended,
    Failed,
    Invalid,
    Outcome,
    Returned,
    Stopped,
    StorageTrouble,
    Unusable,
    draw_of,
)
from ashwood.trial.channel import Link, Message, Phase
from ashwood.trial.job import WorkerJob

_PACKAGE = f"{Path(__file__).parent.parent}{os.sep}"
_LONGEST = 30_000
_T = TypeVar("_T")
_LONGEST_LINE = 2_000
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
FULL, UNREACHABLE = "full", "unreachable"
"""Causes of `StorageTrouble`."""


def run(function: Callable[[Trial], Any], job: WorkerJob, link: Link) -> Outcome:
    """Run an attempt and return its outcome.  Exceptions of the training function do not leave this function."""
    while True:
        if job.checkpoint is not None:
            link.phase(Phase.FETCHING)
        outcome = with_checkpoint(job, lambda ready: _call(function, ready, link), link.suspended)
        if not isinstance(outcome, Again):
            return outcome
        job = outcome.job


def with_checkpoint(
    job: WorkerJob, work: Callable[[WorkerJob], _T], suspended: Callable[[], bool]
) -> _T | Damaged | Failed | StorageTrouble:
    """Call ``work`` with a job whose checkpoint, if it has one, is verified and available in ``job.directory``.

    Return the result of ``work``, or the outcome of the attempt if the checkpoint cannot be fetched.  ``suspended``
    returns whether the trial must stop; then a storage that does not answer is given up sooner.
    """
    with ExitStack() as stack:
        directory = None
        if job.checkpoint is not None:
            try:
                storage = open_storage(job.checkpoints, Patience(hurries=suspended))
                wanted = CheckpointInfo(experiment=job.experiment, draw=draw_of(job))
                directory = str(stack.enter_context(storage.fetch(job.checkpoint, wanted)))
            except StorageUnreachable as error:
                return StorageTrouble(str(error), UNREACHABLE)
            except CheckpointError as error:
                return Damaged(job.checkpoint, str(error))
            except OSError as error:  # The local disk failed during the download.
                return failure_of(error)
        return work(job._replace(directory=directory))


def _call(function: Callable[[Trial], Any], job: WorkerJob, link: Link) -> Outcome:
    trial = Trial(job, link)
    running.append(trial)
    try:
        returned = None
        try:
            returned = function(trial)
        except SystemExit as error:  # `Leave` is one, too.
            if error.code not in (None, 0):
                raise
        return outcome_of(trial, returned)
    except BaseException as error:  # noqa: BLE001 - an exception of training code must fail only this attempt
        if (trouble := storage_trouble(error)) is not None:
            return trouble
        if isinstance(error, SystemExit):
            why = f"the training code called sys.exit({error.code!r}); to end a trial early, call trial.stop()"
        else:
            why = describe(error)
        return Failed(why, cause_of(error, trial.length), bool(trial._attempt.reported))
    finally:
        running.pop()


def outcome_of(trial: Trial, returned: Any = None) -> Outcome:
    """Return how a trial's attempt ended, after the training code has returned ``returned``."""
    return trial._attempt.outcome(returned)


def message_of(outcome: Outcome) -> Message:
    """Return an outcome as the last message of a job; see `ashwood.trial.channel`."""
    match outcome:
        case Ended(length):
            return ["AttemptEnded", length]
        case Failed(error, cause):
            return ["AttemptFailed", error, cause]
        case Unusable(why):
            return ["unusable", why]
        case StorageTrouble(error, cause):
            return ["StorageFailed", error, cause]
        case Invalid(why):
            return ["HparamsInvalid", why]
        case Stopped() | Returned():
            return ["TrialStopped"]
        case Damaged(checkpoint, why):
            return ["CheckpointDamaged", checkpoint, why]
        case Again(job):
            return ["again", job]


def describe(error: BaseException) -> str:
    """Return an exception as text: one line, then the traceback without the frames of Ashwood at its beginning."""
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None and _is_machinery(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    headline = traceback.format_exception_only(error)[-1].strip() + _hint(error)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}\n…\n{text[-_LONGEST // 2 :]}"
    return f"{headline[:_LONGEST_LINE]}\n{text}"


_TRANSIENT = (OSError, MemoryError, KeyboardInterrupt)
_TRANSIENT_NAMES = re.compile(r"Timeout|Connection|BrokenProcessPool|TerminatedWorker|OutOfMemory")
_TRANSIENT_WORDS = re.compile(
    r"CUDA|cuDNN|CUBLAS|NCCL|HIP error|killed by signal|exited unexpectedly|out of memory", re.I
)


def cause_of(error: BaseException, length: int) -> str:
    """Return the type and the place of an error, or an empty text if the error may be temporary.

    Errors of the system, of a GPU or of another process may be temporary.  Any other error that occurs twice with the
    same type, file, line and length is the same error.  Messages are not part of the text, because they may contain
    numbers that differ.
    """
    for each in _chain(error):
        name = type(each).__name__
        if isinstance(each, _TRANSIENT) or _TRANSIENT_NAMES.search(name) or _TRANSIENT_WORDS.search(str(each)):
            return ""
    frames = list(traceback.walk_tb(error.__traceback__))
    where = f"{frames[-1][0].f_code.co_filename}:{frames[-1][1]}" if frames else ""
    return f"{type(error).__name__} at {where}, length {length}"


def _hint(error: BaseException) -> str:
    """Return advice about an exception, to append to its first line, or an empty text."""
    if not isinstance(error, NameError) or error.__traceback__ is None:
        return ""
    from ashwood.trial.guard import hint_of_guard  # imported here, so that workers start faster

    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    return hint_of_guard(error.name or "", last.tb_frame.f_globals.get("__file__"))


def storage_trouble(error: BaseException) -> StorageTrouble | None:
    """Return the outcome for an error of the disk or of checkpoint storage, or None for any other error.

    Libraries and training code may raise another exception from the original one, so the whole chain is examined.
    """
    if lacks_space(error):
        return StorageTrouble(describe(error), FULL)
    unreachable = next((each for each in _chain(error) if isinstance(each, StorageUnreachable)), None)
    return None if unreachable is None else StorageTrouble(f"{unreachable}\n{describe(error)}", UNREACHABLE)


def failure_of(error: OSError, doing: str = "") -> StorageTrouble | Failed:
    """Return the outcome for an error of the local file system; its text begins with ``doing``."""
    text = doing + describe(error)
    return StorageTrouble(text, FULL) if lacks_space(error) else Failed(text)


def blame(error: BaseException) -> str:
    """Return the cause of an error in the transfer of a checkpoint: "full", "unreachable", or "" for any other."""
    trouble = storage_trouble(error)
    return "" if trouble is None else trouble.cause


def lacks_space(error: BaseException) -> bool:
    """Return whether a full disk or an exhausted quota caused an exception.

    Libraries may raise another exception from the system's error, or only quote its text.  So the whole chain is
    examined, and the messages too.
    """
    return any(_says_full(each) for each in _chain(error))


def _says_full(error: BaseException) -> bool:
    words = "".join(traceback.format_exception_only(error))
    return getattr(error, "errno", None) in _NO_SPACE or any(os.strerror(number) in words for number in _NO_SPACE)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its causes and contexts, and the members of exception groups, each once."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        pending += (each.__cause__, each.__context__, *getattr(each, "exceptions", ()))


def _is_machinery(file: str) -> bool:
    return file.startswith((_PACKAGE, "<frozen ")) or "/importlib/" in file or file.endswith("/runpy.py")
