"""The training script of a Syne Tune trial; it is run by its path for every stretch of training."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from benchmarks.steps import StepLog


def train() -> None:
    """Train from the checkpoint on, until Syne Tune ends the process."""
    from syne_tune import Reporter

    parser = ArgumentParser()
    for name, kind in {"x": float, "max_length": int, "log": str, "seconds": float, "st_checkpoint_dir": Path}.items():
        parser.add_argument(f"--{name}", type=kind)
    config, _ = parser.parse_known_args()
    state = config.st_checkpoint_dir / "length"
    start = int(state.read_text()) if state.exists() else 0
    state.parent.mkdir(parents=True, exist_ok=True)
    trial = config.st_checkpoint_dir.parent.name
    log = StepLog(config.log, config.seconds)
    report = Reporter()
    for length in range(start + 1, config.max_length + 1):
        log.step(trial)
        # Syne Tune ends the process at any moment, so a state is never half written.
        half = state.with_suffix(".half")
        half.write_text(str(length))
        half.replace(state)
        report(loss=config.x, length=length)


if __name__ == "__main__":
    train()
