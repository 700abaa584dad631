"""``ashwood extend``: more trials and longer training of searches that have ended, run or pause."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from .conftest import EXPERIMENT, RANDOM, TRAIN, Workplace, go, wait_until

PRINTS = 'print("epoch", epoch)'
WAITS = TRAIN.replace(
    PRINTS,
    f"""import pathlib, time
        while not pathlib.Path('go').exists():
            time.sleep(0.01)
        {PRINTS}""",
)
"""Training code that waits for a file ``go`` before each epoch."""


def trained(workplace: Workplace, trial: int) -> list[int]:
    """Return the epochs that a trial has trained, from what its training code printed."""
    log = workplace.path / ".ashwood" / "experiments" / "1" / "logs" / f"trial-{trial}.log"
    return [int(epoch) for epoch in re.findall(r"^epoch (\d+)$", log.read_text(), re.MULTILINE)]


def test_completed_search_trains_on_from_its_checkpoints(workplace: Workplace) -> None:
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    before = {trial["trial"]: trial for trial in workplace.json("trials", "1")}
    output = workplace.ashwood(
        "extend", "1", "--max-length", "{epochs: 100}", "--max-trials", "30", "--cost-per-worker-hour", "2", "--dry-run"
    )
    assert "experiment 1, extended: 30 trials up to 100 epochs\n6 trials will be created, and about" in output
    assert "rungs at 1, 4, 16, 64, 100 epochs\n" in output
    assert "worker-hours, a cost of about 0." in output
    assert "warning: schedules that are tied to the former max_length (16 epochs)" in output
    assert "without a checkpoint" not in output
    assert workplace.json("describe", "1")["state"] == "completed"

    output = workplace.ashwood("extend", "1", "--max-length", "{epochs: 100}", "--workers", "2")
    assert "experiment 1 completed" in output
    described = workplace.json("describe", "1")
    assert [[rung["length"] for rung in bracket["rungs"]] for bracket in described["brackets"]] == [
        [1, 4, 16, 64, 100],
        [4, 16, 64, 100],
    ]
    assert "24 trials up to 100 epochs" in workplace.ashwood("describe", "1")
    after = workplace.json("trials", "1")
    assert sum(trial["length"] == 100 for trial in after) == 2
    for trial in after:
        assert trained(workplace, trial["trial"]) == list(range(trial["length"])), "an epoch was trained again"
        assert trial["length"] == before[trial["trial"]]["length"] or trial["length"] > 16

    assert "6 trials will be created" in workplace.ashwood("extend", "1", "--max-trials", "30", "--no-run")
    assert workplace.json("describe", "1")["state"] == "paused"
    assert "completed" in workplace.ashwood("resume", "1", "--workers", "2")
    assert len(workplace.json("trials", "1")) == 30
    assert "every decision matches" in workplace.ashwood("replay", "1")


def test_missing_checkpoints_are_named_with_their_cost(workplace: Workplace) -> None:
    workplace.write(RANDOM)
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    shutil.rmtree(workplace.path / ".ashwood" / "experiments" / "1" / "checkpoints" / "trial-3")
    output = workplace.ashwood("extend", "1", "--max-length", "5 epochs", "--dry-run")
    assert (
        "1 trial may train on without a checkpoint of all training, which repeats about 2 epochs: "
        "trial 3 resumes from 0 epochs of 2\n"
    ) in output
    assert "about 6 trials of those that exist will train on: about 20 epochs of training" in output
    forecast = json.loads(workplace.ashwood("extend", "1", "--max-length", "5 epochs", "--dry-run", "--json"))
    assert forecast["lost"] == [{"trial": 3, "trained": 2, "saved": 0}]
    output = workplace.ashwood("extend", "1", "--max-trials", "7", "--dry-run")
    assert "\n1 trial will be created: about 2 epochs of training\n" in output
    assert (forecast["length"], forecast["length_repeated"]) == (20, 2)
    workplace.ashwood("extend", "1", "--max-length", "5", "--workers", "2")
    assert [trained(workplace, trial) for trial in (2, 3)] == [[0, 1, 2, 3, 4], [0, 1, 0, 1, 2, 3, 4]]


def test_running_trials_are_not_named_as_without_checkpoints(workplace: Workplace) -> None:
    workplace.write(RANDOM, WAITS.replace("while not", "while epoch == 1 and not"))
    with workplace.driving("run", "toy.yaml", "--workers", "2", "--set", "checkpoint_policy=none") as driver:
        wait_until(lambda: "2 reports" in workplace.ashwood("describe", "1"))
        output = workplace.ashwood("extend", "1", "--max-trials", "7", "--dry-run")
        assert "7 trials up to 2 epochs" in output
        assert "without a checkpoint" not in output
        go(workplace)
        driver.communicate()
    assert driver.returncode == 0


def test_running_search_is_extended_by_its_driver(workplace: Workplace) -> None:
    workplace.write(RANDOM, WAITS + "    print('end at', trial.max_length)\n")
    with workplace.driving("run", "toy.yaml", "--workers", "2") as driver:
        output = workplace.ashwood("extend", "1", "--max-length", "4", "--max-trials", "7")
        assert "experiment 1 is running: its driver continues with the extended search" in output
        go(workplace)
        driver.communicate()
    assert driver.returncode == 0
    trials = workplace.json("trials", "1")
    assert [(trial["state"], trial["length"]) for trial in trials] == [("completed", 4)] * 7
    assert [trained(workplace, trial) for trial in range(7)] == [[0, 1, 2, 3]] * 7
    logs = workplace.path / ".ashwood" / "experiments" / "1" / "logs"
    assert all("end at 4\n" in (logs / f"trial-{trial}.log").read_text() for trial in range(7))


def test_extended_search_survives_kill_of_its_driver(workplace: Workplace) -> None:
    workplace.write(RANDOM, WAITS)
    go(workplace)
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    (workplace.path / "go").unlink()
    with workplace.driving("extend", "1", "--max-length", "5", "--workers", "2") as driver:
        driver.kill()
        driver.communicate()
    go(workplace)
    assert "completed" in workplace.ashwood("resume", "1", "--workers", "2")
    assert [trained(workplace, trial) for trial in range(6)] == [[0, 1, 2, 3, 4]] * 6
    assert "every decision matches" in workplace.ashwood("replay", "1")


def test_preview_knows_checkpoints_that_a_killed_driver_did_not_record(workplace: Workplace) -> None:
    workplace.write(RANDOM, WAITS.replace("while not", "while epoch == 1 and not"))
    preview = ("extend", "1", "--max-trials", "7", "--dry-run")
    with workplace.driving("run", "toy.yaml", "--workers", "2") as driver:
        wait_until(lambda: "2 reports" in workplace.ashwood("describe", "1"))
        driver.kill()
        driver.communicate()
    go(workplace)
    stored = workplace.path / ".ashwood" / "experiments" / "1" / "checkpoints"
    wait_until(lambda: len(list(stored.glob("*/length-2-*/ashwood-checkpoint.json"))) == 2)
    assert "without a checkpoint" not in workplace.ashwood(*preview)
    assert json.loads(workplace.ashwood(*preview, "--json"))["length"] == 5 * 2
    workplace.ashwood("extend", "1", "--max-trials", "7", "--workers", "2")
    assert [trained(workplace, trial) for trial in range(7)] == [[0, 1]] * 7


def test_preview_names_training_that_max_size_will_cost(workplace: Workplace) -> None:
    experiment = EXPERIMENT.replace("divisor: 4", "divisor: 2") + "checkpoint_storage: {max_size: 3kB}\n"
    workplace.write(experiment, TRAIN.replace('{"epochs": start}', '{"epochs": start, "weights": "1" * 1000}'))
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    preview = ("extend", "1", "--max-trials", "96", "--dry-run")
    assert re.search(
        r"about \d+ epochs? of training will be repeated, because checkpoints will be deleted to keep max_size "
        r"\(3.0 kB\)\. To avoid that, raise or remove it first: ashwood set 1 max_size=none\n",
        workplace.ashwood(*preview),
    )
    assert json.loads(workplace.ashwood(*preview, "--json"))["length_repeated_for_max_size"] > 0
    workplace.ashwood("set", "1", "max_size=none")
    assert "max_size" not in workplace.ashwood(*preview)


def test_export_of_extended_search_is_imported(workplace: Workplace) -> None:
    workplace.write(RANDOM)
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    workplace.ashwood("extend", "1", "--max-trials", "8", "--workers", "2")
    workplace.ashwood("export", "1", "--out", "whole.ashwood")
    workplace.ashwood("import", "whole.ashwood", "--home", "other")
    assert "8 trials up to 2 epochs" in workplace.ashwood("describe", "1", "--home", "other")
    assert "every decision matches" in workplace.ashwood("replay", "1", "--home", "other")


def test_extension_remains_if_a_goal_prevents_the_run(workplace: Workplace) -> None:
    workplace.write(RANDOM)
    workplace.ashwood("run", "toy.yaml", "--workers", "2", "--stop-when", "metric_at=1e9")
    output = workplace.ashwood("extend", "1", "--max-length", "5", code=1)
    assert "experiment 1 is extended\n" in output
    assert "has already reached its goal" in output
    assert "completed" in workplace.ashwood("resume", "1", "--stop-when", "none", "--workers", "2")
    assert "6 trials up to 5 epochs" in workplace.ashwood("describe", "1")
    assert "the former max_length (5 epochs)" in workplace.ashwood("extend", "1", "--max-length", "9", "--dry-run")


def test_commands_suggest_extension_and_say_what_is_possible(workplace: Workplace) -> None:
    workplace.write(RANDOM)
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    assert (
        "experiment 1 is completed, so its max_trials can't be set. To add trials to its search: "
        "ashwood extend 1 --max-trials 9\n"
    ) in workplace.ashwood("set", "1", "max_trials=9", code=1)
    assert "ashwood extend 1 --max-length 9" in workplace.ashwood("set", "1", "max_length=9", code=2)
    for options, code, message in (
        ([], 2, "extend: give --max-trials, --max-length or --replicates"),
        (["--max-length", "{batches: 9}"], 2, "--max-length: must be in epochs, the unit of the experiment"),
        (["--max-length", "2"], 1, "max_length must be more than the present 2, not 2"),
        (["--max-trials", "6"], 1, "max_trials must be more than the present 6, not 6"),
    ):
        assert message in workplace.ashwood("extend", "1", *options, code=code)
    assert workplace.json("describe", "1")["state"] == "completed"


@pytest.mark.parametrize("given", ["{epochs: 9}", "9 epochs", "9"])
def test_length_has_three_forms(workplace: Workplace, given: str) -> None:
    workplace.write(RANDOM)
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    output = workplace.ashwood("extend", "1", "--max-length", given, "--dry-run")
    assert "experiment 1, extended: 6 trials up to 9 epochs" in output
