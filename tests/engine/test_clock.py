"""Recorded times never go back."""

from __future__ import annotations

import time

import pytest

from ashwood.engine.clock import WallClock


def test_a_clock_that_jumps_back_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = WallClock()
    before = clock()
    monkeypatch.setattr(time, "time", lambda: 1.0)
    assert clock() >= before


def test_time_goes_on_from_what_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1.0)
    assert WallClock(not_before=1e9)() >= 1e9
    assert 1.0 <= WallClock()() < 1e9
