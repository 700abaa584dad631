"""Removing an experiment for good: its files first, its record last, so that a crash in between can be repeated."""

from __future__ import annotations

import shutil
from pathlib import Path

from ashwood.engine.home import Home
from ashwood.errors import AshwoodError
from ashwood.eventlog.port import ExperimentId

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
    with home.lease(experiment):
        _remove_checkpoints(str(home.checkpoints(experiment, spec)))
        workdir = Path(spec.workdir)
        code = home.path / CODE
        if workdir.is_relative_to(code) and workdir != code:
            _remove_tree(code / workdir.relative_to(code).parts[0])
        _remove_tree(home.path / "experiments" / str(experiment))
        home.store.delete(experiment)


def _remove_checkpoints(place: str) -> None:
    if "://" not in place:
        _remove_tree(Path(place))
        return
    raise AshwoodError(f"the checkpoints in {place} have to be removed there first")


def _remove_tree(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AshwoodError(
            f"can't remove {error.filename or path}: {error.strerror}; mend that and repeat it"
        ) from error
