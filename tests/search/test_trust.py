"""The statistics of the trust meter, compared with references, and with simulated brackets whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import asin, exp, inf, isclose, log, nan, pi, sqrt
from statistics import NormalDist, mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.search import trust
from ashwood.search.draw import unit_draws
from ashwood.search.trust import (
    ENOUGH,
    MISLEADS,
    MOST_TRIALS,
    PROVEN,
    Interval,
    Level,
    Pair,
    RungResults,
    Selection,
    decisive,
    inclusion_probabilities,
    is_trusted,
    kendall_tau,
    measure,
    normal_scores,
    order_of,
    price_of_stopping,
    restored_covariances,
    verdict,
    weighted_tau,
)

DIVISOR = Fraction(4)
NORMAL = NormalDist()
LOSSES = st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=True, allow_infinity=True))


class Simulated:
    """A bracket of ASHA whose results have a Gaussian copula with known correlations.

    Each trial's latent result at a rung is correlated with that at the rung below, and only with that.
    """

    def __init__(self, seed: int, trials: int, *correlations: float, audit: float = 0.0) -> None:
        rungs = len(correlations) + 1
        self.latent = [_path(seed, trial, correlations) for trial in range(trials)]
        self.losses: list[dict[int, float]] = [{} for _ in range(rungs)]
        self.promoted: list[set[int]] = [set() for _ in range(rungs)]
        self.audited: list[set[int]] = [set() for _ in range(rungs)]
        self._audits = iter(unit_draws(8 * trials, seed, "audits"))
        self._share = audit
        for trial in range(trials):
            self._arrive(0, trial)

    def _arrive(self, rung: int, trial: int) -> None:
        losses, promoted = self.losses[rung], self.promoted[rung]
        losses[trial] = exp(self.latent[trial][rung])
        if rung == len(self.losses) - 1:
            return
        for best in sorted(losses, key=losses.__getitem__)[: int(len(losses) / DIVISOR)]:
            chosen = best
            if best in promoted:
                continue
            if self._share and next(self._audits) < self._share:
                waiting = sorted(losses.keys() - promoted)
                chosen = waiting[int(next(self._audits) * len(waiting))]
                self.audited[rung].add(chosen)
            promoted.add(chosen)
            self._arrive(rung + 1, chosen)

    def rungs(self, change: Callable[[float], float] = lambda loss: loss) -> list[RungResults]:
        return [
            RungResults(
                4**rung,
                {trial: change(loss) for trial, loss in losses.items()},
                audited=self.audited[rung],
                promoted=len(self.promoted[rung]),
            )
            for rung, losses in enumerate(self.losses)
        ]


def _path(seed: int, trial: int, correlations: Sequence[float]) -> list[float]:
    first, *others = (NORMAL.inv_cdf(draw or 0.5) for draw in unit_draws(len(correlations) + 1, seed, trial))
    path = [first]
    for correlation, other in zip(correlations, others, strict=True):
        path.append(correlation * path[-1] + sqrt(1 - correlation**2) * other)
    return path


def tau_of(correlation: float) -> float:
    return 2 / pi * asin(correlation)


def complete(*columns: Sequence[float]) -> list[RungResults]:
    """Return rungs at which every trial has a result, because all were promoted."""
    rungs = [RungResults(nth + 1, dict(enumerate(losses)), (), (), len(losses)) for nth, losses in enumerate(columns)]
    return [*rungs[:-1], replace(rungs[-1], promoted=0)]


# -- Kendall's tau ------------------------------------------------------------------------------


def reference(lower: Sequence[float], upper: Sequence[float]) -> float:
    """Kendall's tau-b by its definition."""
    agreeing = tied_below = tied_above = pairs = 0
    for nth in range(len(lower)):
        for other in range(nth):
            below = [order_of(lower[each]) for each in (nth, other)]
            above = [order_of(upper[each]) for each in (nth, other)]
            pairs += 1
            tied_below += below[0] == below[1]
            tied_above += above[0] == above[1]
            if below[0] != below[1] and above[0] != above[1]:
                agreeing += 1 if (below < below[::-1]) == (above < above[::-1]) else -1
    base = (pairs - tied_below) * (pairs - tied_above)
    return agreeing / sqrt(base) if base else 0.0


