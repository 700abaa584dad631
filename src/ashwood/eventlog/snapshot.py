"""A folded log, kept in a file so that it needn't be folded again from its beginning.

A snapshot is a cache: whatever is wrong with it, or with its fit to the log and to this version of
Ashwood, there is none.  It holds pickles, so it is read from a directory of one's own alone, never
from a store that others write to.
"""

from __future__ import annotations

import gc
import hashlib
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.port import Entry, EventLog, Seq

_DIGEST = 32


class Kept(NamedTuple):
    """What a log leads to.

    Attributes:
        state: whatever it was folded to.
        seq: the place of the last entry that was folded.
        last: that entry.
    """

    state: Any
    seq: Seq
    last: Entry


def keep(path: Path, kept: Kept, rooms: Sequence[str]) -> None:
    """Write a snapshot, which holds as long as the code of ``rooms`` stays; where that fails, there is none."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        with fresh.open("wb") as file:
            file.write(bytes(_DIGEST))
            digesting = _Digesting(file)
            pickle.dump((_rules(*rooms), kept.seq, _identity(kept.last)), digesting, pickle.HIGHEST_PROTOCOL)
            pickle.dump(kept.state, digesting, pickle.HIGHEST_PROTOCOL)
            file.seek(0)
            file.write(digesting.digest.digest())
        fresh.replace(path)
    except OSError:
        with suppress(OSError):  # half of one would only take up room
            fresh.unlink(missing_ok=True)


def find(path: Path, log: EventLog, rooms: Sequence[str]) -> Kept | None:
    """The snapshot of a log by the code of ``rooms``; None: there is none that fits."""
    try:
        with path.open("rb") as file:
            digest = file.read(_DIGEST)
            if hashlib.file_digest(file, _digest).digest() != digest:
                return None
            file.seek(_DIGEST)
            rules, seq, identity = pickle.load(file)  # noqa: S301 - our own file, and unchanged
            if rules != _rules(*rooms):
                return None
            # A log that was restored from a backup may be shorter, or have gone on otherwise.
            last = next((entry for _, entry in log.read(after=seq - 1)), None)
            if last is None or _identity(last) != identity:
                return None
            with _no_collector():
                return Kept(pickle.load(file), seq, last)  # noqa: S301
    except (OSError, ValueError, pickle.UnpicklingError, AttributeError, ImportError, EOFError, TypeError):
        return None


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=_DIGEST)


class _Digesting:
    """Writes to a file, and digests what it writes: a large snapshot is never in memory as a whole."""

    def __init__(self, file: BinaryIO) -> None:
        self.digest = _digest()
        self._file = file

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Spare Python's collector of cycles a million fresh objects that all stay: that is most of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _identity(entry: Entry) -> tuple[float, str]:
    """Tells an entry from those at its place in other logs."""
    return entry.at, encode_entry(entry)


@cache
def _rules(*rooms: str) -> bytes:
    """Tells the code that folds logs from every other version of it."""
    import ashwood

    digest = hashlib.blake2b(digest_size=16)
    for room in rooms:
        for file in sorted(Path(ashwood.__file__).parent.joinpath(room).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.digest()
