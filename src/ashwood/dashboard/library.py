"""The experiments of a home and their views, folded as far as each event log has been read."""

from __future__ import annotations

import gc
import time
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from math import ceil
from pathlib import Path
from threading import Lock
from typing import Generic, NamedTuple, TypeVar

from ashwood.eventlog.home import Home
from ashwood.eventlog.port import EventLog, ExperimentId, ExperimentRecord, Seq
from ashwood.eventlog.snapshot import LogSnapshot, read_snapshot, write_snapshot
from ashwood.experiment.decisions import EndExperiment
from ashwood.experiment.entry import Entry
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId
from ashwood.trial.sharing import make_shared
from ashwood.views.chronicle import STRETCH, Chronicle
from ashwood.views.descriptions import trials_of
from ashwood.views.progress import VIEWS, Progress
from ashwood.views.table import Record, columns_in, select, trial_record
from ashwood.views.trials import TrialRow

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_TURN_SECONDS = 0.05
_CHECKED_EVERY = 64
_MOST_FOLLOWED = 12
_MOST_DRAWN = 40
_GLANCE_SECONDS = 0.3
_MOST_STRETCHES = 30
_MOST_REMEMBERED = 200_000
"""Number of entries and decisions of the event log, at most, that are cached after they were requested."""
_WORTH_KEEPING = 20_000
"""Number of new entries that are worth a snapshot: folding them takes about a second."""
_EXAMPLES = 200
"""Number of records of which all columns are noted."""
_UNSAID = frozenset(("seed", "created_at", "ended_at", "seconds"))
"""Columns that a text search skips, because users do not search for the digits of their numbers."""


class Drawn(NamedTuple):
    """A figure that was drawn.

    Attributes:
        seqs: for each experiment in it, the sequence number of the last entry that it shows.
        body: the figure as JSON.
        at: time at which it was drawn, in seconds of the monotonic clock.
        cost: seconds that drawing it took.
        etag: HTTP entity tag of the body.
    """

    seqs: tuple[Seq, ...]
    body: bytes
    at: float
    cost: float
    etag: str


