"""What surrounds training code: slots, environment variables, the directory for checkpoints."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from ashwood.config.checking import must_be
from ashwood.config.report import Report
from ashwood.config.shape import Resources
from ashwood.config.wording import Path, all_of, any_of, nearest, not_one_of, shown

VARIABLES: Path = ("environment", "environment_variables")
STORAGE: Path = ("checkpoint_storage",)

_DEVICES = ("cpu", "cuda", "gpu", "rocm")
_REMOTE = ("s3", "gcs", "azure", "hdfs")
_LOCAL_KEYS = {
    "shared_fs": ("host_path", "storage_path"),
    "directory": ("container_path",),
}
_GARBAGE_COLLECTION = ("save_experiment_best", "save_trial_best", "save_trial_latest")
_WITHOUT_EFFECT = {
    "propagation": "nothing is mounted",
    "tensorboard_path": "Ashwood stores no TensorBoard files",
    "checkpoint_path": "storage_path is its later name",
    "container_path": "host_path is the directory, as there are no containers",
}
_LOCAL_INSTEAD = "checkpoints are kept in a directory; write checkpoint_storage: /path, which may be a mounted bucket"


def read_slots(resources: Resources, report: Report) -> int:
    """How many slots a trial takes: at least one."""
    gpus, cpus, slots = resources.gpus_per_trial, resources.cpus_per_trial, resources.slots_per_trial
    counted, key = (gpus, "gpus_per_trial") if gpus else (cpus, "cpus_per_trial")
    if slots is not None and counted is not None and max(slots, 1) != max(counted, 1):
        report.error(
            ("resources", "slots_per_trial"),
            f"is {slots}, but {key} is {counted}; a slot is a GPU, or a CPU core where there is no GPU: "
            "keep one of them",
        )
    if gpus and cpus:
        report.warn(
            ("resources", "cpus_per_trial"),
            "has no effect beside gpus_per_trial: trials share the CPU cores evenly",
        )
    return max(1, slots or 0, counted or 0)


# -- environment variables -----------------------------------------------------------------------


def read_variables(value: Any, report: Report) -> dict[str, str]:
    """Environment variables by name."""
    if value is None:
        return {}
    if isinstance(value, list):
        return _from_list(value, VARIABLES, report)
    if not isinstance(value, Mapping):
        report.error(VARIABLES, must_be('a list of "NAME=value" or a map', value))
        return {}
    if value and all(key in _DEVICES and (each is None or isinstance(each, list)) for key, each in value.items()):
        return _from_devices(value, report)
    return {name: str(text) for name, text in value.items() if _is_variable(name, text, (*VARIABLES, name), report)}


def _from_devices(value: Mapping[str, Any], report: Report) -> dict[str, str]:
    used = [device for device in _DEVICES if device != "rocm" and value.get(device)]
    unused = "; those of rocm are left out" if value.get("rocm") else ""
    report.warn(VARIABLES, f"every trial gets the variables of {' and '.join(used) or 'none'} alike{unused}")
    variables: dict[str, str] = {}
    for device in used:
        variables |= _from_list(value[device], (*VARIABLES, device), report)
    return variables


def _from_list(items: list[Any], at: Path, report: Report) -> dict[str, str]:
    variables: dict[str, str] = {}
    for position, item in enumerate(items):
        path = (*at, position)
        if not isinstance(item, str):
            report.error(path, must_be('text such as "NAME=value"', item))
            continue
        name, equals, text = item.partition("=")
        if not equals or not name.strip():
            report.error(path, f'must read "NAME=value", not {shown(item)}')
        elif _is_variable(name, text, path, report):
            if name in variables:
                report.warn(path, f"{name} is given twice; the last one counts")
            variables[name] = text
    return variables


def _is_variable(name: str, text: Any, path: Path, report: Report) -> bool:
    if not re.fullmatch(r"[^=\0\s]+", name):
        report.error(path, f"{shown(name)} can't be the name of an environment variable")
    elif isinstance(text, bool) or not isinstance(text, str | int):
        report.error(path, must_be("text", text))
    elif "\0" in str(text):
        report.error(path, "must not hold a NUL character")
    else:
        return True
    return False


# -- checkpoints ------------------------------------------------------------------------------------


def absolute(text: str, workdir: FilePath) -> str:
    """A path of the file, relative to the file's directory."""
    return str((workdir / FilePath(text).expanduser()).absolute())


