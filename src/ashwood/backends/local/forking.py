"""Whether forks of a process can compute: not where it computes on a GPU, or has a team of OpenMP's threads."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEVICES = ("/dev/kfd",)
"""What ROCm opens when it begins to compute."""

_CUDA = "libcuda.so.1"
_INITIALIZED = 0
_OPENMP = "libgomp"
_PATIENCE = 2.0


def obstacle() -> str | None:
    """What this process has done so that its forks can't compute, as the verb of a sentence; None: nothing."""
    if holds_gpu():
        return "uses the GPU"
    return None if teams_survive() else "computes in threads (OpenMP)"


def holds_gpu(descriptors: Path = Path("/proc/self/fd")) -> bool:
    """Whether this process computes on a GPU, or is about to.

    Who only asks what GPUs there are, as NVML does, opens the same devices of NVIDIA's, so CUDA itself is asked.
    """
    return _has_begun(_loaded(_CUDA)) or any(_target(link) in DEVICES for link in _links(descriptors))


def teams_survive() -> bool:
    """Whether OpenMP, as GNU has it, starts threads in a fork.

    Where this process has a team already, a fork would wait for its threads for ever, which aren't there.  No
    function tells, so a fork tries it.
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
    """Libraries of this process whose names begin so; packages bring their own."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:  # not Linux
        return
    paths = {line[line.index("/") :] for line in lines if "/" in line}
    for path in sorted(path for path in paths if Path(path).name.startswith(name)):
        if (library := _loaded(path)) is not None:
            yield library


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
