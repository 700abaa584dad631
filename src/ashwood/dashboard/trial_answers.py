"""The JSON answers of the API about trials: each is a dataclass, beside the function that fills it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import yaml

from ashwood.checkpoints.port import is_foreign
from ashwood.dashboard.experiment_cache import CachedExperiment
from ashwood.errors import NotFound
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment import decisions as d
from ashwood.experiment import events as e
from ashwood.experiment.entry import Entry
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import BracketFinished, ReachedEnd, TrialId, Waits
from ashwood.views.descriptions import describe_decision, describe_event, describe_reason, is_routine
from ashwood.views.table import Record, heading
from ashwood.views.trials import TrialRow
from ashwood.views.wording import known_length


@dataclass(frozen=True)
class TableColumn:
    """A column of a table; its ``kind`` is number, text, time, duration, state or trial."""

    key: str
    label: str
    kind: str
    hyperparameter: bool


@dataclass(frozen=True)
class KnownValues:
    """Values that the column of a condition has: texts, or the smallest and the largest number."""

    condition: str
    key: str
    values: Sequence[str]
    least: float | None
    most: float | None


@dataclass(frozen=True)
class TrialsPage:
    """A page of the table of trials; ``total`` counts all trials, ``matching`` those that meet the conditions.

    If none match, ``known`` has the known values of the column of each condition that no trial satisfies.
    """

    total: int
    matching: int
    seq: int
    sort: str
    columns: list[TableColumn]
    rows: list[dict[str, Any]]
    known: list[KnownValues] = field(default_factory=list)


@dataclass(frozen=True)
class TrialStep:
    """A decision about a trial, with the numbers in its reason; each is null if the reason has no such number."""

    at: float
    kind: str
    text: str
    reason: str
    target: int | None
    rung: int | None
    rank: int | None
    of: int | None
    best: int | None


@dataclass(frozen=True)
class TrialAttempt:
    """An attempt: one process that trained a trial; ``how`` says how it ended."""

    number: int
    slot: int
    node: str | None
    length: int
    started_at: float
    ended_at: float | None = None
    how: str = "training"
    error: str | None = None


@dataclass(frozen=True)
class TrialEvent:
    """An event of a trial, described in a few words."""

    at: float
    text: str


@dataclass(frozen=True)
class TrialCheckpoint:
    """A checkpoint; ``download`` is the address of its tar archive, or null if it cannot be downloaded."""

    name: str
    length: int
    metric: float | None
    saved_at: float
    size: int | None
    kept_as: Sequence[str]
    place: str
    download: str | None


@dataclass(frozen=True)
class TrialPage:
    """A trial's page, without its curves and its output; its hyperparameters also in formats to copy.

    ``replicates`` are the trials that have trained its settings again with other seeds.  ``standing`` says why the
    trial has its state, in one sentence without a final period.
    """

    row: dict[str, Any]
    replicates: list[TrialId]
    standing: str
    hyperparameters: Mapping[str, Any]
    as_yaml: str
    as_python: str
    target: int | None
    lengths: Sequence[int | None]
    way: list[TrialStep]
    attempts: list[TrialAttempt]
    happenings: list[TrialEvent]
    checkpoints: list[TrialCheckpoint]
    errors: Sequence[str]
    can: dict[str, bool]


@dataclass(frozen=True)
class MetricCurve:
    """A metric of a trial by length; a value is null if it is not a finite number."""

    lengths: list[int]
    at: list[float]
    values: list[float | None]


@dataclass(frozen=True)
class TrialMetrics:
    """A trial's curves, by the name of the metric; ``total`` is its number of reports."""

    total: int
    seq: int
    metrics: dict[str, MetricCurve]


@dataclass(frozen=True)
class OutputPiece:
    """A part of a trial's output; ``begin``, ``end`` and ``size`` are in bytes."""

    text: str = ""
    begin: int = 0
    end: int = 0
    size: int = 0
    exists: bool = False


