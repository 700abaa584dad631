"""Makes a Python callable available to worker processes as training code."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from ashwood.backends.local.load import IMPORTING, find, function_of, module_name
from ashwood.checkpoints.sharing import make_shared
from ashwood.errors import TrainingCodeError
from ashwood.experiment.spec import Entrypoint, EntrypointKind
from ashwood.trial.guard import changed_names, read_source

_LARGE = 50_000_000
"""Largest size in bytes of a pickled callable without a warning."""


def entrypoint_of(train: Callable[..., Any], functions: Path, notes: list[str]) -> Entrypoint:
    """Return the entrypoint by which worker processes load a callable.

    A callable that has a name in a module, or in the script that runs, is imported by that name.  Anything else is
    pickled: closures, methods of objects, callable objects, `functools.partial`, and functions of notebooks.

    Args:
        train: the callable.
        functions: directory for pickled callables.
        notes: list to which warnings for the user are added.
    """
    reference = _reference(train)
    return _pickled(train, functions, notes) if reference is None else Entrypoint(*reference)


def _reference(thing: Any) -> tuple[EntrypointKind, str] | None:
    """Return the kind and the name by which a worker can import a class or a callable, or None if it cannot."""
    name, module = getattr(thing, "__qualname__", None), sys.modules.get(getattr(thing, "__module__", None) or "")
    if not isinstance(name, str) or module is None or not _has(module, name, thing):
        return None
    if module is not sys.modules["__main__"]:
        return EntrypointKind.FUNCTION, f"{module.__name__}:{name}"
    script = running_script()
    if script is None:
        return None
    kind, location = script
    return kind, f"{location}:{name}"


def _has(module: ModuleType, name: str, thing: Any) -> bool:
    """Return whether a module has ``thing`` under a dotted name."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    # Each access to a class method creates a new object, so objects are compared by equality, not identity.
    return found is thing or (found is not None and isinstance(thing, MethodType) and found == thing)


def running_script() -> tuple[EntrypointKind, str] | None:
    """Return how workers import the running program, as a module or as a script, or None if it has no file."""
    main = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if file is None or not Path(file).is_file():
        return None
    # "python -m package.module" gives the module's name, which relative imports need.
    if spec is not None:
        return EntrypointKind.FUNCTION, spec.name
    return EntrypointKind.SCRIPT, str(Path(file).absolute())


def arguments() -> tuple[str, ...]:
    """Return the arguments of the running program, or an empty tuple if it has no file.

    Without a file, for example in a notebook, the arguments are those of the interpreter, not of the user.
    """
    return tuple(sys.argv) if running_script() is not None else ()


def refuse_while_imported(action: str, function: str) -> None:
    """Raise an error if this process is a worker that imports the user's script.

    Without this check, a script that starts a search at its top level would start another search in each worker.

    Args:
        action: what the script does, for the message.
        function: name of the function of `ashwood` that the script calls.

    Raises:
        TrainingCodeError: this process is a worker that imports the script.
    """
    if script := os.environ.get(IMPORTING):
        raise TrainingCodeError(
            f"{script} {action} when it is imported, and worker processes import it to load its training function. "
            f'Put the call of ashwood.{function}() under if __name__ == "__main__":'
        )


def share_main() -> None:
    """Register the running script under the module name that it has in workers.

    Workers import the script under that name, and objects that they pickle refer to their classes by it.
    """
    if (script := running_script()) is not None:
        kind, location = script
        name = location if kind is EntrypointKind.FUNCTION else module_name(Path(location))
        sys.modules.setdefault(name, sys.modules["__main__"])


def _pickled(train: Callable[..., Any], functions: Path, notes: list[str]) -> Entrypoint:
    import hashlib

    name = name_of(train)
    try:
        content = _pickle(train)
    except Exception as error:
        raise TrainingCodeError(
            f"cannot pickle {name!r} for worker processes ({type(error).__name__}: {error}). Define it as a function "
            "of a module, and create the objects that it needs inside the function"
        ) from error
    if len(content) > _LARGE:
        notes.append(
            f"{name!r} is pickled with {len(content) / 1e6:.0f} MB of data, which each worker process loads. Pass the "
            "path of a file as data= instead, and load the file in the training code"
        )
    make_shared(functions)
    path = functions / f"{name.strip('<>')}-{hashlib.sha256(content).hexdigest()[:16]}.pkl"
    path.write_bytes(content)
    return Entrypoint(EntrypointKind.PICKLE, str(path))


