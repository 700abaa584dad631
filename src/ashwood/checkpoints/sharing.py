"""Group permissions of the files in a home, so that users of one group can change and delete each other's files.

A directory that is writable for its group is shared by that group.  New files in it get its group and the group's
permissions, whatever the umask is.  Files in other directories get the permissions that the umask allows.
"""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path


def share(path: Path) -> None:
    """Give a file or directory the group of its parent directory, and read and write permission for that group.

    This does nothing if the parent is not shared, or if the file belongs to another user.
    """
    with suppress(OSError):
        above, about = path.parent.stat(), path.lstat()
        if not above.st_mode & stat.S_IWGRP or stat.S_ISLNK(about.st_mode):
            return
        if about.st_gid != above.st_gid:
            # If this user is not in the group, chown() fails, and the permissions stay as they are.  Otherwise they
            # would be given to another group.
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
    """Create a directory and its missing parents; each is shared if its own parent is shared.

    Raises:
        OSError: one of them cannot be created.
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
    """Return the name of the owner of a file or directory."""
    try:
        user = path.stat().st_uid
    except OSError:
        return "another user"
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # In some containers, the user has no entry in the user database.
        return f"user {user}"


def how_to_share(path: Path, top: Path) -> str:
    """Return advice on how this user can get permission to write a path, as a part of a sentence.

    Args:
        path: a file or directory; if it does not exist, the nearest parent that exists is used.
        top: the directory to share, with everything in it.
    """
    while not path.exists() and path != path.parent:
        path = path.parent
    return f"it belongs to {owner_name(path)}, who can share it with its group by: chmod -R g+rwX {top}"
