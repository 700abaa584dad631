"""Tests of the groups of decisions and the kinds of entries."""

from __future__ import annotations

from hypothesis import given

from ashwood.experiment import decisions as d
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import AttemptFailed, PauseRequested, ValidationReported
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.spec import Unit
from ashwood.search.vocabulary import BracketFinished
from ashwood.views.descriptions import describe_decision
from ashwood.views.event_groups import group_decisions, kinds_of
from ashwood.views.event_kinds import EventKind
from tests.views.simulate import Workers
from tests.views.streams import runs


def closed(*trials: int, bracket: int = 1) -> list[d.Decision]:
    return [d.CloseTrial(trial, TrialState.STOPPED, BracketFinished(bracket)) for trial in trials]


def texts(*decisions: d.Decision) -> list[str]:
    return [group.text for group in group_decisions(decisions, Unit.EPOCHS)]


def test_trials_stopped_at_the_end_of_a_bracket_are_one_group() -> None:
    pause = d.PauseTrial(3, 1, BracketFinished(1))
    assert texts(pause, *closed(*range(10, 100)), *closed(5, bracket=2)) == [
        describe_decision(pause, Unit.EPOCHS),
        "bracket 1 finished: 90 waiting trials stopped",
        "trial 5 is stopped (bracket 2 has finished; no more trials are promoted)",
    ]


def test_few_decisions_of_one_kind_stay_apart() -> None:
    assert len(texts(*closed(1, 2, 3))) == 3


def test_groups_name_the_first_trials_or_their_range() -> None:
    assert texts(*(d.SuspendTrial(trial, 1) for trial in range(4, 12))) == ["suspend 8 trials: 4 to 11"]
    assert texts(*(d.AbortTrial(2 * trial, 1) for trial in range(7))) == ["abort 7 trials: 0, 2, 4, 6, 8, …"]


@given(ran=runs())
def test_each_decision_is_in_one_group_whose_text_is_short(ran: Workers) -> None:
    for entry in ran.entries:
        groups = group_decisions(entry.decisions, ran.spec.unit)
        assert len(groups) <= len(entry.decisions)
        assert sorted(map(repr, entry.decisions)) == sorted(repr(each) for group in groups for each in group.decisions)
        assert all(len(group.text) < 200 for group in groups if len(group.decisions) > 1)


def test_kinds_of_entries() -> None:
    report = Entry(1.0, ValidationReported(1, 1, 4, {"loss": 0.5}), ())
    assert kinds_of(report, is_best=False) == set()
    assert kinds_of(report, is_best=True) == {EventKind.BESTS}
    assert kinds_of(report._replace(decisions=(d.DeleteCheckpoint(1, "a"),)), is_best=False) == set()
    assert kinds_of(report._replace(decisions=tuple(closed(1))), is_best=False) == {EventKind.DECISIONS}
    assert kinds_of(Entry(1.0, AttemptFailed(1, 1, "boom"), ()), is_best=False) == {EventKind.FAILURES}
    assert kinds_of(Entry(1.0, PauseRequested(), ()), is_best=False) == {EventKind.STEERING}
