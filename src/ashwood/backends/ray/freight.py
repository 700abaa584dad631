"""Directories as streams of bytes, a few megabytes at a time: whatever their size, little of them is in memory.

Small ones travel as text, a character a byte, inside a message: a task of Ray would take longer than all the rest.
"""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ashwood.trial.storage.links import contents, inner_target
from ashwood.trial.storage.trees import remove_tree

SMALL = 1 << 16
"""Bytes of files that go as text."""

_CHUNK = 1 << 23


def load(directory: Path) -> Iterator[bytes]:
    """The contents of a directory, in chunks.

    Raises:
        OSError: something in it can't be read.
    """
    read, write = os.pipe()
    trouble: list[BaseException] = []

    def fill() -> None:
        try:
            with os.fdopen(write, "wb") as pipe, tarfile.open(fileobj=pipe, mode="w|") as tar:
                for path, entry in contents(directory):
                    # Checkpoints of version 0.1.0 can hold links to files elsewhere: those travel as files.
                    tar.dereference = entry.is_symlink() and inner_target(directory, path) is None
                    tar.add(entry.path, path, recursive=False)
        except BrokenPipeError:  # nobody wants the rest
            return
        except BaseException as error:  # noqa: BLE001 - told where it is waited for
            trouble.append(error)

    filler = threading.Thread(target=fill, name="ashwood-freight", daemon=True)
    filler.start()
    try:
        with os.fdopen(read, "rb") as pipe:
            while chunk := pipe.read(_CHUNK):
                yield chunk
    finally:
        filler.join()
    if trouble:
        raise trouble[0]


def as_text(directory: Path) -> str:
    """The contents of a small directory.

    Raises:
        OSError: something in it can't be read.
    """
    return b"".join(load(directory)).decode("latin-1")


def from_text(text: str) -> Iterator[bytes]:
    """The contents in a text, for `unload`."""
    yield text.encode("latin-1")


def unload(chunks: Iterable[bytes], directory: Path) -> None:
    """Put what `load` took from one directory into another, which is there and empty.

    Raises:
        OSError: it can't be written.
        tarfile.TarError: the chunks are damaged.
    """
    with (
        io.BufferedReader(_Chunks(chunks), 1 << 16) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        tar.extractall(directory, filter="data")
        while stream.read(1 << 16):  # so that whoever sends them knows that all have arrived
            pass


@contextmanager
def arriving(place: Path) -> Iterator[Path]:
    """An empty directory to fill, which is at ``place`` when all of it has arrived, and not before."""
    unfinished = place.with_name(f".writing-{place.name}")
    remove_tree(unfinished.parent, unfinished.name, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    unfinished.rename(place)


class _Chunks(io.RawIOBase):
    """Chunks as a file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill a buffer with what comes next; 0 at the end."""
        with suppress(StopIteration):
            while not self._rest:
                self._rest = memoryview(next(self._chunks))
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
