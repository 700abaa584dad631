import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ashwood
from ashwood.errors import AshwoodError, ConfigError, NotFound, RequestRefused
from ashwood.search.space import Categorical, Double

pytestmark = pytest.mark.filterwarnings("ignore:hyperparameters. no hyperparameter varies")


def objective(trial: ashwood.Trial) -> None:
    for step in trial.steps():
        trial.report(loss=(trial.hparams.x - 0.3) ** 2 + 1 / (step + 1))


SEARCHER = ashwood.RandomSearch(metric="loss", max_length=2, max_trials=4)


def run(tmp_path: Path, **fields: object) -> ashwood.Experiment:
    given = {"hparams": {"x": Double(0, 1)}, "searcher": SEARCHER, "seed": 3} | fields
    return ashwood.run(objective, home=tmp_path / "home", workers=2, progress=False, **given)  # type: ignore[arg-type]


def test_run_returns_completed_experiment(tmp_path: Path) -> None:
    experiment = run(tmp_path)
    assert experiment.state == "completed"
    frame = experiment.trials()
    assert len(frame) == 4
    best = experiment.best_trial
    assert best is not None
    assert best.metric == frame["best.loss"].min()
    assert best.hparams["x"] == frame.sort_values("best.loss")["hparams.x"].iloc[0]
    assert ashwood.open_experiment(experiment.id, home=tmp_path / "home").trials().equals(frame)
    assert repr(experiment) == "<ashwood experiment 1 (objective): completed>"


@pytest.mark.parametrize(
    "searcher",
    [
        ashwood.AdaptiveASHA(metric="loss", max_length=4, max_trials=4, divisor=2, mode="conservative"),
        pytest.param(
            ashwood.AsyncHalving(metric="loss", max_length=4, max_trials=4, num_rungs=2, stop_once=True),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ashwood.SyncHalving(metric="loss", max_length=4, max_trials=4, num_rungs=2), marks=pytest.mark.slow
        ),
        pytest.param(ashwood.Single(metric="loss", max_length=1), marks=pytest.mark.slow),
    ],
    ids=lambda searcher: searcher.name,
)
def test_searcher_runs_as_its_method(tmp_path: Path, searcher: Any) -> None:
    experiment = run(tmp_path, searcher=searcher)
    assert experiment.spec.search.method == searcher.name
    assert experiment.state == "completed"


def test_grid_searcher_runs_every_point(tmp_path: Path) -> None:
    grid = run(tmp_path, searcher=ashwood.Grid(metric="loss", max_length=1), hparams={"x": Double(0, 1, count=3)})
    assert sorted(grid.trials()["hparams.x"]) == [0.0, 0.5, 1.0]


def test_run_reports_problems_by_keys_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"searcher\.max_trials") as caught:
        run(tmp_path, searcher={"name": "random", "metric": "loss", "max_length": 2}, hparams={"x": {"type": "duble"}})
    assert len(caught.value.problems) == 2


def saving_each_step(trial: ashwood.Trial) -> None:
    for step in trial.steps():
        trial.report(loss=1 / (step + 1), checkpoint=lambda directory: (directory / "state").touch())


def test_extended_experiment_trains_on_in_python(tmp_path: Path) -> None:
    given: dict[str, Any] = {"hparams": {"x": Double(0, 1)}, "searcher": SEARCHER}
    experiment = ashwood.run(saving_each_step, home=tmp_path / "home", workers=2, progress=False, **given)
    with pytest.raises(RequestRefused, match="ashwood extend 1 --max-trials 9"):
        experiment.set(max_trials=9)
    with pytest.raises(ConfigError, match="must be in steps, the unit of the experiment"):
        experiment.extend(max_length={"epochs": 3})
    experiment.extend(max_trials=5, max_length=3)
    assert experiment.state == "paused"
    experiment.resume(workers=2, progress=False)
    assert experiment.state == "completed"
    assert list(experiment.trials()["length"]) == [3] * 5
    assert len(experiment.reports()) == 5 * 3


def broken(trial: ashwood.Trial) -> None:
    raise ValueError("no such thing")


def test_run_raises_if_experiment_fails(tmp_path: Path) -> None:
    ways = {0: "failed: every trial failed, the last with: ", 3: "paused: 3 trials failed in the same way .*: "}
    for most, said in ways.items():
        with pytest.raises(AshwoodError, match=rf"experiment \d {said}ValueError: no such thing"):
            ashwood.run(
                broken,
                hparams={},
                searcher=SEARCHER,
                home=tmp_path / "home",
                workers=1,
                progress=False,
                max_restarts=0,
                max_common_failures=most,
            )


