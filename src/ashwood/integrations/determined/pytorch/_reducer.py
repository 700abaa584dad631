"""How the metrics of batches and processes become one number."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from itertools import zip_longest
from typing import Any

import numpy as np
import torch

from ashwood.errors import TrainingCodeError


class Reducer(enum.Enum):
    """How the values of a validation metric in all batches become one value; see `PyTorchTrial.evaluation_reducer`."""

    AVG = 1
    SUM = 2
    MAX = 3
    MIN = 4

    def reduce(self, values: Sequence[Any], weights: Sequence[int] | None = None) -> Any:
        """Return the reduced value.

        Args:
            values: the values, of the batches or of the processes.
            weights: weights of the values in a mean.
        """
        if self is Reducer.AVG:
            return np.average(values, weights=weights)
        functions: dict[Reducer, Any] = {Reducer.SUM: np.sum, Reducer.MAX: np.max, Reducer.MIN: np.min}
        return functions[self](values)


class MetricReducer(ABC):
    """A metric that training code computes from all batches of all processes.

    Pass an instance to ``context.wrap_reducer``, and update it in ``train_batch`` or ``evaluate_batch`` in a way of
    your own.
    """

    @abstractmethod
    def reset(self) -> None:
        """Forget all values; it is called before each part of the training and before each validation."""

    @abstractmethod
    def per_slot_reduce(self) -> Any:
        """Return an intermediate result of this process, which must be possible to pickle."""

    @abstractmethod
    def cross_slot_reduce(self, per_slot_metrics: list[Any]) -> Any:
        """Return the metric, or metrics by name, from the intermediate results of all processes."""


class _FunctionReducer(MetricReducer):
    """A metric that a function computes from the list of all values that were passed to `update`."""

    def __init__(self, function: Callable[[list[Any]], Any]) -> None:
        self.fn = function
        self.reset()

    def reset(self) -> None:
        self.values: list[Any] = []

    def update(self, value: Any) -> None:
        self.values.append(value)

    def per_slot_reduce(self) -> list[Any]:
        return self.values

    def cross_slot_reduce(self, per_slot_metrics: list[list[Any]]) -> Any:
        # Batches were dealt to the processes in turn, so the values are taken in turn to restore their order.
        nothing = object()
        rounds = zip_longest(*per_slot_metrics, fillvalue=nothing)
        return self.fn([value for values in rounds for value in values if value is not nothing])


class _Wrapped:
    def __init__(self, reducer: MetricReducer, name: str | None, for_training: bool, for_validation: bool) -> None:
        self.reducer, self.name = reducer, name
        self.for_training, self.for_validation = for_training, for_validation

    @property
    def title(self) -> str:
        function = getattr(self.reducer, "fn", None)
        title = getattr(function, "__name__", type(self.reducer).__name__)
        return f"the reducer {title}" + (f" of the metric {self.name!r}" if self.name is not None else "")

    def call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self.reducer, method)(*arguments)
        except Exception as error:
            error.add_note(f"in {method}() of {self.title}")
            raise

    def named(self, value: Any) -> dict[str, Any]:
        """Return the metrics by name."""
        if self.name is None and not isinstance(value, Mapping):
            raise TrainingCodeError(
                f"{self.title} returned a {type(value).__name__}: return a dictionary of metrics by name, or pass "
                "name= to wrap_reducer()"
            )
        if self.name is not None and isinstance(value, Mapping):
            raise TrainingCodeError(
                f"{self.title} returned a dictionary: return one value, or leave name= out of wrap_reducer()"
            )
        return dict(value) if self.name is None else {self.name: value}


class ReducerContext:
    """The custom reducers of a trial."""

    def __init__(self, allgather: Callable[[Any], list[Any]] = lambda value: [value]) -> None:
        self._wrapped: list[_Wrapped] = []
        self._allgather = allgather

    def wrap_reducer(
        self,
        reducer: Callable[[list[Any]], Any] | MetricReducer,
        name: str | None = None,
        for_training: bool = True,
        for_validation: bool = True,
    ) -> Any:
        """Register a reducer, and return it; update it in ``train_batch`` or ``evaluate_batch``.

        Args:
            reducer: a `MetricReducer`; or a function of the list of all values, for which an object with a method
                ``update(value)`` is returned.
            name: name of the metric, or None if the reducer returns metrics by name.
            for_training: whether it reduces metrics of the training.
            for_validation: whether it reduces metrics of validations.

        Raises:
            TypeError: ``reducer`` is neither a function nor a `MetricReducer`.
            ValueError: ``reducer`` was wrapped before.
        """
        if any(wrapped.reducer is reducer for wrapped in self._wrapped):
            raise ValueError(f"the reducer {type(reducer).__name__} was passed to wrap_reducer() twice")
        if not isinstance(reducer, MetricReducer):
            if not callable(reducer):
                raise TypeError(f"a reducer must be a function or a pytorch.MetricReducer, not {reducer!r}")
            reducer = _FunctionReducer(reducer)
        self._wrapped.append(_Wrapped(reducer, name, for_training, for_validation))
        return reducer

    def reset_reducers(self) -> None:
        """Reset all reducers."""
        for wrapped in self._wrapped:
            wrapped.call("reset")

    def reduce_metrics(self, for_training: bool) -> dict[str, Any]:
        """Return the metrics of all reducers for training, or of all for validation."""
        chosen = [each for each in self._wrapped if (each.for_training if for_training else each.for_validation)]
        if not chosen:
            return {}
        gathered = self._allgather([wrapped.call("per_slot_reduce") for wrapped in chosen])
        metrics: dict[str, Any] = {}
        for wrapped, parts in zip(chosen, zip(*gathered, strict=True), strict=True):
            metrics |= wrapped.named(wrapped.call("cross_slot_reduce", list(parts)))
        return {name: to_numpy(value) for name, value in metrics.items()}

    def reducer_states(self) -> list[dict[str, Any]]:
        """Return copies of the attributes of all reducers, to restore values that were collected so far."""
        return [
            {name: deepcopy(value) for name, value in vars(wrapped.reducer).items() if name != "fn"}
            for wrapped in self._wrapped
        ]

    def restore_reducers(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Restore what `reducer_states` returned."""
        for wrapped, state in zip(self._wrapped, states, strict=False):
            vars(wrapped.reducer).update(state)


def to_numpy(value: Any) -> Any:
    """Return a metric as an array or number of NumPy if it is a tensor, and otherwise unchanged."""
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().cpu()
    return (value.float() if value.dtype is torch.bfloat16 else value).numpy().copy()


def mean_metrics(batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means of training metrics over batches, leaving out values that are None.

    A metric whose values have no mean, for example texts, is None.
    """
    names = list(dict.fromkeys(name for metrics in batches for name in metrics))
    return {name: _mean([metrics.get(name) for metrics in batches]) for name in names}


def _mean(values: Sequence[Any]) -> Any:
    try:
        measured = [np.asarray(value, dtype=np.float64) for value in values if value is not None]
        return np.mean(measured) if measured else None
    except (TypeError, ValueError):
        return None


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return those metrics that are one number, which are the ones that Ashwood records."""
    found = {}
    for name, value in metrics.items():
        number = to_numpy(value)
        if isinstance(number, np.ndarray | np.generic) and number.size == 1 and number.dtype.kind in "biuf":
            number = number.item()
        if isinstance(number, bool | int | float):
            found[str(name)] = float(number)
    return found
