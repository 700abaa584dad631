"""Whether a GPU is in use by a process: such a process can't be forked."""

from __future__ import annotations

from pathlib import Path

DEVICES = ("/dev/nvidia-uvm", "/dev/kfd")
"""What CUDA and ROCm open when they begin to compute; who only asks what GPUs there are opens other devices."""


def holds_gpu(descriptors: Path = Path("/proc/self/fd")) -> bool:
    """Whether this process computes on a GPU, or is about to: its forks couldn't."""
    try:
        links = list(descriptors.iterdir())
    except OSError:  # not Linux
        return False
    return any(_target(link).startswith(DEVICES) for link in links)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile
        return ""
