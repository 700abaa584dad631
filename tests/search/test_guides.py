"""Priors and past trials as guides of the density sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.search.density import RANDOM_EVERY, DensitySampler
from ashwood.search.draw import unit_draws
from ashwood.search.guides import Confidence, PastTrials, Prior, normalized, prior_weights, warped
from ashwood.search.space import Categorical, Double, Int, Log, Space

SPACE = Space({"lr": Log(-4, -1), "layers": Int(1, 5), "optimizer": {"momentum": Double(0, 1)}})
TRIALS = 96

weights = st.lists(st.floats(0.01, 100), min_size=1, max_size=16).map(normalized)


# Momentum of the trials after those of `learned`, as versions with rules 4 and 5 drew them.
FORMER = {
    (4, "prior"): [0.838678, 0.952442, 0.828546, 0.891427, 0.437805, 0.699659, 0.891045, 0.922599],
    (4, "past trials"): [0.838678, 0.946681, 0.882555, 0.895983, 0.437805, 0.906538, 0.986006, 0.922599],
    (5, "prior"): [0.838678, 0.594643, 0.763767, 0.968259, 0.437805, 0.699659, 0.891045, 0.705381],
    (5, "past trials"): [0.838678, 0.946681, 0.896005, 0.986263, 0.437805, 0.879306, 0.951054, 0.881271],
}


def with_prior(value: float, confidence: Confidence = Confidence.MEDIUM) -> Space:
    return Space({**SPACE.tree, "optimizer": {"momentum": Double(0, 1, prior=Prior(value, confidence))}})


def past(momentum: float) -> PastTrials:
    good = [{"lr": 0.01, "optimizer.momentum": momentum, "gone": 3} for _ in range(20)]
    others = [{"lr": 0.01, "optimizer.momentum": unit} for unit in unit_draws(60, 0, "others")]
    return PastTrials("1", good, others)


def momentum(setting: dict[str, Any]) -> float:
    found: float = setting["optimizer"]["momentum"]
    return found


def mean(settings: Sequence[dict[str, Any]]) -> float:
    return sum(map(momentum, settings)) / len(settings)


def learned(sampler: DensitySampler, *, sign: int) -> list[int]:
    """Create trials that have results, and return the best ones: those with the largest momentum if the sign is 1."""
    values = [sampler.sample(trial, 0, trial, ()) for trial in range(TRIALS)]
    for trial in range(TRIALS):
        sampler.note(trial)
    return sorted(range(TRIALS), key=lambda trial: -sign * momentum(values[trial]))[: TRIALS // 4]


SAMPLERS = {
    "prior": lambda **rules: DensitySampler(with_prior(0.9), 1, **rules),
    "past trials": lambda **rules: DensitySampler(SPACE, 1, (past(0.9),), **rules),
}


def test_half_of_the_first_trials_are_drawn_by_the_prior() -> None:
    sampler = SAMPLERS["prior"]()
    settings = [sampler.sample(trial, 0, trial, ()) for trial in range(400)]
    guided = [each for n, each in enumerate(settings) if each != SPACE.sample(1, 0, n)]
    others = [each for n, each in enumerate(settings) if each == SPACE.sample(1, 0, n)]
    assert 170 < len(guided) < 230
    assert mean(others) < 0.6 < 0.65 < mean(guided)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_guide_raises_the_share_of_draws_near_it_as_long_as_results_agree(kind: str) -> None:
    sampler, plain = SAMPLERS[kind](), DensitySampler(SPACE, 1)
    drawn = []
    for each in (sampler, plain):
        judges = learned(each, sign=1)
        # The longest rung has only some trials of all kinds, so that the sampler itself knows little.
        good = range(0, TRIALS, 10)
        drawn.append([each.sample(TRIALS + n, 0, 1 + RANDOM_EVERY * n, good, judges) for n in range(60)])
    assert mean(drawn[0]) > mean(drawn[1]) + 0.05


def equal_draws(sampler: DensitySampler, good: Callable[[Sequence[dict[str, Any]]], Sequence[int]]) -> int:
    """Return how many of 200 later draws are those of a sampler without guides.

    It knows the same trials, or only those that did not follow guides.

    Args:
        sampler: a sampler with guides.
        good: function from the settings of the first trials to the good trials.
    """
    values = [sampler.sample(trial, 0, trial, ()) for trial in range(TRIALS)]
    random = [trial for trial in range(TRIALS) if values[trial] == SPACE.sample(1, 0, trial)]
    everyone, others = DensitySampler(SPACE, 1), DensitySampler(SPACE, 1)
    everyone._cells = sampler._cells.copy()
    others._cells = {trial: sampler._cells[trial] for trial in random}
    for trial in range(TRIALS):
        for each in (sampler, everyone, others):
            each.note(trial)
    best, equal = good(values), 0
    for index in range(1, 200 * RANDOM_EVERY, RANDOM_EVERY):
        drawn = sampler.sample(TRIALS, 0, index, best, best)
        equal += drawn in [each.sample(TRIALS, 0, index, best) for each in (everyone, others)]
    return equal


@pytest.mark.parametrize("kind", SAMPLERS)
def test_guide_that_misleads_is_given_up(kind: str) -> None:
    def lowest(values: Sequence[dict[str, Any]]) -> Sequence[int]:
        return sorted(range(TRIALS), key=lambda trial: momentum(values[trial]))[: TRIALS // 4]

    assert equal_draws(SAMPLERS[kind](), lowest) == 200


def test_trials_that_followed_a_guide_are_ignored_after_it_is_given_up() -> None:
    sampler, plain = SAMPLERS["prior"](), DensitySampler(SPACE, 1)
    values = [sampler.sample(trial, 0, trial, ()) for trial in range(TRIALS)]
    for trial in range(TRIALS):
        sampler.note(trial)
        if plain.sample(trial, 0, trial, ()) == values[trial]:
            plain.note(trial)
    good = sorted(range(TRIALS), key=lambda trial: momentum(values[trial]))[: TRIALS // 4]
    random = [trial for trial in good if values[trial] == SPACE.sample(1, 0, trial)]
    assert len(random) < len(good)
    for index in range(1, 40 * RANDOM_EVERY, RANDOM_EVERY):
        assert sampler.sample(TRIALS, 0, index, good, good) == plain.sample(TRIALS, 0, index, random)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_guide_without_relation_to_the_results_is_followed_rarely(kind: str) -> None:
    def nth(quarter: int, values: Sequence[dict[str, Any]]) -> Sequence[int]:
        return range(quarter, len(values), 4)

    followed = [200 - equal_draws(SAMPLERS[kind](), partial(nth, quarter)) for quarter in range(4)]
    assert sum(followed) < 0.25 * 800


def test_one_of_many_guides_that_agrees_is_followed_by_its_part_of_the_trials() -> None:
    one = DensitySampler(SPACE, 1, (past(0.9),))
    five = DensitySampler(SPACE, 1, (past(0.9), *[past(0.1)] * 4))

    def highest(values: Sequence[dict[str, Any]]) -> Sequence[int]:
        return sorted(range(TRIALS), key=lambda trial: -momentum(values[trial]))[: TRIALS // 4]

    assert 200 - equal_draws(one, highest) > 3 * (200 - equal_draws(five, highest)) > 0


def test_past_search_is_not_followed_before_there_are_results() -> None:
    sampler = DensitySampler(SPACE, 1, (past(0.9),))
    assert [sampler.sample(n, 0, n, ()) for n in range(40)] == [SPACE.sample(1, 0, n) for n in range(40)]


def test_prior_has_its_full_share_of_the_first_trials_beside_past_searches() -> None:
    alone, beside = DensitySampler(with_prior(0.9), 1), DensitySampler(with_prior(0.9), 1, (past(0.1),) * 5)
    assert [alone.sample(n, 0, n, ()) for n in range(40)] == [beside.sample(n, 0, n, ()) for n in range(40)]


@pytest.mark.parametrize(("start", "is_followed"), [(0.9, True), (0.05, False)])
def test_past_search_is_followed_only_if_its_settings_are_among_the_good_ones(start: float, is_followed: bool) -> None:
    values = {"lr": 0.01, "optimizer.momentum": start}
    sampler = DensitySampler(SPACE, 1, (PastTrials("1", [*past(0.9).good, values], past(0.9).others),))
    trials = range(TRIALS)
    settings = [sampler.sample(trial, 0, trial, (), given=values if trial < 4 else {}) for trial in trials]
    for trial in trials:
        sampler.note(trial)
    good = sorted(trials, key=lambda trial: -momentum(settings[trial]))[: TRIALS // 4]
    sampler.sample(TRIALS, 0, 1, (), good)
    assert sampler._ignores_followers is not is_followed


@pytest.mark.parametrize(("rules", "kind"), FORMER)
def test_draws_of_former_rules_stay(rules: int, kind: str) -> None:
    sampler = SAMPLERS[kind](rules=rules)
    judges = learned(sampler, sign=1)
    drawn = [sampler.sample(TRIALS + n, 0, n, range(0, TRIALS, 10), judges) for n in range(8)]
    assert [round(momentum(each), 6) for each in drawn] == FORMER[rules, kind]


def test_past_trials_without_a_common_hyperparameter_change_no_setting_much() -> None:
    sampler = DensitySampler(SPACE, 1, (PastTrials("1", [{"a": 1}] * 9, [{"b": 2}] * 9),))
    assert all(weight == pytest.approx(1) for of_bins in sampler._guides[0].weights for weight in of_bins)


@given(value=st.floats(0, 1), confidence=st.sampled_from(Confidence), seed=st.integers(0, 99))
def test_draws_with_a_prior_are_in_the_space_and_repeatable(value: float, confidence: Confidence, seed: int) -> None:
    space = with_prior(value, confidence)
    drawn = []
    for _ in range(2):
        sampler = DensitySampler(space, seed)
        good = learned(sampler, sign=1)
        drawn.append([sampler.sample(TRIALS + n, 0, n, good, good) for n in range(12)])
    assert drawn[0] == drawn[1]
    for setting in drawn[0]:
        assert 0 <= momentum(setting) <= 1
        assert setting["layers"] in range(1, 6)


@given(unit=st.floats(0, 1), bins=st.integers(2, 16), ordered=st.booleans())
def test_prior_weights_are_largest_at_the_value_and_larger_with_confidence(
    unit: float, bins: int, ordered: bool
) -> None:
    at = min(bins - 1, int(unit * bins))
    largest = []
    for confidence in Confidence:
        found = prior_weights(confidence, unit, bins, ordered=ordered)
        assert sum(found) == pytest.approx(bins)
        assert found[at] == pytest.approx(max(found), rel=1e-12)  # Between two middles, both bins have the largest.
        largest.append(round(found[at], 12))
    assert largest == sorted(largest)


@given(weights, st.floats(0, 1, exclude_max=True))
def test_warped_draw_is_below_1_and_in_order(found: list[float], unit: float) -> None:
    assert 0 <= warped(unit, found) < 1
    assert warped(unit / 2, found) <= warped(unit, found)


def test_warped_draws_have_the_weights() -> None:
    found = normalized([1, 3, 0.5])
    positions = [warped(unit, found) for unit in unit_draws(20_000, 3, "warped")]
    shares = [sum(n / 3 <= position < (n + 1) / 3 for position in positions) / len(positions) for n in range(3)]
    assert shares == pytest.approx([weight / 3 for weight in found], abs=0.01)


def test_prior_of_a_choice() -> None:
    leaf = Categorical(("adam", "sgd", "rmsprop"), prior=Prior("sgd", Confidence.HIGH))
    sampler = DensitySampler(Space({"optimizer": leaf}), 0)
    drawn = [sampler.sample(trial, 0, trial, ())["optimizer"] for trial in range(0, 400, 2)]
    assert drawn.count("sgd") > 100  # At random: 67 of 200; half of the draws follow the prior.
    assert set(drawn) == {"adam", "sgd", "rmsprop"}
    assert replace(leaf, prior=None) != leaf
