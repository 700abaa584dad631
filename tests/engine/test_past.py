"""``warm_start``: searches that start from what past searches found."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ashwood.backends.simulated import SimulatedBackend
from ashwood.engine import Home, Session, open_home
from ashwood.engine.simulate import simulate
from ashwood.errors import ConfigError
from ashwood.eventlog.codec import decode_spec, encode_spec
from ashwood.eventlog.fold_cache import fold
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.guides import Confidence, PastTrials, Prior
from ashwood.search.settings import Sampler
from ashwood.search.space import Categorical, Double, Int, Log, Space, Tree

from .test_auto import Bowl, distance, spec_of

SPEC = replace(spec_of(Sampler.DENSITY), rules=4)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path / "home", create=True) as opened:
        yield opened


def started(home: Home, spec: ExperimentSpec, *sources: str | Path) -> ExperimentSpec:
    """Create an experiment that starts from past searches, and return its spec as the home has it."""
    past = tuple(PastTrials(str(source)) for source in sources)
    return Session.create(home, replace(spec, warm_start=past), at=2.0).spec


def finished(home: Home, spec: ExperimentSpec) -> Experiment:
    """Create an experiment and run it to its end."""
    session = Session.create(home, spec, at=1.0)
    backend = SimulatedBackend(session.spec, Bowl(), 5)
    return simulate(Experiment(session.spec), backend, log=home.log(session.id))


def refusal(home: Home, source: str | Path, spec: ExperimentSpec = SPEC) -> str:
    with pytest.raises(ConfigError) as caught:
        started(home, spec, source)
    return str(caught.value)


def test_search_starts_near_the_good_settings_of_a_past_experiment(home: Home) -> None:
    finished(home, SPEC)
    spec = started(home, replace(SPEC, seed=99), "1")
    (past,) = spec.warm_start
    assert sum(abs(setting["x"] - 0.2) for setting in past.good) / len(past.good) < 0.1
    assert spec.start_with == past.good[:2]
    guided = simulate(Experiment(spec), SimulatedBackend(spec, Bowl(), 5))
    plain = simulate(Experiment(replace(spec, warm_start=(), start_with=())), SimulatedBackend(spec, Bowl(), 5))
    assert distance(guided) < 0.9 * distance(plain)


def test_experiment_needs_the_past_experiment_only_when_it_is_created(home: Home) -> None:
    finished(home, SPEC)
    session = Session.create(home, replace(SPEC, seed=99, warm_start=(PastTrials("1"),)), at=2.0)
    experiment = simulate(Experiment(session.spec), SimulatedBackend(session.spec, Bowl(), 5), log=home.log(session.id))
    home.store.delete(1)
    assert fold(home.store.spec(2), home.store.log(2)).experiment.trials == experiment.trials


def test_settings_come_from_hyperparameters_that_both_spaces_have(home: Home) -> None:
    finished(home, SPEC)
    other = Space({"x": Double(0.0, 0.5), "z": Int(1, 3)})
    (past,) = started(home, replace(SPEC, space=other), "1").warm_start
    assert all(setting.keys() <= {"x"} for setting in (*past.good, *past.others))
    assert all(0 <= setting["x"] <= 0.5 for setting in past.good if setting)
    gone = replace(SPEC, space=Space({"z": Int(1, 3)}))
    assert "experiment 1 cannot be used: it has no hyperparameter of this experiment" in refusal(home, "1", gone)


@pytest.mark.parametrize(
    ("x", "name", "metric"),
    [
        ("x", "opt.name", "loss"),
        ("hparams.x", "hparams.opt.name", "best.loss"),
        ("params_x", "params_opt.name", "value"),
    ],
)
def test_table_of_past_trials(home: Home, tmp_path: Path, x: str, name: str, metric: str) -> None:
    table = tmp_path / "past.csv"
    with table.open("w", newline="") as file:
        rows = csv.DictWriter(file, [x, name, metric, "note"])
        rows.writeheader()
        for n in range(40):
            rows.writerow({x: n / 40, name: ("sgd", "True")[n % 2], metric: n if n < 39 else "", "note": "text"})
        rows.writerow({x: 7, name: "unknown", metric: -1})
    space = Space({"x": Double(0.0, 1.0), "opt": {"name": Categorical(("sgd", True, 3))}})
    (past,) = started(home, replace(SPEC, space=space), table).warm_start
    assert past.good[0] == {}  # The best row has no value that this space can have.
    assert past.good[1:3] == ({"x": 0.0, "opt.name": "sgd"}, {"x": 0.025, "opt.name": True})
    assert len(past.good) + len(past.others) == 40


def test_past_settings_may_have_values_that_the_condition_of_the_space_excludes(home: Home, tmp_path: Path) -> None:
    table = tmp_path / "past.csv"
    table.write_text("x,y,loss\n0.1,0.3,1\n0.2,0.4,2\n")
    space = Space({"x": Double(0.0, 1.0), "y": Double(0.0, 1.0, when={"x": "> 0.5"})})
    assert {"x": 0.1, "y": 0.3} in started(home, replace(SPEC, space=space), table).start_with


def test_errors_say_why_a_past_search_cannot_be_used(home: Home, tmp_path: Path) -> None:
    Session.create(home, SPEC, at=1.0)
    assert "warm_start: experiment 9 cannot be used: there is no experiment 9" in refusal(home, "9")
    assert "experiment 1 cannot be used: no trial has a result" in refusal(home, "1")
    assert "gone.csv cannot be used: there is no such file" in refusal(home, tmp_path / "gone.csv")
    (tmp_path / "empty.csv").touch()
    assert "empty.csv cannot be used: it is empty" in refusal(home, tmp_path / "empty.csv")
    (tmp_path / "other.csv").write_text("x,accuracy\n1,2\n")
    assert "it has no column loss; its columns: x, accuracy" in refusal(home, tmp_path / "other.csv")
    assert len(home.store.experiments()) == 1


def test_spec_keeps_priors_and_past_trials() -> None:
    tree: Tree = {
        "lr": Log(-4, -1, prior=Prior(0.001, Confidence.HIGH)),
        "optimizer": Categorical(("sgd", "adam"), prior=Prior("adam")),
    }
    past = PastTrials("3", ({"lr": 0.01},), ({"lr": 0.1, "optimizer": "sgd"}, {}))
    spec = replace(SPEC, space=Space(tree), warm_start=(past,))
    assert decode_spec(encode_spec(spec)) == spec


def test_table_tells_null_from_absent_values(home: Home, tmp_path: Path) -> None:
    space = Space({"kind": Categorical(("relu", None)), "slope": Double(0.0, 1.0, when={"kind": "relu"})})
    table = tmp_path / "past.csv"
    table.write_text("loss,kind,slope\n1,relu,0.5\n2,null,\n3,,\n4,None,\n")
    (past,) = started(home, replace(SPEC, space=space), table).warm_start
    assert [*past.good, *past.others] == [{"kind": "relu", "slope": 0.5}, {"kind": None}, {}, {"kind": None}]
