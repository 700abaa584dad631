"""The fold cache: state folded from an event log, and the snapshot file that keeps it for the next reader.

Driver, commands and dashboard read an experiment through this module, so that none of them reads a long log from its
beginning again.

A snapshot is a cache.  If its file is damaged, or does not fit the log or this version of Ashwood, it is ignored.  It
contains pickles, and unpickling can run any code.  So it is a file that only its owner can write, and is read only if
this user owns it.  It is never in a database, which other users may write to.

The file contains a digest of all that follows, a header (number and identity of the last entry, identity of the
experiment), the parts, their offsets in the file, and the offset of these offsets.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from ashwood.checkpoints.regular import open_to_read
from ashwood.errors import IllegalEvent, ReplayDivergence
from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.collector import no_collector
from ashwood.eventlog.port import EventLog, ExperimentId, Seq
from ashwood.experiment.entry import Entry
from ashwood.experiment.entry import fold as fold_entries
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import ExperimentSpec
from ashwood.views.checkpoints import CheckpointTable
from ashwood.views.progress import Progress

if TYPE_CHECKING:
    from ashwood.eventlog.home import Home

FOLDING_PACKAGES = ("search", "experiment", "views")
"""Packages whose code folds logs or is pickled; a snapshot is ignored if a file in one of them has changed since."""

_ENTRIES_A_BEAT = 1_000
_EXPERIMENT = "experiment"
_DIGEST_BYTES = 32
_OFFSET_BYTES = 8
_CHUNK_BYTES = 1 << 16
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


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
        _check_entry(experiment, seq, last)
        progress.apply(last)
        if seq % _ENTRIES_A_BEAT == 0:
            beat()
    progress.search = experiment.search
    return Folded(experiment, progress, seq, last)


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


def load_progress(spec: ExperimentSpec, path: Path, log: EventLog, views: Collection[str] = ()) -> tuple[Progress, Seq]:
    """Return the progress in a snapshot and the number of its last entry, or the progress before the first entry."""
    snapshot = read_snapshot(path, spec.identity, log, ("progress", *views))
    return (Progress(spec), 0) if snapshot is None else (Progress.from_parts(snapshot.parts), snapshot.seq)


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
    log = home.store.log(experiment)
    progress, seq = load_progress(home.store.spec(experiment), home.snapshot(experiment), log, views)
    return fold_entries(progress, (entry for _, entry in log.read(after=seq)))


def read_checkpoints(home: Home, experiment: ExperimentId) -> CheckpointTable:
    """Return the checkpoints of an experiment.  This takes less memory than `read_progress`."""
    spec, log = home.store.spec(experiment), home.store.log(experiment)
    snapshot = read_snapshot(home.snapshot(experiment), spec.identity, log, ["checkpoints"])
    table: CheckpointTable = CheckpointTable(spec) if snapshot is None else snapshot.parts["checkpoints"]
    return fold_entries(table, (entry for _, entry in log.read(after=0 if snapshot is None else snapshot.seq)))


def _check_entry(experiment: Experiment, seq: Seq, entry: Entry) -> None:
    """Let an experiment handle a recorded event, and compare its decisions with the recorded decisions.

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


class LogSnapshot(NamedTuple):
    """The state that was folded from an event log up to one of its entries.

    Attributes:
        identity: identity of the experiment.
        parts: the state, in named parts; each can be read without the others.
        seq: number of the last entry that was folded.
        last: that entry.
    """

    identity: str
    parts: Mapping[str, Any]
    seq: Seq
    last: Entry


