"""Training code that decides how long it trains: the search has no length, and a trial is complete when it returns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ashwood.errors import TrainingCodeError
from ashwood.trial import Trial
from ashwood.trial.attempt import Ended, Failed, Invalid, Returned, Stopped
from ashwood.trial.job import WorkerJob
from ashwood.trial.run import message_of, run
from tests.trial.links import ScriptedLink, make_job, save


def open_job(tmp_path: Path, **changes: Any) -> WorkerJob:
    return make_job(
        tmp_path, **{"target": 1 << 62, "max_length": 1 << 62, "unit": "steps", "open_ended": True} | changes
    )


def until(end: int, metric: str = "loss") -> Callable[[Trial], None]:
    def train(trial: Trial) -> None:
        for step in range(trial.length, end):
            if trial.should_stop:
                return
            trial.report({metric: 1 / (step + 1)}, length=step + 1, checkpoint=save)

    return train


def test_return_completes_the_trial_at_the_length_that_it_has(tmp_path: Path) -> None:
    link = ScriptedLink([])
    outcome = run(until(3), open_job(tmp_path), link)
    assert outcome == Returned()
    assert message_of(outcome) == ["TrialStopped"]
    assert link.sent == [
        ("started", 0),
        *(("report", length, {"loss": 1 / length}) for length in (1, 2, 3)),
        ("saved", 3, "length-3-attempt-1"),
    ]


def test_resumed_trial_that_has_nothing_left_to_train_is_complete(tmp_path: Path) -> None:
    run(until(3), open_job(tmp_path), ScriptedLink([]))
    link = ScriptedLink([])
    resumed = open_job(tmp_path, attempt=2, length=3, checkpoint="trial-7/length-3-attempt-1")
    assert run(until(3), resumed, link) == Returned()
    assert link.sent == [("started", 3)]


def test_suspended_trial_saves_and_resumes(tmp_path: Path) -> None:
    link = ScriptedLink([], suspend_at=4)
    assert run(until(9), open_job(tmp_path), link) == Ended(link.reports[-1])
    assert link.saves == [f"length-{link.reports[-1]}-attempt-1"]
    assert link.reports[-1] < 9


def test_suspended_code_that_never_looks_is_ended_at_its_next_report(tmp_path: Path) -> None:
    def train(trial: Trial) -> None:
        for step in range(trial.length, 100):
            trial.report(loss=1.0, length=step + 1, checkpoint=save)

    link = ScriptedLink([], suspend_at=6)
    assert run(train, open_job(tmp_path), link) == Ended(link.reports[-1])
    assert link.reports[-1] < 100


def test_code_that_ends_by_itself_while_it_is_suspended_is_complete(tmp_path: Path) -> None:
    assert run(lambda trial: trial.report(loss=1.0), open_job(tmp_path), ScriptedLink([], suspend_at=1)) == Returned()


def test_reports_without_length_are_counted(tmp_path: Path) -> None:
    def train(trial: Trial) -> None:
        for _ in range(3):
            trial.report(loss=1.0, training={"loss": 2.0})
            trial.report(accuracy=0.5)

    link = ScriptedLink([])
    assert run(train, open_job(tmp_path), link) == Returned()
    assert link.reports == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("returned", [0.5, 1])
def test_returned_number_is_the_metric(tmp_path: Path, returned: float) -> None:
    link = ScriptedLink([])
    assert run(lambda _: returned, open_job(tmp_path), link) == Returned()
    assert link.sent == [("started", 0), ("report", 1, {"loss": returned})]


def test_returned_number_is_ignored_after_a_report_of_the_metric(tmp_path: Path) -> None:
    def train(trial: Trial) -> int:
        trial.report(loss=0.25)
        return 7

    link = ScriptedLink([])
    assert run(train, open_job(tmp_path), link) == Returned()
    assert link.sent == [("started", 0), ("report", 1, {"loss": 0.25})]


def test_missing_metric_is_a_warning(tmp_path: Path) -> None:
    link = ScriptedLink([])
    assert run(until(1, "los"), open_job(tmp_path), link) == Returned()
    [(_, message)] = [sent for sent in link.sent if sent[0] == "warned"]
    assert message == "the training code ended without reporting 'loss'; it reported 'los' (did you mean 'los'?)"


@pytest.mark.parametrize("loop", ["epochs", "batches", "steps", "records"])
def test_loops_need_a_length(tmp_path: Path, loop: str) -> None:
    arguments = [8] if loop == "records" else []
    outcome = run(lambda trial: list(getattr(trial, loop)(*arguments)), open_job(tmp_path), ScriptedLink([]))
    assert isinstance(outcome, Failed)
    assert "needs a length, but the search has none" in outcome.error
    assert "max_length: " in outcome.error.partition("\n")[0]


def test_trial_without_length_says_so(tmp_path: Path) -> None:
    trial = Trial(open_job(tmp_path), ScriptedLink([]))
    assert not trial.has_length
    assert repr(trial) == "<Trial 7, attempt 1, length 0, {}>"
    for name in ("max_length", "target"):
        with pytest.raises(TrainingCodeError, match=f"trial.{name} needs a length"):
            getattr(trial, name)
    closed = Trial(make_job(tmp_path), ScriptedLink([]))
    assert (closed.has_length, closed.max_length, closed.target) == (True, 100, 3)


def test_periods_in_other_units_are_left_to_the_training_code(tmp_path: Path) -> None:
    job = open_job(tmp_path, checkpoint_period=(1, "epochs"), validation_period=(100, "batches"))
    assert run(until(3), job, ScriptedLink([])) == Returned()


def test_checkpoint_period_in_steps_is_kept(tmp_path: Path) -> None:
    link = ScriptedLink([])
    assert run(until(5), open_job(tmp_path, checkpoint_period=(2, "steps")), link) == Returned()
    assert link.saves == [f"length-{length}-attempt-1" for length in (2, 4, 5)]


def test_other_ends_stay_as_they_are(tmp_path: Path) -> None:
    assert run(lambda trial: trial.stop(), open_job(tmp_path), ScriptedLink([])) == Stopped()
    assert run(lambda trial: trial.invalid_hparams("x"), open_job(tmp_path), ScriptedLink([])) == Invalid("x")
    assert isinstance(run(lambda _: 1 / 0, open_job(tmp_path), ScriptedLink([])), Failed)