@given(st.lists(st.tuples(LOSSES, LOSSES), min_size=4, max_size=30))
def test_agreement_without_selection_is_kendalls_tau_b(results: list[tuple[float, float]]) -> None:
    lower, upper = zip(*results, strict=True)
    (pair,) = measure(complete(lower, upper), Fraction(1_000_001, 1_000_000), Selection.COMPLETE)
    assert isclose(pair.seen, reference(lower, upper), abs_tol=1e-8)
    assert pair.weighted == pair.seen
    assert pair.both == len(results)


def test_tau_equals_scipys() -> None:
    scipy = pytest.importorskip("scipy.stats")
    lower = [round(8 * draw) for draw in unit_draws(80, 1, "lower")]
    upper = [round(8 * draw) + value for draw, value in zip(unit_draws(80, 1, "upper"), lower, strict=True)]
    own = kendall_tau([order_of(value) for value in lower], [order_of(value) for value in upper])
    assert isclose(own, scipy.kendalltau(lower, upper).statistic, abs_tol=1e-12)


@given(st.lists(st.tuples(LOSSES, LOSSES), max_size=60))
def test_fast_tau_equals_tau_of_all_pairs_to_the_last_bit(results: list[tuple[float, float]]) -> None:
    lower, upper = ([order_of(each[side]) for each in results] for side in (0, 1))
    assert kendall_tau(lower, upper) == weighted_tau(lower, upper)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=12),
)
def test_weight_of_a_trial_counts_like_copies_of_it(trials: list[tuple[int, int, int]]) -> None:
    copies = [(lower, upper) for lower, upper, weight in trials for _ in range(weight)]
    lower, upper = ([order_of(float(each[side])) for each in trials] for side in (0, 1))
    own = weighted_tau(lower, upper, [weight for _, _, weight in trials])
    assert isclose(own, reference(*zip(*copies, strict=True)) if copies else 0.0, abs_tol=1e-9)


def test_result_without_any_difference_has_no_agreement() -> None:
    (pair,) = measure(complete([1.0] * 20, [float(n) for n in range(20)]), DIVISOR, Selection.COMPLETE)
    assert (pair.seen, pair.weighted, pair.correlation, pair.agreement) == (0, 0, 0, 0)


# -- probabilities of promotion ------------------------------------------------------------------


@pytest.mark.parametrize("selection", [Selection.PROMOTION, Selection.ON_ARRIVAL])
def test_inclusion_probabilities_are_frequencies_over_random_orders(selection: Selection) -> None:
    trials, orders = 24, 400
    promoted, estimated = [0] * trials, [0.0] * trials
    for order in range(orders):
        draws = unit_draws(trials, 3, "order", order)
        arrivals = sorted(range(trials), key=lambda trial: draws[trial])
        losses: dict[int, float] = {}
        chosen: set[int] = set()
        for trial in arrivals:
            losses[trial] = float(trial)
            best = sorted(losses, key=losses.__getitem__)
            if selection is Selection.ON_ARRIVAL:
                chosen |= {trial} & set(best[: max(1, int(len(losses) / DIVISOR))])
            else:
                chosen |= set(best[: int(len(losses) / DIVISOR)])
        rung = RungResults(1, losses, promoted=len(chosen))
        for trial, chance in inclusion_probabilities(rung, DIVISOR, selection).items():
            estimated[trial] += chance / orders
            promoted[trial] += trial in chosen
    for trial in range(trials):
        assert isclose(estimated[trial], promoted[trial] / orders, abs_tol=0.1)


@given(st.lists(LOSSES, min_size=1, max_size=60))
def test_best_of_the_quota_are_promoted_with_certainty(results: list[float]) -> None:
    rung = RungResults(1, dict(enumerate(results)))
    included = inclusion_probabilities(rung, DIVISOR)
    best = sorted(rung.losses, key=lambda trial: order_of(rung.losses[trial]))[: int(len(results) / DIVISOR)]
    assert all(included[trial] == 1 for trial in best)
    assert all(0 <= chance <= 1 for chance in included.values())


def test_every_promoted_trial_has_a_probability_above_zero() -> None:
    for seed in range(20):
        simulated = Simulated(seed, 100, 0.5, audit=0.1)
        included = inclusion_probabilities(simulated.rungs()[0], DIVISOR)
        assert all(included[trial] > 0 for trial in simulated.promoted[0])


