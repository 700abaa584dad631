"""Training code that owns its loop: it names the length of each report and asks when to stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.checkpoints import open_storage
from ashwood.errors import TrainingCodeError
from ashwood.trial import Trial
from ashwood.trial.attempt import Again, Ended, Failed
from ashwood.trial.channel import ReportAnswer
from ashwood.trial.run import outcome_of, run
from tests.trial.links import DROP, PAUSE, ScriptedLink, go, make_job, save


def loop(step: int, checkpoint: Callable[[Path], Any] | None = save) -> Callable[[Trial], None]:
    def train(trial: Trial) -> None:
        length = trial.length
        while not trial.should_stop:
            length += step
            trial.report({"loss": 1 / length}, length=length, checkpoint=checkpoint)

    return train


def test_code_that_owns_its_loop_is_judged_at_its_first_report_at_or_past_the_target(tmp_path: Path) -> None:
    link = ScriptedLink([go(10), PAUSE])
    assert run(loop(3), make_job(tmp_path, target=4), link) == Ended(12)
    assert link.sent == [
        ("started", 0),
        ("report", 3, {"loss": 1 / 3}),
        ("report", 6, {"loss": 1 / 6}),
        ("asked", go(10)),
        ("report", 9, {"loss": 1 / 9}),
        ("report", 12, {"loss": 1 / 12}),
        ("asked", PAUSE),
        ("saved", 12, "length-12-attempt-1"),
    ]


def test_report_past_several_rungs_is_judged_at_each_with_the_next_report(tmp_path: Path) -> None:
    link = ScriptedLink([go(4), go(100), DROP])
    assert run(loop(50), make_job(tmp_path, target=2), link) == Ended(150)
    assert [sent[0] for sent in link.sent] == ["started", *["report", "asked"] * 3]


def test_resumed_code_continues_at_the_length_of_its_checkpoint(tmp_path: Path) -> None:
    run(loop(3), make_job(tmp_path, target=4), ScriptedLink())
    link = ScriptedLink()
    resumed = make_job(tmp_path, attempt=2, target=9, length=6, checkpoint="trial-7/length-6-attempt-1")
    assert run(loop(3), resumed, link) == Ended(9)
    assert link.reports == [9]
    assert link.saves == ["length-9-attempt-2"]


@given(step=st.integers(1, 9), rungs=st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_any_step_is_judged_at_every_rung_in_one_process_or_in_many(step: int, rungs: list[int]) -> None:
    targets = [sum(rungs[: n + 1]) for n in range(len(rungs))]
    judged: list[int] = []
    for target in targets:
        # The first report at or past the target, and after the one that was judged before.
        first = -(-target // step) * step
        judged.append(max(first, judged[-1] + step) if judged else first)
    link = ScriptedLink([*map(go, targets[1:]), DROP])
    assert run(loop(step, None), make_job(Path("unused"), target=targets[0]), link) == Ended(judged[-1])
    assert [link.sent[n - 1][1] for n, sent in enumerate(link.sent) if sent[0] == "asked"] == judged
    for number, target in enumerate(targets):
        job = make_job(Path("unused"), target=target, length=judged[number - 1] if number else 0)
        assert run(loop(step, None), job, ScriptedLink([DROP])) == Ended(judged[number])


def test_suspension_while_training_is_noticed_at_the_next_report_which_saves(tmp_path: Path) -> None:
    link = ScriptedLink(suspend_at=4)  # should_stop asks, then report() does
    assert run(loop(3), make_job(tmp_path, target=100), link) == Ended(6)
    assert link.sent[-2:] == [("report", 6, {"loss": 1 / 6}), ("saved", 6, "length-6-attempt-1")]


def test_suspension_between_two_reports_does_not_save_the_state_of_another_length(tmp_path: Path) -> None:
    link = ScriptedLink(suspend_at=3)
    trained = []

    def train(trial: Trial) -> None:
        length = trial.length
        while not trial.should_stop:
            length += 3
            trained.append(length)
            trial.report(loss=1.0, length=length, checkpoint=lambda d: (d / "at").write_text(str(trained[-1])))

    assert run(train, make_job(tmp_path, target=100), link) == Ended(6)
    assert (tmp_path / "trial-7" / "length-6-attempt-1" / "at").read_text() == "6"
    assert link.saves == ["length-6-attempt-1"]


def test_code_suspended_before_its_first_report_stops_at_once(tmp_path: Path) -> None:
    link = ScriptedLink(suspend_at=1)
    assert run(loop(3), make_job(tmp_path), link) == Ended(0)
    assert link.sent == [("started", 0)]


def test_last_report_after_request_to_stop_is_saved(tmp_path: Path) -> None:
    link = ScriptedLink(suspend_at=2)

    def train(trial: Trial) -> None:
        length = trial.length
        while not trial.should_stop:
            length += 1
        trial.report(loss=1.0, length=length, checkpoint=save)

    assert run(train, make_job(tmp_path, target=100), link) == Ended(1)
    assert link.saves == ["length-1-attempt-1"]


def test_suspended_code_without_checkpoints_stops_at_once(tmp_path: Path) -> None:
    assert run(loop(3, None), make_job(tmp_path, target=100), ScriptedLink(suspend_at=3)) == Ended(3)


@pytest.mark.parametrize(("answer", "saves"), [(PAUSE, ["length-3-attempt-1"]), (DROP, [])])
def test_code_that_never_asks_is_ended_at_the_report_after_the_answer(
    tmp_path: Path, answer: ReportAnswer, saves: list[str]
) -> None:
    link = ScriptedLink([answer])
    closed = []

    def train(trial: Trial) -> None:
        try:
            for length in range(1, 1000):
                trial.report(loss=1.0, length=length, checkpoint=save)
        finally:
            closed.append(True)

    assert run(train, make_job(tmp_path), link) == Ended(3)
    assert link.reports == [1, 2, 3]
    assert link.saves == saves
    assert closed


def test_code_that_never_asks_is_ended_when_it_is_suspended_and_saved(tmp_path: Path) -> None:
    link = ScriptedLink(suspend_at=2)

    def train(trial: Trial) -> None:
        for length in range(1, 1000):
            trial.report(loss=1.0, length=length, checkpoint=save)

    assert run(train, make_job(tmp_path, target=500), link) == Ended(2)
    assert link.saves == ["length-2-attempt-1"]


def test_code_that_trains_to_its_target_and_returns_is_called_again_from_its_checkpoint(tmp_path: Path) -> None:
    calls = []

    def train(trial: Trial) -> None:
        calls.append((trial.length, trial.target))
        trial.report(loss=1.0, length=trial.target, checkpoint=save)

    link = ScriptedLink([go(8), PAUSE])
    assert run(train, make_job(tmp_path), link) == Ended(8)
    assert calls == [(0, 3), (3, 8)]
    assert link.saves == ["length-3-attempt-1", "length-8-attempt-1"]


def test_promotion_in_the_same_process_saves_nothing(tmp_path: Path) -> None:
    link = ScriptedLink([go(6), go(9), DROP])
    run(loop(3), make_job(tmp_path), link)
    assert link.saves == []


def test_minimum_checkpoint_period_counts_named_lengths(tmp_path: Path) -> None:
    link = ScriptedLink([go(20), PAUSE])
    run(loop(3), make_job(tmp_path, target=10, checkpoint_period=(5, "epochs")), link)
    # The first reports at or past 5, 10 (where the search answers first), 15 and 20.
    assert link.saves == [f"length-{length}-attempt-1" for length in (6, 12, 15, 21)]
    manifest = open_storage(tmp_path).manifest("trial-7/length-12-attempt-1")
    assert [length for length, _ in manifest.reports] == [6, 9]


@pytest.mark.parametrize("unit", ["batches", "records", "steps"])
def test_named_lengths_are_in_the_unit_of_the_experiment(tmp_path: Path, unit: str) -> None:
    assert run(loop(3), make_job(tmp_path, unit=unit), ScriptedLink()) == Ended(3)


def test_lengths_must_not_decrease(tmp_path: Path) -> None:
    trial = Trial(make_job(tmp_path, length=4, target=9), ScriptedLink())
    with pytest.raises(TrainingCodeError, match=r"length=1 was passed after length 4: .* start at trial\.length"):
        trial.report(loss=1.0, length=1)
    trial.report(loss=1.0, length=5)
    trial.report(accuracy=1.0, length=5)
    trial.report(f1=1.0)
    assert trial.length == 5
    with pytest.raises(TrainingCodeError, match="must not decrease"):
        trial.save(save, length=4)


@pytest.mark.parametrize("length", [1.0, True, "3"])
def test_length_must_be_an_integer(tmp_path: Path, length: Any) -> None:
    with pytest.raises(TypeError, match="length must be an integer"):
        Trial(make_job(tmp_path), ScriptedLink()).report(loss=1.0, length=length)


def test_length_can_be_an_integer_of_numpy(tmp_path: Path) -> None:
    link = ScriptedLink()
    Trial(make_job(tmp_path), link).report(loss=1.0, length=np.int64(2))  # type: ignore[arg-type]
    assert [type(length) for length in link.reports] == [int]


def test_naming_lengths_and_loops_of_the_trial_exclude_each_other(tmp_path: Path) -> None:
    trial = Trial(make_job(tmp_path), ScriptedLink())
    next(trial.epochs())
    with pytest.raises(TrainingCodeError, match=r"after trial\.epochs\(\) was called.* goes into a mapping"):
        trial.report(loss=1.0, length=7)
    trial.report({"loss": 1.0, "length": 7})
    named = Trial(make_job(tmp_path), ScriptedLink())
    named.report(loss=1.0, length=1)
    with pytest.raises(TrainingCodeError, match="either names its lengths or uses a loop"):
        next(named.epochs())


def test_should_stop_inside_a_loop_of_the_trial_is_true_when_the_loop_would_end(tmp_path: Path) -> None:
    seen = []
    for link in (ScriptedLink(), ScriptedLink(suspend_at=2)):
        trial = Trial(make_job(tmp_path, target=1), link)
        for _ in trial.epochs():
            seen.append(trial.should_stop)
            trial.report(loss=1.0, checkpoint=save)
            seen.append(trial.should_stop)
    assert seen == [False, True, False, True]


def test_code_that_returns_before_its_target_is_no_trial_of_one_step(tmp_path: Path) -> None:
    outcome = run(lambda trial: trial.report(loss=1.0, length=1), make_job(tmp_path), ScriptedLink())
    assert isinstance(outcome, Failed)
    assert "the training code ended at 1 epoch without reporting 'loss'" in outcome.error
    assert "train until trial.should_stop is True" in outcome.error


def test_save_at_a_moment_of_the_codes_choosing(tmp_path: Path) -> None:
    link = ScriptedLink([go(8), PAUSE])
    trial = Trial(make_job(tmp_path), link)
    trial.report(loss=1.0, length=2)
    trial.save(save)
    trial.save(save)
    assert link.saves == ["length-2-attempt-1"]
    assert link.metrics_saved["length-2-attempt-1"] == {"loss": 1.0}
    assert not trial.should_stop
    trial.save(save, length=4)  # past the target: the search must answer first
    assert link.saves == ["length-2-attempt-1"]
    trial.report(loss=0.5, length=4)
    assert link.saves[1:] == ["length-4-attempt-1"]
    trial.report(loss=0.25, length=8)
    assert trial.should_stop
    trial.save(save)  # the search wants a checkpoint, and the report had none
    assert link.saves[2:] == ["length-8-attempt-1"]
    assert outcome_of(trial) == Ended(8)


def test_save_inside_a_loop_of_the_trial(tmp_path: Path) -> None:
    link = ScriptedLink([DROP])
    trial = Trial(make_job(tmp_path), link)
    for epoch in trial.epochs():
        if epoch == 1:
            trial.save(save)
        trial.report(loss=1.0)
    assert link.saves == ["length-2-attempt-1"]
    with pytest.raises(TypeError, match="checkpoint must be a function"):
        trial.save("model.pt")  # type: ignore[arg-type]


def test_code_can_save_after_request_to_stop(tmp_path: Path) -> None:
    def train(trial: Trial) -> None:
        length = trial.length
        while not trial.should_stop:
            length += 1
            trial.report(loss=1.0, length=length)
        trial.save(save)

    link = ScriptedLink(suspend_at=2)
    assert run(train, make_job(tmp_path, target=100), link) == Ended(1)
    assert link.saves == ["length-1-attempt-1"]


def test_state_that_an_attempt_began_with_is_not_saved_over_its_checkpoint(tmp_path: Path) -> None:
    run(loop(3), make_job(tmp_path), ScriptedLink())
    link = ScriptedLink()
    resumed = Trial(make_job(tmp_path, length=3, checkpoint="trial-7/length-3-attempt-1", target=9), link)
    resumed.save(save)
    resumed.report(loss=1.0, length=3, checkpoint=save)
    assert link.saves == []


def test_follower_asks_at_the_reports_at_which_the_first_process_does(tmp_path: Path) -> None:
    link = ScriptedLink([go(8), DROP])
    job = make_job(tmp_path, target=4, rank=1, world_size=2)

    def train(trial: Trial) -> None:
        length = trial.length
        while not trial.should_stop:
            length += 1
            if length % 3:
                trial.report(length=length, training={"loss": 0.0})
            else:
                trial.report(loss=0.0, length=length)

    assert run(train, job, link) == Ended(9)
    assert link.sent == [("started", 0), ("asked", go(8)), ("asked", DROP)]


def test_outcome_of_code_that_ends_after_it_was_promoted(tmp_path: Path) -> None:
    trial = Trial(make_job(tmp_path), ScriptedLink([go(8)]))
    trial.report(loss=1.0, length=3, checkpoint=save)
    outcome = outcome_of(trial)
    assert isinstance(outcome, Again)
    assert (outcome.job.length, outcome.job.checkpoint) == (3, "trial-7/length-3-attempt-1")


def resumed_in(tmp_path: Path, **changes: Any) -> Any:
    place = tmp_path / "trial-7" / "length-3-attempt-1"
    fields = {"attempt": 2, "length": 3, "checkpoint": "trial-7/length-3-attempt-1", "directory": str(place)}
    return make_job(tmp_path, target=9, **fields | changes)


def test_resumed_code_that_never_reads_its_checkpoint_is_warned_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = ScriptedLink([DROP])
    trial = Trial(resumed_in(tmp_path), link)
    for length in (6, 9):
        trial.report(loss=1.0, length=length)
    [message] = [sent[1] for sent in link.sent if sent[0] == "warned"]
    assert message.startswith("the training code continues from a checkpoint but has not read trial.checkpoint")
    assert message.endswith("if trial.checkpoint: model.load(trial.checkpoint / 'model.pt')")
    assert capsys.readouterr().out == f"warning: {message}\n"


def test_code_that_reads_its_checkpoint_or_has_none_or_follows_is_not_warned(tmp_path: Path) -> None:
    link = ScriptedLink([DROP, DROP, DROP])
    reads = Trial(resumed_in(tmp_path), link)
    assert reads.checkpoint == tmp_path / "trial-7" / "length-3-attempt-1"
    reads.report(loss=1.0, length=9)
    Trial(make_job(tmp_path), link).report(loss=1.0, length=9)
    Trial(resumed_in(tmp_path, rank=1), link).report(loss=1.0, length=9)
    assert not [sent for sent in link.sent if sent[0] == "warned"]


def save_outside_the_loop(trial: Trial) -> None:
    """Train in a loop that cannot save, so that it is left for each save."""
    while not trial.should_stop:
        for length in range(trial.length + 1, 100):
            trial.report(loss=1.0, length=length)
            if trial.save_due or trial.should_stop:
                break
        if trial.save_due:
            trial.save(save)


@pytest.mark.parametrize(("answer", "saves"), [(PAUSE, ["length-5-attempt-1"]), (DROP, [])])
def test_save_is_due_when_the_trial_will_be_resumed(tmp_path: Path, answer: ReportAnswer, saves: list[str]) -> None:
    link = ScriptedLink([go(5), answer])
    assert run(save_outside_the_loop, make_job(tmp_path), link) == Ended(5)
    assert link.saves == saves


def test_save_is_due_each_checkpoint_period_and_after_request_to_stop(tmp_path: Path) -> None:
    link = ScriptedLink(suspend_at=22)
    job = make_job(tmp_path, target=90, checkpoint_period=(4, "epochs"))
    outcome = run(save_outside_the_loop, job, link)
    assert isinstance(outcome, Ended)
    assert outcome.length % 4, "the request must come between two periods"
    lengths = [*range(4, outcome.length, 4), outcome.length]
    assert link.saves == [f"length-{length}-attempt-1" for length in lengths]
    assert link.reports == list(range(1, outcome.length + 1))


def test_no_save_is_due_at_the_length_of_the_checkpoint(tmp_path: Path) -> None:
    job = make_job(tmp_path, length=3, checkpoint="trial-7/length-3-attempt-1", target=9)
    link = ScriptedLink(suspend_at=1)
    trial = Trial(job, link)
    assert not trial.save_due
    assert trial.should_stop


def test_positions_distinguish_checkpoints_and_steps_with_equal_lengths(tmp_path: Path) -> None:
    link = ScriptedLink()

    def train(trial: Trial) -> None:
        attempt = trial._attempt
        for batch in (10, 20):
            attempt.report({"accuracy": 0.1}, None, 0, ("batches", batch))
            attempt.save(save, 0, ("batches", batch))
        attempt.save(save, 3, ("batches", 30))
        attempt.report({"loss": 0.5}, None, 3, ("batches", 30))

    assert run(train, make_job(tmp_path, pulse=0.0), link) == Ended(3)
    assert link.saves == [f"length-0-attempt-1-batches-{n}" for n in (10, 20)] + ["length-3-attempt-1-batches-30"]
    assert link.metrics_saved["length-3-attempt-1-batches-30"] == {"loss": 0.5}
    assert len(link.alive_after) >= 2


def test_code_that_decides_where_it_ends_learns_of_a_request_to_stop_and_trains_on(tmp_path: Path) -> None:
    link = ScriptedLink(suspend_at=2)
    answers = []

    def train(trial: Trial) -> None:
        trial._attempt.trains_on = True
        trial.save(save, length=1)
        for length in (2, 3):
            trial.report(loss=1.0, length=length)
            answers.append((trial.should_stop, trial._attempt.stop_requested))
        trial.save(save)

    assert run(train, make_job(tmp_path, target=100), link) == Ended(3)
    assert answers == [(False, True)] * 2
    assert link.saves == ["length-1-attempt-1", "length-3-attempt-1"]
