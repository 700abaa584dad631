"""Find out whether forks of this process can compute.

They cannot if this process has initialized a GPU, or if it has started a team of OpenMP threads.  A fork has only the
thread that called fork(), so code that waits for the other threads waits for ever.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEVICES = ("/dev/kfd",)
"""Devices that ROCm opens when it begins to compute."""

_CUDA = "libcuda.so.1"
_INITIALIZED = 0
_OPENMP = "libgomp"
_PATIENCE = 2.0
"""Seconds after which a fork that tries OpenMP counts as stuck."""


def obstacle() -> str | None:
    """Return why forks of this process cannot compute, as the predicate of a sentence, or None if they can."""
    if holds_gpu():
        return "uses the GPU"
    return None if teams_survive() else "computes in threads (OpenMP)"


def holds_gpu(descriptors: Path = Path("/proc/self/fd")) -> bool:
    """Return whether this process has initialized a GPU.

    For NVIDIA, open devices do not show this: NVML opens the same devices only to list the GPUs.  So CUDA itself is
    asked.
    """
    return _has_begun(_loaded(_CUDA)) or any(_target(link) in DEVICES for link in _links(descriptors))


def teams_survive() -> bool:
    """Return whether GNU OpenMP can start threads in a fork of this process.

    If this process has a team of threads, a fork that uses OpenMP waits for ever for threads that it does not have.  No
    function of OpenMP shows whether there is a team.  So a fork runs an empty parallel region, with an alarm that kills
    it if it is stuck.
    """
    libraries = list(_mapped(_OPENMP))
    if not libraries:
        return True
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
            nothing = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p)
            for library in libraries:
                library.GOMP_parallel(nothing, None, 2, 0)
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _mapped(name: str) -> Iterator[ctypes.CDLL]:
    """Yield the loaded libraries whose names begin with ``name``.  There may be several, from different packages."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:  # not Linux
        return
    paths = {line[line.index("/") :] for line in lines if "/" in line}
    for path in sorted(path for path in paths if Path(path).name.startswith(name)):
        if (library := _loaded(path)) is not None:
            yield library


def _loaded(library: str) -> ctypes.CDLL | None:
    """Return a library that is loaded in this process, or None if it is not or if the system cannot tell."""
    try:
        return ctypes.CDLL(library, mode=os.RTLD_NOLOAD)
    except (AttributeError, OSError):
        return None


def _has_begun(cuda: Any) -> bool:
    """Return whether CUDA has been initialized.  The call itself does not initialize it."""
    return cuda is not None and cuda.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) == _INITIALIZED


def _links(descriptors: Path) -> list[Path]:
    try:
        return list(descriptors.iterdir())
    except OSError:  # not Linux
        return []


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # The descriptor was closed meanwhile.
        return ""
