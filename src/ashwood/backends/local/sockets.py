"""Unix sockets at paths that only this user reaches."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_STALE_SECONDS = 3600.0
_BACKLOG = 512


def listen() -> tuple[socket.socket, str]:
    """Return a listening socket and its path.

    The name is random and in a directory of this user alone, so no other user can connect.  The path must be short
    (108 bytes on Linux), which a directory for temporary files need not be; and its disk may be full.
    """
    troubles: list[OSError] = []
    for base in _bases():
        sock = socket.socket(socket.AF_UNIX)
        try:
            path = str(_own_directory(base) / os.urandom(8).hex())
            sock.bind(path)
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            troubles.append(error)
        else:
            return sock, path
    raise troubles[0]


def _bases() -> Iterable[str]:
    # Not `tempfile.gettempdir`, which takes the current directory if no other has room for a file.
    return dict.fromkeys((*filter(None, (os.environ.get("TMPDIR"),)), "/tmp", "/dev/shm", "/var/tmp"))  # noqa: S108


def _directory(base: str) -> Path:
    return Path(base, f"ashwood-commands-{os.getuid()}").absolute()


def _own_directory(base: str) -> Path:
    directory = _directory(base)
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(errno.EPERM, f"{directory} must be a directory that only you can use: remove it")
    return directory


def sweep() -> None:
    """Delete sockets on which no worker listens any more: a worker that is killed leaves one behind."""
    paths: list[Path] = []
    for base in _bases():
        with suppress(OSError):
            paths.extend(_directory(base).iterdir())
    for path in paths:
        with suppress(OSError):
            _delete_if_stale(path)


def _delete_if_stale(path: Path) -> None:
    # One that is bound and doesn't listen yet refuses connections, too.
    if time.time() - path.lstat().st_mtime < _STALE_SECONDS:
        return
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
