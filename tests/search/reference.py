"""The search once more, in the plainest way that the design allows, to compare with.

Nothing is kept but the calls that were made; every question is answered by going through
all of them again, and every ranking by sorting the whole rung.  Slow on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from math import ceil, floor, inf, isfinite, isnan, sqrt
from typing import Any

from ashwood.errors import SearchError
from ashwood.search.draw import bits
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.search.vocabulary import (
    Audited,
    BracketFinished,
    Created,
    CreatedHedged,
    CreatedHigher,
    Dropped,
    Exit,
    Extended,
    Job,
    LastChance,
    New,
    Pause,
    Promote,
    Promoted,
    ReachedEnd,
    Retired,
    Snapshot,
    Stop,
    TrialId,
    Verdict,
    Waits,
)


def powers_up_to(divisor: Fraction, limit: int) -> int:
    """How many of d**0, d**1, d**2, … are no more than a limit: 1 + floor(log_d limit)."""
    return next(k for k in range(10_000) if divisor**k > limit)


def plan_brackets(s: SearchSettings) -> list[tuple[int, int]]:
    """(rungs, trials) of every bracket, after section 4 of the design."""
    room, by_trials = powers_up_to(s.divisor, s.max_length), powers_up_to(s.divisor, s.max_trials)
    if s.method in (Method.RANDOM, Method.GRID, Method.SINGLE):
        rungs = [1]
    elif s.method is not Method.ADAPTIVE_ASHA:
        rungs = [min(s.num_rungs or 5, room, by_trials)]
    elif s.bracket_rungs:
        rungs = sorted(s.bracket_rungs, reverse=True)
    elif s.mode is Mode.AUTO:
        room += s.divisor ** (room - 1) < s.max_length
        rungs = [min(s.max_rungs, room, by_trials)]
    else:
        most = min(s.max_rungs, room, by_trials)
        least = {Mode.AGGRESSIVE: most, Mode.STANDARD: floor((most - 1) / 2) + 1, Mode.CONSERVATIVE: 1}[s.mode]
        rungs = list(range(most, least - 1, -1))
    while True:
        weights = [s.divisor ** (r - 1) / Fraction(r) for r in rungs]
        trials = [max(1, floor(s.max_trials * w / sum(weights))) for w in weights]
        if sum(trials) <= s.max_trials:
            trials[0] += s.max_trials - sum(trials)
            return list(zip(rungs, trials, strict=True))
        rungs.pop()


def tau_b(pairs: Sequence[tuple[Any, Any]]) -> float:
    """Kendall's tau-b, or 0 if all results at one of the rungs are equal."""
    signs = [((a > c) - (a < c), (b > d) - (b < d)) for (a, b), (c, d) in combinations(pairs, 2)]
    untied = sum(one != 0 for one, _ in signs) * sum(two != 0 for _, two in signs)
    return sum(one * two for one, two in signs) / sqrt(untied) if untied else 0.0


def valid(t: ReferenceTrial) -> bool:
    return t.state != "invalid"


@dataclass
class ReferenceTrial:
    """One trial's whole story; ``at`` is the rung that it is on its way to, or waits at."""

    id: TrialId
    bracket: int
    nth: int
    at: int = 0
    entered: int = 0
    state: str = "training"
    losses: dict[int, float] = field(default_factory=dict)
    promoted_from: set[int] = field(default_factory=set)
    failed_at: int | None = None
    arrived: dict[int, Promoted] = field(default_factory=dict)
    former: int | None = None


