"""Unix sockets at paths that only this user can reach."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ashwood.checkpoints.scratch import private_directory

_STALE_SECONDS = 3600.0
_BACKLOG = 512


def listen() -> tuple[socket.socket, str]:
    """Return a listening socket and its path.

    The socket has a random name in a directory that only this user can enter, so no other user can connect.  Several
    directories are tried, because the path of the first may be too long (the limit is 108 bytes on Linux), or its disk
    full.

    Raises:
        OSError: a socket could not be created in any of the directories.
    """
    errors: list[OSError] = []
    for base in _bases():
        sock = socket.socket(socket.AF_UNIX)
        try:
            path = str(private_directory(_directory(base)) / os.urandom(8).hex())
            sock.bind(path)
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            errors.append(error)
        else:
            return sock, path
    raise errors[0]


def _bases() -> Iterable[str]:
    # `tempfile.gettempdir` is not used: it returns the current directory if it cannot write to any other.
    return dict.fromkeys((*filter(None, (os.environ.get("TMPDIR"),)), "/tmp", "/dev/shm", "/var/tmp"))  # noqa: S108


def _directory(base: str) -> Path:
    return Path(base, f"ashwood-commands-{os.getuid()}").absolute()


def sweep() -> None:
    """Delete the sockets of workers that were killed and no longer listen."""
    paths: list[Path] = []
    for base in _bases():
        with suppress(OSError):
            paths.extend(_directory(base).iterdir())
    for path in paths:
        with suppress(OSError):
            _delete_if_stale(path)


def _delete_if_stale(path: Path) -> None:
    # A socket that is bound but does not listen yet refuses connections too.  So only old ones are deleted.
    if time.time() - path.lstat().st_mtime < _STALE_SECONDS:
        return
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
