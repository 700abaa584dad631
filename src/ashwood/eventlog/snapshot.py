"""A folded log, kept in a file so that it needn't be folded again from its beginning.

A snapshot is a cache: whatever is wrong with it, or with its fit to the log and to this version of
Ashwood, there is none.  It holds pickles, so a file is read that nobody else could have written, never
a store that others write to.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.collector import no_collector
from ashwood.eventlog.port import Entry, EventLog, Seq

_SEAL = 32
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


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
        fresh.unlink(missing_ok=True)
        with open(fresh, "xb", opener=_for_oneself) as file:
            file.write(bytes(_SEAL))
            sealing = _Sealing(file, rooms)
            pickle.dump((kept.seq, _identity(kept.last)), sealing, pickle.HIGHEST_PROTOCOL)
            pickle.dump(kept.state, sealing, pickle.HIGHEST_PROTOCOL)
            file.seek(0)
            file.write(sealing.seal.digest())
        fresh.replace(path)
    except OSError:
        with suppress(OSError):  # half of one would only take up room
            fresh.unlink(missing_ok=True)


def find(path: Path, log: EventLog, rooms: Sequence[str]) -> Kept | None:
    """The snapshot of a log by the code of ``rooms``; None: there is none that fits."""
    try:
        with path.open("rb") as file:
            _check_is_own(file)
            seal = file.read(_SEAL)
            if hashlib.file_digest(file, lambda: _seal(rooms)).digest() != seal:
                return None
            file.seek(_SEAL)
            seq, identity = pickle.load(file)  # noqa: S301 - our own file, and unchanged
            # A log that was restored from a backup may be shorter, or have gone on otherwise.
            last = next((entry for _, entry in log.read(after=seq - 1)), None)
            if last is None or _identity(last) != identity:
                return None
            with no_collector():
                return Kept(pickle.load(file), seq, last)  # noqa: S301
    except (OSError, ValueError, pickle.UnpicklingError, AttributeError, ImportError, EOFError, TypeError):
        return None


def _seal(rooms: Sequence[str]) -> hashlib.blake2b:
    """A digest that only the same code makes of the same content."""
    return hashlib.blake2b(digest_size=_SEAL, key=_rules(*rooms))


class _Sealing:
    """Writes to a file, and digests what it writes: a large snapshot is never in memory as a whole."""

    def __init__(self, file: BinaryIO, rooms: Sequence[str]) -> None:
        self.seal = _seal(rooms)
        self._file = file

    def write(self, data: bytes) -> int:
        self.seal.update(data)
        return self._file.write(data)


def _for_oneself(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _check_is_own(file: BinaryIO) -> None:
    """Somebody else's file, as in a home of theirs, could run anything when it is unpickled."""
    about = os.fstat(file.fileno())
    if about.st_uid != os.geteuid() or about.st_mode & _OTHERS_WRITE:
        raise PermissionError


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
