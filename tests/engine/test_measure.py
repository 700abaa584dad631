"""Measurements of training code with short real trials, which leave no files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ashwood.config import build_experiment
from ashwood.engine import open_home
from ashwood.engine.measure import measure, recall
from ashwood.errors import AshwoodError
from ashwood.experiment.spec import ExperimentSpec

TRAIN = """
import pathlib
import time

def train(trial):
    pathlib.Path("longest").open("a").write("x")
    for epoch in trial.epochs():
        time.sleep(0.004)
        trial.report(loss=trial.hparams.x, checkpoint=lambda directory: (directory / "state").write_bytes(b"x" * 500))

def broken(trial):
    raise RuntimeError("no data here")
"""


@pytest.fixture
def spec(tmp_path: Path) -> ExperimentSpec:
    (tmp_path / "measured_code.py").write_text(TRAIN)
    return build_experiment(
        {
            "entrypoint": "measured_code:train",
            "hyperparameters": {"x": {"type": "double", "minval": 0.0, "maxval": 1.0}},
            "searcher": {
                "name": "adaptive_asha",
                "metric": "loss",
                "max_length": {"epochs": 64},
                "max_trials": 100,
                "stop_when": {"metric_at": 1.0},
            },
            "max_restarts": 3,
        },
        workdir=tmp_path,
    ).spec


def test_measure_returns_times_of_short_trials(spec: ExperimentSpec, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    found = measure(spec, workers=2)
    measured = found.measured
    assert measured.trials == 6
    assert measured.unit_seconds >= 0.004
    assert measured.launch > 0
    assert measured.save > 0
    assert found.checkpoint_bytes is not None
    assert found.checkpoint_bytes >= 500
    left = [path.name for path in sorted(tmp_path.iterdir()) if path not in before and path.name != "__pycache__"]
    assert left == ["longest"]
    # Each trial was called for, and half of them a second time at most.
    assert 6 <= len((tmp_path / "longest").read_text()) <= 9


def test_measure_deletes_checkpoints_outside_of_home(spec: ExperimentSpec, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    assert measure(replace(spec, checkpoint_storage=str(elsewhere)), workers=2).checkpoint_bytes is not None
    assert list(elsewhere.iterdir()) == []


def test_measure_quotes_error_of_training_code(spec: ExperimentSpec) -> None:
    broken = replace(spec, entrypoint=replace(spec.entrypoint, target="measured_code:broken"))
    with pytest.raises(AshwoodError, match="no trial trained to its end: RuntimeError: no data here"):
        measure(broken, workers=1)


def test_recall_measures_past_experiment_if_it_has_reports(spec: ExperimentSpec, tmp_path: Path) -> None:
    with open_home(tmp_path / "home", create=True) as home:
        number = home.store.create(spec, at=1.0)
        with pytest.raises(AshwoodError, match=f"cannot measure training from experiment {number}"):
            recall(home, number)
