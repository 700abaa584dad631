"""A trial without an experiment: it trains to the end and prints what it reports."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ashwood.trial.api import Trial
from ashwood.trial.channel import Phase, Verdict
from ashwood.trial.job import Job
from ashwood.trial.lengths import STEPS
from ashwood.trial.storage import open_storage
from ashwood.trial.storage.trees import remove_tree


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

    def alive(self, longest: float) -> None:
        """Do nothing."""

    def phase(self, phase: Phase, directory: str = "") -> None:
        """Do nothing."""

    def suspended(self) -> bool:
        """Nobody suspends it."""
        return False

    def verdict(self) -> Verdict | None:
        """The search wants no more, and what it has is to be saved."""
        return Verdict(None, save=True)


def standalone(
    hparams: Mapping[str, Any], data: Mapping[str, Any], length: int, unit: str, seed: int, checkpoints: str | None
) -> Trial:
    """A trial that trains to ``length`` by itself.

    Without a place for checkpoints they are tried out all the same, and thrown away.
    """
    directory = checkpoints
    if directory is None:
        import tempfile  # It takes long to import, and workers have no use for it.

        directory = tempfile.mkdtemp(prefix="ashwood-")
        atexit.register(remove_tree, Path(directory).parent, Path(directory).name, ignore_errors=True)
    job = Job(
        trial=0, attempt=1, target=length, hparams=hparams, seed=seed, checkpoints=directory, data=data, unit=unit
    )
    return Trial(job, PrintingLink(unit, checkpoints))
