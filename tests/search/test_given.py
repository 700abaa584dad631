"""Tests of hyperparameters that a user gives for a trial."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.search.given import position_of, read_given
from ashwood.search.space import (
    Categorical,
    Const,
    Double,
    Hyperparameter,
    Int,
    Log,
    Space,
    Tree,
)

TREE: Tree = {
    "lr": Log(-4, -1),
    "layers": Int(1, 5),
    "optimizer": {"momentum": Double(0.1, 0.9), "name": Categorical(("adam", "sgd", None)), "nesterov": Const(True)},
    "a.b": Categorical((1, True, [1, 2])),
    "batch": Const(32),
}
SPACE = Space(TREE)


def test_values_can_be_nested_or_have_dotted_names() -> None:
    nested = read_given(SPACE, {"optimizer": {"name": "sgd", "momentum": 0.5}, "a.b": True})
    dotted = read_given(SPACE, {"optimizer.name": "sgd", "optimizer.momentum": 0.5, "a": {"b": True}})
    assert nested == dotted
    assert nested.values == {"optimizer.name": "sgd", "optimizer.momentum": 0.5, "a.b": True}


def test_values_get_the_types_of_drawn_ones() -> None:
    values = read_given(SPACE, {"lr": 1, "layers": 2.0, "optimizer.momentum": 0, "a.b": 1.0}).values
    assert [(value, type(value)) for value in values.values()] == [(1.0, float), (2, int), (0.0, float), (1, int)]


def test_equal_constants_are_left_out_and_others_are_errors() -> None:
    assert read_given(SPACE, {"lr": 0.01, "batch": 32, "optimizer": {"nesterov": True}}).values == {"lr": 0.01}
    wrong = read_given(SPACE, {"batch": 64, "optimizer": {"nesterov": 1}})
    assert wrong.errors == [
        (("batch",), "is a constant of the experiment, 32, so it cannot have another value"),
        (("optimizer", "nesterov"), "is a constant of the experiment, True, so it cannot have another value"),
    ]


def test_bounds_and_values_have_no_warnings() -> None:
    for value in (1e-4, 0.1, 0.05):
        assert read_given(SPACE, {"lr": value, "layers": 5, "optimizer.momentum": 0.1, "a.b": [1, 2]}).warnings == []


@given(st.integers(0, 2**20), st.integers(0, 30), st.data())
def test_given_values_replace_drawn_ones_and_no_others(seed: int, index: int, data: st.DataObject) -> None:
    names = data.draw(st.sets(st.sampled_from(["lr", "layers", "optimizer.momentum", "optimizer.name"]), min_size=1))
    drawn, other = SPACE.sample(seed, 0, index), _flat(SPACE.sample(seed, 1, index))
    settings = read_given(SPACE, {name: other[name] for name in names})
    assert (settings.errors, settings.warnings) == ([], [])
    assert _flat(SPACE.sample(seed, 0, index, settings.values)) == _flat(drawn) | {name: other[name] for name in names}


LEAVES = [leaf for _, leaf in SPACE.leaves() if not isinstance(leaf, Const)] + [Log(-1, 2, base=0.5)]


@pytest.mark.parametrize("leaf", LEAVES, ids=repr)
@given(unit=st.floats(0, 1, exclude_max=True))
def test_position_of_drawn_value_draws_it_again(leaf: Hyperparameter, unit: float) -> None:
    value = leaf.at(unit)
    position = position_of(leaf, value)
    assert position is not None
    assert 0 <= position <= 1
    assert leaf.at(min(position, 1 - 2**-53)) == (pytest.approx(value) if isinstance(value, float) else value)


def test_numbers_outside_the_range_are_at_the_nearest_end() -> None:
    assert [position_of(Int(1, 5), value) for value in (-3, 9)] == [0.0, 1.0]
    assert [position_of(Log(-4, -1), value) for value in (-1.0, 1e-9, 5.0)] == [0.0, 0.0, 1.0]
    assert [position_of(Log(-1, 2, base=0.5), value) for value in (0.0, 8.0)] == [1.0, 0.0]
    assert position_of(Categorical(("a", "b")), "c") is None


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    inner = {f"optimizer.{name}": value for name, value in values["optimizer"].items()}
    return {name: value for name, value in values.items() if name != "optimizer"} | inner


RESTRICTED = Space(
    {
        "optimizer": Categorical(("adam", "sgd")),
        "momentum": Double(0, 1, when={"optimizer": "sgd"}),
        "layers": Int(1, 8),
        "width": Int(1, 64),
    },
    ("layers * width <= 64",),
)


@given(st.integers(0, 2**20), st.integers(0, 30), st.integers(1, 8))
def test_values_that_are_not_given_are_drawn_until_constraints_hold(seed: int, index: int, layers: int) -> None:
    setting = RESTRICTED.sample(seed, 0, index, {"layers": layers})
    assert setting["layers"] == layers
    assert setting["layers"] * setting["width"] <= 64


def test_given_values_are_used_even_if_they_break_a_constraint() -> None:
    found = read_given(RESTRICTED, {"layers": 8, "width": 64})
    assert found.warnings == [((), "breaks the constraint layers * width <= 64; it is used as given")]
    assert read_given(RESTRICTED, {"layers": 8}).warnings == []
    setting = RESTRICTED.sample(1, 0, 0, found.values)
    assert (setting["layers"], setting["width"]) == (8, 64)


def test_other_values_are_drawn_until_the_other_constraints_hold() -> None:
    space = Space(RESTRICTED.tree, (*RESTRICTED.constraints, "optimizer == 'adam'"))
    for index in range(20):
        assert space.sample(1, 0, index, {"layers": 8, "width": 64})["optimizer"] == "adam"


def test_given_values_that_make_a_constraint_impossible_cost_few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("space", "given"):
        monkeypatch.setattr(f"ashwood.search.{module}.MOST_ATTEMPTS_WITH_GIVEN", 50)
    found = read_given(RESTRICTED, {"width": 65})
    message = "allows hardly any draws that satisfy the constraint layers * width <= 64; it is used as given"
    assert found.warnings[1:] == [((), message)]
    draws: list[int] = []

    def count(space: Space, seed: int, bracket: int, index: int, number: int) -> list[float]:
        draws.append(number)
        return attempt(space, seed, bracket, index, number)

    attempt = Space.attempt
    monkeypatch.setattr(Space, "attempt", count)
    for values in ({"width": 65}, {"layers": 8, "width": 64}):
        assert RESTRICTED.sample(1, 0, 0, values)["width"] == values["width"]
    assert len(draws) == 50 + 1 + 1  # If no draw is good, the first one is drawn again.


def test_rare_draws_are_found_beside_given_values() -> None:
    space = Space({"x": Double(0, 1), "n": Int(1, 2)}, ("x < 0.002",))
    for index in range(10):
        assert space.sample(1, 0, index, {"n": 1})["x"] < 0.002


def test_given_value_whose_condition_is_not_true_is_a_warning() -> None:
    found = read_given(RESTRICTED, {"optimizer": "adam", "momentum": 0.5})
    assert found.warnings == [(("momentum",), "is not used, because its condition is not true")]
    assert found.unused == ["momentum"]
    assert read_given(RESTRICTED, {"momentum": 0.5}).warnings == []
    assert read_given(RESTRICTED, {"optimizer": "sgd", "momentum": 0.5}).warnings == []
    chain = Space({"a": Const(1), "b": Int(1, 2, when={"a": "> 1"}), "c": Int(1, 2, when={"b": 1}), "d": Int(1, 2)})
    assert read_given(chain, {"c": 1, "d": 1}).unused == ["c"]


def test_given_value_between_two_steps_is_a_warning() -> None:
    for leaf, value in ((Double(0.0, 0.5, step=0.1), 0.15), (Int(0, 10, step=5), 3)):
        [(path, message)] = read_given(Space({"x": leaf}), {"x": value}).warnings
        assert path == ("x",)
        assert message == f"{value} is between two of its values, which have a step of {leaf.step}; it is used as given"


def test_conditions_look_at_given_values() -> None:
    for index in range(20):
        assert "momentum" in RESTRICTED.sample(1, 0, index, {"optimizer": "sgd"})
        assert "momentum" not in RESTRICTED.sample(1, 0, index, {"optimizer": "adam", "momentum": 0.5})
