"""The ladder of a search: the rungs of each bracket, and which trial is at which rung, now or at an earlier moment."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf, isfinite, nan
from typing import NamedTuple

from ashwood.experiment.decisions import (
    BracketReopened,
    ChangeSettings,
    CloseTrial,
    CompleteTrial,
    ContinueTrial,
    CreateTrial,
    Decision,
    ExperimentEnded,
    ExtendSearch,
    PauseTrial,
    ReopenTrial,
    StopTrial,
    SuspendTrial,
    TrainTrial,
)
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import Event, ValidationReported
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.plan import plan_search
from ashwood.search.rung import ranking_key
from ashwood.search.settings import Method
from ashwood.search.vocabulary import (
    Audited,
    BracketFinished,
    Extended,
    Promoted,
    Replicated,
    RetriedOnRequest,
    TrialId,
)
from ashwood.views.rows import Rows, Tuples
from ashwood.views.settled import LateResults
from ashwood.views.wording import format_length, ordinal


class Arrival(NamedTuple):
    """The comparison of a trial at a rung, with its ``metric`` at ``length``, which is at least that of the rung."""

    at: float
    rung: int
    length: int
    metric: float


class Final(NamedTuple):
    """The metric of a trial that has trained to the end, which was the total length ``length``."""

    length: int
    metric: float


@dataclass(slots=True)
class TrialPath:
    """The path of a trial through the rungs of its bracket.  Times are seconds since 1970.

    Attributes:
        bracket: index of its bracket.
        created: time at which the search created it.
        arrivals: its comparisons, from rung 0 on.  Rungs that it skipped have the comparison at its first rung.
        promotions: time of its promotion from each rung, from rung 0 on.  For rungs that it skipped, this is the time
            of its creation.
        state: its state.
        ended: time at which it ended, or None if it has not.
        dropped_out: whether it failed, or was ended by its code or a user, and so counts as the worst of its rung.
    """

    bracket: int
    created: float
    arrivals: tuple[Arrival, ...] = ()
    promotions: tuple[float, ...] = ()
    state: TrialState = TrialState.RUNNING
    ended: float | None = None
    dropped_out: bool = False

    @property
    def rung(self) -> int:
        """Index of the rung towards which it trains, or at which it is paused or ended."""
        return len(self.promotions)


class Standing(StrEnum):
    """The state of a trial at a rung at which it was compared."""

    WAITS = "waits"
    PROMOTED = "promoted"
    COMPLETED = "completed"
    OUT = "out"
    """It will never be promoted."""


class RankedTrial(NamedTuple):
    """A trial that was compared at a rung.

    Attributes:
        standing: its standing at the rung.
        metric: the metric with which it was compared.
        audited: whether it was promoted from the rung as an audit.
    """

    trial: TrialId
    standing: Standing
    metric: float
    audited: bool = False


class Rank(NamedTuple):
    """The rank of a trial at the highest rung at which it was compared.

    Attributes:
        rung: index of the rung.
        length: total training length of the rung.
        rank: its rank, from 1.
        of: number of results at the rung; failed trials count as results.
        promoted: number of trials that were promoted from the rung, or None at the last rung.
        is_final: whether no further trial can reach the rung or be promoted from it.
    """

    rung: int
    length: int
    rank: int
    of: int
    promoted: int | None
    is_final: bool

    def describe(self, unit: str) -> str:
        """Return a text such as ``41st of 78 at 4 epochs; 25 were promoted``."""
        so_far = "" if self.is_final else " so far"
        text = f"{ordinal(self.rank)} of {self.of:,}{so_far} at {format_length(self.length, unit)}"
        if self.promoted is None:
            return text
        count = f"{self.promoted:,}" if self.promoted else "none"
        return f"{text}; {count} {'was' if self.promoted == 1 else 'were'} promoted"


class RungRanking(NamedTuple):
    """The trials at a rung of a bracket.

    Attributes:
        length: total training length.
        ranked: the trials that were compared at this rung, the best first.
        dropped_out: the trials that failed, or were ended by their code or a user, at this rung or on the way to it.
        training: the trials that train towards this rung, or wait for a worker to do so.
        entitled: number of the best trials that may be promoted by now, or 0 at the last rung.
    """

    length: int
    ranked: Sequence[RankedTrial]
    dropped_out: Sequence[TrialId]
    training: Sequence[TrialId]
    entitled: int

    @property
    def promoted(self) -> int:
        """Number of trials that were promoted from this rung."""
        return sum(each.standing is Standing.PROMOTED for each in self.ranked)


@dataclass(slots=True)
class RungView:
    """Counts of the trials at a rung of one bracket, for displays that are drawn often.

    Attributes:
        length: total training length.
        arrived: number of trials that were compared at this rung.
        promoted: number of these trials that were promoted.
        audits: number of these promotions that were audits.
        failed: number of trials that failed or were stopped on their way to this rung, or were ended while they were
            paused at it.  They count as the worst.
        killed: number of these trials that a user killed.
        training: the trials that train towards this rung.
        waiting: the trials that are paused at this rung and may be promoted.
    """

    length: int
    arrived: int = 0
    promoted: int = 0
    audits: int = 0
    failed: int = 0
    killed: int = 0
    training: set[TrialId] = field(default_factory=set)
    waiting: set[TrialId] = field(default_factory=set)


@dataclass(slots=True)
class BracketView:
    """One bracket.

    Attributes:
        number: its index; the bracket that stops trials earliest has index 0.
        planned: number of trials that it creates, without invalid ones.
        lengths: total lengths of its rungs, the shortest first.
        rungs: its rungs.
        created: number of trials that it has created, without invalid ones.
    """

    number: int
    planned: int
    lengths: tuple[int, ...]
    rungs: list[RungView]
    created: int = 0


class Ladder:
    """The brackets, rungs and trials of a search, as a fold over log entries that takes O(1) time for each.

    Attributes:
        spec: the description of the experiment, with the present settings of an extended search.
        brackets: the brackets with counts of the trials at each rung.
        paths: the path of each trial by its id.  Paths of trials that do not train are stored as values in arrays.
            The path of a replicate has no arrivals, because it is compared at no rung, and ends at the last rung.
        originals: the original of each replicate.
        finals: results of the trials that have trained to the end, and of such replicates.
        late: results of each trial in the last half of a full training.
        audits: the promotions that were audits, each as a trial and the rung from which it was promoted.
        replicates_wanted: number of the best trials that are replicated.
    """

    def __init__(self, spec: ExperimentSpec) -> None:
        self.spec = spec
        self.brackets = [
            BracketView(number, bracket.trials, bracket.lengths, [RungView(length) for length in bracket.lengths])
            for number, bracket in enumerate(plan_search(spec.search).brackets)
        ]
        self._promotions = Tuples()
        self._arrivals = Tuples(_arrival, len(Arrival._fields))
        codes = ("h", "d", self._arrivals, self._promotions, "", "?d", "")
        self.paths: Rows[TrialPath] = Rows(TrialPath, codes)
        # Number of rungs that a trial skipped, for those that did not start at the lowest rung.
        self._skipped: dict[TrialId, int] = {}
        # Trials that were promoted as an audit, each with the rung from which it was.
        self.audits: set[tuple[TrialId, int]] = set()
        # If training code decides how long it trains, length and value of the last metric of each running trial: no
        # report is compared, and the last one counts.
        self._last: dict[TrialId, tuple[int, float]] = {}
        self.originals: dict[TrialId, TrialId] = {}
        self.finals: dict[TrialId, Final] = {}
        self.late: dict[TrialId, LateResults] = {}
        self.replicates_wanted = spec.search.replicates
        self._until = 0.0

    @property
    def lengths(self) -> tuple[tuple[int, ...], ...]:
        """Total lengths of the rungs of each bracket."""
        return tuple(bracket.lengths for bracket in self.brackets)

    @property
    def is_compared(self) -> bool:
        """Whether all trials are or train at the last rung, or have ended, so that no other one reaches it."""
        return not any(
            rung.waiting or (rung.training and rung is not bracket.rungs[-1])
            for bracket in self.brackets
            for rung in bracket.rungs
        )

    def rung(self, trial: TrialId) -> int:
        """Return the rung towards which a trial trains, or at which it is paused or ended."""
        path = self.paths.changing.get(trial)
        return self._promotions.size(trial) if path is None else path.rung

    def first_rung(self, trial: TrialId) -> int:
        """Return the first rung at which a trial is compared; above 0 if it skipped rungs."""
        return self._skipped.get(trial, 0)

    def rank(self, trial: TrialId) -> Rank | None:
        """Return the rank of a trial at the highest rung at which it was compared, in O(n) time for n trials.

        Return None if it was not compared, or if it does not rank by its metric because it failed or was ended by its
        code or a user.
        """
        path = self.paths[trial]
        if not path.arrivals or path.dropped_out or path.state is TrialState.INVALID or self.spec.search.open_ended:
            return None
        bracket, rung = self.brackets[path.bracket], path.arrivals[-1].rung
        sign = 1 if self.spec.smaller_is_better else -1
        better = sum(1 for _ in self._ranked_before(trial, sign * path.arrivals[-1].metric, path.bracket, rung))
        view = bracket.rungs[rung]
        is_last = rung == len(bracket.rungs) - 1
        # At the last rung, "so far" ends with the bracket; below it, trials that wait there can still be promoted.
        is_final = path.ended is not None and not any(each.training or each.waiting for each in bracket.rungs)
        return Rank(
            rung,
            view.length,
            better + 1,
            view.arrived + view.failed,
            None if is_last else view.promoted,
            is_final and bracket.created >= bracket.planned,
        )

    def _ranked_before(self, trial: TrialId, loss: float, bracket: int, rung: int) -> Iterator[TrialId]:
        """Yield the trials that rank before a trial with a loss at a rung of a bracket."""
        key, sign, read = ranking_key(trial, loss), 1 if self.spec.smaller_is_better else -1, self.paths.read
        least, place = (loss if isfinite(loss) else inf), rung * len(Arrival._fields) + Arrival._fields.index("metric")
        for other in range(len(self.paths)):
            # Single values are read, because creating the paths of all trials takes seconds in large searches.
            if (path := self.paths.changing.get(other)) is not None:
                metric = path.arrivals[rung].metric if len(path.arrivals) > rung else None
            else:
                metric = self._arrivals.number(other, place)
            if metric is None or sign * metric > least or read(other, "bracket") != bracket:
                continue
            if self.first_rung(other) > rung:
                continue  # It skipped this rung.
            if read(other, "state") is TrialState.INVALID or (read(other, "dropped_out") and rung >= self.rung(other)):
                continue
            if ranking_key(other, sign * metric) < key:
                yield other

    def now(self) -> list[list[RungRanking]]:
        """Return the rungs of each bracket with their trials, the shortest first, in O(n log n) time for n trials."""
        return self.at(inf)

    def at(self, moment: float) -> list[list[RungRanking]]:
        """Return the rungs of each bracket as they were at a time of the log, in O(n log n) time for n trials."""
        ranked: list[list[list[RankedTrial]]] = [[[] for _ in bracket.rungs] for bracket in self.brackets]
        dropped: list[list[list[TrialId]]] = [[[] for _ in bracket.rungs] for bracket in self.brackets]
        training: list[list[list[TrialId]]] = [[[] for _ in bracket.rungs] for bracket in self.brackets]
        for trial, path in enumerate(self.paths):
            if path.created > moment:
                break
            if trial in self.originals:
                continue
            ended = path.ended is not None and path.ended <= moment
            if ended and path.state is TrialState.INVALID:
                continue  # A trial with invalid hyperparameters was removed from all rungs.
            here = bisect_right(path.promotions, moment)
            compared = [arrival for arrival in path.arrivals if arrival.at <= moment]
            if ended and path.dropped_out:
                dropped[path.bracket][here].append(trial)
                compared = compared[:here]
            elif not ended and len(compared) <= here:
                training[path.bracket][here].append(trial)
            for _, rung, _, metric in compared[self.first_rung(trial) :]:
                if rung < here:
                    standing = Standing.PROMOTED
                elif not ended:
                    standing = Standing.WAITS
                else:
                    standing = Standing.COMPLETED if path.state is TrialState.COMPLETED else Standing.OUT
                audited = standing is Standing.PROMOTED and (trial, rung) in self.audits
                ranked[path.bracket][rung].append(RankedTrial(trial, standing, metric, audited))
        sign = 1 if self.spec.smaller_is_better else -1
        for each in (each for rungs in ranked for each in rungs):
            each.sort(key=lambda found: ranking_key(found.trial, sign * found.metric))
        return [
            [
                RungRanking(
                    length,
                    ranked[number][rung],
                    dropped[number][rung],
                    training[number][rung],
                    self._entitled(len(ranked[number][rung]) + len(dropped[number][rung]), bracket, length),
                )
                for rung, length in enumerate(bracket.lengths)
            ]
            for number, bracket in enumerate(self.brackets)
        ]

    def _entitled(self, results: int, bracket: BracketView, length: int) -> int:
        if length == bracket.lengths[-1] or not results:
            return 0
        settings = self.spec.search
        least = 1 if settings.stop_once or settings.method is Method.SYNC_HALVING else 0
        return max(least, int(results / settings.divisor))

    # -- the fold ------------------------------------------------------------------------------------

    def apply(self, entry: Entry) -> None:
        """Apply an entry of the log."""
        # If the clock was set back, no time is subtracted.
        self._until = max(self._until, entry.at)
        if isinstance(entry.event, ValidationReported) and self.spec.metric in entry.event.metrics:
            self._note_result(entry.event)
        for decision in entry.decisions:
            match decision:
                case ChangeSettings(bracket_trials=planned, replicates=wanted):
                    self._plan(planned)
                    self.replicates_wanted = wanted
                case ExtendSearch(max_length, lengths, planned, wanted):
                    extended = self.spec.search.extended(max_length, lengths, planned, wanted)
                    if extended.max_length != self.spec.search.max_length:
                        self.late.clear()  # These are the last halves of shorter trainings.
                    self.spec = replace(self.spec, search=extended)
                    self._plan(planned)
                    self.replicates_wanted = wanted
                    for bracket, rungs in zip(self.brackets, lengths, strict=True):
                        _extend(bracket, rungs)
                case CreateTrial():
                    self._create(decision)
                case (
                    TrainTrial(trial)
                    | ContinueTrial(trial)
                    | SuspendTrial(trial)
                    | PauseTrial(trial)
                    | CompleteTrial(trial)
                    | StopTrial(trial)
                    | CloseTrial(trial)
                    | ReopenTrial(trial)
                ):
                    path = self.paths.change(trial)
                    if isinstance(decision, CompleteTrial):
                        self._note_final(trial, path, entry.event)
                    if trial in self.originals:
                        self._decide_replicate(path, decision)
                    else:
                        self._decide(trial, path, entry.event, decision)
                    if path.state is not TrialState.RUNNING:
                        self.paths.settle(trial)

    def _note_result(self, event: ValidationReported) -> None:
        value, longest = event.metrics[self.spec.metric], self.spec.search.max_length
        if self.spec.search.open_ended:
            self._last[event.trial] = (event.length, value)
        elif 2 * event.length > longest:
            late = self.late.get(event.trial) or self.late.setdefault(event.trial, LateResults(longest))
            late.add(event.length, value)

    def _create(self, decision: CreateTrial) -> None:
        bracket = self.brackets[decision.bracket]
        if isinstance(decision.why, Replicated):
            self.originals[decision.trial] = decision.why.original
            below = (self._until,) * bracket.lengths.index(decision.target)
            self.paths.add(TrialPath(bracket.number, self._until, promotions=below))
            return
        bracket.created += 1
        if skipped := bracket.lengths.index(decision.target):
            self._skipped[decision.trial] = skipped
        self.paths.add(TrialPath(bracket.number, self._until, promotions=(self._until,) * skipped))
        bracket.rungs[skipped].training.add(decision.trial)

    def _note_final(self, trial: TrialId, path: TrialPath, event: Event) -> None:
        """Note the result of a trial that has trained to the end."""
        if isinstance(event, ValidationReported) and not self.spec.search.open_ended:
            lengths = self.brackets[path.bracket].lengths
            reached = lengths[path.rung] if trial in self.originals else lengths[-1]
            self.finals[trial] = Final(reached, event.metrics[self.spec.metric])

    def _decide_replicate(self, path: TrialPath, decision: Decision) -> None:
        match decision:
            case TrainTrial() | ContinueTrial():
                path.state = TrialState.RUNNING
            case CompleteTrial():
                path.state, path.ended = TrialState.COMPLETED, self._until
            case CloseTrial(state=state):
                path.state, path.ended = state, self._until
            case ReopenTrial(state=state):
                path.state, path.ended = state, None

    def _decide(self, trial: TrialId, path: TrialPath, event: Event, decision: Decision) -> None:
        bracket = self.brackets[path.bracket]
        match decision:
            case TrainTrial(target=target) | ContinueTrial(target=target):
                path.state = TrialState.RUNNING
                # If the search was extended since the trial got its job, the rung can be longer than the target.
                self._promote(trial, path, bisect_left(bracket.lengths, target), event)
                if isinstance(decision.why, Audited):
                    self.audits.add((trial, decision.why.rung))
                    bracket.rungs[decision.why.rung].audits += 1
            case SuspendTrial() if isinstance(event, ValidationReported) and trial == event.trial:
                # The trial was promoted while the experiment paused; its target is decided when the experiment resumes.
                self._promote(trial, path, bisect_right(bracket.lengths, event.length), event)
            case PauseTrial():
                path.state = TrialState.PAUSED
                self._compare(path, path.rung, event)
                rung = self._leave(trial, path)
                rung.arrived += 1
                rung.waiting.add(trial)
            case CompleteTrial():
                self._promote(trial, path, len(bracket.rungs) - 1, event)
                self._compare(path, path.rung, event)
                if self.spec.search.open_ended:
                    path.arrivals = (Arrival(self._until, 0, *self._last.pop(trial, (0, nan))),)
                self._leave(trial, path).arrived += 1
                path.state, path.ended = TrialState.COMPLETED, self._until
            case StopTrial():
                # The trial counts in all rungs up to the length of its report.
                reached = path.rung + 1
                if isinstance(event, ValidationReported):
                    reached = bisect_right(bracket.lengths, event.length)
                for number in range(path.rung, reached):
                    self._compare(path, number, event)
                    bracket.rungs[number].arrived += 1
                self._leave(trial, path)
                path.state, path.ended = TrialState.STOPPED, self._until
            case CloseTrial():
                self._close(trial, path, decision)
            case ReopenTrial():
                self._reopen(trial, path, event, decision)

    def _plan(self, planned: Sequence[int]) -> None:
        # The points of a grid do not change, and those that turned out to be invalid do not count here.
        if self.spec.search.method is not Method.GRID:
            for bracket, trials in zip(self.brackets, planned, strict=True):
                bracket.planned = trials

    def _reopen(self, trial: TrialId, path: TrialPath, event: Event, decision: ReopenTrial) -> None:
        path.state, path.ended, path.dropped_out = decision.state, None, False
        self.finals.pop(trial, None)
        rung = self.brackets[path.bracket].rungs[path.rung]
        match decision.why:
            case BracketReopened():
                rung.waiting.add(trial)
            case Promoted():
                rung.waiting.add(trial)
                self._promote(trial, path, path.rung + 1, event)
            case Extended():  # Its result at the former length does not count at the greater one.
                path.arrivals = ()
                rung.arrived -= 1
                rung.training.add(trial)
            case RetriedOnRequest():
                rung.training.add(trial)
                # A trial that still had a job when the experiment ended did not count as failed.
                rung.failed -= decision.state is TrialState.PAUSED

    def _promote(self, trial: TrialId, path: TrialPath, to: int, event: Event) -> None:
        """Promote a trial from its rung to a higher one, through all rungs in between."""
        if to == path.rung:
            return
        rungs = self.brackets[path.bracket].rungs
        # If the trial waited at the rung, it was already counted when it arrived there.
        rungs[path.rung].arrived -= trial in rungs[path.rung].waiting
        self._leave(trial, path)
        for number in range(path.rung, to):
            self._compare(path, number, event)
            path.promotions += (self._until,)
            rungs[number].arrived += 1
            rungs[number].promoted += 1
        rungs[to].training.add(trial)

    def _compare(self, path: TrialPath, rung: int, event: Event) -> None:
        """Add the comparison of a trial at a rung and at skipped ones below it, unless it is already there."""
        if isinstance(event, ValidationReported):
            for number in range(len(path.arrivals), rung + 1):
                path.arrivals += (Arrival(self._until, number, event.length, event.metrics[self.spec.metric]),)

    def _close(self, trial: TrialId, path: TrialPath, decision: CloseTrial) -> None:
        bracket, here = self.brackets[path.bracket], path.rung
        waited = trial in bracket.rungs[here].waiting
        rung = self._leave(trial, path)
        path.state, path.ended = decision.state, self._until
        path.dropped_out = not isinstance(decision.why, BracketFinished | ExperimentEnded)
        if decision.state is TrialState.INVALID:
            bracket.created -= 1
            # An invalid point of a grid is not replaced.
            bracket.planned -= self.spec.search.method is Method.GRID
            for number in range(self._skipped.get(trial, 0), here):
                passed = bracket.rungs[number]
                passed.arrived -= 1
                passed.promoted -= 1
                passed.audits -= (trial, number) in self.audits
        elif path.dropped_out:
            rung.arrived -= waited
            rung.failed += 1
            rung.killed += decision.state is TrialState.KILLED

    def _leave(self, trial: TrialId, path: TrialPath) -> RungView:
        rung = self.brackets[path.bracket].rungs[path.rung]
        rung.training.discard(trial)
        rung.waiting.discard(trial)
        return rung


def _extend(bracket: BracketView, lengths: tuple[int, ...]) -> None:
    bracket.lengths = lengths
    bracket.rungs += [RungView(length) for length in lengths[len(bracket.rungs) :]]
    bracket.rungs[-1].length = lengths[-1]


def _arrival(at: float, rung: float, length: float, metric: float) -> Arrival:
    return Arrival(at, int(rung), int(length), metric)
