"""Whether a process computes on a GPU: such a process can't be forked."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

DEVICES = ("/dev/kfd",)
"""What ROCm opens when it begins to compute."""

_CUDA = "libcuda.so.1"
_INITIALIZED = 0


def holds_gpu(descriptors: Path = Path("/proc/self/fd")) -> bool:
    """Whether this process computes on a GPU, or is about to; its forks couldn't.

    Who only asks what GPUs there are, as NVML does, opens the same devices of NVIDIA's, so CUDA itself is asked.
    """
    return _has_begun(_loaded(_CUDA)) or any(_target(link) in DEVICES for link in _links(descriptors))


def _loaded(library: str) -> ctypes.CDLL | None:
    """A library that is in this process already."""
    try:
        return ctypes.CDLL(library, mode=os.RTLD_NOLOAD)
    except (AttributeError, OSError):  # not there, or a system that can't tell
        return None


def _has_begun(cuda: Any) -> bool:
    """Whether CUDA has been initialized, without doing it."""
    return cuda is not None and cuda.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) == _INITIALIZED


def _links(descriptors: Path) -> list[Path]:
    try:
        return list(descriptors.iterdir())
    except OSError:  # not Linux
        return []


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile
        return ""
