"""A check of SQLite's write-ahead log, because SQLite silently drops all commits from a damaged frame on.

The formats are described at https://www.sqlite.org/fileformat2.html#the_write_ahead_log and
https://www.sqlite.org/walformat.html.  A write-ahead log consists of a header of 32 bytes and of frames, each with a
header of 24 bytes and a page.  SQLite overwrites the log from its start after a checkpoint, with new salts in the
header.  All frames with these salts are one generation.  The checksum of a frame continues that of the frame before, so
SQLite accepts frames up to the first one whose checksum is wrong.

Checksums of 64 MiB take seconds in Python.  So a read-only connection opens the database first: SQLite checks the
frames and writes into the ``-shm`` file how many it accepts.  This module examines only the frames after these.
"""

from __future__ import annotations

import os
import struct
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

from ashwood.checkpoints.sharing import share

_HEADER: Final = struct.Struct(">8I")  # magic, version, page size, checkpoints, salts, checksum
_HEADER_CHECKED: Final = 24
_FRAME: Final = struct.Struct(">6I")  # page, size of the database after a commit or 0, salts, checksum
_MAGICS: Final = {0x377F0682: "<", 0x377F0683: ">"}
"""Magic numbers, with the byte order in which words enter the checksum."""

_INDEX: Final = struct.Struct("=3I2BH2I2I8s2I")  # header of the -shm file; the file begins with two copies of it
_PAGE_SIZE: Final = 4096  # default of SQLite since 2016
_GENERATIONS: Final = 1 << 16
"""Maximum age of a frame of an earlier generation, in generations.

A damaged salt rarely has a value in this range.
"""
_TRIES: Final = 100


class Tail(NamedTuple):
    """The frames of the present generation that SQLite does not accept.

    A transaction is on the disk before the next one begins, and the header is on the disk before the first frame.  So a
    crash can leave the last transaction incomplete, but neither an earlier one nor the header.

    Attributes:
        first: number of the first frame with a wrong checksum; frames are numbered from 1.
        last: number of the last frame of the generation.
        has_commit: whether a transaction ends in these frames.
        is_damage: whether the frames were damaged after they were written; otherwise a crash may have left the last
            transaction incomplete.
    """

    first: int
    last: int
    has_commit: bool
    is_damage: bool


def wal_of(path: Path) -> Path:
    """Return the path of the write-ahead log of a database: beside the file that ``path`` leads to if it is a link."""
    return _beside(path, "-wal")


def has_wal(path: Path) -> bool:
    """Return whether a database has a write-ahead log that is not empty."""
    wal = wal_of(path)
    with suppress(FileNotFoundError):  # Another process closed the database, and SQLite deleted the file.
        return wal.exists() and wal.stat().st_size > 0
    return False


def shm_of(path: Path) -> Path:
    """Return the path of the file through which connections to a database share the index of its write-ahead log."""
    return _beside(path, "-shm")


def _beside(path: Path, suffix: str) -> Path:
    with suppress(OSError, RuntimeError):  # Links lead in a circle, so there is no database.
        path = path.resolve()
    return path.with_name(f"{path.name}{suffix}")


def find_tail(path: Path) -> Tail | None:
    """Return the frames of a write-ahead log that SQLite does not accept, or None if it accepts all of them.

    A connection must have read from the database and must still be open.  Other processes may write to the database.
    """
    with suppress(FileNotFoundError):  # Another process closed the database, and SQLite deleted the files.
        for _ in range(_TRIES):
            accepted = _read_accepted(path)
            tail = _tail_after(path, accepted)
            if tail is None or not tail.is_damage:
                return tail
            # Another process may have committed transactions after the accepted frames were read.  They look like
            # damage.  In that case the number of accepted frames has changed, and the check is repeated.
            if accepted == _read_accepted(path):
                return tail
            time.sleep(0.001)
    return None


def truncate_tail(path: Path, backup: Path) -> None:
    """Truncate a write-ahead log after the frames that SQLite accepts, after a copy of the whole log was made.

    A connection must have read from the database and must still be open.  No process may write to the database.

    Args:
        path: path of the database.
        backup: path of the copy, which must not exist.

    Raises:
        OSError: the log cannot be copied, so nothing was changed, or it cannot be truncated.
    """
    accepted, wal = _read_accepted(path), wal_of(path)
    with wal.open("r+b") as file:
        with backup.open("xb") as copy:
            while chunk := file.read(1 << 20):
                copy.write(chunk)
            # The copy must be on the disk before the log is truncated.
            copy.flush()
            os.fsync(copy.fileno())
        share(backup)
        file.seek(0)
        header = file.read(_HEADER.size)
        page_size = _PAGE_SIZE if _order_of(header) is None else _HEADER.unpack(header)[2]
        file.truncate(_HEADER.size + accepted.frames * (_FRAME.size + page_size) if accepted.frames else 0)
        os.fsync(file.fileno())


