"""The directory of each trial, for scratch files and artifacts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ashwood.backends.local.logs import trial_log
from ashwood.backends.port import Command, ContinueAttempt
from ashwood.experiment.events import AttemptFailed, ValidationReported
from ashwood.experiment.spec import EntrypointKind
from ashwood.testing.backend import drive, finish, job
from ashwood.trial import get_trial
from tests.backends.helpers import Make, losses, write

OWN_FILE = """
import json, pathlib, time
path = {place} / 'model.json'
path.write_text(json.dumps(trial.hparams.x))
deadline = time.monotonic() + 10
mark = pathlib.Path(f'wrote-{{trial.id}}-{{epoch}}')
mark.touch()
while not pathlib.Path(f'wrote-{{1 - trial.id}}-{{epoch}}').exists() and time.monotonic() < deadline: time.sleep(0.001)
loss = json.loads(path.read_text())
mark.with_name(f'read-{{trial.id}}-{{epoch}}').touch()
while not pathlib.Path(f'read-{{1 - trial.id}}-{{epoch}}').exists() and time.monotonic() < deadline: time.sleep(0.001)
"""
"""Two trials write ``model.json`` and read it when both have written."""


def test_trials_at_the_same_time_do_not_share_files_in_trial_directory(tmp_path: Path, make: Make) -> None:
    write(tmp_path, "code_own.py", OWN_FILE.format(place="trial.directory"))
    starts = [job(trial=n, target=3, hparams={"x": float(n)}) for n in range(2)]
    events = drive(make("code_own:train", workers=2), starts)
    read = {(event.trial, event.metrics["loss"]) for event in events if isinstance(event, ValidationReported)}
    assert read == {(0, 0.0), (1, 1.0)}


@pytest.mark.parametrize("process_per_attempt", [False, True])
def test_trial_directory_is_kept_when_the_worker_is_killed(
    tmp_path: Path, make: Make, process_per_attempt: bool
) -> None:
    body = (
        "import pathlib, signal\n"
        "assert str(trial.directory) == os.environ['ASHWOOD_TRIAL_DIRECTORY']\n"
        "note = trial.directory / 'note'\n"
        "if trial.attempt == 1:\n"
        "    note.write_text('0.25')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "loss = float(note.read_text())"
    )
    write(tmp_path, "code_kept.py", body)
    backend = make("code_kept:train", process_per_attempt=process_per_attempt)
    assert isinstance(drive(backend, [job()])[-1], AttemptFailed)
    assert losses(drive(backend, [job(attempt=2)])) == [0.25]


def test_each_attempt_sees_the_directory_of_its_own_trial_and_draw(tmp_path: Path, make: Make) -> None:
    body = (
        "import pathlib\n"
        "directory = pathlib.Path(os.environ['ASHWOOD_TRIAL_DIRECTORY'])\n"
        "assert directory.is_dir()\n"
        "loss = float(len(list(directory.iterdir())))\n"
        "if trial.hparams.writes: (directory / f'file-{trial.attempt}').touch()"
    )
    write(tmp_path, "code_draw.py", body)
    backend = make("code_draw:train")
    draws: list[tuple[int, dict[str, object]]] = [
        (0, {"writes": True}),
        (0, {"writes": True}),
        (1, {"writes": True}),
        (0, {"writes": True, "lr": 0.1}),  # Trial 0 as it is drawn again after a backup is restored.
        (2, {"writes": False}),
    ]
    seen = [
        losses(drive(backend, [job(trial=trial, attempt=n, hparams=hparams)]))
        for n, (trial, hparams) in enumerate(draws, start=1)
    ]
    assert seen == [[0.0], [1.0], [0.0], [0.0], [0.0]]
    there = sorted(path.name.partition("-")[0] for path in (tmp_path / "trials").iterdir())
    assert there == ["0", "0", "1"]  # Trial 2 left its directory empty, so it is gone.


def test_processes_of_a_command_share_the_directory_of_their_trial(tmp_path: Path, make: Make) -> None:
    (tmp_path / "rank.py").write_text(
        "import ashwood, os, pathlib, sys\n"
        "trial = ashwood.get_trial()\n"
        "assert str(trial.directory) == os.environ['ASHWOOD_TRIAL_DIRECTORY'] == sys.argv[1]\n"
        "for epoch in trial.epochs():\n"
        "    (trial.directory / f'rank-{trial.rank}').touch()\n"
        "    if trial.rank == 0: trial.report(loss=1.0)\n"
    )
    command = (
        "for rank in 0 1; do RANK=$rank WORLD_SIZE=2 python rank.py {trial.directory} & done; wait; "
        'ls "$ASHWOOD_TRIAL_DIRECTORY" {trial.directory}/'
    )
    assert losses(drive(make(command, EntrypointKind.COMMAND), [job(trial=4)])) == [1.0]
    log = trial_log(tmp_path / "logs", 4).read_text()
    assert log.count("rank-0\nrank-1\n") == 2


def test_command_without_trial_directory_fails_with_reason(tmp_path: Path, make: Make) -> None:
    (tmp_path / "trials").write_text("no directory")
    events = drive(make("true", EntrypointKind.COMMAND), [job()])
    assert isinstance(events[-1], AttemptFailed)
    assert "Cannot make the directory of the trial: NotADirectoryError" in events[-1].error


def test_trial_directory_is_same_in_all_attempts(tmp_path: Path, make: Make) -> None:
    write(tmp_path, "code_on.py", "(trial.directory / f'{epoch}').touch()\nloss = len(list(trial.directory.iterdir()))")
    moved: list[ValidationReported] = []

    def answer(report: ValidationReported) -> Command:
        moved.append(report)
        return finish(report) if len(moved) > 1 else ContinueAttempt(report.trial, report.attempt, 3)

    assert losses(drive(make("code_on:train"), [job(target=1)], answer)) == [1.0, 2.0, 3.0]


def test_trial_without_an_experiment_has_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASHWOOD_TRIAL_DIRECTORY", raising=False)
    code = "import ashwood, os; d = ashwood.get_trial(steps=1).directory; (d / 'x').touch(); print(d)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not Path(done.stdout.strip()).parent.parent.exists()
    trial = get_trial({"lr": 1}, steps=1, checkpoint_dir=tmp_path)
    assert trial.directory.is_dir()
    assert trial.directory.is_relative_to(tmp_path)
    assert os.environ["ASHWOOD_TRIAL_DIRECTORY"] == str(trial.directory)
    assert get_trial({"lr": 1}, steps=2, checkpoint_dir=tmp_path).directory == trial.directory
    assert get_trial({"lr": 2}, steps=1, checkpoint_dir=tmp_path).directory != trial.directory
    monkeypatch.setenv("ASHWOOD_TRIAL_DIRECTORY", str(tmp_path / "mine"))
    assert get_trial(steps=1).directory == tmp_path / "mine"


def test_reading_trial_directory_raises_if_it_cannot_be_created(tmp_path: Path, make: Make) -> None:
    (tmp_path / "trials").write_text("no directory")
    write(tmp_path, "code_no.py", "")
    assert losses(drive(make("code_no:train"), [job()])) == [1.0]
    write(tmp_path, "code_use.py", "trial.directory")
    events = drive(make("code_use:train"), [job()])
    assert isinstance(events[-1], AttemptFailed)
    assert "trials" in events[-1].error
