"""The resources that one worker takes from the nodes of a cluster.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple

from ashwood.errors import ClusterError
from ashwood.experiment.spec import ExperimentSpec

Amounts = Mapping[str, float]
"""Amounts of resources, by Ray's names: ``CPU``, ``GPU``, ``memory`` (bytes), and custom ones."""

CPU, GPU, MEMORY = "CPU", "GPU", "memory"
_GIB = 2**30


class NodeResources(NamedTuple):
    """A node of a cluster.

    Attributes:
        name: name for messages to the user.
        id: Ray's id of the node.
        has: its total resources, including those in use.
    """

    name: str
    id: str
    has: Amounts


class Shape(NamedTuple):
    """The resources of a worker.

    Attributes:
        share: resources of each of its processes.
        processes: number of its processes, each on a different node.
    """

    share: Amounts
    processes: int = 1


def shape_of(spec: ExperimentSpec, nodes: Sequence[NodeResources], *, autoscales: bool = False) -> Shape:
    """Return the shape of the workers of an experiment.

    A slot is a GPU, or a CPU core if no node has GPUs.  A trial that takes more slots than any
    node has is spread evenly over as few nodes as possible.

    Raises:
        ClusterError: no trial fits; the message says what the largest node has.
    """
    whole = _whole(spec, any(node.has.get(GPU) for node in nodes))
    if any(_fits(whole, node) for node in nodes):
        return Shape(whole)
    for processes in range(2, len(nodes) + 1):
        share = {name: amount / processes for name, amount in whole.items()}
        if spec.slots_per_trial % processes == 0 and sum(_fits(share, node) for node in nodes) >= processes:
            return Shape(share, processes)
    if autoscales:
        return Shape(whole)
    raise ClusterError(
        f"a trial takes {in_words(whole)}, and no node has that: {_largest(whole, nodes)}. Reduce resources in the "
        "experiment file, add a larger node, or set backend.autoscales: true if the cluster can add larger nodes"
    )


def room(share: Amounts, free: Amounts) -> int:
    """Return an upper bound of the number of processes that fit into the free resources of a whole cluster."""
    most = min((free.get(name, 0.0) / amount for name, amount in share.items() if amount), default=inf)
    return int(min(most, 1_000_000))


def in_words(amounts: Amounts) -> str:
    """Return amounts as text, such as "1 CPU, 0.5 GPU, 1.5 GiB of memory"."""
    words = [
        f"{amount / _GIB:.3g} GiB of memory" if name == MEMORY else f"{amount:g} {name}"
        for name, amount in amounts.items()
        if amount
    ]
    return ", ".join(words) or "nothing"


def _whole(spec: ExperimentSpec, has_gpus: bool) -> dict[str, float]:
    demand = spec.demand
    slots = float(spec.slots_per_trial)
    gpus = demand.gpus if demand.gpus is not None else slots if has_gpus else 0.0
    cpus = demand.cpus if demand.cpus is not None else 1.0 if gpus else slots
    return dict(_positive({CPU: cpus, GPU: gpus, MEMORY: float(demand.memory or 0), **demand.custom}))


def _positive(amounts: Amounts) -> Iterator[tuple[str, float]]:
    return ((name, amount) for name, amount in amounts.items() if amount)


def _fits(share: Amounts, node: NodeResources) -> bool:
    return all(node.has.get(name, 0.0) >= amount for name, amount in share.items())


def _largest(whole: Amounts, nodes: Sequence[NodeResources]) -> str:
    if not nodes:
        return "the cluster has no nodes"
    largest = max(
        nodes, key=lambda node: [min(1.0, node.has.get(name, 0.0) / amount) for name, amount in whole.items()]
    )
    return f"the largest, {largest.name}, has {in_words({name: largest.has.get(name, 0.0) for name in whole})}"
