"""The problems: random settings of a network on ten tasks, and the learning curve of each.

The curves are those of the LCBench surrogate of YAHPO Gym (Pfisterer et al. 2022; Zimmer et al. 2021).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TASKS = ("3945", "126026", "146212", "167149", "167161", "167181", "167200", "168330", "168908", "189862")
"""The tasks to develop with."""

STEPS = 51
"""How long a trial trains at most.  The surrogate's epoch 1 is the untrained network: step k is its epoch k + 1."""

SETTINGS = 10_000
"""How many settings a task's table has: more than any method starts trials within the budgets of `measure`."""

CACHE = Path(__file__).parents[1] / ".quality"
"""Where tables are kept, and what peers have found on them."""

_KEPT = CACHE / "curves-1"
"""Raise the number whenever the settings or the curves change, and that of `benchmarks.quality.theirs` with it."""

FEW_EPOCHS = (1, 2, 3, 4, 5, 7, 10, 14, 18, 22, 29, 37, 45, 52)
"""Epochs at which the surrogate can be asked to be four times as fast.

Among them are those of the rungs of ``mode: auto``.  Between them, curves are interpolated.  The best metric of a curve
then differs by 0.02 to 0.05 points of regret on average.
"""

ALL_EPOCHS = range(1, STEPS + 2)
_BATCH = 2_000


class Parameter(NamedTuple):
    """One hyperparameter, uniform between its bounds.

    Attributes:
        name: in LCBench.
        low: the least value.
        high: the greatest.
        log: whether it is uniform on a logarithmic scale.
        integer: whether it is rounded.
    """

    name: str
    low: float
    high: float
    log: bool = False
    integer: bool = False


PARAMETERS = (
    Parameter("batch_size", 16, 512, log=True, integer=True),
    Parameter("learning_rate", 1e-4, 0.1, log=True),
    Parameter("momentum", 0.1, 0.99),
    Parameter("weight_decay", 1e-5, 0.1),
    Parameter("num_layers", 1, 5, integer=True),
    Parameter("max_units", 64, 1024, log=True, integer=True),
    Parameter("max_dropout", 0, 1),
)
"""In the order in which the surrogate takes them, after the epoch."""


class Curves(NamedTuple):
    """Learning curves, a row a setting, a column a step.

    Attributes:
        metric: the validation accuracy after the step, in percent.
        seconds: since the trial started, rising.
    """

    metric: NDArray[np.float32]
    seconds: NDArray[np.float32]


class Problem:
    """A task and its table.

    Attributes:
        task: its number at OpenML.
        curves: of random settings.
    """

    def __init__(self, task: str, curves: Curves) -> None:
        self.task = task
        self.curves = curves

    def order(self, seed: int) -> NDArray[np.int64]:
        """Which setting trial n of a run gets: the same for every method that samples at random."""
        return np.random.default_rng([int(self.task), 1, seed]).permutation(len(self.curves.metric))

    @cached_property
    def full_seconds(self) -> float:
        """What training to the end takes on average."""
        return float(self.curves.seconds[:, -1].mean(dtype=np.float64))

    @cached_property
    def best(self) -> float:
        """The best metric in the table, after whatever step."""
        return float(self.curves.metric.max())

    @cached_property
    def median(self) -> float:
        """The median metric at the end of training."""
        return float(np.median(self.curves.metric[:, -1]))

    @cached_property
    def worst(self) -> float:
        """The worst metric in the table: what a search is held to have before its first validation."""
        return float(self.curves.metric.min())


