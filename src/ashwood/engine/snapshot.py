"""Reads the state of an experiment from its snapshot and the later entries of its event log."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from ashwood.errors import IllegalEvent, ReplayDivergence, RequestRefused
from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import EventLog, ExperimentId, Seq
from ashwood.eventlog.snapshot import LogSnapshot, read_snapshot, write_snapshot
from ashwood.experiment.entry import Entry
from ashwood.experiment.entry import fold as fold_entries
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import ExperimentSpec
from ashwood.views.checkpoints import CheckpointTable
from ashwood.views.progress import Progress

_ENTRIES_A_BEAT = 1_000
_EXPERIMENT = "experiment"


class Folded(NamedTuple):
    """The state at an entry of an event log.

    Attributes:
        experiment: state of the experiment.
        progress: views for users, such as trials and their metrics.
        seq: number of the last entry that was applied.
        last: that entry, or None if the event log is empty.
    """

    experiment: Experiment
    progress: Progress
    seq: Seq
    last: Entry | None


def fold(
    spec: ExperimentSpec,
    log: EventLog,
    snapshot: Path | None = None,
    *,
    views: Collection[str] = (),
    beat: Callable[[], None] = lambda: None,
) -> Folded:
    """Return the state at the end of an event log, and check that the search makes the recorded decisions again.

    Args:
        spec: the spec of the experiment.
        log: its event log.
        snapshot: path of its snapshot; if that exists and fits, only later entries are read and checked.
        views: names of the views that are needed; see `read_progress`.
        beat: called many times a second, because reading a long event log takes longer than the lease lasts.

    Raises:
        EventLogError: the event log is damaged; the message names the entry.
        ReplayDivergence: the search decides otherwise than was recorded; the message names the entry.
    """
    folded = (snapshot and load(spec, snapshot, log, views, beat)) or Folded(Experiment(spec), Progress(spec), 0, None)
    experiment, progress, seq, last = folded
    for seq, last in log.read(after=folded.seq):
        check_entry(experiment, seq, last)
        progress.apply(last)
        if seq % _ENTRIES_A_BEAT == 0:
            beat()
    progress.search = experiment.search
    return Folded(experiment, progress, seq, last)


def read_progress(home: Home, experiment: ExperimentId, views: Collection[str] = ()) -> Progress:
    """Return the progress of an experiment, from its snapshot and the later entries of its event log.

    Recorded decisions are not checked; only `fold` does that.

    Args:
        home: the home of the experiment.
        experiment: the ID of the experiment.
        views: attributes of the progress that are needed, from `ashwood.views.progress.VIEWS`.  The others may be
            missing, which saves time.

    Raises:
        NotFound: there is no experiment with that ID.
        EventLogError: the event log is damaged; the message names the entry.
    """
    spec, log = home.store.spec(experiment), home.store.log(experiment)
    progress, seq = load_progress(spec, home.snapshot(experiment), log, views) or (Progress(spec), 0)
    return fold_entries(progress, (entry for _, entry in log.read(after=seq)))


def load_progress(
    spec: ExperimentSpec, path: Path, log: EventLog, views: Collection[str] = ()
) -> tuple[Progress, Seq] | None:
    """Return the progress in a snapshot and the number of its last entry, or None if no snapshot fits the event log."""
    snapshot = read_snapshot(path, spec.identity, log, ("progress", *views))
    return None if snapshot is None else (Progress.from_parts(snapshot.parts), snapshot.seq)


def read_checkpoints(home: Home, experiment: ExperimentId) -> CheckpointTable:
    """Return the checkpoints of an experiment.  This takes less memory than `read_progress`."""
    spec, log = home.store.spec(experiment), home.store.log(experiment)
    snapshot = read_snapshot(home.snapshot(experiment), spec.identity, log, ["checkpoints"])
    table: CheckpointTable = CheckpointTable(spec) if snapshot is None else snapshot.parts["checkpoints"]
    return fold_entries(table, (entry for _, entry in log.read(after=0 if snapshot is None else snapshot.seq)))


def check_imported(experiment: ExperimentId, spec: ExperimentSpec, log: EventLog) -> None:
    """Check that an imported experiment has all of its entries; the import may have been killed.

    Raises:
        RequestRefused: entries are missing.
    """
    expected, there = spec.imported_entries, log.last()
    if there < expected:
        raise RequestRefused(
            f"experiment {experiment} was not imported completely: its event log has {there} of {expected} entries. "
            f"Delete it (ashwood delete {experiment}) and import the file again"
        )


def check_entry(experiment: Experiment, seq: Seq, entry: Entry) -> None:
    """Let an experiment handle a recorded event, and compare its decisions with the recorded ones.

    Raises:
        ReplayDivergence: the decisions differ, or the event cannot happen in this state.
    """
    try:
        decisions = experiment.handle(entry.event)
    except IllegalEvent as error:
        raise ReplayDivergence(f"entry {seq} of the event log cannot follow the entries before it: {error}") from error
    # Decisions can be unequal although nothing differs: NaN is not equal to itself, and a tuple is read back as a list.
    # Their encoded text is equal then.  It is compared only if needed, because encoding is slow.
    if decisions != entry.decisions and encode_entry(entry._replace(decisions=decisions)) != encode_entry(entry):
        raise ReplayDivergence(
            f"entry {seq} of the event log has other decisions than this version of Ashwood makes: "
            f"recorded {entry.decisions}, now {decisions}"
        )


def save(path: Path, folded: Folded, beat: Callable[[], None] = lambda: None) -> None:
    """Write a snapshot; an error is ignored.  ``beat`` is called many times a second meanwhile."""
    if folded.last is not None:
        parts = {**folded.progress.parts(), _EXPERIMENT: folded.experiment}
        write_snapshot(path, LogSnapshot(folded.progress.spec.identity, parts, folded.seq, folded.last), beat)


def load(
    spec: ExperimentSpec,
    path: Path,
    log: EventLog,
    views: Collection[str] = (),
    beat: Callable[[], None] = lambda: None,
) -> Folded | None:
    """Return the state in a snapshot, or None if no snapshot fits the event log.  Arguments are as for `fold`."""
    snapshot = read_snapshot(path, spec.identity, log, ("progress", *views, _EXPERIMENT), beat)
    if snapshot is None:
        return None
    return Folded(snapshot.parts[_EXPERIMENT], Progress.from_parts(snapshot.parts), snapshot.seq, snapshot.last)
