"""Problems: tables of settings with learning curves for several training seeds.

A search sees the curve of one seed of each setting.  What counts is the mean over all seeds at full length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import lcbench

BUDGET = 50
"""Total training of a search, in full trainings, if nothing else is said."""

WORKERS = 4
"""Number of workers for that budget; larger budgets have more."""

_LCBENCH_SETTINGS = 2_000
_SYNTHETIC_SETTINGS = 1_000
_SYNTHETIC_LENGTH = 27
_DRIFT = 0.3
"""Correlation of what hides the quality between two successive steps."""

ARLBENCH_TASKS = (
    "atari_battle_zone_dqn",
    "atari_phoenix_dqn",
    "atari_this_game_dqn",
    "box2d_bipedal_walker_sac",
    "brax_ant_sac",
    "brax_hopper_sac",
    "cc_acrobot_dqn",
    "cc_cartpole_ppo",
    "cc_mountain_car_ppo",
    "cc_pendulum_sac",
    "minigrid_door_key_ppo",
    "minigrid_empty_random_dqn",
)
"""The tasks to develop with."""


class Problem:
    """A table of settings and their learning curves.

    Attributes:
        name: name of the task.
        places: position of each setting in the unit cube, shape (settings, hyperparameters).
        metric: shape (settings, seeds, steps); higher is better, NaN if there is no result.
    """

    def __init__(self, name: str, places: NDArray[np.float64], metric: NDArray[np.floating]) -> None:
        self.name = name
        self.places = places
        self.metric = metric

    @property
    def steps(self) -> int:
        """Length of a full training."""
        return self.metric.shape[2]

    @cached_property
    def true(self) -> NDArray[np.float64]:
        """Mean over all seeds of each setting at full length, or the worst metric if there is no result."""
        last = self.metric[:, :, -1].astype(np.float64)
        known = ~np.isnan(last)
        means = np.where(known, last, 0).sum(axis=1) / np.maximum(1, known.sum(axis=1))
        return np.where(known.any(axis=1), means, np.nanmin(self.metric))

    def regret(self, setting: int) -> float:
        """Regret of a setting: 0 is the best one of the table, 100 the median one."""
        best = self.true.max()
        return float(100 * (best - self.true[setting]) / (best - np.median(self.true)))


def drawn_settings(problem: Problem, seed: int) -> Iterator[tuple[int, int]]:
    """Yield the setting and the training seed of each trial of a random search with a seed."""
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(problem.places))
    while True:
        for setting in order:
            yield int(setting), int(rng.integers(problem.metric.shape[1]))


def arlbench(directory: Path, tasks: Sequence[str] = ARLBENCH_TASKS) -> list[Problem]:
    """Return the tasks of ARLBench (Becktepe et al. 2024, arXiv:2409.18827): 256 settings, 10 seeds, 10 lengths."""
    problems = []
    for task in tasks:
        with np.load(directory / f"{task}.npz") as table:
            places = np.column_stack([_positions(column) for column in table["hp"].T])
            problems.append(Problem(task, places, table["performance"]))
    return problems


def _positions(values: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return the positions of the values of one hyperparameter: 256 Sobol points are nearly even in its range."""
    try:
        numbers = np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        numbers = np.unique(values, return_inverse=True)[1].astype(np.float64)
    known = ~np.isnan(numbers)
    ranks = np.unique(numbers[known], return_inverse=True)[1]
    positions = np.full(len(values), 0.5)
    positions[known] = (ranks + 0.5) / (ranks.max() + 1)
    return positions


def lcbench_problems(directory: Path, tasks: Sequence[str] = lcbench.TASKS) -> list[Problem]:
    """Return tasks of LCBench: smooth curves of 51 steps and a single seed."""
    draws = (
        np.random.default_rng([int(task), 0]).random((lcbench.SETTINGS, len(lcbench.PARAMETERS))) for task in tasks
    )
    return [
        Problem(table.task, places[:_LCBENCH_SETTINGS], table.curves.metric[:_LCBENCH_SETTINGS, np.newaxis])
        for table, places in zip(lcbench.problems(directory, tasks), draws, strict=True)
    ]


def synthetic() -> list[Problem]:
    """Return curves with a known correlation between the metric at each length and the quality of a setting.

    The correlation rises from a first value to 0.97 at full length: linearly in the logarithm of the length, or in one
    step at a ninth or at half of the full length (as after a warm-up).
    """
    smooth = [
        _synthetic(f"correlation {first:g}", first, None) for first in (0.95, 0.8, 0.65, 0.5, 0.35, 0.2, 0.0, -0.3)
    ]
    late = [_synthetic(f"correlation {first:g} until step {at}", first, at) for first in (0.0, -0.5) for at in (4, 14)]
    return [*smooth, *late, _synthetic("correlation 0 until the end", 0.0, _SYNTHETIC_LENGTH)]


def _synthetic(name: str, first: float, rises_at: int | None) -> Problem:
    rng = np.random.default_rng([round(100 * (1 + first)), rises_at or 0])
    count, steps, seeds = _SYNTHETIC_SETTINGS, _SYNTHETIC_LENGTH, 4
    places = rng.random((count, 3))
    # Two hyperparameters explain two thirds of the variance of the quality, in ranks.
    shape = -((places[:, 0] - 0.3) ** 2) - 0.5 * (places[:, 1] - 0.7) ** 2
    quality = _normal(_normal(shape) * np.sqrt(2 / 3) + rng.standard_normal(count) * np.sqrt(1 / 3))
    length = np.arange(1, steps + 1)
    if rises_at is None:
        correlation = first + (0.97 - first) * np.log(length) / np.log(steps)
    else:
        correlation = np.where(length < rises_at, first, 0.97)
    # What hides the quality changes slowly along a curve, as far as it differs at all between its steps.
    noise = np.zeros((count, seeds, steps))
    noise[:, :, 0] = rng.standard_normal((count, seeds))
    for step in range(1, steps):
        noise[:, :, step] = _DRIFT * noise[:, :, step - 1] + np.sqrt(1 - _DRIFT**2) * rng.standard_normal(
            (count, seeds)
        )
    spread = np.sqrt(1 - correlation**2)
    return Problem(name, places, quality[:, np.newaxis, np.newaxis] * correlation + noise * spread)


def _normal(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return (values - values.mean()) / values.std()
