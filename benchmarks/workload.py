"""What every system is asked to do, so that the numbers compare.

One bracket of asynchronous halving: a trial is judged after 10, 40 and 160 steps, and one
in four goes on.  That is 25 steps a trial on average, each with a report.  The loss is a
hyperparameter drawn uniformly, so every system stops about the same share of trials.
"""

from __future__ import annotations

from typing import NamedTuple

MIN_LENGTH = 10
MAX_LENGTH = 160
DIVISOR = 4
RUNGS = 3


class Workload(NamedTuple):
    """One run of a system.

    Attributes:
        trials: how many trials to create.
        workers: how many train at once.
        step_seconds: what a training step takes, asleep; 0: nothing at all.
        min_length: after how many steps a trial is judged first; only Ashwood and Ray Tune can be asked for another.
    """

    trials: int
    workers: int
    step_seconds: float
    min_length: int = MIN_LENGTH

    @property
    def max_length(self) -> int:
        """How many steps the best trials train."""
        return self.min_length * MAX_LENGTH // MIN_LENGTH
