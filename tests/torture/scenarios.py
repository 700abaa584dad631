"""The experiments that are tortured: small ones of every kind."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Scenario:
    """An experiment.

    Attributes:
        name: for people.
        searcher: the ``searcher`` section of its file, without metric and lengths of its own.
        workers: how many.
        odd: some trials fail again and again, report NaN, declare their hyperparameters invalid or stop themselves.
        checkpoint_period: epochs between checkpoints; None: only when a trial leaves its worker.
        command: the training code is a command, not a function.
        step_seconds: how long an epoch takes at least.
        max_size: largest size of all checkpoints together in bytes, or None.
        extend: options of ``ashwood extend`` for when it has completed; empty: it isn't extended.
        then: commands that are run without a driver when it has completed, before it is resumed.
    """

    name: str
    searcher: dict[str, Any]
    workers: int = 1
    odd: bool = False
    checkpoint_period: int | None = None
    command: bool = False
    step_seconds: float = 0.002
    max_size: int | None = None
    extend: tuple[str, ...] = ()
    then: tuple[tuple[str, ...], ...] = ()
    max_restarts: int = field(init=False)

    def __post_init__(self) -> None:
        # Where trials fail by themselves they shall soon be through with it; elsewhere kills alone cause failures.
        object.__setattr__(self, "max_restarts", 3 if self.odd else 100)

    def write(self, directory: Path, seed: int, storage: Path, more: Mapping[str, Any] | None = None) -> Path:
        """Write the experiment's file into a directory of its own.

        Args:
            directory: that directory.
            seed: the experiment's.
            storage: where its checkpoints will be.
            more: what else is in the file, or has another value there; None: is not in it.
        """
        epochs = {"epochs": self.searcher.get("max_length", 16)}
        experiment: dict[str, Any] = {
            "name": self.name,
            "entrypoint": "python -m tests.torture.training" if self.command else "tests.torture.training:train",
            "data": {
                "diary": str(directory / "diary"),
                "checkpoints": str(storage),
                "odd": self.odd,
                "step_seconds": self.step_seconds,
            },
            "hyperparameters": {"x": {"type": "double", "minval": 0.0, "maxval": 1.0}},
            "searcher": {"metric": "loss", **self.searcher, "max_length": epochs},
            "max_restarts": self.max_restarts,
            "checkpoint_storage": str(storage),
            "reproducibility": {"experiment_seed": seed},
        }
        if self.max_size is not None:
            limited = {"type": "shared_fs", "host_path": str(storage), "max_size": self.max_size}
            experiment["checkpoint_storage"] = limited
        if self.checkpoint_period is not None:
            experiment["min_checkpoint_period"] = {"epochs": self.checkpoint_period}
        experiment = {key: value for key, value in {**experiment, **(more or {})}.items() if value is not None}
        file = directory / "experiment.yaml"
        file.write_text(json.dumps(experiment))  # JSON is YAML
        return file


def _asha(**more: Any) -> dict[str, Any]:
    return {"name": "adaptive_asha", "max_trials": 10, **more}


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("adaptive, 1 worker", _asha()),
    Scenario("adaptive, 1 worker, odd trials", _asha(), odd=True),
    Scenario("adaptive, 1 worker, often saved", _asha(max_trials=6), checkpoint_period=3),
    Scenario("adaptive, 2 workers", _asha(max_trials=16, start_with=[{"x": 0.25}, {"x": 2.0}]), workers=2),
    Scenario("adaptive, 2 workers, odd trials", _asha(max_trials=16), workers=2, odd=True),
    Scenario(
        "sync halving, 1 worker, max_size",
        {"name": "sync_halving", "max_trials": 8, "num_rungs": 2, "divisor": 2, "max_length": 8},
        checkpoint_period=3,
        max_size=120,
    ),
    Scenario("adaptive, 4 workers, max_size", _asha(max_trials=24), workers=4, max_size=400),
    Scenario("adaptive, 4 workers", _asha(max_trials=24), workers=4, checkpoint_period=1),
    Scenario("async halving, 1 worker", {"name": "async_halving", "max_trials": 9, "num_rungs": 2, "max_length": 8}),
    Scenario(
        "async halving, 2 workers, odd trials",
        {"name": "async_halving", "max_trials": 16, "num_rungs": 3},
        workers=2,
        odd=True,
        checkpoint_period=2,
    ),
    Scenario("sync halving, 1 worker", {"name": "sync_halving", "max_trials": 8, "num_rungs": 2, "max_length": 8}),
    Scenario(
        "sync halving, 4 workers, odd trials",
        {"name": "sync_halving", "max_trials": 16, "num_rungs": 3},
        workers=4,
        odd=True,
    ),
    Scenario("stopping, 1 worker", _asha(stop_once=True), checkpoint_period=4),
    Scenario("stopping, 2 workers, odd trials", _asha(max_trials=16, stop_once=True), workers=2, odd=True),
    Scenario("random, 1 worker", {"name": "random", "max_trials": 5, "max_length": 8}, checkpoint_period=2),
    Scenario(
        "random, 4 workers, odd trials", {"name": "random", "max_trials": 12, "max_length": 8}, workers=4, odd=True
    ),
    Scenario("command, 1 worker", _asha(max_trials=4, max_length=4), command=True),
    Scenario("command, 2 workers", _asha(max_trials=6, max_length=4), workers=2, command=True, checkpoint_period=1),
)

EXTENDED = (
    Scenario(
        "adaptive, 1 worker, extended",
        _asha(max_trials=6, max_length=4),
        checkpoint_period=3,
        extend=("--max-trials", "8", "--max-length", "{epochs: 20}"),
    ),
    Scenario(
        "async halving, 1 worker, extended, with an added trial",
        {"name": "async_halving", "max_trials": 6, "num_rungs": 2, "max_length": 4},
        then=(("extend", "1", "--max-trials", "8", "--no-run"), ("add-trial", "1", "x=0.5", "--extra")),
    ),
    Scenario(
        "random, 2 workers, odd trials, extended",
        {"name": "random", "max_trials": 8, "max_length": 4},
        workers=2,
        odd=True,
        extend=("--max-length", "{epochs: 8}"),
    ),
)
SCENARIOS += EXTENDED

SMALLEST = Scenario("for crash points", _asha(max_trials=4, max_length=4, divisor=2), checkpoint_period=1)
"""Small enough to be killed at every one of its crash points."""
