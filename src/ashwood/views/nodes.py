"""The machines of a cluster: how many slots each has, and who trains there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ashwood.search.vocabulary import TrialId
from ashwood.views.spending import Spending


class Node(NamedTuple):
    """One machine.

    Attributes:
        name: as the backend names it.
        slots: how many trials can train on it at once; 0: it is leaving.
        trials: those that processes work on there.
    """

    name: str
    slots: int
    trials: Sequence[TrialId]


def nodes_of(spending: Spending) -> list[Node]:
    """The machines that there are now, and those where somebody still works; none where trials run on one machine."""
    trials: dict[str, list[TrialId]] = {name: [] for name in spending.nodes}
    for trial in sorted(spending.live):
        if name := spending.live[trial].node:
            trials.setdefault(name, []).append(trial)
    return [Node(name, spending.nodes.get(name, 0), trials[name]) for name in sorted(trials)]
