"""A cache of the experiments of a home and their views, folded from the entries that were read so far."""

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

from ashwood.checkpoints.sharing import make_shared
from ashwood.eventlog.fold_cache import LogSnapshot, read_snapshot, write_snapshot
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import EventLog, ExperimentId, ExperimentRecord, Seq
from ashwood.experiment.decisions import EndExperiment
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import CheckpointSaved, ValidationReported
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId
from ashwood.views.descriptions import trials_of
from ashwood.views.event_groups import kinds_of
from ashwood.views.event_kinds import EventKind
from ashwood.views.history import STRETCH, History
from ashwood.views.progress import VIEWS, Progress
from ashwood.views.results import last_result
from ashwood.views.table import Known, Record, blank_hparams, columns_in, near_misses, select, setting_of, trial_record
from ashwood.views.trials import TrialRow
from ashwood.views.wording import known_length

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_SNAPSHOT = "history"
"""File name of the dashboard's snapshot in the directory of an experiment."""
_TURN_SECONDS = 0.05
_CHECKED_EVERY = 64
_MOST_CACHED = 12
_MOST_FIGURES = 40
_LIST_SECONDS = 0.3
_MOST_STRETCHES = 30
_MOST_STRETCHES_OF_ALL = 10
"""Number of stretches, at most, that are decoded completely for one request."""
_MOST_CACHED_ENTRIES = 200_000
"""Number of entries and decisions of the event log, at most, that are cached after they were requested."""
_SNAPSHOT_ENTRIES = 20_000
"""Number of new entries that are worth a snapshot: folding them takes about a second."""
_EXAMPLES = 200
"""Number of records of which all columns are noted."""
_NOT_SEARCHED = frozenset(("seed", "created_at", "ended_at", "seconds"))
"""Columns that a text search skips, because users do not search for the digits of their numbers."""


class RenderedFigure(NamedTuple):
    """A figure that was rendered.

    Attributes:
        seqs: for each experiment in it, the sequence number of the last entry that it shows.
        body: the figure as JSON.
        at: time at which it was rendered, in seconds of the monotonic clock.
        cost: seconds that rendering it took.
        etag: HTTP entity tag of the body.
    """

    seqs: tuple[Seq, ...]
    body: bytes
    at: float
    cost: float
    etag: str


class WeightedCache(Generic[Key, Value]):
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


