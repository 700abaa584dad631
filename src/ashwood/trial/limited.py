"""Logs that are limited in size: the beginning and the end stay, and a line between them says how much was left out.

Training code, its children and C libraries append to a trial's log through descriptors that Ashwood does not control.
So the file is never replaced, and nothing stands between it and the processes: a pipe would make them wait for its
reader, and a second file would not be used by children that hold the first one.  Instead `trim` removes a part of the
file itself.  Because the file is open for appending, processes then write at its new end.

Positions count what was ever written, so they stay valid when a part is removed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ashwood.trial.regular import open_to_change

LEAST_LIMIT = 100_000
"""The smallest limit in bytes.  A smaller one, as in a spec from a stranger, counts as this one."""

_LARGEST_LIMIT = 1 << 62
_BLOCK = 4096
"""File systems remove whole blocks, which mostly have this size."""
_MARK_BYTES = 128
_MARK = re.compile(rb"\n\[\.\.\. ([0-9]{1,18}) bytes are left out here: [^\n]*\]\n")
_CHUNK = 1 << 16
_COPY_BYTES = 1 << 20
_MOST_PASSES = 8
_COLLAPSE_RANGE = 8


class Gap(NamedTuple):
    """What is missing in a log.

    Attributes:
        begin: where it is missing; the mark that says so begins there.
        size: how many bytes are missing; 0: none.
    """

    begin: int
    size: int

    def place(self, position: int) -> int:
        """Return where in the file a position is; one in the gap is where the mark begins."""
        if not self.size or position <= self.begin:
            return position
        return max(self.begin, position - self.size + _MARK_BYTES)

    def position(self, place: int) -> int:
        """Return the position of a place in the file."""
        return place + self.size - _MARK_BYTES if self.size and place > self.begin else place


def find_gap(descriptor: int, limit: int | None) -> Gap:
    """Return what is missing in the log that is open as ``descriptor`` and was limited to ``limit`` bytes."""
    if limit is None:
        return Gap(0, 0)
    begin = _bounded(limit) // 2 // _BLOCK * _BLOCK
    mark = _MARK.fullmatch(os.pread(descriptor, _MARK_BYTES, begin))
    return Gap(begin, 0 if mark is None else int(mark[1]))


def read_piece(descriptor: int, limit: int | None, position: int, most: int = _CHUNK) -> tuple[int, bytes, int]:
    """Read a piece of a log that may be trimmed meanwhile.

    Args:
        descriptor: the log, open for reading.
        limit: its limit, or None.
        position: where to begin.
        most: how many bytes to read at most.

    Returns:
        where the piece begins, the piece, and where it ends; empty at the end of the log.  If the position is in the
        gap, the piece begins with the mark.
    """
    while True:
        gap = find_gap(descriptor, limit)
        place = gap.place(position)
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
    """Remove a part of a log that has grown beyond its limit, and return whether it had.

    The first half of the limit stays, and a quarter of it at the end.  Only one process may trim a log; any number of
    processes may append to it meanwhile.

    Raises:
        OSError: it is no regular file, or cannot be written.
    """
    limit = _bounded(limit)
    with open_to_change(log) as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        if size <= limit:
            return False
        gap = find_gap(descriptor, limit)
        begin, end = gap.begin, (size - limit // 4) // _BLOCK * _BLOCK
        # What the mark covers is left out, too; an older mark at the beginning of the gap goes with what it says.
        left_out = gap.size + end - begin + (0 if gap.size else _MARK_BYTES)
        mark = _mark(left_out, limit)
        os.pwrite(descriptor, mark, end)
        # Without the mark, positions near the end lead behind the end of the file, so readers wait until it is there.
        if not _collapse(descriptor, begin, end - begin) and _move_down(descriptor, end + len(mark), begin + len(mark)):
            os.pwrite(descriptor, mark, begin)
        return True


def _bounded(limit: int) -> int:
    return min(max(limit, LEAST_LIMIT), _LARGEST_LIMIT)


def _mark(left_out: int, limit: int) -> bytes:
    """Return the line that says how much was left out.  It has always the same length, which positions rely on."""
    text = f"\n[... {left_out} bytes are left out here: the log has reached max_log_size, {limit} bytes "
    return f"{text:.<{_MARK_BYTES - 2}}]\n".encode()


def _collapse(descriptor: int, begin: int, size: int) -> bool:
    """Have the file system remove a part of a file, and return whether it can.

    ext4 and XFS can.  It is one step for all processes, so nothing that they write is lost.
    """
    if sys.platform != "linux":
        return False
    import ctypes  # It takes long to import.

    with suppress(AttributeError, ValueError):  # A C library without it.
        call = ctypes.CDLL(None).fallocate64
        call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        return bool(call(descriptor, _COLLAPSE_RANGE, begin, size) == 0)
    return False


def _move_down(descriptor: int, source: int, target: int) -> bool:
    """Move the end of a file from one place to an earlier one, truncate the file after it, and return whether it has.

    Processes append while this copies, so it copies again what has come since.  Then only what a process writes in the
    microseconds between the last look at the size and the truncation is lost.  A file that always grows faster than it
    is copied is left with some of its content twice, until the next time.
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
