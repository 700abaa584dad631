"""File systems that fill, lose power or turn read-only.  Making them takes root; without, tests of them skip."""

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SHUTDOWN = 0x8004587D
"""The ioctl FS_IOC_SHUTDOWN: the file system stops dead."""
_WITHOUT_FLUSH = 2
"""What isn't on the disk yet is lost, the journal's memory included: as if the power had failed."""


class CannotMount(Exception):
    """This system doesn't let us make a file system."""


class Filler:
    """A small file system in memory that can be filled to the brim.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, *, leave: int = 0) -> None:
        """Take all the room that there is but for some bytes."""
        with self._filler.open("ab", buffering=0) as file:
            room = os.statvfs(self.path)
            file.write(bytes(max(0, room.f_bavail * room.f_frsize - leave)))

    def free(self) -> None:
        """Give the room back."""
        self._filler.unlink()

    def remount(self, how: str) -> None:
        """Mount it again, ``ro`` or ``rw``; nobody may have a file open for writing."""
        _run("mount", "-o", f"remount,{how}", self.path)


class Disk:
    """A file system on a disk of its own that can lose its power.

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, path: Path, image: Path) -> None:
        self.path = path
        self._image = image

    def cut_power(self) -> None:
        """Lose all that isn't safely on the disk; whoever uses it from now on gets errors."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSH))
        finally:
            os.close(handle)

    def restore_power(self) -> None:
        """Come up again, from what is on the disk; all processes that used it must be gone."""
        _unmount(self.path)
        _run("mount", "-o", "loop", self._image, self.path)


@contextmanager
def memory_disk(path: Path, megabytes: int) -> Iterator[Filler]:
    """A `Filler` at ``path``.

    Raises:
        CannotMount: that isn't allowed here.
    """
    path.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}M", "ashwood-torture", path)
    try:
        yield Filler(path)
    finally:
        _unmount(path)


@contextmanager
def power_disk(path: Path, megabytes: int = 64) -> Iterator[Disk]:
    """A `Disk` at ``path``, with its image beside it.

    Raises:
        CannotMount: that isn't allowed here.
    """
    image = path.with_suffix(".image")
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    _run("mkfs.ext4", "-q", "-F", image)
    _run("mount", "-o", "loop", image, path)
    try:
        yield Disk(path, image)
    finally:
        _unmount(path)
        image.unlink()


def _unmount(path: Path) -> None:
    # A process that was killed may take a moment to let go of its files.
    deadline = time.monotonic() + 10
    while True:
        try:
            return _run("umount", path)
        except CannotMount:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _run(program: str, *arguments: str | Path) -> None:
    command = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if command is None or not sys.platform.startswith("linux"):
        raise CannotMount(f"there is no {program}")
    done = subprocess.run([command, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotMount(f"{program}: {done.stderr.strip()}")
