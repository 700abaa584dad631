"""Searchers of the Python API: the ``searcher`` section of an experiment file as classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, TypeAlias

LengthLike: TypeAlias = int | Mapping[Literal["batches", "records", "epochs"], int]
"""``{"epochs": 27}``, or a bare number of whatever the training code counts."""

StopWhen: TypeAlias = Mapping[Literal["metric_at", "max_time"], float | str]
"""``{"metric_at": 0.98, "max_time": "2h"}``, or one of them; a time is in seconds, or text."""


@dataclass(frozen=True, kw_only=True)
class Searcher:
    """What all searchers have.

    Attributes:
        metric: name of the metric that the search compares, as training code reports it.
        max_length: how long the best trials train, ``{"epochs": 27}`` or a number of steps.
        smaller_is_better: whether a smaller metric is better; default: it is, with a warning if its name says not.
        stop_when: when to stop the search, ``{"metric_at": 0.98, "max_time": "2h"}``.
        source_trial_id: ``"EXPERIMENT/TRIAL"``: every trial starts from the latest checkpoint of that trial.
        source_checkpoint_uuid: directory or URL of a checkpoint that every trial starts from.
    """

    name: ClassVar[str]

    metric: str
    max_length: LengthLike
    smaller_is_better: bool | None = None
    stop_when: StopWhen | None = None
    source_trial_id: str | None = None
    source_checkpoint_uuid: str | None = None

    def to_config(self) -> dict[str, Any]:
        """Return the ``searcher`` section of the experiment file that says the same."""
        settings = {key: value for key, value in asdict(self).items() if value is not None}
        return {"name": self.name, **settings}


@dataclass(frozen=True, kw_only=True)
class _ManyTrials(Searcher):
    max_concurrent_trials: int = 16


@dataclass(frozen=True, kw_only=True)
class AdaptiveASHA(_ManyTrials):
    """Several brackets of asynchronous successive halving, from aggressive to conservative.

    See `Searcher` for what all searchers have.

    Attributes:
        max_trials: how many trials to create in all.
        max_concurrent_trials: how many trials may train at once; 0: as many as there is room for.
        mode: how early trials are stopped: ``aggressive``, ``standard``, ``conservative``, or ``auto``: one bracket
            with every rung, which skips rungs that mislead.
        divisor: one trial in ``divisor`` is promoted at each rung; by default 4, with ``mode="auto"`` 2.5.
        max_rungs: maximum number of rungs of a bracket; by default 5, with ``mode="auto"`` 7.
        sampler: how hyperparameters are drawn: ``random``, or ``density``: three in four where good trials have been;
            by default ``random``, with ``mode="auto"`` ``density``.
        bracket_rungs: number of rungs of each bracket, instead of ``mode``.
        stop_once: whether a trial is judged once at each rung, and trains on or stops for good; no trial pauses.
    """

    name: ClassVar[str] = "adaptive_asha"

    max_trials: int
    mode: Literal["aggressive", "standard", "conservative", "auto"] = "standard"
    divisor: float | None = None
    max_rungs: int | None = None
    sampler: Literal["random", "density"] | None = None
    bracket_rungs: Sequence[int] | None = None
    stop_once: bool = False


@dataclass(frozen=True, kw_only=True)
class AsyncHalving(_ManyTrials):
    """One bracket of asynchronous successive halving.

    See `Searcher` for what all searchers have.

    Attributes:
        max_trials: how many trials to create in all.
        max_concurrent_trials: how many trials may train at once; 0: as many as there is room for.
        num_rungs: number of rungs; by default, at most 5.
        divisor: one trial in so many is promoted at each rung.
        sampler: how hyperparameters are drawn, ``random`` (the default) or ``density``.
        stop_once: whether a trial is judged once at each rung, and trains on or stops for good; no trial pauses.
    """

    name: ClassVar[str] = "async_halving"

    max_trials: int
    num_rungs: int | None = None
    divisor: float = 4
    sampler: Literal["random", "density"] | None = None
    stop_once: bool = False


@dataclass(frozen=True, kw_only=True)
class SyncHalving(_ManyTrials):
    """One bracket of synchronous successive halving.

    See `Searcher` for what all searchers have.

    Attributes:
        max_trials: how many trials to create in all.
        max_concurrent_trials: how many trials may train at once; 0: as many as there is room for.
        num_rungs: number of rungs; by default, at most 5.
        divisor: one trial in so many is promoted at each rung.
        sampler: how hyperparameters are drawn, ``random`` (the default) or ``density``.
    """

    name: ClassVar[str] = "sync_halving"

    max_trials: int
    num_rungs: int | None = None
    divisor: float = 4
    sampler: Literal["random", "density"] | None = None


@dataclass(frozen=True, kw_only=True)
class RandomSearch(_ManyTrials):
    """Every trial trains to the end.

    See `Searcher` for what all searchers have.

    Attributes:
        max_trials: how many trials to create in all.
        max_concurrent_trials: how many trials may train at once; 0: as many as there is room for.
        sampler: how hyperparameters are drawn, ``random`` (the default) or ``density``.
    """

    name: ClassVar[str] = "random"

    max_trials: int
    sampler: Literal["random", "density"] | None = None


@dataclass(frozen=True, kw_only=True)
class Grid(_ManyTrials):
    """Every point of a grid trains to the end; int, double and log hyperparameters need a ``count``.

    See `Searcher` for what all searchers have.

    Attributes:
        max_concurrent_trials: how many trials may train at once; 0: as many as there is room for.
    """

    name: ClassVar[str] = "grid"


@dataclass(frozen=True, kw_only=True)
class Single(Searcher):
    """One trial, trained to the end.  See `Searcher` for what it takes."""

    name: ClassVar[str] = "single"