class Surrogate:
    """The network that predicts curves, for settings in or outside of the table.

    Args:
        directory: where ``model.onnx`` and ``encoding.json`` are.
    """

    def __init__(self, directory: Path) -> None:
        # Only here: it is no dependency of ours, and where the tables are kept already nobody needs it.
        onnxruntime = import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            str(directory / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._codes: dict[str, int] = json.loads((directory / "encoding.json").read_text())["OpenML_task_id"]

    @property
    def tasks(self) -> Sequence[str]:
        """All tasks that it knows."""
        return [task for task in self._codes if task.isdigit()]

    def curves(self, task: str, settings: NDArray[np.float64], epochs: Sequence[int] = ALL_EPOCHS) -> Curves:
        """Return the curves of some settings, a row each, columns as `PARAMETERS`.

        Args:
            task: the task.
            settings: the settings.
            epochs: epochs at which the network is asked, with the first and the last one; others are interpolated.
        """
        batches = [settings[at : at + _BATCH] for at in range(0, len(settings), _BATCH)]
        parts = [self._curves(task, batch, epochs) for batch in batches]
        return Curves(np.concatenate([part.metric for part in parts]), np.concatenate([part.seconds for part in parts]))

    def _curves(self, task: str, settings: NDArray[np.float64], epochs: Sequence[int]) -> Curves:
        rows = len(settings) * len(epochs)
        epoch = np.tile(epochs, len(settings))
        inputs = {
            "x_cat": np.full((rows, 1), self._codes[task], np.int32),
            "x_cont": np.column_stack([epoch, np.repeat(settings, len(epochs), axis=0)]).astype(np.float32),
        }
        output = self._session.run(None, inputs)[0].reshape(len(settings), len(epochs), -1).astype(np.float64)
        seconds, metric = output[:, :, 0], output[:, :, 1]
        if len(epochs) < len(ALL_EPOCHS):
            seconds, metric = (
                np.stack([np.interp(ALL_EPOCHS, epochs, row) for row in each]) for each in (seconds, metric)
            )
        steps = np.diff(seconds, axis=1)
        # Predicted times can fall a little from one epoch to the next, and for a few settings from most to the next.
        steps = np.maximum(steps, 0.05 * np.median(np.abs(steps), axis=1, keepdims=True))
        return Curves(metric[:, 1:].astype(np.float32), np.cumsum(steps, axis=1).astype(np.float32))


def confirming_tasks(directory: Path) -> Sequence[str]:
    """The tasks to confirm results on, never to tune to."""
    return [task for task in Surrogate(directory).tasks if task not in TASKS]


def problems(directory: Path, tasks: Sequence[str] = TASKS) -> list[Problem]:
    """The problems; the tables that are missing are computed, in a minute or two for all, and kept.

    Args:
        directory: of the surrogate.
        tasks: which tasks.
    """
    if missing := [task for task in tasks if not table_path(task).exists()]:
        surrogate = Surrogate(directory)
        _KEPT.mkdir(parents=True, exist_ok=True)
        for task in missing:
            print(f"  the curves of task {task}", file=sys.stderr)
            curves = surrogate.curves(task, random_settings(task))
            half = table_path(task).with_suffix(".half.npz")
            np.savez(half, metric=curves.metric, seconds=curves.seconds)
            half.replace(table_path(task))
    return [Problem(task, read_table(table_path(task))) for task in tasks]


def random_settings(task: str) -> NDArray[np.float64]:
    """The settings of a task's table."""
    return settings_at(np.random.default_rng([int(task), 0]).random((SETTINGS, len(PARAMETERS))))


def settings_at(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """The settings at places in the unit cube, a row each, columns as `PARAMETERS`."""
    return np.column_stack([_scale(parameter, draws[:, at]) for at, parameter in enumerate(PARAMETERS)])


def _scale(parameter: Parameter, draws: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = parameter.low, parameter.high
    if parameter.log:
        values = low * (high / low) ** draws
    elif parameter.integer:
        return low + np.floor(draws * (high - low + 1))
    else:
        values = low + draws * (high - low)
    return np.rint(values) if parameter.integer else values


def table_path(task: str) -> Path:
    """Where a task's table is kept."""
    return _KEPT / f"{task}.npz"


def read_table(path: Path) -> Curves:
    """A table from its file."""
    with np.load(path) as table:
        return Curves(table["metric"], table["seconds"])
