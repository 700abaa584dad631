"""Moves checkpoints between the machines of the driver and of the nodes.

A directory travels as a tar stream in chunks of a few megabytes, so that a checkpoint of any size needs
little memory.  A small one travels as text inside a message, one character per byte, because a Ray task
would take longer than everything else.
"""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from ashwood.checkpoints.links import contents, inner_target

SMALL = 1 << 16
"""Largest checkpoint, in bytes, that travels as text inside a message."""

_CHUNK = 1 << 23

Task = Callable[[], object]


def pack_directory(directory: Path) -> Iterator[bytes]:
    """Yield the contents of a directory as a tar stream, in chunks.

    Raises:
        OSError: a file in it can't be read.
    """
    # tarfile writes to a file object, and the caller pulls chunks.  A pipe with a thread at its other end connects the
    # two, and holds at most a few pages of the archive.
    read, write = os.pipe()
    errors: list[BaseException] = []

    def fill() -> None:
        try:
            with os.fdopen(write, "wb") as pipe, tarfile.open(fileobj=pipe, mode="w|") as tar:
                for path, entry in contents(directory):
                    # Checkpoints of version 0.1.0 can contain links to files outside, which are packed as files.
                    tar.dereference = entry.is_symlink() and inner_target(directory, path) is None
                    tar.add(entry.path, path, recursive=False)
        except BrokenPipeError:  # The caller has stopped reading.
            return
        except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
            errors.append(error)

    filler = threading.Thread(target=fill, name="ashwood-pack", daemon=True)
    filler.start()
    try:
        with os.fdopen(read, "rb") as pipe:
            while chunk := pipe.read(_CHUNK):
                yield chunk
    finally:
        filler.join()
    if errors:
        raise errors[0]


def as_text(directory: Path) -> str:
    """Return the contents of a small directory as text, one character per byte.

    Raises:
        OSError: a file in it can't be read.
    """
    return b"".join(pack_directory(directory)).decode("latin-1")


def from_text(text: str) -> Iterator[bytes]:
    """Yield the chunks for `unpack_directory` of a directory that was packed by `as_text`."""
    yield text.encode("latin-1")


def unpack_directory(chunks: Iterable[bytes], directory: Path) -> None:
    """Unpack the chunks of `pack_directory` into an empty directory.

    Raises:
        OSError: a file can't be written.
        tarfile.TarError: the chunks are damaged.
    """
    with (
        io.BufferedReader(_Chunks(chunks), 1 << 16) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        tar.extractall(directory, filter="data")
        # tarfile stops at the end marker and leaves the padding after it unread. The padding is read, too: the sender
        # knows that everything has arrived only when its last chunk is read.
        while stream.read(1 << 16):
            pass


class _Chunks(io.RawIOBase):
    """A readable file whose content is an iterable of chunks."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: object) -> int:
        """Copy the next bytes into a buffer and return their number, which is 0 at the end."""
        with suppress(StopIteration):
            while not self._rest:
                self._rest = memoryview(next(self._chunks))
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class TransferPool:
    """Threads that transfer checkpoints: in order within a lane, and in parallel across lanes.

    A lane is any hashable key, for example a trial.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "ashwood-transfer")
        self._lock = threading.Lock()
        self._lanes: dict[Hashable, deque[Task]] = {}

    def submit(self, lane: Hashable, task: Task) -> None:
        """Run a task after all earlier tasks of its lane.  The task must not raise."""
        with self._lock:
            waiting = self._lanes.get(lane)
            if waiting is not None:
                waiting.append(task)
                return
            self._lanes[lane] = deque([task])
        self._pool.submit(self._work, lane)

    def _work(self, lane: Hashable) -> None:
        # A lane is in the dictionary exactly as long as a thread works on it.  It is removed under the lock in which it
        # was found empty, so a task that is submitted meanwhile is never left without a thread.
        while True:
            with self._lock:
                waiting = self._lanes[lane]
                if not waiting:
                    del self._lanes[lane]
                    return
                task = waiting.popleft()
            task()

    def close(self) -> None:
        """Start no more tasks; return without waiting for the running ones."""
        with self._lock:
            for waiting in self._lanes.values():
                waiting.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)


class Transfer:
    """A checkpoint on its way from a worker to the driver.

    `keep` and `drop` race when a worker is lost while its last chunk arrives.  The first of the two decides.

    Attributes:
        dropped: whether the checkpoint is discarded because its worker was lost.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept = False
        self.dropped = False

    def keep(self) -> bool:
        """Record that all chunks have arrived, and return whether the checkpoint may be stored."""
        with self._lock:
            self._kept = not self.dropped
            return self._kept

    def drop(self) -> bool:
        """Record that the worker is lost, and return whether the checkpoint is discarded."""
        with self._lock:
            self.dropped = not self._kept
            return self.dropped
