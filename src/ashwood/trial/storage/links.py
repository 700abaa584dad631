"""Symbolic links in checkpoints.

A checkpoint is written in one directory and read in another, so its links are relative and lead to something in it.
`settle_links` makes them so when a checkpoint is saved.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ashwood.errors import TrainingCodeError

_ADVICE = (
    "a checkpoint keeps links to its own files and folders and copies files elsewhere that links lead to; correct the "
    "link, or write the files themselves"
)


def contents(directory: Path | str, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield everything below a directory with its path inside, in the order of names; links are not followed."""
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            yield prefix + entry.name, entry
            if entry.is_dir(follow_symlinks=False):
                yield from contents(entry.path, f"{prefix}{entry.name}/")


def inner_target(top: Path, path: str) -> str | None:
    """Return the path in a directory that a link in it leads to, or None if it leads out of the directory.

    A link that leads to another link in the directory keeps it as its target.

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
    """Return the content of a link at ``path`` that leads to ``target``; both are paths in the checkpoint."""
    return os.path.relpath(target, os.path.dirname(path) or ".")  # noqa: PTH120


def settle_links(top: Path) -> None:
    """Make the links that training code wrote relative, and replace those to files elsewhere by copies.

    Raises:
        TrainingCodeError: a link leads nowhere, in a circle, or to a folder elsewhere.
        OSError: a file elsewhere cannot be copied.
    """
    written = {path: os.readlink(entry.path) for path, entry in contents(top) if entry.is_symlink()}  # noqa: PTH115
    folders = dict[str, str]()
    for path, told in written.items():
        link = top / path
        try:
            end = Path(os.path.realpath(link, strict=True))
        except OSError as error:
            raise _refusal(path, told, f"cannot be followed ({error.strerror})") from None
        target = inner_target(top, path)
        if target is not None:
            if end.is_dir():
                folders[path] = os.path.relpath(end, os.path.realpath(top))
            if told != (text := link_text(path, target)):
                link.unlink()
                link.symlink_to(text)
        elif end.is_file():
            import shutil  # It takes long to import, and few checkpoints have links.

            link.unlink()
            shutil.copy(end, link)
        else:
            raise _refusal(path, told, "leads out of the checkpoint to something that is not a file")
    if (circular := _find_circle(top, folders)) is not None:
        raise _refusal(circular, written[circular], "leads to a folder from which links lead back to it")


def _find_circle(top: Path, links: Mapping[str, str]) -> str | None:
    """Return one of the links to folders that a program which follows links would come back to, or None."""
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
    """Make the folders and links of a checkpoint where its files are already."""
    with suppress(FileExistsError, NotADirectoryError):  # Then it is not the checkpoint, as `check` finds out.
        for folder in folders:
            (top / folder).mkdir(parents=True, exist_ok=True)
        for path, target in links.items():
            (top / path).symlink_to(link_text(path, target))


def copy_contents(
    source: Path, target: Path, *, skip: str | None = None, copy: Callable[[str, Path], Any] | None = None
) -> None:
    """Copy a checkpoint to a directory, which may exist.

    Checkpoints of version 0.1.0 can hold links to files elsewhere.  Those are replaced by copies.

    Args:
        source: the checkpoint.
        target: the directory.
        skip: path of a file that is not copied.
        copy: copies one file; by default `shutil.copy2`.
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
