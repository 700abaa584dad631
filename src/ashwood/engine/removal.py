"""Deletes experiments: first their files, last their rows, so that a deletion that was interrupted can be repeated."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path

from ashwood.checkpoints import Storage, is_remote
from ashwood.checkpoints.sharing import how_to_share
from ashwood.checkpoints.trees import name_below, remove_tree
from ashwood.engine.background import while_beating
from ashwood.engine.sources import release_source
from ashwood.errors import AshwoodError, CheckpointError, EventLogError
from ashwood.eventlog.head import EXPERIMENTS
from ashwood.eventlog.home import Home
from ashwood.eventlog.lease import Lease
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.spec import ExperimentSpec

CODE = "code"
"""Directory of a home for the files of checked-out commits."""


def remove_experiment(home: Home, experiment: ExperimentId) -> None:
    """Delete an experiment: its checkpoints, trial logs, other files and event log.

    Paths in its spec are not trusted, because the spec may come from a bundle or a damaged database.  So no other
    file is deleted, whatever they are.

    Raises:
        NotFound: there is no experiment with that ID.
        ExperimentBusy: a driver runs the experiment.
        AshwoodError: a file cannot be deleted.  The deletion can be repeated.
    """
    home.store.record(experiment)
    with home.lease(experiment) as lease:
        try:
            spec = home.store.spec(experiment)
        except EventLogError:  # The spec is damaged, so its files outside of the home are not known.
            spec = None
        if spec is not None:
            if spec.checkpoint_storage is not None:
                _remove_checkpoints(home, experiment, spec, lease)
            _remove_code(home, experiment, spec)
        remove_directory(home, experiment)
        if spec is not None:
            release_source(home, experiment, spec)
        home.store.delete(experiment)


def remove_directory(home: Home, experiment: ExperimentId) -> None:
    """Delete the directory of an experiment in its home.

    Raises:
        AshwoodError: a file cannot be deleted.
    """
    directory = home.files(experiment)
    _remove(directory.parent, directory.name)


def _remove_checkpoints(home: Home, experiment: ExperimentId, spec: ExperimentSpec, lease: Lease) -> None:
    """Delete the checkpoints in the spec's storage one by one, because it may contain other files, too."""
    storage, location = home.storage(experiment, spec), home.checkpoints(experiment, spec)
    if not is_remote(location):
        directory = Path(location.removeprefix("file://"))
        if name_below(home.path / EXPERIMENTS, directory) not in (None, str(experiment)) or "\0" in location:
            return  # The name is that of another experiment's directory, or cannot be that of a directory.
    for name in while_beating(partial(_own, storage, spec.identity), lease.beat):
        while_beating(partial(storage.delete, name), lease.beat)
        lease.beat()
    if not is_remote(location):
        with suppress(OSError):  # The directory contains other files, or is a link.
            directory.rmdir()


def _own(storage: Storage, identity: str) -> list[str]:
    """Return the names of checkpoints and leftovers in a storage that belong to the experiment with an identity.

    Leftovers, and checkpoints of older versions, have no identity.  They belong to the experiment if the storage has
    no checkpoint of another one.
    """
    own, unmarked = [], [leftover.name for leftover in storage.leftovers()]
    others = 0
    for stored in storage.complete():
        try:
            owner = storage.manifest(stored.name).experiment
        except CheckpointError:
            owner = ""
        if not owner:
            unmarked.append(stored.name)
        elif owner == identity:
            own.append(stored.name)
        else:
            others += 1
    return own if others else own + unmarked


def _remove_code(home: Home, experiment: ExperimentId, spec: ExperimentSpec) -> None:
    """Delete the code that was checked out for an experiment, if no other experiment uses it."""
    name = name_below(home.path / CODE, Path(spec.workdir))
    # The spec of an imported experiment may name a directory that this home did not create.
    if name is None or spec.imported_entries or not _is_unused(home, name, experiment):
        return
    _remove(home.path / CODE, name)


def _is_unused(home: Home, name: str, by: ExperimentId) -> bool:
    try:
        specs = [home.store.spec(record.id) for record in home.store.experiments() if record.id != by]
    except EventLogError:  # An experiment with a damaged spec may use the code.
        return False
    return all(name_below(home.path / CODE, Path(spec.workdir)) != name for spec in specs)


def _remove(top: Path, name: str) -> None:
    try:
        remove_tree(top, name)
    except OSError as error:
        why = str(error.strerror or error)
        if isinstance(error, PermissionError):
            why += f"; {how_to_share(top / name, top / name)}"
        raise AshwoodError(
            f"cannot delete {error.filename or top / name} in {top / name}: {why}. Correct that, then delete the "
            "experiment again"
        ) from error