class _Accepted(NamedTuple):
    """The frames that SQLite accepts, according to the ``-shm`` file.

    Attributes:
        frames: their number.
        checksum: checksum of the last of them.
        salts: salts of their generation.
    """

    frames: int
    checksum: tuple[int, int]
    salts: bytes


def _read_accepted(path: Path) -> _Accepted:
    handle = _open_shm(shm_of(path))
    for _ in range(_TRIES):
        one, other = (os.pread(handle, _INDEX.size, at) for at in (0, _INDEX.size))
        if one == other and len(one) == _INDEX.size:
            break
        time.sleep(0.001)  # A writer is between its writes of the two copies.
    else:
        raise FileNotFoundError(path)
    *_, frames, _, sum0, sum1, salts, _, _ = _INDEX.unpack(one)
    return _Accepted(frames, (sum0, sum1), salts)


_handles: Final[dict[tuple[int, int], int]] = {}
_guard: Final = Lock()


def _open_shm(path: Path) -> int:
    """Return a descriptor of a ``-shm`` file.

    The descriptor stays open until SQLite has deleted the file, see `close_deleted`.  POSIX locks belong to the
    process: closing any descriptor of the file would release the locks of all SQLite connections in this process.  See
    https://www.sqlite.org/howtocorrupt.html, section 2.2.
    """
    with _guard:
        about = path.stat()
        key = about.st_dev, about.st_ino
        if key not in _handles:
            _handles[key] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return _handles[key]


def close_deleted() -> None:
    """Close descriptors of ``-shm`` files that SQLite has deleted; call it after a connection is closed.

    A finalizer must not call it: the garbage collector may run while this thread holds the lock, which is a deadlock.
    """
    with _guard:
        for key, handle in list(_handles.items()):
            if os.fstat(handle).st_nlink == 0:
                os.close(_handles.pop(key))


def _tail_after(path: Path, accepted: _Accepted) -> Tail | None:
    with wal_of(path).open("rb") as file:
        handle = file.fileno()
        header = os.pread(handle, _HEADER.size, 0)
        order = _order_of(header)
        # If the header is damaged, SQLite accepts no frames, and the page size is unknown.
        page_size = _PAGE_SIZE if order is None else _HEADER.unpack(header)[2]
        count = (os.fstat(handle).st_size - _HEADER.size) // (_FRAME.size + page_size)
        if count < 1:
            return None
        begins = [_HEADER.size + number * (_FRAME.size + page_size) for number in range(count)]
        if order is None:
            return Tail(1, count, has_commit=True, is_damage=True)
        salts = struct.unpack(">2I", accepted.salts)
        last = commits = ended = 0
        for number in range(accepted.frames + 1, count + 1):
            _, is_commit, *_ = frame = _FRAME.unpack(os.pread(handle, _FRAME.size, begins[number - 1]))
            if _is_earlier(frame[2:4], salts):
                break
            ended += is_commit > 0
            if frame[2:4] == salts:
                last, commits = number, ended
        if not last:
            return None
        first = accepted.frames + 1
        if commits > 1:
            checksum = accepted.checksum if accepted.frames else _HEADER.unpack(header)[6:]
            first = _first_bad(handle, begins[:last], page_size, order, salts, first, checksum)
        return Tail(first, last, has_commit=commits > 0, is_damage=commits > 1)


def _order_of(header: bytes) -> str | None:
    """Return the byte order of the checksums, or None if the header is damaged."""
    if len(header) < _HEADER.size:
        return None
    magic, *_, sum0, sum1 = _HEADER.unpack(header)
    order = _MAGICS.get(magic)
    return order if order and _checksum(header[:_HEADER_CHECKED], order, (0, 0)) == (sum0, sum1) else None


def _is_earlier(salts: tuple[int, ...], current: tuple[int, ...]) -> bool:
    """Return whether a frame belongs to an earlier generation.

    The first salt counts the generations, and the second is random.
    """
    return salts[1] != current[1] and 0 < (current[0] - salts[0]) % (1 << 32) < _GENERATIONS


def _first_bad(
    handle: int,
    begins: list[int],
    page_size: int,
    order: str,
    salts: tuple[int, ...],
    first: int,
    checksum: tuple[int, ...],
) -> int:
    """Return the number of the first frame from ``first`` on that has a wrong checksum."""
    for number in range(first, len(begins) + 1):
        frame = os.pread(handle, _FRAME.size + page_size, begins[number - 1])
        checksum = _checksum(frame[_FRAME.size :], order, _checksum(frame[:8], order, checksum))
        if _FRAME.unpack(frame[: _FRAME.size])[2:] != (*salts, *checksum):
            return number
    return first


def _checksum(data: bytes, order: str, before: tuple[int, ...]) -> tuple[int, int]:
    sum0, sum1 = before
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for word0, word1 in zip(words, words, strict=True):
        sum0 = (sum0 + word0 + sum1) & 0xFFFFFFFF
        sum1 = (sum1 + word1 + sum0) & 0xFFFFFFFF
    return sum0, sum1
