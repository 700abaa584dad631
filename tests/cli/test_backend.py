"""``--backend`` and ``--ray-address``: they replace the file's or the recorded backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ashwood
from ashwood.api import background
from ashwood.cli.options import BackendKind, DriverOptions
from ashwood.cli.run import activate_experiment
from ashwood.engine import Session, open_home
from ashwood.engine.session import Cluster
from ashwood.errors import ConfigError
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec, RayCluster
from ashwood.search.space import Double

from .conftest import EXPERIMENT, Workplace

FULL = "backend: {type: ray, address: 'a:1', ship_code: false}\n"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int | None, Cluster]]:
    """What sessions were asked to run on; none of them runs anything."""
    asked: list[tuple[int | None, Cluster]] = []

    def run(self: Session, observer: object, *, workers: int | None, cluster: Cluster, share: bool) -> ExperimentState:
        assert not share
        asked.append((workers, cluster))
        return ExperimentState.COMPLETED

    monkeypatch.setattr(Session, "run", run)
    return asked


def recorded(workplace: Workplace, experiment: int = 1) -> ExperimentSpec:
    with open_home(workplace.path / ".ashwood") as home:
        return home.store.spec(experiment)


Runs = list[tuple[int | None, Cluster]]


@pytest.mark.parametrize(
    ("text", "options", "ray"),
    [
        ("", [], None),
        ("backend: ray\n", [], RayCluster()),
        ("", ["--backend", "ray"], RayCluster()),
        ("", ["--ray-address", "1:30"], RayCluster("1:30")),
        ("backend: local\n", ["--backend", "ray", "--ray-address", "b:2"], RayCluster("b:2")),
        (FULL, ["--backend", "ray"], RayCluster("a:1", ship_code=False)),
        (FULL, ["--ray-address", "b:2"], RayCluster("b:2", ship_code=False)),
        (FULL, ["--backend", "local"], None),
    ],
)
def test_backend_options_are_recorded_with_new_experiment(
    workplace: Workplace, runs: Runs, text: str, options: list[str], ray: RayCluster | None
) -> None:
    workplace.write(EXPERIMENT + text)
    workplace.ashwood("run", "toy.yaml", *options)
    spec = recorded(workplace)
    assert spec.ray == ray
    # And once more the same, from the record.
    workplace.ashwood("run", "--from", "1")
    assert recorded(workplace, 2).ray == ray
    assert recorded(workplace, 2).provenance["overrides"] == spec.provenance["overrides"]


@pytest.mark.parametrize(
    ("text", "options", "cluster"),
    [
        ("", [], "recorded"),
        ("", ["--backend", "local"], "local"),
        ("", ["--backend", "ray"], RayCluster()),
        (FULL, [], "recorded"),
        (FULL, ["--backend", "local"], "local"),
        (FULL, ["--backend", "ray"], RayCluster("a:1", ship_code=False)),
        (FULL, ["--ray-address", "b:2"], RayCluster("b:2", ship_code=False)),
    ],
)
def test_backend_options_apply_to_one_resumed_run(
    workplace: Workplace, runs: Runs, text: str, options: list[str], cluster: Cluster
) -> None:
    workplace.write(EXPERIMENT + text)
    workplace.ashwood("run", "toy.yaml")
    before = recorded(workplace)
    workplace.ashwood("resume", "1", "--workers", "3", *options)
    workplace.ashwood("run", "toy.yaml", "--resume-latest", "--workers", "3", *options)
    assert runs[1:] == [(3, cluster), (3, cluster)]
    assert recorded(workplace) == before


@pytest.mark.parametrize("command", [["run", "toy.yaml"], ["resume", "1"], ["activate", "1"]])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--backend", "dask"], "invalid value for '--backend'"),
        (["--backend", "local", "--ray-address", "a:1"], "--ray-address: needs --backend ray, not local"),
        (["--ray-address", "http://a:8265"], "must be the address of the cluster's head"),
        (["--ray-address", ""], "backend.address: must not be empty"),
    ],
)
def test_invalid_backend_options_are_refused(
    workplace: Workplace, command: list[str], options: list[str], told: str
) -> None:
    assert told in workplace.ashwood(*command, *options, code=2)


def test_activate_passes_backend_options_to_driver(
    workplace: Workplace, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def start(*arguments: Any) -> Any:
        started.append(list(arguments[2]))
        raise KeyboardInterrupt

    workplace.ashwood("run", "toy.yaml")
    monkeypatch.setattr(background, "_start", start)
    home = str(workplace.path / ".ashwood")
    with pytest.raises(KeyboardInterrupt):
        activate_experiment(1, DriverOptions(home=home, workers=2, backend=BackendKind.RAY, ray_address="a:1"))
    with pytest.raises(KeyboardInterrupt):
        activate_experiment(1, DriverOptions(home=home, share=True))
    assert started == [["--workers", "2", "--backend", "ray", "--ray-address", "a:1"], ["--share"]]


def train(trial: Any) -> None:
    """Never called here."""


def describe(home: Path, **options: Any) -> ashwood.Experiment:
    searcher = ashwood.RandomSearch(metric="loss", max_length=3, max_trials=2)
    return ashwood.run(train, hparams={"x": Double(0, 1)}, searcher=searcher, home=home, progress=False, **options)


def test_backend_options_from_python(tmp_path: Path, runs: Runs) -> None:
    assert describe(tmp_path).spec.ray is None
    assert describe(tmp_path, backend="ray").spec.ray == RayCluster()
    experiment = describe(tmp_path, backend={"type": "ray", "address": "a:1", "autoscales": True})
    assert experiment.spec.ray == RayCluster("a:1", autoscales=True)
    with pytest.raises(ConfigError, match="backend"):
        describe(tmp_path, backend="rya")
    runs.clear()
    experiment.resume(progress=False)
    experiment.resume(progress=False, backend="local")
    experiment.resume(progress=False, backend="ray", workers=4)
    assert runs == [(None, "recorded"), (None, "local"), (4, RayCluster())]
    with pytest.raises(ConfigError, match="rya"):
        experiment.resume(backend="rya")  # type: ignore[arg-type]


def test_run_from_python_experiment_on_another_backend(workplace: Workplace, runs: Runs) -> None:
    describe(workplace.path / ".ashwood")
    workplace.ashwood("run", "--from", "1", "--ray-address", "a:1")
    assert recorded(workplace, 2).ray == RayCluster("a:1")
    workplace.ashwood("run", "--from", "2", "--backend", "local")
    assert recorded(workplace, 3).ray is None
    assert "defined in Python" in workplace.ashwood("run", "--from", "3", "--set", "name=x", code=1)
