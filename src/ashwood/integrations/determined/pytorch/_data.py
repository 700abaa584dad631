"""Data loaders that continue at the batch at which a trial stopped, and data on its way to the device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from torch.utils import data

from ashwood.integrations.determined.pytorch import samplers
from ashwood.integrations.determined.pytorch._random import Stream, mixed
from ashwood.integrations.torch import seed_all

logger = logging.getLogger("determined.pytorch")

TorchData = Any
"""A tensor, or a list, tuple or dictionary of tensors."""


class DataLoader:
    """A data set, and how it is sampled and loaded.

    The arguments are those of `torch.utils.data.DataLoader`.  The training loop calls `get_data_loader`, so that it
    starts at the right batch and each process loads its share.

    In training, the order of the data depends on the seed of the trial and the epoch only.  The random numbers of a
    sampler of your own do not affect the rest of the training.  With ``num_workers``, the random numbers in the loading
    of a batch depend on the seed and the number of the batch.

    Raises:
        ValueError: the arguments contradict each other, or the data set is an `IterableDataset`.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool = False,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
    ) -> None:
        if isinstance(dataset, data.IterableDataset):
            raise ValueError(
                "determined.pytorch.DataLoader cannot load an IterableDataset: return a torch.utils.data.DataLoader, "
                "and call context.experimental.disable_dataset_reproducibility_checks() in the trial's __init__"
            )
        if batch_sampler is None and batch_size is None:
            raise ValueError("determined.pytorch.DataLoader needs a batch_size or a batch_sampler")
        # PyTorch checks the arguments, and creates the samplers and the default of collate_fn.
        loader = data.DataLoader(
            dataset,
            batch_size=batch_size,
            shuffle=shuffle,
            sampler=sampler,
            batch_sampler=batch_sampler,
            num_workers=num_workers,
            collate_fn=collate_fn,
            pin_memory=pin_memory,
            drop_last=drop_last,
            timeout=timeout,
            worker_init_fn=worker_init_fn,
            multiprocessing_context=multiprocessing_context,
            generator=generator,
            prefetch_factor=prefetch_factor,
            persistent_workers=persistent_workers,
        )
        self.dataset = dataset
        self.batch_size = loader.batch_size
        self.drop_last = loader.drop_last
        self.sampler = loader.sampler
        self.batch_sampler = loader.batch_sampler
        self.num_workers = num_workers
        self.collate_fn = loader.collate_fn
        self.pin_memory = pin_memory
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.generator = generator
        self.prefetch_factor = prefetch_factor
        self.persistent_workers = persistent_workers
        self._shuffles = shuffle and generator is None
        self._is_own_sampler = sampler is not None or batch_sampler is not None

    def get_data_loader(
        self, repeat: bool = False, skip: int = 0, num_replicas: int = 1, rank: int = 0, *, seed: int | None = None
    ) -> Any:
        """Return a `torch.utils.data.DataLoader` for one process.

        Args:
            repeat: whether to repeat the data without end.
            skip: number of batches to skip at the beginning.
            num_replicas: number of processes that share the data.
            rank: number of this process.
            seed: seed of the order of the data, or None to use PyTorch's global generator.
        """
        batches, dataset, number = self.batch_sampler, self.dataset, skip
        if seed is not None:
            jumps = self._shuffles or not (self._is_own_sampler or self.generator is not None)
            first, skip = self._jump(skip, num_replicas) if repeat and jumps else (0, skip)
            batches = _Epochs(self._of_epoch(seed), len_of(self.batch_sampler), first, repeat)
            repeat = False
        if repeat or num_replicas > 1 or skip:
            batches = adapt_batch_sampler(batches, repeat, skip, num_replicas, rank)
        if seed is not None and self.num_workers > 0:
            batches, dataset = _Numbered(batches, mixed(seed, rank), number), _SeededDataset(dataset)
        return data.DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=self.num_workers,
            collate_fn=self.collate_fn,
            pin_memory=self.pin_memory,
            timeout=self.timeout,
            worker_init_fn=self.worker_init_fn,
            multiprocessing_context=self.multiprocessing_context,
            generator=self.generator,
            prefetch_factor=self.prefetch_factor,
            persistent_workers=self.persistent_workers,
        )

    def _jump(self, skip: int, num_replicas: int) -> tuple[int, int]:
        """Return the epoch of the first batch after ``skip`` batches, and the number of batches to skip from there."""
        length = len(self.batch_sampler)
        # Epochs are not aligned with the processes if their number does not divide the number of batches, so only
        # whole multiples of that many epochs are left out.
        epochs = skip // length * num_replicas if length else 0
        return epochs, skip - epochs // num_replicas * length

    def _of_epoch(self, seed: int) -> Callable[[int], Iterator[Any]]:
        """Return the function that yields the batches of an epoch."""
        if self._shuffles:
            size, drops = self.batch_size, self.drop_last

            def shuffled(epoch: int) -> Iterator[Any]:
                generator = torch.Generator().manual_seed(mixed(seed, epoch))
                return iter(data.BatchSampler(data.RandomSampler(self.dataset, generator=generator), size, drops))

            return shuffled
        if not self._is_own_sampler:
            return lambda _: iter(self.batch_sampler)
        return lambda epoch: _isolated(self.batch_sampler, mixed(seed, epoch))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.get_data_loader())

    def __len__(self) -> int:
        return len(self.batch_sampler)


