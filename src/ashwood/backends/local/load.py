"""Find the training code that an experiment names."""

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

from ashwood.errors import TrainingCodeError
from ashwood.trial.values import nearest

IMPORTING = "ASHWOOD_IMPORTING_SCRIPT"
"""Environment variable that is set while a worker imports training code: a search that starts then is a mistake."""

_HIDDEN = "ashwood_script_"
"""Prefix of the module name of a script whose own name another module has already."""


def load(kind: str, target: str, workdir: str) -> Callable[[Any], Any]:
    """Return the training code, a callable.

    Raises:
        TrainingCodeError: there is no such function, or it cannot be called with a trial.
        Exception: whatever the user's module raised when it was imported.
    """
    code = _unpickle(Path(workdir, target)) if kind == "pickle" else find(kind, target, workdir)
    if not callable(code):
        raise TrainingCodeError(f"{target} is a {type(code).__name__}, but has to be a function that takes a trial")
    # Looking at other callables takes `inspect`, whose import would slow the start of every worker down.
    if isinstance(code, FunctionType) and not _takes_one(code):
        raise TrainingCodeError(f"{target} must take one argument, the trial: {code.__name__}{_parameters(code)}")
    return code  # type: ignore[no-any-return]


def find(kind: str, target: str, workdir: str = "") -> Any:
    """Return what is called ``NAME`` in a module, for a target ``MODULE:NAME`` or, of a script, ``FILE:NAME``.

    Raises:
        TrainingCodeError: there is no such file, module or name.
        Exception: whatever the module raised when it was imported.
    """
    place, _, name = target.rpartition(":")
    if not place:
        raise TrainingCodeError(f"entrypoint {target!r} names no function: write it as module:function")
    module = _script(Path(workdir, place)) if kind == "script" else _module(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [known for known, value in vars(found).items() if callable(value) and known[:1] != "_"]
            from ashwood.trial.guard import hint_of_guard  # Only errors need it, and workers start fast without.

            hint = hint_of_guard(part, getattr(module, "__file__", None)) or nearest(part, known)
            raise TrainingCodeError(f"{place} has no function {name!r}{hint} (entrypoint: {target})")
        found = getattr(found, part)
    return found


def _module(name: str) -> ModuleType:
    try:
        with _importing(name):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a library that the module itself imports
        there = sorted(path.stem for path in Path.cwd().glob("*.py"))
        raise TrainingCodeError(
            f"there is no module {name!r}{nearest(name, there)} in {Path.cwd()} or among the installed packages"
        ) from None


def _script(path: Path) -> ModuleType:
    """Import a script under its own name, so that what it pickles can be loaded by any program that can import it.

    It is also ``__main__``, so that workers can load what the script pickled when it was run.
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
    """Return the path of the file that a function or a script is in, relative to the work directory or absolute."""
    place = target.rpartition(":")[0]
    return f"{place.replace('.', os.sep)}.py" if kind == "function" else place


def module_name(path: Path) -> str:
    """Return the name under which programs beside a script import it."""
    return path.stem


def is_file_of(module: ModuleType, path: Path) -> bool:
    """Return whether a module comes from a file."""
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path.resolve()


def put_first(directory: str) -> None:
    """Let this process and those that it starts import modules from a directory before others."""
    sys.path.insert(0, directory)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (directory, os.environ.get("PYTHONPATH"))))


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
    import cloudpickle  # only here: most workers start faster without

    with path.open("rb") as file:
        code = cloudpickle.load(file)
    # Classes of a notebook come along and still say that they are of __main__: there `pickle` looks for them when
    # training code saves an object of them.
    main = sys.modules["__main__"]
    for value in list(getattr(function_of(code), "__globals__", {}).values()):
        if isinstance(value, type | FunctionType) and value.__module__ == "__main__":
            setattr(main, value.__qualname__, value)
    return code


def function_of(code: Any) -> Any:
    """Return the Python function that runs when a callable is called, or the callable itself if there is none."""
    while isinstance(code, partial):
        code = code.func
    if not isinstance(code, FunctionType | MethodType):
        code = getattr(type(code), "__call__", code)  # noqa: B004 - its function is wanted
    return getattr(code, "__func__", code)
