"""Checkpoints of other experiments that trials start from, kept in the home for as long as they are needed.

An experiment deletes its own checkpoints by its policy, and all of them when it is deleted itself.  Others that
start from one of them would lose it.  Therefore a checkpoint in the directory of an experiment is linked to::

    .ashwood/sources/3/trial-17/length-4-attempt-1/

Hard links take no room as long as the original exists.  A checkpoint elsewhere, in a ``checkpoint_storage``
or a directory of the user's, is used where it is: a copy could be large, and may not be where workers find it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ashwood.errors import EventLogError, NotFound
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.spec import ExperimentSpec
from ashwood.trial.sharing import make_shared, share
from ashwood.trial.storage.links import copy_contents
from ashwood.trial.storage.local import LocalStorage
from ashwood.trial.storage.manifest import MANIFEST, About, decode, read_manifest
from ashwood.trial.storage.port import parse_name
from ashwood.trial.storage.trees import name_below

_SOURCES = "sources"


def keep_source(home: Home, place: str) -> str:
    """Return where a checkpoint stays although the experiment of this home that saved it deletes it.

    Raises:
        CheckpointError: it is damaged.
        OSError: it cannot be copied.
    """
    match _parts(home, Path(place).resolve()):
        case ("experiments", experiment, "checkpoints", trial, checkpoint) if parse_name(f"{trial}/{checkpoint}"):
            name, storage = f"{trial}/{checkpoint}", _storage(home, experiment)
        case _:
            return place
    with _alone(home):
        if name not in (stored.name for stored in storage.complete()):
            with storage.fetch(place) as source:
                manifest = read_manifest(source)  # version 1 wrote none
                about = About() if manifest is None else decode(manifest, place).about
                storage.save(name, lambda directory: _link(source, directory), lambda: about)
    return storage.locate(name)


def _parts(home: Home, place: Path) -> tuple[str, ...]:
    """Return the components of a path from the directory of the home that it is in, or none."""
    return next((place.relative_to(path).parts for path in home.directories if place.is_relative_to(path)), ())


def release_source(home: Home, experiment: ExperimentId, spec: ExperimentSpec) -> None:
    """Delete what `keep_source` kept for an experiment that is about to be deleted, unless another one uses it.

    Raises:
        CheckpointError: it cannot be deleted.
    """
    source = spec.source_checkpoint
    if source is None or spec.imported_entries or name_below(home.path / _SOURCES, Path(source)) is None:
        return
    match Path(source).resolve().relative_to((home.path / _SOURCES).resolve()).parts:
        case (owner, trial, checkpoint) if parse_name(f"{trial}/{checkpoint}"):
            with _alone(home):
                others = (record.id for record in home.store.experiments() if record.id != experiment)
                if not any(_may_start_from(home, other, source) for other in others):
                    _storage(home, owner).delete(f"{trial}/{checkpoint}")


def _may_start_from(home: Home, experiment: ExperimentId, source: str) -> bool:
    try:
        return home.store.spec(experiment).source_checkpoint == source
    except NotFound:  # It was deleted meanwhile.
        return False
    except EventLogError:  # Its description is damaged: a backup of it may name the checkpoint.
        return True


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Several experiments that start at once may keep the same checkpoint."""
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
    except OSError:  # on another file system, or on one without links
        shutil.copyfile(source, target)
