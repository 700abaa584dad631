"""Reads ``resources``: the slots, GPUs, cores and memory that a trial takes."""

from __future__ import annotations

import re
from math import ceil
from typing import Any

from ashwood.checkpoints.limited import LEAST_LIMIT
from ashwood.config.report import Report
from ashwood.config.shape import MOST_WHOLE, Resources
from ashwood.config.wording import Path, number, shown
from ashwood.experiment.spec import Demand

_RESOURCES: Path = ("resources",)
SLOTS: tuple[Path, ...] = tuple((*_RESOURCES, f"{what}_per_trial") for what in ("slots", "gpus", "cpus"))
"""The keys that set how many slots a trial takes."""
_ONLY_RAY = "is for backend: ray alone"
_BUILT_IN = {
    "cpu": "cpus_per_trial",
    "gpu": "gpus_per_trial",
    "memory": "memory_per_trial",
    "object_store_memory": None,
}
"""Ray's built-in resources, each with the key that sets it, or None if no key does."""

_ZERO = re.compile(r"\s*0+(\.0+)?\s*([kmgt]?i?b?)\s*$", re.IGNORECASE)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b?)", re.IGNORECASE)
_PREFIXES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def read_slots(resources: Resources, report: Report, *, ray: bool) -> int:
    """Return the number of slots that a trial takes, at least 1."""
    gpus, cpus, slots = resources.gpus_per_trial, resources.cpus_per_trial, resources.slots_per_trial
    if not ray:
        gpus, cpus = _whole("gpus_per_trial", gpus, report), _whole("cpus_per_trial", cpus, report)
    elif gpus is not None and gpus > 1 and not gpus.is_integer():
        report.error(
            (*_RESOURCES, "gpus_per_trial"),
            f"must be below 1, so that trials share a GPU, or a whole number of them, not {number(gpus)}",
        )
        gpus = None
    # On a cluster, GPUs and cores are counted separately.  On one machine, slots are either GPUs or cores.
    counted, key = (gpus, "gpus_per_trial") if gpus or ray else (cpus, "cpus_per_trial")
    if slots is not None and counted is not None and max(slots, 1) != max(ceil(counted), 1):
        report.error(
            (*_RESOURCES, "slots_per_trial"),
            f"is {slots}, but {key} is {number(counted)}; a slot is a GPU, or a CPU core where there is no GPU: "
            "keep one of them",
        )
    if gpus and cpus and not ray:
        report.warn(
            (*_RESOURCES, "cpus_per_trial"),
            "has no effect beside gpus_per_trial: trials share the CPU cores evenly",
        )
    return max(1, slots or 0, ceil(counted or 0))


def _whole(key: str, count: float | None, report: Report) -> float | None:
    if count is None or count.is_integer():
        return count
    fix = "write backend: ray, or " if key == "gpus_per_trial" else ""
    report.error(
        (*_RESOURCES, key), f"must be a whole number, not {number(count)}: a fraction {_ONLY_RAY}; {fix}leave it out"
    )
    return None


def read_demand(resources: Resources, report: Report, *, ray: bool) -> Demand:
    """Return what a trial takes besides its slots."""
    gpus, cpus = resources.gpus_per_trial, resources.cpus_per_trial
    if gpus is None and resources.slots_per_trial == 0:
        gpus = 0.0
    memory = _memory(resources.memory_per_trial, report)
    if not ray and memory is not None:
        report.warn(
            (*_RESOURCES, "memory_per_trial"), f"has no effect: it {_ONLY_RAY}; on one machine trials share its memory"
        )
    if ray and gpus == cpus == 0 and not resources.custom_resources:
        report.error((*_RESOURCES, "cpus_per_trial"), "is 0, and so is what else a trial takes: give it something")
    return Demand(cpus, gpus, memory, _custom(resources.custom_resources, report, ray=ray))


def _custom(given: dict[str, float], report: Report, *, ray: bool) -> dict[str, float]:
    path = (*_RESOURCES, "custom_resources")
    if given and not ray:
        report.error(path, f"{_ONLY_RAY}: write backend: ray, or leave it out")
    for name, amount in given.items():
        if name.lower() in _BUILT_IN:
            instead = _BUILT_IN[name.lower()]
            report.error((*path, name), f"can't be set here: {f'write {instead}' if instead else 'it is for Ray'}")
        elif amount <= 0:
            report.error((*path, name), f"must be above 0, not {number(amount)}")
    return given


def _memory(value: Any, report: Report) -> int | None:
    if value is None:
        return None
    size = parse_size(value) if isinstance(value, str) else value
    if isinstance(value, bool) or not isinstance(size, int | float) or not _is_size(size):
        wrong = shown(value)
        report.error((*_RESOURCES, "memory_per_trial"), f"must be bytes, or text such as 8GB or 512MiB, not {wrong}")
        return None
    return int(size)


def read_log_size(value: Any, report: Report) -> int | None:
    """Return the bytes of max_log_size, or None if there is no limit."""
    if value is None or (type(value) in (int, float) and value == 0) or (isinstance(value, str) and _ZERO.match(value)):
        return None
    size = parse_size(value) if isinstance(value, str) else value
    if isinstance(value, bool) or not isinstance(size, int | float) or not _is_size(size):
        wrong = f"must be a size such as 100 MB, in bytes, or 0 for no limit, not {shown(value)}"
    elif size < LEAST_LIMIT:
        wrong = f"must be at least {LEAST_LIMIT // 1000} kB, or 0 for no limit, not {shown(value)}"
    else:
        return int(size)
    report.error(("max_log_size",), wrong)
    return None


def parse_size(text: str) -> int | None:
    """Return the bytes of a size such as ``300MB``, ``1.5GB`` or ``2GiB``, or None if it is not a size above 0."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    unit = match[2].lower()
    base = 1024 if "i" in unit else 1000
    size = float(match[1]) * base ** _PREFIXES[unit.rstrip("b").rstrip("i")]
    return int(size) if 1 <= size <= MOST_WHOLE else None


def _is_size(size: float) -> bool:
    return 1 <= size <= MOST_WHOLE and size == size // 1
