"""``ashwood check``: one short trial, with and without pauses."""

from __future__ import annotations

import pytest

from tests.cli.conftest import TRAIN, Workplace

FORGETFUL = TRAIN.replace(
    'start = json.loads((trial.checkpoint / "state.json").read_text())["epochs"]', "pass"
).replace('assert epoch == start, "went on from somewhere else than the checkpoint"', "pass")


@pytest.fixture
def short(workplace: Workplace) -> Workplace:
    workplace.file.write_text(workplace.file.read_text().replace("{epochs: 16}", "{epochs: 4}"))
    return workplace


def test_check_says_that_pauses_change_nothing(short: Workplace) -> None:
    output = short.ashwood("check", "toy.yaml")
    lines = output.splitlines()
    assert lines[:3] == ["training straight through", "training with pauses at 1, 2", "training with another seed"]
    assert lines[3].startswith("hyperparameters: x=0.")
    assert [line.split()[0] for line in lines[4:8]] == ["length", "1", "2", "3"]
    assert "equal: a trial that is paused and resumed reports the same metrics" in lines
    assert "paused at 1, 2 epochs" in lines
    assert not (short.path / ".ashwood").exists()


def test_check_fails_if_a_trial_does_not_restore_its_state(short: Workplace) -> None:
    (short.path / "train.py").write_text(FORGETFUL)
    output = short.ashwood("check", "toy.yaml", "--length", "4", code=1)
    assert "different: a trial that is paused and resumed reports different metrics" in output
    assert "- Model: after the pause at length 1 the metrics are those of a new trial." in output


def test_check_in_json(short: Workplace) -> None:
    found = short.json("check", "toy.yaml", "--length", "2")
    assert (found["ok"], found["verdict"], found["pauses"], found["error"]) == (True, "equal", [1], "")
    assert {row["metric"] for row in found["rows"]} == {"loss"}
    assert all(row["straight"] == row["resumed"] for row in found["rows"])


def test_check_shows_the_error_of_the_training_code(short: Workplace) -> None:
    (short.path / "train.py").write_text("def train(trial):\n    raise RuntimeError('no data')\n")
    output = short.ashwood("check", "toy.yaml", code=1)
    assert "failed: the trial failed" in output
    assert "straight through: RuntimeError: no data" in output


def test_check_refuses_a_length_beyond_max_length(short: Workplace) -> None:
    assert "--length must be from 1 to max_length, which is 4, not 5" in short.ashwood(
        "check", "toy.yaml", "--length", "5", code=1
    )
