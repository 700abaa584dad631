"""The brackets of a search and the trials at each rung."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from ashwood.experiment.decisions import (
    BracketReopened,
    ChangeSettings,
    CloseTrial,
    CompleteTrial,
    ContinueTrial,
    CreateTrial,
    ExperimentEnded,
    PauseTrial,
    ReopenTrial,
    StopTrial,
    SuspendTrial,
    TrainTrial,
)
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import Event, ValidationReported
from ashwood.experiment.lifecycle import TrialState
from ashwood.search.plan import plan_search
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.vocabulary import BracketFinished, TrialId


@dataclass(slots=True)
class RungView:
    """A rung of one bracket.

    Attributes:
        length: total training length.
        arrived: number of trials that were compared at this rung.
        promoted: number of these trials that were promoted.
        failed: number of trials that failed or were stopped on their way to this rung, or were ended while they were
            paused at it.  They count as the worst.
        training: the trials that train towards this rung.
        waiting: the trials that are paused at this rung and may be promoted.
    """

    length: int
    arrived: int = 0
    promoted: int = 0
    failed: int = 0
    training: set[TrialId] = field(default_factory=set)
    waiting: set[TrialId] = field(default_factory=set)


@dataclass(slots=True)
class BracketView:
    """One bracket.

    Attributes:
        number: its index; the bracket that stops trials earliest has index 0.
        planned: number of trials that it creates, without invalid ones.
        rungs: its rungs, the shortest first.
        created: number of trials that it has created, without invalid ones.
    """

    number: int
    planned: int
    rungs: list[RungView]
    created: int = 0

    @property
    def lengths(self) -> list[int]:
        """The total lengths of all rungs."""
        return [rung.length for rung in self.rungs]


class Ladder:
    """The brackets of a search, as a fold over log entries.  An entry takes O(1) time in the number of trials."""

    def __init__(self, settings: SearchSettings) -> None:
        self.brackets = [
            BracketView(number, bracket.trials, [RungView(length) for length in bracket.lengths])
            for number, bracket in enumerate(plan_search(settings).brackets)
        ]
        # An invalid point of a grid is not replaced.
        self._is_grid = settings.method is Method.GRID
        # The first rung of each trial that skips the lower ones.
        self._entries: dict[TrialId, int] = {}
        # The bracket of each trial that has not ended, and the rung towards which it trains or at which it is paused.
        self._places: dict[TrialId, tuple[BracketView, int]] = {}

    def place(self, trial: TrialId) -> tuple[int, int] | None:
        """Return the bracket of a trial and the rung towards which it trains or at which it is paused, or None."""
        found = self._places.get(trial)
        return None if found is None else (found[0].number, found[1])

    def apply(self, entry: Entry) -> None:
        """Apply an entry of the log."""
        event = entry.event
        for decision in entry.decisions:
            match decision:
                case ChangeSettings(bracket_trials=planned):
                    for bracket, trials in zip(self.brackets, planned, strict=True):
                        bracket.planned = trials
                case CreateTrial(trial, number, target=target):
                    bracket = self.brackets[number]
                    bracket.created += 1
                    if first := bracket.lengths.index(target):
                        self._entries[trial] = first
                    self._send(trial, bracket, first)
                case TrainTrial(trial, _, target) | ContinueTrial(trial, _, target):
                    bracket, _ = self._places[trial]
                    self._climb(trial, bracket.lengths.index(target))
                case SuspendTrial(trial) if isinstance(event, ValidationReported) and trial == event.trial:
                    # The trial was promoted while the experiment pauses; its target is decided when it resumes.
                    self._climb(trial, bisect_right(self._places[trial][0].lengths, event.length))
                case PauseTrial(trial):
                    bracket, at = self._places[trial]
                    rung = bracket.rungs[at]
                    rung.training.remove(trial)
                    rung.arrived += 1
                    rung.waiting.add(trial)
                case CompleteTrial(trial):
                    self._climb(trial, len(self._places[trial][0].rungs) - 1)
                    self._leave(trial).arrived += 1
                case StopTrial(trial):
                    self._drop(trial, event)
                case CloseTrial() | ReopenTrial():
                    self._close_or_reopen(decision)

    def _close_or_reopen(self, decision: CloseTrial | ReopenTrial) -> None:
        match decision:
            case CloseTrial(trial, state, why):
                self._close(trial, state, failed=not isinstance(why, BracketFinished | ExperimentEnded))
            case ReopenTrial(trial, _, number, target, BracketReopened()):
                bracket = self.brackets[number]
                at = bracket.lengths.index(target)
                self._places[trial] = (bracket, at)
                bracket.rungs[at].waiting.add(trial)
            case ReopenTrial(trial, state, number, target):
                bracket = self.brackets[number]
                at = bracket.lengths.index(target)
                self._send(trial, bracket, at)
                # A trial that still had a job when the experiment ended did not count as failed.
                bracket.rungs[at].failed -= state is TrialState.PAUSED

    def _send(self, trial: TrialId, bracket: BracketView, to: int) -> None:
        self._places[trial] = (bracket, to)
        bracket.rungs[to].training.add(trial)

    def _climb(self, trial: TrialId, to: int) -> None:
        """Promote a trial from its current rung to a higher one, through all rungs in between."""
        bracket, at = self._places[trial]
        if to == at:
            return
        waited = trial in bracket.rungs[at].waiting
        self._leave(trial)
        for rung in bracket.rungs[at:to]:
            rung.arrived += 1
            rung.promoted += 1
        bracket.rungs[at].arrived -= waited
        self._send(trial, bracket, to)

    def _drop(self, trial: TrialId, event: Event) -> None:
        """Stop a trial at the length of its report.  It counts in all rungs up to this length."""
        bracket, at = self._places[trial]
        self._leave(trial)
        passed = bisect_right(bracket.lengths, event.length) if isinstance(event, ValidationReported) else at + 1
        for rung in bracket.rungs[at:passed]:
            rung.arrived += 1

    def _close(self, trial: TrialId, state: TrialState, *, failed: bool) -> None:
        bracket, at = self._places[trial]
        waited = trial in bracket.rungs[at].waiting
        rung = self._leave(trial)
        if state is TrialState.INVALID:
            bracket.created -= 1
            bracket.planned -= self._is_grid
            for entered in bracket.rungs[self._entries.get(trial, 0) : at]:
                entered.arrived -= 1
                entered.promoted -= 1
        elif failed:
            rung.arrived -= waited
            rung.failed += 1

    def _leave(self, trial: TrialId) -> RungView:
        bracket, at = self._places.pop(trial)
        rung = bracket.rungs[at]
        rung.training.discard(trial)
        rung.waiting.discard(trial)
        return rung
