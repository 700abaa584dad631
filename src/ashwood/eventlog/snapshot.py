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
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.collector import no_collector
from ashwood.eventlog.port import Entry, EventLog, Seq
from ashwood.trial.regular import open_to_read

FOLDING_PACKAGES = ("search", "experiment", "simulation", "views")
"""Packages whose code folds what snapshots hold; a snapshot is ignored when a file in one of them has changed."""

_SEAL = 32
_PLACE = 8
_PIECE = 1 << 16
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Kept(NamedTuple):
    """What a log leads to.

    Attributes:
        identity: of the experiment.
        parts: what the log was folded to, by name; each part can be read without the others.
        seq: the number of the last entry that was folded.
        last: that entry.
    """

    identity: str
    parts: Mapping[str, Any]
    seq: Seq
    last: Entry


def keep(path: Path, kept: Kept, beat: Callable[[], None] = lambda: None) -> None:
    """Write a snapshot; if that fails, there is none.

    ``beat`` is called many times a second: a large snapshot takes longer than a driver may be silent.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        # The collector would look through all objects again and again, because pickling makes many.
        with open(fresh, "xb", opener=_for_oneself) as file, no_collector():
            file.write(bytes(_SEAL))
            sealing = _Sealing(file, beat)
            pickle.dump((kept.seq, _identity(kept.last), kept.identity), sealing, pickle.HIGHEST_PROTOCOL)
            places = {}
            for name, part in kept.parts.items():
                places[name] = file.tell()
                pickle.dump(part, sealing, pickle.HIGHEST_PROTOCOL)
            end = file.tell()
            pickle.dump(places, sealing, pickle.HIGHEST_PROTOCOL)
            sealing.write(end.to_bytes(_PLACE, "big"))
            file.seek(0)
            file.write(sealing.seal.digest())
        fresh.replace(path)
    except OSError:
        with suppress(OSError):  # half of one would only take up room
            fresh.unlink(missing_ok=True)


def find(
    path: Path, identity: str, log: EventLog, names: Collection[str], beat: Callable[[], None] = lambda: None
) -> Kept | None:
    """Return the parts of these names of the snapshot of a log, or None if there is none that fits.

    ``identity`` is that of the experiment, ``beat`` is as in `keep`.
    """
    try:
        with open_to_read(path) as opened:
            _check_is_own(opened)
            file = _Beating(opened, beat)
            seal = file.read(_SEAL)
            digest = _seal()
            while piece := file.read(_PIECE):
                digest.update(piece)
            if digest.digest() != seal:
                return None
            opened.seek(_SEAL)
            seq, last_one, owner = pickle.load(file)  # noqa: S301 - our own file, and unchanged
            # A log that was restored from a backup may be shorter, or have gone on otherwise.
            last = next((entry for _, entry in log.read(after=seq - 1)), None)
            if last is None or _identity(last) != last_one or owner != identity:
                return None
            opened.seek(-_PLACE, os.SEEK_END)
            opened.seek(int.from_bytes(opened.read(_PLACE), "big"))
            places = pickle.load(file)  # noqa: S301
            parts = {}
            with no_collector():
                for name in names:
                    opened.seek(places[name])
                    parts[name] = pickle.load(file)  # noqa: S301
            return Kept(identity, parts, seq, last)
    except (OSError, ValueError, pickle.UnpicklingError, AttributeError, ImportError, EOFError, TypeError, KeyError):
        return None


def _seal() -> hashlib.blake2b:
    """Return a digest that only the same code computes for the same content."""
    return hashlib.blake2b(digest_size=_SEAL, key=_rules())


class _Sealing:
    """Writes to a file and digests what it writes, so that a large snapshot is never in memory as a whole."""

    def __init__(self, file: BinaryIO, beat: Callable[[], None]) -> None:
        self.seal = _seal()
        self._file = file
        self._beat = beat

    def write(self, data: bytes) -> int:
        self._beat()
        self.seal.update(data)
        return self._file.write(data)


class _Beating:
    """Reads a file.  Pickle asks it for at most some hundred kilobytes at a time, so it beats often enough."""

    def __init__(self, file: BinaryIO, beat: Callable[[], None]) -> None:
        self._file = file
        self._beat = beat

    def read(self, size: int) -> bytes:
        self._beat()
        return self._file.read(size)

    def readline(self) -> bytes:
        return self._file.readline()


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
def _rules() -> bytes:
    """Return a digest of the code that folds logs."""
    import ashwood

    digest = hashlib.blake2b(digest_size=16)
    for package in FOLDING_PACKAGES:
        for file in sorted(Path(ashwood.__file__).parent.joinpath(package).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.digest()
