"""Load the model of a trial class from its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ashwood.integrations.determined._saved_class import read_class
from ashwood.integrations.determined.core import DummyDistributedContext
from ashwood.integrations.determined.keras import _state


def load_model_from_checkpoint_path(path: str, tags: list[str] | None = None) -> Any:  # noqa: ARG001
    """Return the model of a checkpoint of a `TFKerasTrial`, built and compiled by the class that was trained.

    Args:
        path: directory of the checkpoint.
        tags: ignored: they are for models of TensorFlow 1.

    Raises:
        TrainingCodeError: the directory is not a checkpoint of a `TFKerasTrial`, or its class cannot be imported.
    """
    found, hparams, config = read_class(path, "TFKerasTrial")
    context = found.trial_context_class(None, DummyDistributedContext(), hparams=hparams, config=config)
    model = found(context).build_model() or context.model
    _state.assign(model, _state.load(Path(path))["model"])
    return model
