"""Leases: real processes and real kills; the clocks are the tests' own."""

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
from ashwood.eventlog.memory import MemoryStore
from ashwood.eventlog.port import Driver, LeaseState, Store
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.testing.records import a_driver, full_spec

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
    """Seconds that pass only while somebody sleeps."""

    def __init__(self, on_sleep: Callable[[], None] = lambda: None) -> None:
        self.now = 100.0
        self.on_sleep = on_sleep

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()


class WrongClock(MemoryStore):
    """A store whose clock jumps."""

    idle = 0.0

    def lease(self, experiment: int) -> LeaseState | None:
        lease = super().lease(experiment)
        return lease and lease._replace(idle=self.idle)


def no_sleep(seconds: float) -> None:
    raise AssertionError("it should know at once")


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


def test_nobodys_is_taken_and_let_go_of(store: WrongClock) -> None:
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


def test_a_killed_owner_holds_nothing(tmp_path: Path) -> None:
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
            # Not waited for yet: dead, though the system still knows it.
            os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
            assert not is_driven(store, 1)
            take_lease(store, 1, sleep=no_sleep).release()


def test_a_process_id_that_is_used_again_is_another_driver(store: WrongClock) -> None:
    me = this_driver()
    store.take_lease(1, me._replace(started=me.started - 1))
    assert not is_driven(store, 1)
    take_lease(store, 1, sleep=no_sleep).release()


def test_an_owner_on_another_machine_is_watched(store: WrongClock) -> None:
    token = store.take_lease(1, a_driver(7))
    assert is_alive(a_driver(7)) is None
    with pytest.raises(ExperimentBusy, match="process 7 on here"):
        take(store, Clock(lambda: store.beat(1, token)))
    silent = Clock()
    assert take(store, silent) > token
    assert 15 <= silent.now - 100 < 16
    with pytest.raises(LeaseLost):
        store.beat(1, token)


def test_an_owner_that_lets_go_while_it_is_watched_isnt_waited_for(store: WrongClock) -> None:
    token = store.take_lease(1, a_driver(7))
    clock = Clock(lambda: store.release_lease(1, token))
    take(store, clock)
    assert clock.now - 100 < 1


def test_an_owner_that_dies_while_it_is_watched_isnt_waited_for(store: WrongClock) -> None:
    store.idle = 20
    with another_process() as (process, driver):
        store.take_lease(1, driver)

        def die() -> None:
            process.kill()
            process.wait()

        clock = Clock(die)
        take(store, clock)
        assert clock.now - 100 < 1


def test_of_two_that_take_over_one_wins(store: WrongClock) -> None:
    token = store.take_lease(1, a_driver(7))

    def other_is_faster() -> None:
        if clock.now > 114.9 and (lease := store.lease(1)) and lease.token == token:
            store.take_lease(1, a_driver(8), over=lease)

    clock = Clock(other_is_faster)
    with pytest.raises(ExperimentBusy, match="process 8"):
        take(store, clock)


@pytest.mark.parametrize("idle", [-3600.0, 3600.0])
def test_a_wall_clock_that_jumps_costs_time_and_nothing_else(store: WrongClock, idle: float) -> None:
    with another_process() as (_, driver):
        token = store.take_lease(1, driver)
        store.idle = idle
        with pytest.raises(ExperimentBusy):
            take(store, Clock(lambda: store.beat(1, token)))
        assert take(store, Clock()) > token  # alive, and stuck


def test_a_living_owner_on_this_machine_is_believed(store: WrongClock) -> None:
    with another_process() as (_, driver):
        store.take_lease(1, driver)
        store.idle = 14.9
        with pytest.raises(ExperimentBusy):
            take_lease(store, 1, stale_after=15.0, sleep=no_sleep)


def test_lists_believe_what_they_can_see(store: WrongClock) -> None:
    store.take_lease(1, a_driver(7))
    assert is_driven(store, 1, stale_after=15)
    store.idle = 16
    assert not is_driven(store, 1, stale_after=15)


def test_beats_are_cheap(store: WrongClock) -> None:
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


@pytest.mark.skipif(shutil.which("ps") is None, reason="ps isn't installed")
def test_without_proc_ps_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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


def test_a_process_that_is_hidden_may_be_alive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    me = this_driver()
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "stat").touch()
    monkeypatch.setattr(drivers, "_PROC", tmp_path)
    assert is_alive(me) is None


def test_a_living_driver_is_not_taken_for_dead_in_another_time_namespace() -> None:
    # Start times are in ticks since the boot, and such a namespace has another boot time.
    command = ["unshare", "-T", "--boottime", "100000"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a time namespace")
    code = (
        "import sys; from ashwood.eventlog.driver import is_alive; from ashwood.eventlog.port import Driver; "
        f"print(is_alive(Driver(*{tuple(this_driver())!r})))"
    )
    said = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "None\n"
