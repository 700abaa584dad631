"""Removing an experiment for good: its files first, its record last, so that a crash in between can be repeated."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path

from ashwood.engine.background import while_beating
from ashwood.engine.sources import release_source
from ashwood.errors import AshwoodError, CheckpointError, EventLogError
from ashwood.eventlog.head import EXPERIMENTS
from ashwood.eventlog.home import Home
from ashwood.eventlog.lease import Lease
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.spec import ExperimentSpec
from ashwood.trial.sharing import how_to_share
from ashwood.trial.storage import Storage, is_remote
from ashwood.trial.storage.trees import name_below, remove_tree

CODE = "code"
"""Where in a home the files of commits are laid out."""


def remove_experiment(home: Home, experiment: ExperimentId) -> None:
    """Remove an experiment's checkpoints, logs, other files and record.

    Nothing else is removed, whatever paths its spec contains: it may come from a bundle or a damaged database.

    Raises:
        NotFound: there is no experiment with that number.
        ExperimentBusy: a driver runs it.
        AshwoodError: a file cannot be removed. Removing the experiment can be repeated.
    """
    home.store.record(experiment)
    with home.lease(experiment) as lease:
        try:
            spec = home.store.spec(experiment)
        except EventLogError:  # It is damaged, so what it owns elsewhere is not known.
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
    """Remove the directory of an experiment in its home.

    Raises:
        AshwoodError: a file can't be removed.
    """
    directory = home.files(experiment)
    _remove(directory.parent, directory.name)


def _remove_checkpoints(home: Home, experiment: ExperimentId, spec: ExperimentSpec, lease: Lease) -> None:
    """Remove checkpoints in a storage that the spec names, one by one: other things may lie beside them."""
    storage, place = home.storage(experiment, spec), home.checkpoints(experiment, spec)
    if not is_remote(place):
        directory = Path(place.removeprefix("file://"))
        if name_below(home.path / EXPERIMENTS, directory) not in (None, str(experiment)) or "\0" in place:
            return  # It is another experiment's directory, or a name that no directory can have.
    for name in while_beating(partial(_own, storage, spec.identity), lease.beat):
        while_beating(partial(storage.delete, name), lease.beat)
        lease.beat()
    if not is_remote(place):
        with suppress(OSError):  # Something else lies in it, or it is a link.
            directory.rmdir()


def _own(storage: Storage, identity: str) -> list[str]:
    """Return the names of checkpoints and leftovers that are this experiment's.

    Older versions did not write an identity, and leftovers have none.  They count if all others here are its own.
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
    """Remove the code that was laid out for an experiment, if no other one uses it."""
    name = name_below(home.path / CODE, Path(spec.workdir))
    # An imported spec may name any directory.
    if name is None or spec.imported_entries or not _is_unused(home, name, experiment):
        return
    _remove(home.path / CODE, name)


def _is_unused(home: Home, name: str, by: ExperimentId) -> bool:
    try:
        specs = [home.store.spec(record.id) for record in home.store.experiments() if record.id != by]
    except EventLogError:  # A damaged one may use it.
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
            f"can't remove {error.filename or top / name} in {top / name}: {why}; correct that, then delete it again"
        ) from error
