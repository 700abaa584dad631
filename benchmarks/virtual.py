"""Experiments in virtual time for benchmarks: the real search, experiment and engine, workers that are thought of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ashwood.backends.simulated import SimulatedBackend
from ashwood.engine.simulate import simulate
from ashwood.experiment.decisions import CompleteTrial, CreateTrial
from ashwood.experiment.entry import Entry
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, Unit
from ashwood.search.settings import SearchSettings
from ashwood.search.space import Double, Space
from ashwood.views.spending import Spending


def spec_of(search: SearchSettings, seed: int = 0, **changes: Any) -> ExperimentSpec:
    """An experiment over one hyperparameter."""
    fields: dict[str, Any] = {
        "name": "virtual",
        "space": Space({"x": Double(0.0, 1.0)}),
        "search": search,
        "metric": "loss",
        "unit": Unit.STEPS,
        "entrypoint": Entrypoint(EntrypointKind.FUNCTION, "nowhere:train"),
        "workdir": "nowhere",
        "seed": seed,
    }
    return ExperimentSpec(**fields | changes)


class Course:
    """How an experiment went, in virtual seconds since its start.

    Attributes:
        ended: when its last worker was free.
        work: what all workers together were at work for.
        full: when its last trial was created.
        work_until_full: ``work`` up to then.
        worked: what each trial that trained to max_length was worked on for.
    """

    def __init__(self, experiment: Experiment, backend: SimulatedBackend) -> None:
        """Run a fresh experiment on a fresh backend to its end."""
        self.full = 0.0
        self.work_until_full = 0.0
        self._spending = Spending()
        self._seconds: dict[int, float] = {}
        self._complete: list[int] = []
        simulate(experiment, backend, observers=[self._observe])
        self.ended = backend.clock()
        self.work = self._spending.busy_seconds
        self.worked = [self._seconds[trial] for trial in self._complete]

    def _observe(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            for trial, seconds in self._spending.apply(entry):
                self._seconds[trial] = self._seconds.get(trial, 0.0) + seconds
            for decision in entry.decisions:
                if isinstance(decision, CreateTrial):
                    self.full, self.work_until_full = entry.at, self._spending.busy_seconds
                elif isinstance(decision, CompleteTrial):
                    self._complete.append(decision.trial)
