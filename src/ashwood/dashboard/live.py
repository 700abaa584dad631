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

from ashwood.dashboard.answers import ErrorAnswer, ExperimentSummary, event_line, header, list_experiments
from ashwood.dashboard.encoding import encode
from ashwood.dashboard.experiment_cache import CachedExperiment, ExperimentCache
from ashwood.dashboard.store_thread import StoreThread
from ashwood.dashboard.trial_answers import table_row
from ashwood.errors import AshwoodError
from ashwood.eventlog.port import ExperimentId, Seq

EVENTS = "text/event-stream"
RETRY = b"retry: 1000\n\n"
"""The first line of each stream: browsers reconnect after a second."""
PING = b": still connected\n\n"
"""A comment that keeps a connection open, and shows the server whether it still is."""
_TICK_SECONDS = 0.25
_PING_SECONDS = 15.0
_MOST_TRIALS = 300
"""If more trials have changed, only their number is sent, and the page requests again what it shows."""
_MOST_LINES = 20
_MOST_DIGITS = 15

Changes: TypeAlias = dict[str, Any]


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
        yield message("failed", ErrorAnswer.of(error))


def resume_position(last_event_id: str | None, otherwise: int) -> int:
    """Return where a stream resumes: the Last-Event-ID that a reconnecting browser sent, or ``otherwise``."""
    sent = last_event_id or ""
    return int(sent) if sent.isdecimal() and len(sent) <= _MOST_DIGITS else otherwise


async def experiment_events(store: StoreThread, experiment: ExperimentId, since: Seq) -> AsyncGenerator[bytes]:
    """Yield the changes of an experiment after the entry ``since``, without end.

    Raises:
        NotFound: there is no such experiment.
    """
    before: Changes = {}

    def changes(cache: ExperimentCache) -> Changes:
        nonlocal since
        cached = cache.get(experiment)
        cached.read_entries()
        difference = _difference(cached, since, before)
        before.update(difference.get("experiment", {}))
        since = cached.seq
        return {"seq": since, **difference} if difference else {}

    async for event in _changes(store, changes, _TICK_SECONDS):
        yield event


async def list_events(store: StoreThread) -> AsyncGenerator[bytes]:
    """Yield the changes of the list of experiments, without end."""
    before: dict[int, ExperimentSummary] = {}

    def changes(cache: ExperimentCache) -> Changes:
        nonlocal before
        now = {summary.id: summary for summary in list_experiments(cache)}
        changed = [summary for number, summary in now.items() if _differs(summary, before.get(number))]
        gone = [number for number in before if number not in now]
        before = now
        return {"experiments": changed, "gone": gone} if changed or gone else {}

    async for event in _changes(store, changes, 2 * _TICK_SECONDS):
        yield event


async def _changes(
    store: StoreThread, look: Callable[[ExperimentCache], Changes], seconds: float
) -> AsyncGenerator[bytes]:
    """Look for changes every few seconds and yield them, until the server shuts down."""
    sent_at = time.monotonic()
    yield RETRY
    while not store.leaving:
        if changes := await store.do(look):
            id = str(changes["seq"]) if "seq" in changes else None  # noqa: A001 - the protocol's own word
            yield message("changed", changes, id=id)
            sent_at = time.monotonic()
        elif time.monotonic() - sent_at > _PING_SECONDS:
            yield PING
            sent_at = time.monotonic()
        await asyncio.sleep(seconds)


def _difference(cached: CachedExperiment, since: Seq, before: Changes) -> Changes:
    now = vars(header(cached))
    changed = {name: value for name, value in now.items() if name not in before or before[name] != value}
    difference: Changes = {"experiment": changed} if changed.keys() - _CLOCKS or not before else {}
    if cached.seq == since:
        return difference
    trials = cached.changed_trials(since)
    if since < cached.first_seq:
        # This dashboard began to read after `since`, so it does not know which trials have changed since then.
        difference["many"] = len(cached.history.progress.trials.rows)
    elif len(trials) > _MOST_TRIALS:
        difference["many"] = len(trials)
    else:
        difference["trials"] = [table_row(cached, trial) for trial in trials]
    # Every client of the experiment gets the same entries, which are decoded only once.
    latest, _ = cached.latest_entries(limit=max(0, min(_MOST_LINES, cached.seq - since)))
    difference["events"] = [event_line(seq, entry, cached.spec) for seq, entry in latest]
    return difference


_CLOCKS = {"seconds", "seconds_left", "utilisation", "seq"}
"""Fields that change with the time alone; they are sent only together with other changes."""


def _differs(summary: ExperimentSummary, before: ExperimentSummary | None) -> bool:
    if before is None:
        return True
    return any(value != getattr(before, name) for name, value in vars(summary).items() if name not in _CLOCKS)
