"""Optuna's samplers and pruners, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import optuna
import scipy.special
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.samplers._tpe import _truncnorm
from optuna.trial import Trial, TrialState

from benchmarks.peers.quality import Search, Started, main
from benchmarks.quality.lcbench import PARAMETERS, STEPS
from benchmarks.quality.workers import Curve, Job

# Its own, the same function number by number in Python, takes three quarters of the time that its sampler takes.
_truncnorm._log_ndtr = scipy.special.log_ndtr

VARIANTS: Mapping[str, tuple[Callable[..., BaseSampler], Callable[[], BasePruner]]] = MappingProxyType(
    {
        "random": (RandomSampler, NopPruner),
        "tpe": (TPESampler, NopPruner),
        "tpe_halving": (TPESampler, lambda: SuccessiveHalvingPruner(min_resource=1)),
        "tpe_hyperband": (TPESampler, lambda: HyperbandPruner(min_resource=1, max_resource=STEPS)),
    }
)
"""Defaults wherever the problem doesn't ask for something else: one in 4 goes on in halving, one in 3 in Hyperband."""


class Study:
    """Ask and tell, with as many trials under way as there are workers."""

    def __init__(self, search: Search) -> None:
        sampler, pruner = VARIANTS[search.variant]
        self._search = search
        self._study = optuna.create_study(
            # Hyperband draws a trial's bracket from the name and the trial's number.
            study_name=f"{search.problem.task}-{search.seed}",
            direction="maximize",
            sampler=sampler(seed=search.seed),
            pruner=pruner(),
        )
        self._trials: list[Trial] = []

    def ask(self) -> Job:
        """A new trial: none ever waits."""
        self._trials.append(self._study.ask())
        return Job(len(self._trials) - 1, 1)

    def curve(self, trial: int) -> Curve:
        """Settings from the sampler, what they come to from the surrogate."""
        settings = [
            self._trials[trial].suggest_int(name, int(low), int(high), log=log)
            if integer
            else self._trials[trial].suggest_float(name, low, high, log=log)
            for name, low, high, log, integer in PARAMETERS
        ]
        curves = self._search.surrogate.curves(self._search.problem.task, np.array([settings]))
        return Curve(curves.metric[0], curves.seconds[0])

    def tell(self, trial: int, length: int, metric: float) -> int | None:
        """Judged after every step."""
        self._trials[trial].report(metric, length)
        if length == STEPS:
            self._study.tell(self._trials[trial], metric)
        elif self._trials[trial].should_prune():
            self._study.tell(self._trials[trial], state=TrialState.PRUNED)
        else:
            return length + 1
        return None


def start(search: Search) -> Started:
    """A study in memory."""
    study = Study(search)
    return study, study.curve


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    main(start, samples=True)
