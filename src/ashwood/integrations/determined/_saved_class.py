"""The trial class of a checkpoint, which is named in a file of the checkpoint."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from ashwood.errors import TrainingCodeError

_FILE = "load_data.json"


def write_class(directory: Path, kind: str, trial_class: type, context: Any) -> None:
    """Write what `read_class` needs into the directory of a checkpoint, in the format of Determined.

    Args:
        directory: the directory.
        kind: name of the base class of the trial class.
        trial_class: the trial class.
        context: its context.
    """
    name, file = trial_class.__module__, Path(getattr(sys.modules[trial_class.__module__], "__file__", None) or "x.py")
    if name == "__main__":  # Other programs import the script by its name.
        name = file.stem
    about = {
        "trial_type": kind,
        "experiment_config": context._config or {},
        "hparams": context.get_hparams(),
        "trial_cls_spec": f"{name}:{trial_class.__qualname__}",
        # A module of a package is imported from the directory that contains the top-level package.
        "code": str(file.absolute().parents[name.count(".") + (file.name == "__init__.py")]),
    }
    (directory / _FILE).write_text(json.dumps(about, default=str))


def read_class(path: str, kind: str, trial_class: Any = None) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return the trial class of a checkpoint, its hyperparameters, and the settings of its experiment.

    Args:
        path: directory of the checkpoint.
        kind: name of the base class, for messages.
        trial_class: the trial class, by default the one that was trained, imported from the same place.

    Raises:
        TrainingCodeError: the directory is not a checkpoint of a trial class, or its class cannot be imported.
    """
    file = Path(path, _FILE)
    if not file.is_file():
        raise TrainingCodeError(f"{path} is not a checkpoint of a {kind}: it has no {_FILE}")
    about = json.loads(file.read_text())
    found = trial_class or _import(about["trial_cls_spec"], Path(path), about.get("code", ""))
    return found, about["hparams"], about["experiment_config"]


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
