"""All that a record tells, folded at once: what pages, figures and reports are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ashwood.experiment.decisions import (
    FINISHES_A_STEP,
    CloseTrial,
    CompleteTrial,
    ContinueTrial,
    CreateTrial,
    Decision,
    PauseTrial,
    StopTrial,
    TrainTrial,
)
from ashwood.experiment.events import AttemptPreempted, Event, HparamsRejected, ValidationReported
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId
from ashwood.views.checkpoints import CheckpointTable
from ashwood.views.improvements import Improvement
from ashwood.views.numbers import Numbers
from ashwood.views.progress import Progress
from ashwood.views.reports import Report, ReportsByTrial
from ashwood.views.timeline import Timeline

STRETCH = 500
"""Entries in a stretch: for each trial it is known which stretches have entries about it."""


class History:
    """A fold over log entries: the reports of each trial, and which entries are about it.

    Attributes:
        reports: what trials reported while they had a job.
        entries: the numbers of the entries about a trial or with decisions about it, mere reports left out.
        stretches: which stretches of the log, from 0, have entries about a trial or decisions about it.
        losses: rejected hyperparameters and lost workers.
    """

    def __init__(self, spec: ExperimentSpec) -> None:
        self.spec = spec
        self.reports = ReportsByTrial()
        self.entries = Numbers()
        self.stretches = Numbers()
        self.losses: list[HparamsRejected | AttemptPreempted] = []
        self._count = 0
        # The attempt of each trial that has a job.
        self._attempts: dict[TrialId, int] = {}

    def apply(self, at: float, event: Event, decisions: Sequence[Decision]) -> None:
        """Take an entry."""
        stretch = self._count // STRETCH
        self._count += 1
        about = getattr(event, "trial", None)
        if isinstance(event, ValidationReported):
            if self._attempts.get(event.trial) == event.attempt:  # Otherwise it is late.
                self.reports.add(event.trial, Report(at, event.attempt, event.length, event.metrics))
        elif about is not None:
            self.entries.add(about, self._count)
            if isinstance(event, HparamsRejected | AttemptPreempted):
                self.losses.append(event)
        if about is not None:
            self.stretches.add(about, stretch)
        for decision in decisions:
            trial = getattr(decision, "trial", None)
            if trial is not None:
                self.stretches.add(trial, stretch)
                self.entries.add(trial, self._count)
                self._decide(decision)

    def _decide(self, decision: Decision) -> None:
        match decision:
            case CreateTrial(trial):
                self._attempts[trial] = 1
            case TrainTrial(trial, attempt) | ContinueTrial(trial, attempt):
                self._attempts[trial] = attempt
            case CloseTrial(why=why) if isinstance(why, FINISHES_A_STEP) and self.spec.rules >= 3:
                pass  # Its process reports once more.
            case PauseTrial(trial) | CompleteTrial(trial) | StopTrial(trial) | CloseTrial(trial):
                self._attempts.pop(trial, None)


class Chronicle:
    """A fold over log entries, O(log n) each.

    Attributes:
        spec: of the experiment.
        progress: how far it is.
        history: each trial in detail.
    """

    def __init__(self, spec: ExperimentSpec, progress: Progress | None = None, history: History | None = None) -> None:
        """Continue from where views were read to; by default from the beginning."""
        self.spec = spec
        self.progress = progress or Progress(spec)
        self.history = history or History(spec)

    def apply(self, at: float, event: Event, decisions: Sequence[Decision]) -> None:
        """Take an entry."""
        self.progress.apply(at, event, decisions)
        self.history.apply(at, event, decisions)

    @property
    def timeline(self) -> Timeline:
        """Who worked where and when, and each trial's way through the rungs."""
        return self.progress.timeline

    @property
    def checkpoints(self) -> CheckpointTable:
        """The checkpoints that are there."""
        return self.progress.checkpoints

    @property
    def improvements(self) -> Sequence[Improvement]:
        """How the best metric became what it is."""
        return self.progress.improvements


def chronicle(spec: ExperimentSpec, record: Iterable[tuple[float, Event, Sequence[Decision]]]) -> Chronicle:
    """Fold the entries of a log, in order."""
    told = Chronicle(spec)
    for at, event, decisions in record:
        told.apply(at, event, decisions)
    return told
