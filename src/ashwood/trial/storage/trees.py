"""The one place that removes directories with all that is in them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def remove_tree(top: Path, name: str, *, ignore_errors: bool = False) -> None:
    """Remove what the directory ``top`` holds under a name.  A link is removed as a link; its target stays.

    ``top`` belongs to Ashwood.  The name may come from a database, a file or a bundle, so it has to be one component:
    whatever it says, nothing outside of ``top`` is removed.

    Args:
        top: the directory.
        name: of the file, link or directory in it.  Nothing happens if there is none.
        ignore_errors: do not raise what the file system has against it.

    Raises:
        ValueError: the name is not one component.
        OSError: it cannot be removed.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is not the name of a file in {top}")
    path = top / name
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            import shutil  # It takes long to import, and many workers never remove anything.

            shutil.rmtree(path, ignore_errors=ignore_errors)  # noqa: TID251
    except OSError:
        if not ignore_errors:
            raise


def size_of_tree(directory: Path) -> int:
    """Return the bytes of all files below a directory; links are not followed."""
    size = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):  # It is deleted meanwhile.
                size += Path(folder, name).lstat().st_size
    return size


def name_below(top: Path, path: Path) -> str | None:
    """Return the name in ``top`` that ``path`` has or lies below, or None; links and ``..`` are resolved first."""
    try:
        parts = path.resolve().relative_to(top.resolve()).parts
    except (OSError, RuntimeError, ValueError):  # a loop of links, no path at all, or elsewhere
        return None
    return parts[0] if parts else None
