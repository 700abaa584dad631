import subprocess
import sys
from pathlib import Path

import pytest

from ashwood import trial as trial_room
from ashwood.errors import CheckpointError, TrainingCodeError
from ashwood.trial import Trial
from ashwood.trial.current import experiments_trial
from ashwood.trial.run import run
from tests.trial.links import ScriptedLink, make_job, save


def train(trial: Trial) -> None:
    for epoch in trial.epochs():
        trial.report(loss=1 / (epoch + 1), checkpoint=save)


def test_training_code_runs_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(trial_room.get_trial({"lr": 0.1}, epochs=2, checkpoint_dir=tmp_path))
    assert capsys.readouterr().out.splitlines() == [
        "1 epoch: loss=1",
        "2 epochs: loss=0.5",
        f"2 epochs: saved to {tmp_path}/trial-0/length-2-attempt-1",
    ]


@pytest.mark.parametrize("lengths", [{}, {"epochs": 1, "steps": 2}])
def test_alone_it_needs_exactly_one_length(lengths: dict[str, int]) -> None:
    with pytest.raises(TrainingCodeError, match="needs exactly one length"):
        trial_room.get_trial(**lengths)  # type: ignore[arg-type]


def test_alone_a_checkpoint_is_tried_out_and_thrown_away_and_stop_ends_quietly(tmp_path: Path) -> None:
    code = (
        "from ashwood.trial import get_trial\n"
        "trial = get_trial(steps=1)\n"
        "for step in trial.steps(): trial.report(loss=1, checkpoint=lambda d: (print(d), (d / 'x').touch()))\n"
        "trial.stop()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    line, directory = done.stdout.splitlines()
    assert line == "1 step: loss=1"
    assert done.stderr == ""
    assert not Path(directory).parent.parent.exists()


def test_get_trial_after_its_command_has_ended_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASHWOOD_TRIAL", str(tmp_path / "socket"))
    with pytest.raises(TrainingCodeError, match=r"no worker of Ashwood answers at .* has ended.*unset ASHWOOD_TRIAL"):
        trial_room.get_trial()


def test_alone_it_continues_from_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(trial_room.get_trial(epochs=2, checkpoint_dir=tmp_path))
    saved = tmp_path / "trial-0" / "length-2-attempt-1"
    trial = trial_room.get_trial(epochs=4, checkpoint=saved, checkpoint_dir=tmp_path)
    assert (trial.length, trial.checkpoint, trial.attempt) == (2, saved, 2)
    assert (trial.experiment, trial.max_length, trial.unit) == (None, 4, "epochs")
    train(trial)
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        *("1 epoch", "2 epochs", "2 epochs"),
        *("3 epochs", "4 epochs", "4 epochs"),
    ]


def test_checkpoint_to_continue_from_must_be_complete_and_shorter(tmp_path: Path) -> None:
    train(trial_room.get_trial(epochs=2, checkpoint_dir=tmp_path))
    saved = tmp_path / "trial-0" / "length-2-attempt-1"
    with pytest.raises(TrainingCodeError, match="already has length 2"):
        trial_room.get_trial(epochs=2, checkpoint=saved)
    with pytest.raises(CheckpointError, match="is not a checkpoint that Ashwood has saved"):
        trial_room.get_trial(epochs=3, checkpoint=tmp_path)
    (saved / "model").write_text("other")
    with pytest.raises(CheckpointError, match="model"):
        trial_room.get_trial(epochs=3, checkpoint=saved)


def test_training_function_finds_the_trial_that_it_trains(tmp_path: Path) -> None:
    found = []

    def train(trial: Trial) -> None:
        found.append((experiments_trial(), trial))
        raise ValueError("no luck")

    run(train, make_job(tmp_path), ScriptedLink())
    [(trial, given)] = found
    assert trial is given
    assert experiments_trial() is None
