"""Which directory of this machine holds the files of a database on a server.

It is named after the identity of the database, because a URL names a server in many ways (``localhost``,
``127.0.0.1``, a service, a tunnel), and one name can lead to several servers.  A file in it repeats the identity, so
a directory that was renamed or put in the place of another one is recognised.

Version 0.1.0 named the directory after the host and the database in the URL.  A database that is older than its
identity takes such a directory over, if no other database has done so and the files in it can be its own: it claims
the directory by writing its identity there, and the directory keeps its name, which records contain.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ashwood.errors import EventLogError
from ashwood.trial.sharing import make_shared, share

_FILE: Final = "database"
_DAMAGED: Final = "?"


class Claim(NamedTuple):
    """Whose files a directory holds.

    Attributes:
        identity: of the database; ``?`` if the file that says so is damaged.
        since: when the database claimed the directory, in seconds since 1970.
    """

    identity: str
    since: float


class Places(NamedTuple):
    """Directories of one database.

    Attributes:
        path: the one for new files.
        former: others that it has taken over, which only hold files of some older experiments.
    """

    path: Path
    former: tuple[Path, ...] = ()


def find_places(root: Path, identity: str, *, name: str, old: str | None, belongs: Callable[[Path], bool]) -> Places:
    """Return the directories of a database, and take over the one that version 0.1.0 made.

    Args:
        root: the directory that holds the directories of all databases.
        identity: of the database.
        name: of the database, for people.
        old: how version 0.1.0 called its directory, or None if the database is not that old.
        belongs: tells whether the files in a directory can be those of the database.

    Raises:
        EventLogError: the directory of that identity belongs to another database.
    """
    own = root / f"postgresql-{identity}"
    if (claim := read_claim(own)) is not None and claim.identity != identity:
        raise _others(own, claim, identity)
    if old is not None and read_claim(root / old) is None and belongs(root / old):
        with suppress(OSError):  # It cannot be written, so no driver can use it.
            _write_claim(root / old, identity, name)
    found = [(claim, path) for path in _directories(root) if (claim := read_claim(path)) and claim.identity == identity]
    claimed = [path for _, path in sorted(found, key=lambda each: (each[0].since, each[1])) if path != own]
    if own.is_dir() or not claimed:
        return Places(own, tuple(claimed))
    return Places(claimed[0], tuple(claimed[1:]))


def claim_directory(path: Path, identity: str, name: str) -> None:
    """Make the directory of a database, and write the identity of the database into it.

    Raises:
        EventLogError: it belongs to another database.
        OSError: it cannot be made.
    """
    make_shared(path)
    if read_claim(path) is None:
        _write_claim(path, identity, name)
    if (claim := read_claim(path)) is None or claim.identity != identity:
        raise _others(path, claim, identity)


def read_claim(path: Path) -> Claim | None:
    """Return whose files a directory holds, or None if nothing in it says so."""
    try:
        told = json.loads((path / _FILE).read_bytes())
        return Claim(str(told["identity"]), float(told["since"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return Claim(_DAMAGED, 0.0)


def _write_claim(path: Path, identity: str, name: str) -> None:
    """Write it completely or not at all, and only if there is none."""
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


def _others(path: Path, claim: Claim | None, identity: str) -> EventLogError:
    if claim is None or claim.identity == _DAMAGED:
        return EventLogError(
            f"{path / _FILE} is damaged, so it is not known whether {path} holds the files of this database, which has "
            f"identity {identity}. If it does, delete {path / _FILE}; otherwise move {path} elsewhere"
        )
    return EventLogError(
        f"{path} holds the files of the database with identity {claim.identity}, not of this one, which has identity "
        f"{identity}: was a directory copied or renamed? Move it elsewhere, or name another one with ASHWOOD_FILES"
    )
