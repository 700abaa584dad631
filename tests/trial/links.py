"""A driver made of a script: what it is told, and what it answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from math import inf
from pathlib import Path
from typing import Any

from ashwood.trial.channel import Phase, Verdict
from ashwood.trial.job import Job

PAUSE = Verdict(None, save=True)
DROP = Verdict(None, save=False)
SUSPEND = None


def go(target: int) -> Verdict:
    return Verdict(target, save=False)


class ScriptedLink:
    """Answers reports at the target with ``verdicts``, and suspends at the ``suspend_at``-th time it is asked."""

    def __init__(self, verdicts: Iterable[Verdict | None] = (PAUSE,), suspend_at: int | None = None) -> None:
        self.verdicts = deque(verdicts)
        self.told: list[tuple[Any, ...]] = []
        self.metrics_saved: dict[str, dict[str, float]] = {}
        self.polls = 0
        self.alive_after: list[float] = []
        self.phases: list[tuple[Phase, str]] = []
        self.best_loss = inf
        self._suspend_at = suspend_at

    def started(self, length: int) -> None:
        self.told.append(("started", length))

    def reported(self, length: int, metrics: dict[str, float]) -> None:
        self.told.append(("report", length, metrics))

    def saved(self, length: int, name: str, metrics: Mapping[str, float]) -> None:
        trial, _, rest = name.partition("/")
        assert trial == "trial-7"
        self.told.append(("saved", length, rest))
        self.metrics_saved[rest] = dict(metrics)

    def warned(self, message: str) -> None:
        self.told.append(("warned", message))

    def alive(self, longest: float) -> None:
        self.alive_after.append(longest)

    def phase(self, phase: Phase, directory: str = "") -> None:
        self.phases.append((phase, directory))

    def suspended(self) -> bool:
        self.polls += 1
        return self._suspend_at is not None and self.polls >= self._suspend_at

    def best(self) -> float:
        return self.best_loss

    def verdict(self) -> Verdict | None:
        verdict = self.verdicts.popleft()
        self.told.append(("asked", verdict))
        return verdict

    @property
    def reports(self) -> list[int]:
        return [told[1] for told in self.told if told[0] == "report"]

    @property
    def saves(self) -> list[str]:
        return [told[2] for told in self.told if told[0] == "saved"]


def make_job(checkpoints: Path, **changes: Any) -> Job:
    fields: dict[str, Any] = {
        "trial": 7,
        "attempt": 1,
        "target": 3,
        "hparams": {},
        "seed": 1,
        "checkpoints": str(checkpoints),
        "metric": "loss",
        "unit": "epochs",
        "max_length": 100,
    }
    return Job(**fields | changes)


def save(directory: Path) -> None:
    (directory / "model").write_text("weights")
