"""Searches whose training code decides how long it trains, in real processes."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ashwood.config import build_experiment
from ashwood.engine import Home, Session, open_home
from ashwood.eventlog.fold_cache import fold, read_progress
from ashwood.experiment.decisions import Warn
from ashwood.experiment.events import PauseRequested
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.figures.registry import FIGURES, draw
from ashwood.forecast.time_left import Forecaster
from ashwood.search.settings import NO_LENGTH
from ashwood.views.history import History
from tests.engine.instant_backend import Quiet
from tests.engine.test_own_loops import PausesOnce

CODE = """
import os
import time
import ashwood

def train(trial):
    length = 0
    if trial.checkpoint:
        length = int((trial.checkpoint / "length").read_text())
    while length < 3 + trial.id % 3 and not trial.should_stop:
        length += 1
        save = lambda d: (d / "length").write_text(str(length))
        trial.report(loss=trial.hparams.x / length, length=length, checkpoint=save)
        # Wait here for the pause that the test asks for.
        while os.path.exists("hold") and length >= 3 and not trial.should_stop:
            time.sleep(0.01)
            trial.report(checkpoint=save)

if __name__ == "__main__":
    train(ashwood.get_trial())
"""


def create(home: Home, tmp_path: Path, entrypoint: str, **searcher: Any) -> Session:
    (tmp_path / "open_code.py").write_text(CODE)
    tree = {
        "name": "open",
        "entrypoint": entrypoint,
        "hyperparameters": {"x": {"type": "double", "minval": 0.1, "maxval": 1.0}},
        "searcher": {"name": "random", "metric": "loss", "max_trials": 6, **searcher},
        "max_restarts": 0,
        "reproducibility": {"experiment_seed": 3},
    }
    return Session.create(home, build_experiment(tree, workdir=tmp_path).spec, at=1.0)


@pytest.mark.parametrize("entrypoint", ["open_code:train", f"{sys.executable} open_code.py"])
def test_trials_complete_when_their_code_returns_also_after_a_pause(tmp_path: Path, entrypoint: str) -> None:
    with open_home(tmp_path / "home", create=True) as home:
        session = create(home, tmp_path, entrypoint)
        (tmp_path / "hold").touch()
        assert session.run(PausesOnce(home), workers=2) is ExperimentState.PAUSED
        (tmp_path / "hold").unlink()
        forecast = Forecaster(read_progress(home, session.id)).forecast(None)
        assert forecast.fraction < 1.0
        assert Session(home, session.id).run(Quiet(), workers=2) is ExperimentState.COMPLETED
        log = home.store.log(session.id)
        folded = fold(session.spec, log)
        history = History(session.spec)
        for _, entry in log.read():
            history.apply(entry)
    experiment, progress = folded.experiment, folded.progress
    assert {trial.state for trial in experiment.trials.values()} == {TrialState.COMPLETED}
    assert {trial.id: trial.length for trial in experiment.trials.values()} == {n: 3 + n % 3 for n in range(6)}
    assert Forecaster(progress).forecast(None).fraction == 1.0
    [[rung]] = history.ladder.now()
    assert sorted(each.trial for each in rung.ranked) == list(range(6))
    assert [each.metric for each in rung.ranked] == sorted(each.metric for each in rung.ranked)
    for name in FIGURES if find_spec("plotly") else ():  # make test-quick does not install it
        assert str(NO_LENGTH) not in repr(draw(name, history)), name


def test_command_that_never_uses_ashwood_is_complete_with_a_warning(tmp_path: Path) -> None:
    with open_home(tmp_path / "home", create=True) as home:
        session = create(home, tmp_path, "echo no report", max_trials=2)
        assert session.run(Quiet(), workers=2) is ExperimentState.COMPLETED
        entries = [entry for _, entry in home.store.log(session.id).read()]
        states = {trial.state for trial in fold(session.spec, home.store.log(session.id)).experiment.trials.values()}
    assert states == {TrialState.COMPLETED}
    warnings = [each.message for entry in entries for each in entry.decisions if isinstance(each, Warn)]
    assert [warning.partition(" ended ")[2] for warning in warnings] == ["without a report, so it has no result"]


def test_command_that_fails_after_its_last_report_has_failed(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("import ashwood, sys\nashwood.get_trial().report(loss=1.0)\nsys.exit(3)\n")
    with open_home(tmp_path / "home", create=True) as home:
        session = create(home, tmp_path, f"{sys.executable} late.py", max_trials=1)
        assert session.run(Quiet(), workers=1) is ExperimentState.ERRORED
        [trial] = fold(session.spec, home.store.log(session.id)).experiment.trials.values()
    assert trial.state is TrialState.ERRORED


def test_function_of_one_result_is_complete_in_a_grid(tmp_path: Path) -> None:
    (tmp_path / "number.py").write_text("def train(trial):\n    return trial.hparams.x\n")
    with open_home(tmp_path / "home", create=True) as home:
        space = {"type": "double", "minval": 0.0, "maxval": 1.0, "count": 3}
        tree = {"entrypoint": "number:train", "hyperparameters": {"x": space}}
        tree |= {"searcher": {"name": "grid", "metric": "loss"}}
        session = Session.create(home, build_experiment(tree, workdir=tmp_path).spec, at=1.0)
        assert session.run(Quiet(), workers=1) is ExperimentState.COMPLETED
        best = fold(session.spec, home.store.log(session.id)).progress.best
    assert best is not None
    assert best.metric == 0.0


def test_goal_stops_the_search(tmp_path: Path) -> None:
    with open_home(tmp_path / "home", create=True) as home:
        session = create(home, tmp_path, "open_code:train", stop_when={"metric_at": 10.0})
        assert session.run(Quiet(), workers=1) is ExperimentState.STOPPED
        assert not any(isinstance(entry.event, PauseRequested) for _, entry in home.store.log(session.id).read())
