"""Directories on this machine for the files of a PostgreSQL database: checkpoints, trial logs and the like.

A directory is named after the identity of its database, because several URLs can name the same server (``localhost``,
``127.0.0.1``, a service, a tunnel), and one URL can lead to different servers.  The file ``database`` in the directory
repeats the identity.  So a directory that was renamed, or moved to the path of another one, is recognised.

Version 0.1.0 named the directory after the host and the database in the URL.  A database that was made by that version
takes over such a directory if no other database has done so and the files in it can be its own.  It claims the
directory by writing its identity into it.  The directory is not renamed, because event logs contain its path.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ashwood.checkpoints.sharing import make_shared, share
from ashwood.errors import EventLogError

_FILE: Final = "database"
_DAMAGED: Final = "?"


class Claim(NamedTuple):
    """The record in a directory that says which database owns it.

    Attributes:
        identity: identity of the database, or ``?`` if the record is damaged.
        since: when the database claimed the directory, in seconds since 1970.
    """

    identity: str
    since: float


class Directories(NamedTuple):
    """The directories of one database.

    Attributes:
        path: the directory for new files.
        former: other directories that the database has taken over; they hold files of older experiments.
    """

    path: Path
    former: tuple[Path, ...] = ()


def find_directories(
    root: Path, identity: str, *, name: str, old: str | None, belongs: Callable[[Path], bool]
) -> Directories:
    """Return the directories of a database, after it has claimed the one that version 0.1.0 made.

    Args:
        root: the directory that holds the directories of all databases.
        identity: identity of the database.
        name: name of the database, for messages.
        old: name of the directory that version 0.1.0 would use, or None if that version did not make the database.
        belongs: returns whether the files in a directory can be those of the database.

    Raises:
        EventLogError: the directory that is named after this identity belongs to another database.
    """
    own = root / f"postgresql-{identity}"
    if (claim := read_claim(own)) is not None and claim.identity != identity:
        raise _claimed_by_another(own, claim, identity)
    if old is not None and read_claim(root / old) is None and belongs(root / old):
        with suppress(OSError):  # If it cannot be written, no driver of this user can use it anyway.
            _write_claim(root / old, identity, name)
    found = [(claim, path) for path in _directories(root) if (claim := read_claim(path)) and claim.identity == identity]
    claimed = [path for _, path in sorted(found, key=lambda each: (each[0].since, each[1])) if path != own]
    if own.is_dir() or not claimed:
        return Directories(own, tuple(claimed))
    return Directories(claimed[0], tuple(claimed[1:]))


def claim_directory(path: Path, identity: str, name: str) -> None:
    """Make the directory of a database if it does not exist, and write the identity of the database into it.

    Raises:
        EventLogError: the directory belongs to another database.
        OSError: the directory cannot be made.
    """
    make_shared(path)
    if read_claim(path) is None:
        _write_claim(path, identity, name)
    if (claim := read_claim(path)) is None or claim.identity != identity:
        raise _claimed_by_another(path, claim, identity)


def read_claim(path: Path) -> Claim | None:
    """Return which database a directory belongs to, or None if no database has claimed it."""
    try:
        claim = json.loads((path / _FILE).read_bytes())
        return Claim(str(claim["identity"]), float(claim["since"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return Claim(_DAMAGED, 0.0)


def _write_claim(path: Path, identity: str, name: str) -> None:
    """Write a claim into a directory unless it has one."""
    # The claim is written to a new file, which is then linked to its name.  So other processes never read an incomplete
    # claim.  Unlike a rename, a link fails if the name exists, so the first of several processes wins.
    fresh = path / f".{_FILE}-{os.urandom(8).hex()}"
    try:
        with fresh.open("x") as file:
            json.dump({"identity": identity, "since": time.time(), "database": name}, file)
            file.flush()
            os.fsync(file.fileno())
        share(fresh)
        with suppress(FileExistsError):  # Another process was faster.
            os.link(fresh, path / _FILE)
    finally:
        fresh.unlink(missing_ok=True)


def _directories(root: Path) -> Iterable[Path]:
    try:
        return [path for path in root.iterdir() if path.is_dir()]
    except OSError:
        return []


def _claimed_by_another(path: Path, claim: Claim | None, identity: str) -> EventLogError:
    if claim is None or claim.identity == _DAMAGED:
        return EventLogError(
            f"{path / _FILE} is damaged, so it is not known whether {path} holds the files of this database (identity "
            f"{identity}). If it does, delete {path / _FILE}; otherwise move {path} elsewhere"
        )
    return EventLogError(
        f"{path} holds the files of the database with identity {claim.identity}, but this database has identity "
        f"{identity}: was a directory copied or renamed? Move it elsewhere, or set ASHWOOD_FILES to another directory"
    )