def _isolated(batch_sampler: Any, seed: int) -> Iterator[Any]:
    """Yield the batches of a sampler that may use the global generators, with random numbers of its own."""
    stream = Stream(seed)
    with stream:
        batches = iter(batch_sampler)
    while True:
        with stream:
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


class _Epochs(data.BatchSampler):
    """The batches of one epoch, or of all epochs from ``first``."""

    def __init__(self, of_epoch: Callable[[int], Iterator[Any]], length: int | None, first: int, repeat: bool) -> None:
        self._of_epoch, self._length, self._first, self._repeat = of_epoch, length, first, repeat

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError("the batch sampler has no length")
        return self._length

    def __iter__(self) -> Iterator[Any]:
        for epoch in count(self._first):
            is_empty = True
            for batch in self._of_epoch(epoch):
                is_empty = False
                yield batch
            if is_empty and self._repeat:
                raise ValueError("the training data loader is empty: it has no batch")
            if not self._repeat:
                return


class _Numbered(data.BatchSampler):
    """The batches of another sampler, each with a seed that depends on its number."""

    def __init__(self, batch_sampler: Any, seed: int, first: int) -> None:
        self._batches, self._seed, self._first = batch_sampler, seed, first

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self._batches, self._first):
            seeded = _Indices(batch)
            seeded.seed = mixed(self._seed, number)
            yield seeded


class _Indices(list[Any]):
    """The indices of a batch, and the seed with which they are loaded."""

    seed: int


class _SeededDataset(data.Dataset[Any]):
    """A data set that loads each batch with random numbers of its own, in whichever process that happens."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getattr__(self, name: str) -> Any:
        if name == "_dataset":  # It is not set yet while an object is being unpickled.
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: Any) -> Any:
        return self._dataset[index]

    def __getitems__(self, indices: _Indices) -> Any:
        seed_all(indices.seed)
        several = getattr(self._dataset, "__getitems__", None)
        return several(list(indices)) if callable(several) else [self._dataset[index] for index in indices]


def len_of(thing: Any) -> int | None:
    """Return the length of a data loader or sampler, or None if it has none."""
    try:
        return len(thing)
    except (TypeError, NotImplementedError):
        return None


def adapt_batch_sampler(
    batch_sampler: Any, repeat: bool = False, skip: int = 0, num_replicas: int = 1, rank: int = 0
) -> Any:
    """Return a batch sampler that repeats, yields the share of a process, and skips its first batches."""
    if repeat:
        batch_sampler = samplers.RepeatBatchSampler(batch_sampler)
    if num_replicas > 1:
        batch_sampler = samplers.DistributedBatchSampler(batch_sampler, num_replicas, rank)
    if skip > 0:
        batch_sampler = samplers.SkipBatchSampler(batch_sampler, skip)
    return batch_sampler


def data_length(batch: Any) -> int:
    """Return the number of records in a batch: the length of its first array.

    Raises:
        ValueError: the batch is empty.
        TypeError: the batch contains no array.
    """
    if isinstance(batch, np.ndarray | torch.Tensor):
        return len(batch)
    if not isinstance(batch, dict | list | tuple):
        raise TypeError(
            f"the number of records in a batch of type {type(batch).__name__} is unknown: override "
            "PyTorchTrial.get_batch_length"
        )
    if not batch:
        raise ValueError("a batch must contain at least one array or tensor")
    return len(next(iter(batch.values() if isinstance(batch, dict) else batch)))


def to_device(batch: Any, device: Any, warned_types: set[type] | None = None) -> Any:
    """Return a batch with its tensors and arrays on a device.

    Dictionaries, lists and tuples are converted recursively, and objects that have a method ``to``.  For each other
    type, a warning is logged once, and the object is returned.
    """
    warned = set() if warned_types is None else warned_types
    if isinstance(batch, dict):
        return {key: to_device(value, device, warned) for key, value in batch.items()}
    if isinstance(batch, list):
        return [to_device(value, device, warned) for value in batch]
    if isinstance(batch, tuple):
        values = [to_device(value, device, warned) for value in batch]
        return type(batch)(*values) if hasattr(batch, "_fields") else tuple(values)
    if isinstance(batch, np.ndarray):
        if batch.dtype.kind not in "OSU":
            return torch.from_numpy(batch).to(device)
    elif callable(getattr(batch, "to", None)):
        return batch.to(device)
    if type(batch) not in warned:
        warned.add(type(batch))
        logger.warning(
            "data of type %s was not moved to the device %s: it has no method 'to'", type(batch).__name__, device
        )
    return batch


def first_batches(loader: Any, batches: int) -> Iterator[Any]:
    """Return an iterator of a data loader after its first batches."""
    iterator = iter(loader)
    for _ in islice(iterator, batches):
        pass
    return iterator


def not_reproducible(method: str, loader: Any) -> str:
    """Return the error message for a data loader that is not `DataLoader`."""
    return (
        f"{method}() returned a {type(loader).__module__}.{type(loader).__name__}, but must return a "
        "determined.pytorch.DataLoader, which takes the same arguments and continues a paused trial at the right batch"
        ". To use another loader, call context.experimental.disable_dataset_reproducibility_checks() in the trial's "
        "__init__"
    )
