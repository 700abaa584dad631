"""Samplers for data loaders of one's own: repeat, skip, shard among processes, and shuffle reproducibly.

Combine them in this order: shuffle, repeat, shard, skip.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from torch.utils.data import BatchSampler, Sampler


class _Wrapper:
    """A sampler that changes what another sampler yields.  Its length is that of the other sampler."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler

    def __len__(self) -> int:
        return len(self._sampler)


class RepeatSampler(_Wrapper, Sampler[Any]):
    """Repeat a sampler without end."""

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from self._sampler


class RepeatBatchSampler(_Wrapper, BatchSampler):
    """Repeat a batch sampler without end."""

    def __init__(self, batch_sampler: Any) -> None:
        super().__init__(batch_sampler)
        self.batch_sampler = batch_sampler

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from self._sampler


class DistributedSampler(_Wrapper, Sampler[Any]):
    """Yield each ``num_workers``-th sample of a sampler, from number ``rank``.

    Its length is rounded up, so it is the same in all processes.
    """

    def __init__(self, sampler: Any, num_workers: int, rank: int) -> None:
        if not 0 <= rank < num_workers:
            raise ValueError(f"rank must be from 0 to {num_workers - 1} (num_workers - 1), not {rank}")
        super().__init__(sampler)
        self._num_workers, self._rank = num_workers, rank

    def __len__(self) -> int:
        return -(-len(self._sampler) // self._num_workers)

    def __iter__(self) -> Iterator[Any]:
        return islice(self._sampler, self._rank, None, self._num_workers)


class DistributedBatchSampler(DistributedSampler, BatchSampler):
    """Yield each ``num_workers``-th batch of a batch sampler, from number ``rank``."""

    def __init__(self, batch_sampler: Any, num_workers: int, rank: int) -> None:
        super().__init__(batch_sampler, num_workers, rank)
        self.batch_sampler = batch_sampler


class SkipSampler(_Wrapper, Sampler[Any]):
    """Skip the first samples of a sampler.  Repeat before you skip, or each epoch skips them."""

    def __init__(self, sampler: Any, skip: int) -> None:
        super().__init__(sampler)
        self._skip = skip

    def __iter__(self) -> Iterator[Any]:
        return islice(self._sampler, self._skip, None)


class SkipBatchSampler(SkipSampler, BatchSampler):
    """Skip the first batches of a batch sampler.  Repeat before you skip, or each epoch skips them."""

    def __init__(self, batch_sampler: Any, skip: int) -> None:
        super().__init__(batch_sampler, skip)
        self.batch_sampler = batch_sampler


class ReproducibleShuffleSampler(_Wrapper, Sampler[Any]):
    """Shuffle the samples of a finite sampler with a seed, in another order in each epoch."""

    def __init__(self, sampler: Any, seed: int) -> None:
        super().__init__(sampler)
        self._rng = np.random.RandomState(seed)

    def __iter__(self) -> Iterator[Any]:
        indices = list(self._sampler)
        self._rng.shuffle(indices)
        return iter(indices)


class ReproducibleShuffleBatchSampler(ReproducibleShuffleSampler, BatchSampler):
    """Shuffle the order of the batches of a finite batch sampler with a seed."""

    def __init__(self, batch_sampler: Any, seed: int) -> None:
        super().__init__(batch_sampler, seed)


def skips(loader: Any) -> bool:
    """Return whether the samplers of a data loader skip batches or samples themselves."""
    pending, seen = [loader], set()
    while pending:
        thing = pending.pop()
        if thing is None or id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, SkipSampler):
            return True
        pending += [getattr(thing, name, None) for name in ("sampler", "batch_sampler", "_sampler")]
    return False
