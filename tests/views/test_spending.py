"""Tests of time and training, by hand and with random event streams."""

from __future__ import annotations

import pytest
from hypothesis import given

from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CapacityChanged,
    CheckpointSaved,
    DriverStarted,
    DriverStopped,
    Event,
    ValidationReported,
)
from ashwood.views.spending import Spending
from tests.views.simulate import Workers
from tests.views.streams import runs


def spending_of(*entries: tuple[float, Event]) -> Spending:
    spending = Spending()
    for at, event in entries:
        spending.apply(Entry(at, event))
    return spending


def test_slot_is_busy_while_attempt_runs() -> None:
    spending = spending_of(
        (100.0, DriverStarted(2)),
        (101.0, AttemptStarted(0, 1, 0, 0)),
        (105.0, ValidationReported(0, 1, 4, {})),
        (109.0, AttemptEnded(0, 1, 4)),
        (110.0, DriverStopped()),
    )
    assert (spending.slot_seconds, spending.busy_seconds) == (20.0, 8.0)
    assert spending.utilisation() == pytest.approx(0.4)


def test_time_between_drivers_does_not_count() -> None:
    spending = spending_of(
        (100.0, DriverStarted(1)), (110.0, DriverStopped()), (900.0, DriverStarted(3)), (901.0, DriverStopped())
    )
    assert spending.slot_seconds == 13.0
    assert spending.utilisation(now=2_000.0) == 0.0


def test_dead_driver_counts_up_to_its_last_entry() -> None:
    spending = spending_of(
        (100.0, DriverStarted(1)), (100.0, AttemptStarted(0, 1, 0, 0)), (104.0, ValidationReported(0, 1, 2, {}))
    )
    assert spending.apply(Entry(900.0, DriverStarted(2))) == [(0, 4.0)]
    spending.apply(Entry(901.0, DriverStopped()))
    assert (spending.slot_seconds, spending.busy_seconds) == (6.0, 4.0)


def test_changed_capacity_counts_from_then_on() -> None:
    spending = spending_of((0.0, DriverStarted(1)), (10.0, CapacityChanged(4)), (20.0, DriverStopped()))
    assert spending.slot_seconds == 50.0


def test_running_attempts_count_up_to_now() -> None:
    spending = spending_of((0.0, DriverStarted(2)), (0.0, AttemptStarted(0, 1, 0, 0)))
    assert spending.utilisation(now=10.0) == pytest.approx(0.5)


def test_training_without_checkpoint_counts_as_repeated() -> None:
    spending = spending_of(
        (0.0, DriverStarted(1)),
        (0.0, AttemptStarted(0, 1, 0, 0)),
        (4.0, CheckpointSaved(0, 1, 4, "p")),
        (6.0, ValidationReported(0, 1, 6, {})),
        (7.0, AttemptFailed(0, 1, "boom")),
        (7.0, AttemptStarted(0, 2, 0, 4)),
        (12.0, ValidationReported(0, 2, 9, {})),
    )
    assert (spending.trained, spending.repeated) == (9, 2)


def test_preempted_attempt_is_no_longer_busy() -> None:
    spending = spending_of((0.0, DriverStarted(1)), (0.0, AttemptStarted(0, 1, 0, 0)))
    assert spending.apply(Entry(4.0, AttemptPreempted(0, 1, "a spot instance"))) == ((0, 4.0),)
    spending.apply(Entry(10.0, DriverStopped()))
    assert (spending.busy_seconds, spending.slot_seconds) == (4.0, 10.0)


def test_seconds_of_running_attempt_count_from_its_start() -> None:
    spending = spending_of((0.0, DriverStarted(1)), (3.0, AttemptStarted(0, 1, 0, 0)), (7.0, CapacityChanged(1)))
    assert (spending.so_far(0), spending.so_far(0, 20.0), spending.so_far(0, 5.0)) == (4.0, 17.0, 4.0)
    spending.apply(Entry(23.0, AttemptFailed(0, 1, "boom")))
    assert spending.so_far(0, 30.0) == 0.0


def test_late_events_of_ended_attempt_change_nothing() -> None:
    spending = spending_of(
        (0.0, DriverStarted(1)),
        (0.0, AttemptStarted(0, 2, 0, 0)),
        (1.0, ValidationReported(0, 1, 50, {})),
        (2.0, AttemptFailed(0, 1, "late")),
    )
    assert spending.trained == 0
    assert 0 in spending.live


def test_clock_set_back_subtracts_no_time() -> None:
    spending = spending_of((100.0, DriverStarted(1)), (110.0, CapacityChanged(1)), (50.0, CapacityChanged(1)))
    assert spending.slot_seconds == 10.0


def test_time_left_counts_down_between_reports_and_follows_the_pace() -> None:
    spending = spending_of((0.0, DriverStarted(2)))
    assert spending.seconds_to_train(10, 1.0) is None
    for slot in (0, 1):
        spending.apply(Entry(0.0, AttemptStarted(slot, 1, slot, 0)))
        spending.apply(Entry(10.0, ValidationReported(slot, 1, 5, {})))
    assert spending.seconds_to_train(20, 10.0) == pytest.approx(20.0)
    assert spending.seconds_to_train(20, 14.0) == pytest.approx(16.0)
    spending.apply(Entry(20.0, DriverStopped()))
    assert spending.seconds_to_train(20, 20.0) is None


@given(ran=runs())
def test_spending_adds_up(ran: Workers) -> None:
    spending = Spending()
    worked = 0.0
    trained = 0
    for at, event, _ in ran.entries:
        worked += sum(seconds for _, seconds in spending.apply(Entry(at, event)))
        assert spending.trained + spending.repeated >= trained
        trained = spending.trained + spending.repeated
    worked += sum(spending._last_at - live.since for live in spending.live.values())
    assert spending.busy_seconds == pytest.approx(worked)
    assert 0.0 <= spending.utilisation() <= 1.0
    assert spending.trained == sum(spending._furthest.values())
    assert all(spending._furthest.get(trial.id, 0) >= trial.length for trial in ran.experiment.trials.values())
