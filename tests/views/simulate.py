"""Event streams of the real engine on the simulated backend, without any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf, log1p
from typing import Any, NamedTuple

from ashwood.backends.simulated import SimulatedBackend, VirtualClock
from ashwood.engine.loop import Engine
from ashwood.engine.simulate import simulate
from ashwood.errors import IllegalEvent
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    AddTrialRequested,
    AttemptFailed,
    CheckpointSaved,
    Event,
    ExtendRequested,
    HparamsInvalid,
    Request,
    RetryFailedRequested,
    TrialStopped,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, Unit
from ashwood.forecast.costs import Costs, Faults
from ashwood.forecast.training import Setting, Trained
from ashwood.search.draw import unit_draw
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Double, Space

Curve = Callable[[int, int], float]
"""Returns the metric of a trial at a length."""


def spec_of(settings: SearchSettings, *, smaller_is_better: bool = True, max_restarts: int = 2) -> ExperimentSpec:
    return ExperimentSpec(
        name="simulated",
        space=Space({"lr": Double(0.0, 1.0, count=1)}),
        search=settings,
        metric="loss",
        smaller_is_better=smaller_is_better,
        unit=Unit.EPOCHS,
        entrypoint=Entrypoint(EntrypointKind.FUNCTION, "m:f"),
        workdir="w",
        seed=7,
        max_restarts=max_restarts,
    )


def asha(
    max_trials: int = 40, *, method: Method = Method.ADAPTIVE_ASHA, max_length: int = 64, **more: object
) -> SearchSettings:
    return SearchSettings(method=method, max_length=max_length, max_trials=max_trials, **more)  # type: ignore[arg-type]


def power_law(seed: int, noise: float = 0.05) -> Curve:
    """Return learning curves that cross, because each trial has its own asymptote and speed."""

    def metric(trial: int, length: int) -> float:
        floor, speed = unit_draw(seed, "floor", trial), 0.2 + 0.8 * unit_draw(seed, "speed", trial)
        return floor + float(length**-speed) + noise * unit_draw(seed, "noise", trial, length)

    return metric


class Workers:
    """An experiment and workers in virtual time.

    Args:
        faults: probabilities per unit of length that an attempt fails, rejects its hyperparameters or stops itself.
        preemptions: probability per unit of length that its worker is lost.
        period: length between validations, besides the one at the target, or None for no others.
        checkpoints: whether the training code saves checkpoints.
        size: size of each checkpoint in bytes, or None if unknown.
        step: mean seconds for one unit of length; each trial takes between half and one and a half times as long.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        curve: Curve,
        *,
        workers: int = 4,
        seed: int = 0,
        faults: tuple[float, float, float] = (0.0, 0.0, 0.0),
        preemptions: float = 0.0,
        period: int | None = None,
        checkpoints: bool = True,
        size: int | None = None,
        step: float = 10.0,
    ) -> None:
        self.spec = spec
        self.experiment = Experiment(spec)
        self.entries: list[Entry] = []
        self.clock = VirtualClock(1_000.0)
        self._make = partial(
            _Backend,
            spec,
            _Training(curve, 1 if spec.smaller_is_better else -1, seed, step),
            workers,
            costs=Costs(start=0.5, save=0.2),
            faults=Faults(crashes=_rate(sum(faults), step), preemptions=_rate(preemptions, step)),
            period=period,
            clock=self.clock,
            shares=faults,
            checkpoints=checkpoints,
            size=size,
        )

    def run(self, *, stop_after: int | None = None, crash: bool = False) -> list[Entry]:
        """Run to the end, or pause or crash after ``stop_after`` entries, and return all entries so far."""
        first = len(self.entries)
        engines: list[Engine] = []

        def observe(entries: Sequence[Entry]) -> None:
            self.entries += entries
            if stop_after is not None and len(self.entries) - first >= stop_after:
                if crash:
                    raise _DriverDied
                engines[0].pause()

        with suppress(_DriverDied):
            simulate(self.experiment, self._make(), observers=[observe], watch=engines.append)
        return self.entries

    def retry(self) -> None:
        """Request a retry of failed trials, which does nothing if no trial has failed."""
        self._request(RetryFailedRequested())

    def add(self, *, extra: bool, **hparams: float) -> None:
        """Request a trial with given hyperparameters, which does nothing if no trial can be added."""
        self._request(AddTrialRequested(hparams, extra))

    def _request(self, event: Request) -> None:
        with suppress(IllegalEvent):
            self.entries.append(Entry(self.clock(), event, self.experiment.handle(event)))

    def extend(self, max_trials: int | None, max_length: int | None) -> None:
        """Request an extension of the search, which does nothing if it is not possible."""
        event = ExtendRequested(max_trials, max_length)
        with suppress(IllegalEvent):
            self.entries.append(Entry(self.clock(), event, self.experiment.handle(event)))


class _DriverDied(Exception):
    pass


class _Backend(SimulatedBackend):
    """Replaces crashes by other ends of an attempt, and hides checkpoints if the training code saves none."""

    def __init__(
        self,
        *args: Any,
        shares: tuple[float, float, float],
        checkpoints: bool,
        size: int | None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._size = size
        self._shares = shares
        self._checkpoints = checkpoints

    def next_events(self, timeout: float | None) -> Sequence[Event]:
        events = super().next_events(timeout)
        return [
            self._replaced(event) for event in events if self._checkpoints or not isinstance(event, CheckpointSaved)
        ]

    def _replaced(self, event: Event) -> Event:
        if isinstance(event, CheckpointSaved):
            return event._replace(size=self._size)
        if not isinstance(event, AttemptFailed):
            return event
        failing, rejecting, stopping = self._shares
        fate = unit_draw(0, "fate", event.trial, event.attempt) * (failing + rejecting + stopping)
        if fate < failing:
            return event._replace(error="boom\nTraceback")
        if fate < failing + rejecting:
            return HparamsInvalid(event.trial, event.attempt, "too big")
        return TrialStopped(event.trial, event.attempt)


class _Training(NamedTuple):
    """An implementation of `ashwood.forecast.training.Training` from a learning curve."""

    curve: Curve
    sign: int
    seed: int
    step: float

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        pace = self.step * (0.5 + unit_draw(self.seed, "pace", setting.trial, begin))
        return Trained((end - begin) * pace, self.sign * self.curve(setting.trial, end))


def _rate(chance: float, step: float) -> float:
    return -log1p(-chance) / step if chance < 1 else inf


def arrivals_of(experiment: Experiment) -> tuple[tuple[int, ...], ...]:
    """Return how many trials reached each rung of each bracket, according to the search itself."""
    return tuple(tuple(bracket.arrivals) for bracket in experiment.search.brackets)
