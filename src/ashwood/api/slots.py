"""Counts the trials of an experiment that fit on this machine."""

from __future__ import annotations

from ashwood.backends.local.slots import plan_here
from ashwood.config import Loaded
from ashwood.errors import MachineError
from ashwood.experiment.spec import ExperimentSpec


def slots_here(spec: ExperimentSpec, workers: int | None = None) -> int:
    """Return the number of trials that can train at once on this machine.

    Args:
        spec: the experiment.
        workers: number of workers, or None for as many as fit.

    Raises:
        MachineError: not even one trial fits on this machine.
    """
    _, slots = plan_here(spec, workers)
    return len(slots)


def check_room(loaded: Loaded, workers: int | None = None) -> None:
    """Check that a trial fits this machine, if the experiment runs on it.

    Args:
        loaded: the experiment.
        workers: number of workers, or None for as many as fit.

    Raises:
        ConfigError: not even one trial fits on this machine.
    """
    # On a cluster a node that is large enough may join later.
    if loaded.spec.ray is not None or loaded.spec.slots_per_trial == 1:
        return
    try:
        slots_here(loaded.spec, workers)
    except MachineError as error:
        raise loaded.refuse_slots(str(error)) from None
