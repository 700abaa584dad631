"""Decide and commit: the first two of the three lines, for whoever owns an experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ashwood.errors import DiskFull, IllegalEvent
from ashwood.eventlog.port import Answer, Entry, EventLog, PendingRequest, RequestId, UnreadableRequest
from ashwood.experiment.events import Event
from ashwood.experiment.experiment import Experiment

Observer = Callable[[Sequence[Entry]], None]


class Recorder:
    """Puts events to an experiment and makes them, with what it decides, durable before anybody acts on it.

    Attributes:
        experiment: the state that the log leads to.
        ran_out_of_room: why nothing more could be recorded, before room was made.
    """

    def __init__(
        self,
        experiment: Experiment,
        log: EventLog,
        clock: Callable[[], float],
        *,
        make_room: Callable[[], None] | None = None,
    ) -> None:
        """Record to ``log``.

        Args:
            experiment: the state that ``log`` leads to.
            log: where to record.
            clock: seconds since 1970, never going back.
            make_room: frees what was kept for the case that the disk is full.
        """
        self.experiment = experiment
        self.ran_out_of_room: str | None = None
        self._log = log
        self._clock = clock
        self._make_room = make_room

    def take(
        self, events: Iterable[Event], summary: Mapping[str, Any] | None = None, *, at: float | None = None
    ) -> list[Entry]:
        """Decide about events, one after the other, and commit all of it at once.

        ``at`` is when they happened, as far as is known; None: just now.

        Raises:
            IllegalEvent: one of them can't have happened.
            EventLogError: nothing was recorded.
        """
        when = self._clock() if at is None else at
        entries = [Entry(when, event, self.experiment.handle(event)) for event in events]
        self._commit(entries, {}, summary)
        return entries

    def answer(self, requests: Sequence[tuple[RequestId, PendingRequest]]) -> list[Entry]:
        """Do what users ask for, or refuse it; their answers are committed with what is done.

        A request that cannot be read is refused, so it never stops a driver.

        Raises:
            EventLogError: nothing was recorded, and no answer given.
        """
        now = self._clock()
        entries: list[Entry] = []
        answers: dict[RequestId, Answer] = {}
        for number, request in requests:
            if isinstance(request, UnreadableRequest):
                answers[number] = Answer(
                    f"request {number} cannot be read: {request.why}. Nothing was done. "
                    "Send the request again, with the version of Ashwood that drives the experiment."
                )
                continue
            try:
                entries.append(Entry(now, request, self.experiment.handle(request)))
            except IllegalEvent as error:
                answers[number] = Answer(str(error))
            else:
                answers[number] = Answer(None)
        self._commit(entries, answers, None)
        return entries

    def summarize(self, summary: Mapping[str, Any]) -> None:
        """Keep a summary for lists, of all that is recorded."""
        self._commit((), {}, summary)

    def _commit(
        self, entries: Sequence[Entry], answers: Mapping[RequestId, Answer], summary: Mapping[str, Any] | None
    ) -> None:
        try:
            self._log.append(entries, summary=summary, answers=answers)
        except DiskFull as error:
            self.make_room(error)
            self._log.append(entries, summary=summary, answers=answers)

    def make_room(self, error: DiskFull) -> None:
        """Free what was kept for this case.

        Raises:
            DiskFull: it is freed already, or there is nothing: ``error``.
        """
        if self._make_room is None or self.ran_out_of_room is not None:
            raise error
        self.ran_out_of_room = str(error)
        self._make_room()
