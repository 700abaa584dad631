"""The random number generators of a process: PyTorch on the CPU and one GPU, NumPy, and `random`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from ashwood.integrations.torch import seed_all


def mixed(*numbers: int) -> int:
    """Return a seed of 63 bits that depends on all of the numbers."""
    return int.from_bytes(sha256(repr(numbers).encode()).digest()[:8]) >> 1


def states(device: Any = None) -> dict[str, Any]:
    """Return the states of all generators, under the names that Determined's checkpoints have.

    They contain tensors and numbers only, so ``torch.load(file, weights_only=True)`` can read them.

    Args:
        device: device of the training; if it is a GPU, its generator is included.
    """
    state: Any = np.random.get_state()
    name, keys, *rest = state
    found = {
        "cpu_rng_state": torch.get_rng_state(),
        "np_rng_state": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "random_rng_state": random.getstate(),
    }
    if device is not None and device.type == "cuda":
        found["gpu_rng_state"] = torch.cuda.get_rng_state(device)
    return found


def restore(found: Mapping[str, Any], device: Any = None) -> None:
    """Restore what `states` returned, also states that Determined saved."""
    name, keys, *rest = found["np_rng_state"]
    if isinstance(keys, torch.Tensor):
        keys = keys.numpy().astype(np.uint32)
    np.random.set_state((name, keys, *rest))
    version, internal, gauss = found["random_rng_state"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(found["cpu_rng_state"])
    if device is not None and device.type == "cuda" and "gpu_rng_state" in found:
        torch.cuda.set_rng_state(found["gpu_rng_state"], device)


@contextmanager
def kept(device: Any = None) -> Iterator[None]:
    """Restore the states of all generators after a block."""
    before = states(device)
    try:
        yield
    finally:
        restore(before, device)


class Stream:
    """Random numbers of their own for code that uses the global generators.

    Inside ``with stream:``, the generators continue where the stream's last block left them.
    """

    def __init__(self, seed: int) -> None:
        with kept():
            seed_all(seed)
            self._states = states()

    def __enter__(self) -> None:
        self._outside = states()
        restore(self._states)

    def __exit__(self, *_: object) -> None:
        self._states = states()
        restore(self._outside)
