"""Constraints on hyperparameters: what they may contain, when they hold, and how draws and grids satisfy them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashwood.errors import AshwoodError
from ashwood.search import space as spaces
from ashwood.search.constraints import parse_constraint
from ashwood.search.space import Categorical, Const, Double, Int, Space

VALUES = {"n": 3, "x": 0.5, "o.name": "sgd", "flag": True, "none": None, "sizes": [64, 32], "zero": 0, "big": 2**40}


@pytest.mark.parametrize(
    "text",
    [
        "n == 3",
        "n * x <= 1.5",
        "1 < n <= 3 != 4",
        "not (o.name == 'adam' and x > 0.1)",
        "o.name in ['sgd', 'adam'] and n not in (1, 2)",
        "hparams['o.name'] == 'sgd'",
        "flag",
        "none == None or n > 9",
        "len(sizes) == 2 and 64 in sizes and sizes == [64, 32]",
        "abs(-n) == max(1, n) == min(n, 4) == round(n + 0.2)",
        "round(x / n, 2) == 0.17",
        "n // 2 == 1 and n % 2 == 1 and -n ** 2 == -9 and 2 ** -1 == 0.5 and 4 ** 0.5 == 2",
        "zero == 0 or n / zero > 1",
        "big * big > 1",
        "  n\n> 2  ",
    ],
)
def test_constraint_holds(text: str) -> None:
    assert parse_constraint(text).holds(VALUES)


@pytest.mark.parametrize(
    "text",
    [
        "n > 3",
        "n / zero > 0",
        "o.name > 1",
        "none <= 3",
        "n ** big ** big > 1",
        "2.5 ** big > 1",
        "(0 - n) ** x > 0",
        "round(big, -big) == 0",
        "sizes + sizes == [64]",
        "o.name * 3 == 'sgdsgdsgd'",
        "'s' in o.name",
    ],
)
def test_constraint_that_is_false_or_cannot_be_computed_does_not_hold(text: str) -> None:
    assert not parse_constraint(text).holds(VALUES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n; x",
        "n = 3",
        "n := 3",
        "(n := 3) > 2",
        "lambda: n",
        "[m for m in n] == n",
        "{1: 2} == n",
        "n if x else n > 2",
        "f'{n}' == n",
        "open('x') == 1",
        "abs(x=1) > 1",
        "abs(*n) > 1",
        "abs() > 1",
        "len(n, n) > 1",
        "n.real.imag() > 1",
        "n[0] > 1",
        "hparams[0] > 1",
        "'a'.b > 1",
        "n is None",
        "n @ n > 1",
        "n & n > 1",
        "~n > 1",
        "'a' * n == 'aa'",
        "1j > 0",
        "b'a' == n",
        "... == n",
        "n > 1 " + "and n > 1 " * 400,
        "-" * 200 + "n > 3",
        "(" * 300 + "n > 3" + ")" * 300,
        "n\0 > 3",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_constraint(text)


@given(st.text(alphabet="nx0123.()[]'\"+-*/%<>=! andorotilem,_", max_size=40))
def test_any_text_is_a_constraint_or_a_value_error(text: str) -> None:
    try:
        constraint = parse_constraint(text)
    except ValueError:
        return
    assert constraint.holds(dict.fromkeys(constraint.names, 3)) in (True, False)


SPACE: Any = {"layers": Int(1, 8), "width": Int(16, 1024, log=True), "o": Categorical(("sgd", "adam"))}
SPACE |= {"momentum": Double(0.0, 1.0, when={"o": "sgd"})}
RULES = ("layers * width <= 512", "not (o == 'sgd' and momentum > 0.5)")


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(0, 10**6))
def test_draws_satisfy_constraints_and_the_first_valid_attempt_is_taken(seed: int, index: int) -> None:
    free, space = Space(SPACE), Space(SPACE, RULES)
    values = space.sample(seed, 0, index)
    assert values["layers"] * values["width"] <= 512
    assert values.get("momentum", 0.0) <= 0.5
    unrestricted = free.sample(seed, 0, index)
    is_valid = unrestricted["layers"] * unrestricted["width"] <= 512 and unrestricted.get("momentum", 0.0) <= 0.5
    assert (values == unrestricted) == is_valid


def test_redrawn_values_never_change() -> None:
    # A recorded search must replay to the same hyperparameters.
    assert Space(SPACE, RULES).sample(0, 0, 1) == {"layers": 6, "width": 78, "o": "adam"}
    assert Space(SPACE).sample(0, 0, 1) != {"layers": 6, "width": 78, "o": "adam"}


def test_constraint_on_absent_hyperparameter_holds() -> None:
    space = Space({"o": Const("adam"), "m": Double(0.0, 1.0, when={"o": "sgd"})}, ("m > 2",))
    assert space.sample(0, 0, 0) == {"o": "adam"}


def test_constraints_that_cannot_be_satisfied_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spaces, "MOST_ATTEMPTS", 50)
    with pytest.raises(AshwoodError, match="none of 50 draws"):
        Space({"x": Double(0.0, 1.0)}, ("x > 2",)).sample(0, 0, 0)
    with pytest.raises(ValueError, match="no hyperparameter 'y'"):
        Space({"x": Double(0.0, 1.0)}, ("y > 2",)).check()


def test_grid_leaves_out_points_that_break_a_constraint() -> None:
    space = Space({"a": Int(1, 3, 3), "b": Int(1, 3, 3, when={"a": "> 1"}), "c": Const(1)}, ("a * b < 6",))
    points = [space.grid_point(index) for index in range(space.grid_size())]
    expected = [(1, None), (2, 1), (2, 2), (3, 1)]
    assert points == [{"a": a} | ({} if b is None else {"b": b}) | {"c": 1} for a, b in expected]
