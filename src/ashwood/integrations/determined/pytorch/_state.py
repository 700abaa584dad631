"""The state of a trial in its checkpoint, in the format of Determined's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ashwood.checkpoints import named_position
from ashwood.errors import TrainingCodeError
from ashwood.integrations.determined._saved_class import write_class
from ashwood.trial import Trial

FILE = "state_dict.pth"
_OWN = "ashwood"  # key of the state that Determined's checkpoints lack
_PLACES = (FILE, "determined/state_dict.pth", "pedl/state_dict.pth", "checkpoint.pt")


class Saved(NamedTuple):
    """A checkpoint that was read.

    Attributes:
        states: the states by kind, or None if there is no checkpoint.
        batches: number of batches that the trial has trained, or 0 if it starts from the checkpoint of another trial.
    """

    states: dict[str, Any] | None = None
    batches: int = 0

    @property
    def own(self) -> dict[str, Any]:
        """The position in the data and the unfinished part of the training, or an empty dictionary."""
        return (self.states or {}).get(_OWN, {})


def read(directory: Path) -> dict[str, Any]:
    """Return the states in a checkpoint.

    Raises:
        TrainingCodeError: the directory has no such file, or the file cannot be read.
    """
    file = next((directory / place for place in _PLACES if (directory / place).is_file()), None)
    if file is None:
        raise TrainingCodeError(f"{directory} is not a checkpoint of a PyTorchTrial: it has no {FILE}")
    try:
        # Callbacks may save any objects, and the file was written by the training code itself.
        states = torch.load(file, map_location="cpu", weights_only=False)
    except Exception as error:
        raise TrainingCodeError(f"cannot read {file}: {error}") from error
    if not isinstance(states, dict):
        raise TrainingCodeError(f"{file} has a {type(states).__name__}, but must have a dictionary of states")
    return states


def read_saved(trial: Trial) -> Saved:
    """Return the checkpoint of a trial."""
    if trial.checkpoint is None:
        return Saved()
    states = read(trial.checkpoint)
    # A new trial that starts from the checkpoint of another one has length 0.
    name = trial._attempt.job.checkpoint or ""
    continues = trial.length > 0 or named_position(name, "batches") is not None
    return Saved(states, int(states.get(_OWN, {}).get("batches", 0)) if continues else 0)


def collect(context: Any, own: Mapping[str, Any], rng_state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states for a checkpoint."""
    states = {
        "models_state_dict": [unwrapped(model).state_dict() for model in context.models],
        "optimizers_state_dict": [optimizer.state_dict() for optimizer in context.optimizers],
        "lr_schedulers_state_dict": [scheduler.state_dict() for scheduler in context.lr_schedulers],
        "callbacks": {name: callback.state_dict() for name, callback in context.callbacks.items()},
        "rng_state": dict(rng_state),
        _OWN: dict(own),
    }
    if context._scaler is not None:
        states["scaler_state_dict"] = context._scaler.state_dict()
    return states


def write(directory: Path, states: Mapping[str, Any], context: Any, trial_class: type) -> None:
    """Write the states, and what `load_trial_from_checkpoint_path` needs, into a directory."""
    torch.save(dict(states), directory / FILE)
    write_class(directory, "PyTorchTrial", trial_class, context)


def restore(context: Any, states: Mapping[str, Any]) -> None:
    """Restore all but the random number generators.

    Raises:
        TrainingCodeError: a state is missing, or does not fit its object.
    """
    for kind, objects, old in (
        ("models", context.models, "model_state_dict"),
        ("optimizers", context.optimizers, "optimizer_state_dict"),
        ("lr_schedulers", context.lr_schedulers, "lr_scheduler"),
    ):
        saved = states.get(f"{kind}_state_dict")
        if saved is None:
            saved = [states[old]] if old in states else []
        if len(saved) < len(objects):
            raise TrainingCodeError(
                f"the checkpoint has the states of {len(saved)} {kind}, but the trial wraps {len(objects)}"
            )
        for number, thing in enumerate(objects):
            try:
                load_state(thing, saved[number])
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                raise TrainingCodeError(
                    f"{kind}[{number}] does not fit its state in the checkpoint: {error}"
                ) from error
    if context._scaler is not None and states.get("scaler_state_dict"):
        context._scaler.load_state_dict(states["scaler_state_dict"])
    callbacks = states.get("callbacks", {})
    for name, callback in context.callbacks.items():
        if name in callbacks:
            callback.load_state_dict(callbacks[name])


def load_state(thing: Any, state: Any) -> None:
    """Restore the state of a model, optimizer or scheduler.

    A model that several processes trained with Determined has parameters whose names begin with ``module.``.
    """
    if isinstance(thing, torch.nn.Module):
        thing = unwrapped(thing)
        if state and all(name.startswith("module.") for name in state):
            state = {name.removeprefix("module."): value for name, value in state.items()}
    thing.load_state_dict(state)


def unwrapped(model: Any) -> Any:
    """Return a model without the wrappers for several processes or GPUs."""
    parallel = (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)
    while isinstance(model, parallel):
        model = model.module
    return model


def gradients(models: Any) -> list[dict[str, Any]]:
    """Return the gradients of each model by parameter, without those that are None.

    Between two steps of the optimizers, gradients of several batches are aggregated.
    """
    return [
        {name: each.grad.detach().cpu() for name, each in unwrapped(model).named_parameters() if each.grad is not None}
        for model in models
    ]


def restore_gradients(models: Any, saved: Any) -> None:
    """Restore what `gradients` returned."""
    for model, found in zip(models, saved, strict=False):
        for name, each in unwrapped(model).named_parameters():
            if name in found:
                each.grad = found[name].to(each.device)
