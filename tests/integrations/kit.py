"""Compares searches that pause, promote and kill with trainings that nothing interrupts.

The training code is that of the framework's example, so the documentation and the tests show the same code.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pandas as pd
import pytest

import ashwood

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_example(framework: str, file: str = "train.py") -> ModuleType:
    """Import the training code of an example under a name of its own, which workers do not have to know."""
    name = f"example_{framework}"
    spec = spec_from_file_location(name, EXAMPLES / framework / file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    cloudpickle.register_pickle_by_value(module)
    return module


def run_example(framework: str, tmp_path: Path, *settings: str) -> str:
    """Run the experiment file of an example as its users do, and return what the command printed.

    Args:
        framework: directory of the example, which is also the name of its experiment file.
        tmp_path: directory for the home.
        *settings: values for ``--set``, such as ``searcher.max_trials=4``.
    """
    command = [sys.executable, "-m", "ashwood", "run", f"{framework}.yaml", "--home", str(tmp_path / "home")]
    for setting in settings:
        command += ["--set", setting]
    done = subprocess.run(command, cwd=EXAMPLES / framework, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "experiment 1 completed" in done.stdout
    return done.stdout


def train_and_kill(train: Callable[[ashwood.Trial], Any], marker: Path, trial: ashwood.Trial) -> Any:
    """Train, but kill this process once, right after the first report of a resumed trial."""
    if trial.attempt > 1 and not marker.exists():
        report = trial.report

        def report_and_kill(*args: Any, **kwargs: Any) -> None:
            report(*args, **kwargs)
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

        trial.report = report_and_kill  # type: ignore[method-assign]
    return train(trial)


def assert_resumes(
    train: Callable[[ashwood.Trial], Any],
    tmp_path: Path,
    *,
    hparams: Mapping[str, Any],
    metric: str,
    max_length: int | Mapping[str, int],
    smaller_is_better: bool = True,
    rel: float = 0.0,
    seed: int = 3,
    **fields: Any,
) -> pd.DataFrame:
    """Check that pauses, promotions and a kill do not change what training code reports.

    A halving search with one worker pauses trials, promotes them later, and loses its worker once in a resumed trial.
    A random search with the same seed trains the same trials without interruption.  At each length, both must report
    the same metrics.

    Args:
        train: the training code; it must be importable, or can be pickled by ``cloudpickle``.
        tmp_path: directory for the homes.
        hparams: hyperparameters, at least one of them with a range.
        metric: name of the metric that the search compares.
        max_length: total length, 8 of its units.
        smaller_is_better: whether a smaller metric is better.
        rel: largest relative difference of a metric; 0 means equal to the last digit.
        seed: seed of the searches.
        **fields: other fields of an experiment file.

    Returns:
        All reports of the search that was interrupted.
    """
    common: dict[str, Any] = {"metric": metric, "max_length": max_length, "smaller_is_better": smaller_is_better}
    options: dict[str, Any] = {"hparams": hparams, "seed": seed, "workers": 1, "progress": False, **fields}
    marker = tmp_path / "killed"
    interrupted = ashwood.run(
        partial(train_and_kill, train, marker),
        searcher=ashwood.AsyncHalving(**common, max_trials=5, divisor=2, num_rungs=3),
        home=tmp_path / "interrupted",
        **options,
    )
    undisturbed = ashwood.run(
        partial(train),  # sent to the workers in the same way
        searcher=ashwood.RandomSearch(**common, max_trials=5),
        home=tmp_path / "undisturbed",
        **options,
    )
    assert interrupted.state == undisturbed.state == "completed"
    assert marker.exists(), "the search promoted no trial that had been paused"
    return _compare(interrupted, undisturbed, metric, rel)


def assert_command_resumes(
    script: Path,
    arguments: str,
    tmp_path: Path,
    *,
    metric: str,
    rel: float = 0.0,
    seed: int = 3,
    interrupted_by: Mapping[str, Any],
    **fields: Any,
) -> pd.DataFrame:
    """Check that pauses, promotions and a kill do not change what a command reports; see `assert_resumes`.

    Args:
        script: Python script that is the training code.
        arguments: text before the script in the command, for example of a launcher.
        tmp_path: directory for the homes.
        metric: name of the metric that the search compares.
        rel: largest relative difference of a metric; 0 means equal to the last digit.
        seed: seed of the searches.
        interrupted_by: searcher section of the search that interrupts its trials.
        **fields: other fields of the experiment file, with a searcher section for the other search.

    Returns:
        All reports of the search that was interrupted.
    """
    marker = tmp_path / "killed"
    experiments = []
    for name, searcher in (("interrupted", interrupted_by), ("undisturbed", fields.pop("searcher"))):
        killing = f"{Path(__file__).parent / 'kill_once.py'} {marker} " if name == "interrupted" else ""
        settings = {
            "entrypoint": f"{arguments} {killing}{script}",
            "searcher": {"metric": metric, **searcher},
            "reproducibility": {"experiment_seed": seed},
            **fields,
        }
        file = tmp_path / f"{name}.yaml"
        file.write_text(json.dumps(settings))  # JSON is YAML.
        home = tmp_path / name
        command = [sys.executable, "-m", "ashwood", "run", str(file), "--home", str(home), "--workers", "1"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        logs = "".join(log.read_text() for log in sorted(home.glob("experiments/1/logs/*.log")))
        assert done.returncode == 0, done.stdout + done.stderr + logs
        experiments.append(ashwood.open_experiment(1, home=home))
    interrupted, undisturbed = experiments
    assert interrupted.state == undisturbed.state == "completed"
    assert marker.exists(), "the search promoted no trial that had been paused"
    return _compare(interrupted, undisturbed, metric, rel)


def _compare(interrupted: ashwood.Experiment, undisturbed: ashwood.Experiment, metric: str, rel: float) -> pd.DataFrame:
    """Check that both experiments report the same at each length, and return the reports of the first one."""
    assert interrupted.trials()["seed"].tolist() == undisturbed.trials()["seed"].tolist()
    found, expected = interrupted.reports(), undisturbed.reports()
    names = [name for name in found.columns if name not in ("trial", "length", "attempt", "at")]
    metrics = [name for name in names if "time" not in name and "per_second" not in name]
    assert metric in metrics
    keys = ["trial", "length"]
    # Code may report several times at one length.  A length that was trained again after the kill is reported twice;
    # all its reports must agree.
    own = found.groupby([*keys, "attempt"])[metrics].first().reset_index()
    wanted_by = expected.groupby(keys)[metrics].first().reset_index()
    both = own.merge(wanted_by, on=keys, suffixes=("", "_undisturbed"), validate="many_to_one")
    assert len(both) == len(own)
    for name in metrics:
        values, wanted = both[name], both[f"{name}_undisturbed"]
        assert values.tolist() == pytest.approx(wanted.tolist(), rel=rel, abs=0.0, nan_ok=True), name
    return found
