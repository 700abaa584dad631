"""Commands that control experiments, with and without a running driver."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from ashwood.engine import open_home

from .conftest import GATED, RANDOM, TRAIN, Workplace, go, wait_until


@pytest.fixture
def gated(workplace: Workplace) -> Workplace:
    """A workplace whose trials wait for the file ``go``."""
    workplace.write(RANDOM, GATED)
    return workplace


def state(workplace: Workplace, experiment: int = 1) -> str:
    return str(workplace.json("describe", str(experiment))["state"])


def states(workplace: Workplace) -> list[str]:
    return [trial["state"] for trial in workplace.json("trials", "1")]


# -- while a driver runs -------------------------------------------------------------------------


def test_pause_ends_driver_and_resume_continues(gated: Workplace) -> None:
    with gated.driving("run", "toy.yaml", "--workers", "2") as driver:
        assert gated.ashwood("pause", "1") == (
            "experiment 1 is pausing: running trials save a checkpoint and release their workers\n"
        )
        assert gated.ashwood("pause", "1") == "experiment 1 is already pausing\n"
        go(gated)
        driver.communicate()
    assert driver.returncode == 3
    assert state(gated) == "paused"
    assert gated.ashwood("pause", "1") == "experiment 1 is already paused\n"
    assert "completed" in gated.ashwood("resume", "1", "--workers", "2")
    assert gated.ashwood("kill", "1") == gated.ashwood("cancel", "1") == "experiment 1 is already completed\n"
    for command in ("pause", "activate", "resume"):
        assert "completed" in gated.ashwood(command, "1", code=1)


def test_cancel_saves_checkpoints_and_stops_permanently(gated: Workplace) -> None:
    with gated.driving("run", "toy.yaml", "--workers", "2") as driver:
        assert "experiment 1 is being canceled: running trials save" in gated.ashwood("cancel", "1")
        assert gated.ashwood("cancel", "1") == "experiment 1 is already stopping\n"
        go(gated)
        driver.communicate()
    assert driver.returncode == 4
    assert state(gated) == "canceled"
    assert "running" not in states(gated)
    assert "there is nothing left to run" in gated.ashwood("resume", "1", code=1)


def test_kill_stops_immediately(gated: Workplace) -> None:
    with gated.driving("run", "toy.yaml", "--workers", "2") as driver:
        assert gated.ashwood("kill", "1") in ("experiment 1 is being killed\n", "experiment 1 is canceled\n")
        driver.communicate()
    assert driver.returncode == 4
    assert state(gated) == "canceled"


def test_trials_are_killed_and_stopped(gated: Workplace) -> None:
    with gated.driving("run", "toy.yaml", "--workers", "2") as driver:
        wait_until(lambda: len(states(gated)) == 2)
        assert "trial 0 of experiment 1 is killed" in gated.ashwood("kill", "1", "--trial", "0")
        assert "trial 0 of experiment 1 is already killed" in gated.ashwood("kill-trial", "1", "0")
        assert "trial 0 has already ended" in gated.ashwood("stop-trial", "1", "0", code=1)
        assert "there is no trial 99" in gated.ashwood("kill-trial", "1", "99", code=1)
        assert "trial 1 of experiment 1 is stopped; its results still count" in gated.ashwood("cancel", "--trial", "1")
        go(gated)
        driver.communicate()
    assert driver.returncode == 0
    assert states(gated) == ["killed", "stopped", *["completed"] * 4]


def test_trials_are_added_live(gated: Workplace) -> None:
    settings = ("--set", "searcher.start_with=[{x: 0.25}]", "--set", "constraints=[x < 1.5]")
    with gated.driving("run", "toy.yaml", "--workers", "2", *settings) as driver:
        wait_until(lambda: len(states(gated)) == 2)
        output = gated.ashwood("add-trial", "1", "x=0.5")
        assert output == "experiment 1: a trial with x=0.5 is created when a worker is free\n"
        output = gated.ashwood("add-trial", "1", "x=2", "--extra")
        assert "warning: x: 2.0 is outside its range, 0 to 1; it is used as given" in output
        assert "warning: the trial breaks the constraint x < 1.5; it is used as given" in output
        assert "that are not created yet: 2" in gated.ashwood("describe", "1")
        assert "unknown hyperparameter; known ones: x" in gated.ashwood("add-trial", "1", "lr=0.1", code=1)
        assert "must read KEY=VALUE, for example lr=0.1" in gated.ashwood("add-trial", "1", "0.1", code=2)
        assert "x: is given 2 times" in gated.ashwood("add-trial", "1", "x=1", "x=2", code=2)
        go(gated)
        driver.communicate()
    assert driver.returncode == 0
    assert gated.json("describe", "1")["trials_pending"] == 0
    trials = gated.json("trials", "1")
    assert {trial["hparams.x"] for trial in trials if trial["given"] == "x"} == {0.25, 0.5, 2.0}
    assert len(trials) == 7
    header, *lines = gated.ashwood("trials", "1").splitlines()
    assert "given" in header
    assert len(lines) == 7
    events = gated.ashwood("events", "1")
    assert "with given settings x=0.5)" in events
    assert re.search(r"trials at once, 7 in all$", events, re.MULTILINE)
    refused = gated.ashwood("add-trial", "1", "x=0.5", code=1)
    assert refused.endswith("First extend its search by one trial: ashwood extend 1 --max-trials 8 --no-run\n")
    gated.ashwood("extend", "1", "--max-trials", "8", "--no-run")
    gated.ashwood("add-trial", "1", "x=0.5")
    gated.ashwood("resume", "1", "--workers", "1")
    assert gated.json("trials", "1")[-1]["hparams.x"] == 0.5
    assert "every decision matches the event log" in gated.ashwood("replay", "1")


def test_settings_change_live(gated: Workplace) -> None:
    with gated.driving("run", "toy.yaml", "--workers", "2") as driver:
        wait_until(lambda: len(states(gated)) == 2)
        output = gated.ashwood("set", "1", "max_trials=3", "max_concurrent_trials=1", "max_time=2h")
        assert output == (
            "experiment 1: max_trials is now 3, max_concurrent_trials is now 1, it now stops after 2 h 00 min\n"
        )
        assert gated.json("describe", "1")["stop_when"] == {"metric_at": None, "max_time": 7200.0}
        assert "max_trials can't become 1" in gated.ashwood("set", "1", "max_trials=1", code=1)
        go(gated)
        driver.communicate()
    assert driver.returncode == 0
    assert states(gated) == ["completed"] * 3


# -- after it ended ------------------------------------------------------------------------------


def test_errored_experiment_says_how_to_retry_and_is_retried(workplace: Workplace) -> None:
    failing = TRAIN.replace('print("epoch", epoch)', 'assert Path("fixed").exists(), "not fixed yet"')
    assert failing != TRAIN
    workplace.write(RANDOM + "max_restarts: 0\nmax_common_failures: 0\n", f"from pathlib import Path\n{failing}")
    output = workplace.ashwood("run", "toy.yaml", "--workers", "2", code=1)
    assert "to retry failed trials, fix the cause, then: ashwood resume 1 --retry-failed" in output
    assert state(workplace) == "errored"
    refused = "experiment 1 is errored; 6 of its trials failed. To retry them, fix the cause, then: "
    assert f"{refused}ashwood resume 1 --retry-failed" in workplace.ashwood("resume", "1", code=1)
    assert "ashwood resume 1 --retry-failed" in workplace.ashwood("activate", "1", code=1)
    (workplace.path / "fixed").touch()
    assert "completed" in workplace.ashwood("resume", "1", "--retry-failed", "--workers", "2")
    assert states(workplace) == ["completed"] * 6
    assert "every decision matches the event log" in workplace.ashwood("replay", "1")
    assert "no trial has failed" in workplace.ashwood("resume", "1", "--retry-failed", code=1)


def test_failed_trials_are_retried_by_the_driver_that_runs(gated: Workplace) -> None:
    with gated.driving("run", "toy.yaml", "--workers", "2") as driver:
        assert "no trial has failed" in gated.ashwood("resume", "1", "--retry-failed", code=1)
        go(gated)
        driver.communicate()


# -- while none does -----------------------------------------------------------------------------


@pytest.fixture
def paused(gated: Workplace) -> Workplace:
    """A workplace whose experiment 1 is paused, with two trials that have trained an epoch."""
    with gated.driving("run", "toy.yaml", "--workers", "2") as driver:
        wait_until(lambda: len(states(gated)) == 2)
        driver.send_signal(signal.SIGINT)
        wait_until(lambda: state(gated) == "pausing")
        go(gated)
        driver.communicate()
    assert driver.returncode == 3
    return gated


def test_paused_experiment_takes_requests(paused: Workplace) -> None:
    assert "is stopped; its results still count" in paused.ashwood("stop-trial", "1", "0")
    assert states(paused)[0] == "stopped"
    assert "max_trials is now 4" in paused.ashwood("set", "toy", "searcher.max_trials=4")
    assert "no experiment is running; give the number or name of one: 1 (toy, paused)" in paused.ashwood(
        "set", "max_trials=4", code=1
    )
    assert "is created when the experiment is resumed" in paused.ashwood("add-trial", "1", "x=0.5")
    assert "experiment 1 is canceled" in paused.ashwood("cancel", "1")
    assert state(paused) == "canceled"
    assert paused.ashwood("cancel", "1") == "experiment 1 is already canceled\n"
    assert "error: experiment 1 is canceled, so it can't be paused\n" in paused.ashwood("pause", "1", code=1)
    assert "error: experiment 1 is canceled, so no trial can be added\n" in paused.ashwood(
        "add-trial", "1", "x=1", code=1
    )
    assert paused.json("kill", "1") == {"experiment": 1, "state": "canceled", "changed": False}
    assert paused.json("replay", "1")["state"] == "canceled"


def test_activate_resumes_in_the_background(paused: Workplace) -> None:
    (paused.path / "go").unlink()
    output = paused.ashwood("resume", "--background", "--workers", "2")
    assert "experiment 1 resumed in the background (pid " in output
    pid = int(output.partition("(pid ")[2].partition(")")[0])
    try:
        assert os.getsid(pid) == pid
        assert "experiment 1 is running already" in paused.ashwood("activate", "1", code=1)
    finally:
        go(paused)
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
    assert state(paused) == "completed"
    log = paused.path / ".ashwood" / "experiments" / "1" / "driver.log"
    assert str(log) in output
    assert "experiment 1 completed" in log.read_text()


def test_activate_shows_why_driver_did_not_start(paused: Workplace) -> None:
    home = paused.path / ".ashwood"
    with contextlib.closing(sqlite3.connect(home / "ashwood.db")) as connection, connection:
        connection.execute("UPDATE entries SET body = '{}' WHERE seq = 2")
    (home / "experiments" / "1" / "snapshot").unlink()
    output = paused.ashwood("activate", "1", code=1)
    assert "experiment 1 could not be resumed:" in output
    assert "entry 2 of experiment 1" in output


# -- settings of the command line ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "output"),
    [
        ("max_trials=many", 'max_trials: must be a whole number of at least 1, not "many"'),
        ("max_trials=0", "of at least 1"),
        ("max_invalid_trials=0", "of at least 1"),
        ("max_concurrent_trials=-1", "of at least 0"),
        ("maxtrials=4", "did you mean max_trials?"),
        (
            "divisor=4",
            "settings are max_concurrent_trials, max_trials, max_invalid_trials, replicates, metric_at, max_time "
            "or max_size",
        ),
        ("max_trials", "must read KEY=VALUE"),
        ("metric_at=high", "a number such as 0.98, or none"),
        ("stop_when=high", "a number such as 0.98, or none"),  # the former name of metric_at
        ("max_time=2 weeks", "15min, 2h, 1.5h or 3d"),
        ("max_size=0 GB", "must be a size such as 200 GB, in bytes, or none for no limit"),
    ],
)
def test_set_refuses_invalid_settings(workplace: Workplace, change: str, output: str) -> None:
    answer = workplace.ashwood("set", "1", change, "max_time=soon", code=2)
    assert output in answer
    assert "soon" in answer


# -- names, labels, archive ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace with two experiments that are completed."""
    workplace = Workplace(tmp_path_factory.mktemp("two"))
    workplace.write(RANDOM.replace("name: toy", "name: toy\nlabels: [vision]"), TRAIN)
    for _ in range(2):
        workplace.ashwood("run", "toy.yaml", "--workers", "2", "--set", "searcher.max_trials=1")
    return workplace


