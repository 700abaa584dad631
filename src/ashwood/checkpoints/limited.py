"""Log files with a size limit: the beginning and the end stay, and a line between them says how much was left out.

Training code, its children and C libraries append to a trial's log through descriptors that Ashwood does not control.
So the file is neither replaced nor fed from a pipe.  A pipe would make the processes wait for its reader, and children
that hold the first file open would not use a second one.  Instead `trim` removes a part of the file itself.  Because
the processes have the file open with O_APPEND, they then write at its new end.

A position in a log counts all bytes that were ever written before it, so it stays valid when a part is removed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ashwood.checkpoints.regular import open_to_change

LEAST_LIMIT = 100_000
"""The smallest limit in bytes.  A smaller limit, for example in an imported experiment, is raised to this one."""

_LARGEST_LIMIT = 1 << 62
_BLOCK = 4096
"""Size of the blocks of most file systems, which can remove only whole blocks from a file."""
_MARK_BYTES = 128
_MARK = re.compile(rb"\n\[\.\.\. ([0-9]{1,18}) bytes are left out here: [^\n]*\]\n")
_CHUNK = 1 << 16
_COPY_BYTES = 1 << 20
_MOST_PASSES = 8
_COLLAPSE_RANGE = 8


class Gap(NamedTuple):
    """The part that was removed from a log.

    Attributes:
        begin: position of the first missing byte; in the file, the mark begins there.
        size: number of missing bytes, or 0 if none are missing.
    """

    begin: int
    size: int

    def place(self, position: int) -> int:
        """Return the offset in the file for a position; for a position in the gap, it is the beginning of the mark."""
        if not self.size or position <= self.begin:
            return position
        return max(self.begin, position - self.size + _MARK_BYTES)

    def position(self, place: int) -> int:
        """Return the position in the log for an offset in the file."""
        return place + self.size - _MARK_BYTES if self.size and place > self.begin else place


def find_gap(descriptor: int, limit: int | None) -> Gap:
    """Return the gap of an open log whose size limit is ``limit`` bytes; without a limit, the gap is empty."""
    if limit is None:
        return Gap(0, 0)
    begin = _bounded(limit) // 2 // _BLOCK * _BLOCK
    mark = _MARK.fullmatch(os.pread(descriptor, _MARK_BYTES, begin))
    return Gap(begin, 0 if mark is None else int(mark[1]))


def read_piece(descriptor: int, limit: int | None, position: int, most: int = _CHUNK) -> tuple[int, bytes, int]:
    """Read a piece of a log that may be trimmed meanwhile.

    Args:
        descriptor: the log, open for reading.
        limit: its limit in bytes, or None.
        position: position of the first byte to read.
        most: greatest number of bytes to read.

    Returns:
        The position at which the piece begins, the piece, and the position after it.  The piece is empty at the end of
        the log.  If the position is in the gap, the piece begins with the mark.
    """
    while True:
        gap = find_gap(descriptor, limit)
        place = gap.place(position)
        # The log may be trimmed between the two calls of find_gap(), which moves the bytes.  Then the piece is read
        # again.
        data = os.pread(descriptor, most, place)
        if find_gap(descriptor, limit) == gap:
            return gap.position(place), data, gap.position(place + len(data))


def read_pieces(log: BinaryIO, limit: int | None, position: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield the pieces of a log from a position on, each with the position after it."""
    while True:
        _, data, position = read_piece(log.fileno(), limit, position)
        if not data:
            return
        yield data, position


def trim(log: Path, limit: int) -> bool:
    """Remove a part of a log if the log exceeds its limit, and return whether it did.

    Half of the limit stays at the beginning of the log, and a quarter at its end.  Only one process may trim a log.
    Any number of processes can append to it meanwhile.

    Raises:
        OSError: the log is not a regular file, or cannot be written.
    """
    limit = _bounded(limit)
    with open_to_change(log) as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        if size <= limit:
            return False
        gap = find_gap(descriptor, limit)
        begin, end = gap.begin, (size - limit // 4) // _BLOCK * _BLOCK
        # The mark overwrites bytes of the log, so these are left out too.  The old mark at the beginning of an existing
        # gap is removed, and its count is part of gap.size.
        left_out = gap.size + end - begin + (0 if gap.size else _MARK_BYTES)
        mark = _mark(left_out, limit)
        os.pwrite(descriptor, mark, end)
        # The mark is written first, at the beginning of the part that stays, so it is in place as soon as the part
        # before it is removed.  If the end is moved by copying instead, the mark is written last.  Until then, readers
        # do not know of the gap, and positions near the end are behind the end of the file, so the readers wait.
        if not _collapse(descriptor, begin, end - begin) and _move_down(descriptor, end + len(mark), begin + len(mark)):
            os.pwrite(descriptor, mark, begin)
        return True


def _bounded(limit: int) -> int:
    return min(max(limit, LEAST_LIMIT), _LARGEST_LIMIT)


def _mark(left_out: int, limit: int) -> bytes:
    """Return the line that says how much was left out.  Its length is constant, because positions depend on it."""
    text = f"\n[... {left_out} bytes are left out here: the log has reached max_log_size, {limit} bytes "
    return f"{text:.<{_MARK_BYTES - 2}}]\n".encode()


def _collapse(descriptor: int, begin: int, size: int) -> bool:
    """Remove a part of a file by FALLOC_FL_COLLAPSE_RANGE, and return whether the file system supports that.

    ext4 and XFS do.  The removal is atomic for all processes, so nothing that they write is lost.
    """
    if sys.platform != "linux":
        return False
    import ctypes  # imported here, because it is slow to import

    with suppress(AttributeError, ValueError):  # The C library does not have the function.
        call = ctypes.CDLL(None).fallocate64
        call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        return bool(call(descriptor, _COLLAPSE_RANGE, begin, size) == 0)
    return False


def _move_down(descriptor: int, source: int, target: int) -> bool:
    """Copy the end of a file to an earlier offset, truncate the file after it, and return whether this succeeded.

    Processes append to the file during the copy, so bytes that were added meanwhile are copied in another pass.  Only
    bytes that are written in the microseconds between the last check of the size and the truncation are lost.  If the
    file grows faster than it is copied in every pass, it is not truncated.  Then a part of its content is in it twice
    until the next trim.
    """
    for _ in range(_MOST_PASSES):
        stop = os.fstat(descriptor).st_size
        while source < stop:
            data = os.pread(descriptor, min(_COPY_BYTES, stop - source), source)
            written = os.pwrite(descriptor, data, target)
            source, target = source + written, target + written
        if os.fstat(descriptor).st_size == stop:
            os.ftruncate(descriptor, target)
            return True
    return False