class CachedExperiment:
    """An experiment and its views, folded from the entries of its event log that were read so far.

    Attributes:
        cache: the cache that it belongs to.
        id: number of the experiment.
        spec: specification of the experiment.
        files: experiment directory on this machine; it may not exist.
        history: all views of the experiment.
        seq: sequence number of the last entry that the history's progress includes.
        first_seq: sequence number at which this dashboard began to read; which trials changed earlier is not known.
        figures: the figures that were requested last; keys are the requests.
        columns: known columns of the table of trials, each with an example value.
        lock: held while entries are read, and by code that needs unchanged views for a while.
    """

    def __init__(self, cache: ExperimentCache, experiment: ExperimentId) -> None:
        """Load the latest snapshots of a driver or a dashboard, or start with the first entry.

        Raises:
            NotFound: there is no such experiment.
        """
        home = cache.home
        self.cache = cache
        self.id = experiment
        self.spec: ExperimentSpec = home.store.spec(experiment)
        self.files: Path = home.logs(experiment).parent
        self.figures: OrderedDict[Hashable, RenderedFigure] = OrderedDict()
        self.lock = Lock()
        # Sequence number of the entry that changed each trial last, in ascending order.
        self._touched: OrderedDict[TrialId, Seq] = OrderedDict()
        self.columns: Record = {}
        self._blank = blank_hparams(self.spec.space)
        self._found: tuple[Hashable, Sequence[TrialId]] = (None, ())
        # Entries that were requested last.  Some contain thousands of decisions, which take long to decode.
        self._known = WeightedCache[Seq, Entry](_MOST_CACHED_ENTRIES)
        self._about_trials = WeightedCache[tuple[TrialId, Seq], Sequence[tuple[Seq, Entry]]](_MOST_CACHED_ENTRIES)
        self._log = home.store.log(experiment)
        self._end: Seq = 0
        self._ahead, self._behind = _Reader(self._log), _Reader(self._log)
        views, identity = ("progress", *VIEWS), self.spec.identity
        driven = read_snapshot(home.snapshot(experiment), identity, self._log, views)
        self._is_driven_here = driven is not None
        # A driver saves the progress on this machine, so the dashboard's own snapshot adds only the history.
        own_views = ("details",) if driven else ("details", *views)
        own = read_snapshot(self.files / _SNAPSHOT, identity, self._log, own_views)
        found = driven or own
        self.history = History(
            self.spec,
            None if found is None else Progress.from_parts(found.parts),
            None if own is None else own.parts["details"],
        )
        self.seq: Seq = 0 if found is None else found.seq
        self._last = None if found is None else found.last
        self._history_seq: Seq = 0 if own is None else own.seq
        self.first_seq, self._saved_seq = self.seq, self._history_seq
        _spare_collector()

    @property
    def end(self) -> Seq:
        """Sequence number of the last entry in the event log now."""
        return self._log.last()

    def read_entries(self, *, with_history: bool = True) -> bool:
        """Read entries for up to 50 ms: for the progress first, then for the history of trials.

        Drivers save no snapshot of the history, so it is often behind the progress.  Nothing is read while a figure
        is being drawn.

        Return whether the progress includes all entries, as of the last time that entries were read; and, if
        ``with_history``, whether the history does too.

        Raises:
            EventLogError: the event log is damaged; the entries before the damage remain included.
        """
        if self.lock.acquire(blocking=False):
            try:
                self._advance()
            finally:
                self.lock.release()
        return self._ahead.is_done and (self.has_history or not with_history)

    @property
    def has_history(self) -> bool:
        """Whether the history includes all entries that the progress includes."""
        return self._history_seq >= self.seq

    def _advance(self) -> None:
        if self._ahead.is_done:
            self._end = self._log.last()
        until = time.monotonic() + _TURN_SECONDS
        if not self._ahead.read(self.seq, until, self._take) or (self.has_history and self._behind.is_done):
            return
        if self._behind.read(self._history_seq, until, self._take_history):
            if self.seq - self._saved_seq > max(_SNAPSHOT_ENTRIES, self._saved_seq // 2):
                self.save_snapshot()
            _spare_collector()

    def _take(self, seq: Seq, entry: Entry) -> None:
        table = self.history.progress.trials
        by_checkpoint = table.by_checkpoint
        self.history.progress.apply(entry)
        if table.by_checkpoint != by_checkpoint:  # The first checkpoint changes the results of all trials.
            self._touched = OrderedDict.fromkeys(table.rows, seq)
        self._touch(seq, entry)
        self.seq, self._last = seq, entry
        if self._history_seq == seq - 1 and self._behind.is_done:
            self._take_history(seq, entry)

    def _take_history(self, seq: Seq, entry: Entry) -> None:
        self.history.details.apply(entry)
        self._history_seq = seq

    @property
    def fraction_read(self) -> float:
        """Fraction of the event log that has been read, from 0 to 1."""
        return min(1.0, self._history_seq / self._end) if self._end else 1.0

    def entries_about(self, trial: TrialId) -> list[Entry]:
        """Return the entries about a trial or with decisions about it, without those that contain only a report."""
        return [entry for seq in self.history.details.entries.of(trial) for _, entry in self._between(seq, seq + 1)]

    def changed_trials(self, since: Seq) -> list[TrialId]:
        """Return the trials that changed after an entry, in the order of their last changes."""
        trials: list[TrialId] = []
        for trial, seq in reversed(self._touched.items()):
            if seq <= since:
                break
            trials.append(trial)
        return trials[::-1]

    def record(self, trial: TrialId, blank: Record | None = None) -> Record:
        """Return a trial as a row of a table, with the rung to which it trains or at which it paused or ended.

        ``result.METRIC`` and ``result_length`` are its result at its highest rung, as in figures of hyperparameters.
        A replicate has no rung.  ``blank`` has values of the hyperparameters that the trial lacks.
        """
        table = self.history.progress.trials
        record = trial_record(table.rows[trial], table.spending, self.spec.metric, str, blank)
        ladder = self.history.ladder
        record["rung"] = None if trial in ladder.originals else ladder.rung(trial)
        result = last_result(ladder, trial)
        record[f"result.{self.spec.metric}"] = None if result is None else result.metric
        record["result_length"] = None if result is None else known_length(result.length)
        return record

    @property
    def best_first(self) -> str:
        """Sort order for `select` with which the best result comes first."""
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
            rows = self.history.progress.trials.ranked()
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

    def near_misses(self, where: Sequence[str]) -> dict[str, Known]:
        """Return the known values of the columns of conditions that no trial satisfies, by condition.

        Raises:
            AshwoodError: a condition is malformed, or a column does not exist.
        """
        held = columns_in(where, "", self.columns)
        records = [
            {name: record[name] for name in held if name in record}
            for record in map(self.record, self.history.progress.trials.rows)
        ]
        return near_misses(records, where, self.columns) if records else {}

    def _note_columns(self, rows: Iterable[TrialRow]) -> None:
        """Add the columns of these trials; a few records are enough, because trials differ only in their metrics."""
        metrics = set[str]()
        for place, row in enumerate(rows):
            if place < _EXAMPLES or not row.metrics.keys() <= metrics:
                metrics |= row.metrics.keys()
                for name, value in self.record(row.id, self._blank).items():
                    if self.columns.get(name) is None:
                        self.columns[name] = value

    def latest_entries(
        self, *, before: Seq | None = None, limit: int, trial: TrialId | None = None, kind: EventKind | None = None
    ) -> tuple[list[tuple[Seq, Entry]], Seq]:
        """Return the last entries before ``before``, and the first sequence number searched.

        Entries of one trial or one kind are searched only in the latest stretches of the log, so there may be fewer
        than ``limit``.
        """
        end = self.seq + 1 if before is None else min(before, self.seq + 1)
        if trial is None and kind is None:
            begin = max(1, end - limit)
            return self._between(begin, end), begin
        found: list[tuple[Seq, Entry]] = []
        last = ceil((end - 1) / STRETCH)
        if trial is None:
            stretches: Sequence[int] = range(last)
        else:
            stretches = self.history.details.stretches.of(trial)
            stretches = stretches[: bisect_left(stretches, last)]
        bests = {(each.at, each.trial) for each in self.history.improvements}
        # A report and its checkpoint can have the same time.
        makes_best = CheckpointSaved if self.history.progress.trials.by_checkpoint else ValidationReported

        def is_best(entry: Entry) -> bool:
            return isinstance(entry.event, makes_best) and (entry.at, entry.event.trial) in bests

        begin = 1
        for looked, stretch in enumerate(reversed(stretches)):
            if len(found) >= limit or looked >= (_MOST_STRETCHES if trial is not None else _MOST_STRETCHES_OF_ALL):
                begin = (stretch + 1) * STRETCH + 1
                break
            first = stretch * STRETCH + 1
            if trial is None:
                entries: Sequence[tuple[Seq, Entry]] = self._read(first, min(first + STRETCH, end))
            else:
                entries = self._about(trial, first)
            if kind is not None:
                entries = [(seq, entry) for seq, entry in entries if kind in kinds_of(entry, is_best=is_best(entry))]
            found[:0] = [each for each in entries if each[0] < end]
        return found[-limit:], found[-limit][0] if len(found) >= limit else begin

    def _about(self, trial: TrialId, first: Seq) -> Sequence[tuple[Seq, Entry]]:
        """Return the entries about a trial in the part of the log that begins at the entry ``first``."""
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

    def save_snapshot(self) -> None:
        """Save a snapshot for the next dashboard if enough entries were read since the last one."""
        has_history = self._history_seq == self.seq
        if self._last is not None and has_history and self.seq - self._saved_seq > _SNAPSHOT_ENTRIES:
            with suppress(OSError):  # If this fails, writing the snapshot fails too, which only costs time later.
                make_shared(self.files)
            # A driver saves snapshots of the other views on this machine, so they are not saved twice.
            views = {} if self._is_driven_here else self.history.progress.parts()
            parts = {**views, "details": self.history.details}
            write_snapshot(self.files / _SNAPSHOT, LogSnapshot(self.spec.identity, parts, self.seq, self._last))
            self._saved_seq = self.seq

    def add_figure(self, key: Hashable, figure: RenderedFigure) -> None:
        """Cache a figure that was rendered, and remove the oldest one if there are too many."""
        self.figures[key] = figure
        self.figures.move_to_end(key)
        if len(self.figures) > _MOST_FIGURES:
            self.figures.popitem(last=False)

    def _touch(self, seq: Seq, entry: Entry) -> None:
        if entry.decisions:
            trials: Collection[TrialId] = trials_of(entry.event, entry.decisions)
            if isinstance(entry.decisions[-1], EndExperiment):
                # Trials that continue with the experiment are shown as paused now.
                rows = self.history.progress.trials.rows.values()
                trials = {*trials, *(row.id for row in rows if row.has_job)}
        else:  # Nearly every entry is of this kind, so this path is the fast one.
            about = getattr(entry.event, "trial", None)
            trials = () if about is None else (about,)
        for trial in trials:
            self._touched[trial] = seq
            self._touched.move_to_end(trial)


def _contains(record: Record, text: str) -> bool:
    """Return whether one of a trial's values contains a lower-case text."""
    found = ((name, setting_of(record, name)) for name in record if name not in _NOT_SEARCHED)
    values = (str(value).lower() for _, value in found if value is not None)
    return text in "\0".join(values)


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
        """Process entries until a deadline, from the last piece or ``after`` on; return whether the log ended."""
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
    """Return memory that was freed after reading to the operating system, if the C library supports it."""
    import ctypes

    with suppress(OSError, AttributeError):  # Only the GNU C library has malloc_trim.
        ctypes.CDLL(None).malloc_trim(0)


class ListedExperiment(NamedTuple):
    """An experiment in the list, without its event log.

    Attributes:
        record: what the store lists of it.
        driven: whether a driver runs it.
    """

    record: ExperimentRecord
    driven: bool


class ExperimentCache:
    """All experiments of a home; the views of those that were requested last are cached."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._experiments: OrderedDict[ExperimentId, CachedExperiment] = OrderedDict()
        self._specs: dict[ExperimentId, ExperimentSpec] = {}
        self._list: dict[ExperimentId, ListedExperiment] = {}
        self._listed_at = 0.0
        self._looked_at: dict[ExperimentId, float] = {}
        self._missing: dict[ExperimentId, str | None] = {}

    def list_experiments(self) -> Sequence[ListedExperiment]:
        """Return all experiments, the oldest first; the list is up to 0.3 seconds old."""
        if time.monotonic() - self._listed_at > _LIST_SECONDS:
            self._list = {record.id: self._look(record) for record in self.home.store.experiments()}
            self._listed_at = time.monotonic()
            for gone in self._experiments.keys() - self._list.keys():
                del self._experiments[gone]
        return list(self._list.values())

    def list_experiment(self, experiment: ExperimentId) -> ListedExperiment:
        """Return one experiment of the list, up to 0.3 seconds old, without reading the others.

        Raises:
            NotFound: there is no such experiment.
        """
        looked_at = max(self._listed_at, self._looked_at.get(experiment, 0.0))
        if experiment not in self._list or time.monotonic() - looked_at > _LIST_SECONDS:
            self._list.pop(experiment, None)
            self._list[experiment] = self._look(self.home.store.record(experiment))
            self._looked_at[experiment] = time.monotonic()
        return self._list[experiment]

    def refresh_list(self) -> None:
        """Read the list again at the next request, because an experiment was just changed."""
        self._listed_at = 0.0
        self._looked_at.clear()

    def _look(self, record: ExperimentRecord) -> ListedExperiment:
        # Entries are lost while no process reads the log, so one check is enough.
        if record.id not in self._missing:
            self._missing[record.id] = self.home.missing(record.id)
        record = record._replace(damage=record.damage or self._missing[record.id])
        # An experiment in an inactive state has no driver, so its lease need not be read.
        return ListedExperiment(record, record.state.active and not self.home.is_interrupted(record))

    def spec(self, experiment: ExperimentId) -> ExperimentSpec:
        """Return the specification of an experiment.

        Raises:
            NotFound: there is no such experiment.
        """
        if (spec := self._specs.get(experiment)) is None:
            spec = self._specs[experiment] = self.home.store.spec(experiment)
        return spec

    def get(self, experiment: ExperimentId) -> CachedExperiment:
        """Return an experiment and its views, from the entries of its event log that were read so far.

        Raises:
            NotFound: there is no such experiment.
        """
        cached = self._experiments.get(experiment)
        if cached is None:
            cached = self._experiments[experiment] = CachedExperiment(self, experiment)
            if len(self._experiments) > _MOST_CACHED:
                _, dropped = self._experiments.popitem(last=False)
                dropped.save_snapshot()
        self._experiments.move_to_end(experiment)
        return cached

    def close(self) -> None:
        """Save snapshots of the cached experiments, and close the home."""
        for cached in self._experiments.values():
            cached.save_snapshot()
        self.home.close()
