"""Head files: the number and the digest of the last entry of an event log, stored outside the database.

A database that was restored from an older copy, or that lost the end of its write-ahead log, looks intact.  So the
driver writes the number and the digest of the last entry into a file in the experiment directory.  It does so after the
commit of that entry, and at most once a second.  When the log is opened to be continued or checked, it must contain all
entries up to the head.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from ashwood.checkpoints.sharing import share
from ashwood.checkpoints.trees import sync
from ashwood.errors import EventLogError
from ashwood.eventlog.codec import VERSION, digest_of, encode_entry
from ashwood.eventlog.port import Answer, EventLog, ExperimentId, RequestId, Seq
from ashwood.experiment.entry import Entry

PERIOD: Final = 1.0
"""Seconds between two writes of a head file."""

EXPERIMENTS: Final = "experiments"
"""Name of the directory in a home that contains the experiment directories."""

_NAME: Final = "head"
_SIZE: Final = 128
# Training code, or another user who may write to the home, can replace a head file.  A link must not be followed, and
# opening a pipe must not block.
_FLAGS: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Head(NamedTuple):
    """The content of a head file: the identity of the last entry of a log.

    Attributes:
        seq: number of the entry.
        at: when its event was handled, in seconds since 1970.
        version: version of the codec that encoded the entry for the digest.
        digest: digest of its number, time and text.
    """

    seq: Seq
    at: float
    version: int
    digest: int

    @classmethod
    def of(cls, seq: Seq, entry: Entry) -> Head:
        """Return the head of a log whose last entry is ``entry``, with the number ``seq``."""
        at = float(entry.at)
        return cls(seq, at, VERSION, digest_of(f"{seq} {at!r} {encode_entry(entry)}"))

    def names(self, seq: Seq, entry: Entry) -> bool:
        """Return whether this is the head of a log whose last entry is ``entry``."""
        other = Head.of(seq, entry)
        # Another version of the codec may encode the same entry differently, so its digest cannot be compared.
        return self == other if self.version == other.version else self[:2] == other[:2]


def head_path(home: Path, experiment: ExperimentId) -> Path:
    """Return the head file of an experiment."""
    return head_in(home / EXPERIMENTS / str(experiment))


def head_in(directory: Path) -> Path:
    """Return the head file in the directory of an experiment."""
    return directory / _NAME


def numbers_with_head(home: Path) -> set[ExperimentId]:
    """Return the numbers of the experiments that have a head file in a home."""
    names = [head.parent.name for head in (home / EXPERIMENTS).glob(f"*/{_NAME}")]
    return {int(name) for name in names if name.isdecimal()}


def read_head(path: Path) -> Head | None:
    """Return the head in a file, or None if the file does not exist or is damaged."""
    with suppress(OSError, ValueError):
        handle = os.open(path, os.O_RDONLY | _FLAGS)
        try:
            text, _, digest = os.read(handle, _SIZE).decode("ascii").strip().rpartition(" ")
        finally:
            os.close(handle)
        seq, at, version, of_entry = text.split()
        if int(digest) == digest_of(text):
            return Head(int(seq), float(at), int(version), int(of_entry))
    return None


class HeadedLog:
    """An event log with a head file; see `ashwood.eventlog.port.EventLog`.

    Close it, or use it as a context manager.
    """

    def __init__(self, log: EventLog, experiment: ExperimentId, path: Path) -> None:
        """Wrap a log; ``path`` is its head file.  Call `check` before the log is continued."""
        self._log = log
        self._experiment = experiment
        self._path = path
        self._handle: int | None = None
        self._due = 0.0
        self._unwritten: tuple[Seq, Entry] | None = None

    def check(self) -> Head | None:
        """Check that the log contains the entry in the head file; return the head, or None if there is no such file.

        Raises:
            EventLogError: the log is shorter, or has another entry with that number.
        """
        head = read_head(self._path)
        if head is None:
            return None
        entry = next((entry for _, entry in self._log.read(after=head.seq - 1)), None)
        if entry is None and (last := self._log.last()) < head.seq:
            raise EventLogError(
                f"experiment {self._experiment}: {_entries(last + 1, head.seq)} missing: {self._path} says that "
                f"entry {head.seq} was recorded. {self._advice(last)}"
            )
        if entry is None or not head.names(head.seq, entry):
            raise EventLogError(
                f"experiment {self._experiment}: entry {head.seq} is not the one that {self._path} names: this is "
                f"another log, or an older one that was continued. {self._advice(self._log.last())}"
            )
        return head

    def accept(self) -> Seq:
        """Replace the head in the head file by the last entry of the log, and return the number of that entry.

        Raises:
            EventLogError: the last entry cannot be read, or the head file cannot be written.
        """
        last = self._log.last()
        if last == 0:
            self._path.unlink(missing_ok=True)
            return 0
        self._unwritten = next(self._log.read(after=last - 1))
        self._write_head()
        if self._unwritten is not None:
            raise EventLogError(f"cannot write {self._path}: check free disk space and file permissions")
        return last

    def append(
        self,
        entries: Sequence[Entry],
        *,
        summary: Mapping[str, Any] | None = None,
        answers: Mapping[RequestId, Answer] | None = None,
    ) -> Seq:
        """Add entries and answer requests; update the head file at most once a second."""
        seq = self._log.append(entries, summary=summary, answers=answers)
        if entries:
            self._unwritten = seq, entries[-1]
            if (now := time.monotonic()) >= self._due:
                self._due = now + PERIOD
                self._write_head()
        return seq

    def read(self, *, after: Seq = 0) -> Iterator[tuple[Seq, Entry]]:
        """Yield the entries after ``after``, in order."""
        return self._log.read(after=after)

    def last(self) -> Seq:
        """Return the number of the last entry, or 0 if there is none."""
        return self._log.last()

    def close(self) -> None:
        """Write the head, and close its file.  Idempotent."""
        self._write_head()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> HeadedLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_head(self) -> None:
        if self._unwritten is None:
            return
        text = " ".join(map(repr, Head.of(*self._unwritten)))
        line = f"{text} {digest_of(text)}".ljust(_SIZE - 1) + "\n"
        # An error is ignored: `check` then compares an older entry, and the log itself is complete.
        with suppress(OSError):
            if self._handle is None:
                self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o666)
                share(self._path)
                # After a power loss a new file exists only if its directory was synchronised, too.
                sync(self._path.parent)
            # The whole line is in one sector of the disk, which is written completely or not at all.  So a power loss
            # leaves either the old or the new head.
            os.pwrite(self._handle, line.encode("ascii"), 0)
            os.fsync(self._handle)
            self._unwritten = None

    def _advice(self, last: Seq) -> str:
        save = (
            f"save the other entries with: ashwood export {self._experiment} --until {last} --out FILE.ashwood; "
            if last
            else ""
        )
        return (
            "Was an older database restored, or a part of it lost? Restore the latest database with its write-ahead "
            f"log; {save}or accept the log with its {last} entries: ashwood verify {self._experiment} --repair"
        )


def _entries(first: Seq, last: Seq) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"
