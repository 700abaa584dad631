"""What all integrations need: the import of their framework, and the units that they count."""

from __future__ import annotations

import random
import sys
from importlib import import_module
from typing import Any

from ashwood.errors import MissingPackage, TrainingCodeError
from ashwood.trial import Trial


def require(module: str, extra: str) -> Any:
    """Return a module of a framework.

    Args:
        module: name of the module.
        extra: extra of Ashwood that installs the framework.

    Raises:
        MissingPackage: the framework is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"ashwood.{extra} needs a package that is not installed ({error}): pip install 'ashwood[{extra}]'"
        ) from error


def check_unit(trial: Trial, framework: str, *units: str) -> None:
    """Check that the experiment counts one of the units that a framework counts.

    Args:
        trial: the trial.
        framework: name of the framework, for the message.
        *units: ``epochs``, ``batches`` or ``steps``.  The last one is a number without a unit.

    Raises:
        TrainingCodeError: the experiment counts another unit; the message says what to write instead.
    """
    if trial.unit in units:
        return
    forms = [str(trial.max_length) if unit == "steps" else f"{{{unit}: {trial.max_length}}}" for unit in units]
    raise TrainingCodeError(
        f"the integration of {framework} cannot count {trial.unit}: write max_length: {' or '.join(forms)}"
    )


def seed_everything(seed: int) -> None:
    """Seed the random number generators of Python and, if it is imported, NumPy."""
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
