"""Load a trial class from its checkpoint, to use the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ashwood.integrations.determined._saved_class import read_class
from ashwood.integrations.determined.core import DummyDistributedContext
from ashwood.integrations.determined.pytorch import _state
from ashwood.integrations.determined.pytorch._methods import wrap_what_methods_build


def load_trial_from_checkpoint_path(
    path: str,
    trial_class: Any = None,
    trial_kwargs: dict[str, Any] | None = None,
    torch_load_kwargs: dict[str, Any] | None = None,  # noqa: ARG001
    **kwargs: Any,  # noqa: ARG001
) -> Any:
    """Return the trial of a checkpoint, with the states of its models.

    Args:
        path: directory of the checkpoint.
        trial_class: the trial class, by default the one that was trained, imported from the same place.
        trial_kwargs: arguments for the class, besides the context.
        torch_load_kwargs: ignored: the states are loaded on the CPU.
        **kwargs: ignored, as ``torch_load_kwargs``.

    Raises:
        TrainingCodeError: the directory is not a checkpoint of a `PyTorchTrial`, or its class cannot be imported.
    """
    found, hparams, config = read_class(path, "PyTorchTrial", trial_class)
    states = _state.read(Path(path))
    context = found.trial_context_class(None, DummyDistributedContext(), hparams=hparams, config=config)
    trial = found(context, **(trial_kwargs or {}))
    wrap_what_methods_build(trial, context)
    for model, state in zip(context.models, states["models_state_dict"], strict=False):
        _state.load_state(model, state)
    return trial


class CheckpointLoadContext:
    """Not used; it exists for imports."""