def listed(workplace: Workplace, *arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = workplace.json("list", *arguments)
    return rows


def test_names_labels_and_the_archive(two: Workplace) -> None:
    assert two.ashwood("rename", "1", "first try") == "experiment 1 is now called first try\n"
    assert [row["name"] for row in listed(two)] == ["first try", "toy"]
    assert "must not be empty" in two.ashwood("rename", "1", " ", code=1)

    assert two.ashwood("label", "1", "good", "fast") == "experiment 1: labels vision, good, fast\n"
    assert two.ashwood("label", "1", "good", "--remove", "vision") == "experiment 1: labels good, fast\n"
    assert "has no label slow; labels good, fast" in two.ashwood("label", "1", "--remove", "slow", code=1)
    assert two.ashwood("label", "1") == "experiment 1: labels good, fast\n"
    assert [row["id"] for row in listed(two, "--label", "vision")] == [2]
    assert [row["labels"] for row in listed(two)] == [["good", "fast"], ["vision"]]

    assert "list --all shows it" in two.ashwood("archive", "2")
    assert [row["id"] for row in listed(two)] == [1]
    assert [(row["id"], row["archived"]) for row in listed(two, "--all")] == [(1, False), (2, True)]
    assert "vision (archived)" in two.ashwood("list", "--all")
    assert "archived; to undo: ashwood archive 2 --undo" in two.ashwood("describe", "2")
    assert "shows it again" in two.ashwood("archive", "2", "--undo")
    assert [row["id"] for row in listed(two)] == [1, 2]

    for command in (["rename", "9", "x"], ["label", "9", "x"], ["archive", "9"], ["delete", "9", "--yes"]):
        assert "no experiment 9" in two.ashwood(*command, code=1)


# -- deleting ------------------------------------------------------------------------------------


def test_delete_asks_and_removes_everything(gated: Workplace, tmp_path: Path) -> None:
    go(gated)
    elsewhere = tmp_path / "checkpoints"
    for _ in range(2):
        gated.ashwood("run", "toy.yaml", "--workers", "2", "--set", f"checkpoint_storage={elsewhere}")
    gated.ashwood("run", "toy.yaml", "--workers", "2")
    assert len(list(elsewhere.iterdir())) == 2
    experiments = gated.path / ".ashwood" / "experiments"
    assert sorted(path.name for path in experiments.iterdir()) == ["1", "2", "3"]

    output = gated.ashwood("delete", "1", "3", code=1)
    assert output.splitlines() == [
        "error: cannot ask whether to delete experiments 1, 3, because there is no terminal. Nothing was deleted. "
        "To delete without a question, pass --yes"
    ]
    assert len(listed(gated)) == 3
    assert "no experiment 9" in gated.ashwood("delete", "1", "9", "--yes", code=1)
    assert len(listed(gated)) == 3

    assert (
        gated.ashwood("delete", "1", "3", "--yes") == "experiment 1 (toy) is deleted\nexperiment 3 (toy) is deleted\n"
    )
    assert [row["id"] for row in listed(gated)] == [2]
    assert [path.name for path in experiments.iterdir()] == ["2"]
    assert len(list(elsewhere.iterdir())) == 1
    assert "no experiment 1" in gated.ashwood("delete", "1", "--yes", code=1)
    gated.ashwood("run", "toy.yaml", "--workers", "2")
    assert [row["id"] for row in listed(gated)] == [2, 4]


def test_delete_refuses_running_experiment(gated: Workplace) -> None:
    with gated.driving("run", "toy.yaml", "--workers", "1"):
        assert "experiment 1 is running, nothing was deleted. First stop it: ashwood kill 1" in gated.ashwood(
            "delete", "1", "--yes", code=1
        )
        assert len(listed(gated)) == 1


def _cut_short(*_: object) -> None:
    raise RuntimeError("cut short")


def test_a_deletion_that_was_cut_short_can_be_repeated(two: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    two.ashwood("run", "toy.yaml", "--workers", "1", "--set", "searcher.max_trials=1")
    from ashwood.eventlog.sqlite import SqliteStore

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "delete", _cut_short)
        with pytest.raises(RuntimeError, match="cut short"):
            two.ashwood("delete", "3", "--yes")
    assert not (two.path / ".ashwood" / "experiments" / "3").exists()
    assert [row["id"] for row in listed(two)] == [1, 2, 3]
    assert "is deleted" in two.ashwood("delete", "3", "--yes")
    assert [row["id"] for row in listed(two)] == [1, 2]


# -- training code that hangs ---------------------------------------------------------------------

HANGS = """
import ctypes, pathlib

def train(trial):
    for epoch in trial.epochs():
        if trial.id == 1 and trial.attempt == 1:
            pathlib.Path("hangs").touch()
            ctypes.PyDLL(None).sleep(3600)
        trial.report(loss=trial.hparams.x, checkpoint=lambda d: (d / "model").write_text("weights"))
"""


def test_max_trial_time_stops_a_trial_that_hangs(workplace: Workplace) -> None:
    workplace.write(f"{RANDOM}\nmax_trial_time: 0.5\ngrace_period: 0.5\n", HANGS)
    output = workplace.ashwood("run", "toy.yaml", "--workers", "1")
    assert "the worker of trial 1 was killed" in output
    assert "The trial's results stand" in output
    assert output.count("(max_trial_time)") == 1
    assert "experiment 1 completed" in output
    assert states(workplace)[1] == "stopped"
    assert "the limit is 0.5 s (max_trial_time)" in workplace.ashwood("events", "1", "--trial", "1")


def test_search_without_a_finite_metric_says_so_at_its_end(workplace: Workplace) -> None:
    workplace.write(RANDOM, "def train(trial):\n    for epoch in trial.epochs(): trial.report(loss=float('nan'))\n")
    for command in (("run", "toy.yaml", "--workers", "1"), ("describe", "1")):
        assert "no trial has reported a loss that is a finite number" in workplace.ashwood(*command)


def test_list_of_an_interrupted_experiment_is_as_new_as_its_log(gated: Workplace) -> None:
    with gated.driving("run", "toy.yaml", "--workers", "1") as driver:
        wait_until(lambda: "started" in gated.ashwood("events", "1"))
        driver.kill()
        driver.communicate()
    with open_home(str(gated.path / ".ashwood")) as home, home.lease(1) as lease:
        home.store.log(1, lease.token).append([], summary={"trials": {}, "reports": 7})
    (listed,) = gated.json("list")
    assert (listed["state"], listed["summary"]["reports"]) == ("interrupted", 0)
    assert "is created when the experiment is resumed" in gated.ashwood("add-trial", "1", "x=0.5")
    assert listed["summary"]["trials"] == gated.json("describe", "1")["trials"]


def test_list_and_describe_name_the_trials_that_a_pause_waits_for(workplace: Workplace) -> None:
    workplace.write(f"{RANDOM}\ngrace_period: 1h\n", HANGS)
    with workplace.driving("run", "toy.yaml", "--workers", "1") as driver:
        wait_until((workplace.path / "hangs").exists)
        workplace.ashwood("pause", "1")
        wait_until(lambda: "experiment 1 is pausing: waiting for trial 1" in workplace.ashwood("list"))
        assert "pausing: waiting for trial 1 to finish a step and save" in workplace.ashwood("describe", "1")
        assert workplace.json("describe", "1")["waits_for"] == [1]
        workplace.ashwood("kill", "1")
        driver.communicate()


def test_experiment_with_too_many_invalid_trials_resumes_with_a_higher_limit(workplace: Workplace) -> None:
    begins = "def train(trial):\n"
    code = TRAIN.replace(begins, f"{begins}    if trial.id == 1: trial.invalid_hparams('too wide')\n")
    workplace.write(RANDOM + "max_invalid_trials: 1\n", code)
    output = workplace.ashwood("run", "toy.yaml", "--workers", "1", code=1)
    assert "1 trial declared" in output
    assert "raise the limit: ashwood set 1 max_invalid_trials=2" in output
    assert "max_invalid_trials=2" in workplace.ashwood("resume", "1", code=1)
    workplace.ashwood("set", "1", "max_invalid_trials=2")
    assert "experiment 1 completed" in workplace.ashwood("resume", "1", "--workers", "1")


@pytest.mark.parametrize("way", ["pause", "max_time", "SIGTERM"])
def test_hung_trial_is_killed_and_keeps_its_job(workplace: Workplace, way: str) -> None:
    file = f"{RANDOM}\ngrace_period: 0.5\nmax_restarts: 0\n"
    workplace.write(file, HANGS.replace("trial.id == 1", "trial.id == 0"))
    with workplace.driving("run", "toy.yaml", "--workers", "1") as driver:
        wait_until((workplace.path / "hangs").exists)
        if way == "pause":
            workplace.ashwood("pause", "1")
        elif way == "max_time":
            workplace.ashwood("set", "1", "max_time=0.001")
        else:
            driver.terminate()
        _, err = driver.communicate()
    assert "the worker of trial 0 was killed: it finished no step and no save for 0.5 s" in err
    (trial,) = workplace.json("trials", "1")
    assert (trial["state"], trial["failures"]) == ("paused", 0)
    reason = {"pause": "paused on request", "SIGTERM": "paused by SIGTERM", "max_time": "it ran for"}[way]
    assert reason in workplace.ashwood("describe", "1")
    workplace.ashwood("resume", "1", "--workers", "1", *["--stop-when", "max_time=none"][: 2 * (way == "max_time")])
    assert state(workplace) == "completed"
