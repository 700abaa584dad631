"""Training code for tests of the local backend, and what it said."""

from collections.abc import Callable
from pathlib import Path

from ashwood.backends.local.backend import LocalBackend
from ashwood.experiment.events import AttemptFailed, Event, ValidationReported

Make = Callable[..., LocalBackend]


def write(directory: Path, name: str, body: str) -> None:
    """Training code: ``body`` runs in each epoch, and may set ``loss``."""
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    (directory / name).write_text(
        f"import os, sys\ncalls = []\n\ndef train(trial):\n    calls.append(trial.id)\n"
        f"    for epoch in trial.epochs():\n        loss = 1.0\n{lines}\n        trial.report(loss=loss)\n"
    )


def losses(events: list[Event]) -> list[float]:
    return [event.metrics["loss"] for event in events if isinstance(event, ValidationReported)]


def error(events: list[Event]) -> str:
    failed = events[-1]
    assert isinstance(failed, AttemptFailed)
    return failed.error
