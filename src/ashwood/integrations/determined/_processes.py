"""The processes that train a trial together, if they are those of `torch.distributed`."""

from __future__ import annotations

import os
from typing import Any


class Processes:
    """One process, or those of the process group of `torch.distributed`; all on one machine.

    Attributes:
        rank: number of this process.
        size: number of processes.
        local_rank: number of this process on its machine.
        local_size: number of processes on its machine.
        cross_rank: number of the machine.
        cross_size: number of machines.
    """

    def __init__(self) -> None:
        self._group = _group()
        self.rank = self._group.get_rank() if self._group else 0
        self.size = self._group.get_world_size() if self._group else 1
        self.local_rank = local_rank() if self._group else 0
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", self.size)) if self._group else 1
        self.cross_size = max(1, self.size // self.local_size)
        self.cross_rank = self.rank // self.local_size

    def get_rank(self) -> int:
        """Return the number of this process."""
        return self.rank

    def get_size(self) -> int:
        """Return the number of processes."""
        return self.size

    def get_local_rank(self) -> int:
        """Return the number of this process on its machine."""
        return self.local_rank

    def get_local_size(self) -> int:
        """Return the number of processes on this machine."""
        return self.local_size

    def get_num_agents(self) -> int:
        """Return the number of machines."""
        return self.cross_size

    def allgather(self, value: Any) -> list[Any]:
        """Return the values of all processes."""
        if self._group is None:
            return [value]
        values: list[Any] = [None] * self.size
        self._group.all_gather_object(values, value)
        return values

    def gather(self, value: Any) -> list[Any] | None:
        """Return the values of all processes in rank 0, and None in the others."""
        values = self.allgather(value)
        return values if self.rank == 0 else None

    def broadcast(self, value: Any) -> Any:
        """Return the value of rank 0."""
        if self._group is None:
            return value
        values = [value]
        self._group.broadcast_object_list(values, src=0)
        return values[0]

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.allgather(None)

    allgather_local, gather_local, broadcast_local = allgather, gather, broadcast


def _group() -> Any:
    """Return `torch.distributed` if it has a process group, or else None."""
    try:
        import torch.distributed as distributed
    except ImportError:
        return None
    return distributed if distributed.is_available() and distributed.is_initialized() else None

def local_rank() -> int:
    """Return the number of this process among those on its machine, from the environment that launchers set."""
    for variable in ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"):
        if os.environ.get(variable, "").isdecimal():
            return int(os.environ[variable])
    return 0
