"""A log, folded and checked: from a snapshot on, where a driver left one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from ashwood.errors import IllegalEvent, ReplayDivergence, RequestRefused
from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import Entry, EventLog, ExperimentId, Seq
from ashwood.eventlog.snapshot import LogSnapshot, read_snapshot, write_snapshot
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import ExperimentSpec
from ashwood.views.checkpoints import CheckpointTable
from ashwood.views.progress import Progress

_ENTRIES_A_BEAT = 1_000
_EXPERIMENT = "experiment"


class Folded(NamedTuple):
    """What a log leads to.

    Attributes:
        seq: the place of the last entry that was folded.
        last: that entry; None: the log is empty.
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
    """Fold a log, from a snapshot on where one fits, and check that the search decides what was recorded.

    Args:
        spec: the experiment.
        log: its log.
        snapshot: where a driver may have kept a snapshot.
        views: the views of the progress that are needed, see `read_progress`.
        beat: called many times a second, because a long log takes longer than a driver may be silent.

    Raises:
        EventLogError: the log is damaged; the message names the entry.
        ReplayDivergence: a recorded decision isn't what the search decides; the message names the entry.
    """
    folded = (snapshot and load(spec, snapshot, log, views, beat)) or Folded(Experiment(spec), Progress(spec), 0, None)
    experiment, progress, seq, last = folded
    for seq, last in log.read(after=folded.seq):
        check_entry(experiment, seq, last)
        progress.apply(*last)
        if seq % _ENTRIES_A_BEAT == 0:
            beat()
    progress.search = experiment.search
    return Folded(experiment, progress, seq, last)


def read_progress(home: Home, experiment: ExperimentId, views: Collection[str] = ()) -> Progress:
    """Return what the log of an experiment shows, from a driver's snapshot on if there is one.

    Recorded decisions are taken as they are; only `fold` compares them with what the search decides.
    ``views`` names attributes of the progress that are needed, of `ashwood.views.progress.VIEWS`; the others may be
    missing.

    Raises:
        NotFound: there is no such experiment.
        EventLogError: the log is damaged; the message names the entry.
    """
    spec, log = home.store.spec(experiment), home.store.log(experiment)
    progress, seq = load_progress(spec, home.snapshot(experiment), log, views) or (Progress(spec), 0)
    for _, entry in log.read(after=seq):
        progress.apply(*entry)
    return progress


def load_progress(
    spec: ExperimentSpec, path: Path, log: EventLog, views: Collection[str] = ()
) -> tuple[Progress, Seq] | None:
    """Return the progress in the snapshot of a log and its last entry's number, or None if there is none that fits."""
    kept = read_snapshot(path, spec.identity, log, ("progress", *views))
    return None if kept is None else (Progress.from_parts(kept.parts), kept.seq)


def read_checkpoints(home: Home, experiment: ExperimentId) -> CheckpointTable:
    """Return the checkpoints of an experiment as `read_progress` does, but in less memory."""
    spec, log = home.store.spec(experiment), home.store.log(experiment)
    kept = read_snapshot(home.snapshot(experiment), spec.identity, log, ["checkpoints"])
    table: CheckpointTable = CheckpointTable(spec) if kept is None else kept.parts["checkpoints"]
    for _, entry in log.read(after=0 if kept is None else kept.seq):
        table.apply(*entry)
    return table


def check_imported(experiment: ExperimentId, spec: ExperimentSpec, log: EventLog) -> None:
    """Make sure that an experiment that came as a file came completely: the process may have been killed meanwhile.

    Raises:
        RequestRefused: it did not.
    """
    expected, there = spec.imported_entries, log.last()
    if there < expected:
        raise RequestRefused(
            f"experiment {experiment} was not imported completely: {there} of {expected} entries of its log are here. "
            f"Delete it (ashwood delete {experiment}) and import the file again"
        )


def check_entry(experiment: Experiment, seq: Seq, entry: Entry) -> None:
    """Let an experiment handle a recorded event, and compare what it decides with what was recorded.

    Raises:
        ReplayDivergence: it decides otherwise, or the event can't have happened.
    """
    try:
        decisions = experiment.handle(entry.event)
    except IllegalEvent as error:
        raise ReplayDivergence(f"entry {seq} of the log can't follow those before it: {error}") from error
    # Text settles what equality can't: NaN, and tuples that came back as lists.
    if decisions != entry.decisions and encode_entry(entry._replace(decisions=decisions)) != encode_entry(entry):
        raise ReplayDivergence(
            f"entry {seq} of the log records other decisions than this version of Ashwood takes: "
            f"recorded {entry.decisions}, now {decisions}"
        )


def save(path: Path, folded: Folded, beat: Callable[[], None] = lambda: None) -> None:
    """Keep a snapshot; if that fails, there is none.  ``beat`` is called many times a second meanwhile."""
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
    """Return the snapshot of a log, or None if there is none that fits.  Arguments are as for `fold`."""
    kept = read_snapshot(path, spec.identity, log, ("progress", *views, _EXPERIMENT), beat)
    if kept is None:
        return None
    return Folded(kept.parts[_EXPERIMENT], Progress.from_parts(kept.parts), kept.seq, kept.last)