def columns_of(values: Record) -> list[TableColumn]:
    """Return the columns of a table, from an example value of each."""
    kinds = {"created_at": "time", "ended_at": "time", "seconds": "duration", "trial": "trial", "state": "state"}

    def kind(name: str, value: Any) -> str:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return kinds.get(name) or ("number" if is_number else "text")

    return [
        TableColumn(name, heading(name, values), kind(name, value), name.startswith("hparams."))
        for name, value in values.items()
    ]


def copies(row: TrialRow) -> dict[str, Any]:
    """Return a trial's hyperparameters in formats to copy: as JSON, YAML and Python."""
    hparams = dict(row.hparams)
    return {
        "hyperparameters": hparams,
        "as_yaml": yaml.safe_dump({"hyperparameters": hparams}, sort_keys=False, allow_unicode=True),
        "as_python": f"hparams = {hparams!r}",
    }


def table_row(cached: CachedExperiment, trial: TrialId) -> dict[str, Any]:
    """Return a trial as a row of a table; numbers that are not finite are the texts nan, inf and -inf."""
    return {
        name: str(value) if isinstance(value, float) and not isfinite(value) else value
        for name, value in cached.record(trial).items()
    }


def find_trial(cached: CachedExperiment, trial: TrialId) -> TrialRow:
    """Return a trial's row.

    Raises:
        NotFound: there is no such trial, or the event log has not been read far enough yet.
    """
    rows = cached.history.progress.trials.rows
    if trial not in rows:
        there = f"it has trials 0 to {len(rows) - 1}" if rows else "it has none yet"
        raise NotFound(f"experiment {cached.id} has no trial {trial}; {there}")
    return rows[trial]


def trial_page(cached: CachedExperiment, trial: TrialId) -> TrialPage:
    """Return a trial's page without its curves and its output."""
    row, unit, views = find_trial(cached, trial), cached.spec.unit, cached.history
    entries = cached.entries_about(trial)
    happenings = [
        (at, event)
        for at, event, _ in entries
        if getattr(event, "trial", None) == trial and not isinstance(event, e.ValidationReported)
    ]
    return TrialPage(
        row=table_row(cached, trial),
        replicates=[each for each, original in views.ladder.originals.items() if original == trial],
        standing=_standing(cached, row, entries),
        **copies(row),
        target=known_length(row.target),
        lengths=[known_length(length) for length in views.ladder.lengths[row.bracket]],
        way=[
            _step(entry.at, decision, cached.spec)
            for entry in entries
            for decision in entry.decisions
            if getattr(decision, "trial", None) == trial and not is_routine(decision)
            # The decision that closes the trial says the same.
            if not isinstance(decision, d.AbortTrial)
        ],
        attempts=_attempts(cached, trial, happenings),
        # Checkpoints have a list of their own.
        happenings=[
            TrialEvent(at, describe_event(event, unit))
            for at, event in happenings
            if not isinstance(event, e.CheckpointSaved)
        ],
        checkpoints=_checkpoints(cached, trial),
        errors=row.errors,
        can=dict.fromkeys(("stop", "kill"), not row.state.ended),
    )


def _standing(cached: CachedExperiment, row: TrialRow, entries: Sequence[Entry]) -> str:
    """Return why a trial has its state: its rank if it waits, was stopped or completed, and otherwise the reason."""
    if row.state is TrialState.RUNNING:
        return ""
    decisions = (each for entry in reversed(entries) for each in reversed(entry.decisions))
    own = (each for each in decisions if getattr(each, "trial", None) == row.id)
    last = next((each for each in own if not isinstance(each, d.DeleteCheckpoint)), None)
    if isinstance(getattr(last, "why", None), BracketFinished | ReachedEnd | Waits):
        rank = cached.history.ladder.rank(row.id)
        if rank is not None:
            return rank.describe(cached.spec.unit)
    return "" if last is None else describe_reason(last, cached.spec.unit)


