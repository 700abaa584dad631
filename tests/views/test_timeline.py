"""Tests of the work of slots, by hand and with random event streams."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given

from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CapacityChanged,
    DriverStarted,
    DriverStopped,
    Event,
    ExtendRequested,
    PauseRequested,
    TrialKillRequested,
    TrialStopRequested,
    ValidationReported,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import TrialState
from ashwood.search.settings import Method, SearchSettings
from ashwood.views.progress import Progress
from ashwood.views.spending import Spending
from ashwood.views.timeline import SlotTime, SpanEnd, Timeline
from tests.views.simulate import Workers, asha, spec_of
from tests.views.streams import runs


def timeline_of(ran: Workers) -> Timeline:
    return fold(Progress(ran.spec), ran.entries).timeline


def history(settings: SearchSettings, *events: tuple[float, Event]) -> Timeline:
    spec = spec_of(settings)
    progress, experiment = Progress(spec), Experiment(spec)
    for at, event in events:
        progress.apply(Entry(at, event, experiment.handle(event)))
    return progress.timeline


def halving(trials: int = 4, **more: object) -> SearchSettings:
    """Return the spec of a search with rungs at 1, 2 and 4."""
    return asha(trials, method=Method.ASYNC_HALVING, max_length=4, divisor=Fraction(2), num_rungs=3, **more)


def report(trial: int, attempt: int, length: int, loss: float) -> ValidationReported:
    return ValidationReported(trial, attempt, length, {"loss": loss})


# -- by hand -----------------------------------------------------------------------------------


def test_slot_that_leaves_cluster_is_that_of_lost_worker() -> None:
    nodes = {"a": 1, "b": 1}
    timeline = history(
        halving(),
        (0.0, DriverStarted(0)),
        (1.0, CapacityChanged(2, nodes)),
        (1.0, AttemptStarted(0, 1, 0, 0, "a")),
        (1.0, AttemptStarted(1, 1, 1, 0, "b")),
        (3.0, AttemptPreempted(0, 1, "node a was lost")),
        (3.0, CapacityChanged(1, {"b": 1}, "node a was lost")),
        (5.0, CapacityChanged(2, nodes, "node a joined")),
        (6.0, AttemptStarted(0, 2, 0, 0, "a")),
        (7.0, DriverStopped()),
    )
    assert sorted(timeline.presences()) == [SlotTime(0, 1.0, 3.0), SlotTime(0, 5.0, 7.0), SlotTime(1, 1.0, 7.0)]
    assert [(gap.slot, gap.begin, gap.end) for gap in timeline.gaps()] == [(0, 5.0, 6.0)]


def test_wrong_guess_of_leaving_slot_is_corrected() -> None:
    timeline = history(
        halving(),
        (0.0, DriverStarted(0)),
        (1.0, CapacityChanged(3, {"a": 3})),
        (1.0, AttemptStarted(0, 1, 2, 0, "a")),
        (3.0, CapacityChanged(2, {"a": 2}, "a worker was given up")),
        (4.0, AttemptStarted(1, 1, 1, 0, "a")),
        (7.0, DriverStopped()),
    )
    assert {slot for slot, _, end in timeline.presences() if end == 7.0} == {1, 2}


def test_attempt_promoted_at_once_has_two_spans() -> None:
    timeline = history(
        halving(4),
        (100.0, DriverStarted(2)),
        (100.0, AttemptStarted(0, 1, 0, 0)),
        (100.0, AttemptStarted(1, 1, 1, 0)),
        (110.0, report(0, 1, 1, 2.0)),
        (111.0, AttemptEnded(0, 1, 1)),
        (115.0, report(1, 1, 1, 1.0)),
    )
    paused, promoted, working = timeline.spans
    assert (paused.begin, paused.end, paused.how, paused.metric) == (100.0, 111.0, SpanEnd.PAUSED, 2.0)
    assert (promoted.begin, promoted.end, promoted.how, promoted.rung) == (100.0, 115.0, SpanEnd.PROMOTED, 0)
    assert (working.slot, working.begin, working.end, working.how) == (1, 115.0, None, None)
    assert (working.rung, working.start, working.target, working.metric) == (1, 1, 2, None)
    assert list(timeline.gaps()) == [(0, 111.0, 115.0)]
    assert [(each.at, each.rung, each.metric) for each in timeline.ladder.paths[1].arrivals] == [(115.0, 0, 1.0)]
    assert timeline.ladder.paths[1].promotions == (115.0,)


def test_stopped_trial_counts_in_each_rung_up_to_its_length() -> None:
    timeline = history(
        halving(8, stop_once=True),
        (0.0, DriverStarted(2)),
        (0.0, AttemptStarted(0, 1, 0, 0)),
        (0.0, AttemptStarted(1, 1, 1, 0)),
        (5.0, report(0, 1, 3, 1.0)),
        (6.0, report(1, 1, 2, 2.0)),
    )
    assert [each.rung for each in timeline.ladder.paths[0].arrivals] == [0, 1]
    assert timeline.ladder.paths[0].promotions == (5.0, 5.0)
    assert [each.rung for each in timeline.ladder.paths[1].arrivals] == [0, 1]
    assert (timeline.ladder.paths[1].promotions, timeline.ladder.paths[1].state) == ((), TrialState.STOPPED)


def test_time_between_drivers_does_not_count() -> None:
    timeline = history(
        halving(),
        (0.0, DriverStarted(2)),
        (1.0, AttemptStarted(0, 1, 0, 0)),
        (4.0, CapacityChanged(1)),
        (900.0, DriverStarted(1)),  # The driver before died, so it has no last entry.
        (901.0, AttemptStarted(0, 2, 0, 0)),
        (903.0, PauseRequested()),
        (905.0, AttemptEnded(0, 2, 0)),
        (906.0, DriverStopped()),
    )
    assert [(span.begin, span.end, span.how) for span in timeline.spans] == [
        (1.0, 4.0, SpanEnd.PREEMPTED),
        (901.0, 905.0, SpanEnd.PREEMPTED),
    ]
    assert list(timeline.gaps()) == [(0, 0.0, 1.0), (0, 900.0, 901.0), (0, 905.0, 906.0), (1, 0.0, 4.0)]
    assert (timeline.began, timeline.until, timeline.slots) == (0.0, 906.0, 2)


def test_spans_end_as_requested() -> None:
    began = (
        (0.0, DriverStarted(2)),
        (0.0, AttemptStarted(0, 1, 0, 0)),
        (0.0, AttemptStarted(1, 1, 1, 0)),
    )
    killed = history(halving(), *began, (1.0, TrialKillRequested(0)), (2.0, AttemptFailed(0, 1, "killed on request")))
    stopped = history(halving(), *began, (1.0, TrialStopRequested(0)), (2.0, AttemptEnded(0, 1, 0)))
    failed = history(halving(), *began, (2.0, AttemptFailed(0, 1, "boom")))
    before_it_began = history(
        halving(),
        (0.0, DriverStarted(1)),
        (0.0, TrialKillRequested(0)),
        (1.0, AttemptStarted(0, 1, 0, 0)),
        (2.0, AttemptFailed(0, 1, "killed on request")),
    )
    assert killed.spans[0].how is before_it_began.spans[0].how is SpanEnd.KILLED
    assert stopped.spans[0].how is SpanEnd.STOPPED
    assert failed.spans[0].how is SpanEnd.FAILED
    assert killed.ladder.paths[0].ended == 1.0
    assert failed.ladder.paths[0].ended is None


def test_late_events_of_ended_attempt_change_nothing() -> None:
    timeline = history(
        halving(),
        (0.0, DriverStarted(1)),
        (0.0, AttemptStarted(0, 1, 0, 0)),
        (1.0, AttemptFailed(0, 1, "boom")),
        (2.0, AttemptStarted(0, 2, 0, 0)),
        (3.0, report(0, 1, 1, 0.5)),
        (4.0, AttemptEnded(0, 1, 1)),
    )
    assert [(span.attempt, span.length, span.end) for span in timeline.spans] == [(1, 0, 1.0), (2, 0, None)]
    assert timeline.ladder.paths[0].arrivals == ()


def test_job_from_before_an_extension_ends_at_its_former_target() -> None:
    timeline = history(
        asha(1, method=Method.RANDOM, max_length=4),
        (0.0, DriverStarted(1)),
        (1.0, AttemptStarted(0, 1, 0, 0)),
        (2.0, PauseRequested()),
        (2.0, AttemptEnded(0, 1, 0)),
        (3.0, DriverStopped()),
        (4.0, ExtendRequested(max_length=9)),
        (5.0, DriverStarted(1)),
        (6.0, AttemptStarted(0, 2, 0, 0)),
        (7.0, report(0, 2, 4, 0.5)),
    )
    assert [(span.target, span.length, span.how) for span in timeline.spans] == [
        (4, 0, SpanEnd.PREEMPTED),
        (4, 4, SpanEnd.PROMOTED),
        (9, 4, None),
    ]


# -- of any stream -----------------------------------------------------------------------------


@given(ran=runs())
def test_spans_of_slot_do_not_overlap_and_match_spending(ran: Workers) -> None:
    timeline, spending = timeline_of(ran), Spending()
    for at, event, _ in ran.entries:
        spending.apply(Entry(at, event))
    worked = [
        SlotTime(span.slot, span.begin, timeline.until if span.end is None else span.end) for span in timeline.spans
    ]
    idle = list(timeline.gaps())
    stretches = defaultdict(list)
    for slot, begin, end in [*worked, *idle]:
        stretches[slot].append((begin, end))
    for each in stretches.values():
        assert all(end <= begin for (_, end), (begin, _) in pairwise(sorted(each)))
    assert all(begin < end for _, begin, end in idle)
    busy = sum(end - begin for _, begin, end in worked)
    assert busy == pytest.approx(spending.busy_seconds)
    assert busy + sum(end - begin for _, begin, end in idle) == pytest.approx(spending.slot_seconds)
    assert sum(end - begin for begin, end in timeline.shifts) == pytest.approx(spending.driver_seconds)
    assert {span.trial: span.attempt for span in timeline.live} == {
        trial: live.attempt for trial, live in spending.live.items()
    }


@given(ran=runs())
def test_spans_agree_with_ladder(ran: Workers) -> None:
    timeline = timeline_of(ran)
    for span in timeline.spans:
        path = timeline.ladder.paths[span.trial]
        assert span.bracket == path.bracket
        assert span.start <= span.length
        if span.trial in timeline.ladder.originals:
            assert (span.how is not SpanEnd.COMPLETED) or span.length >= span.target
            continue
        if span.target < (length := timeline.ladder.lengths[span.bracket][span.rung]):
            # All trials of a search with a single rung train on to a greater length if it is extended.
            assert not ran.spec.search.method.is_halving
            continue
        assert span.target == length
        if span.how in (SpanEnd.PROMOTED, SpanEnd.PAUSED, SpanEnd.COMPLETED):
            arrival = path.arrivals[span.rung]
            assert span.begin <= arrival.at <= (timeline.until if span.end is None else span.end)
            assert arrival.length == span.length >= span.target
