"""How worker processes find training code that is given as a Python callable."""

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
from ashwood.errors import TrainingCodeError
from ashwood.experiment.spec import Entrypoint, EntrypointKind
from ashwood.trial.guard import changed_names, read_source
from ashwood.trial.sharing import make_shared

_LARGE = 50_000_000
"""Bytes of a pickled callable from which on a warning is given."""


def entrypoint_of(train: Callable[..., Any], functions: Path, notes: list[str]) -> Entrypoint:
    """Return how worker processes find a callable.

    What a module, or the script that is run, has under a name is imported there. Anything else is pickled: closures,
    methods of objects, callable objects, `functools.partial` and functions of notebooks.
    """
    reference = _reference(train)
    return _pickled(train, functions, notes) if reference is None else Entrypoint(*reference)


def _reference(thing: Any) -> tuple[EntrypointKind, str] | None:
    """Return how a worker can find a class or a callable by name, or None if it cannot."""
    name, module = getattr(thing, "__qualname__", None), sys.modules.get(getattr(thing, "__module__", None) or "")
    if not isinstance(name, str) or module is None or not _has(module, name, thing):
        return None
    if module is not sys.modules["__main__"]:
        return EntrypointKind.FUNCTION, f"{module.__name__}:{name}"
    place = running_script()
    if place is None:
        return None
    kind, where = place
    return kind, f"{where}:{name}"


def _has(module: ModuleType, name: str, thing: Any) -> bool:
    """Return whether a module has a thing under a dotted name."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    # Each look at a class method makes a new object, which equals the others.
    return found is thing or (found is not None and isinstance(thing, MethodType) and found == thing)


def running_script() -> tuple[EntrypointKind, str] | None:
    """Return how workers import the program that runs: as a module or as a script; None if it has no file."""
    main = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if file is None or not Path(file).is_file():
        return None
    # "python -m package.module" gives the module's name, which relative imports need.
    if spec is not None:
        return EntrypointKind.FUNCTION, spec.name
    return EntrypointKind.SCRIPT, str(Path(file).absolute())


def arguments() -> tuple[str, ...]:
    """Return the arguments of the program that runs, or nothing if it has no file: then they are not the user's."""
    return tuple(sys.argv) if running_script() is not None else ()


def refuse_while_imported(action: str, function: str) -> None:
    """Raise an error if a worker process imports the program that runs.

    Args:
        action: what the program does, for the message.
        function: the function of `ashwood` that it calls.

    Raises:
        TrainingCodeError: a worker imports it.
    """
    if script := os.environ.get(IMPORTING):
        raise TrainingCodeError(
            f"{script} {action} when it is imported, as worker processes do to find its training function: "
            f'put the call of ashwood.{function}() under if __name__ == "__main__":'
        )


def share_main() -> None:
    """Make the script that runs known under its own name: objects that workers pickle name their classes by it."""
    if (script := running_script()) is not None:
        kind, where = script
        name = where if kind is EntrypointKind.FUNCTION else module_name(Path(where))
        sys.modules.setdefault(name, sys.modules["__main__"])


def _pickled(train: Callable[..., Any], functions: Path, notes: list[str]) -> Entrypoint:
    import hashlib

    name = name_of(train)
    try:
        content = _pickle(train)
    except Exception as error:
        raise TrainingCodeError(
            f"{name!r} can't be sent to worker processes ({type(error).__name__}: {error}); make it a function of a "
            "module, and load in it what it needs"
        ) from error
    if len(content) > _LARGE:
        notes.append(
            f"{name!r} carries {len(content) / 1e6:.0f} MB of data along, which each worker process loads: pass the "
            "path of a file as data=, and load it in the training code"
        )
    make_shared(functions)
    path = functions / f"{name.strip('<>')}-{hashlib.sha256(content).hexdigest()[:16]}.pkl"
    path.write_bytes(content)
    return Entrypoint(EntrypointKind.PICKLE, str(path))


def _pickle(train: Callable[..., Any]) -> bytes:
    """Return a callable as bytes. Classes and functions of the script are named in it, not copied.

    A copied class would be another class than the one that workers import from the script, and what they pickle of
    it could not be loaded.
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
    """Return a name for a callable: its own, that of the function of a partial, or that of the class of an object."""
    if isinstance(train, partial):
        return name_of(train.func)
    return getattr(train, "__name__", None) or type(train).__name__


def changed_under_guard(train: Callable[..., Any]) -> Sequence[str]:
    """Return a warning if training code of the script uses names that the script changes under its main guard."""
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
        "that part, so training code sees the value from before: pass it as data= and read trial.data"
    ]


def _names_in(code: CodeType) -> set[str]:
    """Return the global names and attributes in a code object and in those inside it."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return {*code.co_names, *(name for each in inner for name in _names_in(each))}


def check_signature(train: Callable[..., Any], hparams: Mapping[str, Any] | None = None) -> None:
    """Make sure that a callable can be called with a trial.

    Raises:
        TrainingCodeError: it cannot.
    """
    if not callable(train):
        raise TrainingCodeError(f"train must be a function that takes a trial, not {train!r}")
    try:
        signature = inspect.signature(train)
    except (ValueError, TypeError):  # A callable of C may have none.
        return
    first = next(iter(signature.parameters), None)
    if first is not None and first in (hparams or {}) and first != "trial":
        raise TrainingCodeError(
            f"{name_of(train)}{signature} is called with the trial, not with hyperparameters: make it "
            f"{name_of(train)}(trial), and read trial.hparams.{first}"
        )
    try:
        signature.bind(None)
    except TypeError:
        raise TrainingCodeError(
            f"{name_of(train)}{signature} must take one argument, the trial; give others with functools.partial"
        ) from None


def workdir_of(train: Callable[..., Any] | str) -> Path:
    """Return where the training code runs: the directory that its module is imported from."""
    if isinstance(train, str):
        return Path.cwd()
    owner: Any = train
    while isinstance(owner, partial):
        owner = owner.func
    name = getattr(owner, "__module__", None)
    if name == "__main__" and (script := running_script()) is not None and script[0] is EntrypointKind.FUNCTION:
        name, file = script[1], sys.modules["__main__"].__file__
    elif name == "__main__" or name not in sys.modules:
        return Path.cwd()
    else:
        file = getattr(sys.modules[name], "__file__", None)
    if file is None:
        return Path.cwd()
    # A module of a package is imported from the directory that the package lies in.
    levels = name.count(".") + (Path(file).name == "__init__.py")
    return Path(file).absolute().parents[levels]
