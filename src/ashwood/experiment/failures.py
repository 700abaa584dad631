"""What counts as a failure of a trial, and whether trials fail because of what they have in common: the code."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from ashwood.search.vocabulary import TrialId

# What differs between two failures of one kind: numbers, addresses, what a message quotes of them.
_VARIES = re.compile(r"0x[0-9a-fA-F]+|[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


class CommonFailures:
    """Counts trials that failed in the same way, until any trial reports what the search compares.

    A trial counts when starting it again didn't help: at its second failure of a kind, or at its
    first where it isn't started again.
    """

    def __init__(self, limit: int, max_restarts: int) -> None:
        """Look out for ``limit`` trials that fail in one way; 0: never."""
        self._limit = limit
        self._needed = min(2, max_restarts + 1)
        self._code_works = False
        # Of each way to fail, how often each trial failed so.
        self._counts: defaultdict[str, Counter[TrialId]] = defaultdict(Counter)

    def restart(self) -> None:
        """A driver starts: the code may have been mended, or broken, since."""
        self._code_works = False
        self._counts.clear()

    def note_report(self) -> None:
        """Some trial got as far as a report of the searcher's metric."""
        if not self._code_works:
            self._code_works = True
            self._counts.clear()

    def note(self, trial: TrialId, error: str, *, is_final: bool = False) -> int | None:
        """A trial failed; returns how many did in this way, once those are as many as it takes.

        ``is_final``: starting it again would not help.
        """
        if self._code_works or not self._limit:
            return None
        trials = self._counts[_VARIES.sub("#", error)]
        trials[trial] += self._needed if is_final else 1
        alike = sum(times >= self._needed for times in trials.values())
        return alike if alike >= self._limit else None


def lost_too_often(times: int, why: str) -> str:
    """The headline of the failure that it is to lose a worker once too often, the last one because of ``why``."""
    headline = why.partition("\n")[0]
    if times == 1:
        return f"its worker was lost: {headline}"
    return f"its worker was lost {times} times in a row without getting any further, the last time: {headline}"
