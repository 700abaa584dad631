"""Training code as people have it: scripts with arguments, packages, methods, partials, objects."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

import ashwood
from ashwood.engine import open_home
from ashwood.errors import TrainingCodeError
from ashwood.experiment.events import AttemptFailed
from ashwood.search.space import Double

SEARCH = """
    def search(train, home="home", **fields):
        return ashwood.run(
            train, hparams={"x": ashwood.Double(0, 1)}, home=home, workers=1, progress=False,
            searcher=ashwood.RandomSearch(metric="loss", max_length=1, max_trials=1), **fields,
        )
"""


pytestmark = pytest.mark.filterwarnings("ignore:hyperparameters. no hyperparameter varies")


def run(directory: Path, *command: str, code: int = 0, **files: str) -> str:
    """Write files and run Python in a directory; return what it prints."""
    for name, text in files.items():
        path = directory / name.replace("__", "/", 1)
        path = path.with_name(f"{path.name}.py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text).replace("SEARCH", textwrap.dedent(SEARCH)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASHWOOD_")}
    # With locks of its own, the run does not warn of other runs on this machine.
    environment["ASHWOOD_LOCKS"] = str(directory / "locks")
    done = subprocess.run(
        [sys.executable, *command], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def checkpoints(directory: Path) -> list[Path]:
    return sorted(directory.glob("home/experiments/*/checkpoints/trial-*/length-*/net"))


def test_script_has_its_name_and_its_arguments_in_workers(tmp_path: Path) -> None:
    output = run(
        tmp_path,
        "tune.py",
        "--data",
        "full",
        tune="""
        import argparse, multiprocessing, pickle
        from pathlib import Path
        import ashwood

        parser = argparse.ArgumentParser()
        parser.add_argument("--data", required=True)
        args = parser.parse_args()

        class Net:
            pass

        def square(x):
            return x * x

        def train(trial):
            earlier = pickle.loads(Path("earlier").read_bytes())
            assert type(earlier) is Net, "what the script pickled as __main__ has another class"
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                assert pool.map(square, [3]) == [9]
            print("training on", args.data)
            for step in trial.steps():
                trial.report(loss=1.0, checkpoint=lambda d: (d / "net").write_bytes(pickle.dumps(Net())))
        SEARCH
        if __name__ == "__main__":
            Path("earlier").write_bytes(pickle.dumps(Net()))
            search(train)
            [saved] = Path("home").glob("experiments/1/checkpoints/*/*/net")
            print("same class:", type(pickle.loads(saved.read_bytes())) is Net)
        """,
    )
    assert "same class: True" in output
    assert "training on full" in (tmp_path / "home/experiments/1/logs/trial-0.log").read_text()
    [saved] = checkpoints(tmp_path)
    loading = f"import sys, pickle; sys.argv += ['--data', 'x']; print(pickle.load(open({str(saved)!r}, 'rb')))"
    assert "<tune.Net object" in run(tmp_path, "-c", loading)


def test_callables_of_every_kind_are_training_code(tmp_path: Path) -> None:
    output = run(
        tmp_path,
        "kinds.py",
        kinds="""
        import functools, pickle
        import ashwood

        class Code:
            def __init__(self, loss):
                self.loss = loss
            def train(self, trial):
                for step in trial.steps():
                    trial.report(loss=self.loss, checkpoint=lambda d: (d / "net").write_bytes(pickle.dumps(self)))
            __call__ = train
            @staticmethod
            def static(trial):
                Code(4).train(trial)
            @classmethod
            def of_class(cls, trial):
                cls(5).train(trial)

        def train(loss, trial):
            Code(loss).train(trial)
        SEARCH
        if __name__ == "__main__":
            six = 6
            kinds = [Code(1).train, Code(2), functools.partial(train, 3), Code.static, Code.of_class,
                     lambda trial: Code(six).train(trial)]
            for kind in kinds:
                print(search(kind).best_trial.metric)
            from pathlib import Path
            saved = [pickle.loads(path.read_bytes()) for path in Path("home").glob("experiments/*/checkpoints/*/*/net")]
            print("same class:", len(saved), all(type(each) is Code for each in saved))
        """,
    )
    assert output.split("same class:")[0].split() == [f"{number}.0" for number in range(1, 7)]
    assert "same class: 6 True" in output


def test_inherited_method_is_loaded_from_the_directory_of_its_class(tmp_path: Path) -> None:
    output = run(
        tmp_path,
        "tune.py",
        library__base="""
        class Base:
            @classmethod
            def train(cls, trial):
                for step in trial.steps():
                    trial.report(loss=cls.loss)
        """,
        mine="""
        import sys
        sys.path.append("library")
        import base

        class Mine(base.Base):
            loss = 7
        """,
        tune="""
        import ashwood
        from mine import Mine
        SEARCH
        if __name__ == "__main__":
            print(search(Mine.train).best_trial.metric)
        """,
    )
    assert output.split() == ["7.0"]


def test_package_that_is_run_as_a_module_keeps_its_relative_imports(tmp_path: Path) -> None:
    output = run(
        tmp_path,
        "-m",
        "package.main",
        package____init__="",
        package__helper="LOSS = 3.0",
        package__main="""
        import ashwood
        from .helper import LOSS

        def train(trial):
            for step in trial.steps():
                trial.report(loss=LOSS)
        SEARCH
        if __name__ == "__main__":
            print(search(train).best_trial.metric)
        """,
    )
    assert output.split() == ["3.0"]


def test_objects_of_a_notebook_can_be_pickled_and_loaded(tmp_path: Path) -> None:
    cells = """
