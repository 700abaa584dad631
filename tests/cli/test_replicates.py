"""``searcher.replicates``: the best trials of a search train again with other seeds at its end."""

from __future__ import annotations

import re

import pytest

from .conftest import RANDOM, TRAIN, Workplace, go, wait_until

REPLICATES = RANDOM.replace("max_trials: 6", "max_trials: 6, replicates: 2")
NOISY = TRAIN.replace("import ashwood\n", "import pathlib, random, time\nimport ashwood\n", 1).replace(
    'print("epoch", epoch)',
    """while trial.id >= 6 and not pathlib.Path('go').exists():
            time.sleep(0.01)
        loss += random.Random(trial.seed + epoch).random()
        print("epoch", epoch)""",
)
"""Training code with noise, in which replicates wait for a file ``go`` before each epoch."""


def test_replicates_train_after_all_trials_and_decide_what_is_recommended(workplace: Workplace) -> None:
    workplace.write(REPLICATES, NOISY)
    assert "Replicates: 2 trainings to 2 epochs.\n" in workplace.ashwood("preview-search", "toy.yaml")
    go(workplace)
    output = workplace.ashwood("run", "toy.yaml", "--workers", "2")
    assert "random, 6 trials up to 2 epochs, 2 replicates, 2 workers" in output
    assert re.search(r"^recommended: trial \d, loss \S+ ± \S+ at 2 epochs, the mean of 2", output, re.MULTILINE)
    assert "6 of 6 trials + 2 replicates, 16 reports" in workplace.ashwood("describe", "1")
    assert "6 + 2 replicates" in workplace.ashwood("list")
    trials = workplace.json("trials", "1")
    results = {trial["trial"]: trial["last.loss"] for trial in trials}
    best = sorted(range(6), key=results.__getitem__)[:2]
    assert [trial["replicate_of"] for trial in trials] == [None] * 6 + best
    assert [trial["state"] for trial in trials] == ["completed"] * 8
    for trial in trials[6:]:
        original = trials[trial["replicate_of"]]
        assert trial["hparams.x"] == original["hparams.x"]
        assert trial["seed"] != original["seed"]
        assert trial["checkpoint"] is None, "a replicate that has ended needs no checkpoint"
    assert "replicate_of" in workplace.ashwood("trials", "1")

    means = {trial: (results[trial] + results[6 + place]) / 2 for place, trial in enumerate(best)}
    recommended = workplace.json("best", "1")[0]
    assert recommended["recommended"]["mean"] == pytest.approx(means[recommended["trial"]])
    assert recommended["checkpoint"] == trials[recommended["trial"]]["checkpoint"]
    described = workplace.json("describe", "1")
    assert described["best"]["trial"] == described["recommended"]["trial"] == recommended["trial"]
    assert described["recommended"]["seeds"] == 2
    assert f"trial {recommended['trial']} at" in workplace.ashwood("download", "1", "--out", "best")
    assert " at 2 epochs, the mean of 2 trainings" in workplace.ashwood("best", "1")
    assert "trains the settings of trial" in workplace.ashwood("events", "1")


def test_replicates_survive_kill_of_their_driver(workplace: Workplace) -> None:
    workplace.write(REPLICATES, NOISY)
    with workplace.driving("run", "toy.yaml", "--workers", "2") as driver:
        wait_until(lambda: len(workplace.json("trials", "1")) == 8)
        driver.kill()
        driver.communicate()
    go(workplace)
    assert "completed" in workplace.ashwood("resume", "1", "--workers", "2")
    trials = workplace.json("trials", "1")
    assert [trial["state"] for trial in trials] == ["completed"] * 8
    logs = workplace.path / ".ashwood" / "experiments" / "1" / "logs"
    for trial in (6, 7):
        assert re.findall(r"^epoch (\d+)$", (logs / f"trial-{trial}.log").read_text(), re.MULTILINE) == ["0", "1"]
    assert "every decision matches" in workplace.ashwood("replay", "1")


def test_replicates_are_added_to_completed_search(workplace: Workplace) -> None:
    workplace.write(RANDOM, NOISY)
    go(workplace)
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    output = workplace.ashwood("extend", "1", "--replicates", "3", "--dry-run")
    assert "3 replicates will train to 2 epochs: about 6 epochs of training" in output
    assert "completed" in workplace.ashwood("extend", "1", "--replicates", "3", "--workers", "2")
    assert [trial["replicate_of"] is not None for trial in workplace.json("trials", "1")] == [False] * 6 + [True] * 3
    assert "replicates must be more than the present 3, not 2" in workplace.ashwood(
        "extend", "1", "--replicates", "2", code=1
    )
    output = workplace.ashwood("extend", "1", "--max-length", "3", "--workers", "2")
    assert "completed" in output
    trials = workplace.json("trials", "1")
    assert [trial["length"] for trial in trials] == [3] * 6 + [2] * 3 + [3] * 3
    assert workplace.json("describe", "1")["recommended"]["length"] == 3
    assert "every decision matches" in workplace.ashwood("replay", "1")


def test_number_of_replicates_is_set_while_search_runs(workplace: Workplace) -> None:
    workplace.write(RANDOM, NOISY.replace("trial.id >= 6 and ", ""))
    with workplace.driving("run", "toy.yaml", "--workers", "2") as driver:
        assert "replicates is now 1" in workplace.ashwood("set", "1", "replicates=1")
        go(workplace)
        driver.communicate()
    assert driver.returncode == 0
    assert len(workplace.json("trials", "1")) == 7
    assert "6 trials up to 2 epochs, 1 replicate" in workplace.ashwood("describe", "1")
