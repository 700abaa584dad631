import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ashwood.backends.local.reservation import LOCKS

TRAIN = """
import json
import ashwood

def train(trial):
    start = 0
    if trial.checkpoint:
        start = json.loads((trial.checkpoint / "state.json").read_text())["epochs"]
    for epoch in trial.epochs():
        assert epoch == start, "went on from somewhere else than the checkpoint"
        start += 1
        loss = abs(trial.hparams.x - 0.3) + 1 / start
        print("epoch", epoch)
        trial.report(
            loss=loss,
            checkpoint=lambda directory: (directory / "state.json").write_text(json.dumps({"epochs": start})),
        )
"""

EXPERIMENT = """
name: toy
entrypoint: train:train
hyperparameters:
  x: {type: double, minval: 0.0, maxval: 1.0}
  optimizer: {name: {type: categorical, vals: [sgd, adam]}}
searcher: {name: adaptive_asha, metric: loss, max_length: {epochs: 16}, max_trials: 24, divisor: 4}
reproducibility: {experiment_seed: 5}
"""


GATED = TRAIN.replace(
    'print("epoch", epoch)',
    "import pathlib, time\n        while not pathlib.Path('go').exists():\n            time.sleep(0.01)",
)
"""Trains on only when there is a file ``go``."""

RANDOM = """
name: toy
entrypoint: train:train
hyperparameters: {x: {type: double, minval: 0.0, maxval: 1.0}}
searcher: {name: random, metric: loss, max_length: {epochs: 2}, max_trials: 6, max_concurrent_trials: 2}
reproducibility: {experiment_seed: 5}
"""


def _settings() -> list[str]:
    """Return the names of environment variables that commands under test must not inherit."""
    return [name for name in os.environ if name.startswith("ASHWOOD_") and name != LOCKS]


class Workplace:
    """A directory with an experiment in it, and the command line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "toy.yaml"
        self.write(EXPERIMENT, TRAIN)

    def write(self, experiment: str | None = None, train: str | None = None) -> None:
        if experiment is not None:
            self.file.write_text(experiment)
        if train is not None:
            (self.path / "train.py").write_text(train)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        environment = {name: value for name, value in os.environ.items() if name not in _settings()}
        return subprocess.Popen(
            [sys.executable, "-P", "-c", "from ashwood.cli.main import main; main()", *arguments],
            cwd=self.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ashwood(self, *arguments: str, code: int = 0) -> str:
        """What a command prints; its exit code must be ``code``.

        It runs in this process, where starting one of its own adds nothing but time.
        """
        if {"activate", "--background"} & {*arguments} and "--on" not in arguments:  # whose child would be ours to bury
            return self.apart(*arguments, code=code)
        from ashwood.cli.main import main

        output = io.StringIO()
        ended: object = 0
        with pytest.MonkeyPatch.context() as patch, contextlib.chdir(self.path):
            patch.setattr(sys, "argv", ["ashwood", *arguments])
            for name in _settings():
                patch.delenv(name)
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                try:
                    main()
                except SystemExit as exit_:
                    ended = exit_.code
        assert (ended or 0) == code, output.getvalue()
        return output.getvalue()

    def apart(self, *arguments: str, code: int = 0) -> str:
        """The same in a process of its own."""
        with self.start(*arguments) as process:
            out, err = process.communicate()
        assert process.returncode == code, out + err
        return out + err

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ashwood(*arguments, "--json"), parse_constant=pytest.fail)

    @contextlib.contextmanager
    def driving(self, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
        """A driver, from when it trains on; killed at the end if it still lives."""
        with self.start(*arguments, "--json") as process:
            try:
                assert process.stdout is not None
                while "AttemptStarted" not in (line := process.stdout.readline()):
                    assert line, process.communicate()[1]
                yield process
            finally:
                process.kill()


def go(workplace: Workplace) -> None:
    (workplace.path / "go").touch()


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)