def read_storage(value: Any, workdir: FilePath, report: Report) -> str | None:
    """The directory for checkpoints; None: inside the home."""
    if value is None:
        return None
    if isinstance(value, str):
        scheme, colon, _ = value.partition("://")
        if not value.strip():
            report.error(STORAGE, "must not be empty")
        elif colon and scheme != "file":
            report.error(STORAGE, f"{shown(value)} is no directory: for now {_LOCAL_INSTEAD}")
        else:
            return absolute(value.removeprefix("file://"), workdir)
        return None
    if not isinstance(value, Mapping):
        report.error(STORAGE, must_be("a directory", value))
        return None
    return _from_map(value, workdir, report)


def _from_map(value: Mapping[str, Any], workdir: FilePath, report: Report) -> str | None:
    kind = value.get("type")
    _warn_of_garbage_collection(value, report)
    if kind is None and not any(key in value for key in ("host_path", "container_path", "bucket")):
        _read_paths(None, value, report)
        return None
    if kind in _REMOTE:
        report.error((*STORAGE, "type"), f"{kind} isn't offered: for now {_LOCAL_INSTEAD}")
        return None
    if kind is None:
        report.error(
            (*STORAGE, "type"), "is missing: write checkpoint_storage: /path, or type: shared_fs with host_path"
        )
        return None
    if not isinstance(kind, str) or kind not in _LOCAL_KEYS:
        report.error((*STORAGE, "type"), not_one_of(kind, tuple(_LOCAL_KEYS), "a type of storage that is offered"))
        return None
    paths = _read_paths(kind, value, report)
    main, inner = paths.get(_LOCAL_KEYS[kind][0]), paths.get("storage_path")
    if main is None:
        return None
    if inner is None:
        return absolute(main, workdir)
    if not _inside(main, inner):
        message = f"must be relative to host_path, or inside {main}, not {shown(inner)}"
        report.error((*STORAGE, "storage_path"), message)
        return None
    return absolute(inner, FilePath(absolute(main, workdir)))


def _warn_of_garbage_collection(value: Mapping[str, Any], report: Report) -> None:
    collected = [key for key in _GARBAGE_COLLECTION if value.get(key) is not None]
    if collected:
        message = f"no effect of {all_of(collected)}; for now the latest checkpoint of every trial is kept"
        report.warn((*STORAGE, collected[0]), message)


def _inside(main: str, inner: str) -> bool:
    whole = os.path.normpath(FilePath(main) / inner)
    return FilePath(whole).is_relative_to(os.path.normpath(main))


def _read_paths(kind: str | None, value: Mapping[str, Any], report: Report) -> dict[str, str]:
    """The paths among the keys; checks that there are no others."""
    known = _LOCAL_KEYS[kind] if kind else ()
    paths: dict[str, str] = {}
    misspelt: set[str] = set()
    for key, each in value.items():
        path = (*STORAGE, key)
        if key == "type" or key in _GARBAGE_COLLECTION or each is None:
            continue
        if key in known and isinstance(each, str) and each:
            paths[key] = each
        elif key in known:
            report.error(path, must_be("a directory", each))
            misspelt.add(key)
        elif key in _WITHOUT_EFFECT:
            report.warn(path, f"has no effect; {_WITHOUT_EFFECT[key]}")
        else:
            close = nearest(key, ("type", *known, *_GARBAGE_COLLECTION))
            misspelt.add(close or "")
            hint = (
                f"did you mean {close}?" if close else f"{kind} takes {any_of(known)}" if kind else "here may be type"
            )
            report.error(path, f"unknown key; {hint}")
    if known and known[0] not in paths and known[0] not in misspelt:
        report.error((*STORAGE, known[0]), f"is missing: {kind} needs it, the directory for checkpoints")
    return paths