class Remembered(Generic[Key, Value]):
    """A cache of the values that were added last, bounded by their total weight."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        self._kept: dict[Key, tuple[Value, int]] = {}

    def get(self, key: Key) -> Value | None:
        """Return a value, or None if it is not in the cache."""
        known = self._kept.get(key)
        return None if known is None else known[0]

    def put(self, key: Key, value: Value, weight: int) -> None:
        """Add a value and remove the oldest ones over the limit; a value heavier than the limit is not added."""
        self._weight -= self._kept.pop(key, (value, 0))[1]
        if weight > self._most:
            return
        self._kept[key] = value, weight
        self._weight += weight
        while self._weight > self._most:
            self._weight -= self._kept.pop(next(iter(self._kept)))[1]


class Followed:
    """An experiment and its views, folded from its event log.

    Attributes:
        id: number of the experiment.
        spec: specification of the experiment.
        files: experiment directory on this machine; it may not exist.
        chronicle: all views of the experiment.
        seq: sequence number of the last entry that the chronicle's progress includes.
        begin: sequence number at which this dashboard began to read; which trials changed earlier is not known.
        drawn: the figures that were requested last, by their request.
        columns: known columns of the table of trials, each with an example value.
        still: lock that is held while entries are read, and by code that needs unchanged views for a while.
    """

    def __init__(self, home: Home, experiment: ExperimentId) -> None:
        """Load the latest snapshots of a driver or a dashboard, or start with the first entry.

        Raises:
            NotFound: there is no such experiment.
        """
        self.id = experiment
        self.spec: ExperimentSpec = home.store.spec(experiment)
        self.files: Path = home.logs(experiment).parent
        self.drawn: OrderedDict[Hashable, Drawn] = OrderedDict()
        self.still = Lock()
        # Sequence number of the entry that changed each trial last, in ascending order.
        self._touched: OrderedDict[TrialId, Seq] = OrderedDict()
        self.columns: Record = {}
        self._found: tuple[Hashable, Sequence[TrialId]] = (None, ())
        # Entries that were requested last.  Some contain thousands of decisions, which take long to decode.
        self._known: Remembered[Seq, Entry] = Remembered(_MOST_REMEMBERED)
        self._about_trials: Remembered[tuple[TrialId, Seq], Sequence[tuple[Seq, Entry]]] = Remembered(_MOST_REMEMBERED)
        self._log = home.store.log(experiment)
        self._end: Seq = 0
        self._ahead, self._behind = _Reader(self._log), _Reader(self._log)
        views, identity = ("progress", *VIEWS), self.spec.identity
        driven = read_snapshot(home.snapshot(experiment), identity, self._log, views)
        self._is_driven_here = driven is not None
        kept = read_snapshot(self.files / _KEPT, identity, self._log, ("history",) if driven else ("history", *views))
        found = driven or kept
        self.chronicle = Chronicle(
            self.spec,
            None if found is None else Progress.from_parts(found.parts),
            None if kept is None else kept.parts["history"],
        )
        self.seq: Seq = 0 if found is None else found.seq
        self._last = None if found is None else found.last
        self._history_seq: Seq = 0 if kept is None else kept.seq
        self.begin, self._kept = self.seq, self._history_seq
        _spare_collector()

    @property
    def end(self) -> Seq:
        """Sequence number of the last entry in the event log now."""
        return self._log.last()

    def advance(self, *, whole: bool = True) -> bool:
        """Read entries for up to 50 ms: for the progress first, then for the history of trials.

        Drivers save no snapshot of the history, so it is often behind the progress.  Nothing is read while a figure
        is being drawn.

        Return whether the progress includes all entries, as of the last time that entries were read; and, if
        ``whole``, whether the history does too.

        Raises:
            EventLogError: the event log is damaged; the entries before the damage remain included.
        """
        if self.still.acquire(blocking=False):
            try:
                self._advance()
            finally:
                self.still.release()
        return self._ahead.is_done and (self.is_whole or not whole)

    @property
    def is_whole(self) -> bool:
        """Whether the history includes all entries that the progress includes."""
        return self._history_seq >= self.seq

    def _advance(self) -> None:
        if self._ahead.is_done:
            self._end = self._log.last()
        until = time.monotonic() + _TURN_SECONDS
        if not self._ahead.read(self.seq, until, self._take) or (self.is_whole and self._behind.is_done):
            return
        if self._behind.read(self._history_seq, until, self._take_history):
            if self.seq - self._kept > max(_WORTH_KEEPING, self._kept // 2):
                self.keep()
            _spare_collector()

    def _take(self, seq: Seq, entry: Entry) -> None:
        table = self.chronicle.progress.trials
        by_checkpoint = table.by_checkpoint
        self.chronicle.progress.apply(entry)
        if table.by_checkpoint != by_checkpoint:  # The first checkpoint changes the results of all trials.
            self._touched = OrderedDict.fromkeys(table.rows, seq)
        self._touch(seq, entry)
        self.seq, self._last = seq, entry
        if self._history_seq == seq - 1 and self._behind.is_done:
            self._take_history(seq, entry)

    def _take_history(self, seq: Seq, entry: Entry) -> None:
        self.chronicle.history.apply(entry)
        self._history_seq = seq

    @property
    def read(self) -> float:
        """Fraction of the event log that has been read, from 0 to 1."""
        return min(1.0, self._history_seq / self._end) if self._end else 1.0

    def about(self, trial: TrialId) -> list[Entry]:
        """Return the entries about a trial or with decisions about it, without those that contain only a report."""
        return [entry for seq in self.chronicle.history.entries.of(trial) for _, entry in self._between(seq, seq + 1)]

    def changed(self, since: Seq) -> list[TrialId]:
        """Return the trials that changed after an entry, in the order of their last changes."""
        trials: list[TrialId] = []
        for trial, seq in reversed(self._touched.items()):
            if seq <= since:
                break
            trials.append(trial)
        return trials[::-1]

    def record(self, trial: TrialId) -> Record:
        """Return a trial as a row of a table, with the rung to which it trains or at which it paused or ended."""
        table = self.chronicle.progress.trials
        record = trial_record(table.rows[trial], table.spending.live.get(trial), self.spec.metric, str)
        record["rung"] = self.chronicle.ladder.rung(trial)
        return record

    @property
    def best_first(self) -> str:
        """Sort key of the best result, the best first, in the form that `select` takes."""
        best = f"best.{self.spec.metric}"
        return best if self.spec.smaller_is_better else f"-{best}"

    def find(self, where: Sequence[str] = (), sort: str = "", text: str = "") -> Sequence[TrialId]:
        """Return the sorted trials that meet all conditions and contain a lower-case text.

        Among equals, and without ``sort``, the best comes first.  Records of all trials would need more memory than
        everything else.  So they are made again for each request that needs them, with only the columns that it uses.

        Raises:
            AshwoodError: a condition is malformed, or a column does not exist.
        """
        asked = (self.seq, tuple(where), sort, text)
        if self._found[0] != asked:
            rows = self.chronicle.progress.trials.ranked()
            self._note_columns(rows)
            if rows and (where or sort or text):
                held = {"trial", *columns_in(where, sort, self.columns)}
                records = [
                    {name: record[name] for name in held if name in record}
                    for record in (self.record(row.id) for row in rows)
                    if not text or _contains(record, text)
                ]
                found = [record["trial"] for record in select(records, where, sort, self.columns)]
            else:
                found = [row.id for row in rows]
            self._found = (asked, array("q", found))
        return self._found[1]

    def _note_columns(self, rows: Iterable[TrialRow]) -> None:
        """Add the columns of these trials; a few records are enough, because trials differ only in their metrics."""
        metrics = set[str]()
        for place, row in enumerate(rows):
            if place < _EXAMPLES or not row.metrics.keys() <= metrics:
                metrics |= row.metrics.keys()
                for name, value in self.record(row.id).items():
                    if self.columns.get(name) is None:
                        self.columns[name] = value

    def latest(
        self, *, before: Seq | None = None, limit: int, trial: TrialId | None = None
    ) -> tuple[list[tuple[Seq, Entry]], Seq]:
        """Return the last entries before ``before``, of one trial or of all, and the first sequence number searched.

        Entries of one trial are searched only in its latest stretches of the log, so there may be fewer than ``limit``.
        """
        end = self.seq + 1 if before is None else min(before, self.seq + 1)
        if trial is None:
            begin = max(1, end - limit)
            return self._between(begin, end), begin
        found: list[tuple[Seq, Entry]] = []
        stretches = self.chronicle.history.stretches.of(trial)
        begin = 1
        for looked, stretch in enumerate(reversed(stretches[: bisect_left(stretches, ceil((end - 1) / STRETCH))])):
            if len(found) >= limit or looked >= _MOST_STRETCHES:
                begin = (stretch + 1) * STRETCH + 1
                break
            first = stretch * STRETCH + 1
            found[:0] = [each for each in self._about(trial, first) if each[0] < end]
        return found[-limit:], found[-limit][0] if len(found) >= limit else begin

    def _about(self, trial: TrialId, first: Seq) -> Sequence[tuple[Seq, Entry]]:
        """Return the entries about a trial in the stretch of the log that begins at the entry ``first``."""
        if (known := self._about_trials.get((trial, first))) is not None:
            return known
        is_all = first + STRETCH <= self.seq + 1
        entries = self._read(first, first + STRETCH) if is_all else self._between(first, self.seq + 1)
        found = [each for each in entries if trial in trials_of(each[1].event, each[1].decisions)]
        if is_all:
            self._about_trials.put((trial, first), found, sum(1 + len(entry.decisions) for _, entry in found))
        return found

    def _between(self, begin: Seq, end: Seq) -> list[tuple[Seq, Entry]]:
        """Return the entries from ``begin`` to ``end``, without ``end``, and cache them for the next request."""
        known = [(seq, entry) for seq in range(begin, end) if (entry := self._known.get(seq)) is not None]
        if len(known) == end - begin:
            return known
        found = self._read(begin, end)
        for seq, entry in found:
            self._known.put(seq, entry, 1 + len(entry.decisions))
        return found

    def _read(self, begin: Seq, end: Seq) -> list[tuple[Seq, Entry]]:
        return list(islice(self._log.read(after=begin - 1), max(0, end - begin)))

    def entries(self, *, after: Seq, limit: int) -> list[tuple[Seq, Entry]]:
        """Return up to ``limit`` entries after ``after``, as far as the event log has been read."""
        return list(islice(self._log.read(after=after), min(limit, max(0, self.seq - after))))

    def keep(self) -> None:
        """Save a snapshot for the next dashboard if enough entries were read since the last one."""
        is_whole = self._history_seq == self.seq
        if self._last is not None and is_whole and self.seq - self._kept > _WORTH_KEEPING:
            with suppress(OSError):  # If this fails, writing the snapshot fails too, which only costs time later.
                make_shared(self.files)
            # A driver saves snapshots of the other views on this machine, so they are not saved twice.
            views = {} if self._is_driven_here else self.chronicle.progress.parts()
            parts = {**views, "history": self.chronicle.history}
            write_snapshot(self.files / _KEPT, LogSnapshot(self.spec.identity, parts, self.seq, self._last))
            self._kept = self.seq

    def keep_drawn(self, key: Hashable, drawn: Drawn) -> None:
        """Cache a figure that was drawn, and remove the least recently drawn one if there are too many."""
        self.drawn[key] = drawn
        self.drawn.move_to_end(key)
        if len(self.drawn) > _MOST_DRAWN:
            self.drawn.popitem(last=False)

    def _touch(self, seq: Seq, entry: Entry) -> None:
        if entry.decisions:
            trials: Collection[TrialId] = trials_of(entry.event, entry.decisions)
            if isinstance(entry.decisions[-1], EndExperiment):
                # Trials that continue with the experiment are shown as paused now.
                rows = self.chronicle.progress.trials.rows.values()
                trials = {*trials, *(row.id for row in rows if row.has_job)}
        else:  # Nearly every entry is of this kind, so this path is the fast one.
            about = getattr(entry.event, "trial", None)
            trials = () if about is None else (about,)
        for trial in trials:
            self._touched[trial] = seq
            self._touched.move_to_end(trial)


_KEPT = "chronicle"


def _contains(record: Record, text: str) -> bool:
    """Return whether one of a trial's values contains a lower-case text."""
    told = (str(value).lower() for name, value in record.items() if value is not None and name not in _UNSAID)
    return text in "\0".join(told)