class Reference:
    """A `SearchMethod` that keeps the calls alone."""

    def __init__(self, settings: SearchSettings) -> None:
        self.settings = settings
        self.calls: list[list[Any]] = []
        self._forget()

    def _forget(self) -> None:
        s = self.settings
        plan = plan_brackets(s)
        self.sync = s.method is Method.SYNC_HALVING
        self.stops = s.stop_once and not self.sync
        self.learns = s.method is Method.ADAPTIVE_ASHA and s.mode is Mode.AUTO and not self.stops
        self.hedges = self.learns and s.hedged
        self.entries = [0 for _ in plan]
        self.climbers: list[list[ReferenceTrial]] = [[] for _ in plan]
        self.lengths = [
            sorted({ceil(s.max_length / s.divisor ** (rungs - 1 - i)) for i in range(rungs)}) for rungs, _ in plan
        ]
        self.planned = [trials for _, trials in plan]
        self.to_create = list(self.planned)
        slots = max(s.max_concurrent_trials or len(plan), len(plan))
        self.shares = [slots // len(plan) + (b < slots % len(plan)) for b in range(len(plan))]
        self.given = [0 for _ in plan]
        self.queues: list[list[tuple[ReferenceTrial, Promoted | Extended]]] = [[] for _ in plan]
        self.trials: list[ReferenceTrial] = []
        self.reports = 0

    # -- what a rung looks like -----------------------------------------------------------------

    def members(self, bracket: int) -> list[ReferenceTrial]:
        return [t for t in self.trials if t.bracket == bracket and t.state != "invalid"]

    def ranking(self, bracket: int, rung: int) -> list[ReferenceTrial]:
        """All trials with a result in a rung, best first.  Trials that failed there are last, whatever their loss."""

        def key(t: ReferenceTrial) -> tuple[bool, bool, bool, float, TrialId]:
            failed = t.failed_at == rung
            loss = 0.0 if failed else t.losses[rung]
            return failed, isnan(loss), not isfinite(loss), loss if isfinite(loss) else 0.0, t.id

        return sorted((t for t in self.members(bracket) if rung in t.losses or t.failed_at == rung), key=key)

    def quota(self, bracket: int, rung: int) -> int:
        share = floor(Fraction(len(self.ranking(bracket, rung))) / self.settings.divisor)
        return max(1, share) if self.sync or self.stops else share

    def promotable(self, bracket: int, rung: int, quota: int | None = None) -> ReferenceTrial | None:
        best = self.ranking(bracket, rung)[:quota]
        return next((t for t in best if rung not in t.promoted_from and t.failed_at != rung), None)

    def created(self, bracket: int) -> int:
        return sum(t.bracket == bracket for t in self.trials)

    def exhausted(self, bracket: int) -> bool:
        trains = any(t.state in ("training", "queued") for t in self.members(bracket))
        return not trains and self.created(bracket) == self.to_create[bracket]

    def nobody_at_the_end(self, bracket: int) -> bool:
        last = len(self.lengths[bracket]) - 1
        return not any(t.failed_at != last for t in self.ranking(bracket, last))

    def complete(self, bracket: int, rung: int) -> bool:
        """Nobody that will ever belong to a rung is missing there."""
        under_way = any(t.state in ("training", "queued") and t.at <= rung for t in self.members(bracket))
        to_come = any(self.promotable(bracket, below, self.quota(bracket, below)) for below in range(rung))
        return self.created(bracket) == self.to_create[bracket] and not under_way and not to_come

    # -- the rules ------------------------------------------------------------------------------

    def audited(self, bracket: int, rung: int) -> ReferenceTrial | None:
        """Return the trial that the next promotion from a rung is given to if it is an audit, otherwise None."""
        promoted = sum(rung in t.promoted_from for t in self.members(bracket))
        if Fraction(bits(0, "audit", bracket, rung, promoted), 2**64) >= self.settings.audit:
            return None
        ranking = self.ranking(bracket, rung)
        waiting = [t for t in ranking if rung not in t.promoted_from and t.failed_at != rung]
        return waiting[floor(Fraction(bits(0, "audited", bracket, rung, promoted), 2**64) * len(waiting))]

    def promotion(self, bracket: int) -> tuple[ReferenceTrial, Promoted | Audited | LastChance] | None:
        if self.stops:
            return None
        downward = range(len(self.lengths[bracket]) - 2, -1, -1)
        for rung in downward:
            quota = self.quota(bracket, rung)
            found = self.promotable(bracket, rung, quota)
            if found and (not self.sync or self.complete(bracket, rung)):
                ranking = self.ranking(bracket, rung)
                if drawn := self.audited(bracket, rung):
                    return drawn, Audited(rung, ranking.index(drawn) + 1, len(ranking))
                return found, Promoted(rung, ranking.index(found) + 1, len(ranking), quota)
        if self.exhausted(bracket) and self.nobody_at_the_end(bracket):
            for rung in downward:
                if found := self.promotable(bracket, rung):
                    ranking = self.ranking(bracket, rung)
                    return found, LastChance(rung, ranking.index(found) + 1, len(ranking))
        return None

    def finished(self, bracket: int) -> bool:
        return self.exhausted(bracket) and self.promotion(bracket) is None

    def next_job(self) -> Job | None:
        self.calls.append(["next_job"])

        def load(bracket: int) -> tuple[Fraction, Fraction]:
            training = sum(t.state == "training" for t in self.members(bracket))
            return Fraction(training, self.shares[bracket]), Fraction(self.given[bracket], self.shares[bracket])

        for bracket in sorted(range(len(self.shares)), key=load):
            if queue := [entry for entry in self.queues[bracket] if entry[0].state == "queued"]:
                queued, reason = queue[0]
                queued.state = "training"
                self.queues[bracket] = queue[1:]
                return Job(queued.id, self.lengths[bracket][queued.at], reason)
            if promotion := self.promotion(bracket):
                trial, why = promotion
                trial.promoted_from.add(why.rung)
                trial.at, trial.state = why.rung + 1, "training"
                self.give(trial)
                return Job(trial.id, self.lengths[bracket][trial.at], why)
            if (nth := self.created(bracket)) < self.to_create[bracket]:
                entry, new = self.enter(bracket, nth)
                self.trials.append(ReferenceTrial(len(self.trials), bracket, nth, entry, entry))
                self.given[bracket] += self.lengths[bracket][entry]
                return Job(len(self.trials) - 1, self.lengths[bracket][entry], new)
        return None

    def enter(self, bracket: int, nth: int) -> tuple[int, New]:
        entry, lengths = self.entries[bracket], self.lengths[bracket]

        def trained(rung: int) -> int:
            return sum(lengths[t.at] for t in self.trials if t.bracket == bracket and t.entered == rung)

        if self.hedges and entry + 1 < len(lengths) and trained(entry + 1) < trained(entry):
            return entry + 1, CreatedHedged(bracket, nth, entry + 1)
        return entry, CreatedHigher(bracket, nth, entry) if entry else Created(bracket, nth)

    def give(self, t: ReferenceTrial) -> None:
        lengths = [0, *self.lengths[t.bracket]]
        self.given[t.bracket] += lengths[t.at + 1] - lengths[t.at]

    def learn(self, t: ReferenceTrial) -> None:
        if self.learns:
            self.compare(t)
        if self.hedges and t.at == self.entries[t.bracket] < len(self.lengths[t.bracket]) - 1:
            self.find_ties(t.bracket, t.at)

    def find_ties(self, bracket: int, rung: int) -> None:
        """Skip a rung if at least 4 of 5 results are equal to the best one beyond the quota."""
        ranking, quota = self.ranking(bracket, rung), self.quota(bracket, rung)
        if len(ranking) < 8 or quota >= len(ranking) or ranking[quota].failed_at == rung:
            return
        results = [self.result(t, rung) for t in ranking]
        if Fraction(results.count(results[quota]), len(results)) >= Fraction(4, 5):
            self.entries[bracket] = rung + 1
            self.climbers[bracket].clear()

    def result(self, t: ReferenceTrial, rung: int) -> tuple[bool, bool, float]:
        failed = t.failed_at == rung
        bad = failed or isnan(t.losses[rung])
        return failed, bad, 0.0 if bad else t.losses[rung] if isfinite(t.losses[rung]) else inf

    def compare(self, t: ReferenceTrial) -> None:
        """Skip the first rung if the rankings there and at the second rung agree too little."""
        entry, climbers = self.entries[t.bracket], self.climbers[t.bracket]
        if t.at != entry + 1 or entry not in t.losses:
            return
        climbers.append(t)
        latest = climbers[-48:]
        if self.hedges:
            both = [(self.result(each, entry), self.result(each, entry + 1)) for each in latest if valid(each)]
            varied = all(len(set(results)) > 1 for results in zip(*both, strict=True))
            if len(both) >= 12 and varied and tau_b(both) <= 0.2:
                self.entries[t.bracket] += 1
                climbers.clear()
            return
        first, second = self.ranking(t.bracket, entry), self.ranking(t.bracket, entry + 1)
        ranks = [(first.index(each), second.index(each)) for each in latest if valid(each)]
        pairs = list(combinations(ranks, 2))
        alike = sum((a[0] < b[0]) == (a[1] < b[1]) for a, b in pairs)
        if len(latest) >= 16 and alike <= len(pairs) - alike:
            self.entries[t.bracket] += 1
            climbers.clear()

    def report(self, trial: TrialId, length: int, loss: float) -> Verdict:
        t = self._known(trial)
        lengths = self.lengths[t.bracket]
        if t.state == "training" and t.former is not None and t.former <= length < lengths[0]:
            former, t.former = t.former, None
            return Promote(lengths[0], Extended(former))
        if t.state != "training" or length < lengths[t.at]:
            raise SearchError("no")
        self.calls.append(["report", trial, length, repr(loss)])
        reached = [i for i in range(t.at, len(lengths)) if lengths[i] <= length] if self.stops else [t.at]
        t.losses |= dict.fromkeys(reached, loss)
        t.at = reached[-1]
        places = []
        for rung in reached:
            ranking = self.ranking(t.bracket, rung)
            places.append((rung, ranking.index(t) + 1, len(ranking), self.quota(t.bracket, rung)))
            t.arrived[rung] = Promoted(*places[-1])
        self.learn(t)
        t.state = "ended"
        if t.at == len(lengths) - 1:
            return Stop(ReachedEnd(lengths[-1]))
        if not self.stops:
            t.state = "waiting"
            return Pause(Waits(*places[-1]))
        worse = [place for place in places if place[1] > place[3]]
        if worse and not (self.exhausted(t.bracket) and self.nobody_at_the_end(t.bracket)):
            return Stop(Dropped(*worse[0]))
        t.at, t.state = t.at + 1, "training"
        self.give(t)
        return Promote(lengths[t.at], LastChance(*worse[0][:3]) if worse else Promoted(*places[-1]))

    def exited(self, trial: TrialId, how: Exit) -> None:
        t = self._known(trial)
        if t.state == "ended" or t.state == "invalid" or (t.state == "waiting" and self.finished(t.bracket)):
            raise SearchError("no")
        self.calls.append(["exited", trial, how])
        t.state = "ended"
        if how is not Exit.INVALID:
            t.failed_at = t.at
            return
        t.state = "invalid"
        self.to_create[t.bracket] += self.settings.method is not Method.GRID

    def extend(self, settings: SearchSettings) -> set[TrialId]:
        """Be the search of other rungs and trials from the beginning, that had the same reports in the same order.

        Return the trials that had ended for good, and have not in that search.
        """
        former, planned = self.lengths, self.planned
        self.settings = settings
        self.lengths = [list(lengths) for lengths in settings.bracket_lengths]
        self.planned = list(settings.bracket_trials)
        again: set[TrialId] = set()
        for bracket, lengths in enumerate(former):
            self.to_create[bracket] += self.planned[bracket] - planned[bracket]
            top = len(lengths) - 1
            fine = [t for t in self.members(bracket) if t.state == "ended" and t.failed_at is None]
            at_top = [t for t in self.ranking(bracket, top) if t in fine]
            retired = [t for t in fine if t not in at_top] if not self.stops else []
            more = self.lengths[bracket][-1] > lengths[-1]
            if more and len(lengths) == len(self.lengths[bracket]):
                self.queue(at_top, 0, [Extended(lengths[-1]) for _ in at_top])
                for t in self.members(bracket):
                    if t in at_top:
                        del t.losses[0]
                    elif t.state == "training" and t.former is None:
                        t.former = lengths[-1]
                again.update(t.id for t in at_top)
            elif more and self.stops:
                passed = [t for t in fine if top in t.arrived and t.arrived[top].rank <= t.arrived[top].best]
                passed.sort(key=lambda t: t.arrived[top].of)
                self.queue(passed, top + 1, [t.arrived[top] for t in passed])
                for t in passed:
                    self.give(t)
                again.update(t.id for t in passed)
            elif more:
                retired += at_top
            for t in retired:
                t.state = "waiting"
            if retired and self.finished(bracket):
                for t in retired:
                    t.state = "ended"
            else:
                again.update(t.id for t in retired)
        return again

    def queue(self, trials: Sequence[ReferenceTrial], at: int, reasons: Sequence[Promoted | Extended]) -> None:
        for t, why in zip(trials, reasons, strict=True):
            t.at, t.state = at, "queued"
            self.queues[t.bracket].append((t, why))

    def retired(self) -> Sequence[Retired]:
        self.calls.append(["retired"])
        retired: list[Retired] = []
        for bracket in range(len(self.shares)):
            waiting = [t for t in self.members(bracket) if t.state == "waiting"]
            if waiting and self.finished(bracket):
                retired += [Retired(t.id, BracketFinished(bracket)) for t in waiting]
                for t in waiting:
                    t.state = "ended"
        return retired

    @property
    def done(self) -> bool:
        return all(self.finished(bracket) for bracket in range(len(self.shares)))

    def address(self, trial: TrialId) -> tuple[int, int]:
        return self.trials[trial].bracket, self.trials[trial].nth

    def snapshot(self) -> Snapshot:
        # A question that changed nothing is no part of the state.
        return {"calls": self.calls}

    def restore(self, snapshot: Snapshot) -> None:
        self._forget()
        self.calls = []
        for name, *arguments in snapshot["calls"]:
            if name == "report":
                arguments[2] = float(arguments[2])
            elif name == "exited":
                arguments[1] = Exit(arguments[1])
            getattr(self, name)(*arguments)

    def _known(self, trial: TrialId) -> ReferenceTrial:
        if not 0 <= trial < len(self.trials):
            raise SearchError("no")
        return self.trials[trial]
