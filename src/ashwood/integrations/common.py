"""What all integrations need: the import of their framework, and checks of units and metrics."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from ashwood.errors import MissingPackage, TrainingCodeError, did_you_mean
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


def check_metric(trial: Trial, names: Iterable[str]) -> None:
    """Check that a framework reports the metric that the search compares, before the trial trains in vain.

    Args:
        trial: the trial.
        names: names of all metrics that are reported.

    Raises:
        TrainingCodeError: the search compares a metric with another name; the message lists the names.
    """
    known = sorted(names)
    if trial.metric is None or trial.metric in known:
        return
    hint = did_you_mean(trial.metric, known)
    raise TrainingCodeError(
        f"the search compares the metric {trial.metric!r}, which is not reported{hint}\n"
        f"Reported metrics: {', '.join(map(repr, known)) or 'none'}. Set the metric of the searcher to one of them."
    )


def seed_everything(seed: int) -> None:
    """Seed the random number generators of Python and, if it is imported, NumPy."""
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
