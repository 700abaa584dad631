"""Load a trial class from its checkpoint, to use the model."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from ashwood.errors import TrainingCodeError
from ashwood.integrations.determined.core import DummyDistributedContext
from ashwood.integrations.determined.pytorch import _state


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
    directory = Path(path)
    file = directory / _state.LOAD_DATA
    if not file.is_file():
        raise TrainingCodeError(f"{path} is not a checkpoint of a PyTorchTrial: it has no {_state.LOAD_DATA}")
    about = json.loads(file.read_text())
    states = _state.read(directory)
    found = trial_class or _import(about["trial_cls_spec"], directory, about.get("code", ""))
    context = found.trial_context_class(
        None, DummyDistributedContext(), hparams=about["hparams"], config=about["experiment_config"]
    )
    trial = found(context, **(trial_kwargs or {}))
    for model, state in zip(context.models, states["models_state_dict"], strict=False):
        _state.load_state(model, state)
    return trial


def _import(target: str, directory: Path, code: str) -> Any:
    name, _, attribute = target.partition(":")
    places = [place for place in (directory / "code", Path(code)) if code and place.is_dir()]
    sys.path[:0] = map(str, places)
    try:
        found: Any = import_module(name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise TrainingCodeError(f"cannot import the trial class {target}: {error}; pass trial_class=") from error
    finally:
        for place in places:
            sys.path.remove(str(place))
    return found


class CheckpointLoadContext:
    """Not used; it exists for imports."""
