"""Training code that keeps a diary of what it does, outside of everything that Ashwood records.

It goes the same way whatever happens around it: its loss at a length is a function of the trial's hyperparameters,
its seed and the length, but only if each epoch was trained exactly once, in order, from where the checkpoint left off.
"""

import fcntl
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ashwood.trial import Trial, get_trial
from tests.torture import points

FAILS, IS_NAN, IS_INVALID, STOPS = range(4)
"""What one in `_KINDS` trials does, in experiments with odd trials."""
_KINDS = 10
_CHECKPOINT = re.compile(r"length-(\d+)-attempt-(\d+)")


def next_state(state: int, seed: int) -> int:
    """The state of the "model" after one more epoch."""
    return (state * 6364136223846793005 + seed + 1442695040888963407) % 2**64


def loss_at(hparams: Mapping[str, Any], seed: int, length: int, *, odd: bool) -> float:
    """What a trial has to report at a length."""
    state = 0
    for _ in range(length):
        state = next_state(state, seed)
    return _loss(hparams["x"], seed, length, state, odd)


def _loss(x: float, seed: int, length: int, state: int, odd: bool) -> float:
    if odd and seed % _KINDS == IS_NAN:
        return math.nan
    return abs(x - 0.3) + 1 / length + state % 1024 / 2**20


def train(trial: Trial) -> None:
    """Train, and write down everything that happens."""
    diary = Diary(Path(trial.data.diary), trial.id, trial.attempt)
    odd, kind = bool(trial.data.odd), trial.seed % _KINDS if trial.data.odd else None
    epochs, state = _load(trial.checkpoint)
    latest = latest_checkpoint(Path(trial.data.checkpoints), trial.id)
    with diary.attempt(epochs, latest):
        if kind == IS_INVALID:
            trial.invalid_hparams("these never make sense")
        owns_loop = trial.id % 2 == 1
        for epoch in _own_loop(trial) if owns_loop else trial.epochs():
            assert epoch == epochs, f"the loop is at epoch {epoch}, the checkpoint at {epochs}"
            time.sleep(trial.data.step_seconds)
            epochs, state = epochs + 1, next_state(state, trial.seed)
            diary.write("step", epochs)
            if kind == FAILS and epochs == 2:
                raise ValueError("this trial never gets far")
            loss = _loss(trial.hparams.x, trial.seed, epochs, state, odd)
            diary.write("report", epochs, None if math.isnan(loss) else loss)
            trial.report(loss=loss, length=epochs if owns_loop else None, checkpoint=_saver(epochs, state))
            if kind == STOPS and epochs == 3:
                trial.stop()


def _own_loop(trial: Trial) -> Iterator[int]:
    """Loop as training code does that owns its loop."""
    while not trial.should_stop:
        yield trial.length


class Diary:
    """One line of JSON a thing that happened: trial, attempt, what, details.  Lines of all processes are in order."""

    def __init__(self, path: Path, trial: int, attempt: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._lock = os.open(path.with_name(f"trial-{trial}.lock"), os.O_WRONLY | os.O_CREAT, 0o600)
        self._whose = (trial, attempt)

    def write(self, what: str, *details: Any) -> None:
        """Add a line."""
        os.write(self._file, f"{json.dumps([*self._whose, what, *details])}\n".encode())

    @contextmanager
    def attempt(self, length: int, latest: int) -> Iterator[None]:
        """An attempt that starts at ``length``, where the latest complete checkpoint on disk is at ``latest``."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.write("overlap")
        self.write("start", length, latest)
        try:
            yield
        finally:
            self.write("end")
            os.close(self._lock)
            os.close(self._file)


def latest_checkpoint(checkpoints: Path, trial: int) -> int:
    """The length of the latest complete checkpoint of a trial of the only experiment there; 0: there is none."""
    lengths = [0]
    for directory in checkpoints.glob(f"*/trial-{trial}"):
        with suppress(FileNotFoundError):  # the driver removes what nobody needs
            lengths += [int(match[1]) for path in directory.iterdir() if (match := _CHECKPOINT.match(path.name))]
    return max(lengths)


def _saver(epochs: int, state: int) -> Any:
    def save(directory: Path) -> None:
        # Two files, so that half a checkpoint can be told from a whole one.
        for name in ("state.json", "copy.json"):
            (directory / name).write_text(json.dumps([epochs, state]))

    return save


def _load(checkpoint: Path | None) -> tuple[int, int]:
    if checkpoint is None:
        return 0, 0
    epochs, state = json.loads((checkpoint / "state.json").read_text())
    assert json.loads((checkpoint / "copy.json").read_text()) == [epochs, state], "half a checkpoint"
    return epochs, state


points.arm_worker()
if __name__ == "__main__":
    train(get_trial())