import pickle, ashwood
from pathlib import Path

class Net:
    pass

def train(trial):
    for step in trial.steps():
        trial.report(loss=1.0, checkpoint=lambda d: (d / "net").write_bytes(pickle.dumps(Net())))

experiment = ashwood.run(train, hparams={"x": ashwood.Double(0, 1)}, home="home", workers=1, progress=False,
                         searcher=ashwood.RandomSearch(metric="loss", max_length=1, max_trials=1))
print("same class:", type(pickle.loads((experiment.best_checkpoint().directory / "net").read_bytes())) is Net)
"""
    # A program that is given with -c has no file either.
    assert "same class: True" in run(tmp_path, "-c", cells)


def test_names_changed_under_main_guard_are_a_warning(tmp_path: Path) -> None:
    output = run(
        tmp_path,
        "guarded.py",
        code=1,
        guarded="""
        import ashwood
        CONFIG = {"epochs": 1}

        def train(trial):
            CONFIG["epochs"], args.data
        SEARCH
        if __name__ == "__main__":
            args, CONFIG["epochs"] = None, 50
            search(train, max_restarts=0)
        """,
    )
    assert "UserWarning: CONFIG is changed under if __name__ ==" in output
    assert "name 'args' is not defined: args is set under if __name__ ==" in output
    assert "Pass it as data=" in output


def two_arguments(data: Any, trial: ashwood.Trial) -> None: ...


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (lambda x: x, r"is called with the trial, not with hyperparameters\. .* read trial.hparams.x"),
        (two_arguments, "two_arguments.data: .*, trial: .* must take one argument, the trial"),
        (3, "train must be a function that takes a trial, not 3"),
        (partial(two_arguments, Lock()), "cannot pickle 'two_arguments' for worker processes"),
    ],
)
def test_invalid_training_code_is_refused_before_experiment_is_created(
    tmp_path: Path, train: Any, message: str
) -> None:
    with pytest.raises(TrainingCodeError, match=message):
        ashwood.run(
            train, hparams={"x": 1}, searcher=ashwood.Single(metric="loss", max_length=1), home=tmp_path / "home"
        )
    assert not list(tmp_path.glob("home/experiments/*"))


def test_large_closure_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashwood.api.callables._LARGE", 1000)
    table = bytes(2000)

    def train(trial: ashwood.Trial) -> None:
        for _ in trial.steps():
            trial.report(loss=len(table))

    searcher = ashwood.Single(metric="loss", max_length=1)
    with pytest.warns(UserWarning, match="'train' is pickled with 0 MB of data"):
        ashwood.run(train, hparams={"x": 1}, searcher=searcher, home=tmp_path / "home", workers=1, progress=False)


def stubborn(trial: ashwood.Trial) -> None:
    import torch_that_is_not_here  # type: ignore[import-not-found]  # noqa: F401


def test_repeated_error_is_retried_once(tmp_path: Path) -> None:
    searcher = ashwood.RandomSearch(metric="loss", max_length=1, max_trials=2, max_concurrent_trials=1)
    with pytest.raises(ashwood.AshwoodError, match="torch_that_is_not_here"):
        ashwood.run(
            stubborn,
            hparams={"x": Double(0, 1)},
            searcher=searcher,
            home=tmp_path,
            workers=1,
            progress=False,
            max_common_failures=0,
        )
    with open_home(tmp_path) as home:
        failed = [e.event for _, e in home.store.log(1).read() if isinstance(e.event, AttemptFailed)]
    assert [(event.trial, event.attempt) for event in failed] == [(0, 1), (0, 2), (1, 1), (1, 2)]


def once(trial: ashwood.Trial) -> float:
    return abs(float(trial.hparams.x) - 0.3)


def test_function_that_returns_a_number_is_a_trial_for_random_and_not_for_halving(tmp_path: Path) -> None:
    search: dict[str, Any] = {"hparams": {"x": Double(0, 1)}, "home": tmp_path, "workers": 1, "progress": False}
    experiment = ashwood.run(once, searcher=ashwood.RandomSearch(metric="loss", max_length=8, max_trials=3), **search)
    assert experiment.state == "completed"
    best = experiment.best_trial
    assert best is not None
    assert best.metric == abs(best.hparams["x"] - 0.3)
    halving = ashwood.AsyncHalving(metric="loss", max_length=8, max_trials=9, num_rungs=2)
    with pytest.raises(ashwood.AshwoodError, match=r"for step in trial.steps\(\):"):
        ashwood.run(once, searcher=halving, **search)


def only_once_in_a_process(trial: ashwood.Trial) -> None:
    import multiprocessing

    multiprocessing.set_start_method("spawn")
    for _ in trial.steps():
        trial.report(loss=1.0)


def test_fresh_process_for_each_attempt(tmp_path: Path) -> None:
    searcher = ashwood.RandomSearch(metric="loss", max_length=1, max_trials=3)
    search: dict[str, Any] = {"hparams": {"x": Double(0, 1)}, "home": tmp_path, "workers": 1, "progress": False}
    reused = ashwood.run(only_once_in_a_process, searcher=searcher, **search)
    with open_home(tmp_path) as home:
        failed = [e.event for _, e in home.store.log(reused.id).read() if isinstance(e.event, AttemptFailed)]
    assert failed[0].error.endswith("If the code cannot run twice in one process, set reuse_workers: false.")
    assert "reuse_workers" not in failed[0].error.partition("\n")[0]
    fresh = ashwood.run(only_once_in_a_process, searcher=searcher, reuse_workers=False, **search)
    assert list(fresh.trials()["state"]) == ["completed"] * 3
