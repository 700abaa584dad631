"""Checks of training code in real processes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

import ashwood
from ashwood.errors import AshwoodError, TrainingCodeError
from ashwood.search.draw import training_seed
from ashwood.views.agreement import Verdict

CODE = """
import json
import os
import random

import ashwood

# A model of one weight, trained by gradient descent with momentum, a decaying rate and noise.
def train(trial):
    forgets = trial.hparams.forgets
    rng = random.Random(trial.seed)
    state = {"weight": 5.0, "velocity": 0.0, "epoch": 0}
    with open(f"{trial.data.log}", "a") as log:
        log.write(f"{trial.length} {os.getpid()}\\n")
    if forgets == "reading":
        pass
    elif trial.checkpoint:
        if forgets == "raises":
            raise RuntimeError("size mismatch for weight")
        saved = json.loads((trial.checkpoint / "state.json").read_text())
        rng_state = saved.pop("rng")
        if forgets != "rng":
            rng.setstate((rng_state[0], tuple(rng_state[1]), rng_state[2]))
        state |= {name: value for name, value in saved.items() if name != forgets}

    def save(directory):
        (directory / "state.json").write_text(json.dumps({**state, "rng": rng.getstate()}))

    def step():
        gradient = state["weight"] + trial.hparams.noise * rng.gauss(0, 1)
        state["velocity"] = 0.9 * state["velocity"] - 0.05 / (1 + state["epoch"]) * gradient
        state["weight"] += state["velocity"]
        state["epoch"] += 1
        if forgets == "seeding":
            state["weight"] += random.random()
        return {"loss": state["weight"] ** 2, "seconds": random.random()}

    checkpoint = None if forgets == "saving" else save
    if forgets == "loop":
        return trial.report(step(), length=trial.target, checkpoint=checkpoint)
    if trial.hparams.own_loop:
        length = trial.length
        while not trial.should_stop:
            length += 1
            trial.report(step(), length=length, checkpoint=checkpoint)
        return
    for _ in trial.epochs():
        trial.report(step(), checkpoint=checkpoint)

def single(trial):
    return 0.5

def picky(trial):
    if trial.seed % 2:
        trial.invalid_hparams("odd")
    train(trial)

def never(trial):
    trial.invalid_hparams("all")

if __name__ == "__main__":
    train(ashwood.get_trial())
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "checked_code.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return tmp_path


def check(place: Path, forgets: str = "nothing", **changes: Any) -> ashwood.api.check.CheckResult:
    fields: dict[str, Any] = {"noise": 0.0, "own_loop": False, **changes}
    hparams = {"forgets": forgets, "noise": fields.pop("noise"), "own_loop": fields.pop("own_loop")}
    train = fields.pop("train", "checked_code:train")
    return ashwood.check(
        train, hparams=hparams, length=fields.pop("length", 3), data={"log": str(place / "log")}, **fields
    )


@pytest.mark.parametrize("own_loop", [False, True])
def test_code_that_restores_all_state_is_equal_and_leaves_no_files(place: Path, own_loop: bool) -> None:
    result = check(place, noise=1.0, own_loop=own_loop, metric="loss")
    assert (result.verdict, result.hints, result.pauses, result.unit) == (Verdict.EQUAL, [], [1, 2], "steps")
    assert result.ok
    losses = [row for row in result.rows if row.metric == "loss"]
    assert [row.length for row in losses] == [1, 2, 3]
    assert all(row.straight != row.other_seed for row in losses)
    began = [line.split() for line in (place / "log").read_text().splitlines()]
    assert [length for length, _ in began] == ["0", "0", "1", "2", "0"]
    assert len({pid for _, pid in began}) == 5, "each in a process of its own"
    assert list((place / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("forgets", "noise", "verdict", "words"),
    [
        ("velocity", 0.0, Verdict.DIFFERENT, "state of the optimizer"),
        ("epoch", 0.0, Verdict.DIFFERENT, "epoch counter"),
        ("weight", 0.0, Verdict.DIFFERENT, "not restored"),
        ("rng", 5.0, Verdict.WITHIN_NOISE, "random number generators"),
        ("reading", 0.0, Verdict.DIFFERENT, "never reads trial.checkpoint"),
        ("saving", 0.0, Verdict.EQUAL, "No checkpoint was saved"),
        ("seeding", 0.0, None, "training is not deterministic"),
    ],
)
def test_check_finds_state_that_is_not_restored(
    place: Path, forgets: str, noise: float, verdict: Verdict | None, words: str
) -> None:
    result = check(place, forgets, noise=noise)
    assert verdict in (None, result.verdict)
    assert words in result.hints[0]
    assert result.ok is (result.verdict in (Verdict.EQUAL, Verdict.WITHIN_NOISE))


def test_code_that_cannot_restore_fails_with_its_error(place: Path) -> None:
    result = check(place, "raises")
    assert result.verdict is Verdict.FAILED
    assert result.error.startswith("with pauses: RuntimeError: size mismatch for weight")


def test_metric_that_is_never_reported_fails(place: Path) -> None:
    result = check(place, metric="los")
    assert result.verdict is Verdict.FAILED
    assert "did you mean 'loss'?" in result.error


@pytest.mark.parametrize("fault", ["import", "name"])
def test_code_that_cannot_be_imported_fails(place: Path, fault: str) -> None:
    (place / "broken_code.py").write_text("import no_such_module\n" if fault == "import" else "")
    result = check(place, train="broken_code:train")
    assert result.verdict is Verdict.FAILED
    assert result.error.startswith("straight through: ")


def test_command_is_checked(place: Path) -> None:
    assert check(place, noise=1.0, train="python checked_code.py").verdict is Verdict.EQUAL
    result = check(place, "reading", train="python checked_code.py")
    assert result.verdict is Verdict.DIFFERENT
    assert "never reads trial.checkpoint" in result.hints[0], "warnings of commands are passed on"


def test_code_that_trains_to_its_target_and_returns(place: Path) -> None:
    assert check(place, "loop", noise=1.0).verdict is Verdict.EQUAL


def test_code_of_one_step_is_never_paused(place: Path) -> None:
    result = check(place, train="checked_code:single", metric="loss")
    assert (result.verdict, result.pauses) == (Verdict.EQUAL, [])
    assert result.hints[0].startswith("The trial was never paused")


def test_invalid_hyperparameters_are_replaced(place: Path) -> None:
    seeds = [seed for seed in range(9) if training_seed(seed, 0, 0) % 2 and not training_seed(seed, 0, 1) % 2]
    # The other seed of the second draw is odd or even; the run with it is cut short if it is rejected.
    assert check(place, train="checked_code:picky", seed=seeds[0]).verdict is Verdict.EQUAL
    with pytest.raises(AshwoodError, match="declared each of 20 samples of hyperparameters invalid"):
        check(place, train="checked_code:never")


def test_closure_is_checked(place: Path) -> None:
    rate = 0.5

    def train(trial: ashwood.Trial) -> None:
        for step in trial.steps():
            trial.report(loss=rate / (step + 1), checkpoint=lambda directory: (directory / "x").touch())

    result = ashwood.check(train, hparams={})
    assert (result.verdict, result.pauses) == (Verdict.EQUAL, [1, 2, 3])
    assert "never reads trial.checkpoint" in result.hints[0]
    assert str(result).splitlines()[:2] == [
        "equal: a trial that is paused and resumed reports the same metrics",
        "paused at 1, 2, 3 steps",
    ]


def test_function_that_takes_no_trial_is_refused(place: Path) -> None:
    with pytest.raises(TrainingCodeError, match="must take one argument"):
        ashwood.check(lambda: None, hparams={})
