"""All views of an event log in one fold, for pages, figures and reports."""

from __future__ import annotations

from collections.abc import Sequence

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
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import AttemptPreempted, HparamsInvalid, ValidationReported
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId
from ashwood.views.checkpoints import CheckpointTable
from ashwood.views.ladder import Ladder
from ashwood.views.numbers import Numbers
from ashwood.views.progress import Improvement, Progress
from ashwood.views.reports import ReportsByTrial, TrialReport
from ashwood.views.timeline import Timeline

STRETCH = 500
"""Number of entries in a stretch of the log; `TrialDetails.stretches` says which stretches are about a trial."""


class TrialDetails:
    """The reports of each trial and the entries about it, as a fold over log entries.

    Attributes:
        spec: the description of the experiment.
        reports: reports of trials that had a job at that time.
        entries: for each trial, numbers of the entries about it or with decisions about it, from 1.  Reports without
            decisions are left out.
        stretches: for each trial, indices of the stretches of the log with entries about it or decisions about it.
        losses: events about invalid hyperparameters and lost workers.
    """

    def __init__(self, spec: ExperimentSpec) -> None:
        self.spec = spec
        self.reports = ReportsByTrial()
        self.entries = Numbers()
        self.stretches = Numbers()
        self.losses: list[HparamsInvalid | AttemptPreempted] = []
        self._count = 0
        # The attempt of each trial that has a job.
        self._attempts: dict[TrialId, int] = {}

    def apply(self, entry: Entry) -> None:
        """Apply an entry of the log."""
        at, event, decisions = entry
        stretch = self._count // STRETCH
        self._count += 1
        about = getattr(event, "trial", None)
        if isinstance(event, ValidationReported):
            # A report of another attempt came too late and does not count.
            if self._attempts.get(event.trial) == event.attempt:
                self.reports.add(event.trial, TrialReport(at, event.attempt, event.length, event.metrics))
        elif about is not None:
            self.entries.add(about, self._count)
            if isinstance(event, HparamsInvalid | AttemptPreempted):
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
                pass  # The process of the stopped trial reports once more.
            case PauseTrial(trial) | CompleteTrial(trial) | StopTrial(trial) | CloseTrial(trial):
                self._attempts.pop(trial, None)


class History:
    """All views of an experiment, as a fold over log entries that takes O(log n) time for each.

    Attributes:
        progress: the view of the whole experiment.
        details: the view of each trial in detail.
    """

    def __init__(
        self, spec: ExperimentSpec, progress: Progress | None = None, details: TrialDetails | None = None
    ) -> None:
        """Continue the fold of given views, or start new ones."""
        self.progress = progress or Progress(spec)
        self.details = details or TrialDetails(spec)

    def apply(self, entry: Entry) -> None:
        """Apply an entry of the log."""
        self.progress.apply(entry)
        self.details.apply(entry)

    @property
    def spec(self) -> ExperimentSpec:
        """The description of the experiment, with the present settings of an extended search."""
        return self.progress.spec

    @property
    def timeline(self) -> Timeline:
        """The work of each slot."""
        return self.progress.timeline

    @property
    def ladder(self) -> Ladder:
        """The brackets, and the trials at each rung."""
        return self.progress.ladder

    @property
    def checkpoints(self) -> CheckpointTable:
        """The checkpoints of the experiment."""
        return self.progress.checkpoints

    @property
    def improvements(self) -> Sequence[Improvement]:
        """The improvements of the best metric."""
        return self.progress.improvements
