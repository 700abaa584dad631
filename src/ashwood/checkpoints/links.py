"""Symbolic links in checkpoints.

A checkpoint is written in one directory and read in another.  So its links must be relative, with targets inside the
checkpoint.  `settle_links` ensures this when a checkpoint is saved.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ashwood.errors import TrainingCodeError

_ADVICE = (
    "a checkpoint keeps links to its own files and folders, and it copies other files that links lead to. Correct the "
    "link, or write the files themselves"
)


def contents(directory: Path | str, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield every entry below a directory with its relative path, sorted by name; links are not followed."""
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            yield prefix + entry.name, entry
            if entry.is_dir(follow_symlinks=False):
                yield from contents(entry.path, f"{prefix}{entry.name}/")


def inner_target(top: Path, path: str) -> str | None:
    """Return the target of a link as a path relative to the directory ``top``, or None if it is outside of it.

    If the target is another link inside the directory, that link is returned, not its target.

    Raises:
        OSError: ``path`` is not a link.
    """
    root, link = os.path.realpath(top), os.path.join(top, path)  # noqa: PTH118
    step = os.path.join(os.path.dirname(link), os.readlink(link))  # noqa: PTH115, PTH118, PTH120
    folder, name = os.path.split(step.rstrip("/"))
    step = os.path.realpath(step) if name in ("", ".", "..") else f"{os.path.realpath(folder)}/{name}"
    for place in (step, os.path.realpath(link)):
        if f"{place}/".startswith(f"{root}/"):
            return os.path.relpath(place, root)
    return None


def link_text(path: str, target: str) -> str:
    """Return the text of a relative link at ``path`` to ``target``; both are paths in the checkpoint."""
    return os.path.relpath(target, os.path.dirname(path) or ".")  # noqa: PTH120


def settle_links(top: Path) -> None:
    """Make links that training code wrote relative, and replace links to files outside the checkpoint by copies.

    Raises:
        TrainingCodeError: a link has no target, is part of a loop, or leads to a folder outside the checkpoint.
        OSError: a file outside the checkpoint cannot be copied.
    """
    written = {path: os.readlink(entry.path) for path, entry in contents(top) if entry.is_symlink()}  # noqa: PTH115
    folders = dict[str, str]()
    for path, destination in written.items():
        link = top / path
        trouble = None
        try:
            end = Path(os.path.realpath(link, strict=True))
        except OSError as error:
            trouble = error.strerror
        # Raised outside of the except block, so that the system's error is not its context. With that context the
        # failure would count as temporary, and the trial would be retried up to max_restarts times.
        if trouble is not None:
            raise _refusal(path, destination, f"cannot be followed ({trouble})")
        target = inner_target(top, path)
        if target is not None:
            if end.is_dir():
                folders[path] = os.path.relpath(end, os.path.realpath(top))
            if destination != (text := link_text(path, target)):
                link.unlink()
                link.symlink_to(text)
        elif end.is_file():
            import shutil  # imported here, because it is slow to import and few checkpoints have links

            link.unlink()
            shutil.copy(end, link)
        else:
            raise _refusal(path, destination, "leads out of the checkpoint to something that is not a file")
    if (circular := _find_circle(top, folders)) is not None:
        raise _refusal(circular, written[circular], "leads to a folder that contains the link or leads back to it")


def _find_circle(top: Path, links: Mapping[str, str]) -> str | None:
    """Return a link to a folder that makes a program that follows links run in circles, or None."""
    if not links:
        return None
    from graphlib import CycleError, TopologicalSorter

    order = TopologicalSorter[str]()
    for path, entry in contents(top):
        if entry.is_dir():
            order.add(path, os.path.dirname(path) or ".")  # noqa: PTH120
    for path, target in links.items():
        order.add(target, path)
    try:
        order.prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return next(path for path in circle if path in links)
    return None


def _refusal(path: str, target: str, why: str) -> TrainingCodeError:
    return TrainingCodeError(f"the checkpoint callable wrote the link {path!r} to {target!r}, which {why}: {_ADVICE}")


def restore_links(top: Path, folders: Iterable[str], links: Mapping[str, str]) -> None:
    """Create the folders and links of a checkpoint in a directory that already contains its files."""
    # If a file has the name of a folder or link, the directory is not the checkpoint.  `check` reports that later.
    with suppress(FileExistsError, NotADirectoryError):
        for folder in folders:
            (top / folder).mkdir(parents=True, exist_ok=True)
        for path, target in links.items():
            (top / path).symlink_to(link_text(path, target))


def copy_contents(
    source: Path, target: Path, *, skip: str | None = None, copy: Callable[[str, Path], Any] | None = None
) -> None:
    """Copy a checkpoint to a directory, which may exist.

    Checkpoints of version 0.1.0 can contain links to files outside.  Those links are replaced by copies.

    Args:
        source: directory of the checkpoint.
        target: directory of the copy.
        skip: relative path of a file that is not copied, or None.
        copy: function that copies one file; by default `shutil.copy2`.
    """
    import shutil

    target.mkdir(parents=True, exist_ok=True)
    for path, entry in contents(source):
        if entry.is_symlink() and (inner := inner_target(source, path)) is not None:
            (target / path).symlink_to(link_text(path, inner))
        elif entry.is_dir():
            (target / path).mkdir(exist_ok=True)
        elif path != skip:
            (copy or shutil.copy2)(entry.path, target / path)
