"""A trial without an experiment: it trains to the end and prints what it reports."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

from ashwood.errors import CheckpointError, TrainingCodeError
from ashwood.trial.api import Trial
from ashwood.trial.channel import Phase, Verdict
from ashwood.trial.directory import FOLDER, VARIABLE, directory_name
from ashwood.trial.job import Job
from ashwood.trial.lengths import STEPS
from ashwood.trial.sharing import make_shared
from ashwood.trial.storage import MANIFEST, is_remote, open_storage
from ashwood.trial.storage.manifest import Manifest, decode, read_manifest, verify
from ashwood.trial.storage.trees import remove_tree

_made: set[str] = set()
"""Directories of trials of this process."""


class PrintingLink:
    """Plays the driver: prints reports, and ends the trial at its target."""

    def __init__(self, unit: str, checkpoints: str | None) -> None:
        """Print lengths in ``unit``, and checkpoints that outlive the process in ``checkpoints``."""
        self._unit = "" if unit == STEPS else f" {unit}"
        self._checkpoints = checkpoints

    def started(self, length: int) -> None:
        """Nothing to tell."""

    def reported(self, length: int, metrics: dict[str, float]) -> None:
        """Print the metrics on one line."""
        values = "  ".join(f"{name}={value:.6g}" for name, value in metrics.items())
        print(f"length {length}{self._unit}: {values}", flush=True)

    def saved(self, length: int, name: str, metrics: Mapping[str, float]) -> None:  # noqa: ARG002
        """Print where the checkpoint is."""
        if self._checkpoints is not None:
            place = open_storage(self._checkpoints).locate(name)
            print(f"length {length}{self._unit}: saved to {place}", flush=True)

    def warned(self, message: str) -> None:
        """Do nothing: the attempt has printed the message."""

    def alive(self, longest: float) -> None:
        """Do nothing."""

    def phase(self, phase: Phase, directory: str = "") -> None:
        """Do nothing."""

    def suspended(self) -> bool:
        """Nobody suspends it."""
        return False

    def best(self) -> float:
        """Return infinity: there is no experiment."""
        return inf

    def verdict(self) -> Verdict | None:
        """The search wants no more, and what it has is to be saved."""
        return Verdict(None, save=True)


def standalone(
    hparams: Mapping[str, Any],
    data: Mapping[str, Any],
    length: int,
    unit: str,
    seed: int,
    checkpoints: str | None,
    start: Path | None = None,
) -> Trial:
    """Return a trial that trains to ``length`` by itself, from the checkpoint in the directory ``start`` if given.

    Without a place for checkpoints they are tried out all the same, and thrown away, and so is the trial's directory.

    Raises:
        TrainingCodeError: the checkpoint has that length already.
        CheckpointError: the checkpoint is missing or damaged.
    """
    begins = None if start is None else _manifest(start)
    if begins is not None and begins.length >= length:
        raise TrainingCodeError(
            f"the checkpoint {start} has length {begins.length} already, so a total of {length} leaves nothing to "
            "train: ask for more"
        )
    storage = checkpoints or _temporary()
    directory = os.environ.get(VARIABLE)
    if not directory or directory in _made:  # Otherwise the user, or the trial that started this process, names one.
        top = Path(_temporary() if is_remote(storage) else storage)
        directory = os.environ[VARIABLE] = str(top / FOLDER / directory_name(0, hparams, seed))
        _made.add(directory)
        atexit.register(_remove_empty, Path(directory))
    make_shared(Path(directory))
    job = Job(
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
    if begins is not None:
        place = str(start)
        job = job._replace(attempt=begins.attempt + 1, length=begins.length, checkpoint=place, directory=place)
    return Trial(job, PrintingLink(unit, checkpoints))


def _remove_empty(directory: Path) -> None:
    with suppress(OSError):  # It holds files, or is gone.
        directory.rmdir()
        directory.parent.rmdir()


def _temporary() -> str:
    """Return a new directory that is removed when this process exits."""
    import tempfile  # It takes long to import, and workers have no use for it.

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
            f"{directory} is not a checkpoint that Ashwood saved: it has no {MANIFEST}; expected a directory such as "
            "trial-0/length-2-attempt-1"
        )
    verify(directory)
    return decode(data, str(directory))
