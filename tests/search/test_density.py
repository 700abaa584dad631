from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.search.conditions import When
from ashwood.search.density import CANDIDATES, RANDOM_EVERY, DensitySampler, _smears
from ashwood.search.draw import unit_draws
from ashwood.search.space import Categorical, Const, Double, Hyperparameter, Int, Log, Space, Tree

TREE: Tree = {
    "lr": Log(-4, -1),
    "layers": Int(1, 5),
    "optimizer": {"momentum": Double(0.1, 0.9), "name": Categorical(("adam", "sgd", None))},
    "epochs": Const(3),
}


def learned(sampler: DensitySampler, trials: int, *, good: int) -> tuple[list[dict[str, Any]], list[int]]:
    """So many random trials that are known, of which those with the highest momentum are good."""
    values = [sampler.sample(trial, 0, trial * RANDOM_EVERY, ()) for trial in range(trials)]
    for trial in range(trials):
        sampler.note(trial)
    best = sorted(range(trials), key=lambda trial: -values[trial]["optimizer"]["momentum"])
    return values, best[:good]


def test_it_draws_where_good_trials_have_been() -> None:
    sampler = DensitySampler(Space(TREE), 1)
    values, good = learned(sampler, 80, good=20)
    drawn = [sampler.sample(100 + n, 0, 1 + RANDOM_EVERY * n, good) for n in range(100)]
    before = sum(each["optimizer"]["momentum"] for each in values) / len(values)
    after = sum(each["optimizer"]["momentum"] for each in drawn) / len(drawn)
    assert before < 0.6 < 0.7 < after
    # What doesn't matter stays spread.
    assert {each["layers"] for each in drawn} == {1, 2, 3, 4, 5}
    assert {each["optimizer"]["name"] for each in drawn} == {"adam", "sgd", None}


def test_before_anything_is_known_it_draws_as_random_search_does() -> None:
    space = Space(TREE)
    sampler = DensitySampler(space, 5)
    assert sampler.sample(0, 1, 2, ()) == space.sample(5, 1, 2)


def test_one_in_so_many_is_drawn_at_random_whatever_is_known() -> None:
    space = Space(TREE)
    sampler = DensitySampler(space, 1)
    _, good = learned(sampler, 40, good=10)
    assert sampler.sample(90, 3, 7 * RANDOM_EVERY, good) == space.sample(1, 3, 7 * RANDOM_EVERY)
    assert sampler.sample(91, 3, 7 * RANDOM_EVERY + 1, good) != space.sample(1, 3, 7 * RANDOM_EVERY + 1)


def test_a_trial_counts_once() -> None:
    one, other = DensitySampler(Space(TREE), 1), DensitySampler(Space(TREE), 1)
    _, good = learned(one, 40, good=10)
    learned(other, 40, good=10)
    for _ in range(5):
        other.note(3)
    assert one.sample(50, 0, 1, good) == other.sample(50, 0, 1, good)


def test_a_space_of_constants_is_as_it_is() -> None:
    sampler = DensitySampler(Space({"a": Const(1)}), 0)
    _ = [sampler.sample(trial, 0, trial, ()) for trial in range(9)]
    for trial in range(9):
        sampler.note(trial)
    assert sampler.sample(9, 0, 9, [1, 2]) == {"a": 1}


@given(seed=st.integers(0, 2**31), trials=st.integers(2, 30), data=st.data())
def test_whatever_it_has_learned_values_are_within_bounds_and_the_same_again(
    seed: int, trials: int, data: st.DataObject
) -> None:
    good = data.draw(st.lists(st.integers(0, trials - 1), min_size=1, unique=True))
    drawn = []
    for _ in range(2):
        sampler = DensitySampler(Space(TREE), seed)
        learned(sampler, trials, good=0)
        drawn.append([sampler.sample(trials + n, 0, n, good) for n in range(8)])
    assert drawn[0] == drawn[1]
    for values in drawn[0]:
        assert 1e-4 <= values["lr"] <= 0.1
        assert values["layers"] in range(1, 6)
        assert 0.1 <= values["optimizer"]["momentum"] <= 0.9
        assert values["epochs"] == 3


def test_absent_hyperparameters_teach_nothing() -> None:
    def drawn(when: When | None) -> list[Any]:
        space = Space({"on": Categorical((True, False)), "x": Double(0.0, 1.0, when=when)})
        sampler = DensitySampler(space, 3)
        values = [sampler.sample(trial, 0, trial * RANDOM_EVERY, ()) for trial in range(200)]
        having = [trial for trial in range(200) if values[trial]["on"]]
        for trial in having if when is None else range(200):
            sampler.note(trial)
        good = sorted(having, key=lambda trial: values[trial]["x"])[:20]
        return [sampler.sample(200 + n, 0, 1 + RANDOM_EVERY * n, good) for n in range(40)]

    conditional, without = drawn({"on": True}), drawn(None)
    # All good trials have "on", so the sampler prefers it where trials without it are known.
    assert sum(each["on"] for each in conditional) > sum(each["on"] for each in without)
    assert all(("x" in each) == each["on"] for each in conditional)
    assert max(each["x"] for each in conditional if "x" in each) < 0.5


