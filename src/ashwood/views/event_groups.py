"""Short forms of the event log: groups of decisions of one kind, and the kinds of entries."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple, get_args

from ashwood.experiment import decisions as d
from ashwood.experiment import events as e
from ashwood.experiment.entry import Entry
from ashwood.experiment.spec import Unit
from ashwood.search.vocabulary import BracketFinished, Promoted, TrialId
from ashwood.views.descriptions import describe_decision, is_routine
from ashwood.views.event_kinds import EventKind

_FEW = 3
"""Up to this many decisions of one kind are described one by one."""
_MOST_NUMBERS = 5


class DecisionGroup(NamedTuple):
    """Decisions of one entry that are shown as one line.

    Attributes:
        text: description of the decisions, such as ``bracket 1 finished: 90 waiting trials stopped``.
        decisions: the decisions.
    """

    text: str
    decisions: Sequence[d.Decision]


def group_decisions(decisions: Iterable[d.Decision], unit: Unit) -> list[DecisionGroup]:
    """Return all decisions of an entry in their order; more than three of one kind become one group."""
    groups: dict[Hashable, list[d.Decision]] = {}
    for place, decision in enumerate(decisions):
        kind = _kind_of(decision)
        groups.setdefault((place,) if kind is None else kind, []).append(decision)
    return [group for alike in groups.values() for group in _described(alike, unit)]


def _described(alike: Sequence[d.Decision], unit: Unit) -> Iterator[DecisionGroup]:
    if len(alike) <= _FEW:
        yield from (DecisionGroup(describe_decision(decision, unit), (decision,)) for decision in alike)
    else:
        yield DecisionGroup(_describe(alike), tuple(alike))


def _kind_of(decision: d.Decision) -> Hashable:
    """Return what decisions of one group have in common, or None if a decision is always shown alone."""
    match decision:
        case d.CloseTrial(_, state, why):
            return d.CloseTrial, state, str(why)
        case d.ReopenTrial(why=why) | d.TrainTrial(why=why):
            return type(decision), type(why), "" if isinstance(why, Promoted) else str(why)
        case d.CreateTrial() | d.SuspendTrial() | d.AbortTrial():
            return (type(decision),)
        case d.DeleteCheckpoint(why=why):
            return d.DeleteCheckpoint, why is None
    return None


def _describe(alike: Sequence[d.Decision]) -> str:
    trials = f"{len(alike):,} trials"
    match alike[0]:
        case d.CloseTrial(why=BracketFinished(bracket)):
            return f"bracket {bracket} finished: {len(alike):,} waiting trials stopped"
        case d.CloseTrial(_, state, why):
            return f"{trials} are {state} ({why}): {_numbers(alike)}"
        case d.ReopenTrial(why=why):
            return f"reopen {trials} ({why}): {_numbers(alike)}"
        case d.TrainTrial(why=Promoted()):
            return f"promote {trials}: {_numbers(alike)}"
        case d.TrainTrial(why=why):
            return f"train {trials} ({why}): {_numbers(alike)}"
        case d.CreateTrial():
            return f"create {trials}: {_numbers(alike)}"
        case d.SuspendTrial():
            return f"suspend {trials}: {_numbers(alike)}"
        case d.AbortTrial():
            return f"abort {trials}: {_numbers(alike)}"
        case d.DeleteCheckpoint(why=None):
            return f"delete {len(alike):,} checkpoints that the policy does not keep"
        case d.DeleteCheckpoint():
            return f"delete {len(alike):,} checkpoints to keep max_size"
    return f"{len(alike):,} × {type(alike[0]).__name__}"


def _numbers(alike: Sequence[d.Decision]) -> str:
    """Return the numbers of the first trials of a group."""
    numbers: list[TrialId] = [trial for each in alike if (trial := getattr(each, "trial", None)) is not None]
    if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join([*map(str, numbers[:_MOST_NUMBERS]), *["…"] * (len(numbers) > _MOST_NUMBERS)])


_FAILURES = (
    e.AttemptFailed,
    e.AttemptPreempted,
    e.StorageFailed,
    e.CheckpointDamaged,
    e.HparamsInvalid,
    e.TrialWarned,
)
_STEERING = (*get_args(e.Request), e.DriverStarted, e.DriverStopped, e.TimeRanOut)


def kinds_of(entry: Entry, *, is_best: bool) -> set[EventKind]:
    """Return the kinds of an entry.

    Args:
        entry: the entry.
        is_best: whether the experiment has a new best result because of it.
    """
    event, decisions = entry.event, entry.decisions
    kinds = {EventKind.BESTS} if is_best else set()
    if any(not is_routine(decision) for decision in decisions):
        kinds.add(EventKind.DECISIONS)
    if isinstance(event, _FAILURES) or any(isinstance(each, d.Warn) for each in decisions):
        kinds.add(EventKind.FAILURES)
    if isinstance(event, _STEERING) or any(isinstance(each, d.LeaveExperiment) for each in decisions):
        kinds.add(EventKind.STEERING)
    return kinds