class _Reader:
    """Reads a log in pieces.

    Attributes:
        is_done: whether the last piece was read to the end of the log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._entries: Iterator[tuple[Seq, Entry]] | None = None

    @property
    def is_done(self) -> bool:
        return self._entries is None

    def read(self, after: Seq, until: float, take: Callable[[Seq, Entry], None]) -> bool:
        """Take entries until a time, from where the last piece ended or after ``after``; return whether it is done."""
        if self._entries is None:
            self._entries = self._log.read(after=after)
        try:
            for seq, entry in self._entries:
                take(seq, entry)
                if seq % _CHECKED_EVERY == 0 and time.monotonic() > until:
                    return False
        except BaseException:
            # An iterator that has raised only ends when it is asked again, which would look like the end of the log.
            self._entries = None
            raise
        self._entries = None
        return True


def _spare_collector() -> None:
    """Exclude all current objects from Python's garbage collection, which would scan the large views repeatedly."""
    gc.freeze()
    _return_free_memory()


def _return_free_memory() -> None:
    """Give memory that was freed after reading back to the operating system, if the C library supports it."""
    import ctypes

    with suppress(OSError, AttributeError):  # Only the GNU C library has it.
        ctypes.CDLL(None).malloc_trim(0)


class Listed(NamedTuple):
    """An experiment in the list, without its event log.

    Attributes:
        record: what the store lists of it.
        driven: whether a driver runs it.
    """

    record: ExperimentRecord
    driven: bool


