"""Writes the log of the present codec version that the tests keep; run it before the shape of a record changes.

``python -m tests.eventlog.make_log tests/eventlog/logs/version-3.db`` runs experiments with the real engine on a
simulated cluster in virtual time, and writes them to an SQLite store.  Nodes join and leave, workers are preempted, and
trials fail.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ashwood.backends.simulated import SimulatedBackend, VirtualClock
from ashwood.engine.simulate import simulate
from ashwood.errors import EventLogError
from ashwood.eventlog.codec import VERSION
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    UNREACHABLE,
    AddTrialRequested,
    AttemptFailed,
    AttemptStarted,
    CancelRequested,
    CapacityChanged,
    Event,
    ExtendRequested,
    HparamsInvalid,
    RetryFailedRequested,
    SettingsChanged,
    StorageFailed,
    TrialKillRequested,
    TrialTrained,
    TrialWarned,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import CheckpointPolicy, ExperimentSpec
from ashwood.forecast.costs import Costs, Faults, Workers
from ashwood.forecast.training import PowerLaw
from ashwood.search.settings import Method, Mode
from ashwood.testing.records import full_spec

_SLOTS_OF_NODE = 2


def main(path: Path) -> None:
    """Write a store with one experiment for each state in which a driver can leave one."""
    with closing(SqliteStore(path)) as store:
        _run(store, replace(_spec(replicates=2), max_size=3000), after={40: ExtendRequested(20, 32, 3)})
        asked: dict[int, Event] = {9: TrialWarned(0, 1, "it never reads trial.checkpoint"), 12: TrialTrained(1, 1, 2.5)}
        _run(store, replace(_spec(), metric_at=0.4, max_trial_time=2.0), after=asked)
        added = AddTrialRequested({"lr": 0.5, "activation": "tanh"}, extra=True)
        settings = SettingsChanged({"max_trials": 12})
        _run(store, _spec(mode=Mode.AUTO), after={10: settings, 15: added, 20: CancelRequested()})
        audited = _spec(method=Method.ASYNC_HALVING, audit=Fraction("0.4"))
        _run(store, audited, after={8: TrialKillRequested(1)}, dies_after=60)
        _run_again(store, replace(_spec(), max_restarts=0))


def _spec(**search: Any) -> ExperimentSpec:
    spec = full_spec()
    settings = replace(spec.search, max_length=16, max_trials=16, bracket_rungs=(), stop_once=False, **search)
    return replace(
        spec,
        name=f"log of version {VERSION}",
        description="made by tests/eventlog/make_log.py on a simulated cluster",
        labels=("old",),
        search=settings,
        smaller_is_better=True,
        max_preemptions=1,
        metric_at=None,
        max_time=None,
        checkpoint_policy=CheckpointPolicy(),
        source_checkpoint=None,
    )


class _Died(EventLogError):
    pass


class _Cluster(SimulatedBackend):
    """A simulated backend whose events name nodes; it adds ``asked`` events after given numbers of its own events."""

    def __init__(self, spec: ExperimentSpec, asked: dict[int, Event], clock: VirtualClock | None = None) -> None:
        training = PowerLaw(max_length=16, spread=1.5)
        workers = Workers(((0.0, 2), (5.0, 6), (20.0, 4)))
        super().__init__(
            spec,
            training,
            workers,
            costs=Costs(start=0.5),
            faults=Faults(crashes=0.02, preemptions=0.1),
            period=4,
            clock=clock,
        )
        self._asked = asked
        self._count = 0

    def next_events(self, timeout: float | None) -> Sequence[Event]:
        events = [self._with_node(event) for event in super().next_events(timeout)]
        self._count += len(events)
        due = [number for number in self._asked if number <= self._count]
        return [*events, *(self._asked.pop(number) for number in sorted(due))]

    def _with_node(self, event: Event) -> Event:
        match event:
            case CapacityChanged(slots):
                nodes = {f"10.0.0.{node + 1}": _SLOTS_OF_NODE for node in range(slots // _SLOTS_OF_NODE)}
                return event._replace(nodes=nodes, why="a node joined or left")
            case AttemptStarted(slot=slot):
                return event._replace(node=f"10.0.0.{slot // _SLOTS_OF_NODE + 1}")
            case AttemptFailed(trial, attempt) if trial % 2:
                return HparamsInvalid(trial, attempt, "too wide")
        return event


def _run(
    store: SqliteStore, spec: ExperimentSpec, *, after: dict[int, Event] | None = None, dies_after: int | None = None
) -> None:
    count = 0

    def observe(entries: Sequence[Entry]) -> None:
        nonlocal count
        count += len(entries)
        if dies_after is not None and count >= dies_after:
            raise _Died

    backend = _Cluster(spec, dict(after or {}))
    number = store.create(spec, at=backend.clock())
    with suppress(_Died):
        simulate(Experiment(spec), backend, log=store.log(number), observers=[observe])


def _run_again(store: SqliteStore, spec: ExperimentSpec) -> None:
    """Run an experiment that pauses because its storage fails; resume it, and retry its failed trials at the end."""
    experiment, asked = Experiment(spec), {6: StorageFailed(0, 1, "access is refused", UNREACHABLE)}
    backend = _Cluster(spec, dict[int, Event](asked))
    log = store.log(store.create(spec, at=backend.clock()))
    while not experiment.state.ended:
        simulate(experiment, backend, log=log)
        backend = _Cluster(spec, {}, backend.clock)
    event = RetryFailedRequested()
    log.append([Entry(backend.clock(), event, experiment.handle(event))])
    simulate(experiment, backend, log=log)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
