"""Group rights of the files in a home: what one user of a group makes, the others can change and delete.

A directory that its group may write is shared by that group.  New files in it get its group and the group's rights,
whatever the umask says.  A directory that only its owner may write stays as private as the umask makes it.
"""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path


def share(path: Path) -> None:
    """Give a file or directory the group of its directory, and the rights of that group.

    Nothing happens if the directory is not shared, or if the file belongs to another user.
    """
    with suppress(OSError):
        above, about = path.parent.stat(), path.lstat()
        if not above.st_mode & stat.S_IWGRP or stat.S_ISLNK(about.st_mode):
            return
        if about.st_gid != above.st_gid:
            # If this user is not in the group, no rights are given: they would be those of another group.
            os.chown(path, -1, above.st_gid, follow_symlinks=False)
        wanted = about.st_mode | stat.S_IRGRP | stat.S_IWGRP
        if stat.S_ISDIR(about.st_mode):
            wanted |= stat.S_IXGRP | above.st_mode & stat.S_ISGID
        elif about.st_mode & stat.S_IXUSR:
            wanted |= stat.S_IXGRP
        if wanted != about.st_mode or about.st_gid != above.st_gid:
            path.chmod(stat.S_IMODE(wanted))


def share_tree(path: Path) -> None:
    """Call `share` for a directory and everything in it."""
    share(path)
    with suppress(OSError):
        if not path.stat().st_mode & stat.S_IWGRP:
            return
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            share(Path(folder, name))


def make_shared(path: Path) -> None:
    """Make a directory and those above it that are missing; each is shared if the one above it is.

    Raises:
        OSError: one of them cannot be made.
    """
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise
    except FileNotFoundError:
        make_shared(path.parent)
        path.mkdir(exist_ok=True)
        share(path)
    else:
        share(path)


def owner_name(path: Path) -> str:
    """Return the name of the user whom a file or directory belongs to."""
    try:
        user = path.stat().st_uid
    except OSError:
        return "another user"
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # as in some containers
        return f"user {user}"


def how_to_share(path: Path, top: Path) -> str:
    """Return what has to be done so that this user may write a path.

    Args:
        path: a file or directory; the nearest directory above it that exists is meant if it does not exist.
        top: the directory to share, with all that is in it.
    """
    while not path.exists() and path != path.parent:
        path = path.parent
    return f"it belongs to {owner_name(path)}, who can share it with its group by: chmod -R g+rwX {top}"
