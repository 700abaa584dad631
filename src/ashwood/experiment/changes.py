"""Settings that can be changed while an experiment runs, and their valid values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

_SETTINGS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "max_concurrent_trials": (lambda value: _is_whole(value, 0), "a whole number of at least 0"),
    "max_trials": (lambda value: _is_whole(value, 1), "a whole number of at least 1"),
    "max_invalid_trials": (lambda value: _is_whole(value, 1), "a whole number of at least 1"),
    "metric_at": (lambda value: _is_number(value), "a finite number"),
    "max_time": (lambda value: _is_number(value) and value > 0, "a number of seconds above 0"),
    "replicates": (lambda value: _is_whole(value, 0), "a whole number of at least 0"),
    "max_size": (lambda value: _is_whole(value, 1), "a whole number of bytes of at least 1"),
}
"""A check of the value and a description of valid values, for each setting that can be changed."""

_INVALID_PER_TRIAL = 10


def invalid_limit(given: int | None, max_trials: int) -> int:
    """Return the limit of trials with invalid hyperparameters: ``given``, or 10 times max_trials if it is None."""
    return _INVALID_PER_TRIAL * max_trials if given is None else given


def problem_of(settings: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a change of settings, or None if it is valid.

    None is always a valid value.  It removes a limit, or changes nothing if the setting cannot be removed.
    """
    for name, value in settings.items():
        if name not in _SETTINGS:
            return f"{name} can't be changed; settings that can be changed: {', '.join(_SETTINGS)}"
        is_right, expected = _SETTINGS[name]
        if value is not None and not is_right(value):
            return f"{name} must be {expected}, not {value!r}"
    return None


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _is_number(value: Any) -> bool:
    try:
        return type(value) in (int, float) and isfinite(value)
    except OverflowError:  # The integer is too large for a float.
        return False
