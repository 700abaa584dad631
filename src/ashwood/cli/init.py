"""``ashwood init``: a working example to adapt."""

from __future__ import annotations

from pathlib import Path

from ashwood.errors import AshwoodError
from ashwood.terminal.output import print_json
from ashwood.terminal.text import say

EXPERIMENT = """\
# Run this search:             ashwood run experiment.yaml
# Preview it first:            ashwood preview experiment.yaml
name: {name}
entrypoint: train:train # the function `train` in train.py

hyperparameters:
  learning_rate: {{type: log, minval: -4, maxval: 0}} # exponents: 10^-4 to 10^0
  width: {{type: int, minval: 4, maxval: 64}}
  activation: {{type: categorical, vals: [tanh, relu]}}

searcher:
  name: adaptive_asha # stops poor trials early; others: async_halving, sync_halving, random, grid, single
  metric: validation_loss # what train.py reports
  smaller_is_better: true
  max_length: {{epochs: 27}} # how long the best trials train
  max_trials: 60
  divisor: 3 # the best third is promoted to a training three times as long
"""

_TRAIN = '''\
"""Fit a noisy sine with a tiny neural network, in plain Python: replace this with your own model."""

import json
import math
import random

import ashwood


class Network:
    """One hidden layer, trained by stochastic gradient descent."""

    def __init__(self, width, activation, seed):
        rng = random.Random(seed)
        self.activation = activation
        self.hidden = [[rng.gauss(0, 2), rng.gauss(0, 1), rng.gauss(0, 0.5)] for _ in range(width)]
        self.bias = 0.0

    def predict(self, x):
        return self.bias + sum(out * self._act(w * x + b) for w, b, out in self.hidden)

    def fit_one(self, x, y, rate):
        error = max(-10.0, min(10.0, self.predict(x) - y))  # a rate that is too high must not overflow
        self.bias -= rate * error
        for unit in self.hidden:
            w, b, out = unit
            h = self._act(w * x + b)
            slope = (1 - h * h) if self.activation == "tanh" else float(h > 0)
            unit[2] -= rate * error * h
            unit[1] -= rate * error * out * slope
            unit[0] -= rate * error * out * slope * x

    def _act(self, z):
        return math.tanh(z) if self.activation == "tanh" else max(0.0, z)


def make_data(n, seed):
    rng = random.Random(seed)
    xs = [rng.uniform(-3, 3) for _ in range(n)]
    return [(x, math.sin(x) + rng.gauss(0, 0.1)) for x in xs]


train_data, valid_data = make_data(200, seed=1), make_data(100, seed=2)


def train(trial: ashwood.Trial):
    # Values that the search chose; a typo here is an error that names the nearest one.
    rate, width, activation = trial.hparams.learning_rate, trial.hparams.width, trial.hparams.activation
    network = Network(width, activation, trial.seed)
    if trial.checkpoint:  # saved when this trial was paused or interrupted
        network.__dict__ = json.loads((trial.checkpoint / "network.json").read_text())

    # From the checkpoint's epoch up to the length that the search assigned.
    for epoch in trial.epochs():
        for x, y in train_data:
            network.fit_one(x, y, rate / width)
        loss = sum((network.predict(x) - y) ** 2 for x, y in valid_data) / len(valid_data)
        trial.report(
            validation_loss=loss,
            # Called only if the search needs a checkpoint.
            checkpoint=lambda directory: (directory / "network.json").write_text(json.dumps(network.__dict__)),
        )


if __name__ == "__main__":
    # Without a search, to debug: python train.py
    train(ashwood.get_trial(hparams={"learning_rate": 0.1, "width": 16, "activation": "tanh"}, epochs=5))
'''


def make_starter(directory: Path, *, json: bool) -> None:
    """Write the files of the example, and print which files they are and what to do next.

    Raises:
        AshwoodError: a file already exists, or the directory cannot be written to.
    """
    name = directory.absolute().name
    files = {directory / "experiment.yaml": EXPERIMENT.format(name=name), directory / "train.py": _TRAIN}
    for path in files:
        if path.exists():
            raise AshwoodError(f"{path} already exists; nothing was written. Choose another directory.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AshwoodError(f"cannot write to {directory}: {error.strerror}") from error
    if json:
        print_json({"files": [str(path) for path in files]})
        return
    say(f"Created {' and '.join(str(path) for path in files)}.")
    say("Next:")
    if directory.absolute() != Path.cwd():
        say(f"  cd {directory}")
    say("  ashwood check     # try the training code: one trial, with and without pauses")
    say("  ashwood preview   # show what the search will do")
    say("  ashwood run       # run it")
