"""Removing an experiment for good: its files first, its record last, so that a crash in between can be repeated."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from ashwood.engine.background import while_beating
from ashwood.engine.sources import release_source
from ashwood.errors import AshwoodError
from ashwood.eventlog.home import Home
from ashwood.eventlog.lease import Lease
from ashwood.eventlog.port import ExperimentId
from ashwood.trial.storage import Storage, is_remote

CODE = "code"
"""Where in a home the files of commits are laid out."""


def remove_experiment(home: Home, experiment: ExperimentId) -> None:
    """Remove an experiment's checkpoints, logs, other files and record.

    Raises:
        NotFound: there is none of that number.
        ExperimentBusy: a driver runs it.
        AshwoodError: a file can't be removed; repeat it when the reason is gone.
    """
    spec = home.store.spec(experiment)
    with home.lease(experiment) as lease:
        _remove_checkpoints(home.storage(experiment, spec), home.checkpoints(experiment, spec), lease)
        workdir = Path(spec.workdir)
        code = home.path / CODE
        if workdir.is_relative_to(code) and workdir != code:
            _remove_tree(code / workdir.relative_to(code).parts[0])
        _remove_tree(home.path / "experiments" / str(experiment))
        release_source(home, experiment, spec)
        home.store.delete(experiment)


def _remove_checkpoints(storage: Storage, place: str, lease: Lease) -> None:
    # A directory goes as a whole; other things may lie beside checkpoints at a URL.
    if not is_remote(place):
        _remove_tree(Path(place.removeprefix("file://")))
        return
    names = [stored.name for stored in while_beating(storage.complete, lease.beat)]
    names += [leftover.name for leftover in while_beating(storage.leftovers, lease.beat)]
    for name in names:
        while_beating(partial(storage.delete, name), lease.beat)
        lease.beat()


def _remove_tree(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AshwoodError(
            f"can't remove {error.filename or path}: {error.strerror}; mend that and repeat it"
        ) from error
