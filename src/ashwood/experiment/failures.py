"""Detects failures that many trials have in common, which are probably errors in the training code."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from ashwood.search.vocabulary import TrialId

VARIES = re.compile(r"0x[0-9a-fA-F]+|[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")
"""The parts in which two errors of the same kind differ: numbers and memory addresses."""


class CommonFailures:
    """Counts the trials that failed in the same way, until any trial reports the metric of the search.

    A trial counts if a restart did not help: at its second failure of the same kind, or at its first
    one if it is not restarted.
    """

    def __init__(self, limit: int, max_restarts: int) -> None:
        """Look for ``limit`` trials that fail in the same way, or for none if it is 0."""
        self._limit = limit
        self._needed = min(2, max_restarts + 1)
        self._code_works = False
        # How often each trial failed, for each kind of error.
        self._counts: defaultdict[str, Counter[TrialId]] = defaultdict(Counter)

    def restart(self) -> None:
        """Start counting again for a new driver, because the training code may have been changed."""
        self._code_works = False
        self._counts.clear()

    def note_report(self) -> None:
        """Stop counting, because a trial has reported the metric of the search."""
        if not self._code_works:
            self._code_works = True
            self._counts.clear()

    def note(self, trial: TrialId, error: str, *, is_final: bool = False) -> int | None:
        """Record a trial failure.  Return the number of trials that failed in the same way, or None below the limit.

        Args:
            trial: the trial that failed.
            error: first line of the error; numbers and addresses in it are ignored.
            is_final: whether a restart cannot help, so that the first failure counts.
        """
        if self._code_works or not self._limit:
            return None
        trials = self._counts[VARIES.sub("#", error)]
        trials[trial] += self._needed if is_final else 1
        alike = sum(times >= self._needed for times in trials.values())
        return alike if alike >= self._limit else None


def lost_too_often(times: int, why: str) -> str:
    """Return the error of a trial that lost its worker too often, the last time because of ``why``.

    It can become a part of the text that `EndExperiment` records, so a changed wording makes old logs fail to replay.
    """
    headline = why.partition("\n")[0]
    if times == 1:
        return f"its worker was lost: {headline}"
    return f"its worker was lost {times} times in a row without getting any further, the last time: {headline}"
