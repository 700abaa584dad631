"""When an attempt that must stop is taken to hang, on a clock of the test."""

from math import inf

import pytest

from ashwood.backends.local.liveness import STEP_SECONDS, STORING_SECONDS, WRITING_SECONDS, Liveness
from ashwood.trial.channel import Phase

NEVER_GROWS = "size"


def size_of(_: str) -> object:
    return NEVER_GROWS


def training(**options: float) -> Liveness:
    liveness = Liveness(0.0, **options)
    liveness.enter(0.0, Phase.TRAINING)
    return liveness


def hung_from(liveness: Liveness) -> float:
    """Return the time from which the attempt hangs, if nothing more happens."""
    while not liveness.is_hung(now := liveness.due, size_of):
        assert now < liveness.due < inf
    return now


def test_attempt_that_need_not_stop_never_hangs() -> None:
    liveness = training()
    assert liveness.due == inf
    assert not liveness.is_hung(1e9, size_of)


def test_max_silence_counts_from_last_sign_of_life() -> None:
    liveness = training(max_silence=60.0, pulse=1.0)
    liveness.alive(100.0, longest=90.0)
    assert hung_from(liveness) == 161.0


@pytest.mark.parametrize("phase", [Phase.FETCHING, Phase.WRITING, Phase.STORING])
def test_saving_and_fetching_do_not_count_as_silence(phase: Phase) -> None:
    liveness = training(max_silence=60.0)
    liveness.enter(10.0, phase)
    assert liveness.due == inf
    liveness.enter(1000.0, Phase.TRAINING)
    assert hung_from(liveness) == 1060.0


def test_waiting_for_search_does_not_count_as_silence() -> None:
    liveness = training(max_silence=60.0)
    liveness.wait(0.0)
    assert liveness.due == inf
    liveness.alive(1000.0)
    assert hung_from(liveness) == 1060.0


def test_waiting_saving_and_fetching_do_not_count_as_training() -> None:
    liveness = Liveness(0.0)
    assert liveness.trained_for(5.0) == inf, "it imports the training code"
    liveness.enter(1.0, Phase.FETCHING)
    liveness.begin(11.0)
    assert liveness.trained(13.0) == 2.0
    assert liveness.trained_for(5.0) == 16.0
    liveness.wait(14.0)
    assert liveness.trained_for(5.0) == inf
    liveness.alive(24.0)
    liveness.enter(24.5, Phase.WRITING)
    liveness.enter(34.5, Phase.STORING)
    assert liveness.trained(44.5) == 3.5


def test_attempt_that_must_stop_has_only_limit_after_request() -> None:
    liveness = training(max_silence=3.0)
    liveness.ask_to_stop(0.0)
    assert not liveness.is_hung(STEP_SECONDS - 0.1, size_of)
    assert liveness.must_stop


def test_limit_counts_from_the_request_to_stop() -> None:
    liveness = training()
    liveness.ask_to_stop(1000.0)
    liveness.ask_to_stop(1005.0)
    assert not liveness.is_hung(1000.0 + STEP_SECONDS - 0.1, size_of)
    assert hung_from(liveness) == 1000.0 + STEP_SECONDS


def test_each_finished_step_starts_the_limit_anew() -> None:
    liveness = training()
    liveness.ask_to_stop(0.0)
    for now in range(5, 100, 5):
        assert not liveness.is_hung(now, size_of)
        liveness.alive(now)
    assert hung_from(liveness) == 95.0 + STEP_SECONDS


def test_step_may_take_twice_as_long_as_the_longest_before() -> None:
    liveness = training()
    liveness.alive(50.0, longest=30.0)
    liveness.alive(60.0, longest=3.0)
    liveness.ask_to_stop(60.0)
    assert hung_from(liveness) == 120.0


def test_pulse_extends_limit() -> None:
    liveness = training(pulse=1.0)
    liveness.ask_to_stop(0.0)
    assert hung_from(liveness) == STEP_SECONDS + 1.0


def test_grace_period_overrides_the_longest_step() -> None:
    liveness = training(grace=3.0)
    liveness.alive(50.0, longest=30.0)
    liveness.ask_to_stop(50.0)
    assert hung_from(liveness) == 53.0


def test_checkpoint_that_grows_is_written_for_as_long_as_it_takes() -> None:
    liveness = training()
    liveness.ask_to_stop(0.0)
    liveness.enter(5.0, Phase.WRITING, "directory")
    while (now := liveness.due) < 1000.0:
        assert not liveness.is_hung(now, lambda _: now)
    assert now <= hung_from(liveness) <= now + WRITING_SECONDS


def test_size_of_checkpoint_directory_is_measured() -> None:
    liveness = training()
    liveness.ask_to_stop(0.0)
    liveness.enter(0.0, Phase.WRITING, "directory")
    looked: list[str] = []
    liveness.is_hung(0.0, looked.append)
    assert looked == ["directory"]


def test_checkpoint_that_stops_growing_hangs_within_30_seconds() -> None:
    liveness = training()
    liveness.ask_to_stop(0.0)
    liveness.enter(STEP_SECONDS, Phase.WRITING, "directory")
    assert hung_from(liveness) == STEP_SECONDS + WRITING_SECONDS


def test_save_may_take_twice_as_long_as_the_longest_before() -> None:
    liveness = training()
    liveness.enter(0.0, Phase.WRITING, "directory")
    liveness.enter(40.0, Phase.STORING)
    liveness.enter(41.0, Phase.TRAINING)
    liveness.ask_to_stop(41.0)
    liveness.enter(42.0, Phase.WRITING, "directory")
    assert hung_from(liveness) == pytest.approx(42.0 + 80.0)


def test_storing_a_checkpoint_has_the_limit_of_a_storage() -> None:
    liveness = training(grace=3.0)
    liveness.ask_to_stop(0.0)
    liveness.enter(1.0, Phase.STORING)
    assert hung_from(liveness) == 1.0 + STORING_SECONDS