def test_audits_give_waiting_trials_a_probability() -> None:
    rung = RungResults(1, {trial: float(trial) for trial in range(40)}, audited={39}, promoted=11)
    included = inclusion_probabilities(rung, DIVISOR)
    # 29 trials wait and one of them was audited: 1 of 30.
    assert isclose(included[38], 1 / 30)
    assert included[5] == 1


# -- the correction for selection ----------------------------------------------------------------


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.9])
def test_corrected_agreement_is_nearly_unbiased(correlation: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_resamples", lambda count: [[1] * count])
    pairs = [measure(Simulated(seed, 160, correlation).rungs(), DIVISOR)[0] for seed in range(60)]
    truth = tau_of(correlation)
    assert isclose(mean(pair.agreement for pair in pairs), truth, abs_tol=0.05)
    if correlation:
        assert mean(pair.seen for pair in pairs) < truth - 0.06


def test_audits_make_the_weighted_estimate_nearly_unbiased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_resamples", lambda count: [[1] * count])
    pairs = [measure(Simulated(seed, 256, 0.6, audit=0.08).rungs(), DIVISOR)[0] for seed in range(30)]
    truth = tau_of(0.6)
    assert mean(pair.audits for pair in pairs) > 3
    assert isclose(mean(pair.weighted for pair in pairs), truth, abs_tol=0.06)
    assert mean(pair.seen for pair in pairs) < truth - 0.1


def test_agreement_with_a_higher_rung_is_corrected_for_both_selections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_resamples", lambda count: [[1] * count])
    found = [
        pair
        for seed in range(20)
        for pair in measure(Simulated(seed, 400, 0.8, 0.8).rungs(), DIVISOR)
        if (pair.lower, pair.upper) == (0, 2)
    ]
    truth = tau_of(0.64)
    assert isclose(mean(pair.agreement for pair in found), truth, abs_tol=0.08)
    assert mean(pair.seen for pair in found) < truth - 0.2


def test_intervals_contain_the_truth_about_as_often_as_they_should() -> None:
    pairs = [measure(Simulated(seed, 128, 0.5).rungs(), DIVISOR)[0] for seed in range(40)]
    covered = mean(pair.interval.low <= tau_of(0.5) <= pair.interval.high for pair in pairs)
    assert 0.75 <= covered <= 1


@given(st.floats(-0.99, 0.99), st.floats(0.05, 1.0))
def test_restored_correlation_of_two_rungs_is_thorndikes_case_2(correlation: float, variance: float) -> None:
    restricted = [[variance, correlation * sqrt(variance)], [correlation * sqrt(variance), 1.0]]
    (first, across), (_, own) = restored_covariances([[1.0]], restricted)
    ratio = 1 / sqrt(variance)
    expected = correlation * ratio / sqrt(1 - correlation**2 + (correlation * ratio) ** 2)
    assert first == 1.0
    assert isclose(across / sqrt(own), expected, abs_tol=1e-9)


@pytest.mark.parametrize("change", [log, lambda loss: loss**3, lambda loss: 7 * loss - 2])
def test_monotone_transformations_change_nothing(change: Callable[[float], float]) -> None:
    simulated = Simulated(5, 200, 0.6, 0.6, audit=0.05)
    assert measure(simulated.rungs(change), DIVISOR) == measure(simulated.rungs(), DIVISOR)


def test_equal_results_give_equal_numbers_whatever_was_measured_before() -> None:
    rungs = Simulated(2, 120, 0.5, 0.5).rungs()
    before = measure(rungs, DIVISOR)
    trust._resamples.cache_clear()
    assert measure(rungs, DIVISOR) == before


def test_number_of_resampled_trials_is_bounded() -> None:
    trials = 3 * MOST_TRIALS
    draws = unit_draws(2 * trials, 4, "many")
    (pair,) = measure(complete(draws[:trials], draws[trials:]), DIVISOR, Selection.COMPLETE)
    assert pair.both == trials
    assert abs(pair.agreement) < 0.1
    assert pair.interval.low < pair.agreement < pair.interval.high


def test_normal_scores_are_symmetric_and_equal_for_ties() -> None:
    scores = normal_scores({trial: order_of(loss) for trial, loss in enumerate([3.0, 1.0, 2.0, 2.0, nan, inf])})
    assert scores[2] == scores[3]
    assert scores[1] < scores[2] < scores[0] < scores[5] < scores[4]
    assert isclose(scores[1], -scores[4])


@given(st.integers(1, 3_000))
def test_normal_scores_rise_with_the_rank(count: int) -> None:
    scores = normal_scores({trial: (0, float(trial)) for trial in range(count)})
    assert all(before <= after for before, after in pairwise(scores[trial] for trial in range(count)))


# -- odd results -----------------------------------------------------------------------------------


def test_nan_and_infinities_rank_worst() -> None:
    lower = [float(n) for n in range(16)] + [inf, -inf, nan, nan]
    (pair,) = measure(complete(lower, lower), DIVISOR, Selection.COMPLETE)
    assert pair.both == 20
    assert pair.seen == pair.weighted == 1
    assert isclose(pair.agreement, 1, abs_tol=1e-4)


def test_trials_that_failed_count_in_the_rung_but_not_in_the_agreement() -> None:
    lower = {trial: float(trial) for trial in range(20)} | {20: nan}
    upper = {trial: float(trial) for trial in range(18)} | {18: nan, 19: nan}
    rungs = [RungResults(1, lower, {20}, promoted=20), RungResults(4, upper, {18, 19})]
    (pair,) = measure(rungs, DIVISOR)
    assert (pair.arrived, pair.both) == (21, 18)
    assert pair.seen == 1
    assert pair.agreement > 0.9


@given(st.lists(st.tuples(LOSSES, st.none() | LOSSES), max_size=25), st.sampled_from(Selection))
def test_any_results_give_numbers(results: list[tuple[float, float | None]], selection: Selection) -> None:
    lower = {trial: loss for trial, (loss, _) in enumerate(results)}
    upper = {trial: loss for trial, (_, loss) in enumerate(results) if loss is not None}
    rungs = [RungResults(1, lower, promoted=len(upper)), RungResults(4, upper)]
    (pair,) = measure(rungs, DIVISOR, selection)
    for value in (pair.seen, pair.weighted, pair.agreement, *pair.interval, *pair.weighted_interval):
        assert -1 <= value <= 1
    price = price_of_stopping(pair, rungs[0], upper.keys(), upper.values())
    assert 0 <= price.chance <= 1
    assert price.regret >= 0
    assert verdict([pair]).level in Level


# -- the price of stopping -------------------------------------------------------------------------


@pytest.mark.parametrize("correlation", [0.0, 0.4, 0.8])
def test_price_of_stopping_is_that_of_simulated_brackets(correlation: float) -> None:
    chances, regrets, stopped, lost = [], [], [], []
    for seed in range(150):
        simulated = Simulated(seed, 64, correlation)
        losses, promoted = simulated.losses[0], simulated.promoted[0]
        pair = Pair(0, 1, 1, 4, 64, len(promoted), correlation=correlation)
        upper = [simulated.latent[trial][1] for trial in promoted]
        price = price_of_stopping(pair, RungResults(1, losses), promoted, upper)
        chances.append(price.chance)
        regrets.append(price.regret)
        best = min(simulated.latent[trial][1] for trial in promoted)
        missed = min(simulated.latent[trial][1] for trial in losses.keys() - promoted)
        stopped.append(missed < best)
        lost.append(max(0.0, best - missed))
    assert isclose(mean(chances), mean(stopped), abs_tol=0.1)
    assert isclose(mean(regrets), mean(lost), abs_tol=0.12)


def test_price_is_zero_if_no_trial_was_stopped() -> None:
    losses = {trial: float(trial) for trial in range(20)}
    (pair,) = measure(complete(list(losses.values()), list(losses.values())), DIVISOR, Selection.COMPLETE)
    price = price_of_stopping(pair, RungResults(1, losses), losses.keys(), losses.values())
    assert (price.stopped, price.chance, price.regret) == (0, 0, 0)


# -- the verdict -----------------------------------------------------------------------------------


def pair_of(lower: int, upper: int, agreement: float, width: float = 0.1, both: int = ENOUGH, tied: float = 0) -> Pair:
    interval = Interval(agreement - width, agreement + width)
    return Pair(lower, upper, 4**lower, 4**upper, 100, both, tied=tied, agreement=agreement, interval=interval)


GOOD, BAD = MISLEADS + 0.2, MISLEADS - 0.3


def test_verdict_is_trustworthy_if_the_first_rung_predicts_the_last() -> None:
    assert verdict([pair_of(0, 1, GOOD), pair_of(1, 2, GOOD)]) == (Level.TRUSTWORTHY, 0)


def test_random_first_rung_does_not_change_a_verdict_if_the_others_agree() -> None:
    random = pair_of(0, 1, 0.0)
    assert is_trusted(random) is False
    assert verdict([random, pair_of(1, 2, 0.8)]) == (Level.TRUSTWORTHY, 0)
    assert verdict([random, pair_of(1, 2, 0.0)]) == (Level.NOT_TRUSTWORTHY, None)


def test_verdict_counts_uncertain_agreement_less() -> None:
    pairs = [pair_of(0, 1, MISLEADS - 0.1, width=0.05), pair_of(1, 2, MISLEADS - 0.1, width=0.05)]
    assert verdict(pairs) == (Level.NOT_TRUSTWORTHY, None)
    assert verdict([pair_of(0, 1, MISLEADS - 0.1, width=0.6)]) == (Level.TRUSTWORTHY, 0)


def test_verdict_names_the_rung_after_the_last_reversed_one() -> None:
    pairs = [pair_of(0, 1, GOOD), pair_of(1, 2, BAD), pair_of(2, 3, GOOD)]
    assert verdict(pairs) == (Level.FROM_RUNG, 2)


def test_verdict_is_not_trustworthy_if_no_rung_is_known_to_predict() -> None:
    assert verdict([pair_of(0, 1, BAD), pair_of(1, 2, GOOD, both=ENOUGH - 1)]) == (Level.NOT_TRUSTWORTHY, None)


def test_verdict_needs_enough_trials() -> None:
    assert verdict([]) == (Level.TOO_EARLY, None)
    assert verdict([pair_of(0, 1, GOOD, both=ENOUGH - 1)]) == (Level.TOO_EARLY, None)


def test_rungs_above_one_that_misleads_need_more_agreement() -> None:
    doubtful = MISLEADS + 0.05
    assert verdict([pair_of(0, 1, doubtful)]) == (Level.TRUSTWORTHY, 0)
    assert verdict([pair_of(0, 1, BAD), pair_of(1, 2, doubtful)]) == (Level.NOT_TRUSTWORTHY, None)


def test_rung_is_judged_by_the_highest_one_with_enough_results() -> None:
    pairs = [pair_of(0, 1, GOOD), pair_of(0, 3, BAD)]
    assert decisive(pairs) == {0: pairs[1]}
    assert verdict(pairs) == (Level.NOT_TRUSTWORTHY, None)
    pairs = [pair_of(0, 1, GOOD), pair_of(0, 3, BAD, both=ENOUGH - 1)]
    assert decisive(pairs) == {0: pairs[0]}
    assert verdict(pairs) == (Level.TRUSTWORTHY, 0)


def test_rung_of_nearly_equal_results_misleads_unless_the_others_are_known_to_be_good() -> None:
    assert is_trusted(pair_of(0, 1, PROVEN - 0.1, tied=0.9)) is False
    assert is_trusted(pair_of(0, 1, GOOD, both=3, tied=0.9)) is False
    assert is_trusted(pair_of(0, 1, PROVEN, tied=0.9)) is True
    assert is_trusted(pair_of(0, 1, GOOD, tied=0.5)) is True
    assert verdict([pair_of(0, 1, GOOD, both=3, tied=0.9)]) == (Level.NOT_TRUSTWORTHY, None)


def test_verdict_of_simulated_brackets() -> None:
    good = [verdict(measure(Simulated(seed, 300, 0.9).rungs(), DIVISOR)).level for seed in range(10)]
    bad = [verdict(measure(Simulated(seed, 600, 0.0, 0.0).rungs(), DIVISOR)).level for seed in range(10)]
    assert good.count(Level.TRUSTWORTHY) == 10
    assert bad.count(Level.NOT_TRUSTWORTHY) >= 6
