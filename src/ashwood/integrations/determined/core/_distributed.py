"""The processes that train a trial together, on one machine."""

from __future__ import annotations

import os
from typing import Any

from ashwood.integrations.determined.hub import Chief, Worker, address


class DistributedContext:
    """The ranks of this process, and exchange of objects between the processes of a trial.

    All processes must create their context, and call `gather`, `allgather` and `broadcast`, in the same order.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process on its machine.
        local_size: number of processes on its machine.
        cross_rank: number of the machine, always 0.
        cross_size: number of machines, always 1.
    """

    _created = 0

    def __init__(
        self,
        *,
        rank: int,
        size: int,
        local_rank: int,
        local_size: int,
        cross_rank: int,
        cross_size: int,
        chief_ip: str | None = None,
        pub_port: int = 0,
        pull_port: int = 0,
        port_offset: int = 0,
        force_tcp: bool = False,
    ) -> None:
        """Connect with the other processes.  The addresses and ports are accepted, and are not needed.

        Raises:
            ValueError: only some of the six numbers are given, or there are several machines.
        """
        given = (rank, size, local_rank, local_size, cross_rank, cross_size)
        if any(number is None for number in given) and any(number is not None for number in given):
            raise ValueError(
                "rank, size, local_rank, local_size, cross_rank, and cross_size must all be provided if any are "
                "provided"
            )
        if rank is None:
            rank, size, local_rank, local_size, cross_rank, cross_size = 0, 1, 0, 1, 0, 1
        if cross_size > 1 or local_size != size:
            raise ValueError(
                f"this trial has {size} processes on {cross_size} machines, but with Ashwood a DistributedContext of "
                "determined is limited to one machine: set resources.slots_per_trial to the slots of one machine, or "
                "use ashwood.get_trial()"
            )
        self.rank, self.size = rank, size
        self.local_rank, self.local_size = local_rank, local_size
        self.cross_rank, self.cross_size = cross_rank, cross_size
        self._chief_ip = chief_ip or "127.0.0.1"
        self._is_chief = self._is_local_chief = rank == 0
        self._chief: Chief | None = None
        self._worker: Worker | None = None
        DistributedContext._created += 1
        if size > 1:
            path = address(DistributedContext._created)
            if rank == 0:
                self._chief = Chief(path, size)
            else:
                self._worker = Worker(path, rank)

    @classmethod
    def from_torch_distributed(cls, chief_ip: str | None = None) -> DistributedContext:
        """Return the context of a process that ``torchrun`` started.

        Raises:
            KeyError: no such launcher started this process.
        """
        return cls(
            rank=int(os.environ["RANK"]),
            size=int(os.environ["WORLD_SIZE"]),
            local_rank=int(os.environ["LOCAL_RANK"]),
            local_size=int(os.environ["LOCAL_WORLD_SIZE"]),
            cross_rank=int(os.environ["GROUP_RANK"]),
            cross_size=int(os.environ["GROUP_WORLD_SIZE"]),
            chief_ip=chief_ip or os.environ.get("DET_CHIEF_IP"),
        )

    @classmethod
    def from_deepspeed(cls, chief_ip: str | None = None) -> DistributedContext:
        """Return the context of a process that the launcher of DeepSpeed started.

        Raises:
            KeyError: no such launcher started this process.
        """
        size = int(os.environ["WORLD_SIZE"])
        return cls(
            rank=int(os.environ["RANK"]),
            size=size,
            local_rank=int(os.environ["LOCAL_RANK"]),
            local_size=int(os.environ.get("LOCAL_SIZE", size)),
            cross_rank=int(os.environ.get("CROSS_RANK", "0")),
            cross_size=int(os.environ.get("CROSS_SIZE", "1")),
            chief_ip=chief_ip or os.environ.get("DET_CHIEF_IP"),
        )

    @classmethod
    def from_horovod(cls, hvd: Any, chief_ip: str | None = None) -> DistributedContext:
        """Return the context of a process of Horovod; ``hvd`` is its module, such as ``horovod.torch``."""
        return cls(
            rank=hvd.rank(),
            size=hvd.size(),
            local_rank=hvd.local_rank(),
            local_size=hvd.local_size(),
            cross_rank=hvd.cross_rank(),
            cross_size=hvd.cross_size(),
            chief_ip=chief_ip or os.environ.get("DET_CHIEF_IP"),
        )

    def close(self) -> None:
        """Close the connections with the other processes."""
        for end in (self._chief, self._worker):
            if end is not None:
                end.close()

    def get_rank(self) -> int:
        """Return the number of this process."""
        return self.rank

    def get_local_rank(self) -> int:
        """Return the number of this process on its machine."""
        return self.local_rank

    def get_size(self) -> int:
        """Return the number of processes."""
        return self.size

    def get_num_agents(self) -> int:
        """Return the number of machines."""
        return self.cross_size

    def gather(self, stuff: Any) -> list[Any] | None:
        """Return the objects of all processes in rank 0, in the order of the ranks, and None in the others."""
        if self._worker is not None:
            self._worker.send(stuff)
            self._worker.receive()
            return None
        if self._chief is None:
            return [stuff]
        gathered = [stuff, *self._chief.gather()]
        self._chief.broadcast(None)
        return gathered

    def allgather(self, stuff: Any) -> list[Any]:
        """Return the objects of all processes, in the order of the ranks."""
        if self._worker is not None:
            self._worker.send(stuff)
            return list(self._worker.receive())
        if self._chief is None:
            return [stuff]
        gathered = [stuff, *self._chief.gather()]
        self._chief.broadcast(gathered)
        return gathered

    def broadcast(self, stuff: Any) -> Any:
        """Return the object of rank 0."""
        if self._worker is not None:
            return self._worker.receive()
        if self._chief is not None:
            self._chief.broadcast(stuff)
        return stuff

    def gather_local(self, stuff: Any) -> list[Any] | None:
        """Return the objects of all processes of the machine, as `gather` does."""
        return self.gather(stuff)

    def allgather_local(self, stuff: Any) -> list[Any]:
        """Return the objects of all processes of the machine, as `allgather` does."""
        return self.allgather(stuff)

    def broadcast_local(self, stuff: Any = None) -> Any:
        """Return the object of the process with local rank 0."""
        return self.broadcast(stuff)


class DummyDistributedContext(DistributedContext):
    """The context of a trial with one process."""

    def __init__(self) -> None:
        super().__init__(rank=0, size=1, local_rank=0, local_size=1, cross_rank=0, cross_size=1)
