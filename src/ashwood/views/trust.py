"""The trust meter: whether the results of a search show that early stopping can be believed.

`Trust` is a fold over log entries.  `ashwood.search.trust` has the statistics, which are computed when a reading is
requested; this module adds the words, and the advice with its price.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import nan
from typing import Any, NamedTuple

from ashwood.experiment.decisions import ContinueTrial, ReopenTrial, TrainTrial
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import ValidationReported
from ashwood.experiment.lifecycle import TrialState
from ashwood.search.plan import plan_search
from ashwood.search.rung import ranking_key
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.search.trust import (
    ENOUGH,
    Interval,
    Level,
    Pair,
    RungResults,
    Selection,
    Stopped,
    decisive,
    is_trusted,
    measure,
    price_of_stopping,
    verdict,
)
from ashwood.search.vocabulary import Audited, LastChance, Promoted, TrialId
from ashwood.views.ladder import Ladder
from ashwood.views.wording import all_of, format_length, format_value

_SIMILAR = 0.1
"""Costs that differ less from 1 than this are called equal."""
_SURE = 0.995
"""Probabilities above this are shown as "over 99 %"."""


class How(StrEnum):
    """Why a trial was promoted."""

    RANK = "rank"
    """It was among the best of its rung at that time."""
    AUDIT = "audit"
    """It was drawn at random, to check the ranking."""
    LAST_CHANCE = "last chance"
    """No other trial could reach the end."""


_REASONS = {Promoted: How.RANK, Audited: How.AUDIT, LastChance: How.LAST_CHANCE}
"""Reasons for a promotion."""
_HOW = tuple(How)
_PROMOTE = frozenset((TrainTrial, ContinueTrial, ReopenTrial))
"""Decisions that promote trials."""


class Promotion(NamedTuple):
    """The promotion of a trial: it had rank ``rank`` of ``of`` results."""

    rank: int
    of: int
    how: How


class RungPair(NamedTuple):
    """Two rungs of a bracket; as text, ``0-1``, or ``2:0-1`` in bracket 2."""

    bracket: int
    lower: int
    upper: int

    def __str__(self) -> str:
        return f"{self.bracket}:{self.lower}-{self.upper}" if self.bracket else f"{self.lower}-{self.upper}"


class Comparison(NamedTuple):
    """A trial with results at two rungs, for a scatter plot.

    Attributes:
        trial: the trial.
        metric: its metric at the lower rung.
        upper: its metric at the higher rung.
        rank: its rank at the lower rung now, from 1.
        upper_rank: its rank at the higher rung now.
        promotion: its promotion from the lower rung, or None if the log has no reason for it.
        early: whether it was promoted by its rank, but would not be among the best of its rung now.
    """

    trial: TrialId
    metric: float
    upper: float
    rank: int
    upper_rank: int
    promotion: Promotion | None
    early: bool


@dataclass(frozen=True)
class Advice:
    """Something that a user can do.

    Attributes:
        text: what to do, and why.
        settings: values for ``--set`` that apply it to a new search, such as ``searcher.max_rungs=3``.
        cost: expected training of that search as a multiple of the present one, or None without settings.
        price: the cost in words, beginning with a space, or an empty text.
    """

    text: str
    settings: Sequence[str] = ()
    cost: float | None = None
    price: str = ""


@dataclass(frozen=True)
class PairReading:
    """The agreement of two rungs of a bracket.

    Attributes:
        bracket: index of the bracket.
        lower: index of the lower rung.
        upper: index of the higher rung.
        length: total training length of the lower rung.
        upper_length: total training length of the higher rung.
        arrived: number of results at the lower rung, with failed trials.
        both: number of trials with results at both rungs.
        audits: number of these trials that were promoted as audits.
        seen: Kendall's tau-b of the trials with results at both rungs, without correction, or None for fewer than 4.
        weighted: the same with inverse probabilities of promotion as weights.
        weighted_interval: 90 % interval of ``weighted``.
        agreement: Kendall's tau, corrected for selection under a Gaussian copula.
        interval: 90 % interval of ``agreement``.
        trusted: whether the lower rung predicts the higher one, or None if that is not known yet.
        stopped: number of trials that were compared at the lower rung and not promoted.
        chance: probability that the best trial was one of these, or None if that is not known yet.
        regret: expected loss because of that, in units of the metric, or None.
    """

    bracket: int
    lower: int
    upper: int
    length: int
    upper_length: int
    arrived: int
    both: int
    audits: int
    seen: float | None
    weighted: float | None
    weighted_interval: tuple[float, float] | None
    agreement: float | None
    interval: tuple[float, float] | None
    trusted: bool | None
    stopped: int
    chance: float | None
    regret: float | None

    @property
    def rungs(self) -> RungPair:
        """The two rungs."""
        return RungPair(self.bracket, self.lower, self.upper)


@dataclass(frozen=True)
class TrustReading:
    """Whether early stopping can be believed, as far as the results show.

    Attributes:
        level: the verdict, a text: ``trustworthy``, ``from_rung``, ``not_trustworthy`` or ``too_early``.
        rung: index of the lowest rung of bracket 0 that can be trusted, or None.
        length: its total training length, or None.
        sentence: the verdict in one sentence.
        reasons: sentences with the numbers behind it.
        advice: what to do about it.
        pairs: agreement of the rungs of each bracket: of each with the next one, and with the last one that has
            enough results.
    """

    level: Level
    rung: int | None
    length: int | None
    sentence: str
    reasons: Sequence[str]
    advice: Sequence[Advice]
    pairs: Sequence[PairReading]


class Trust:
    """The trust meter of an experiment, as a fold over log entries that takes O(1) time for each.

    Attributes:
        ladder: the trials at each rung; the owner of this view applies entries to it.
    """

    def __init__(self, ladder: Ladder) -> None:
        self.ladder = ladder
        # One row for each promotion, in columns, because a large search has many.
        self._promotions = array("q")
        # Metrics of trials at the lengths of rungs that they skip, by trial and rung.
        self._direct: dict[tuple[TrialId, int], float] = {}
        # The latest reading, or None if it does not include the latest entries.  It is part of snapshots, because it
        # takes seconds to compute for a large search.
        self._known: TrustReading | None = None

    def apply(self, entry: Entry) -> None:
        """Apply an entry of the log."""
        if entry.decisions:  # Reports without decisions change no rung.
            self._known = None
        for decision in entry.decisions:
            if type(decision) in _PROMOTE:
                self._note(decision)
        if isinstance(entry.event, ValidationReported) and self.ladder.first_rung(entry.event.trial):
            self._note_direct(entry.event)

    def _note(self, decision: Any) -> None:
        why = decision.why
        if (how := _REASONS.get(type(why))) is not None:
            self._promotions.extend((decision.trial, why.rung, why.rank, why.of, _HOW.index(how)))

    def _note_direct(self, event: ValidationReported) -> None:
        """Note the result of a trial at the length of a rung that it skips."""
        trial, metric = event.trial, event.metrics.get(self.ladder.spec.metric)
        lengths = self.ladder.brackets[self.ladder.paths[trial].bracket].lengths
        if metric is not None and event.length in lengths[: self.ladder.first_rung(trial)]:
            self._direct[trial, lengths.index(event.length)] = metric
            self._known = None

    def applies(self) -> bool:
        """Return whether the search compares trials at lengths before the last one."""
        return self.ladder.spec.search.method.is_halving and any(len(each.lengths) > 1 for each in self.ladder.brackets)

    def reading(self) -> TrustReading | None:
        """Return the present reading, or None if the search stops no trial early.

        It takes O(n log n) time for n trials, and is computed once until the next decision.
        """
        if not self.applies():
            return None
        if self._known is None:
            self._known = self._read()
        return self._known

    def pairs(self) -> list[RungPair]:
        """Return all pairs of rungs of each bracket, neighbours first, or none if no trial is stopped early."""
        if not self.applies():
            return []
        return [
            RungPair(bracket.number, lower, lower + distance)
            for bracket in self.ladder.brackets
            for distance in range(1, len(bracket.lengths))
            for lower in range(len(bracket.lengths) - distance)
        ]

    def comparisons(self, pair: RungPair) -> list[Comparison]:
        """Return the trials that have results at both rungs, by their rank at the lower rung."""
        bracket, lower, upper = pair
        results, promotions = self._results(), self._reasons()
        here, there = results[bracket][lower], results[bracket][upper]
        ranks, upper_ranks = (_ranks(rung) for rung in (here, there))
        sign, divisor = self._sign, self.ladder.spec.search.divisor
        found = []
        for trial, rank in ranks.items():
            if trial not in upper_ranks or trial in here.failed or trial in there.failed:
                continue
            promotion = promotions.get((trial, lower))
            by_rank = promotion is None or promotion.how is How.RANK
            found.append(
                Comparison(
                    trial,
                    sign * here.losses[trial],
                    sign * there.losses[trial],
                    rank,
                    upper_ranks[trial],
                    promotion,
                    by_rank and rank > len(ranks) * divisor.denominator // divisor.numerator,
                )
            )
        return found

    # -- the input of the statistics -----------------------------------------------------------------

    @property
    def _sign(self) -> int:
        return 1 if self.ladder.spec.smaller_is_better else -1

    def _reasons(self) -> dict[tuple[TrialId, int], Promotion]:
        numbers = self._promotions
        return {
            (trial, rung): Promotion(rank, of, _HOW[how])
            for trial, rung, rank, of, how in zip(*[iter(numbers)] * 5, strict=True)
        }

    def _results(self) -> list[list[RungResults]]:
        """Return the results of each rung of each bracket, in the order in which they arrived."""
        arrived: list[list[list[tuple[float, TrialId, float, bool]]]] = [
            [[] for _ in bracket.rungs] for bracket in self.ladder.brackets
        ]
        promoted = [[0 for _ in bracket.rungs] for bracket in self.ladder.brackets]
        sign = self._sign
        for trial, path in enumerate(self.ladder.paths):
            if path.state is TrialState.INVALID or trial in self.ladder.originals:
                continue
            rungs, here = arrived[path.bracket], path.rung
            first = self.ladder.first_rung(trial)
            for rung in range(first, here):
                promoted[path.bracket][rung] += 1
            arrivals = path.arrivals[first:]
            if path.dropped_out and path.ended is not None:
                arrivals = path.arrivals[first:here]
                rungs[here].append((path.ended, trial, nan, True))
            for nth, arrival in enumerate(arrivals):
                # One report that passed two rungs says nothing about their agreement, so it counts at the higher one.
                if nth + 1 == len(arrivals) or arrivals[nth + 1].length > arrival.length:
                    rungs[arrival.rung].append((arrival.at, trial, sign * arrival.metric, False))
        direct: list[dict[int, dict[TrialId, float]]] = [{} for _ in self.ladder.brackets]
        for (trial, rung), metric in self._direct.items():
            if (path := self.ladder.paths[trial]).state is not TrialState.INVALID:
                direct[path.bracket].setdefault(rung, {})[trial] = sign * metric
        audited: dict[tuple[int, int], set[TrialId]] = {}
        for trial, rung in self.ladder.audits:
            audited.setdefault((self.ladder.paths[trial].bracket, rung), set()).add(trial)
        return [
            [
                RungResults(
                    rung.length,
                    {trial: loss for _, trial, loss, _ in sorted(found)},
                    {trial for _, trial, _, failed in found if failed},
                    audited.get((bracket.number, number), set()),
                    promoted[bracket.number][number],
                    direct[bracket.number].get(number, {}),
                )
                for number, (rung, found) in enumerate(zip(bracket.rungs, arrived[bracket.number], strict=True))
            ]
            for bracket in self.ladder.brackets
        ]

    # -- the reading ---------------------------------------------------------------------------------

    def _read(self) -> TrustReading:
        settings, unit = self.ladder.spec.search, self.ladder.spec.unit
        selection = _selection_of(settings)
        readings: list[PairReading] = []
        first: list[Pair] = []
        for number, rungs in enumerate(self._results()):
            pairs = measure(rungs, settings.divisor, selection)
            first = first or pairs
            judged = decisive(pairs)
            for pair in pairs:
                by_this = judged[pair.lower] is pair and pair.both >= ENOUGH
                price = self._price(rungs, pair) if by_this else None
                readings.append(_reading_of(number, pair, price))
        level, rung = verdict(first)
        length = None if rung is None else self.ladder.brackets[0].lengths[rung]
        own = [each for each in readings if each.bracket == 0]
        return TrustReading(
            level=level,
            rung=rung,
            length=length,
            sentence=_sentence(level, rung, length, own, unit),
            reasons=list(_reasons(own, unit, self.ladder.spec.metric)),
            advice=list(_advice(level, rung, settings, len(self.ladder.brackets[0].lengths))),
            pairs=readings,
        )

    def _price(self, rungs: Sequence[RungResults], pair: Pair) -> Stopped:
        here = rungs[pair.lower]
        promoted = {trial for trial in here.losses if self.ladder.rung(trial) > pair.lower}
        return price_of_stopping(pair, here, promoted, rungs[pair.upper].losses.values())


def _ranks(rung: RungResults) -> Mapping[TrialId, int]:
    ranked = sorted(rung.losses, key=lambda trial: (trial in rung.failed, ranking_key(trial, rung.losses[trial])))
    return {trial: rank for rank, trial in enumerate(ranked, start=1)}


def _selection_of(settings: SearchSettings) -> Selection:
    if settings.stop_once:
        return Selection.ON_ARRIVAL
    return Selection.COMPLETE if settings.method is Method.SYNC_HALVING else Selection.PROMOTION


def _reading_of(bracket: int, pair: Pair, price: Stopped | None) -> PairReading:
    known = pair.measured
    return PairReading(
        bracket=bracket,
        lower=pair.lower,
        upper=pair.upper,
        length=pair.length,
        upper_length=pair.upper_length,
        arrived=pair.arrived,
        both=pair.both,
        audits=pair.audits,
        seen=pair.seen if known else None,
        weighted=pair.weighted if known else None,
        weighted_interval=_ends(pair.weighted_interval) if known else None,
        agreement=pair.agreement if known else None,
        interval=_ends(pair.interval) if known else None,
        trusted=is_trusted(pair),
        stopped=pair.arrived - pair.both if price is None else price.stopped,
        chance=None if price is None else price.chance,
        regret=None if price is None else price.regret,
    )


def _ends(interval: Interval) -> tuple[float, float]:
    # A plain tuple, because JSON encoders treat named tuples differently.
    return interval.low, interval.high


# -- the words ---------------------------------------------------------------------------------------


def _sentence(level: Level, rung: int | None, length: int | None, pairs: Sequence[PairReading], unit: str) -> str:
    match level:
        case Level.TRUSTWORTHY if doubtful := {pair.lower: pair.length for pair in pairs if pair.trusted is False}:
            rungs = all_of([f"rung {number} ({format_length(each, unit)})" for number, each in doubtful.items()])
            predict = "predicts" if len(doubtful) == 1 else "predict"
            return (
                f"Early stopping can be trusted on the whole, although {rungs} hardly {predict} which trials are good "
                "later."
            )
        case Level.TRUSTWORTHY:
            return (
                f"Early stopping can be trusted: the first rung ({format_length(length or 0, unit)}) predicts which "
                "trials are good later."
            )
        case Level.FROM_RUNG:
            return (
                f"Early stopping can be trusted from rung {rung} ({format_length(length or 0, unit)}) on: shorter "
                "training does not predict which trials are good."
            )
        case Level.NOT_TRUSTWORTHY:
            return "Early stopping cannot be trusted: no rung is known to predict which trials are good later."
    first = pairs[0]
    if first.both < ENOUGH:
        return (
            f"Early stopping: too early to judge; {first.both} of {ENOUGH} trials needed have reached rung "
            f"{first.upper} ({format_length(first.upper_length, unit)})."
        )
    return (
        f"Early stopping: too early to judge; {first.both} trials have reached rung {first.upper}, but whether the "
        "rankings agree is still uncertain."
    )


def _reasons(pairs: Sequence[PairReading], unit: str, metric: str) -> Iterator[str]:
    """Yield a sentence for each pair of rungs that is known, and one for the price of stopping at each rung."""
    for pair in pairs:
        if pair.agreement is None or pair.interval is None or pair.both < ENOUGH:
            continue
        audits = f", {format_length(pair.audits, 'audits')}" if pair.audits else ""
        yield (
            f"rung {pair.lower} ({format_length(pair.length, unit)}) and rung {pair.upper} "
            f"({format_length(pair.upper_length, unit)}): agreement {pair.agreement:.2f} (90 % interval "
            f"{pair.interval[0]:.2f} to {pair.interval[1]:.2f}), from {pair.both} trials{audits}; "
            f"{pair.seen:.2f} without the correction for selection"
        )
    for pair in pairs:
        if pair.chance is not None and pair.regret is not None:
            regret = f"; expected regret {format_value(float(f'{pair.regret:.2g}'))} {metric}"
            yield (
                f"the best of the {pair.arrived} trials at rung {pair.lower} was not promoted with a probability of "
                f"{format_chance(pair.chance)}{regret if pair.chance > 1 - _SURE else ''}"
            )


def format_chance(chance: float) -> str:
    """Return the text of a probability, such as 12 % or under 1 %."""
    if chance < 1 - _SURE:
        return "under 1 %"
    return "over 99 %" if chance > _SURE else f"{100 * chance:.0f} %"


def _advice(level: Level, rung: int | None, settings: SearchSettings, rungs: int) -> Iterator[Advice]:
    """Yield what to do, the best advice first."""
    skips = settings.method is Method.ADAPTIVE_ASHA and settings.mode is Mode.AUTO and not settings.bracket_rungs
    if level is Level.FROM_RUNG and rung is not None and not skips:
        setting, after = _with_rungs(settings, rungs - rung)
        text = f"Raise the first rung, so that no trial is judged before rung {rung}."
        yield _priced(text, (setting,), expected_training(after), settings)
    elif level is Level.NOT_TRUSTWORTHY:
        if settings.method is Method.ADAPTIVE_ASHA and not settings.bracket_rungs and settings.mode is not Mode.AUTO:
            yield from _gentler(settings)
        trials = max(1, round(expected_training(settings) / settings.max_length))
        setting, _ = _with_rungs(settings, 1)
        yield _priced(
            "Search at random with as much training: no trial is stopped early.",
            (setting, f"searcher.max_trials={trials}"),
            trials * settings.max_length,
            settings,
        )
        yield Advice(
            "Reduce the noise of the metric: validate on more data, or report the mean of several validations or seeds."
        )


def _with_rungs(settings: SearchSettings, most: int) -> tuple[str, SearchSettings]:
    """Return the setting with which brackets have at most this many rungs, and the settings of that search."""
    before = replace(settings, bracket_lengths=(), bracket_trials=())
    if settings.method is not Method.ADAPTIVE_ASHA:
        return f"searcher.num_rungs={most}", replace(before, num_rungs=most)
    if settings.bracket_rungs:
        kept = tuple(dict.fromkeys(min(each, most) for each in settings.bracket_rungs))
        return f"searcher.bracket_rungs=[{','.join(map(str, kept))}]", replace(before, bracket_rungs=kept)
    return f"searcher.max_rungs={most}", replace(before, max_rungs=most)


def _gentler(settings: SearchSettings) -> Iterator[Advice]:
    if settings.mode is not Mode.CONSERVATIVE:
        gentler = replace(settings, mode=Mode.CONSERVATIVE, bracket_lengths=(), bracket_trials=())
        text = "Stop fewer trials early: some brackets train all of their trials to the end."
        yield _priced(text, ("searcher.mode=conservative",), expected_training(gentler), settings)


def _priced(text: str, settings: Sequence[str], training: float, search: SearchSettings) -> Advice:
    """Return advice with its price: ``training`` is what the other search is expected to train."""
    now = expected_training(search)
    if not now:
        return Advice(text, settings)
    cost = float(f"{training / now:.2g}")
    much = "about" if abs(cost - 1) < _SIMILAR else f"{cost:g} times"
    return Advice(text, settings, cost, f" Expected: {much} as much training as this search.")


def expected_training(settings: SearchSettings) -> float:
    """Return the training of all trials if each rung promotes one of ``divisor`` trials."""
    total = 0.0
    for bracket in plan_search(settings).brackets:
        trials, before = float(bracket.trials), 0
        for length in bracket.lengths:
            total += trials * (length - before)
            trials, before = max(1.0, trials / float(settings.divisor)), length
    return total
