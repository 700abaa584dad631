"""A scripted driver, which records the messages that it gets and returns given answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from math import inf
from pathlib import Path
from typing import Any

from ashwood.trial.channel import Link, Phase, ReportAnswer
from ashwood.trial.job import WorkerJob

PAUSE = ReportAnswer(None, save=True)
DROP = ReportAnswer(None, save=False)
SUSPEND = None


def go(target: int) -> ReportAnswer:
    return ReportAnswer(target, save=False)


class ScriptedLink(Link):
    """Answers reports at the target with ``answers``, and suspends at the ``suspend_at``-th time it is asked."""

    def __init__(self, answers: Iterable[ReportAnswer | None] = (PAUSE,), suspend_at: int | None = None) -> None:
        self.answers = deque(answers)
        self.sent: list[tuple[Any, ...]] = []
        self.metrics_saved: dict[str, dict[str, float]] = {}
        self.polls = 0
        self.alive_after: list[float] = []
        self.phases: list[tuple[Phase, str]] = []
        self.best_loss = inf
        self._suspend_at = suspend_at

    def started(self, length: int) -> None:
        self.sent.append(("started", length))

    def reported(self, length: int, metrics: dict[str, float]) -> None:
        self.sent.append(("report", length, metrics))

    def saved(self, length: int, name: str, metrics: Mapping[str, float], size: int) -> None:
        trial, _, rest = name.partition("/")
        assert trial == "trial-7"
        self.sent.append(("saved", length, rest))
        self.metrics_saved[rest] = dict(metrics)

    def warned(self, message: str) -> None:
        self.sent.append(("warned", message))

    def alive(self, longest: float) -> None:
        self.alive_after.append(longest)

    def phase(self, phase: Phase, directory: str = "") -> None:
        self.phases.append((phase, directory))

    def suspended(self) -> bool:
        self.polls += 1
        return self._suspend_at is not None and self.polls >= self._suspend_at

    def best(self) -> float:
        return self.best_loss

    def answer(self) -> ReportAnswer | None:
        answer = self.answers.popleft()
        self.sent.append(("asked", answer))
        return answer

    @property
    def reports(self) -> list[int]:
        return [sent[1] for sent in self.sent if sent[0] == "report"]

    @property
    def saves(self) -> list[str]:
        return [sent[2] for sent in self.sent if sent[0] == "saved"]


def make_job(checkpoints: Path, **changes: Any) -> WorkerJob:
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
    return WorkerJob(**fields | changes)


def save(directory: Path) -> None:
    (directory / "model").write_text("weights")