class Library:
    """All experiments of a home; the views of those that were requested last are cached."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._followed: OrderedDict[ExperimentId, Followed] = OrderedDict()
        self._specs: dict[ExperimentId, ExperimentSpec] = {}
        self._list: dict[ExperimentId, Listed] = {}
        self._listed_at = 0.0
        self._looked_at: dict[ExperimentId, float] = {}
        self._missing: dict[ExperimentId, str | None] = {}

    def glance(self) -> Sequence[Listed]:
        """Return all experiments, the oldest first; the list is up to 0.3 seconds old."""
        if time.monotonic() - self._listed_at > _GLANCE_SECONDS:
            self._list = {record.id: self._look(record) for record in self.home.store.experiments()}
            self._listed_at = time.monotonic()
            for gone in self._followed.keys() - self._list.keys():
                del self._followed[gone]
        return list(self._list.values())

    def listed(self, experiment: ExperimentId) -> Listed:
        """Return one experiment of the list, up to 0.3 seconds old, without reading the others.

        Raises:
            NotFound: there is no such experiment.
        """
        looked_at = max(self._listed_at, self._looked_at.get(experiment, 0.0))
        if experiment not in self._list or time.monotonic() - looked_at > _GLANCE_SECONDS:
            self._list.pop(experiment, None)
            self._list[experiment] = self._look(self.home.store.record(experiment))
            self._looked_at[experiment] = time.monotonic()
        return self._list[experiment]

    def look_again(self) -> None:
        """Read the list again at the next request, because an experiment was just changed."""
        self._listed_at = 0.0
        self._looked_at.clear()

    def _look(self, record: ExperimentRecord) -> Listed:
        # Entries are lost while no process reads the log, so one check is enough.
        if record.id not in self._missing:
            self._missing[record.id] = self.home.missing(record.id)
        record = record._replace(damage=record.damage or self._missing[record.id])
        # An experiment in an inactive state has no driver, so its lease need not be read.
        return Listed(record, record.state.active and not self.home.is_interrupted(record))

    def spec(self, experiment: ExperimentId) -> ExperimentSpec:
        """Return the specification of an experiment.

        Raises:
            NotFound: there is no such experiment.
        """
        if (spec := self._specs.get(experiment)) is None:
            spec = self._specs[experiment] = self.home.store.spec(experiment)
        return spec

    def follow(self, experiment: ExperimentId) -> Followed:
        """Return an experiment and its views, as far as its event log has been read.

        Raises:
            NotFound: there is no such experiment.
        """
        followed = self._followed.get(experiment)
        if followed is None:
            followed = self._followed[experiment] = Followed(self.home, experiment)
            if len(self._followed) > _MOST_FOLLOWED:
                _, dropped = self._followed.popitem(last=False)
                dropped.keep()
        self._followed.move_to_end(experiment)
        return followed

    def close(self) -> None:
        """Save snapshots of the cached experiments, and close the home."""
        for followed in self._followed.values():
            followed.keep()
        self.home.close()
