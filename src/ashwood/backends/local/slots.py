"""Plan the slots of this machine, and the environment of each slot's worker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ashwood.errors import BackendError, MachineError
from ashwood.experiment.spec import ExperimentSpec
from ashwood.trial.job import SLOTS

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# Without this variable, PyTorch initializes CUDA when it only counts the GPUs.  Forks could not use CUDA after that.
_FORKABLE = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
_UUID = re.compile(r"\(UUID: ([^)]+)\)")
_CGROUPS = Path("/sys/fs/cgroup")


class Machine(NamedTuple):
    """The CPU cores and GPUs that this process may use.

    Attributes:
        cores: number of CPU cores.
        gpus: names of the GPUs, as CUDA_VISIBLE_DEVICES takes them.
        uuids: UUID for each name whose UUID is known, of a GPU or of a part of one (MIG).
    """

    cores: int
    gpus: tuple[str, ...] = ()
    uuids: Mapping[str, str] = MappingProxyType({})


class Slot(NamedTuple):
    """A place for one worker.

    Attributes:
        number: index of the slot, from 0.
        environment: the whole environment of its worker.
        gpus: names of the GPUs that its worker uses.
    """

    number: int
    environment: Mapping[str, str]
    gpus: tuple[str, ...] = ()


def survey(environment: Mapping[str, str]) -> Machine:
    """Return the cores and GPUs that this process may use; ``environment`` may limit the GPUs."""
    listed = _listed_gpus(environment)
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return Machine(_cores(), tuple(name for name in listed if name.isdecimal()), listed)
    gpus = list(visible_gpus(visible))
    # CUDA also accepts the first characters of a UUID as a name.
    uuids = {gpu: uuid for gpu in gpus for name, uuid in listed.items() if name == gpu or _begins(gpu, name)}
    different: dict[str, str] = {}
    for gpu in gpus:
        different.setdefault(uuids.get(gpu, gpu), gpu)
    return Machine(_cores(), tuple(different.values()), uuids)


def plan_here(spec: ExperimentSpec, workers: int | None) -> tuple[Machine, list[Slot]]:
    """Return the cores and GPUs that this process may use for an experiment, and a slot for each worker.

    Raises:
        MachineError: not even one trial fits on the machine.
        BackendError: ``workers`` is less than 1.
    """
    environment = dict(os.environ)
    machine = survey(environment | dict(spec.environment))
    return machine, plan(spec, machine, workers, environment)


def plan(spec: ExperimentSpec, machine: Machine, workers: int | None, base: Mapping[str, str]) -> list[Slot]:
    """Return one slot for each worker.

    Args:
        spec: the experiment, which defines the GPUs or cores of a trial, and environment variables.
        machine: the cores and GPUs.
        workers: number of workers, or None for as many as fit; if there are fewer GPUs, workers share them.
        base: environment of the driver.

    Raises:
        MachineError: not even one trial fits on the machine.
        BackendError: ``workers`` is less than 1.
    """
    share = spec.slots_per_trial
    kind, there = ("GPU", len(machine.gpus)) if machine.gpus else ("CPU core", machine.cores)
    if workers is not None and workers < 1:
        raise BackendError(f"workers is {workers}, but must be at least 1")
    if there < share and (machine.gpus or workers is None):
        raise MachineError(
            f"resources.slots_per_trial is {share}, but this machine has {there} {kind}{'' if there == 1 else 's'}: "
            f"set it to at most {there}"
        )
    count = workers if workers is not None else there // share
    threads = str(max(1, machine.cores // count))
    slots = []
    for index in range(count):
        environment = dict.fromkeys(_THREADS, threads) | dict(base) | dict(spec.environment)
        environment[SLOTS] = str(share)
        gpus: tuple[str, ...] = ()
        if machine.gpus:
            environment = _FORKABLE | environment
            first = index % (there // share) * share
            gpus = machine.gpus[first : first + share]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        slots.append(Slot(index, environment, gpus))
    return slots


def visible_gpus(names: str) -> Iterator[str]:
    """Yield the names of the GPUs that a value of CUDA_VISIBLE_DEVICES makes visible."""
    for name in map(str.strip, names.split(",")):
        if name in ("", "-1"):  # CUDA ignores all names from the first invalid one on.
            return
        yield name


def _listed_gpus(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the UUID for each name of a GPU: for its number, and for the UUID itself, as ``nvidia-smi`` lists them."""
    if environment.get("CUDA_VISIBLE_DEVICES") == "":
        return {}
    command = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if command is None:
        return {}
    try:
        listing = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=20, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return {}
    uuids: dict[str, str] = {}
    whole: list[str] = []
    for line in listing.splitlines():
        found = _UUID.search(line)
        uuid = found[1] if found else ""
        if line.startswith("GPU "):
            number = line.split(":")[0].removeprefix("GPU ")
            whole = [number, *([uuid] if uuid else [])]
            uuids |= dict.fromkeys(whole, uuid or number)
        elif uuid and line.lstrip().startswith("MIG "):
            # If the name is that of a GPU that is divided into MIG parts, CUDA uses its first part.  So the names of
            # the GPU stand for the UUID of that part.
            uuids |= dict.fromkeys((*whole, uuid), uuid)
            whole = []
    return uuids


def _begins(gpu: str, name: str) -> bool:
    return gpu.startswith(("GPU-", "MIG-")) and name.startswith(gpu)


def _cores() -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *_quotas()]))


def _quotas(root: Path = _CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Yield the limit, in whole cores, of each control group that this process is in, if the group has one."""
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