def _checkpoints(cached: CachedExperiment, trial: TrialId) -> list[TrialCheckpoint]:
    table, root = cached.history.checkpoints, cached.cache.home.checkpoints(cached.id, cached.spec)
    kept = table.kept_as(trial)

    def answer(name: str, length: int, metric: float | None, saved_at: float, size: int | None) -> TrialCheckpoint:
        # Logs of version 1 name checkpoints by any directory, so these are not offered for download.
        own = not is_foreign(name)
        path, download = (f"{root}/{name}", download_path(cached.id, trial, name)) if own else (name, None)
        return TrialCheckpoint(name, length, metric, saved_at, size, kept.get(name, ()), path, download)

    return [answer(each.name, each.length, each.metric, each.saved_at, each.size) for each in table.of(trial)]


def download_path(experiment: ExperimentId, trial: TrialId, checkpoint: str) -> str:
    """Return the address of a checkpoint as a tar archive."""
    name = checkpoint.rpartition("/")[2]
    return f"/api/v1/experiments/{experiment}/trials/{trial}/checkpoints/{name}/download"


_KINDS: Mapping[type, str] = {
    d.CreateTrial: "created",
    d.TrainTrial: "trains",
    d.ContinueTrial: "continues",
    d.PauseTrial: "paused",
    d.SuspendTrial: "suspended",
    d.CompleteTrial: "completed",
    d.StopTrial: "stopped",
    d.CloseTrial: "closed",
    d.ReopenTrial: "reopened",
    d.DeleteCheckpoint: "checkpoint deleted",
}


def _step(at: float, decision: d.Decision, spec: ExperimentSpec) -> TrialStep:
    why = getattr(decision, "why", None)
    return TrialStep(
        at=at,
        kind=_KINDS.get(type(decision), "other"),
        text=describe_decision(decision, spec.unit),
        reason=describe_reason(decision, spec.unit),
        target=None if spec.search.open_ended else getattr(decision, "target", None),
        **{name: getattr(why, name, None) for name in ("rung", "rank", "of", "best")},
    )


def _attempts(
    cached: CachedExperiment, trial: TrialId, happenings: Sequence[tuple[float, e.Event]]
) -> list[TrialAttempt]:
    attempts: dict[int, TrialAttempt] = {}
    for at, event in happenings:
        if isinstance(event, e.AttemptStarted):
            started = TrialAttempt(event.attempt, event.slot, event.node or None, event.length, at)
            attempts[event.attempt] = started
        elif isinstance(event, e.FinalEvent) and event.attempt in attempts:
            how, error = _end_of(event)
            attempts[event.attempt] = replace(attempts[event.attempt], ended_at=at, how=how, error=error)
    live = cached.history.progress.trials.spending.live.get(trial)
    lost = {number for number, each in attempts.items() if each.ended_at is None}
    for number in lost - ({live.attempt} if live else set()):
        ended_at = _end_of_driver(cached, attempts[number].started_at)
        attempts[number] = replace(attempts[number], ended_at=ended_at, how="lost its driver")
    return list(attempts.values())


def _end_of_driver(cached: CachedExperiment, at: float) -> float:
    """Return the last known time of the driver that ran at the time ``at``."""
    shifts = cached.history.timeline.shifts
    return next((end for begin, end in reversed(shifts) if begin <= at), at)


_ENDS: Mapping[type, str] = {
    e.AttemptEnded: "finished",
    e.AttemptFailed: "failed",
    e.AttemptPreempted: "lost its worker",
    e.StorageFailed: "found a disk full",
    e.CheckpointDamaged: "found its checkpoint damaged",
    e.HparamsInvalid: "declared its hyperparameters invalid",
    e.TrialStopped: "ended by itself",
}


def _end_of(event: e.FinalEvent) -> tuple[str, str | None]:
    """Return how an attempt ended, and its error message or None."""
    if isinstance(event, e.AttemptFailed) and not event.is_failure:
        return e.ABORTED, None
    if isinstance(event, e.StorageFailed) and event.cause == e.UNREACHABLE:
        return "could not use the checkpoint storage", event.error
    if isinstance(event, e.AttemptPreempted) and event.hung:
        return "was killed", event.why
    return _ENDS[type(event)], getattr(event, "error", None) or getattr(event, "why", None)
