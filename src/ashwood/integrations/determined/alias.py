"""Imports modules of this package under the name ``determined``, each of them only once.

``determined.core`` and ``ashwood.integrations.determined.core`` are the same module object, so a class has one identity
under both names.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any

NAME = "determined"
_PACKAGE = __package__

_NOT_OFFERED = {
    "common": "it is the client of a Determined master",
    "cli": "it is the command of Determined; use the command ashwood",
    "deploy": "there is nothing to deploy",
    "estimator": "Ashwood has no Estimator, and neither have recent versions of TensorFlow",
    "exec": "it belongs to Determined's containers",
    "experimental": (
        "it is the client of a Determined master, or core_v2; for experiments and their checkpoints use "
        "ashwood.open_experiment(ID), and for training code det.core"
    ),
    "keras": "call ashwood.keras.fit(trial, model, …)",
    "launch": "write a command with the launcher itself, such as deepspeed, mpirun, horovodrun or accelerate launch",
    "lightning": "call ashwood.lightning.fit(trial, …)",
    "pytorch": "use det.core, or ashwood.torch.state(trial, …)",
    "pytorch.deepspeed": (
        "DeepSpeedTrial is not offered; write a training function, and start it with the launcher deepspeed"
    ),
    "pytorch.dsat": "Ashwood has no autotuning of DeepSpeed; search its settings as hyperparameters",
    "pytorch.experimental": "Ashwood has no batch inference",
    "pytorch.lightning": "the LightningAdapter is not offered; call ashwood.lightning.fit(trial, …)",
    "ray": "Ashwood itself runs trials on a Ray cluster, see backend in the experiment file",
    "searcher": "outside code cannot drive a search; the search methods of the experiment file can",
    "tensorboard": "Ashwood stores no TensorBoard files; training code may write them into trial.directory",
    "transformers": "call ashwood.transformers.train(trial, trainer)",
    "util": "it is for Determined's own use",
}
"""Modules of Determined that do not exist here, with what to do instead."""


class _Loader(Loader):
    """Loads a module by importing the module of this package that it stands for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module of this package."""
        module = import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing but restore the spec that the import system has replaced: the module was executed already."""
        module.__spec__ = self._spec

    def get_code(self, name: str) -> CodeType | None:
        """Return the code of the module, for ``python -m``."""
        spec = find_spec(self._name)
        loader: Any = None if spec is None else spec.loader
        return None if loader is None else loader.get_code(self._name)


class _Finder(MetaPathFinder):
    """Finds modules of ``determined`` in this package."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the spec of a module, or None if it does not belong to ``determined``.

        Raises:
            ModuleNotFoundError: this package has no such module; the message says what to do instead.
        """
        if not fullname.startswith(f"{NAME}."):
            return None
        name = f"{_PACKAGE}.{fullname.removeprefix(f'{NAME}.')}"
        found = find_spec(name)
        if found is None:
            raise ModuleNotFoundError(not_offered(fullname), name=fullname)
        is_package = found.submodule_search_locations is not None
        spec = ModuleSpec(fullname, _Loader(name), origin=found.origin, is_package=is_package)
        if is_package:
            spec.submodule_search_locations = found.submodule_search_locations
        spec.has_location = found.has_location
        return spec


def install() -> None:
    """Let ``import determined`` import this package."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    sys.modules[NAME] = import_module(_PACKAGE)


def not_offered(name: str) -> str:
    """Return the message for a module or an attribute of ``determined`` that does not exist here."""
    tail = name.removeprefix(f"{NAME}.")
    parts = tail.split(".")
    keys = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    why = next((_NOT_OFFERED[key] for key in keys if key in _NOT_OFFERED), "Ashwood has no replacement for it")
    return f"{NAME}.{tail} is not available: {NAME} is not installed, Ashwood takes its place, and {why}"
