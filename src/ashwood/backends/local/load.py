"""Find the training function that an experiment names."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ashwood.errors import TrainingCodeError
from ashwood.trial.values import nearest

SCRIPT_NAME = "__ashwood_script__"
"""The name under which a script is imported: not ``__main__``, so that guarded code doesn't run."""

IMPORTING = "ASHWOOD_IMPORTING_SCRIPT"
"""Environment variable that is set while a worker imports a script: a search that starts then is a mistake."""


def load(kind: str, target: str, workdir: str) -> Callable[[Any], Any]:
    """The training function.

    Raises:
        TrainingCodeError: there is no such function, or it can't be called.
        Exception: whatever the user's module raised when it was imported.
    """
    if kind == "pickle":
        return _callable(_unpickle(Path(workdir, target)), target)
    place, _, name = target.rpartition(":")
    if not place:
        raise TrainingCodeError(f"entrypoint {target!r} names no function: write it as module:function")
    module = _script(Path(workdir, place)) if kind == "script" else _module(place)
    function: Any = module
    for part in name.split("."):
        if not hasattr(function, part):
            known = [known for known, value in vars(function).items() if callable(value) and known[:1] != "_"]
            raise TrainingCodeError(f"{place} has no function {name!r}{nearest(part, known)} (entrypoint: {target})")
        function = getattr(function, part)
    return _callable(function, target)


def _callable(function: Any, target: str) -> Callable[[Any], Any]:
    if not callable(function):
        raise TrainingCodeError(f"{target} is a {type(function).__name__}, but has to be a function that takes a trial")
    return function  # type: ignore[no-any-return]


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a library that the module itself imports
        there = sorted(path.stem for path in Path.cwd().glob("*.py"))
        raise TrainingCodeError(
            f"there is no module {name!r}{nearest(name, there)} in {Path.cwd()} or among the installed packages"
        ) from None


def _script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(SCRIPT_NAME, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise TrainingCodeError(f"there is no Python file {path}")
    sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[SCRIPT_NAME] = module  # so that what it defines can be pickled
    os.environ[IMPORTING] = str(path)
    try:
        spec.loader.exec_module(module)
    finally:
        del os.environ[IMPORTING]
    return module


def _unpickle(path: Path) -> Any:
    import cloudpickle  # only here: most workers start faster without

    with path.open("rb") as file:
        return cloudpickle.load(file)
