"""Clocks whose time never goes back."""

from __future__ import annotations

import time

import pytest

from ashwood.engine.clock import WallClock


def test_wall_clock_ignores_clock_that_jumps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = WallClock()
    before = clock()
    monkeypatch.setattr(time, "time", lambda: 1.0)
    assert clock() >= before


def test_wall_clock_starts_at_last_recorded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1.0)
    assert WallClock(not_before=1e9)() >= 1e9
    assert 1.0 <= WallClock()() < 1e9
