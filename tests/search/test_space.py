"""What hyperparameters are drawn and what a grid holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise, product
from math import inf, isfinite, nan
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ashwood.search.conditions import parse_test
from ashwood.search.space import Categorical, Const, Double, Group, Hyperparameter, Int, Log, Space, Tree, values_of
from ashwood.views import table

units = st.floats(0, 1, exclude_max=True)
LARGEST_UNIT = 1 - 2**-53
names = st.text(min_size=1, max_size=4)
finite = st.floats(allow_nan=False, allow_infinity=False)


def trees(leaves: st.SearchStrategy[Hyperparameter]) -> st.SearchStrategy[Tree]:
    def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Tree]:
        return st.dictionaries(names, inner, min_size=1, max_size=4)

    return deeper(st.recursive(leaves, deeper, max_leaves=8))


hyperparameters: st.SearchStrategy[Hyperparameter] = st.one_of(
    st.builds(Const, st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)),
    st.builds(Int, st.integers(-9, 0), st.integers(1, 9), st.integers(1, 5)),
    st.builds(Double, st.floats(-9, 0), st.floats(1, 9), st.integers(1, 5)),
    st.builds(Int, st.integers(-9, 0), st.integers(4, 9), st.integers(1, 5), st.integers(1, 4)),
    st.builds(Int, st.integers(1, 9), st.integers(10, 99), st.integers(1, 5), log=st.just(True)),
    st.builds(Double, st.floats(-9, 0), st.floats(1, 9), st.integers(1, 5), st.sampled_from([0.1, 0.25, 0.3, 1.0])),
    st.builds(Double, st.floats(1e-6, 1), st.floats(2, 9), st.integers(1, 5), log=st.just(True)),
    st.builds(Log, st.floats(-9, 0), st.floats(1, 9), st.sampled_from([2.0, 10.0, 2.5]), st.integers(1, 5)),
    st.builds(Categorical, st.lists(st.text(max_size=2), min_size=1, max_size=4, unique=True).map(tuple)),
)

EVERYTHING = Space(
    {
        "lr": Log(-5, -1),
        "momentum": Double(0.2, 0.9),
        "layers": Int(1, 6),
        "model": {"activation": Categorical(("relu", "tanh", "gelu")), "size": {"width": Log(3, 8, base=2.0)}},
        "epochs": Const(10),
    }
)


# -- draws -------------------------------------------------------------------------------------


def test_the_values_never_change() -> None:
    # For ever: a recorded search must replay to the same hyperparameters.
    assert EVERYTHING.sample(seed=0, bracket=0, index=0) == {
        "lr": 0.014345053120554726,
        "momentum": 0.4187232898671035,
        "layers": 1,
        "model": {"activation": "tanh", "size": {"width": 240.79167493267988}},
        "epochs": 10,
    }
    assert EVERYTHING.sample(seed=2024, bracket=2, index=99) == {
        "lr": 0.00043793530012811146,
        "momentum": 0.6756348372455264,
        "layers": 3,
        "model": {"activation": "tanh", "size": {"width": 11.743936268194373}},
        "epochs": 10,
    }


def flatten(values: dict[str, Any], space: Space) -> dict[tuple[str, ...], Any]:
    found = {}
    for path, _ in space.leaves():
        at: Any = values
        for name in path:
            at = at[name]
        found[path] = at
    return found


@settings(max_examples=40)
@given(one=trees(hyperparameters), other=trees(hyperparameters), seed=st.integers(), index=st.integers(0, 10**6))
def test_a_value_depends_on_no_other_hyperparameter(one: Tree, other: Tree, seed: int, index: int) -> None:
    assume(not one.keys() & other.keys())
    alone = Space(one).sample(seed, 1, index)
    for both in (Space({**one, **other}), Space({**other, **one})):
        together = both.sample(seed, 1, index)
        assert {name: together[name] for name in one} == alone


@settings(max_examples=40)
@given(tree=trees(hyperparameters), seed=st.integers())
def test_values_come_in_the_shape_and_the_order_of_the_space(tree: Tree, seed: int) -> None:
    def same_shape(values: Any, node: Any) -> None:
        if isinstance(node, dict):
            assert list(values) == list(node)
            for name in node:
                same_shape(values[name], node[name])

    space = Space(tree)
    same_shape(space.sample(seed, 0, 0), tree)
    same_shape(space.grid_point(0), tree)


def test_draws_differ_by_seed_bracket_trial_and_name() -> None:
    space = Space({"a": Double(0, 1), "b": Double(0, 1), "c": {"a": Double(0, 1)}})
    drawn = [
        value
        for seed, bracket, index in product(range(3), range(3), range(30))
        for value in flatten(space.sample(seed, bracket, index), space).values()
    ]
    assert len(set(drawn)) == len(drawn) == 3 * 3 * 30 * 3


@given(low=st.integers(-(2**70), 2**70), span=st.integers(0, 2**70), unit=units)
@example(low=0, span=2**53, unit=LARGEST_UNIT)
@example(low=0, span=2, unit=LARGEST_UNIT)
def test_an_int_is_in_its_range(low: int, span: int, unit: float) -> None:
    value = Int(low, low + span).at(unit)
    assert isinstance(value, int)
    assert low <= value <= low + span


def test_an_int_reaches_both_ends_and_all_between_alike() -> None:
    die = Int(-2, 3)
    assert (die.at(0.0), die.at(LARGEST_UNIT)) == (-2, 3)
    assert Counter(die.at(i / 6_000) for i in range(6_000)) == dict.fromkeys(range(-2, 4), 1_000)


@given(low=finite, high=finite, unit=units)
@example(low=-1.7e308, high=1.7e308, unit=0.0)
@example(low=0.1, high=0.3, unit=LARGEST_UNIT)
def test_a_double_is_in_its_range(low: float, high: float, unit: float) -> None:
    low, high = min(low, high), max(low, high)
    assert low <= Double(low, high).at(unit) <= high


@given(low=st.floats(-20, 20), high=st.floats(-20, 20), base=st.sampled_from([0.5, 2.0, 2.718281828459045, 10.0]))
def test_a_log_is_between_the_powers_of_its_bounds(low: float, high: float, base: float) -> None:
    low, high = min(low, high), max(low, high)
    spread = Log(low, high, base=base)
    ends = sorted((spread.at(0.0), spread.at(1.0)))
    for unit in (0.1, 0.5, LARGEST_UNIT):
        assert ends[0] <= spread.at(unit) <= ends[1]
        assert 0 < spread.at(unit) < inf


@pytest.mark.parametrize("exponent", range(-12, 13))
def test_whole_powers_of_ten_are_exact(exponent: int) -> None:
    # 10 ** -5.0 is 1.0000000000000001e-05 with some libraries of C; never here.
    assert Log(exponent, exponent + 1).at(0.0) == float(f"1e{exponent}")
    assert Log(exponent - 1, exponent).at(1.0) == float(f"1e{exponent}")


def test_a_log_is_uniform_in_its_exponent() -> None:
    assert Log(-4, -2).at(0.5) == 1e-3
    assert Log(0, 10, base=2.0).at(0.3) == 8.0
    # Correctly rounded: 10**0.5 to 30 digits is 3.16227766016837933199889354443.
    assert Log(0, 1).at(0.5) == 3.16227766016837933199889354443


@given(count=st.integers(1, 5_000), unit=units)
@example(count=3, unit=LARGEST_UNIT)
@example(count=4097, unit=LARGEST_UNIT)
def test_a_choice_is_one_of_its_values(count: int, unit: float) -> None:
    assert Categorical(tuple(range(count))).at(unit) == int(unit * count) < count


def test_samples_look_uniform() -> None:
    samples = [EVERYTHING.sample(9, 0, i) for i in range(3_000)]
    activations = Counter(sample["model"]["activation"] for sample in samples)
    assert all(abs(n - 1_000) < 130 for n in activations.values())  # five sigma, and the draws are fixed
    layers = Counter(sample["layers"] for sample in samples)
    assert set(layers) == {1, 2, 3, 4, 5, 6}
    assert all(abs(n - 500) < 103 for n in layers.values())
    assert abs(sum(sample["lr"] < 1e-3 for sample in samples) - 1_500) < 137
    assert {sample["epochs"] for sample in samples} == {10}


# -- steps and logarithmic scales --------------------------------------------------------------


@given(low=st.integers(-(2**63), 2**62), span=st.integers(1, 2**62), step=st.integers(1, 2**40), unit=units)
def test_int_with_step_is_one_of_its_values(low: int, span: int, step: int, unit: float) -> None:
    leaf = Int(low, low + span, step=step)
    assert leaf.at(unit) in range(low, low + span + 1, step)
    assert leaf.at(0.0) == low


@given(low=st.decimals(-99, 99, places=2), step=st.decimals("0.01", 9, places=2), size=st.integers(1, 500), unit=units)
def test_double_with_step_is_the_decimal_that_a_user_expects(
    low: Decimal, step: Decimal, size: int, unit: float
) -> None:
    leaf = Double(float(low), float(low + step * (size - 1) + step / 2), step=float(step))
    assert leaf.size == size
    assert leaf.at(unit) == float(low + step * int(unit * size))


def test_steps_never_pass_maxval() -> None:
    assert Int(1, 10, step=4).grid() == (1, 5, 9)
    assert Double(0.0, 1.0, step=0.3).grid() == (0.0, 0.3, 0.6, 0.9)
    assert Double(0.1, 0.7, step=0.1).grid() == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert Double(0.1, 0.7, step=0.1).at(LARGEST_UNIT) == 0.7


def test_unit_of_value_computed_with_floats_is_that_of_the_step() -> None:
    assert Double(0.0, 1.0, step=0.1).unit_of(0.1 + 0.2) == 3.5 / 11
    assert Double(0.0, 1.0, step=0.1).unit_of(0.15) is None


@given(low=st.integers(1, 2**62), span=st.integers(1, 2**62), unit=units)
def test_int_on_logarithmic_scale_is_in_its_range(low: int, span: int, unit: float) -> None:
    value = Int(low, low + span, log=True).at(unit)
    assert isinstance(value, int)
    assert low <= value <= low + span


def test_int_on_logarithmic_scale_has_the_share_of_numbers_that_round_to_it() -> None:
    draws = Counter(Int(1, 3, log=True).at(i / 10_000) for i in range(10_000))
    # From 0.5 to 3.5: log(3) / log(7), log(5 / 3) / log(7) and log(7 / 5) / log(7).
    assert [draws[value] / 10_000 for value in (1, 2, 3)] == pytest.approx([0.5646, 0.2625, 0.1729], abs=2e-4)


@given(low=st.floats(1e-300, 1e300), factor=st.floats(1.001, 1e6), unit=units)
def test_double_on_logarithmic_scale_is_in_its_range(low: float, factor: float, unit: float) -> None:
    leaf = Double(low, low * factor, log=True)
    assert low <= leaf.at(unit) <= low * factor
    assert (leaf.at(0.0), leaf.at(1.0)) == (low, low * factor)


def test_values_on_new_scales_never_change() -> None:
    space = Space({"a": Int(1, 4096, log=True), "b": Double(1e-5, 0.5, log=True), "c": Double(0.0, 2.0, step=0.05)})
    assert space.sample(0, 0, 0) == {"a": 3, "b": 0.0008033451580563231, "c": 0.8}
    assert Double(1e-4, 1.0, log=True).at(0.5) == 0.01


# -- positions ---------------------------------------------------------------------------------


@given(hyperparameters, units)
def test_unit_of_drawn_value_gives_the_same_value(leaf: Hyperparameter, unit: float) -> None:
    assume(not isinstance(leaf, Const))
    value = leaf.at(unit)
    position = leaf.unit_of(value)
    assert position is not None
    assert 0 <= position <= 1
    again = leaf.at(position)
    assert again == value if leaf.size else again == pytest.approx(value, rel=1e-9, abs=1e-9)


@given(hyperparameters, st.integers() | finite | st.sampled_from([inf, nan, True, "10", None]))
def test_unit_of_any_other_value_is_none(leaf: Hyperparameter, value: Any) -> None:
    match leaf:
        case Const():
            return
        case Categorical():
            inside = value in leaf.vals
        case Log():
            inside = isinstance(value, int | float) and leaf.at(0) <= value <= leaf.at(1)
        case Double(step=float() as step):  # A number that floats can hardly tell from a value counts as this value.
            inside = isinstance(value, int | float) and any(
                abs(each - value) <= 1e-6 * step for each in values_of(leaf)
            )
        case Int() | Double():
            inside = isinstance(value, int | float) and leaf.minval <= value <= leaf.maxval
            inside = inside and (isinstance(leaf, Double) or value == int(value))
            inside = inside and (leaf.step is None or value in values_of(leaf))
    inside = inside and not isinstance(value, bool)
    assert (leaf.unit_of(value) is not None) == inside


@pytest.mark.parametrize("value", [1e308, -1e308, 10**400, -(10**400)])
def test_unit_of_huge_number_is_none(value: float) -> None:
    for leaf in (Double(0.0, 1.0, step=1e-10), Double(0.0, 1.0), Int(0, 9, step=2), Log(-4, -1)):
        assert leaf.unit_of(value) is None


def test_unit_of_bounds() -> None:
    for leaf in (
        Double(0.2, 0.9),
        Double(1e-9, 3.0, log=True),
        Log(-5, -1),
        Log(3, 8, base=2.0),
        Double(-1e308, 1e308),
    ):
        assert leaf.unit_of(leaf.at(0)) == 0
        assert leaf.unit_of(leaf.at(1)) == 1
    assert Categorical((1, True)).unit_of(True) == 0.75


# -- conditions --------------------------------------------------------------------------------


CONDITIONAL = Space(
    {
        "optimizer": {
            "name": Categorical(("sgd", "adam", "none")),
            "sgd": Group(
                {
                    "momentum": Double(0.0, 0.9, step=0.3),
                    "nesterov": Categorical((True, False), when={"optimizer.sgd.momentum": "> 0"}),
                },
                {"optimizer.name": "sgd"},
            ),
        },
        "decay": Log(-5, -2, count=2, when={"optimizer.name": ["sgd", "adam"], "layers": ">= 2"}),
        "layers": Int(1, 3, count=3),
    }
)


def is_settled(values: dict[str, Any]) -> bool:
    """Whether values have the hyperparameters that the conditions of CONDITIONAL require, and no others."""
    optimizer, layers = values["optimizer"], values["layers"]
    has_sgd = optimizer["name"] == "sgd"
    return bool(
        ("sgd" in optimizer) == has_sgd
        and (not has_sgd or ("nesterov" in optimizer["sgd"]) == (optimizer["sgd"]["momentum"] > 0))
        and ("decay" in values) == (optimizer["name"] != "none" and layers >= 2)
    )


@given(seed=st.integers(0, 2**31), index=st.integers(0, 10**6))
def test_trials_have_exactly_the_hyperparameters_whose_conditions_are_true(seed: int, index: int) -> None:
    assert is_settled(CONDITIONAL.sample(seed, 0, index))


@given(seed=st.integers(0, 2**31), index=st.integers(0, 10**6))
def test_conditions_change_no_value(seed: int, index: int) -> None:
    def without(node: Any) -> Any:
        if isinstance(node, Group | Mapping):
            tree = node.tree if isinstance(node, Group) else node
            return {name: without(each) for name, each in tree.items()}
        return replace(node, when=None)

    everything = Space(without(CONDITIONAL.tree)).sample(seed, 0, index)
    flat = table.flatten(everything)
    assert table.flatten(CONDITIONAL.sample(seed, 0, index)).items() <= flat.items()


def test_grid_has_each_setting_once() -> None:
    points = [CONDITIONAL.grid_point(index) for index in range(CONDITIONAL.grid_size())]
    assert all(is_settled(point) for point in points)
    # sgd has one setting with momentum 0 and six with more; 1 + 2 * 2 settings of layers and decay for sgd and adam.
    assert len(points) == (1 + 3 * 2) * 5 + 5 + 3
    assert len({repr(point) for point in points}) == len(points)
    assert points[0] == {"optimizer": {"name": "sgd", "sgd": {"momentum": 0.0}}, "layers": 1}
    assert points[-1] == {"optimizer": {"name": "none"}, "layers": 3}


def test_grid_of_many_branches_is_listed_without_all_combinations() -> None:
    tree: Tree = {"branch": Categorical(tuple(range(12)))}
    tree |= {f"x{n}": Int(0, 9, count=10, when={"branch": n}) for n in range(12)}  # type: ignore[operator]
    assert Space(tree).grid_size() == 120
    with pytest.raises(ValueError, match="more than 100,000 points"):
        Space({f"x{n}": Int(0, 9, 10) for n in range(6)} | {"y": Const(1, when={"x0": 1})}).grid_size()


@pytest.mark.parametrize(
    ("required", "passing"),
    [
        ("a", ["a"]),
        (["a", 1, None], [1, 1.0, "a", None]),
        (True, [True]),
        (1, [1, 1.0]),
        ("< 2", [1, 1.0]),
        (" >=2 ", [2, 3.5]),
        ("!= 1", [True, None, "a", "< 2", 2, 3.5]),
        ("!= a", [1, 1.0, True, None, "< 2", 2, 3.5]),
        ("!= null", [1, 1.0, True, "a", "< 2", 2, 3.5]),
        (["< 2"], ["< 2"]),
    ],
)
def test_condition_holds_for(required: Any, passing: list[Any]) -> None:
    test = parse_test(required)
    assert [value for value in (1, 1.0, True, None, "a", "< 2", 2, 3.5) if test.holds(value)] == sorted(
        passing, key=[1, 1.0, True, None, "a", "< 2", 2, 3.5].index
    )


def test_wrong_conditions_are_errors() -> None:
    with pytest.raises(ValueError, match="no hyperparameter 'b'"):
        Space({"a": Const(1, when={"b": 1})}).check()
    with pytest.raises(ValueError, match=r"form a cycle: . → . → ."):
        Space({"a": Const(1, when={"b": 1}), "b": Const(1, when={"a": 1})}).check()


# -- grids -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hyperparameter", "values"),
    [
        (Int(1, 10, 4), (1, 4, 7, 10)),
        (Int(0, 10, 4), (0, 3, 7, 10)),
        (Int(1, 3, 99), (1, 2, 3)),
        (Int(5, 5, 2), (5,)),
        (Int(0, 10, 1), (5,)),
        (Int(-3, 0, 1), (-2,)),
        (Int(1, 4, 1), (3,)),
        (Int(0, 3, 3), (0, 2, 3)),
        (Int(-3, 0, 3), (-3, -2, 0)),
        (Int(-2, 1, 3), (-2, -1, 1)),
        (Int(-1, 2, 3), (-1, 1, 2)),
        (Double(0.0, 1.0, 5), (0.0, 0.25, 0.5, 0.75, 1.0)),
        (Double(0.2, 0.9, 2), (0.2, 0.9)),
        (Double(0.0, 1.0, 1), (0.5,)),
        (Log(-4, 0, count=5), (1e-4, 1e-3, 1e-2, 1e-1, 1.0)),
        (Log(-4, -2, count=1), (1e-3,)),
        (Log(3, 5, base=2.0, count=3), (8.0, 16.0, 32.0)),
        (Int(2, 20, 3, step=3), (2, 11, 20)),
        (Int(2, 20, 1, step=3), (11,)),
        (Int(2, 20, step=6), (2, 8, 14, 20)),
        (Int(1, 1000, 4, log=True), (1, 10, 100, 1000)),
        (Int(1, 4, 9, log=True), (1, 2, 3, 4)),
        (Int(1, 9, 1, log=True), (3,)),
        (Double(0.0, 1.0, 3, step=0.1), (0.0, 0.5, 1.0)),
        (Double(1e-4, 1.0, 5, log=True), (1e-4, 1e-3, 1e-2, 1e-1, 1.0)),
        (Categorical(("a", "b")), ("a", "b")),
        (Const([1, 2]), ([1, 2],)),
    ],
)
def test_the_grid_of_one(hyperparameter: Hyperparameter, values: tuple[Any, ...]) -> None:
    assert hyperparameter.grid() == values


@given(low=st.integers(-50, 50), span=st.integers(0, 60), count=st.integers(2, 80))
def test_grid_of_ints_rounds_halves_away_from_zero(low: int, span: int, count: int) -> None:
    hyperparameter = Int(low, low + span, count)
    steps = min(count, span + 1) - 1
    exact = [Decimal(low * steps + i * span) / steps if steps else Decimal(low) for i in range(steps + 1)]
    # The quotient of two small integers is exact enough: it is a half only if it is exactly one.
    assert hyperparameter.grid() == tuple(int(value.quantize(Decimal(1), ROUND_HALF_UP)) for value in exact)


def test_former_grid_of_ints_rounds_halves_up() -> None:
    space = Space({"a": Int(-3, 0, 3), "b": Int(1, 4, 1)})
    assert [tuple(space.grid_point(i, former=True).values()) for i in range(3)] == [(-3, 2), (-1, 2), (0, 2)]
    assert [tuple(space.grid_point(i).values()) for i in range(3)] == [(-3, 3), (-2, 3), (0, 3)]


@given(low=st.integers(-50, 50), span=st.integers(0, 60), count=st.integers(1, 80))
def test_a_grid_of_ints_is_even_and_distinct(low: int, span: int, count: int) -> None:
    values = Int(low, low + span, count).grid()
    assert len(values) == len(set(values)) == min(count, span + 1)
    gaps = {b - a for a, b in pairwise(values)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    if len(values) > 1:
        assert (values[0], values[-1]) == (low, low + span)


@given(low=finite, high=finite, count=st.integers(2, 40))
@example(low=0.2, high=0.9, count=3)
@example(low=-1.7e308, high=1.7e308, count=2)
def test_a_grid_of_doubles_includes_its_ends(low: float, high: float, count: int) -> None:
    assume(low < high)
    values = Double(low, high, count).grid()
    assert len(values) == count
    assert (values[0], values[-1]) == (low, high)
    assert all(low <= value <= high and isfinite(value) for value in values)
    # Between neighbours there is no room to be even.
    if high - low > 1e-9 * max(abs(low), abs(high)):
        assert list(values) == sorted(values)


@settings(max_examples=40)
@given(trees(hyperparameters))
def test_the_grid_is_the_product_and_the_last_varies_fastest(tree: Tree) -> None:
    space = Space(tree)
    assume(space.grid_size() <= 500)
    points = [flatten(space.grid_point(i), space) for i in range(space.grid_size())]
    expected = product(*(leaf.grid() for _, leaf in space.leaves()))
    assert [tuple(point.values()) for point in points] == list(expected)


def test_a_grid_needs_a_count() -> None:
    for uncounted in (Int(0, 1), Double(0, 1), Log(0, 1)):
        with pytest.raises(ValueError, match="count"):
            uncounted.grid()
