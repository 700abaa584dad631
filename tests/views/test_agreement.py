"""Tests of the comparison of a trial with pauses and one without."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.views.agreement import Runs, Series, Verdict, compare, hints_of, verdict_of

ORDER = list(Verdict)
VALUES = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
ANY_VALUE = st.floats(allow_nan=True, allow_infinity=True)
NAMES = st.sampled_from(["loss", "accuracy", "lr", "epoch", "grad_norm", "seconds"])
SERIES = st.dictionaries(st.integers(1, 9), st.dictionaries(NAMES, ANY_VALUE, max_size=3), max_size=6)


def series(*values: float, name: str = "loss") -> dict[int, dict[str, float]]:
    return {length: {name: value} for length, value in enumerate(values, start=1)}


def judge(runs: Runs) -> tuple[Verdict, list[str]]:
    rows = compare(runs)
    return verdict_of(rows), hints_of(runs, rows)


def verdict(straight: Series, resumed: Series, other: Series) -> Verdict:
    return judge(Runs(straight, resumed, other, (1,)))[0]


@given(straight=SERIES, resumed=SERIES, other=SERIES, pauses=st.lists(st.integers(1, 9), unique=True).map(sorted))
def test_compare_accepts_any_runs(straight: Series, resumed: Series, other: Series, pauses: list[int]) -> None:
    found, hints = judge(Runs(straight, resumed, other, pauses))
    assert found is not Verdict.FAILED
    assert all(hint.endswith((".", ")")) for hint in hints)
    if found is not Verdict.EQUAL:
        assert hints, "what is not equal has a hint"


@given(straight=SERIES, other=SERIES, pauses=st.lists(st.integers(1, 9), min_size=1, unique=True).map(sorted))
def test_equal_runs_are_equal_with_any_other_seed(straight: Series, other: Series, pauses: list[int]) -> None:
    assert judge(Runs(straight, straight, other, pauses)) == (Verdict.EQUAL, [])


@given(
    values=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=2, max_size=8),
    scale=st.integers(-20, 20).map(lambda power: 2.0**power),
)
def test_verdict_does_not_depend_on_the_scale_of_a_metric(
    values: list[tuple[float, float, float]], scale: float
) -> None:
    runs = [series(*column) for column in zip(*values, strict=True)]
    scaled = [series(*(value * scale for value in column)) for column in zip(*values, strict=True)]
    assert verdict(*runs) is verdict(*scaled)


@given(
    values=st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=8),
    differences=st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)).map(sorted),
)
def test_larger_difference_is_never_judged_better(values: list[tuple[float, float]], differences: list[float]) -> None:
    straight, other = (series(*column) for column in zip(*values, strict=True))
    less, more = (
        verdict(straight, series(*(value + difference for value, _ in values)), other) for difference in differences
    )
    assert ORDER.index(less) <= ORDER.index(more)


@given(straight=SERIES, resumed=SERIES, other=SERIES, name=st.sampled_from(["epoch_seconds", "time", "gpu_memory"]))
def test_metrics_of_time_do_not_count(straight: Series, resumed: Series, other: Series, name: str) -> None:
    def with_time(runs: Series, value: float) -> Series:
        return {length: {**metrics, name: value + length} for length, metrics in runs.items()}

    assert verdict(straight, resumed, other) is verdict(
        with_time(straight, 1.0), with_time(resumed, 2.0), with_time(other, 3.0)
    )


@pytest.mark.parametrize(
    ("straight", "resumed", "other", "expected"),
    [
        ((1.0, 0.5), (1.0, 0.5 + 1e-8), (1.0, 0.5), Verdict.EQUAL),
        ((1.0, 0.5), (1.0, 0.51), (1.0, 0.5), Verdict.DIFFERENT),
        ((1.0, 0.5), (1.0, 0.51), (1.0, 0.52), Verdict.WITHIN_NOISE),
        ((1.0, 0.5), (1.0, 0.6), (1.02, 0.5), Verdict.DIFFERENT),
        ((1.0, math.nan), (1.0, math.nan), (1.0, 0.5), Verdict.EQUAL),
        ((1.0, 0.5), (1.0, math.nan), (0.0, 0.5), Verdict.DIFFERENT),
        ((1.0, math.inf), (1.0, math.inf), (1.0, 2.0), Verdict.EQUAL),
        ((1.0, 0.5), (1.0,), (1.0, 0.5), Verdict.DIFFERENT),
    ],
)
def test_verdict_of_each_kind_of_difference(straight: Any, resumed: Any, other: Any, expected: Verdict) -> None:
    assert verdict(series(*straight), series(*resumed), series(*other)) is expected


def hint(resumed: Series, *, straight: Series, other: Series, **fields: Any) -> str:
    [text] = judge(Runs(straight, resumed, other, fields.pop("pauses", (1,)), **fields))[1]
    return text.partition(":")[0] if ": " in text[:20] else text


STRAIGHT = series(1.0, 0.8, 0.6)


def test_hints() -> None:
    noisy = series(0.9, 0.7, 0.5)
    changed = series(1.0, 0.7, 0.5)
    assert hint(STRAIGHT, straight=STRAIGHT, other=noisy, pauses=()).startswith("The trial was never paused")
    assert hint(STRAIGHT, straight=STRAIGHT, other=noisy, saves=False).startswith("No checkpoint was saved")
    assert "never reads trial.checkpoint" in hint(changed, straight=STRAIGHT, other=noisy, reads_checkpoint=False)
    assert "before anything is restored" in hint(series(0.9, 0.8, 0.6), straight=STRAIGHT, other=noisy)
    assert "random number generators" in hint(changed, straight=STRAIGHT, other=noisy)
    assert "larger than that of another seed" in hint(series(1.0, 0.3, 0.5), straight=STRAIGHT, other=noisy)
    assert "Seeds make no difference" in hint(changed, straight=STRAIGHT, other=STRAIGHT)
    assert hint(series(1.0, 1.0, 0.8), straight=STRAIGHT, other=noisy) == "Model"
    assert hint({1: {"loss": 1.0}, 4: {"loss": 0.5}}, straight=STRAIGHT, other=noisy) == "Epoch counter"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lr", "Scheduler"),
        ("training.learning_rate", "Scheduler"),
        ("lr/group0", "Scheduler"),
        ("epoch", "Epoch counter"),
        ("training.step", "Epoch counter"),
        ("grad_norm", "Optimizer"),
    ],
)
def test_hint_follows_from_name_of_differing_metric(name: str, expected: str) -> None:
    straight = series(1.0, 0.8, 0.6, name=name)
    assert hint(series(1.0, 0.7, 0.6, name=name), straight=straight, other=straight) == expected
