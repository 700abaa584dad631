"""Import modules from another directory: `import_from_path`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import ModuleType


@contextmanager
def import_from_path(path: str | PathLike[str]) -> Iterator[None]:
    """Let imports in a block find modules in a directory first, for example in a checkpoint.

    Modules that the block imports from the directory are removed from `sys.modules` at its end, so the same names can
    be imported from other directories later::

        with det.import_from_path(checkpoint_dir):
            import model_def as trained
        import model_def

    Args:
        path: the directory.
    """
    directory = str(Path(path).resolve())
    before = dict(sys.modules)
    # A module of another directory with the same name must not hide one of this directory.
    hidden = {
        name: module for name, module in before.items() if _has(directory, name) and not _is_in(module, directory)
    }
    for name in hidden:
        del sys.modules[name]
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        sys.path.remove(directory)
        for name, module in list(sys.modules.items()):
            if before.get(name) is not module and _is_in(module, directory):
                del sys.modules[name]
        sys.modules.update(hidden)


def _has(directory: str, name: str) -> bool:
    top = Path(directory, name.partition(".")[0])
    return (top / "__init__.py").is_file() or top.with_suffix(".py").is_file()


def _is_in(module: ModuleType, directory: str) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve().is_relative_to(directory)
