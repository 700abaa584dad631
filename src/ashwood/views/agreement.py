"""Compares the reports of a trial with and without pauses.

Three runs of one trial are compared: without a pause, with pauses, and without a pause but with another seed. The last
one shows how much the metrics depend on chance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from math import inf, isclose, isfinite, isnan
from typing import NamedTuple, TypeAlias

Series: TypeAlias = Mapping[int, Mapping[str, float]]
"""The metrics by name, for each length."""

_RELATIVE, _ABSOLUTE = 1e-6, 1e-12
"""Differences that count as rounding, for example of single precision."""

_NOISE_FACTOR = 2.0
"""A difference counts as noise up to this multiple of the largest difference between two seeds."""

_OF_TIME = re.compile(r"time|second|duration|throughput|speed|per_s|memory", re.IGNORECASE)
"""Parts of the names of metrics that differ in every run, such as times."""

_LEARNING_RATE = re.compile(r"(^|[._/-])lr($|[._/-])|learning_?rate", re.IGNORECASE)
_COUNTER = re.compile(r"(^|[._/-])(epoch|step|iteration|iter|batch)s?($|[._/-])", re.IGNORECASE)
_OPTIMIZER = re.compile(r"grad|momentum|optimi[sz]er", re.IGNORECASE)


class Verdict(StrEnum):
    """How much pauses change the metrics, from the best verdict to the worst."""

    EQUAL = "equal"
    WITHIN_NOISE = "within noise"
    DIFFERENT = "different"
    FAILED = "failed"


class Row(NamedTuple):
    """One metric at one length.

    Attributes:
        length: total length of the report.
        metric: name of the metric.
        straight: its value without a pause, or None if it was not reported.
        resumed: its value with pauses, or None.
        other_seed: its value without a pause and with another seed, or None.
        verdict: how much the first two values differ.
    """

    length: int
    metric: str
    straight: float | None
    resumed: float | None
    other_seed: float | None
    verdict: Verdict


class Runs(NamedTuple):
    """The reports of three runs of a trial.

    Attributes:
        straight: metrics of the run without a pause.
        resumed: metrics of the run with pauses.
        other_seed: metrics of the run without a pause and with another seed.
        pauses: the lengths at which the second run was paused, rising.
        reads_checkpoint: whether the training code read ``trial.checkpoint`` when it was resumed.
        saves: whether the training code saved checkpoints.
    """

    straight: Series
    resumed: Series
    other_seed: Series
    pauses: Sequence[int]
    reads_checkpoint: bool = True
    saves: bool = True


def compare(runs: Runs) -> list[Row]:
    """Return a row for each metric at each length, by length and name."""
    noise = {metric: _noise(runs, metric) for metric in _metrics(runs)}
    rows = []
    for length in sorted(runs.straight.keys() | runs.resumed.keys()):
        straight, resumed = runs.straight.get(length, {}), runs.resumed.get(length, {})
        for metric in sorted(straight.keys() | resumed.keys()):
            one, two = straight.get(metric), resumed.get(metric)
            other = runs.other_seed.get(length, {}).get(metric)
            rows.append(Row(length, metric, one, two, other, _verdict(one, two, noise[metric])))
    return rows


def verdict_of(rows: Iterable[Row]) -> Verdict:
    """Return the worst verdict of all rows, without metrics such as times, which differ in every run."""
    order = list(Verdict)
    counted = (row.verdict for row in rows if not _OF_TIME.search(row.metric))
    return max(counted, key=order.index, default=Verdict.EQUAL)


def hints_of(runs: Runs, rows: Sequence[Row]) -> list[str]:
    """Return hints about state that is probably not restored, the likeliest first; empty if the runs are equal."""
    hints = []
    if not runs.pauses:
        hints.append("The trial was never paused, so restoring was not tested: train to a greater length.")
    elif not runs.saves:
        hints.append(
            "No checkpoint was saved, so a trial that is resumed trains from the start: pass checkpoint= to "
            "trial.report()."
        )
    elif not runs.reads_checkpoint:
        hints.append(
            "The training code never reads trial.checkpoint. Add before its loop: "
            "if trial.checkpoint: model.load(trial.checkpoint / 'model.pt')"
        )
    unequal = [row for row in rows if row.verdict is not Verdict.EQUAL and not _OF_TIME.search(row.metric)]
    if not unequal or not runs.pauses:
        return hints
    if unequal[0].length <= runs.pauses[0]:
        hints.append(
            f"The runs already differ at length {unequal[0].length}, before anything is restored: training is not "
            "deterministic. Seed every random number generator with trial.seed."
        )
        return hints
    if runs.saves and runs.reads_checkpoint:
        hints += _what_is_lost(runs, unequal)
    return hints


def _what_is_lost(runs: Runs, unequal: Sequence[Row]) -> list[str]:
    if {row.length for row in unequal if row.straight is None or row.resumed is None}:
        return [
            "Epoch counter: after a pause the trial reports other metrics or at other lengths. Count from trial.length."
        ]
    names = {row.metric for row in unequal}
    if (pause := _restarts_at(runs, names)) is not None:
        return [
            f"Model: after the pause at length {pause} the metrics are those of a new trial. Load the saved weights."
        ]
    named = [
        text
        for pattern, text in (
            (_LEARNING_RATE, "Scheduler: the learning rate differs. Save and load the state of the scheduler."),
            (_COUNTER, "Epoch counter: a count differs. Save it, or count from trial.length."),
            (_OPTIMIZER, "Optimizer: its metrics differ. Save and load its state (momentum, averages of gradients)."),
        )
        if any(pattern.search(name) for name in names)
    ]
    if named:
        return named
    if all(_noise(runs, name) == 0 for name in names):
        return [
            "Seeds make no difference here, so it is not chance. Probably the state of the optimizer (momentum, "
            "averages of gradients), of the scheduler, or an epoch counter is not restored."
        ]
    if all(row.verdict is Verdict.WITHIN_NOISE for row in unequal):
        return [
            "The difference is as small as that of another seed. Probably the states of random number generators "
            "(Python, NumPy, framework) or the order of data are not restored; or the state of the optimizer, if it "
            "has little effect here."
        ]
    return [
        "The difference is larger than that of another seed. Probably the state of the optimizer (momentum, averages "
        "of gradients), of the scheduler, or an epoch counter is not restored; then random number generators and the "
        "order of data."
    ]


def _restarts_at(runs: Runs, names: Iterable[str]) -> int | None:
    """Return a pause after which these metrics equal those at the beginning of the first run, or None."""
    for pause in runs.pauses:
        pairs = [
            (runs.straight[length - pause][name], metrics[name])
            for length, metrics in runs.resumed.items()
            if pause < length <= min([later for later in runs.pauses if later > pause], default=length)
            for name in names
            if name in metrics and name in runs.straight.get(length - pause, {})
        ]
        if pairs and all(_same(one, two) for one, two in pairs):
            return pause
    return None


def _metrics(runs: Runs) -> set[str]:
    return {name for series in (runs.straight, runs.resumed) for metrics in series.values() for name in metrics}


def _noise(runs: Runs, metric: str) -> float:
    """Return the largest difference that another seed makes to a metric, over all lengths."""
    pairs = (
        (metrics[metric], runs.other_seed.get(length, {}).get(metric))
        for length, metrics in runs.straight.items()
        if metric in metrics
    )
    differences = (abs(one - two) for one, two in pairs if two is not None and not _same(one, two))
    return max((difference for difference in differences if isfinite(difference)), default=0.0)


def _verdict(one: float | None, two: float | None, noise: float) -> Verdict:
    if one is None or two is None:
        return Verdict.DIFFERENT
    if _same(one, two):
        return Verdict.EQUAL
    difference = abs(one - two)
    return Verdict.WITHIN_NOISE if difference <= _NOISE_FACTOR * noise < inf else Verdict.DIFFERENT


def _same(one: float, two: float) -> bool:
    return (isnan(one) and isnan(two)) or isclose(one, two, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
