import csv
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from ashwood.cli.main import app
from ashwood.config import read_experiment
from ashwood.engine import open_home

from .conftest import EXPERIMENT, GATED, RANDOM, TRAIN, Workplace, go


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace whose experiment 1 is completed."""
    workplace = Workplace(tmp_path_factory.mktemp("finished"))
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    return workplace


# -- run and resume ----------------------------------------------------------------------------


def test_run_prints_progress_and_next_commands(workplace: Workplace) -> None:
    output = workplace.ashwood("run", "toy.yaml", "--workers", "2")
    assert "experiment 1 (toy): adaptive_asha (standard), 24 trials up to 16 epochs, 2 workers, seed 5" in output
    assert re.search(r"best so far: trial \d+, loss 0\.\d+ at \d+ epochs?", output)
    assert "experiment 1 completed\n" in output
    assert "ashwood best 1" in output


def test_trials_depend_on_seed_but_not_on_number_of_workers(workplace: Workplace) -> None:
    for workers in ("1", "3"):
        workplace.ashwood("run", "toy.yaml", "--workers", workers)

    def settings(experiment: str) -> set[tuple[Any, ...]]:
        return {
            (trial["hparams.x"], trial["hparams.optimizer.name"], trial["seed"], trial["bracket"])
            for trial in workplace.json("trials", experiment)
        }

    assert settings("1") == settings("2")
    assert len(settings("1")) == 24


def test_resume_after_ctrl_c_repeats_no_training(workplace: Workplace) -> None:
    slow = TRAIN.replace('print("epoch", epoch)', "import time; time.sleep(0.02)")
    workplace.write(train=slow)
    with workplace.start("run", "toy.yaml", "--workers", "2", "--json") as process:
        assert process.stdout is not None
        reports = 0
        while reports < 12:
            reports += '"is": "ValidationReported"' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 3, err
    assert workplace.json("describe", "1")["state"] == "paused"
    paused = {trial["trial"]: trial["length"] for trial in workplace.json("trials", "1")}

    output = workplace.ashwood("resume", "1", "--workers", "3")
    assert "experiment 1 completed" in output
    described = workplace.json("describe", "1")
    # The training code itself checks that it goes on where its checkpoint is; nothing is trained twice.
    assert described["length_repeated"] == 0
    assert described["failed_attempts"] == 0
    assert all(trial["length"] >= paused.get(trial["trial"], 0) for trial in workplace.json("trials", "1"))
    assert "there is nothing left to run" in workplace.ashwood("resume", "1", code=1)


def test_second_ctrl_c_ends_run_without_losing_recorded_results(workplace: Workplace) -> None:
    stuck = TRAIN.replace('print("epoch", epoch)', "import time; time.sleep(3600 if trial.id == 1 else 0)")
    workplace.write(train=stuck)
    with workplace.start("run", "toy.yaml", "--workers", "2", "--json") as process:
        assert process.stdout is not None
        while '"is": "ValidationReported"' not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        while "PauseRequested" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 3
    recorded = workplace.json("describe", "1")["reports"]
    assert recorded >= 1
    workplace.write(train=TRAIN)
    workplace.ashwood("resume", "1", "--workers", "2")
    assert workplace.json("describe", "1")["reports"] > recorded


def test_second_driver_of_an_experiment_is_refused(workplace: Workplace) -> None:
    workplace.write(train=GATED)
    with workplace.driving("run", "toy.yaml", "--workers", "1") as process:
        assert "is running this experiment" in workplace.ashwood("resume", "1", code=1)
        assert workplace.json("list")[0]["state"] == "running"
        process.kill()
        process.communicate()
    go(workplace)
    assert workplace.json("list")[0]["state"] == "interrupted"
    assert "To continue: ashwood resume 1" in workplace.ashwood("describe", "1")
    workplace.write(train=TRAIN)
    assert "completed" in workplace.ashwood("resume", "1", "--workers", "2")


def test_events_as_json_are_strict_and_complete(workplace: Workplace) -> None:
    workplace.write(train=TRAIN.replace("loss = abs", "loss = float('nan') if trial.id == 2 else abs"))
    lines = workplace.ashwood("run", "toy.yaml", "--workers", "2", "--json").splitlines()
    first, *entries = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert first == {"experiment": 1, "name": "toy", "slots": 2}
    assert entries[0]["event"] == {"is": "DriverStarted", "slots": 2}
    assert entries[-1]["decisions"] == [{"is": "EndExperiment", "state": "completed", "why": "the search is done"}]
    created = [d for entry in entries for d in entry.get("decisions", []) if d["is"] == "CreateTrial"]
    assert len(created) == 24
    reasons = {
        d["why"]["is"]
        for entry in entries
        for d in entry.get("decisions", [])
        if d.get("why", {}) != {} and isinstance(d["why"], dict)
    }
    assert {"Created", "Promoted", "Waits", "ReachedEnd", "BracketFinished"} <= reasons


def test_values_of_the_file_can_be_set(workplace: Workplace) -> None:
    workplace.ashwood(
        "run",
        "toy.yaml",
        "--set",
        "searcher.name=random",
        "--set",
        "searcher.max_trials=3",
        "--set",
        "searcher.max_length=2",
        "--set",
        "searcher.divisor=4",
        code=2,
    )
    workplace.write(EXPERIMENT.replace(", divisor: 4", ""))
    workplace.ashwood(
        "run",
        "toy.yaml",
        "--set",
        "searcher.name=random",
        "--set",
        "searcher.max_trials=3",
        "--set",
        "searcher.max_length={epochs: 2}",
    )
    trials = workplace.json("trials", "1")
    assert [trial["length"] for trial in trials] == [2, 2, 2]


# -- what goes wrong ----------------------------------------------------------------------------


def test_a_bad_file_names_every_problem_with_its_line(workplace: Workplace) -> None:
    workplace.write(EXPERIMENT.replace("max_trials: 24", "max_trails: 24").replace("minval: 0.0", "minval: 2.0"))
    output = workplace.ashwood("run", "toy.yaml", code=2)
    assert "toy.yaml:5: hyperparameters.x" in output
    assert "toy.yaml:7: searcher.max_trails: unknown key; did you mean max_trials?" in output
    assert not (workplace.path / ".ashwood").exists()


def test_import_error_of_training_code_is_printed_once(workplace: Workplace) -> None:
    workplace.write(train="import numppy\n\ndef train(trial): ...\n")
    output = workplace.ashwood("run", "toy.yaml", "--workers", "2", code=1)
    assert "No module named 'numppy'" in output
    assert output.count("Traceback") == 1
    assert "ashwood resume 1" in output
    workplace.write(train=TRAIN)
    assert "completed" in workplace.ashwood("resume", "1")


def test_training_code_that_always_fails_ends_in_its_own_message(workplace: Workplace) -> None:
    workplace.write(
        EXPERIMENT + "max_restarts: 0\nmax_common_failures: 0\n",
        "def train(trial):\n    raise ValueError('no such thing')\n",
    )
    output = workplace.ashwood("run", "toy.yaml", "--workers", "2", code=1)
    assert "ValueError: no such thing" in output
    assert "experiment 1 errored: every trial failed" in output
    assert "ValueError: no such thing" in workplace.ashwood("logs", "1", "0")


def test_a_crash_costs_one_attempt(workplace: Workplace) -> None:
    crash = "import os, pathlib\n" + TRAIN.replace(
        'print("epoch", epoch)',
        "if trial.id == 3 and trial.attempt == 1 and epoch == 0: os.kill(os.getpid(), 9)",
    )
    workplace.write(train=crash)
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    described = workplace.json("describe", "1")
    assert described["failed_attempts"] == 1
    assert described["state"] == "completed"
    assert set(described["trials"]) <= {"completed", "stopped"}


def test_missing_experiments_trials_and_homes_are_named(workplace: Workplace) -> None:
    assert "no experiments in" in workplace.ashwood("list", code=1)
    assert "nowhere.yaml" in workplace.ashwood("run", "nowhere.yaml", code=2)
    workplace.file.unlink()
    assert "give an experiment file: there is none here" in workplace.ashwood("run", code=2)


# -- looking ------------------------------------------------------------------------------------


def test_number_that_is_none_is_named(finished: Workplace) -> None:
    assert "there is no experiment 'toi'" in finished.ashwood("best", "toi", code=1)
    assert "; the only experiment is 1 (see: ashwood list)" in finished.ashwood("best", "7", code=1)
    assert "must be a whole number, not '-1'" in finished.ashwood("events", "1", "--after", "-1", code=2)
    assert f"must be at most {2**63 - 1}" in " ".join(finished.ashwood("describe", str(2**63), code=2).split())


def test_best_prints_best_trial_as_yaml(finished: Workplace) -> None:
    [best] = finished.json("best", "1")
    trials = finished.json("trials", "1")
    assert best["metric"] == min(trial["best.loss"] for trial in trials)
    assert (Path(best["checkpoint"]) / "state.json").exists()
    import yaml

    pasted = yaml.safe_load(finished.ashwood("best", "1"))
    assert pasted == {"hyperparameters": best["hyperparameters"]}
    assert [row["metric"] for row in finished.json("best", "1", "-n", "5")] == sorted(
        trial["best.loss"] for trial in trials
    )[:5]


def test_trials_are_sorted_and_filtered(finished: Workplace) -> None:
    losses = [trial["best.loss"] for trial in finished.json("trials", "1", "--sort", "best.loss")]
    assert losses == sorted(losses)
    assert [t["hparams.x"] for t in finished.json("trials", "1", "--sort", "-x", "-n", "3")] == sorted(
        (t["hparams.x"] for t in finished.json("trials", "1")), reverse=True
    )[:3]
    filtered = finished.json("trials", "1", "--filter", "state=completed", "--filter", "optimizer.name=sgd")
    assert filtered
    assert all(t["state"] == "completed" and t["hparams.optimizer.name"] == "sgd" for t in filtered)
    assert "no column 'optimizer' (did you mean 'optimizer.name'?)" in finished.ashwood(
        "trials", "1", "--sort", "optimizer", code=1
    )
    assert "there is no column 'lr'; there are: trial, state" in finished.ashwood("trials", "1", "--sort", "lr", code=1)
    table = finished.ashwood("trials", "1")
    assert len(table.splitlines()) == 25


def test_list_and_describe(finished: Workplace) -> None:
    [listed] = finished.json("list")
    assert (listed["id"], listed["name"], listed["state"]) == (1, "toy", "completed")
    output = finished.ashwood("describe", "1")
    assert "bracket 0: " in output
    assert "finished" in output
    described = finished.json("describe", "1")
    [best] = finished.json("best", "1")
    assert described["best"] == {key: value for key, value in best.items() if key != "recommended"}
    assert described["config"] == EXPERIMENT


def test_a_log_that_is_no_regular_file_is_not_printed(workplace: Workplace) -> None:
    workplace.write(experiment=RANDOM)
    with open_home(workplace.path / ".ashwood", create=True) as home:
        home.create(read_experiment(workplace.path / "toy.yaml").spec, at=1.0)
    logs = workplace.path / ".ashwood" / "experiments" / "1" / "logs"
    logs.mkdir(parents=True)
    os.mkfifo(logs / "trial-0.log")
    (logs / "trial-1.log").symlink_to(workplace.path / "elsewhere")
    workplace.ashwood("resume", "1", "--workers", "2")
    assert not (workplace.path / "elsewhere").exists()
    for trial in ("0", "1"):
        assert f"trial-{trial}.log is not a regular file" in workplace.ashwood("logs", "1", trial, code=1)


def test_logs_show_the_beginning_and_the_end_of_a_log_that_was_limited(workplace: Workplace) -> None:
    train = "def train(trial):\n    for epoch in trial.epochs():\n        for n in range(100000): print(n)\n"
    workplace.write(
        "entrypoint: train:train\nmax_log_size: 100 kB\n"
        "searcher: {name: single, metric: loss, max_length: {epochs: 1}}\n",
        train + "        trial.report(loss=1.0)\n",
    )
    workplace.ashwood("run", "toy.yaml", "--workers", "1")
    shown = workplace.ashwood("logs", "1", "0")
    assert shown.startswith("--- ")
    assert len(shown) <= 100_000
    assert "bytes are left out here: the log has reached max_log_size, 100000 bytes ..." in shown
    assert shown.endswith("\n99998\n99999\n")
    assert "experiment 1: no problem" in workplace.ashwood("verify")


def test_logs(finished: Workplace) -> None:
    assert "epoch 0" in finished.ashwood("logs", "1", "0")
    assert "has no trial 99; its trials are 0 to 23" in finished.ashwood("logs", "1", "99", code=1)


def test_logs_as_json_have_an_object_for_each_line(finished: Workplace) -> None:
    lines = [json.loads(line) for line in finished.ashwood("logs", "1", "0", "--json", "--tail", "1").splitlines()]
    assert [line["trial"] for line in lines] == [0]
    assert lines[0]["text"].startswith("epoch ")
    whole = [json.loads(line) for line in finished.ashwood("logs", "1", "--json").splitlines()]
    assert [line["text"] for line in whole if line["trial"] == 3] == finished.ashwood("logs", "1", "3").splitlines()
    assert {line["trial"] for line in whole} == set(range(24))


WITHOUT_JSON = {"schema": "its output is JSON"}
"""Commands without ``--json``, each with the reason."""


def test_every_command_has_json_output() -> None:
    commands: Any = get_command(app)
    without = {
        name for name, each in commands.commands.items() if not any("--json" in option.opts for option in each.params)
    }
    assert without == WITHOUT_JSON.keys()


def test_export(finished: Workplace) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    finished.ashwood("export", "1", "--out", "trials.csv")
    finished.ashwood("export", "1", "--out", "reports.json", "--metrics")
    finished.ashwood("export", "1", "--out", "trials.parquet")
    with (finished.path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert {row["hparams.optimizer.name"] for row in rows} == {"sgd", "adam"}
    reports = json.loads((finished.path / "reports.json").read_text())
    assert len(reports) == finished.json("describe", "1")["reports"]
    import pandas as pd

    frame = pd.read_parquet(finished.path / "trials.parquet")
    assert frame["best.loss"].tolist() == [float(row["best.loss"]) for row in rows]
    assert "must end in" in finished.ashwood("export", "1", "--out", "trials.xls", code=1)


# -- before it runs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "searcher",
    [
        pytest.param(
            "{name: sync_halving, metric: loss, max_length: {epochs: 9}, max_trials: 20, divisor: 3, num_rungs: 3}",
            marks=pytest.mark.slow,
        ),
        pytest.param("{name: random, metric: loss, max_length: {epochs: 3}, max_trials: 7}", marks=pytest.mark.slow),
        "{name: grid, metric: loss, max_length: {epochs: 2}}",
        pytest.param("{name: single, metric: loss, max_length: {epochs: 5}}", marks=pytest.mark.slow),
        "{name: adaptive_asha, metric: loss, max_length: {epochs: 9}, max_trials: 20, divisor: 3}",
        pytest.param(
            "{name: async_halving, metric: loss, max_length: {epochs: 9}, max_trials: 20, divisor: 3, stop_once: true}",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_preview_agrees_with_run(workplace: Workplace, searcher: str) -> None:
    start, _, end = EXPERIMENT.partition("searcher:")
    workplace.write(
        f"{start}searcher: {searcher}\n{end.splitlines()[-1]}\n".replace("maxval: 1.0", "maxval: 1.0, count: 4")
    )
    preview = workplace.json("preview-search", "toy.yaml")
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    lengths = [trial["length"] for trial in workplace.json("trials", "1")]
    assert len(lengths) == preview["total_trials"]
    for row in preview["lengths"]:
        reached = sum(length >= row["length"] for length in lengths)
        assert reached >= row["reach"]["least"]
        if preview["exact"]:
            assert reached == row["reach"]["middle"]
            assert lengths.count(row["length"]) == row["end"]["middle"]
    if preview["exact"]:
        assert workplace.json("describe", "1")["length_trained"] == preview["total_length"]["middle"]


def test_preview_is_deterministic_and_runs_nothing(workplace: Workplace) -> None:
    assert workplace.ashwood("preview-search", "toy.yaml") == workplace.ashwood("preview-search", "toy.yaml")
    assert not (workplace.path / ".ashwood").exists()


def test_init_creates_working_example_and_overwrites_nothing(workplace: Workplace) -> None:
    assert workplace.json("init", "mine") == {"files": ["mine/experiment.yaml", "mine/train.py"]}
    assert "already exists" in workplace.ashwood("init", "mine", code=1)
    output = workplace.ashwood("run", "mine/experiment.yaml", "--set", "searcher.max_trials=4")
    assert "completed" in output
    assert all(len(line) <= 80 for line in workplace.ashwood("init", "other").splitlines())


def test_version_and_schema(workplace: Workplace) -> None:
    assert re.fullmatch(r"ashwood \d+\.\d+\.\d+\n", workplace.ashwood("--version"))
    assert json.loads(workplace.ashwood("schema"))["properties"]["searcher"]


@pytest.mark.parametrize("name", ["select", "json", "signal", "types"])
def test_training_code_may_be_named_like_a_module_that_the_worker_needs(workplace: Workplace, name: str) -> None:
    (workplace.path / f"{name}.py").write_text("raise RuntimeError('not this one')\n")
    assert "completed" in workplace.ashwood("run", "toy.yaml", "--workers", "1", "--set", "searcher.max_trials=2")


def test_failed_command_trial_shows_last_lines_of_its_output(workplace: Workplace) -> None:
    workplace.write(EXPERIMENT.replace("train:train", "python nowhere.py") + "max_restarts: 0\n")
    output = workplace.ashwood("run", "toy.yaml", "--workers", "1", "--set", "searcher.max_trials=2", code=1)
    assert "the command ended with exit code 2: " in output
    assert "No such file or directory" in output


def test_search_without_finite_metric_says_so(workplace: Workplace) -> None:
    workplace.write(train=TRAIN.replace("loss = abs", "loss = float('nan') * abs"))
    assert "no trial has reported a loss that is a finite number" in workplace.ashwood("run", "toy.yaml")
    assert "finite number" in workplace.ashwood("best", "1")


def test_a_failed_experiment_leaves_no_trial_running(workplace: Workplace) -> None:
    workplace.write(
        EXPERIMENT.replace("max_trials: 24", "max_trials: 4"), "def train(trial):\n    trial.invalid_hparams('never')\n"
    )
    output = workplace.ashwood("run", "toy.yaml", "--workers", "2", code=1)
    assert "declared their hyperparameters invalid" in output
    assert "running" not in {trial["state"] for trial in workplace.json("trials", "1")}


def test_a_table_of_trials_has_at_most_30_columns(workplace: Workplace) -> None:
    many = "trial.report(loss=1.0, **{f'metric_{number}': 1.0 for number in range(200)})"
    train = f"def train(trial):\n    for _ in trial.epochs():\n        {many}\n"
    workplace.write(RANDOM.replace("max_trials: 6", "max_trials: 1"), train)
    workplace.ashwood("run", "toy.yaml", "--workers", "1")
    header, _, more = workplace.ashwood("trials", "1").splitlines()
    assert len(re.split(" {2,}", header.strip())) == 30
    assert " x " in header
    assert more.endswith("more columns: ashwood trials 1 --json")
    assert len(workplace.json("trials", "1")[0]) > 200
    assert len(workplace.ashwood("events", "1").splitlines()[-3]) < 1_000


HUGE = "99999999999999999999"


@pytest.mark.parametrize(
    "command",
    [
        ["describe", HUGE],
        ["logs", "1", HUGE],
        ["events", "1", "--after", HUGE],
        ["delete", HUGE, "--yes"],
        ["run", "--from", HUGE],
        ["animate", HUGE, "--out", "search.gif"],
        ["preview-search", "toy.yaml", "--like", HUGE],
        ["set", "1", f"max_trials={HUGE}"],
        ["set", "1", "max_trials=10000001"],
        ["set", "1", f"max_concurrent_trials={HUGE * 300}"],
        ["run", "toy.yaml", "--set", f"searcher.source_trial_id={HUGE}/0"],
        ["run", "toy.yaml", "--set", f"searcher.source_checkpoint_uuid={HUGE}/trial-0/length-1-attempt-1"],
    ],
    ids=" ".join,
)
def test_numbers_that_are_too_large_are_wrong_usage(finished: Workplace, command: list[str]) -> None:
    assert finished.ashwood(*command, code=2)
