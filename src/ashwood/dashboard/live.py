"""Live updates as server-sent events.

A client sends the sequence number of the last entry that it knows.  So it gets only what is new to it, also after a
lost connection, and a slow client gets fewer, larger messages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any, TypeAlias

from fastapi.responses import StreamingResponse

from ashwood.dashboard.answers import event_line, failure
from ashwood.dashboard.desk import Desk
from ashwood.dashboard.encoding import encode
from ashwood.dashboard.library import Followed, Library
from ashwood.dashboard.shapes import Card, Header
from ashwood.errors import AshwoodError
from ashwood.eventlog.port import ExperimentId, Seq

EVENTS = "text/event-stream"
_TICK_SECONDS = 0.25
_PING_SECONDS = 15.0
_MOST_TRIALS = 300
"""If more trials have changed, only their number is sent, and the page requests again what it shows."""
_MOST_LINES = 20
_MOST_DIGITS = 15

Answer: TypeAlias = dict[str, Any]
TellHeader: TypeAlias = Callable[[Library, Followed], Header]


def message(event: str, data: Any, *, id: str | None = None) -> bytes:  # noqa: A002 - the protocol's own word
    """Return the bytes of one server-sent event."""
    lines = [f"event: {event}".encode(), *([] if id is None else [f"id: {id}".encode()])]
    return b"\n".join([*lines, b"data: " + encode(data), b"", b""])


def stream(events: AsyncIterable[bytes]) -> StreamingResponse:
    """Return a response that sends events as they happen."""
    return StreamingResponse(until_failure(events), media_type=EVENTS, headers={"X-Accel-Buffering": "no"})


async def until_failure(events: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield events, and a last event ``failed`` if an error ends them.

    An error cannot become the status of a response that has already started.
    """
    try:
        async for event in events:
            yield event
    except AshwoodError as error:
        yield message("failed", failure(error))


def resume_position(last_event_id: str | None, otherwise: int) -> int:
    """Return where a stream resumes: the Last-Event-ID that a reconnecting browser sent, or ``otherwise``."""
    said = last_event_id or ""
    return int(said) if said.isdecimal() and len(said) <= _MOST_DIGITS else otherwise


async def experiment_events(
    desk: Desk, experiment: ExperimentId, since: Seq, header: Callable[[Library, Followed], Header]
) -> AsyncGenerator[bytes]:
    """Yield the changes of an experiment after the entry ``since``, without end.

    Raises:
        NotFound: there is no such experiment.
    """
    before: Answer = {}
    said = time.monotonic()
    yield b"retry: 1000\n\n"

    def look(library: Library) -> tuple[Answer, Seq]:
        followed = library.follow(experiment)
        followed.advance()
        return _difference(library, followed, since, before, header), followed.seq

    while not desk.leaving:
        difference, since = await desk.do(look)
        if difference:
            before |= difference.get("experiment", {})
            yield message("changed", {"seq": since, **difference}, id=str(since))
            said = time.monotonic()
        elif time.monotonic() - said > _PING_SECONDS:
            yield b": still here\n\n"
            said = time.monotonic()
        await asyncio.sleep(_TICK_SECONDS)


def _difference(
    library: Library, followed: Followed, since: Seq, before: Answer, header: Callable[[Library, Followed], Header]
) -> Answer:
    now = header(library, followed)
    changed: Answer = {name: value for name, value in now.items() if name not in before or before[name] != value}
    difference: Answer = {"experiment": changed} if changed.keys() - _CLOCKS or not before else {}
    if followed.seq == since:
        return difference
    trials = followed.changed(since)
    if since < followed.begin:
        # This dashboard began to read after `since`, so it does not know which trials have changed since then.
        difference["many"] = len(followed.chronicle.progress.trials.rows)
    elif len(trials) > _MOST_TRIALS:
        difference["many"] = len(trials)
    else:
        difference["trials"] = [followed.record(trial) for trial in trials]
    # Every client of the experiment gets the same entries, which are decoded only once.
    latest, _ = followed.latest(limit=max(0, min(_MOST_LINES, followed.seq - since)))
    difference["events"] = [event_line(seq, entry, followed.spec) for seq, entry in latest]
    return difference


_CLOCKS = {"seconds", "seconds_left", "utilisation", "seq"}
"""Fields that change with the time alone; they are sent only together with other changes."""


async def list_events(desk: Desk, cards: Callable[[Library], list[Card]]) -> AsyncGenerator[bytes]:
    """Yield the changes of the list of experiments, without end."""
    before: dict[int, Card] = {}
    said = time.monotonic()
    yield b"retry: 1000\n\n"
    while not desk.leaving:
        now = {card["id"]: card for card in await desk.do(cards)}
        changed = [card for number, card in now.items() if _differs(card, before.get(number))]
        gone = [number for number in before if number not in now]
        if changed or gone:
            yield message("changed", {"experiments": changed, "gone": gone})
            said = time.monotonic()
        elif time.monotonic() - said > _PING_SECONDS:
            yield b": still here\n\n"
            said = time.monotonic()
        before = now
        await asyncio.sleep(2 * _TICK_SECONDS)


def _differs(card: Card, before: Card | None) -> bool:
    return before is None or any(value != before.get(name) for name, value in card.items() if name not in _CLOCKS)