def _pickle(train: Callable[..., Any]) -> bytes:
    """Return a pickled callable.  Classes and functions of the script are pickled by name, not by value.

    A class that is pickled by value becomes a new class in each worker.  It would differ from the class that workers
    import from the script, and objects of it that workers pickle could not be loaded.
    """
    import io

    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, type | FunctionType) and thing.__module__ == "__main__":
                reference = _reference(thing)
                if reference is not None:
                    return find, (str(reference[0]), reference[1])
            return super().reducer_override(thing)

    file = io.BytesIO()
    Pickler(file).dump(train)
    return file.getvalue()


def name_of(train: Callable[..., Any]) -> str:
    """Return the name of a callable, of the function in a partial, or of the class of a callable object."""
    if isinstance(train, partial):
        return name_of(train.func)
    return getattr(train, "__name__", None) or type(train).__name__


def changed_under_guard(train: Callable[..., Any]) -> Sequence[str]:
    """Return warnings about names that the training code uses and the script changes under its main guard."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    function = function_of(train)
    if file is None or not isinstance(function, FunctionType) or function.__module__ != "__main__":
        return ()
    changed = sorted(changed_names(read_source(file)) & _names_in(function.__code__))
    if not changed:
        return ()
    names, verb = " and ".join(changed), "are" if len(changed) > 1 else "is"
    return [
        f'{names} {verb} changed under if __name__ == "__main__" in {Path(file).name}. Worker processes do not run '
        "that part, so training code sees the value before the change. Pass the value as data= and read trial.data"
    ]


def _names_in(code: CodeType) -> set[str]:
    """Return the global names and attributes in a code object and in those inside it."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return {*code.co_names, *(name for each in inner for name in _names_in(each))}


def check_signature(train: Callable[..., Any], hparams: Mapping[str, Any] | None = None) -> None:
    """Check that a callable can be called with a trial.

    Args:
        train: the callable.
        hparams: hyperparameters, to recognize a function that takes them as arguments.

    Raises:
        TrainingCodeError: ``train`` is not callable, or does not take one argument.
    """
    if not callable(train):
        raise TrainingCodeError(f"train must be a function that takes a trial, not {train!r}")
    try:
        signature = inspect.signature(train)
    except (ValueError, TypeError):  # Some callables that are written in C have no signature.
        return
    first = next(iter(signature.parameters), None)
    if first is not None and first in (hparams or {}) and first != "trial":
        raise TrainingCodeError(
            f"{name_of(train)}{signature} is called with the trial, not with hyperparameters. Change it to "
            f"{name_of(train)}(trial), and read trial.hparams.{first}"
        )
    try:
        signature.bind(None)
    except TypeError:
        raise TrainingCodeError(
            f"{name_of(train)}{signature} must take one argument, the trial. Bind other arguments with "
            "functools.partial"
        ) from None


def workdir_of(train: Callable[..., Any] | str) -> Path:
    """Return the work directory of training code: the directory from which its module is imported."""
    if isinstance(train, str):
        return Path.cwd()
    owner: Any = train
    while isinstance(owner, partial):
        owner = owner.func
    if isinstance(owner, MethodType):  # A class may inherit the method from a class of a library.
        owner = owner.__self__ if isinstance(owner.__self__, type) else type(owner.__self__)
    name = getattr(owner, "__module__", None)
    if name == "__main__" and (script := running_script()) is not None and script[0] is EntrypointKind.FUNCTION:
        name, file = script[1], sys.modules["__main__"].__file__
    elif name == "__main__" or name not in sys.modules:
        return Path.cwd()
    else:
        file = getattr(sys.modules[name], "__file__", None)
    if file is None:
        return Path.cwd()
    # A module of a package is imported from the directory that contains the top-level package.
    levels = name.count(".") + (Path(file).name == "__init__.py")
    return Path(file).absolute().parents[levels]
