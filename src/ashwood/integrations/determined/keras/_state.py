"""The state of a Keras model and of random numbers in a checkpoint."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ashwood.errors import TrainingCodeError
from ashwood.integrations.keras import layer_seeds

WEIGHTS = "model.weights.h5"
_STATE = "determined-keras-state.pkl"
OTHERS = "other optimizers"


def arrays(model: Any) -> dict[str, list[Any]]:
    """Return the values of all variables that training changes, except those of metrics."""
    return {name: [keras.ops.convert_to_numpy(each) for each in found] for name, found in _variables(model).items()}


def assign(model: Any, values: dict[str, list[Any]]) -> None:
    """Restore what `arrays` returned into a model that is built and compiled.

    Raises:
        TrainingCodeError: the model has an optimizer of its own that is not built.
    """
    build_optimizer(model)
    variables = _variables(model)
    if len(values.get(OTHERS, ())) > len(variables[OTHERS]):
        raise TrainingCodeError(
            "the model has an optimizer besides that of compile(), which must be built before its state is restored: "
            "call optimizer.build(trainable_variables) when you create it"
        )
    for name, saved in values.items():
        for variable, value in zip(variables[name], saved, strict=True):
            variable.assign(value)


def build_optimizer(model: Any) -> None:
    """Create the variables of the optimizer, if it has none yet."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def other_optimizers(model: Any) -> list[Any]:
    """Return the optimizers that are attributes of a model with a ``train_step`` of its own, such as a GAN."""
    found = (each for each in vars(model).values() if isinstance(each, keras.optimizers.Optimizer))
    return [each for each in found if each is not model.optimizer]


def reset_optimizer(optimizer: Any) -> None:
    """Set the variables of an optimizer to their initial values, if it is built."""
    if not optimizer.built:
        return
    fresh = type(optimizer).from_config(optimizer.get_config())
    fresh.build(optimizer._trainable_variables)
    for variable, initial in zip(optimizer.variables, fresh.variables, strict=True):
        variable.assign(initial)


def _variables(model: Any) -> dict[str, list[Any]]:
    others = [variable for each in other_optimizers(model) if each.built for variable in each.variables]
    return {
        "weights": model.weights,
        "optimizer": model.optimizer.variables,
        "seeds": layer_seeds(model),
        OTHERS: others,
    }


def save(directory: Path, model: Any, **more: Any) -> None:
    """Write the model, the states of random number generators and other values."""
    build_optimizer(model)
    model.save_weights(str(directory / WEIGHTS))
    state = {"model": arrays(model), "numpy": np.random.get_state(), "random": random.getstate(), **more}
    if keras.backend.backend() == "torch":
        import torch

        state["torch"] = torch.get_rng_state().numpy()
    (directory / _STATE).write_bytes(pickle.dumps(state))


def load(directory: Path) -> dict[str, Any]:
    """Return what `save` wrote.  The training code itself wrote the file."""
    return pickle.loads((directory / _STATE).read_bytes())  # noqa: S301


def restore_random(state: dict[str, Any]) -> None:
    """Restore the states of the generators of NumPy, `random` and, as the backend, PyTorch."""
    np.random.set_state(state["numpy"])
    random.setstate(state["random"])
    if keras.backend.backend() == "torch" and "torch" in state:
        import torch

        torch.set_rng_state(torch.from_numpy(state["torch"]))
