"""Trains a trial in one process in several stretches, each of which continues from the checkpoint of the last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ashwood


class Trained(NamedTuple):
    """What the training code returned in the last stretch, and the reports of all stretches by their length."""

    result: Any
    reports: dict[int, dict[str, float]]


def train_in_stretches(train: Callable[[ashwood.Trial], Any], directory: Path, *ends: int, **hparams: Any) -> Trained:
    """Train to each of the lengths ``ends``, in steps."""
    result, checkpoint = None, None
    reports: dict[int, dict[str, float]] = {}
    for end in ends:
        trial = ashwood.get_trial(hparams, steps=end, seed=5, checkpoint_dir=directory, checkpoint=checkpoint)
        result = train(recorded(trial, reports))
        (checkpoint,) = directory.glob(f"trial-0/length-{end}-*")
    return Trained(result, reports)


def recorded(trial: ashwood.Trial, reports: dict[int, dict[str, float]]) -> ashwood.Trial:
    """Return the trial after making it write its reports to ``reports``."""
    report = trial.report

    def report_and_record(metrics: dict[str, float], *, length: int, **more: Any) -> None:
        reports.setdefault(length, {}).update(metrics)
        report(metrics, length=length, **more)

    trial.report = report_and_record  # type: ignore[method-assign, assignment]
    return trial


def assert_given_seed_counts(
    train: Callable[[ashwood.Trial], Any], trees: Callable[[Any], Any], directory: Path, setting: str, **hparams: Any
) -> None:
    """Check that a seed that the user sets replaces that of the trial."""
    first, again, other = (
        train_in_stretches(train, directory / str(number), 3, **{setting: seed}, **hparams)
        for number, seed in enumerate((1, 1, 2))
    )
    assert trees(first.result) == trees(again.result)
    assert trees(first.result) != trees(other.result)


def set_max_length(trial: ashwood.Trial, length: int) -> None:
    """Give a trial without an experiment, which ends at its target, a greater ``max_length``."""
    trial._attempt.job = trial._attempt.job._replace(max_length=length)
