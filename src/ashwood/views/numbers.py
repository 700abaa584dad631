"""Compact storage of a list of numbers for each of many trials, which needs little memory and is saved fast."""

from __future__ import annotations

from array import array

from ashwood.search.vocabulary import TrialId


class Numbers:
    """A rising list of numbers for each trial; all lists share common arrays."""

    def __init__(self) -> None:
        self._numbers = array("q")
        # For each number, the index of the previous number of the same trial, or -1; for each trial, the index of its
        # last number.
        self._earlier = array("q")
        self._last = array("q")

    def add(self, trial: TrialId, number: int) -> None:
        """Add a number, unless it is the last one of the trial."""
        last = self._last_of(trial)
        if last < 0 or self._numbers[last] != number:
            # Trials are numbered without gaps.
            self._last.extend([-1] * (trial + 1 - len(self._last)))
            self._last[trial] = len(self._numbers)
            self._numbers.append(number)
            self._earlier.append(last)

    def __contains__(self, trial: TrialId) -> bool:
        """Return whether a trial has any number."""
        return self._last_of(trial) >= 0

    def of(self, trial: TrialId) -> list[int]:
        """Return the numbers of a trial."""
        found: list[int] = []
        index = self._last_of(trial)
        while index >= 0:
            found.append(self._numbers[index])
            index = self._earlier[index]
        return found[::-1]

    def _last_of(self, trial: TrialId) -> int:
        return self._last[trial] if trial < len(self._last) else -1
