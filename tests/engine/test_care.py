"""Work of an engine between turns: requests, lease, time limit, full disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from ashwood.engine import loop
from ashwood.engine.clock import WallClock
from ashwood.engine.loop import Engine
from ashwood.errors import DiskFull, LeaseLost
from ashwood.eventlog.port import Answer, RequestId, Seq, UnreadableRequest
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    CancelRequested,
    Event,
    KillRequested,
    PauseRequested,
    Request,
    SettingsChanged,
    TrialKillRequested,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from tests.eventlog.memory_store import MemoryLog, MemoryStore

from .instant_backend import InstantBackend
from .test_loop import SPEC, entries, objective


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do all work between turns at every turn, so that tests do not depend on time."""
    monkeypatch.setattr(loop, "_HOUSEKEEPING_SECONDS", 0.0)


class Life:
    """A store with one experiment, and an engine that drives it."""

    def __init__(self, spec: Any = SPEC, **options: Any) -> None:
        self.store = MemoryStore()
        self.id = self.store.create(spec, at=0.0)
        self.log: MemoryLog = options.pop("log", None) or self.store.log(self.id)
        self.experiment = Experiment(spec)
        self.backend: InstantBackend = options.pop("backend", None) or InstantBackend(objective)
        self.engine = Engine(
            self.experiment,
            self.log,
            self.backend,
            requests=lambda: self.store.pending(self.id),
            **{"observers": [self.observe], **options},
        )
        self.asked: list[tuple[int, Request]] = []
        self.requests: list[RequestId] = []
        self.turns = 0

    def ask(self, at: int, request: Request) -> None:
        """Post a request after ``at`` turns."""
        self.asked.append((at, request))

    def observe(self, _entries: Sequence[Entry]) -> None:
        self.turns += 1
        for at, request in self.asked:
            if at == self.turns:
                self.requests.append(self.store.post(self.id, request, at=0.0))

    def events(self) -> list[Event]:
        return [entry.event for entry in entries(self.log)]


def test_request_is_recorded_carried_out_and_answered() -> None:
    life = Life()
    life.ask(5, TrialKillRequested(0))
    assert life.engine.run() is ExperimentState.COMPLETED
    assert life.experiment.trials[0].state is TrialState.KILLED
    assert life.store.answer(life.requests[0]) == Answer(None)
    assert life.store.pending(life.id) == []
    assert life.events().count(TrialKillRequested(0)) == 1


def test_impossible_request_is_refused_and_not_recorded() -> None:
    life = Life()
    life.ask(5, TrialKillRequested(999))
    life.engine.run()
    answer = life.store.answer(life.requests[0])
    assert answer is not None
    assert answer.refused is not None
    assert "no trial 999" in answer.refused
    assert TrialKillRequested(999) not in life.events()


def test_request_that_cannot_be_read_is_refused_and_the_driver_continues() -> None:
    life = Life()
    life.ask(5, cast("Request", UnreadableRequest("it was written by a newer Ashwood")))
    life.ask(5, TrialKillRequested(0))
    assert life.engine.run() is ExperimentState.COMPLETED
    refused, done = (life.store.answer(request) for request in life.requests)
    assert refused is not None
    assert refused.refused is not None
    assert "it was written by a newer Ashwood" in refused.refused
    assert "Send the request again" in refused.refused
    assert done == Answer(None)


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_setting_that_no_float_can_hold_is_refused(value: int) -> None:
    life = Life()
    life.ask(5, SettingsChanged({"metric_at": value}))
    assert life.engine.run() is ExperimentState.COMPLETED
    answer = life.store.answer(life.requests[0])
    assert answer is not None
    assert answer.refused is not None


def test_settings_change_while_experiment_runs() -> None:
    life = Life()
    life.ask(5, SettingsChanged({"max_trials": 30}))
    life.engine.run()
    assert len(life.experiment.trials) == 30


@pytest.mark.parametrize(
    ("request_", "state"),
    [
        (PauseRequested(), ExperimentState.PAUSED),
        (CancelRequested(), ExperimentState.CANCELED),
        (KillRequested(), ExperimentState.CANCELED),
    ],
)
def test_request_ends_whole_experiment(request_: Request, state: ExperimentState) -> None:
    life = Life()
    life.ask(5, request_)
    assert life.engine.run() is state
    assert life.backend.closed
    assert not life.backend.live
    assert life.store.record(life.id).state is state