def test_functions_without_module_are_pickled(tmp_path: Path) -> None:
    shift = 0.25

    def train(trial: ashwood.Trial) -> None:
        for _ in trial.steps():
            trial.report(loss=trial.hparams.x + shift)

    experiment = ashwood.run(
        train, hparams={"x": 1.0}, searcher=SEARCHER, home=tmp_path / "home", workers=1, progress=False
    )
    assert experiment.best_trial is not None
    assert experiment.best_trial.metric == 1.25


def test_functions_of_running_script_are_imported_by_name(tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text(
        textwrap.dedent("""
        import ashwood

        def train(trial):
            for step in trial.steps():
                trial.report(loss=trial.hparams.x)

        if __name__ == "__main__":
            searcher = ashwood.RandomSearch(metric="loss", max_length=1, max_trials=3)
            experiment = ashwood.run(train, hparams={"x": ashwood.Double(0, 1)}, searcher=searcher, workers=2)
            print("state:", experiment.state, len(experiment.trials()))
        """)
    )
    done = subprocess.run([sys.executable, "search.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "state: completed 3" in done.stdout


def test_interrupted_search_resumes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(AshwoodError, match="there is no module 'nothing_here'"):
        ashwood.run("nothing_here:train", hparams={}, searcher=SEARCHER, home=home, workers=1, progress=False)
    experiment = ashwood.open_experiment(1, home=home)
    assert experiment.state == "paused"
    assert experiment.best_trial is None


def test_script_without_main_guard_fails_in_workers(tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text(
        textwrap.dedent("""
        import ashwood

        def train(trial):
            for step in trial.steps():
                trial.report(loss=trial.hparams.x)

        searcher = ashwood.RandomSearch(metric="loss", max_length=1, max_trials=3)
        ashwood.run(train, hparams={"x": 1}, searcher=searcher, workers=2)
        """)
    )
    done = subprocess.run([sys.executable, "search.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert 'Put the call of ashwood.run() under if __name__ == "__main__":' in done.stderr
    assert ashwood.open_experiment(1, home=tmp_path / ".ashwood").state == "paused"
    with pytest.raises(AshwoodError, match="no experiment 2"):
        ashwood.open_experiment(2, home=tmp_path / ".ashwood")


def test_too_large_id_is_not_found(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(NotFound, match="no experiment 99999999999999999999"):
        ashwood.open_experiment(99_999_999_999_999_999_999, home=tmp_path / "home")


def test_hyperparameters_and_data_must_be_finite(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hyperparameters\.x\.vals\[1\]: must be a finite number, not \.inf"):
        run(tmp_path, hparams={"x": Categorical((0.5, float("inf")))})
    with pytest.raises(ConfigError, match=r"data\.y: must be a finite number, not \.nan"):
        run(tmp_path, data={"y": float("nan")})


def test_trials_with_given_hyperparameters(tmp_path: Path) -> None:
    experiment = ashwood.create(
        objective,
        hparams={"x": Double(0, 1), "y": {"z": Double(0, 1)}},
        searcher=replace(SEARCHER, start_with=[{"x": 0.25}]),
        home=tmp_path / "home",
    )
    experiment.add_trial({"x": 0.5, "y": {"z": 0.125}})
    experiment.add_trial({"y.z": 0.75}, extra=True)
    with pytest.raises(RequestRefused, match=r"unknown hyperparameter; did you mean y\.z\?"):
        experiment.add_trial({"y": {"zz": 0.5}})
    with pytest.raises(ConfigError, match="x: must be a list, whose order is fixed"):
        experiment.add_trial({"x": {0.5}})
    experiment.resume(workers=2, progress=False)
    trials = experiment.trials().sort_values("trial")
    assert list(trials["hparams.x"][:2]) == [0.25, 0.5]
    assert list(trials["hparams.y.z"][1:3]) == [0.125, 0.75]
    assert list(trials["given"].fillna("")) == ["x", "x, y.z", "y.z", "", ""]


def test_requests_from_python(tmp_path: Path) -> None:
    experiment = run(
        tmp_path, searcher=ashwood.RandomSearch(metric="loss", max_length=2, max_trials=4, stop_when={"metric_at": 9})
    )
    assert experiment.state == "stopped"
    assert experiment.spec.metric_at == 9.0
    assert experiment.spec.provenance["python"]
    with pytest.raises(RequestRefused, match="at most 10,000,000"):
        experiment.set(max_trials=10_000_001)
    experiment.set(max_trials=3, stop_when={})
    with pytest.raises(RequestRefused, match="no trial 99"):
        experiment.kill_trial(99)
    with pytest.raises(ConfigError, match=r"stop_when: .*number"):
        experiment.set(stop_when={"metric_at": "high"})
    experiment.resume(workers=2, progress=False)
    assert experiment.state == "completed"
    assert len(experiment.trials()) == 3
    for end in (experiment.pause, experiment.cancel, experiment.kill):
        with pytest.raises(RequestRefused, match="completed"):
            end()


def test_experiment_from_python_can_be_run_again(tmp_path: Path) -> None:
    from ashwood.cli.options import RunOptions
    from ashwood.cli.run import rerun

    home = tmp_path / "home"
    first = run(tmp_path, checkpoint_storage=str(tmp_path / "storage"))
    assert rerun(first.id, RunOptions(home=str(home), workers=2), [], checkout=False) == 0
    second = ashwood.open_experiment(2, home=home)
    assert second.trials()["hparams.x"].tolist() == first.trials()["hparams.x"].tolist()
    places = [Path(each.spec.checkpoint_storage or "") for each in (first, second)]
    assert places[0] != places[1]
    assert [place.parent for place in places] == [tmp_path / "storage"] * 2
    with pytest.raises(AshwoodError, match="defined in Python"):
        rerun(first.id, RunOptions(home=str(home)), ["searcher.max_trials=2"], checkout=False)


def saving(trial: ashwood.Trial) -> None:
    for step in trial.steps():
        loss = (trial.hparams.x - 0.3) ** 2 + 1 / (step + 1)
        trial.report(loss=loss, checkpoint=partial(save, f"{trial.hparams.x} {loss}"))


def save(text: str, directory: Path) -> None:
    (directory / "x").write_text(text)


def failing(trial: ashwood.Trial) -> None:
    raise ValueError(f"no model for {trial.hparams.x}")


def test_result_is_a_checkpoint_and_all_reports(tmp_path: Path) -> None:
    experiment = ashwood.run(
        saving,
        hparams={"x": Categorical([0.1, 0.2, 0.4, 0.5])},
        searcher=SEARCHER,
        home=tmp_path,
        workers=2,
        progress=False,
    )
    best = experiment.best_checkpoint()
    x, loss = map(float, (best.directory / "x").read_text().split())
    assert (x, loss) == (best.hparams["x"], best.metric)
    reports = experiment.reports()
    assert best.metric == reports["loss"].min()
    assert best.length == 2
    assert list(reports.columns[:4]) == ["trial", "length", "attempt", "at"]
    with pytest.raises(NotFound, match="has no checkpoint"):
        run(tmp_path).best_checkpoint()


def test_error_of_run_has_the_experiment_and_the_traceback_and_can_be_corrected(tmp_path: Path) -> None:
    with pytest.raises(ashwood.AshwoodError, match="no model for") as caught:
        ashwood.run(
            failing,
            hparams={"x": Double(0, 1)},
            searcher=SEARCHER,
            home=tmp_path,
            workers=2,
            progress=False,
            max_common_failures=1,
        )
    assert "in failing" in str(caught.value)
    experiment = caught.value.experiment
    assert experiment.state == "paused"
    assert experiment.resume(train=objective, workers=2, progress=False).state == "completed"
    assert experiment.spec.entrypoint.target.endswith(":objective")
    assert ashwood.open_experiment(experiment.id, home=tmp_path).spec == experiment.spec


def test_experiment_runs_in_the_background(tmp_path: Path) -> None:
    experiment = ashwood.create(objective, hparams={"x": Double(0, 1)}, searcher=SEARCHER, home=tmp_path)
    assert experiment.state == "created"
    assert experiment.start(workers=2).wait() == "completed"


def test_search_resumes_after_its_code_was_moved(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "code.py").write_text("def train(trial):\n    for _ in trial.steps(): trial.report(loss=1.0)\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "old")
        searcher = ashwood.Single(metric="loss", max_length=1)
        place = f"{tmp_path}/old/code.py:train"
        experiment = ashwood.create(place, hparams={"x": 1.0}, searcher=searcher, home=tmp_path)
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(AshwoodError, match="resume with --workdir DIR"):
        experiment.resume(progress=False)
    assert experiment.resume(workdir=tmp_path / "new", progress=False).state == "completed"
    assert experiment.spec.entrypoint.target == f"{tmp_path}/new/code.py:train"
