"""Searches over training code that owns its loop, in real processes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ashwood.config import build_experiment
from ashwood.engine import Home, Session, open_home
from ashwood.eventlog.fold_cache import fold
from ashwood.experiment.decisions import PauseTrial, Warn
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    CheckpointSaved,
    PauseRequested,
    ValidationReported,
)
from ashwood.experiment.lifecycle import ExperimentState, TrialState

from .instant_backend import Quiet

CODE = """
import json
import os
import time
import ashwood

def train(trial):
    state = {"steps": 0, "sum": 0.0}
    if trial.checkpoint:
        state = json.loads((trial.checkpoint / "state.json").read_text())
    assert state["steps"] == trial.length, (state, trial.length)
    assert trial.experiment.name == "owned" and trial.experiment.id == 1
    assert (trial.unit, trial.max_length) == ("batches", 40)
    save = lambda directory: (directory / "state.json").write_text(json.dumps(state))
    while not trial.should_stop:
        for _ in range(3):
            state["steps"] += 1
            state["sum"] += trial.hparams.x / state["steps"]
        if state["steps"] % 2:
            trial.report(length=state["steps"], training={"loss": state["sum"]}, checkpoint=save)
        else:
            trial.report({"loss": state["sum"]}, length=state["steps"], checkpoint=save)
        # Wait here for the pause that the test asks for.
        while os.path.exists("hold") and state["steps"] >= 9 and not trial.should_stop:
            time.sleep(0.01)
            trial.report(checkpoint=save)

if __name__ == "__main__":
    train(ashwood.get_trial())
"""
SEARCHES: dict[str, dict[str, Any]] = {
    "async_halving": {"divisor": 2, "num_rungs": 4},
    "sync_halving": {"divisor": 2, "num_rungs": 4},
    "adaptive_asha": {"divisor": 2, "stop_once": True},
    "random": {},
}


class PausesOnce(Quiet):
    """Asks for a pause when a few reports have arrived."""

    def __init__(self, home: Home) -> None:
        super().__init__()
        self._home = home
        self._reports = 0

    def observe(self, entries: Sequence[Entry]) -> None:
        super().observe(entries)
        before = self._reports
        self._reports += sum(isinstance(entry.event, ValidationReported) for entry in entries)
        if before < 6 <= self._reports:
            self._home.store.post(1, PauseRequested(), at=1.0)


@pytest.mark.parametrize(("search", "command"), [*((name, False) for name in SEARCHES), ("async_halving", True)])
def test_search_over_code_that_owns_its_loop(tmp_path: Path, search: str, command: bool) -> None:
    (tmp_path / "owned_loop.py").write_text(CODE)
    spec = build_experiment(
        {
            "name": "owned",
            "entrypoint": f"{sys.executable} owned_loop.py" if command else "owned_loop:train",
            "hyperparameters": {"x": {"type": "double", "minval": 0.1, "maxval": 1.0}},
            "searcher": {
                "name": search,
                "metric": "loss",
                "max_length": {"batches": 40},
                "max_trials": 8,
                **SEARCHES[search],
            },
            "min_checkpoint_period": {"batches": 10},
            "max_restarts": 0,
            "reproducibility": {"experiment_seed": 3},
        },
        workdir=tmp_path,
    ).spec
    with open_home(tmp_path / "home", create=True) as home:
        session = Session.create(home, spec, at=1.0)
        (tmp_path / "hold").touch()
        assert session.run(PausesOnce(home), workers=2) is ExperimentState.PAUSED
        (tmp_path / "hold").unlink()
        assert Session(home, session.id).run(Quiet(), workers=2) is ExperimentState.COMPLETED
        log = home.store.log(session.id)
        experiment = fold(session.spec, log).experiment
        log_entries: list[Entry] = [entry for _, entry in log.read()]
    assert {trial.state for trial in experiment.trials.values()} <= {TrialState.COMPLETED, TrialState.STOPPED}
    for entry in log_entries:
        event = entry.event
        if isinstance(event, ValidationReported):
            # What was reported depends on the length alone, however often the trial was paused before.
            x = experiment.trials[event.trial].hparams["x"]
            expected = sum(x / step for step in range(1, event.length + 1))
            name = "training.loss" if event.length % 2 else "loss"
            assert event.metrics == {name: pytest.approx(expected)}
    # Every second report has the metric, so that the target of 40 is judged at 42.
    assert {trial.length for trial in experiment.trials.values() if trial.state is TrialState.COMPLETED} == {42}
    assert any(isinstance(entry.event, CheckpointSaved) for entry in log_entries)


def test_validation_every_few_epochs_is_judged_at_the_first_one_past_each_rung(tmp_path: Path) -> None:
    (tmp_path / "rare_validation.py").write_text(
        "def train(trial):\n"
        "    trial.checkpoint\n"
        "    for epoch in trial.epochs():\n"
        "        name = 'train_loss' if (epoch + 1) % 5 else 'val_loss'\n"
        "        trial.report({name: trial.hparams.x / (epoch + 1)}, checkpoint=lambda d: (d / 'x').touch())\n"
    )
    spec = build_experiment(
        {
            "entrypoint": "rare_validation:train",
            "hyperparameters": {"x": {"type": "double", "minval": 0.1, "maxval": 1.0}},
            "searcher": {"name": "adaptive_asha", "metric": "val_loss", "max_length": {"epochs": 25}, "max_trials": 8},
            "min_validation_period": {"epochs": 5},
            "max_restarts": 0,
        },
        workdir=tmp_path,
        default_seed=1,
    ).spec
    with open_home(tmp_path / "home", create=True) as home:
        session = Session.create(home, spec, at=1.0)
        assert session.run(Quiet(), workers=2) is ExperimentState.COMPLETED
        log_entries = [entry for _, entry in home.store.log(session.id).read()]
    decisions = [decision for entry in log_entries for decision in entry.decisions]
    assert not [decision for decision in decisions if isinstance(decision, Warn)]
    judged = [entry.event for entry in log_entries if any(isinstance(d, PauseTrial) for d in entry.decisions)]
    assert judged
    assert all(isinstance(event, ValidationReported) and event.length % 5 == 0 for event in judged)