def test_driver_without_lease_stops_and_records_nothing() -> None:
    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1
        if beats == 3:
            raise LeaseLost("another driver owns the experiment now")

    life = Life(beat=beat)
    with pytest.raises(LeaseLost):
        life.engine.run()
    assert life.backend.closed
    assert life.store.record(life.id).state is ExperimentState.RUNNING


def test_max_time_includes_time_of_earlier_drivers() -> None:
    spec = replace(SPEC, max_time=3600.0)
    assert Life(spec, ran_before=10.0).engine.run() is ExperimentState.COMPLETED
    assert Life(spec, ran_before=3600.0).engine.run() is ExperimentState.STOPPED


class SmallDisk(MemoryLog):
    """An event log on a disk that is full after some appends; deleting the reserve makes space for a few more."""

    room = 8

    def append(
        self,
        entries: Sequence[Entry],
        *,
        summary: Mapping[str, Any] | None = None,
        answers: Mapping[RequestId, Answer] | None = None,
    ) -> Seq:
        if self.room == 0:
            raise DiskFull("the disk is full")
        self.room -= 1
        return super().append(entries, summary=summary, answers=answers)


def small_disk() -> SmallDisk:
    store = MemoryStore()
    return SmallDisk(store, store.create(SPEC, at=0.0))


def test_full_disk_pauses_experiment_with_reason() -> None:
    log = small_disk()

    def make_room() -> None:
        log.room = 100

    life = Life(log=log, make_room=make_room)
    assert life.engine.run() is ExperimentState.PAUSED
    assert PauseRequested("the disk is full") in life.events()
    assert not life.backend.live


def test_full_disk_at_heartbeat_pauses_experiment() -> None:
    room: list[str] = []

    def beat() -> None:
        if not room:
            raise DiskFull("the disk is full")

    life = Life(beat=beat, make_room=lambda: room.append("made"))
    assert life.engine.run() is ExperimentState.PAUSED
    assert PauseRequested("the disk is full") in life.events()


def test_disk_that_stays_full_ends_driver_and_loses_nothing() -> None:
    log = small_disk()
    life = Life(log=log, make_room=lambda: None)
    with pytest.raises(DiskFull):
        life.engine.run()
    assert life.backend.closed
    assert len(entries(log)) >= 8


class _TurnClock(WallClock):
    """A clock that advances by one second in each turn of the engine."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0

    def elapsed(self) -> float:
        return float(self.turns)


class _Hanging(InstantBackend):
    """A backend that returns no events for ``turns`` turns after it is asked to hang."""

    def __init__(self, clock: _TurnClock, turns: int) -> None:
        super().__init__(objective)
        self.hangs = False
        self._clock = clock
        self._turns = turns

    def next_events(self, timeout: float | None) -> Sequence[Event]:
        self._clock.turns += 1
        self._turns -= self.hangs
        return [] if self.hangs and self._turns > 0 else super().next_events(timeout)


@pytest.mark.parametrize(
    ("request_", "state", "resumes"),
    [
        (PauseRequested(), ExperimentState.PAUSED, "; its trial resumes from its latest checkpoint"),
        (CancelRequested(), ExperimentState.CANCELED, ""),
    ],
)
def test_pausing_experiment_names_trials_that_it_waits_for(
    request_: Request, state: ExperimentState, resumes: str
) -> None:
    said: list[str] = []
    listed: list[list[int]] = []

    def summarize() -> Mapping[str, Any]:
        backend.hangs = life.experiment.state in (ExperimentState.PAUSING, ExperimentState.STOPPING)
        listed.append(sorted(life.engine._dispatcher.live) if backend.hangs else [])
        return {"waits_for": listed[-1]}

    clock = _TurnClock()
    backend = _Hanging(clock, turns=20)
    life = Life(say=said.append, summarize=summarize, clock=clock, backend=backend)
    life.ask(5, request_)
    assert life.engine.run() is state
    assert [0, 1] in listed
    assert said == [
        "waiting for trials 0, 1 to finish a step and save. A worker that finishes no step or save for 10 s, or for "
        f"twice its longest step, is killed{resumes}"
    ]
    assert life.store.record(life.id).summary == {"waits_for": []}
