"""Ray Tune's ASHA, in virtual time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from benchmarks.peers.quality import Search, Started, main
from benchmarks.quality.lcbench import STEPS
from benchmarks.quality.workers import Job


class Asha:
    """ASHA by stopping: rungs at 1, 4 and 16, its defaults; it asks no more of a trial than its id."""

    def __init__(self, max_t: int = STEPS) -> None:
        self._scheduler = AsyncHyperBandScheduler(
            time_attr="length", metric="accuracy", mode="max", grace_period=1, reduction_factor=4, max_t=max_t
        )
        self._trials: list[Any] = []

    def ask(self) -> Job:
        """A new trial: none ever waits."""
        trial = SimpleNamespace(trial_id=f"{len(self._trials):08x}")
        self._trials.append(trial)
        self._scheduler.on_trial_add(_no_controller, trial)
        return Job(len(self._trials) - 1, 1)

    def tell(self, trial: int, length: int, metric: float) -> int | None:
        """Judged after every step."""
        result = {"length": length, "accuracy": metric}
        if self._scheduler.on_trial_result(_no_controller, self._trials[trial], result) != TrialScheduler.STOP:
            return length + 1
        self._scheduler.on_trial_complete(_no_controller, self._trials[trial], result)
        return None


_no_controller: Any = None


def start(search: Search) -> Started:
    """There is one variant."""
    return search.paired(Asha())


if __name__ == "__main__":
    main(start)