def write_snapshot(path: Path, snapshot: LogSnapshot, beat: Callable[[], None] = lambda: None) -> None:
    """Write a snapshot file; an error is ignored, because the log can be folded again.

    ``beat`` is called many times a second, because writing may take longer than the timeout of a lease.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        # Pickling creates many objects that stay in memory until the end.
        with open(fresh, "xb", opener=_open_private) as file, no_collector():
            file.write(bytes(_DIGEST_BYTES))
            writer = _DigestingWriter(file, beat)
            header = snapshot.seq, _identity(snapshot.last), snapshot.identity
            pickle.dump(header, writer, pickle.HIGHEST_PROTOCOL)
            offsets = {}
            for name, part in snapshot.parts.items():
                offsets[name] = file.tell()
                pickle.dump(part, writer, pickle.HIGHEST_PROTOCOL)
            end = file.tell()
            pickle.dump(offsets, writer, pickle.HIGHEST_PROTOCOL)
            writer.write(end.to_bytes(_OFFSET_BYTES, "big"))
            file.seek(0)
            file.write(writer.digest.digest())
        # No fsync is needed: the digest detects a file that a power loss left incomplete.
        fresh.replace(path)
    except OSError:
        with suppress(OSError):  # An incomplete file would only take up disk space.
            fresh.unlink(missing_ok=True)


def read_snapshot(
    path: Path, identity: str, log: EventLog, names: Collection[str], beat: Callable[[], None] = lambda: None
) -> LogSnapshot | None:
    """Return a snapshot with the parts ``names``, or None if there is no file that fits.

    Args:
        path: the snapshot file.
        identity: identity of the experiment.
        log: event log of the experiment.
        names: names of the parts to read.
        beat: called many times a second, as by `write_snapshot`.
    """
    try:
        with open_to_read(path) as opened:
            _check_owner(opened)
            file = _BeatingReader(opened, beat)
            expected = file.read(_DIGEST_BYTES)
            digest = _new_digest()
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
            if digest.digest() != expected:
                return None
            opened.seek(_DIGEST_BYTES)
            # The file was written by this user and has not changed since, so unpickling it is safe.
            seq, last_identity, owner = pickle.load(file)  # noqa: S301
            # The log may have been restored from a backup: then it may be shorter, or have other entries since.
            last = next((entry for _, entry in log.read(after=seq - 1)), None)
            if last is None or _identity(last) != last_identity or owner != identity:
                return None
            opened.seek(-_OFFSET_BYTES, os.SEEK_END)
            opened.seek(int.from_bytes(opened.read(_OFFSET_BYTES), "big"))
            offsets = pickle.load(file)  # noqa: S301
            parts = {}
            with no_collector():
                for name in names:
                    opened.seek(offsets[name])
                    parts[name] = pickle.load(file)  # noqa: S301
            return LogSnapshot(identity, parts, seq, last)
    except (OSError, ValueError, pickle.UnpicklingError, AttributeError, ImportError, EOFError, TypeError, KeyError):
        return None


def _new_digest() -> hashlib.blake2b:
    """Return a hash object keyed with the digest of the code, so that a snapshot of another version is ignored."""
    return hashlib.blake2b(digest_size=_DIGEST_BYTES, key=_code_digest())


class _DigestingWriter:
    """Writes to a file and digests what it writes, so that a large snapshot is never in memory as a whole."""

    def __init__(self, file: BinaryIO, beat: Callable[[], None]) -> None:
        self.digest = _new_digest()
        self._file = file
        self._beat = beat

    def write(self, data: bytes) -> int:
        self._beat()
        self.digest.update(data)
        return self._file.write(data)


class _BeatingReader:
    """Reads a file and calls ``beat`` before each read.

    That is often enough, because pickle reads at most some hundred kilobytes at a time.
    """

    def __init__(self, file: BinaryIO, beat: Callable[[], None]) -> None:
        self._file = file
        self._beat = beat

    def read(self, size: int) -> bytes:
        self._beat()
        return self._file.read(size)

    def readline(self) -> bytes:
        return self._file.readline()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _check_owner(file: BinaryIO) -> None:
    """Raise PermissionError unless this user owns the file and only this user can write it.

    In a shared home, another user's file could run any code when it is unpickled.
    """
    about = os.fstat(file.fileno())
    if about.st_uid != os.geteuid() or about.st_mode & _OTHERS_WRITE:
        raise PermissionError


def _identity(entry: Entry) -> tuple[float, str]:
    """Return a value that differs between entries with the same number in different logs."""
    return entry.at, encode_entry(entry)


@cache
def _code_digest() -> bytes:
    """Return a digest of the source code of `FOLDING_PACKAGES`."""
    import ashwood

    digest = hashlib.blake2b(digest_size=16)
    for package in FOLDING_PACKAGES:
        for file in sorted(Path(ashwood.__file__).parent.joinpath(package).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.digest()
