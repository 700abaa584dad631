"""A trial without an experiment: it trains to the end and prints what it reports."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from typing import Any

from ashwood.trial.api import Trial
from ashwood.trial.channel import Verdict
from ashwood.trial.job import Job
from ashwood.trial.lengths import STEPS


class PrintingLink:
    """Plays the driver: prints reports, and ends the trial at its target."""

    def __init__(self, unit: str, *, keeps: bool) -> None:
        """Print lengths in ``unit``; ``keeps``: checkpoints outlive the process, and are worth telling."""
        self._unit = "" if unit == STEPS else f" {unit}"
        self._keeps = keeps

    def started(self, length: int) -> None:
        """Nothing to tell."""

    def reported(self, length: int, metrics: dict[str, float]) -> None:
        """Print the metrics on one line."""
        values = "  ".join(f"{name}={value:.6g}" for name, value in metrics.items())
        print(f"length {length}{self._unit}: {values}", flush=True)

    def saved(self, length: int, path: str) -> None:
        """Say where the checkpoint is."""
        if self._keeps:
            print(f"length {length}{self._unit}: saved to {path}", flush=True)

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

    Without a directory for checkpoints they are tried out all the same, and thrown away.
    """
    directory = checkpoints
    if directory is None:
        import shutil  # both take long to import, and workers have no use for them
        import tempfile

        directory = tempfile.mkdtemp(prefix="ashwood-")
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
    job = Job(
        trial=0, attempt=1, target=length, hparams=hparams, seed=seed, checkpoints=directory, data=data, unit=unit
    )
    return Trial(job, PrintingLink(unit, keeps=checkpoints is not None))
