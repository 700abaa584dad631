"""User-facing messages about workers and nodes that join or leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ashwood.engine import open_home
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    AttemptPreempted,
    AttemptStarted,
    CapacityChanged,
    DriverStarted,
    Event,
    PauseRequested,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import ExperimentSpec, RayCluster
from ashwood.terminal.reporter import CapacityMessages, PlainReporter
from ashwood.testing.records import full_spec

from .conftest import Workplace

A, B = "10.0.0.5/3fa9c1", "10.0.0.6/77b0e2"


def heard(*events: tuple[float, CapacityChanged | None]) -> list[tuple[float, str]]:
    """Which messages about changed capacity are printed, and when."""
    news, output = CapacityMessages(), list[tuple[float, str]]()
    news.began(0)
    for at, event in events:
        if event is not None:
            news.note(at, event)
        if (line := news.news(at)) is not None:
            output.append((at, line))
    return output


def test_workers_of_a_joining_node_are_one_message() -> None:
    joins = [(0.1 * n, CapacityChanged(n, {A: n}, f"node {A} joined")) for n in range(1, 5)]
    assert heard(*joins, (1.0, None), (3.0, None), (9.0, None)) == [(3.0, f"4 workers on 1 node: node {A} joined")]


def test_nodes_that_join_together_are_one_message() -> None:
    joins = [
        (0.1 * n, CapacityChanged(n, {str(node): 1 for node in range(n)}, f"node {n} joined")) for n in range(1, 6)
    ]
    assert heard(*joins, (3.0, None)) == [
        (3.0, "5 workers on 5 nodes: node 1 joined; node 2 joined; node 3 joined; and 2 more changes")
    ]


def test_lost_node_is_reported_at_once() -> None:
    both = CapacityChanged(5, {A: 3, B: 2}, "")
    gone = CapacityChanged(3, {A: 3}, f"node {B} died")
    assert heard((0.0, both), (5.0, None), (6.0, gone)) == [
        (5.0, "5 workers on 2 nodes"),
        (6.0, f"3 workers on 1 node: node {B} died"),
    ]
    assert heard((0.0, CapacityChanged(1)), (1.0, CapacityChanged(0, {}, "nobody is left"))) == []
    none = CapacityChanged(0, {}, "nobody is left")
    assert heard((0.0, CapacityChanged(1)), (3.0, None), (4.0, none))[-1] == (4.0, "0 workers: nobody is left")


def test_replaced_worker_is_not_reported() -> None:
    full = CapacityChanged(2, {A: 2}, "")
    lost = CapacityChanged(1, {A: 1}, "a worker died")
    output = heard((0.0, full), (3.0, None), (4.0, lost), (4.5, full), (7.0, None))
    assert output == [(3.0, "2 workers on 1 node")]


def test_plain_output_reports_change_of_capacity(capsys: pytest.CaptureFixture[str]) -> None:
    spec = full_spec()
    experiment = Experiment(spec)

    def happen(at: float, event: Event) -> None:
        reporter.observe([Entry(at, event, experiment.handle(event))])

    with PlainReporter(1, spec) as reporter:
        reporter.ready(2)
        happen(0.0, DriverStarted(2))
        happen(1.0, CapacityChanged(3, {A: 3}, f"node {A} joined"))
        happen(4.0, AttemptStarted(0, 1, 0, 0, A))
        happen(5.0, PauseRequested())
        happen(6.0, CapacityChanged(0, {}, "all are gone"))
    output = capsys.readouterr().out
    assert f"3 workers on 1 node: node {A} joined" in output
    assert "all are gone" not in output, "a change is printed although the experiment pauses"


# -- what the record tells ------------------------------------------------------------------------


def a_cluster(home: Path, spec: ExperimentSpec) -> None:
    """An experiment that trains on two nodes, up to a moment."""
    with open_home(home, create=True) as opened:
        log = opened.store.log(opened.store.create(spec, at=1.0))
        experiment = Experiment(spec)
        events: list[Event] = [
            DriverStarted(0),
            CapacityChanged(3, {A: 2, B: 1}, f"node {B} joined"),
            AttemptStarted(0, 1, 0, 0, A),
            AttemptStarted(1, 1, 1, 0, A),
            AttemptStarted(2, 1, 2, 0, B),
            AttemptPreempted(1, 1, "its worker died"),
        ]
        for at, event in enumerate(events, start=1):
            log.append([Entry(float(at), event, experiment.handle(event))])


@pytest.fixture
def spec() -> ExperimentSpec:
    return replace(full_spec(), ray=RayCluster("10.0.0.1:6379"), checkpoint_storage=None, provenance={})


def test_describe_shows_nodes_slots_and_their_trials(workplace: Workplace, spec: ExperimentSpec) -> None:
    home = workplace.path / ".ashwood"
    a_cluster(home, spec)
    with open_home(home) as opened, opened.lease(1):
        described = workplace.json("describe", "1")
        text = workplace.ashwood("describe", "1")
        trials = workplace.json("trials", "1")
        table = workplace.ashwood("trials", "1")
    assert (described["backend"], described["slots"], described["slots_in_use"]) == ("ray", 3, 2)
    assert described["nodes"] == [{"node": A, "slots": 2, "trials": [0]}, {"node": B, "slots": 1, "trials": [2]}]
    assert "runs on a Ray cluster, 10.0.0.1:6379" in text
    assert "3 slots on 2 nodes, 2 in use" in text
    assert [line.split() for line in text.splitlines() if line.startswith(("10.0.0.5", "10.0.0.6"))] == [
        [A, "2", "0"],
        [B, "1", "2"],
    ]
    assert [(row["node"], row["preempted"]) for row in trials] == [(A, 0), (None, 1), (B, 0)]
    assert {"node", "preempted"} <= set(table.splitlines()[0].split())


def test_describe_shows_no_nodes_of_a_dead_driver(workplace: Workplace, spec: ExperimentSpec) -> None:
    a_cluster(workplace.path / ".ashwood", spec)
    described = workplace.json("describe", "1")
    assert described["state"] == "interrupted"
    assert (described["slots"], described["slots_in_use"], described["nodes"]) == (0, 0, [])


def test_one_machine_has_no_nodes(workplace: Workplace) -> None:
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    assert workplace.json("describe", "1")["backend"] == "local"
    assert workplace.json("describe", "1")["nodes"] == []
    header = workplace.ashwood("trials", "1").splitlines()[0].split()
    assert not {"node", "preempted"} & set(header)


def test_events_name_the_node(workplace: Workplace, spec: ExperimentSpec) -> None:
    a_cluster(workplace.path / ".ashwood", spec)
    text = workplace.ashwood("events", "1")
    assert f"capacity changed, 3 workers on 2 nodes: node {B} joined" in text
    assert f"trial 2 started at 0 epochs, attempt 1, slot 2 on {B}" in text
    assert "trial 1 lost its worker, attempt 1: its worker died" in text
