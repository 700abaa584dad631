"""A driver continues an experiment from any state that the last driver left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from ashwood.backends.local.worker_lock import held
from ashwood.engine import Home, Session, open_home, session, worker_hosts
from ashwood.engine.loop import Engine
from ashwood.engine.worker_hosts import ReservationOptions, WorkerHost
from ashwood.errors import BackendError, DiskFull, EventLogError, RequestRefused
from ashwood.eventlog.fold_cache import Folded, fold, read_progress
from ashwood.eventlog.lease import Lease
from ashwood.eventlog.sql import SqlLog, SqlStore
from ashwood.experiment.entry import Entry
from ashwood.experiment.entry import fold as fold_entries
from ashwood.experiment.events import CancelRequested, DriverStopped, Event, SettingsChanged
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.forecast.time_left import Forecaster
from ashwood.views.progress import Progress
from ashwood.views.trust import Trust

from .instant_backend import InstantBackend, Quiet
from .test_loop import SPEC, entries, new_log, objective


class Closing(AbstractContextManager["Closing"]):
    """A backend that is a context manager, like `LocalBackend`."""

    def __init__(self, backend: InstantBackend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def __exit__(self, *_: object) -> None:
        self._backend.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path, create=True) as opened:
        yield opened


def recorded(home: Home, *, until: int | None = None) -> int:
    """An experiment with the log of a whole search, or the beginning of it."""
    log = new_log()
    Engine(Experiment(SPEC), log, InstantBackend(objective)).run()
    experiment = home.store.create(SPEC, at=0.0)
    home.store.log(experiment).append(entries(log)[:until])
    return experiment


def test_end_is_recorded_if_driver_died_before_recording_it(home: Home) -> None:
    experiment = recorded(home, until=-1)
    assert home.store.record(experiment).state is ExperimentState.RUNNING
    observer = Quiet()
    assert Session(home, experiment).run(observer) is ExperimentState.COMPLETED
    assert home.store.record(experiment).state is ExperimentState.COMPLETED
    assert observer.progress.state is ExperimentState.COMPLETED
    assert not observer.is_ready, "nothing was left to run"


def test_cancel_is_completed_if_driver_died_meanwhile(home: Home) -> None:
    experiment = recorded(home, until=20)
    folded = Experiment(SPEC)
    for _, entry in home.store.log(experiment).read():
        folded.handle(entry.event)
    home.store.log(experiment).append([Entry(0.0, CancelRequested(), folded.handle(CancelRequested()))])
    assert Session(home, experiment).run(Quiet()) is ExperimentState.CANCELED
    assert isinstance(list(home.store.log(experiment).read())[-1][1].event, DriverStopped)


@pytest.mark.parametrize("asked", [[CancelRequested()], []], ids=["canceled", "completed"])
def test_experiment_that_ends_while_catching_up_gets_its_final_summary(home: Home, asked: list[Event]) -> None:
    experiment = recorded(home, until=20 if asked else -1)
    log, folded, progress = home.store.log(experiment), Experiment(SPEC), Progress(SPEC)
    for _, entry in log.read():
        folded.handle(entry.event)
        progress.apply(entry)
    # The driver kept this summary, recorded one more entry, and was killed.
    log.append([], summary=Forecaster(progress).summary())
    log.append([Entry(0.0, event, folded.handle(event)) for event in asked])
    state = Session(home, experiment).run(Quiet())
    progress = fold_entries(Progress(SPEC), (entry for _, entry in log.read()))
    record = home.store.record(experiment)
    assert record.state is state
    assert record.summary == Forecaster(progress).summary()
    assert "running" not in record.summary["trials"]


def test_refused_resume_updates_summary(home: Home) -> None:
    experiment = recorded(home, until=20)
    log, folded = home.store.log(experiment), Experiment(SPEC)
    for _, entry in log.read():
        folded.handle(entry.event)
    # The goal is reached, and the driver was killed while its trials stopped.
    goal = SettingsChanged({"metric_at": 100.0})
    log.append([Entry(0.0, goal, folded.handle(goal))], summary={})
    with pytest.raises(RequestRefused):
        Session(home, experiment).run(Quiet())
    assert home.store.record(experiment).summary["trials"]


def test_driver_renews_lease_while_it_writes_snapshot(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = home.store.create(SPEC, at=0.0)
    monkeypatch.setattr(worker_hosts, "LocalBackend", lambda _spec, **_: Closing(InstantBackend(objective)))
    monkeypatch.setattr(session, "_SNAPSHOT_ENTRIES", 5)
    monkeypatch.setattr(session, "_SNAPSHOT_SHARE", 0)
    saved, writing, beats = list[int](), False, list[bool]()

    def slow_save(_path: Path, folded: Folded, beat: Callable[[], None]) -> None:
        nonlocal writing
        writing = True
        beat()
        writing = False
        saved.append(folded.seq)

    def beat(_lease: Lease) -> None:
        beats.append(writing)
        if writing:  # it is for the beats of the engine to do something about that
            raise DiskFull("the disk is full")

    monkeypatch.setattr(session, "save_snapshot", slow_save)
    monkeypatch.setattr(Lease, "beat", beat)
    assert Session(home, experiment).run(Quiet()) is ExperimentState.COMPLETED
    assert len(saved) > 5
    assert beats.count(True) == len(saved)


@pytest.mark.parametrize("recorded", range(3, 12))
def test_snapshot_has_no_unrecorded_events(home: Home, monkeypatch: pytest.MonkeyPatch, recorded: int) -> None:
    experiment = home.store.create(SPEC, at=0.0)
    monkeypatch.setattr(worker_hosts, "LocalBackend", lambda _spec, **_: Closing(InstantBackend(objective)))
    append, appends = SqlLog.append, iter(range(recorded))

    def fail_at_last(*args: Any, **options: Any) -> int:
        if next(appends, None) is None:
            raise EventLogError("the disk is gone")
        return append(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(SqlLog, "append", fail_at_last)
        with pytest.raises(EventLogError, match="is gone"):
            Session(home, experiment).run(Quiet())
    assert Session(home, experiment).run(Quiet()) is ExperimentState.COMPLETED
    fold(SPEC, home.store.log(experiment))


def test_snapshot_of_ended_search_has_reading_of_trust_meter(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = home.store.create(SPEC, at=0.0)
    monkeypatch.setattr(worker_hosts, "LocalBackend", lambda _spec, **_: Closing(InstantBackend(objective)))
    Session(home, experiment).run(Quiet())
    monkeypatch.setattr(Trust, "_read", None)
    assert read_progress(home, experiment).trust.reading() is not None


def test_ended_experiment_is_not_run(home: Home) -> None:
    experiment = recorded(home)
    with pytest.raises(RequestRefused, match="is completed: there is nothing left to run"):
        Session(home, experiment).run(Quiet())


@pytest.mark.parametrize(
    ("bound", "message"),
    [({"metric_at": 100.0}, "--stop-when metric_at=METRIC"), ({"max_time": 1e-9}, "--stop-when max_time=TIME")],
)
def test_refused_resume_says_how_to_change_bound(home: Home, bound: dict[str, float], message: str) -> None:
    experiment = recorded(home, until=20)
    folded = Experiment(SPEC)
    for _, entry in home.store.log(experiment).read():
        folded.handle(entry.event)
    at = [entry.at for _, entry in home.store.log(experiment).read()][-1]
    events: list[Event] = [DriverStopped(), SettingsChanged(bound)]
    home.store.log(experiment).append([Entry(at, event, folded.handle(event)) for event in events])
    with pytest.raises(RequestRefused, match=message):
        Session(home, experiment).run(Quiet())


def test_workers_of_other_experiment_in_directory_are_refused(tmp_path: Path) -> None:
    with open_home(tmp_path, create=True) as home:
        experiment = home.create(SPEC, at=0.0)
        lock = home.directory(experiment) / "workers.lock"
        lock.write_text("another")
        host = WorkerHost(home, experiment, home.store.spec(experiment))
        with held(lock), pytest.raises(BackendError, match="of the experiment with identity another"):
            host.clear(lambda _: None, lambda *_: None)
        host.clear(lambda _: None, lambda *_: None)
        with host.backend(1, ReservationOptions(share=False, say=pytest.fail, on_wait=pytest.fail, sleep=time.sleep)):
            pass
        assert lock.read_text() == home.store.spec(experiment).identity


def test_older_database_is_refused_before_workers_are_ended(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers can be those of the driver that uses the newer database."""
    experiment = home.create(SPEC, at=0.0)
    home.directory(experiment)
    events: list[Event] = [DriverStopped(), CancelRequested()]
    with home.log(experiment) as log:
        log.append([Entry(0.0, event, ()) for event in events])
    assert isinstance(home.store, SqlStore)
    home.store._query("DELETE FROM entries WHERE seq = 2 RETURNING 1")
    home.store._query("UPDATE logs SET head = 1 RETURNING 1")
    monkeypatch.setattr(WorkerHost, "clear", lambda *_: pytest.fail("it looked for workers"))
    with pytest.raises(EventLogError, match="entry 2 is missing"):
        Session(home, experiment).run(Quiet())
