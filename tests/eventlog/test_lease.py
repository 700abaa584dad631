"""Leases, tested with real processes that are killed and with fake clocks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ashwood.errors import ExperimentBusy, LeaseLost, NotFound
from ashwood.eventlog import driver as drivers
from ashwood.eventlog.driver import is_alive, this_driver
from ashwood.eventlog.lease import is_driven, take_lease
from ashwood.eventlog.port import Driver, LeaseState, Store
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.testing.records import a_driver, full_spec
from tests.eventlog.memory_store import MemoryStore

HOLD = """
import sys
from pathlib import Path
from ashwood.eventlog.lease import take_lease
from ashwood.eventlog.sqlite import SqliteStore

lease = take_lease(SqliteStore(Path(sys.argv[1])), 1)
print("held", flush=True)
sys.stdin.read()
"""


class Clock:
    """A fake monotonic clock: time passes only in calls of `sleep`."""

    def __init__(self, on_sleep: Callable[[], None] = lambda: None) -> None:
        self.now = 100.0
        self.on_sleep = on_sleep

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()


class WrongClock(MemoryStore):
    """A store with a wrong clock: the last heartbeat is always ``idle`` seconds old."""

    idle = 0.0

    def lease(self, experiment: int) -> LeaseState | None:
        lease = super().lease(experiment)
        return lease and lease._replace(idle=self.idle)


def no_sleep(seconds: float) -> None:
    raise AssertionError("the lease must be taken or refused without waiting")


@pytest.fixture
def store() -> WrongClock:
    store = WrongClock()
    store.create(full_spec(), at=1.0)
    return store


@contextmanager
def another_process() -> Iterator[tuple[subprocess.Popen[str], Driver]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as process:
        yield process, this_driver()._replace(process=process.pid, started=drivers._started(process.pid))
        process.kill()


def take(store: Store, clock: Clock) -> int:
    with take_lease(store, 1, stale_after=15.0, clock=clock, sleep=clock.sleep) as lease:
        return lease.token


def test_free_lease_is_taken_and_released(store: WrongClock) -> None:
    with take_lease(store, 1, sleep=no_sleep) as lease:
        assert is_driven(store, 1)
        with pytest.raises(ExperimentBusy, match=f"process {os.getpid()} on .* is running this experiment"):
            take_lease(store, 1, sleep=no_sleep)
    assert not is_driven(store, 1)
    lease.release()
    with take_lease(store, 1, sleep=no_sleep) as second:
        lease.release()
        assert is_driven(store, 1)
    assert second.token > lease.token
    with pytest.raises(NotFound):
        take_lease(store, 2)


def test_lease_of_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ashwood.db"
    with closing(SqliteStore(path)) as store:
        store.create(full_spec(), at=1.0)
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "held\n"
            with pytest.raises(ExperimentBusy, match=f"process {owner.pid}"):
                take_lease(store, 1, sleep=no_sleep)
            assert is_driven(store, 1)
            owner.kill()
            # The process has ended, but its exit status is not collected, so it still has an entry in /proc.
            os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
            assert not is_driven(store, 1)
            take_lease(store, 1, sleep=no_sleep).release()


def test_process_with_reused_id_is_not_the_owner(store: WrongClock) -> None:
    me = this_driver()
    store.take_lease(1, me._replace(started=me.started - 1))
    assert not is_driven(store, 1)
    take_lease(store, 1, sleep=no_sleep).release()


def test_heartbeat_of_owner_on_another_machine_is_watched(store: WrongClock) -> None:
    token = store.take_lease(1, a_driver(7))
    assert is_alive(a_driver(7)) is None
    with pytest.raises(ExperimentBusy, match="process 7 on here"):
        take(store, Clock(lambda: store.beat(1, token)))
    silent = Clock()
    assert take(store, silent) > token
    assert 15 <= silent.now - 100 < 16
    with pytest.raises(LeaseLost):
        store.beat(1, token)


def test_watching_ends_when_owner_releases_the_lease(store: WrongClock) -> None:
    token = store.take_lease(1, a_driver(7))
    clock = Clock(lambda: store.release_lease(1, token))
    take(store, clock)
    assert clock.now - 100 < 1


def test_watching_ends_when_process_of_owner_dies(store: WrongClock) -> None:
    store.idle = 20
    with another_process() as (process, driver):
        store.take_lease(1, driver)

        def die() -> None:
            process.kill()
            process.wait()

        clock = Clock(die)
        take(store, clock)
        assert clock.now - 100 < 1


def test_only_one_of_two_processes_takes_over(store: WrongClock) -> None:
    token = store.take_lease(1, a_driver(7))

    def other_is_faster() -> None:
        if clock.now > 114.9 and (lease := store.lease(1)) and lease.token == token:
            store.take_lease(1, a_driver(8), over=lease)

    clock = Clock(other_is_faster)
    with pytest.raises(ExperimentBusy, match="process 8"):
        take(store, clock)


@pytest.mark.parametrize("idle", [-3600.0, 3600.0])
def test_wall_clock_jump_only_delays_taking_over(store: WrongClock, idle: float) -> None:
    with another_process() as (_, driver):
        token = store.take_lease(1, driver)
        store.idle = idle
        with pytest.raises(ExperimentBusy):
            take(store, Clock(lambda: store.beat(1, token)))
        assert take(store, Clock()) > token  # The process is alive, but there are no heartbeats.


def test_living_owner_with_recent_heartbeat_is_busy_at_once(store: WrongClock) -> None:
    with another_process() as (_, driver):
        store.take_lease(1, driver)
        store.idle = 14.9
        with pytest.raises(ExperimentBusy):
            take_lease(store, 1, stale_after=15.0, sleep=no_sleep)


def test_is_driven_uses_age_of_heartbeat_of_unknown_process(store: WrongClock) -> None:
    store.take_lease(1, a_driver(7))
    assert is_driven(store, 1, stale_after=15)
    store.idle = 16
    assert not is_driven(store, 1, stale_after=15)


def test_beat_writes_at_most_every_fifth_of_the_timeout(store: WrongClock) -> None:
    clock = Clock()
    lease = take_lease(store, 1, stale_after=15.0, clock=clock)
    beats = []
    for _ in range(10):
        clock.now += 1
        lease.beat()
        state = store.lease(1)
        assert state is not None
        beats.append(state.beat)
    assert beats == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3]
    store.take_lease(1, a_driver(8), over=store.lease(1))
    clock.now += 3
    with pytest.raises(LeaseLost, match="process 8"):
        lease.beat()
    lease.release()
    assert is_driven(store, 1)


@pytest.mark.skipif(shutil.which("ps") is None, reason="ps is not installed")
def test_is_alive_uses_ps_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(drivers, "_PROC", tmp_path)
    drivers._machine.cache_clear()
    try:
        with another_process() as (process, driver):
            assert is_alive(driver)
            assert not is_alive(driver._replace(started=driver.started - 100))
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert is_alive(driver) is False
            process.wait()
            assert is_alive(driver) is False
            assert is_alive(a_driver()) is None
    finally:
        drivers._machine.cache_clear()


def test_is_alive_is_unknown_for_hidden_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    me = this_driver()
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "stat").touch()
    monkeypatch.setattr(drivers, "_PROC", tmp_path)
    assert is_alive(me) is None


def test_is_alive_is_unknown_in_another_time_namespace() -> None:
    # Start times are in ticks since the boot, and the boot time differs between time namespaces.
    command = ["unshare", "-T", "--boottime", "100000"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a time namespace")
    code = (
        "import sys; from ashwood.eventlog.driver import is_alive; from ashwood.eventlog.port import Driver; "
        f"print(is_alive(Driver(*{tuple(this_driver())!r})))"
    )
    process = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == "None\n"
