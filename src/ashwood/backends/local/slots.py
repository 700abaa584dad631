"""What this machine has room for, and the environment in which each worker runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ashwood.errors import BackendError
from ashwood.experiment.spec import ExperimentSpec

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# PyTorch asks then what GPUs there are without beginning to compute on them, after which no fork could.
_FORKABLE = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
_CGROUPS = Path("/sys/fs/cgroup")


class Machine(NamedTuple):
    """What there is to run on.

    Attributes:
        cores: how many CPU cores this process may use.
        gpus: the GPUs, by the names that CUDA_VISIBLE_DEVICES takes.
    """

    cores: int
    gpus: tuple[str, ...] = ()


class Slot(NamedTuple):
    """Room for one worker.

    Attributes:
        number: which of the slots it is, counted from 0.
        environment: the whole environment of its worker.
        has_gpu: whether a GPU belongs to it.
    """

    number: int
    environment: Mapping[str, str]
    has_gpu: bool


def survey(environment: Mapping[str, str]) -> Machine:
    """The machine, as far as this process, with this environment, may use it."""
    return Machine(_cores(), tuple(_gpus(environment)))


def plan(spec: ExperimentSpec, machine: Machine, workers: int | None, base: Mapping[str, str]) -> list[Slot]:
    """One slot per worker.

    Args:
        spec: says how many GPUs or cores a trial takes, and which variables its author set.
        machine: what there is.
        workers: how many workers, instead of as many as fit; they share GPUs where those are fewer.
        base: the environment of the driver.

    Raises:
        BackendError: not even one trial fits.
    """
    share = spec.slots_per_trial
    kind, there = ("GPU", len(machine.gpus)) if machine.gpus else ("CPU core", machine.cores)
    if workers is not None and workers < 1:
        raise BackendError(f"workers is {workers}, but at least 1 is needed")
    if there < share and (machine.gpus or workers is None):
        raise BackendError(
            f"resources.slots_per_trial is {share}, but this machine has {there} {kind}{'' if there == 1 else 's'}: "
            f"set it to at most {there}"
        )
    count = workers if workers is not None else there // share
    threads = str(max(1, machine.cores // count))
    slots = []
    for index in range(count):
        environment = dict.fromkeys(_THREADS, threads) | dict(base) | dict(spec.environment)
        if machine.gpus:
            environment = _FORKABLE | environment
            first = index % (there // share) * share
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(machine.gpus[first : first + share])
        slots.append(Slot(index, environment, bool(machine.gpus)))
    return slots


def visible_gpus(names: str) -> Iterator[str]:
    """The GPUs that a value of CUDA_VISIBLE_DEVICES leaves visible."""
    for name in map(str.strip, names.split(",")):
        if name in ("", "-1"):  # CUDA itself sees nothing from here on
            return
        yield name


def _gpus(environment: Mapping[str, str]) -> Iterator[str]:
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        yield from visible_gpus(visible)
        return
    command = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if command is None:
        return
    try:
        listing = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=20, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return
    yield from (line.split(":")[0].removeprefix("GPU ") for line in listing.splitlines() if line.startswith("GPU "))


def _cores() -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *_quotas()]))


def _quotas(root: Path = _CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Whole cores that each control group above this process grants."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            group = root / path.lstrip("/")
            for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(root))):
                yield from _quota(folder / "cpu.max")
        elif "cpu" in controllers.split(","):
            yield from _quota(root / "cpu" / "cpu.cfs_quota_us", root / "cpu" / "cpu.cfs_period_us")


def _quota(*files: Path) -> Iterator[int]:
    try:
        quota, period = (word for file in files for word in file.read_text().split())
        if quota != "max" and int(quota) > 0:
            yield max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return
