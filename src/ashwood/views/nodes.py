"""The machines of a cluster, their slots and their trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ashwood.search.vocabulary import TrialId
from ashwood.views.spending import Spending


class Node(NamedTuple):
    """One machine.

    Attributes:
        name: name of the machine in the backend.
        slots: number of trials that can train on it at once, or 0 if it is leaving.
        trials: trials that train on it now.
    """

    name: str
    slots: int
    trials: Sequence[TrialId]


def nodes_of(spending: Spending) -> list[Node]:
    """Return the present machines and those with running trials, or an empty list if there is only one machine."""
    trials: dict[str, list[TrialId]] = {name: [] for name in spending.nodes}
    for trial in sorted(spending.live):
        if name := spending.live[trial].node:
            trials.setdefault(name, []).append(trial)
    return [Node(name, spending.nodes.get(name, 0), trials[name]) for name in sorted(trials)]
