"""Import the training code of an experiment."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

from ashwood.errors import TrainingCodeError, did_you_mean

IMPORTING = "ASHWOOD_IMPORTING_SCRIPT"
"""Environment variable that is set while a worker imports training code.

Code that starts a search during this import lacks ``if __name__ == "__main__"``; see `ashwood.trial.guard`.
"""

HOOK = "__ashwood_train__"
"""Name of a class method that takes a trial and trains it, for classes of training code such as ``PyTorchTrial``."""

_COMMAND_HOOK = "__ashwood_command__"
"""Name of a class method that returns the command that trains the class ``module:Class``, or None to use `HOOK`."""

IMPORT_PATH = str(Path(__file__).parent / "import_path")
"""Directory with packages that training code can import although they are not installed: only ``determined``."""

_HIDDEN = "ashwood_script_"
"""Prefix of the module name of a script if another module already has the script's own name."""


def load(kind: str, target: str, workdir: str) -> Callable[[Any], Any]:
    """Import the training code and return its callable.

    Raises:
        TrainingCodeError: there is no such function, or it cannot be called with a trial.
        Exception: any exception that the user's module raises during its import.
    """
    code = _unpickle(Path(workdir, target)) if kind == "pickle" else find(kind, target, workdir)
    code = getattr(code, HOOK, code)
    if not callable(code):
        raise TrainingCodeError(f"{target} is a {type(code).__name__}, but must be a function that takes a trial")
    # Other callables are not checked: that needs `inspect`, and its import would slow down the start of every worker.
    if isinstance(code, FunctionType) and not _takes_one(code):
        raise TrainingCodeError(f"{target} must take one argument, the trial: {code.__name__}{_parameters(code)}")
    return code  # type: ignore[no-any-return]


def command_of(code: Callable[[Any], Any], kind: str, target: str) -> str | None:
    """Return the command with which training code asks to be trained, or None if it is called in the worker."""
    hook = getattr(getattr(code, "__self__", None), _COMMAND_HOOK, None)
    return hook(target) if kind == "function" and hook is not None else None


def find(kind: str, target: str, workdir: str = "") -> Any:
    """Return the object that a target ``MODULE:NAME``, or ``FILE:NAME`` of a script, refers to.

    Raises:
        TrainingCodeError: there is no such file, module or name.
        Exception: any exception that the module raises during its import.
    """
    place, _, name = target.rpartition(":")
    if not place:
        raise TrainingCodeError(f"entrypoint {target!r} contains no function name: write it as module:function")
    module = _script(Path(workdir, place)) if kind == "script" else _module(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [known for known, value in vars(found).items() if callable(value) and known[:1] != "_"]
            from ashwood.trial.guard import hint_of_guard  # imported here, so that workers start faster

            hint = hint_of_guard(part, getattr(module, "__file__", None)) or did_you_mean(part, known)
            raise TrainingCodeError(f"{place} has no function {name!r}{hint} (entrypoint: {target})")
        found = getattr(found, part)
    return found


def _module(name: str) -> ModuleType:
    try:
        with _importing(name):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # The module was found, but a library that it imports was not.
        there = sorted(path.stem for path in Path.cwd().glob("*.py"))
        raise TrainingCodeError(
            f"there is no module {name!r} in {Path.cwd()} or among the installed packages{did_you_mean(name, there)}"
        ) from None


def _script(path: Path) -> ModuleType:
    """Import a script under its own name, so that any program that can import it can load the objects that it pickles.

    The module is also registered as ``__main__``, so that workers can load objects that the script pickled when it was
    run as a program.
    """
    name = module_name(path)
    if (module := sys.modules.get(name)) is not None and is_file_of(module, path):
        return module
    if module is not None:
        name = _HIDDEN + path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise TrainingCodeError(f"there is no Python file {path}")
    put_first(str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = sys.modules["__main__"] = module
    with _importing(str(path)):
        spec.loader.exec_module(module)
    return module


def code_file(kind: str, target: str) -> str:
    """Return the path of the file that contains the training code, relative to the work directory or absolute."""
    place = target.rpartition(":")[0]
    return f"{place.replace('.', os.sep)}.py" if kind == "function" else place


def module_name(path: Path) -> str:
    """Return the name under which programs in the directory of a script import it."""
    return path.stem


def is_file_of(module: ModuleType, path: Path) -> bool:
    """Return whether a module was imported from the file ``path``."""
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path.resolve()


def put_first(directory: str) -> None:
    """Make a directory the first on the module search path of this process and of those that it starts."""
    sys.path.insert(0, directory)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (directory, os.environ.get("PYTHONPATH"))))


def put_last(directory: str) -> None:
    """Make a directory the last on the module search path of this process, and in PYTHONPATH of those that it starts.

    An empty entry in PYTHONPATH would stand for the working directory, so none is written.
    """
    sys.path.append(directory)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), directory)))


@contextmanager
def _importing(code: str) -> Iterator[None]:
    os.environ[IMPORTING] = code
    try:
        yield
    finally:
        del os.environ[IMPORTING]


def _takes_one(function: FunctionType) -> bool:
    """Return whether a function can be called with one positional argument."""
    code = function.__code__
    required = code.co_argcount - len(function.__defaults__ or ())
    needs_keywords = code.co_kwonlyargcount > len(function.__kwdefaults__ or {})
    takes_any = bool(code.co_flags & 0x04)  # inspect.CO_VARARGS
    return required <= 1 and (code.co_argcount >= 1 or takes_any) and not needs_keywords


def _parameters(function: FunctionType) -> str:
    import inspect

    return str(inspect.signature(function))


def _unpickle(path: Path) -> Any:
    import cloudpickle  # imported here, so that workers without pickled code start faster

    with path.open("rb") as file:
        code = cloudpickle.load(file)
    # Functions and classes of a notebook are pickled with the code, and their module is still __main__.  If training
    # code saves an instance of such a class, `pickle` looks for the class in __main__, so it must be there.
    main = sys.modules["__main__"]
    for value in list(getattr(function_of(code), "__globals__", {}).values()):
        if isinstance(value, type | FunctionType) and value.__module__ == "__main__":
            setattr(main, value.__qualname__, value)
    return code


def function_of(code: Any) -> Any:
    """Return the Python function that a callable runs, or the callable itself if it runs none."""
    while isinstance(code, partial):
        code = code.func
    if not isinstance(code, FunctionType | MethodType):
        code = getattr(type(code), "__call__", code)  # noqa: B004 - the function itself is needed
    return getattr(code, "__func__", code)
