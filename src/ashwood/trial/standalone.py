"""Trials without an experiment: they train to a given length and print their reports."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ashwood.checkpoints import MANIFEST, is_remote, open_storage
from ashwood.checkpoints.directory import FOLDER, VARIABLE, directory_name
from ashwood.checkpoints.manifest import Manifest, decode, read_manifest, verify
from ashwood.checkpoints.sharing import make_shared
from ashwood.checkpoints.trees import remove_tree
from ashwood.errors import CheckpointError, TrainingCodeError
from ashwood.trial.api import Trial
from ashwood.trial.channel import Link, ReportAnswer
from ashwood.trial.job import WorkerJob
from ashwood.trial.lengths import format_length

_made: set[str] = set()
"""Directories of trials of this process."""


class PrintingLink(Link):
    """A link without a driver, which prints reports and ends the trial at its target."""

    def __init__(self, unit: str, checkpoints: str | None) -> None:
        """Print lengths in ``unit``, and the paths of checkpoints if they are kept in ``checkpoints``."""
        self._unit = unit
        self._checkpoints = checkpoints

    def reported(self, length: int, metrics: dict[str, float]) -> None:
        """Print the metrics on one line."""
        values = "  ".join(f"{name}={value:.6g}" for name, value in metrics.items())
        print(f"{format_length(length, self._unit)}: {values}", flush=True)

    def saved(self, length: int, name: str, metrics: Mapping[str, float], size: int) -> None:  # noqa: ARG002
        """Print the path or URL of the checkpoint."""
        if self._checkpoints is not None:
            path = open_storage(self._checkpoints).locate(name)
            print(f"{format_length(length, self._unit)}: saved to {path}", flush=True)

    def answer(self) -> ReportAnswer | None:
        """Return the answer that ends the trial at its target with a save."""
        return ReportAnswer(None, save=True)


def standalone(
    hparams: Mapping[str, Any],
    data: Mapping[str, Any],
    length: int,
    unit: str,
    seed: int,
    checkpoints: str | None,
    start: Path | None = None,
) -> Trial:
    """Return a trial without an experiment that trains to a total of ``length``.

    Args:
        hparams: the hyperparameters.
        data: the data settings.
        length: total length to train to.
        unit: unit of ``length``.
        seed: seed of the trial.
        checkpoints: directory or URL for checkpoints.  If it is None, checkpoints are saved too, to test the code that
            saves them, and deleted at exit together with the trial's directory.
        start: directory of the checkpoint to continue from, or None.

    Raises:
        TrainingCodeError: the checkpoint already has that length.
        CheckpointError: the checkpoint is missing or damaged.
    """
    first = None if start is None else _manifest(start)
    if first is not None and first.length >= length:
        raise TrainingCodeError(
            f"the checkpoint {start} already has length {first.length}, so there is nothing to train up to a total of "
            f"{length}: pass a greater length"
        )
    storage = checkpoints or _temporary()
    directory = os.environ.get(VARIABLE)
    # If the variable names another directory, the user or the trial that started this process has chosen it.
    if not directory or directory in _made:
        top = Path(_temporary() if is_remote(storage) else storage)
        directory = os.environ[VARIABLE] = str(top / FOLDER / directory_name(0, hparams, seed))
        _made.add(directory)
        atexit.register(_remove_empty, Path(directory))
    make_shared(Path(directory))
    job = WorkerJob(
        trial=0,
        attempt=1,
        target=length,
        hparams=hparams,
        seed=seed,
        checkpoints=storage,
        data=data,
        unit=unit,
        max_length=length,
        trial_directory=directory,
    )
    if first is not None:
        path = str(start)
        job = job._replace(attempt=first.attempt + 1, length=first.length, checkpoint=path, directory=path)
    return Trial(job, PrintingLink(unit, checkpoints))


def _remove_empty(directory: Path) -> None:
    with suppress(OSError):  # The directory contains files and is kept, or it no longer exists.
        directory.rmdir()
        directory.parent.rmdir()


def _temporary() -> str:
    """Return a new directory that is removed when this process exits."""
    import tempfile  # imported here, because it is slow to import and workers do not use it

    directory = Path(tempfile.mkdtemp(prefix="ashwood-"))
    atexit.register(remove_tree, directory.parent, directory.name, ignore_errors=True)
    return str(directory)


def _manifest(directory: Path) -> Manifest:
    try:
        data = read_manifest(directory)
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {directory}: {error.strerror}") from error
    if data is None:
        raise CheckpointError(
            f"{directory} is not a checkpoint that Ashwood has saved: it has no {MANIFEST}. Pass a directory such as "
            "trial-0/length-2-attempt-1"
        )
    verify(directory)
    return decode(data, str(directory))
