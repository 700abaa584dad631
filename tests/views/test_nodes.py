"""Tests of the machines of a cluster and their trials."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given

from ashwood.experiment.decisions import CloseTrial, CreateTrial, GaveUp, Retried, TrainTrial
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptPreempted,
    AttemptStarted,
    CapacityChanged,
    DriverStarted,
    DriverStopped,
)
from ashwood.experiment.lifecycle import TrialState
from ashwood.search.vocabulary import Created
from ashwood.testing.records import full_spec
from ashwood.views.spending import Node, nodes_of
from ashwood.views.trials import TrialTable
from tests.views.simulate import Workers
from tests.views.streams import runs
from tests.views.test_spending import spending_of

BEGIN = (
    (0.0, DriverStarted(0)),
    (1.0, CapacityChanged(3, {"b": 1, "a": 2}, "joined")),
    (2.0, AttemptStarted(0, 1, 0, 0, "a")),
    (2.0, AttemptStarted(7, 1, 2, 0, "b")),
    (2.0, AttemptStarted(5, 1, 1, 0, "a")),
)


def test_nodes_have_their_trials() -> None:
    assert nodes_of(spending_of(*BEGIN)) == [Node("a", 2, [0, 5]), Node("b", 1, [7])]


def test_trial_that_moves_or_ends_leaves_its_node() -> None:
    moved = spending_of(*BEGIN, (3.0, AttemptPreempted(5, 1, "x")), (3.0, AttemptStarted(5, 2, 4, 0, "b")))
    assert nodes_of(moved) == [Node("a", 2, [0]), Node("b", 1, [5, 7])]
    assert nodes_of(spending_of(*BEGIN, (3.0, AttemptEnded(7, 1, 1)))) == [Node("a", 2, [0, 5]), Node("b", 1, [])]


def test_leaving_node_stays_until_its_attempts_end() -> None:
    leaving = (3.0, CapacityChanged(2, {"a": 2}, "b is leaving"))
    assert nodes_of(spending_of(*BEGIN, leaving))[1] == Node("b", 0, [7])
    assert nodes_of(spending_of(*BEGIN, leaving, (4.0, AttemptPreempted(7, 1, "b left")))) == [Node("a", 2, [0, 5])]


def test_no_nodes_without_driver() -> None:
    assert nodes_of(spending_of(*BEGIN, (3.0, DriverStopped()))) == []
    assert nodes_of(spending_of(*BEGIN, (3.0, DriverStarted(2)))) == []


@given(ran=runs())
def test_no_nodes_on_one_machine(ran: Workers) -> None:
    assert nodes_of(spending_of(*[(at, event) for at, event, _ in ran.entries])) == []


def test_trial_that_lost_its_worker_too_often_has_error() -> None:
    table = TrialTable(replace(full_spec(), max_preemptions=1))
    table.apply(Entry(0.0, DriverStarted(1), (CreateTrial(0, 0, 0, {}, 1, 4, Created(0, 0)),)))
    table.apply(Entry(1.0, AttemptPreempted(0, 1, "node a left")))
    assert (table.rows[0].preempted, table.rows[0].errors) == (1, ())
    table.apply(Entry(2.0, AttemptPreempted(0, 2, "node b left"), (TrainTrial(0, 3, 4, Retried(1, 1)),)))
    table.apply(Entry(3.0, AttemptPreempted(0, 3, "node c left"), (CloseTrial(0, TrialState.ERRORED, GaveUp(2)),)))
    assert table.rows[0].preempted == 3
    assert [error.rpartition(": ")[2] for error in table.rows[0].errors] == ["node b left", "node c left"]
