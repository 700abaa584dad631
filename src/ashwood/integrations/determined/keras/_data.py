"""Batches of the inputs that Keras takes, from any batch on, in an order that depends on the seed and the epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import keras
import numpy as np

from ashwood.errors import TrainingCodeError

InputData = Any
"""What the methods that build data loaders return; see `Batches`."""


class SequenceAdapter:
    """A `keras.utils.PyDataset` with settings for loading it, which Keras 3 has in the data set itself."""

    def __init__(
        self,
        sequence: Any,
        use_multiprocessing: bool = False,
        workers: int = 1,
        max_queue_size: int = 10,
    ) -> None:
        self.sequence = sequence

    def __len__(self) -> int:
        return len(self.sequence)


class Batches:
    """The batches of the training data.

    Attributes:
        length: number of batches in an epoch, or None if it is unknown.
    """

    def __init__(self, data: Any, size: int | None, shuffle: bool, seed: int) -> None:
        """Prepare the batches.

        Args:
            data: arrays as ``(x, y)`` or ``(x, y, sample_weight)``, a `keras.utils.PyDataset`, a `tf.data.Dataset`, or
                another data set that can be iterated more than once.
            size: number of records in a batch of arrays.
            shuffle: whether to shuffle the records of arrays, or the batches of a `PyDataset`.
            seed: seed of the shuffle.

        Raises:
            TrainingCodeError: the batch size is unknown.
        """
        data = data.sequence if isinstance(data, SequenceAdapter) else data
        self._data, self._shuffle, self._seed = data, shuffle, seed
        self._is_indexed = hasattr(data, "__getitem__") and hasattr(data, "__len__")
        self._records = None
        if isinstance(data, tuple | list) and data and not hasattr(data, "batch"):
            if size is None:
                raise TrainingCodeError(
                    "the batch size is unknown: add an integer global_batch_size to the hyperparameters"
                )
            self._records, self._size = len(keras.tree.flatten(data)[0]), size
            self.length: int | None = -(-self._records // size)
        elif self._is_indexed:
            self.length = len(data)
        else:
            self.length = _cardinality(data)

    def from_batch(self, start: int) -> Iterator[Any]:
        """Yield batches without end, from number ``start``."""
        if self.length is None:
            yield from islice(self._endless(), start, None)
            return
        first, skip = divmod(start, self.length)
        for epoch in count(first):
            yield from islice(self._epoch(epoch), skip, None)
            skip = 0
            if hasattr(self._data, "on_epoch_end"):
                self._data.on_epoch_end()

    def _endless(self) -> Iterator[Any]:
        while True:
            is_empty = True
            for batch in self._data:
                is_empty = False
                yield batch
            if is_empty:
                raise TrainingCodeError("build_training_data_loader() returned data without batches")

    def _epoch(self, epoch: int) -> Iterator[Any]:
        if not self._is_indexed:
            return iter(self._data)
        count = self._records if self._records is not None else self.length
        order = np.arange(count or 0)
        if self._shuffle:
            np.random.default_rng([self._seed, epoch]).shuffle(order)
        if self._records is None:
            return (self._data[int(index)] for index in order)
        chosen = (order[first : first + self._size] for first in range(0, self._records, self._size))
        return (
            keras.tree.map_structure(lambda array, rows=rows: np.asarray(array)[rows], self._data) for rows in chosen
        )


def _cardinality(data: Any) -> int | None:
    """Return the number of batches of a `tf.data.Dataset`, or None if it is unknown or infinite."""
    if not hasattr(data, "cardinality"):
        return None
    found = int(data.cardinality())
    return found if found > 0 else None


def unpacked(batch: Any) -> tuple[Any, Any, Any]:
    """Return the inputs, targets and weights of a batch."""
    x, y, weights = keras.utils.unpack_x_y_sample_weight(tuple(batch) if isinstance(batch, list) else batch)
    return x, y, weights