@pytest.mark.parametrize("bound", [1.2, 0.1])
def test_candidates_that_break_a_constraint_are_skipped(bound: float) -> None:
    sampler = DensitySampler(Space({"a": Double(0.0, 1.0), "b": Double(0.0, 1.0)}, (f"a + b <= {bound}",)), 3)
    values = [sampler.sample(trial, 0, trial * RANDOM_EVERY, ()) for trial in range(12)]
    for trial in range(12):
        sampler.note(trial)
    drawn = [sampler.sample(12 + n, 0, 1 + RANDOM_EVERY * n, [0, 1, 2]) for n in range(4)]
    assert all(each["a"] + each["b"] <= bound for each in [*values, *drawn])


def test_condition_leaves_all_256_bins_to_other_hyperparameters() -> None:
    many = tuple(range(300))
    space = Space({"a": Categorical(many), "b": Categorical(many, when={"a": list(range(150))})})
    sampler = DensitySampler(space, 1)
    values = [sampler.sample(trial, 0, trial, ()) for trial in range(600)]
    for trial in range(600):
        sampler.note(trial)
    good = [trial for trial in range(600) if values[trial]["a"] == 299] or [0]
    assert sampler.sample(600, 0, 601, good)


def test_ordered_values_and_steps_learn_from_neighbours_as_integers_do() -> None:
    vals = tuple(range(32))
    leaves: list[Hyperparameter] = [
        Int(0, 31),
        Int(0, 62, step=2),
        Double(0.0, 3.1, step=0.1),
        Categorical(vals, ordered=True),
    ]
    drawn = []
    for leaf in leaves:
        sampler = DensitySampler(Space({"x": leaf}), 3)
        values = [sampler.sample(trial, 0, trial * RANDOM_EVERY, ())["x"] for trial in range(40)]
        for trial in range(40):
            sampler.note(trial)
        good = sorted(range(40), key=lambda trial: values[trial])[:10]
        drawn.append([sampler.sample(40 + n, 0, 1 + RANDOM_EVERY * n, good)["x"] for n in range(30)])
    ints, steps, doubles, ordered = drawn
    assert ints == ordered == [value / 2 for value in steps] == [round(value * 10) for value in doubles]


@pytest.mark.parametrize("size", [1, 2, 5, 16])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_trial_weighs_one_in_all_and_most_where_it_is(size: int, ordered: bool) -> None:
    for cell, smear in enumerate(_smears(size, ordered=ordered)):
        assert sum(weight for _, weight in smear) == pytest.approx(1)
        assert all(0 <= at < size for at, _ in smear)
        # At an edge what would fall outside is reflected.
        assert cell in (0, 1, size - 2, size - 1) or max(smear, key=lambda each: each[1])[0] == cell


def test_draws_at_one_address_are_uniform_and_independent_of_how_many() -> None:
    few, many = unit_draws(3, 7, "candidate", 1), unit_draws(20, 7, "candidate", 1)
    assert list(few) == list(many)[:3]
    draws = [draw for n in range(500) for draw in unit_draws(9, 7, n)]
    assert all(0 <= draw < 1 for draw in draws)
    assert sum(draws) / len(draws) == pytest.approx(0.5, abs=0.02)
    assert len(set(draws)) == len(draws)
    assert CANDIDATES > 1


def test_given_values_are_used_and_others_are_drawn_as_before() -> None:
    space = Space(TREE)
    sampler = DensitySampler(space, 1)
    given = {"lr": 5.0, "optimizer.name": "sgd"}
    assert sampler.sample(0, 0, 0, (), given=given) == space.sample(1, 0, 0, given)
    _, good = learned(sampler, 40, good=10)
    drawn = sampler.sample(90, 0, 1, good, given=given)
    assert (drawn["lr"], drawn["optimizer"]["name"]) == (5.0, "sgd")


def test_sampler_learns_from_given_values() -> None:
    space = Space({"x": Double(0, 1)})
    sampler = DensitySampler(space, 1)
    for trial in range(40):
        sampler.sample(trial, 0, trial, (), given={"x": 0.9 if trial < 10 else 0.3})
        sampler.note(trial)
    drawn = [sampler.sample(40 + n, 0, 1 + RANDOM_EVERY * n, range(10))["x"] for n in range(20)]
    assert all(0.8 < x < 1 for x in drawn)


def test_trial_with_unknown_choice_is_not_learned_from() -> None:
    one, other = DensitySampler(Space(TREE), 1), DensitySampler(Space(TREE), 1)
    _, good = learned(one, 40, good=10)
    learned(other, 40, good=10)
    one.sample(80, 0, 1, (), given={"optimizer.name": "lion"})
    one.note(80)
    assert one.sample(50, 0, 1, [*good, 80]) == other.sample(50, 0, 1, good)
