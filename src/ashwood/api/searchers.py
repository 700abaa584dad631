"""Searchers of the Python API; each class is a ``searcher`` section of an experiment file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any, ClassVar, Literal, TypeAlias

LengthLike: TypeAlias = int | Mapping[Literal["batches", "records", "epochs"], int]
"""A length, such as ``{"epochs": 27}``, or a plain number of steps of the training code."""

StopWhen: TypeAlias = Mapping[Literal["metric_at", "max_time"], float | str]
"""Bounds at which the search stops, such as ``{"metric_at": 0.98, "max_time": "2h"}``; a plain number means seconds."""


@dataclass(frozen=True, kw_only=True)
class Searcher:
    """Base class of all searchers, with the settings that they have in common.

    Attributes:
        metric: name of the metric that the search compares, as training code reports it.
        max_length: total length to which the best trials train: ``{"epochs": 27}``, or a number of steps.
        smaller_is_better: whether a smaller metric is better.  The default is True, with a warning if the name of the
            metric suggests the opposite.
        stop_when: bounds at which the search stops, such as ``{"metric_at": 0.98, "max_time": "2h"}``.
        replicates: how many of the best trials train again with another seed, after all others and in addition to
            ``max_trials``.  The recommendation then goes by the mean of each setting.
        start_with: hyperparameters of the first trials, such as ``[{"lr": 0.1}]``: a mapping for each trial, with all
            of them or only some; the others are drawn.  Not for `Grid`.
        source_trial_id: ``"EXPERIMENT/TRIAL"``; all trials start from the latest checkpoint of that trial.
        source_checkpoint_uuid: directory or URL of a checkpoint from which all trials start.
    """

    name: ClassVar[str]

    metric: str
    max_length: LengthLike
    smaller_is_better: bool | None = None
    stop_when: StopWhen | None = None
    replicates: int | None = None
    start_with: Sequence[Mapping[str, Any]] | None = None
    source_trial_id: str | None = None
    source_checkpoint_uuid: str | None = None

    def to_config(self) -> dict[str, Any]:
        """Return the equivalent ``searcher`` section of an experiment file."""
        settings = {key: value for key, value in asdict(self).items() if value is not None}
        return {"name": self.name, **settings}


@dataclass(frozen=True, kw_only=True)
class _ManyTrials(Searcher):
    max_concurrent_trials: int = 16


@dataclass(frozen=True, kw_only=True)
class _Sampled(_ManyTrials):
    max_trials: int
    sampler: Literal["random", "density"] | None = None
    warm_start: Sequence[int | str | PathLike[str]] | None = None


@dataclass(frozen=True, kw_only=True)
class AdaptiveASHA(_Sampled):
    """Adaptive ASHA: several brackets of asynchronous successive halving, from aggressive to conservative.

    Example::

        ashwood.AdaptiveASHA(metric="validation_loss", max_length={"epochs": 27}, max_trials=100)

    `Searcher` documents the settings that all searchers have.

    Attributes:
        max_trials: total number of trials to create.
        max_concurrent_trials: maximum number of trials that train at the same time; 0 means one for each slot.
        mode: how early trials are stopped: ``aggressive``, ``standard`` or ``conservative``.  With ``auto`` there is
            one bracket with all rungs, and rungs that do not predict which trials are good are skipped.
        divisor: one of ``divisor`` trials is promoted at each rung; by default 4, or 2.5 with ``mode="auto"``.
        max_rungs: maximum number of rungs of a bracket; by default 5, or 7 with ``mode="auto"``.
        sampler: how hyperparameters are drawn: ``random``, or ``density``, which draws three of four trials near the
            values of good ones.  The default is ``random``, or ``density`` with ``mode="auto"``.
        warm_start: past searches, near whose good settings trials are drawn as long as results agree: IDs of
            experiments, or CSV files with a column for each hyperparameter and for the metric.
        bracket_rungs: number of rungs of each bracket, instead of ``mode``.
        stop_once: whether a trial is judged once at each rung and then either continues or stops for good.  No trial
            is paused.
        audit: share of promotions that are audits, from 0 to below 1: a trial that is drawn at random among all that
            wait in the rung is promoted, to check what early stopping misses.  The default is 0, or 0.03 with
            ``mode="auto"``.
    """

    name: ClassVar[str] = "adaptive_asha"

    mode: Literal["aggressive", "standard", "conservative", "auto"] = "standard"
    divisor: float | None = None
    max_rungs: int | None = None
    bracket_rungs: Sequence[int] | None = None
    stop_once: bool = False
    audit: float | None = None


@dataclass(frozen=True, kw_only=True)
class AsyncHalving(_Sampled):
    """One bracket of asynchronous successive halving (ASHA).

    Example::

        ashwood.AsyncHalving(metric="validation_loss", max_length={"epochs": 27}, max_trials=100)

    `Searcher` documents the settings that all searchers have.

    Attributes:
        max_trials: total number of trials to create.
        max_concurrent_trials: maximum number of trials that train at the same time; 0 means one for each slot.
        num_rungs: number of rungs; by default, at most 5, and fewer if ``max_length`` is short.
        divisor: one of ``divisor`` trials is promoted at each rung.
        sampler: how hyperparameters are drawn, ``random`` (the default) or ``density``.
        warm_start: past searches, near whose good settings trials are drawn as long as results agree: IDs of
            experiments, or CSV files with a column for each hyperparameter and for the metric.
        stop_once: whether a trial is judged once at each rung and then either continues or stops for good.  No trial
            is paused.
        audit: share of promotions that are audits, from 0 to below 1: a trial that is drawn at random among all that
            wait in the rung is promoted, to check what early stopping misses.
    """

    name: ClassVar[str] = "async_halving"

    num_rungs: int | None = None
    divisor: float = 4
    stop_once: bool = False
    audit: float = 0


@dataclass(frozen=True, kw_only=True)
class SyncHalving(_Sampled):
    """One bracket of synchronous successive halving.

    Example::

        ashwood.SyncHalving(metric="validation_loss", max_length={"epochs": 27}, max_trials=64)

    `Searcher` documents the settings that all searchers have.

    Attributes:
        max_trials: total number of trials to create.
        max_concurrent_trials: maximum number of trials that train at the same time; 0 means one for each slot.
        num_rungs: number of rungs; by default, at most 5, and fewer if ``max_length`` is short.
        divisor: one of ``divisor`` trials is promoted at each rung.
        sampler: how hyperparameters are drawn, ``random`` (the default) or ``density``.
        warm_start: past searches, near whose good settings trials are drawn as long as results agree: IDs of
            experiments, or CSV files with a column for each hyperparameter and for the metric.
    """

    name: ClassVar[str] = "sync_halving"

    num_rungs: int | None = None
    divisor: float = 4


@dataclass(frozen=True, kw_only=True)
class RandomSearch(_Sampled):
    """Random search: every trial trains to ``max_length``.

    Example::

        ashwood.RandomSearch(metric="validation_loss", max_length={"epochs": 27}, max_trials=20)

    `Searcher` documents the settings that all searchers have.

    Attributes:
        max_trials: total number of trials to create.
        max_concurrent_trials: maximum number of trials that train at the same time; 0 means one for each slot.
        sampler: how hyperparameters are drawn, ``random`` (the default) or ``density``.
        warm_start: past searches, near whose good settings trials are drawn as long as results agree: IDs of
            experiments, or CSV files with a column for each hyperparameter and for the metric.
    """

    name: ClassVar[str] = "random"


@dataclass(frozen=True, kw_only=True)
class Grid(_ManyTrials):
    """Grid search: a trial for each point of a grid trains to ``max_length``.

    Int, double and log hyperparameters need a ``count``.  Example with 6 trials::

        hparams = {"lr": ashwood.Log(-4, -2, count=3), "layers": ashwood.Categorical([1, 2])}
        searcher = ashwood.Grid(metric="validation_loss", max_length={"epochs": 27})

    `Searcher` documents the settings that all searchers have.

    Attributes:
        max_concurrent_trials: maximum number of trials that train at the same time; 0 means one for each slot.
    """

    name: ClassVar[str] = "grid"


@dataclass(frozen=True, kw_only=True)
class Single(Searcher):
    """One trial, which trains to ``max_length``.

    Example::

        ashwood.Single(metric="validation_loss", max_length={"epochs": 27})

    `Searcher` documents the settings that all searchers have.
    """

    name: ClassVar[str] = "single"
