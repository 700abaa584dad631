"""``resources``: the slots, GPUs, cores and memory that a trial takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from ashwood.config.kinds import map_of, number, size, whole
from ashwood.config.report import Report
from ashwood.config.section import Section, key
from ashwood.config.wording import MOST_WHOLE, Path
from ashwood.config.wording import number as digits
from ashwood.experiment.spec import Demand

_ONLY_RAY = "needs backend: ray"
_AMOUNT = number(least=0, most=MOST_WHOLE)


@dataclass(frozen=True, kw_only=True)
class Resources(Section, at=("resources",)):
    """The resources of the machine or the cluster that a trial takes."""

    slots_per_trial: int | None = key(
        whole(), "Slots that a trial takes: GPUs, or CPU cores if there are no GPUs.", otherwise="1"
    )
    gpus_per_trial: float | None = key(
        _AMOUNT,
        "Slots that a trial takes, counted in GPUs.  With backend: ray also a fraction below 1: trials share a GPU.",
        otherwise="its slots",
    )
    cpus_per_trial: float | None = key(
        _AMOUNT,
        "Slots that a trial takes, counted in CPU cores.  With backend: ray the cores that it takes in addition to its "
        "GPUs.",
        otherwise="its slots, or 1",
    )
    memory_per_trial: int | None = key(
        size("bytes, or text such as 8GB or 512MiB"),
        "With backend: ray, the memory that a trial takes: bytes, or text such as 8GB or 512MiB.",
        otherwise="no reservation",
    )
    custom_resources: Mapping[str, float] | None = key(
        map_of(number(above=0), at=("resources", "custom_resources")),
        "With backend: ray, other resources that a trial takes, by their names in the cluster: {name: number}.",
    )

    def slots(self, report: Report, *, ray: bool) -> int:
        """Return the number of slots that a trial takes, at least 1."""
        gpus, cpus, slots = self.gpus_per_trial, self.cpus_per_trial, self.slots_per_trial
        if not ray:
            gpus, cpus = self._whole("gpus_per_trial", report), self._whole("cpus_per_trial", report)
        elif gpus is not None and gpus > 1 and not gpus.is_integer():
            message = f"must be a whole number of GPUs, or less than 1 to share a GPU, not {digits(gpus)}"
            report.error((*self.at, "gpus_per_trial"), message)
            gpus = None
        # On a cluster, GPUs and cores are counted separately.  On one machine, slots are either GPUs or cores.
        counted, name = (gpus, "gpus_per_trial") if gpus or ray else (cpus, "cpus_per_trial")
        if slots is not None and counted is not None and max(slots, 1) != max(ceil(counted), 1):
            report.error(
                (*self.at, "slots_per_trial"),
                f"is {slots}, but {name} is {digits(counted)}: remove one of the two "
                "(a slot is a GPU, or a CPU core on a machine without GPUs)",
            )
        if gpus and cpus and not ray:
            message = "has no effect beside gpus_per_trial: trials share the CPU cores evenly"
            report.warn((*self.at, "cpus_per_trial"), message)
        return max(1, slots or 0, ceil(counted or 0))

    def _whole(self, name: str, report: Report) -> float | None:
        count: float | None = getattr(self, name)
        if count is None or count.is_integer():
            return count
        fix = "write backend: ray, or " if name == "gpus_per_trial" else ""
        message = f"must be a whole number, not {digits(count)}: a fraction {_ONLY_RAY}; {fix}remove it"
        report.error((*self.at, name), message)
        return None

    def demand(self, report: Report, *, ray: bool) -> Demand:
        """Return the resources that a trial takes besides its slots."""
        gpus, cpus, custom = self.gpus_per_trial, self.cpus_per_trial, self.custom_resources or {}
        if gpus is None and self.slots_per_trial == 0:
            gpus = 0.0
        if not ray and self.memory_per_trial is not None:
            message = f"has no effect: it {_ONLY_RAY}; on one machine, trials share the memory"
            report.warn((*self.at, "memory_per_trial"), message)
        if not ray and custom:
            report.error((*self.at, "custom_resources"), f"{_ONLY_RAY}: write that, or remove it")
        if ray and gpus == cpus == 0 and not custom:
            message = "is 0, and a trial takes no other resource: set it, or another resource, above 0"
            report.error((*self.at, "cpus_per_trial"), message)
        return Demand(cpus, gpus, self.memory_per_trial, custom)


SLOTS: tuple[Path, ...] = tuple((*Resources.at, f"{what}_per_trial") for what in ("slots", "gpus", "cpus"))
"""The keys that set how many slots a trial takes."""
