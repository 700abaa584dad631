"""What all integrations need: the import of their framework, and checks of units and metrics."""

from __future__ import annotations

import random
import sys
from collections.abc import Collection, Iterable, Mapping
from importlib import import_module
from typing import Any

from ashwood.checkpoints import Write
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
    forms = ["N" if unit == "steps" else f"{{{unit}: N}}" for unit in units]
    raise TrainingCodeError(
        f"the integration of {framework} cannot count {trial.unit}: write max_length: {' or '.join(forms)}"
    )


def check_one_process(framework: str, processes: int) -> None:
    """Raise a `TrainingCodeError` if several processes train a trial together."""
    if processes > 1:
        raise TrainingCodeError(f"{framework} must train in one process, but the trial has {processes}: start one")


def check_metric(trial: Trial, names: Collection[str]) -> None:
    """Check that a framework reports the metric that the search compares, before the trial trains in vain.

    Args:
        trial: the trial.
        names: names of all metrics that are reported.

    Raises:
        TrainingCodeError: the search compares a metric with another name; the message lists the names.
    """
    if trial.metric is None or trial.metric in names:
        return
    known = sorted(names)
    hint = did_you_mean(trial.metric, known)
    raise TrainingCodeError(
        f"the search compares the metric {trial.metric!r}, which is not reported{hint}\n"
        f"Reported metrics: {', '.join(map(repr, known)) or 'none'}. Set the metric of the searcher to one of them."
    )


def report_evaluation(trial: Trial, metrics: Mapping[str, Any], length: int, checkpoint: Write | None = None) -> None:
    """Report all metrics of an evaluation, after checking that the metric of the search is among them."""
    check_metric(trial, metrics)
    trial.report(metrics, length=length, checkpoint=checkpoint)


def seed_everything(seed: int) -> None:
    """Seed the random number generators of Python and, if it is imported, NumPy."""
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)


def check_rounds(
    trial: Trial, framework: str, given: Mapping[str, Any], rounds: Iterable[str] = (), start: str = ""
) -> None:
    """Check that a trial of boosting counts rounds, trains in one process, and that nothing else sets start or end.

    Args:
        trial: the trial.
        framework: name of the framework, for the message.
        given: settings of the user.
        rounds: names of settings for the number of rounds.
        start: name of the setting for the model to continue from.

    Raises:
        TrainingCodeError: the experiment counts another unit, the trial has several processes, the number of rounds is
            not ``max_length``, or a model to continue from is given.
    """
    check_unit(trial, framework, "steps")
    if trial.world_size > 1:
        raise TrainingCodeError(
            f"the integration of {framework} trains a trial in one process, but this trial has {trial.world_size}: "
            "give the trial more CPU cores instead, and start it without a launcher"
        )
    for name in rounds:
        if given.get(name) not in (None, trial.max_length):
            raise TrainingCodeError(
                f"{name}={given[name]!r} contradicts max_length: {trial.max_length}, which is the number of rounds: "
                f"remove {name}"
            )
    if given.get(start) is not None:
        raise TrainingCodeError(f"{start}= is given, but a trial continues from its own checkpoint: remove it")


def check_start(trial: Trial, rounds: int, setting: str) -> None:
    """Check that a model that starts to train is that of the trial's checkpoint.

    Args:
        trial: the trial.
        rounds: rounds of the model.
        setting: what the user should pass, for the message.

    Raises:
        TrainingCodeError: one of the model and the checkpoint has no rounds, and the other has some.
    """
    if bool(rounds) != bool(trial.length):
        raise TrainingCodeError(
            f"the model has {rounds} rounds, but the trial continues from {trial.length}: pass {setting}"
        )


def seed_of_round(seed: int, number: int) -> int:
    """Return the seed for one round of boosting, which depends on nothing else, so that pauses do not change it."""
    return (seed * 1_000_003 + number) % 2**31


def end_early(trial: Trial, checkpoint: Write, length: int) -> None:
    """Save and stop a trial whose training the framework itself has ended, unless the search ended it.

    Args:
        trial: the trial.
        checkpoint: function that saves the trial into an empty directory.
        length: total length of training so far.
    """
    if not trial.should_stop and length < trial.max_length:
        trial.save(checkpoint, length=length)
        trial.stop()


def first_given(settings: Mapping[str, Any], names: Iterable[str], default: Any) -> Any:
    """Return the setting with the first of several equivalent names that is given and not None."""
    return next((settings[name] for name in names if settings.get(name) is not None), default)
