"""Rows of experiments, leases and requests in SQL stores: their digests, and decoding that tolerates damage.

A list of experiments reads one row of each experiment.  A damaged row must not hide the others, so it raises no error:
`read_record` returns the values that can be used, and ``damage`` says what is wrong and what to do.  In rows of older
schemas the digests are NULL, and they are not checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from ashwood.errors import AshwoodError, EventLogError
from ashwood.eventlog.codec import check_digest, decode_request, digest_of
from ashwood.eventlog.port import (
    Driver,
    ExperimentId,
    ExperimentRecord,
    LeaseState,
    PendingRequest,
    Seq,
    UnreadableRequest,
)
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId

_ENDS: Final = (
    "head, (SELECT max(seq) FROM entries WHERE entries.experiment = id)"
    " FROM experiments LEFT JOIN logs ON logs.experiment = id"
)
ENDS: Final = f"SELECT {_ENDS}"
"""A SELECT statement for the arguments of `end_of_log`; a WHERE clause can follow."""

RECORD: Final = f"SELECT id, created_at, name, labels, archived, about_digest, state, summary, state_digest, {_ENDS}"
"""A SELECT statement for the fields of `RecordRow`; WHERE and ORDER BY clauses can follow."""

MOST_NOTE_BYTES: Final = 64 << 10
"""Largest size of a note in UTF-8."""

_UNKNOWN_DRIVER: Final = Driver("an unknown machine", 0, "", 0)
_LONGEST_SHOWN: Final = 200
_UNSTORABLE: Final = re.compile("[\\0\\ud800-\\udfff]")
_YEAR_9999: Final = 253_402_300_799


class RecordRow(NamedTuple):
    """The row of an experiment that `RECORD` selects; a damaged field may have any type."""

    id: ExperimentId
    created_at: Any
    name: Any
    labels: Any
    archived: Any
    about_digest: Any
    state: Any
    summary: Any
    state_digest: Any
    head: Any
    highest: Any


class Listing(NamedTuple):
    """The description of an experiment in lists: creation time, name, labels and whether it is archived."""

    created_at: float
    name: str
    labels: tuple[str, ...]
    archived: bool


def check_name(name: str) -> str:
    """Return the name of an experiment unchanged if every database can store it.

    Raises:
        EventLogError: the name contains a NUL character or is not valid Unicode.
    """
    if storable(name) != name:
        raise EventLogError(
            f"the name {name[:_LONGEST_SHOWN]!r} contains a NUL character or is not valid Unicode text: choose another"
        )
    return name


def storable(text: str) -> str:
    """Return a text with U+FFFD in place of NUL and surrogates, which PostgreSQL cannot store."""
    return _UNSTORABLE.sub("\ufffd", text)


def check_note(text: str) -> str:
    """Return the text of a note unchanged if every database can store it.

    Raises:
        AshwoodError: it is too long, contains a NUL character or is not valid Unicode.
    """
    if storable(text) != text:
        raise AshwoodError("the note contains a NUL character or is not valid Unicode text: remove these characters")
    if (size := len(text.encode())) > MOST_NOTE_BYTES:
        raise AshwoodError(
            f"the note has {size:,} bytes, and at most {MOST_NOTE_BYTES:,} are stored: shorten it, or put the text "
            "elsewhere and link to it"
        )
    return text


def note_digest(trial: TrialId | None, text: str) -> int:
    """Return the digest of a note; ``trial`` is None for the note on the experiment itself."""
    return digest_of(repr((trial, text)))


def about_digest(created_at: Any, name: Any, labels: Any, archived: Any) -> int:
    """Return the digest of the creation time, name, labels and archived columns of an experiment."""
    return digest_of(repr((created_at, name, labels, archived)))


def state_digest(state: Any, summary: Any) -> int:
    """Return the digest of the state and summary columns of an experiment."""
    return digest_of(repr((state, summary)))


def end_of_log(head: Any, highest: Any) -> Seq:
    """Return the number of the last entry: the larger of the stored head and the highest number of an entry.

    Each transaction that adds entries also sets the head to the last of them.  So if the head is lower, the head is
    damaged.  If it is higher, entries are missing, and reading them raises an error.
    """
    numbers = [value for value in (head, highest) if type(value) is int and value >= 0]
    return max(numbers, default=0)


def read_about(row: RecordRow, spec: Callable[[], ExperimentSpec]) -> tuple[Listing, bool]:
    """Return the description of an experiment, and whether it is damaged.

    Damaged fields are replaced by those of the spec, or by defaults.
    """
    is_damaged = row.about_digest is not None and row.about_digest != about_digest(
        row.created_at, row.name, row.labels, row.archived
    )
    created_at = row.created_at if _is_number(row.created_at) and 0 <= row.created_at <= _YEAR_9999 else None
    name = row.name if isinstance(row.name, str) else None
    labels = _parsed(row.labels, list)
    if labels is not None and not all(isinstance(label, str) for label in labels):
        labels = None
    archived = bool(row.archived) if row.archived in (0, 1) else None
    if created_at is None or name is None or labels is None or archived is None:
        is_damaged = True
    if name is None or labels is None:
        with suppress(EventLogError):  # `Store.check_spec` reports a damaged spec.
            described = spec()
            name = described.name if name is None else name
            labels = described.labels if labels is None else labels
    return (
        Listing(
            0.0 if created_at is None else float(created_at),
            f"experiment {row.id}" if name is None else name,
            () if labels is None else tuple(labels),
            bool(archived),
        ),
        is_damaged,
    )


def read_state(row: RecordRow) -> tuple[ExperimentState, dict[str, Any]] | None:
    """Return the state and the summary of an experiment, or None if they are damaged."""
    if row.state_digest is not None and row.state_digest != state_digest(row.state, row.summary):
        return None
    summary = _parsed(row.summary, dict)
    if summary is None or not _is_summary(summary):
        return None
    try:
        return ExperimentState(row.state), summary
    except ValueError:
        return None


def read_record(
    row: RecordRow, spec: Callable[[], ExperimentSpec], rebuild_state: Callable[[], ExperimentState]
) -> ExperimentRecord:
    """Return the record of an experiment, also from a damaged row.

    Args:
        row: the row of the experiment.
        spec: returns the spec; called only if the row is damaged.
        rebuild_state: returns the state that the log leads to; called only if the state or the summary is damaged.
    """
    about, about_is_damaged = read_about(row, spec)
    known = read_state(row)
    damage: list[str] = []
    if about_is_damaged:
        damage.append(
            "its name, labels, creation time or archived flag is damaged: restore those of its spec with "
            f"'ashwood verify {row.id} --repair', or set them with 'ashwood rename' and 'ashwood label'"
        )
    if known is None:
        damage.append(f"its state or summary is damaged: rebuild both with 'ashwood verify {row.id} --repair'")
    highest = row.highest if type(row.highest) is int else 0
    if (end := end_of_log(row.head, row.highest)) > highest:
        damage.append(
            f"entries {highest + 1} to {end} of its log are missing: save the rest with 'ashwood export {row.id} "
            f"--until {highest} --out FILE.ashwood', or restore the database from a backup"
            if highest
            else f"all {end} entries of its log are missing: restore the database from a backup"
        )
    state, summary = (rebuild_state(), {}) if known is None else known
    return ExperimentRecord(
        row.id,
        about.created_at,
        about.name,
        state,
        summary,
        about.labels,
        about.archived,
        "; ".join(damage) or None,
    )


def read_lease(token: Any, beat: Any, driver: Any, digest: Any, idle: Any) -> LeaseState:
    """Return a lease; if its driver is damaged, the driver is unknown.

    An unknown driver is considered alive as long as there are heartbeats.
    """
    known = _parsed(driver, list)
    types = (str, int, str, int)
    fits = known is not None and [type(value) for value in known] == [*types]
    if digest is not None and digest != digest_of(str(driver)):
        fits = False
    owner = Driver(*known) if known is not None and fits else _UNKNOWN_DRIVER
    return LeaseState(token, beat, owner, float(idle) if _is_number(idle) else float("inf"))


def request_digest(at: float, version: int, body: str) -> int:
    """Return the digest of the columns of a request."""
    return digest_of(f"{at!r} {version} {body}")


def read_request(at: Any, version: Any, body: Any, digest: Any) -> PendingRequest:
    """Return a request, or an `UnreadableRequest` if it cannot be decoded."""
    try:
        if digest is not None:
            check_digest(digest, f"{at!r} {version} {body}")
        return decode_request(version, body)
    except EventLogError as error:
        return UnreadableRequest(str(error))


def _parsed(text: Any, kind: type) -> Any:
    """Return the value of a JSON text, or None if the text is damaged or its value is not a ``kind``."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    return value if isinstance(value, kind) else None


def _is_summary(summary: Mapping[str, Any]) -> bool:
    """Return whether the values of a summary that lists use have the right types."""
    best, trials, points = summary.get("best"), summary.get("trials", {}), summary.get("improvements", [])
    numbers = [summary.get(name) for name in _NUMBERS]
    return (
        all(number is None or _is_number(number) for number in numbers)
        and isinstance(trials, dict)
        and all(type(count) is int for count in trials.values())
        and (best is None or (isinstance(best, dict) and all(_is_number(best.get(name)) for name in _BEST)))
        and isinstance(points, list)
        and all(isinstance(point, list) and len(point) == 2 and all(map(_is_number, point)) for point in points)
    )


_NUMBERS: Final = (
    "fraction",
    "seconds",
    "seconds_left",
    "at",
    "trials_planned",
    "trials_created",
    "replicates_created",
)
_BEST: Final = ("trial", "metric", "length", "at")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
