"""Attempts of processes that train a trial together under a launcher such as torchrun.

The processes compute together, so all of them must take the same steps.  The process of rank 0 announces how far its
loop goes before it takes those steps, and each answer of the search.  The other processes wait for announcements and do
the same.  So all processes leave their loops at the same step, and save together, as saving can take all of them.

Code that owns its loop reads `should_stop` equally often in every process, and reports at the same lengths in each.
Rank 0 announces each value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ashwood.errors import TrainingCodeError
from ashwood.trial.attempt import Attempt, Leave, Position
from ashwood.trial.channel import Link, Message, ReportAnswer
from ashwood.trial.job import WorkerJob


class LeadingAttempt(Attempt):
    """An attempt in the process of rank 0."""

    def __init__(self, job: WorkerJob, link: Link, announce: Callable[..., None]) -> None:
        self._announce = announce
        self._in_chunk = False
        super().__init__(job, link)

    def chunks(self, unit: str, step: int = 1) -> Iterator[Iterator[int]]:
        """Yield the steps of a loop in chunks, each of which is announced before it begins."""
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
        """Whether the trial must end now.  Outside a loop of the trial, the value is announced."""
        if self.loop is not None:
            return super().should_stop
        # A request to suspend is noticed only here, because the other processes learn of it here.
        self._in_chunk = False
        self._save_best_together()
        stops = super().should_stop
        self._in_chunk = True
        self._announce("stops", stops, 1)
        return stops

    def _advance(self, length: int, position: Position | None) -> None:
        super()._advance(length, position)
        self._in_chunk = True

    def _notice(self) -> None:
        """Look for a request to suspend, but only between two chunks, as all processes take the announced steps."""
        if self._suspended or self._in_chunk:
            return
        super()._notice()
        if self._suspended:
            self._announce("suspend")

    def _hurries(self) -> bool:
        """Return whether the trial must stop, also if that was not announced yet."""
        return self._suspended or self._link.suspended()

    def _save_if(self, wanted: bool, *, required: bool = True) -> None:  # noqa: ARG002
        """Save, and wait if the storage fails, because a later try would call the saver in this process only."""
        super()._save_if(wanted)

    def _save_best(self) -> None:
        """Do nothing now: all processes may have to take part in a save, and they learn of it between two chunks."""

    def _save_best_together(self) -> None:
        if self._is_worth_saving():
            self._announce("save")
            super()._save_best()

    def _obey(self, answer: ReportAnswer | None, length: int) -> None:
        # All processes may have to take part in a save, so the answer is announced first.
        if answer is None:
            self._announce("suspend")
        elif answer.target is None:
            self._announce("finish", answer.save)
        else:
            self._announce("continue", answer.target)
        super()._obey(answer, length)


class Announcements(Protocol):
    """The announcements of rank 0 for one other process."""

    def next(self) -> Message | None:
        """Wait for the next announcement and return it, or None if rank 0 has ended."""

    def put_back(self, announcement: Message) -> None:
        """Let the following call of `next` return this announcement."""


class FollowingAttempt(Attempt):
    """An attempt in a process of another rank."""

    def __init__(self, job: WorkerJob, link: Link, announcements: Announcements) -> None:
        self._announcements = announcements
        super().__init__(job, link)

    def chunks(self, unit: str, step: int = 1) -> Iterator[Iterator[int]]:
        """Yield the steps of a loop in the chunks that rank 0 announced.

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
        """The value of `should_stop` in rank 0 at this point.

        Raises:
            TrainingCodeError: rank 0 uses a loop of the trial.
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
            raise Leave  # Rank 0 has ended the trial, or its process has died.
        return announcement

    def _notice(self) -> None:
        """Do nothing: rank 0 announces requests to suspend."""

    def _ask(self, length: int) -> None:  # noqa: ARG002
        """Obey the search's answer to this report, which rank 0 announced.  Do nothing if rank 0 got no answer here."""
        announcement = self._next()
        if announcement[0] in ("to", "left", "stops", "save"):
            self._announcements.put_back(announcement)
        else:
            self._take(announcement)

    def _take(self, announcement: Message) -> None:
        match announcement:
            case ["continue", target]:
                self._obey(ReportAnswer(target, save=False), self.length)
            case ["finish", save]:
                self._obey(ReportAnswer(None, save), self.length)
            case ["save"]:
                self._save_if(True)
            case _:
                self._obey(None, self.length)
