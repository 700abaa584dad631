"""Attempts of processes that train a trial together under a launcher such as torchrun.

Training code on several processes computes together, so every process must take the same steps.  The process of rank 0
announces how far its loop goes before it takes those steps, and what it learns from the search; the others wait for
that and do the same.  So all processes leave their loops at the same step, and save together where saving takes all.

Code that owns its loop asks `should_stop` equally often in every process, and reports at the same lengths everywhere.
Rank 0 announces each answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ashwood.errors import TrainingCodeError
from ashwood.trial.attempt import Attempt, Leave
from ashwood.trial.channel import Link, Message, Verdict
from ashwood.trial.job import Job


class LeadingAttempt(Attempt):
    """An attempt in the process of rank 0."""

    def __init__(self, job: Job, link: Link, announce: Callable[..., None]) -> None:
        self._announce = announce
        self._in_chunk = False
        super().__init__(job, link)

    def chunks(self, unit: str, step: int = 1) -> Iterator[Iterator[int]]:
        """The steps of a loop, in chunks that are announced before they begin."""
        try:
            for chunk in super().chunks(unit, step):
                if self.loop is not None:
                    self._announce("to", unit, self.loop.stop, self.loop.due)
                self._in_chunk = True
                yield chunk
                self._in_chunk = False
                self._save_best_together()
        finally:
            self._in_chunk = False
            self._announce("left")

    @property
    def should_stop(self) -> bool:
        """Whether the trial must end now; outside a loop of the trial the answer is announced."""
        if self.loop is not None:
            return super().should_stop
        # A request to suspend is noticed here alone, because the other processes learn of it here.
        self._in_chunk = False
        self._save_best_together()
        stops = super().should_stop
        self._in_chunk = True
        self._announce("stops", stops, 1)
        return stops

    def _advance(self, length: int) -> None:
        super()._advance(length)
        self._in_chunk = True

    def _notice(self) -> None:
        """Notice a request to suspend between two chunks: the other processes take all steps that were announced."""
        if self._suspended or self._in_chunk:
            return
        super()._notice()
        if self._suspended:
            self._announce("suspend")

    def _hurries(self) -> bool:
        """Return whether the trial has to stop, also if that is not announced yet."""
        return self._suspended or self._link.suspended()

    def _save_if(self, wanted: bool, *, required: bool = True) -> None:  # noqa: ARG002
        """Save, waiting for a storage that fails: a later try would call the saver of this process alone."""
        super()._save_if(wanted)

    def _save_best(self) -> None:
        """Do nothing yet: saving may take all processes, which learn of it between two chunks."""

    def _save_best_together(self) -> None:
        if self._is_worth_saving():
            self._announce("save")
            super()._save_best()

    def _obey(self, verdict: Verdict | None, length: int) -> None:
        # Saving may take all processes, so they must know of it first.
        if verdict is None:
            self._announce("suspend")
        elif verdict.target is None:
            self._announce("finish", verdict.save)
        else:
            self._announce("go", verdict.target)
        super()._obey(verdict, length)


class Announcements(Protocol):
    """What the process of rank 0 announced, for one other process."""

    def next(self) -> Message | None:
        """Return the next announcement, waiting for it, or None if rank 0 has ended."""
        ...

    def put_back(self, announcement: Message) -> None:
        """Return an announcement from the following call of `next`."""
        ...


class FollowingAttempt(Attempt):
    """An attempt in a process of another rank."""

    def __init__(self, job: Job, link: Link, announcements: Announcements) -> None:
        self._announcements = announcements
        super().__init__(job, link)

    def chunks(self, unit: str, step: int = 1) -> Iterator[Iterator[int]]:
        """The steps of a loop, in the chunks that rank 0 announced.

        Raises:
            TrainingCodeError: the loop of rank 0 counts another unit.
        """
        loop = self._enter(unit, step)
        try:
            while announcement := self._next():
                match announcement:
                    case ["to", found, stop, due] if found == unit:
                        yield loop.follow(stop, due)
                    case ["to", found, *_]:
                        raise TrainingCodeError(
                            f"rank {self.job.rank} loops over trial.{unit}(), but rank 0 over trial.{found}(): "
                            "all processes of a trial must use the same loop"
                        )
                    case ["left"]:
                        break
                    case ["stops", *_]:
                        raise TrainingCodeError(
                            f"rank {self.job.rank} loops over trial.{unit}(), but rank 0 asks trial.should_stop: all "
                            "processes of a trial must use the same loop"
                        )
                    case _:
                        self._take(announcement)
        finally:
            loop.active = False

    @property
    def should_stop(self) -> bool:
        """What rank 0 was answered at this point.

        Raises:
            TrainingCodeError: rank 0 loops over something.
        """
        if self.loop is not None:
            return super().should_stop
        self._looks = True
        while True:
            match self._next():
                case ["stops", stops, count]:
                    if count > 1:
                        self._announcements.put_back(["stops", stops, count - 1])
                    return bool(stops)
                case ["to", found, *_]:
                    raise TrainingCodeError(
                        f"rank {self.job.rank} asks trial.should_stop, but rank 0 loops over trial.{found}(): all "
                        "processes of a trial must use the same loop"
                    )
                case ["suspend"]:
                    self._suspended = True  # As in rank 0, nothing is saved before the next report.
                case announcement if announcement[0] != "left":
                    self._take(announcement)

    def _next(self) -> Message:
        announcement = self._announcements.next()
        if announcement is None:
            raise Leave  # rank 0 has stopped the trial, or is gone
        return announcement

    def _notice(self) -> None:
        """Do nothing: requests to suspend come from rank 0."""

    def _ask(self, length: int) -> None:  # noqa: ARG002
        """Do what the search answered to rank 0 at this report.  If rank 0 has not asked there, do nothing."""
        announcement = self._next()
        if announcement[0] in ("to", "left", "stops", "save"):
            self._announcements.put_back(announcement)
        else:
            self._take(announcement)

    def _take(self, announcement: Message) -> None:
        match announcement:
            case ["go", target]:
                self._obey(Verdict(target, save=False), self.length)
            case ["finish", save]:
                self._obey(Verdict(None, save), self.length)
            case ["save"]:
                self._save_if(True)
            case _:
                self._obey(None, self.length)
