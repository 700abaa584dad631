"""Call the training function until its attempt has an outcome."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from ashwood.errors import CheckpointError, StorageUnreachable
from ashwood.trial.api import Trial
from ashwood.trial.attempt import Again, Damaged, Ended, Failed, Leave, NoSpace, Outcome, Rejected, Stopped, draw_of
from ashwood.trial.channel import Link, Message
from ashwood.trial.job import Job
from ashwood.trial.storage import About, open_storage

_OURS = f"{Path(__file__).parent.parent}{os.sep}"
_LONGEST = 30_000
_T = TypeVar("_T")
_LONGEST_LINE = 2_000
_FULL = (errno.ENOSPC, errno.EDQUOT)


def run(function: Callable[[Trial], Any], job: Job, link: Link) -> Outcome:
    """Train a trial as far as the search wants; nothing that the function does raises out of here."""
    while True:
        outcome = with_checkpoint(job, lambda ready: _call(function, ready, link))
        if not isinstance(outcome, Again):
            return outcome
        job = outcome.job


def with_checkpoint(job: Job, work: Callable[[Job], _T]) -> _T | Damaged | Failed | NoSpace:
    """Do some work on a job while its checkpoint, if it has one, is verified and at hand in ``job.directory``."""
    with ExitStack() as stack:
        directory = None
        if job.checkpoint is not None:
            try:
                storage, wanted = open_storage(job.checkpoints), About(experiment=job.experiment, draw=draw_of(job))
                directory = str(stack.enter_context(storage.fetch(job.checkpoint, wanted)))
            except StorageUnreachable as error:
                return Failed(str(error))
            except CheckpointError as error:
                return Damaged(job.checkpoint, str(error))
            except OSError as error:  # of the disk that it is downloaded to
                return NoSpace(describe(error)) if lacks_space(error) else Failed(describe(error))
        return work(job._replace(directory=directory))


def _call(function: Callable[[Trial], Any], job: Job, link: Link) -> Outcome:
    trial = Trial(job, link)
    try:
        return outcome_of(trial, function(trial))
    except Leave:
        return outcome_of(trial)
    except BaseException as error:  # noqa: BLE001 - whatever training code raises costs this attempt only
        if lacks_space(error):
            return NoSpace(describe(error))
        if isinstance(error, SystemExit):
            return Failed(f"the training code called sys.exit({error.code!r}); to end a trial early, call trial.stop()")
        return Failed(describe(error))


def outcome_of(trial: Trial, returned: Any = None) -> Outcome:
    """How a trial's attempt ended, now that the training code has returned."""
    return trial._attempt.outcome(returned)


def message_of(outcome: Outcome) -> Message:
    """An outcome as the last message of a job."""
    match outcome:
        case Ended(length):
            return ["ended", length]
        case Failed(error):
            return ["failed", error]
        case NoSpace(error):
            return ["no_space", error]
        case Rejected(why):
            return ["invalid", why]
        case Stopped():
            return ["stopped"]
        case Damaged(checkpoint, why):
            return ["damaged", checkpoint, why]
        case Again(job):
            return ["again", job]


def describe(error: BaseException) -> str:
    """An exception for people: one line, then the traceback from the user's code on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None and _is_machinery(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    headline = traceback.format_exception_only(error)[-1].strip() + _hint(error)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}\n…\n{text[-_LONGEST // 2 :]}"
    return f"{headline[:_LONGEST_LINE]}\n{text}"


def _hint(error: BaseException) -> str:
    """Return what may help with an exception, as an addition to its line."""
    if not isinstance(error, NameError) or error.__traceback__ is None:
        return ""
    from ashwood.trial.guard import hint_of_guard  # Only errors need it, and workers start fast without.

    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    return hint_of_guard(error.name or "", last.tb_frame.f_globals.get("__file__"))


def lacks_space(error: BaseException) -> bool:
    """Whether a full disk or an exhausted quota is behind an exception.

    Libraries wrap the system's error, or only quote it, so the whole chain and its words count.
    """
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        error_ = pending.pop()
        if error_ is None or id(error_) in seen:
            continue
        seen.add(id(error_))
        words = "".join(traceback.format_exception_only(error_))
        if getattr(error_, "errno", None) in _FULL or any(os.strerror(number) in words for number in _FULL):
            return True
        pending += (error_.__cause__, error_.__context__, *getattr(error_, "exceptions", ()))
    return False


def _is_machinery(file: str) -> bool:
    return file.startswith((_OURS, "<frozen ")) or "/importlib/" in file or file.endswith("/runpy.py")
