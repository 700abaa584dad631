"""Trains a trial class: ``python -m determined.exec.harness --train-entrypoint model_def:MNistTrial``.

Launchers start it in each process: ``python -m determined.launch.torch_distributed --trial model_def:MNistTrial``.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import Any

from ashwood.errors import TrainingCodeError, did_you_mean
from ashwood.integrations.determined.info import current_trial


def main(entrypoint: str) -> None:
    """Train the class that an entrypoint names, in the trial of this process.

    Raises:
        TrainingCodeError: there is no such class, or the process belongs to no trial.
    """
    trial = current_trial()
    if trial is None:
        raise TrainingCodeError("determined.exec.harness trains a trial of an experiment: run it in one")
    find_class(entrypoint).__ashwood_train__(trial)


def find_class(entrypoint: str) -> Any:
    """Return the trial class that an entrypoint such as ``model_def:MNistTrial`` names.

    Raises:
        TrainingCodeError: there is no such class, or it is not a trial class.
    """
    name, _, attribute = entrypoint.partition(":")
    if not attribute:
        raise TrainingCodeError(f"the entrypoint {entrypoint!r} has no class: write it as module:Class")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - compared with text
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    found: Any = import_module(name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [each for each, value in vars(found).items() if isinstance(value, type)]
            raise TrainingCodeError(f"{name} has no class {attribute!r}{did_you_mean(part, known)}")
        found = getattr(found, part)
    if not hasattr(found, "__ashwood_train__"):
        raise TrainingCodeError(f"{entrypoint} is not a trial class, such as a subclass of det.pytorch.PyTorchTrial")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--train-entrypoint", required=True)
    main(parser.parse_args().train_entrypoint)
