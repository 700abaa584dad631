"""Source checkpoints: checkpoints of other experiments from which trials start.

An experiment deletes its checkpoints by its policy, and all of them when it is deleted.  An experiment that starts
from one of them still needs it.  Therefore the files of a checkpoint in an experiment directory are linked to a
directory of the home::

    .ashwood/sources/3/trial-17/length-4-attempt-1/

Hard links take no disk space as long as the original exists.  A checkpoint elsewhere, in a ``checkpoint_storage``
or a directory of the user, is not copied: a copy could be large, and workers may not be able to read it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ashwood.checkpoints import is_remote
from ashwood.checkpoints.links import copy_contents
from ashwood.checkpoints.local import LocalStorage
from ashwood.checkpoints.manifest import MANIFEST, CheckpointInfo, decode, read_manifest
from ashwood.checkpoints.port import parse_name
from ashwood.checkpoints.sharing import make_shared, share
from ashwood.checkpoints.trees import name_below
from ashwood.errors import EventLogError, NotFound
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.spec import ExperimentSpec

_SOURCES = "sources"


def path_without_home(spec: ExperimentSpec) -> str | None:
    """Return the checkpoint from which trials start, or None if only the home of another experiment has it.

    Short trials of an experiment, which open no home, start from it.
    """
    source = spec.source_checkpoint
    if source is None or is_remote(source):
        return source
    path = Path(spec.workdir, source)
    return str(path.absolute()) if path.is_dir() else None


def keep_source(home: Home, location: str) -> str:
    """Link a checkpoint into the home, so that it outlives the experiment that saved it, and return its new path.

    A checkpoint outside of the home's experiment directories is not copied; its location is returned unchanged.

    Args:
        home: the home.
        location: path or URL of the checkpoint.

    Raises:
        CheckpointError: the checkpoint is damaged.
        OSError: the checkpoint cannot be copied.
    """
    match _parts(home, Path(location).resolve()):
        case ("experiments", experiment, "checkpoints", trial, checkpoint) if parse_name(f"{trial}/{checkpoint}"):
            name, storage = f"{trial}/{checkpoint}", _storage(home, experiment)
        case _:
            return location
    with _locked(home):
        if name not in (stored.name for stored in storage.complete()):
            with storage.fetch(location) as source:
                manifest = read_manifest(source)  # Version 1 of Ashwood wrote no manifests.
                about = CheckpointInfo() if manifest is None else decode(manifest, location).about
                storage.save(name, lambda directory: _link(source, directory), lambda: about)
    return storage.locate(name)


def _parts(home: Home, path: Path) -> tuple[str, ...]:
    """Return the components of a path relative to the home, or an empty tuple if it is not in the home."""
    return next((path.relative_to(top).parts for top in home.directories if path.is_relative_to(top)), ())


def release_source(home: Home, experiment: ExperimentId, spec: ExperimentSpec) -> None:
    """Delete the kept source checkpoint of an experiment that is about to be deleted, unless another one uses it.

    Raises:
        CheckpointError: the checkpoint cannot be deleted.
    """
    source = spec.source_checkpoint
    if source is None or spec.imported_entries or name_below(home.path / _SOURCES, Path(source)) is None:
        return
    match Path(source).resolve().relative_to((home.path / _SOURCES).resolve()).parts:
        case (owner, trial, checkpoint) if parse_name(f"{trial}/{checkpoint}"):
            with _locked(home):
                others = (record.id for record in home.store.experiments() if record.id != experiment)
                if not any(_may_start_from(home, other, source) for other in others):
                    _storage(home, owner).delete(f"{trial}/{checkpoint}")


def _may_start_from(home: Home, experiment: ExperimentId, source: str) -> bool:
    try:
        return home.store.spec(experiment).source_checkpoint == source
    except NotFound:  # The experiment was deleted meanwhile.
        return False
    except EventLogError:  # A backup of the damaged spec may refer to the checkpoint.
        return True


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    """Lock the source checkpoints of a home, because experiments that start at the same time may link the same one."""
    home.make()
    directory = home.path / _SOURCES
    make_shared(directory)
    lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        share(directory / ".lock")
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _storage(home: Home, experiment: str) -> LocalStorage:
    return LocalStorage(home.path / _SOURCES / experiment)


def _link(source: Path, directory: Path) -> None:
    copy_contents(source, directory, skip=MANIFEST, copy=_link_file)


def _link_file(source: str, target: Path) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # The file is on another file system, or on one without hard links.
        shutil.copyfile(source, target)
