"""Decides about events and commits them: the first two steps of the engine, also used without a backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ashwood.errors import DiskFull, IllegalEvent
from ashwood.eventlog.port import Answer, EventLog, PendingRequest, RequestId, UnreadableRequest
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import Event
from ashwood.experiment.experiment import Experiment

Observer = Callable[[Sequence[Entry]], None]
"""Called with new entries of the event log, when they are durable."""


class Recorder:
    """Lets an experiment handle events, and records them and its decisions before they take effect.

    Attributes:
        experiment: the state at the end of the event log.
        ran_out_of_room: the error when the disk was full and the reserve file was deleted, or None.
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
            experiment: the state at the end of ``log``.
            log: the event log.
            clock: returns seconds since 1970, which never go back.
            make_room: deletes the reserve file, so that a few more entries can be recorded on a full disk.
        """
        self.experiment = experiment
        self.ran_out_of_room: str | None = None
        self._log = log
        self._clock = clock
        self._make_room = make_room

    def take(
        self, events: Iterable[Event], summary: Mapping[str, Any] | None = None, *, at: float | None = None
    ) -> list[Entry]:
        """Let the experiment handle events one after the other, and commit all of them at once.

        Args:
            events: the events.
            summary: new summary of the experiment, or None to leave it unchanged.
            at: when the events happened, in seconds since 1970; by default, now.

        Raises:
            IllegalEvent: an event cannot happen in this state.
            EventLogError: nothing was recorded.
        """
        when = self._clock() if at is None else at
        entries = [Entry(when, event, self.experiment.handle(event)) for event in events]
        self._commit(entries, {}, summary)
        return entries

    def answer(self, requests: Sequence[tuple[RequestId, PendingRequest]]) -> list[Entry]:
        """Carry out requests or refuse them, and commit the answers together with the events.

        A request that cannot be read is refused, so it never stops a driver.

        Raises:
            EventLogError: nothing was recorded, and no request was answered.
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
        """Record a summary for lists of experiments; it must reflect all entries of the event log."""
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
        """Delete the reserve file because the disk is full.

        Raises:
            DiskFull: there is no reserve file, or it is already deleted; this is ``error``.
        """
        if self._make_room is None or self.ran_out_of_room is not None:
            raise error
        self.ran_out_of_room = str(error)
        self._make_room()
