"""Bounds of the command line, and durations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.config import bound_overrides, parse_duration, parse_stop_when
from ashwood.errors import ConfigError


@pytest.mark.parametrize(
    ("texts", "bounds"),
    [
        ([], {}),
        (["0.98"], {"metric_at": 0.98}),
        (["metric_at=-1e3"], {"metric_at": -1000.0}),
        (["metric_at = 1", "max_time=2h"], {"metric_at": 1.0, "max_time": 7200.0}),
        (["max_time=none", "none"], {"metric_at": None, "max_time": None}),
    ],
)
def test_parse_stop_when(texts: list[str], bounds: dict[str, Any]) -> None:
    assert parse_stop_when(texts) == bounds


def test_all_mistakes_of_stop_when_are_reported() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_stop_when(["high", "maxtime=2h", "max_time=2 weeks", "nan"])
    messages = [str(problem) for problem in raised.value.problems]
    assert messages == [
        '--stop-when: the metric to stop at must be a number such as 0.98, or none, not "high"',
        '--stop-when: "maxtime" is not a bound; did you mean max_time?',
        "--stop-when: max_time must be a duration above 0: a number of seconds, or text such as 90s, 15min, 2h, 1.5h "
        'or 3d, not "2 weeks"',
        '--stop-when: the metric to stop at must be a number such as 0.98, or none, not "nan"',
    ]


def test_bound_overrides_are_set_arguments() -> None:
    assert bound_overrides({"metric_at": 0.5, "max_time": None}) == [
        "searcher.stop_when.metric_at=0.5",
        "searcher.stop_when.max_time=null",
    ]


@given(st.integers(1, 10**6), st.sampled_from([("s", 1), ("min", 60), ("h", 3600), ("d", 86400)]), st.booleans())
def test_parse_duration(count: int, unit: tuple[str, int], spaced: bool) -> None:
    assert parse_duration(f"{count}{' ' * spaced}{unit[0]}") == count * unit[1]


@given(st.one_of(st.text(), st.floats(), st.integers(), st.booleans(), st.none(), st.lists(st.integers())))
def test_parse_duration_returns_none_for_other_values(value: Any) -> None:
    seconds = parse_duration(value)
    assert seconds is None or 0 < seconds < float("inf")
    assert parse_duration(10**400) is None
