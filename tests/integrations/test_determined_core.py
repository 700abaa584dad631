"""Determined's Core API in one process, with a scripted driver."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterable
from math import isnan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashwood.errors import CheckpointError
from ashwood.integrations import determined as det
from ashwood.integrations.determined.info import Identity
from ashwood.integrations.determined.lengths import Lengths
from ashwood.integrations.determined.recorder import numbers
from ashwood.trial import Trial
from ashwood.trial.attempt import Ended, Failed, Invalid, Outcome, Returned, Stopped
from ashwood.trial.channel import ReportAnswer
from ashwood.trial.run import run
from tests.trial.links import DROP, PAUSE, SUSPEND, ScriptedLink, go, make_job

BATCHES = 50
"""Batches in an epoch."""

OPEN_ENDED: dict[str, Any] = {"unit": "steps", "target": 1 << 62, "max_length": 1 << 62, "open_ended": True}
"""Fields of a job of a search without a length."""

Core = det.core.Context


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASHWOOD_DETERMINED_SAID", "7 1")


def train_with(
    code: Callable[[Core, det.ClusterInfo], Any],
    tmp_path: Path,
    answers: Iterable[ReportAnswer | None] = (PAUSE,),
    suspend_at: int | None = None,
    **changes: Any,
) -> tuple[Outcome, ScriptedLink]:
    """Run training code as an attempt of trial 7, and return its outcome and what it sent to the driver."""
    link = ScriptedLink(answers, suspend_at)
    job = make_job(tmp_path / "checkpoints", trial_directory=str(tmp_path / "trial"), experiment="e", **changes)

    def train(trial: Trial) -> None:
        info = det.get_cluster_info()
        assert info is not None
        with det.core.init() as core_context:
            code(core_context, info)

    return run(train, job, link), link


def store(core_context: Core, steps: int, text: str = "weights", **metadata: Any) -> str:
    with core_context.checkpoint.store_path({"steps_completed": steps, **metadata}) as (path, storage_id):
        (path / "model").write_text(text)
    return storage_id


def by_epochs(core_context: Core, info: det.ClusterInfo) -> None:
    """Train as Determined's tutorials do: lengths are epochs, and ``steps_completed`` counts batches."""
    epoch = 0
    if info.latest_checkpoint is not None:
        with core_context.checkpoint.restore_path(info.latest_checkpoint) as path:
            epoch = int((path / "model").read_text())
    for op in core_context.searcher.operations():
        while epoch < op.length:
            for batch in range(20, BATCHES, 20):
                core_context.train.report_training_metrics(
                    steps_completed=epoch * BATCHES + batch, metrics={"train_loss": 1.0}
                )
            op.report_progress(epoch)
            epoch += 1
            loss = 1 / epoch
            core_context.train.report_validation_metrics(
                steps_completed=epoch * BATCHES, metrics={"loss": loss, "accuracy": 0.5}
            )
            store(core_context, epoch * BATCHES, str(epoch))
            if core_context.preempt.should_preempt():
                return
        op.report_completed(loss)


def validations(link: ScriptedLink) -> list[tuple[int, float]]:
    return [(sent[1], sent[2]["loss"]) for sent in link.sent if sent[0] == "report" and "loss" in sent[2]]


def asked_at(link: ScriptedLink) -> list[int]:
    return [link.sent[n - 1][1] for n, sent in enumerate(link.sent) if sent[0] == "asked"]


# -- operations of the searcher -----------------------------------------------------------------


def test_each_operation_ends_with_one_report_at_its_length_that_is_compared(tmp_path: Path) -> None:
    outcome, link = train_with(by_epochs, tmp_path, [go(4), PAUSE], target=1)
    assert outcome == Ended(4)
    assert asked_at(link) == [1, 4]
    assert validations(link) == [(1, 1.0), (2, 1 / 2), (3, 1 / 3), (4, 1 / 4)]
    assert link.saves == [f"length-{n}-attempt-1-batches-{n * BATCHES}" for n in (1, 2, 3, 4)]


def test_checkpoint_stored_before_the_operation_is_completed_has_the_metric_that_was_compared(tmp_path: Path) -> None:
    _, link = train_with(by_epochs, tmp_path, target=2)
    assert link.metrics_saved["length-2-attempt-1-batches-100"] == {"loss": 0.5, "accuracy": 0.5}
    [saved] = (tmp_path / "checkpoints" / "trial-7").glob("length-2-*")
    assert (saved / "model").read_text() == "2"
    assert json.loads((saved / "metadata.json").read_text()) == {"steps_completed": 100}


def test_promoted_trial_resumes_from_its_latest_checkpoint_in_another_process(tmp_path: Path) -> None:
    _, first = train_with(by_epochs, tmp_path, target=1)
    [name] = first.saves
    outcome, link = train_with(by_epochs, tmp_path, target=4, attempt=2, length=1, checkpoint=f"trial-7/{name}")
    assert outcome == Ended(4)
    assert validations(link) == [(2, 1 / 2), (3, 1 / 3), (4, 1 / 4)]
    assert not [sent for sent in link.sent if sent[0] == "warned"]


def test_trial_is_saved_although_the_search_would_not_keep_the_checkpoint(tmp_path: Path) -> None:
    _, link = train_with(by_epochs, tmp_path, [DROP], target=1)
    assert link.saves == ["length-1-attempt-1-batches-50"]


def test_operations_in_batches_report_their_own_steps(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        done = 0
        for op in core_context.searcher.operations():
            while done < op.length:
                done += 1
                if done % 10 == 0:
                    core_context.train.report_training_metrics(steps_completed=done, metrics={"x": done})
                    store(core_context, done)
                    if core_context.preempt.should_preempt():
                        return
            core_context.train.report_validation_metrics(steps_completed=done, metrics={"loss": 1 / done})
            op.report_completed(1 / done)
        store(core_context, done)

    outcome, link = train_with(code, tmp_path, [go(40), PAUSE], target=25, unit="batches", max_length=100)
    assert outcome == Ended(40)
    assert [sent[1] for sent in link.sent if sent[0] == "report" and "training.x" in sent[2]] == [10, 20, 30, 40]
    assert asked_at(link) == [25, 40]
    assert [int(name.split("-")[1]) for name in link.saves] == [10, 20, 30, 40, 40]


@pytest.mark.parametrize(("unit", "length"), [("steps", 14), ("epochs", 14), ("records", 14)])
def test_steps_beyond_max_length_are_no_lengths(tmp_path: Path, unit: str, length: int) -> None:
    outcome, link = train_with(by_epochs, tmp_path, [PAUSE], target=length, unit=unit, max_length=length)
    assert outcome == Ended(14)
    assert [length for length, _ in validations(link)] == list(range(1, 15))


def test_code_that_counts_epochs_reports_epochs(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        for op in core_context.searcher.operations():
            for epoch in range(1, op.length + 1):
                core_context.train.report_validation_metrics(steps_completed=epoch, metrics={"loss": 1 / epoch})
            op.report_completed(1 / op.length)

    _, link = train_with(code, tmp_path, target=3, hparams={"global_batch_size": 10}, records_per_epoch=1000)
    assert validations(link) == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]


def test_operation_that_was_not_completed_is_an_error(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        for _ in core_context.searcher.operations():
            pass

    outcome, _ = train_with(code, tmp_path)
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("RuntimeError: you must call op.report_completed() on each operation")


def test_completed_operation_refuses_further_calls(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        for op in core_context.searcher.operations():
            op.report_completed(0.1)
            op.report_progress(op.length)
            with pytest.raises(RuntimeError, match="call op"):
                op.report_completed(0.1)
            with pytest.raises(RuntimeError, match="must not call"):
                op.report_progress(0)

    assert train_with(code, tmp_path)[0] == Ended(3)


def test_operation_needs_a_number(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        for op in core_context.searcher.operations():
            op.report_completed("good")

    outcome, _ = train_with(code, tmp_path)
    assert isinstance(outcome, Failed)
    assert "takes the value of 'loss', the metric of the searcher, as a number, but got 'good'" in outcome.error


def test_metrics_reported_after_the_decision_at_its_length_are_left_out(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        for op in core_context.searcher.operations():
            op.report_completed(0.1)
            core_context.train.report_validation_metrics(steps_completed=op.length, metrics={"loss": 0.1, "top5": 0.9})

    _, link = train_with(code, tmp_path, [go(5), PAUSE])
    assert validations(link) == [(3, 0.1), (5, 0.1)]
    assert ("report", 3, {"top5": 0.9}) in link.sent


def test_several_validations_of_an_operation_are_recorded_and_the_completed_metric_is_compared(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        for op in core_context.searcher.operations():
            for step in range(1, op.length + 1):
                core_context.train.report_validation_metrics(steps_completed=step, metrics={"loss": 1 / step})
                core_context.train.report_validation_metrics(steps_completed=step, metrics={"top5": 0.5})
            op.report_completed(0.125)

    _, link = train_with(code, tmp_path, target=4, unit="batches")
    assert validations(link) == [(1, 1.0), (2, 1 / 2), (3, 1 / 3), (4, 0.125)]
    assert [sent[1] for sent in link.sent if sent[0] == "report" and "top5" in sent[2]] == [1, 2, 3, 4]


def test_code_that_leaves_the_operations_is_called_again(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        first = 0
        if info.latest_checkpoint is not None:
            with core_context.checkpoint.restore_path(info.latest_checkpoint) as path:
                first = int((path / "model").read_text())
        for op in core_context.searcher.operations():
            assert op.length > first
            store(core_context, op.length, str(op.length))
            op.report_completed(1 / op.length)
            break

    outcome, link = train_with(code, tmp_path, [go(4), go(8), PAUSE], target=2, unit="batches", max_length=8)
    assert outcome == Ended(8)
    assert asked_at(link) == [2, 4, 8]


def test_parts_without_effect_accept_their_calls(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def train(trial: Trial) -> None:
        with det.core.init(
            distributed=None,
            storage_manager=None,
            checkpoint_storage="/nowhere",
            preempt_mode=det.core.PreemptMode.ChiefOnly,
            tensorboard_mode=det.core.TensorboardMode.MANUAL,
        ) as core_context:
            core_context.profiler.on(sampling_interval=1, samples_per_report=2)
            core_context.profiler.off()
            core_context.train.set_metadata({"a": 1})
            assert core_context.train.get_metadata() == {"a": 1}
            (core_context.train.get_tensorboard_path() / "events").touch()
            core_context.train.upload_tensorboard_files()
            core_context.alert(title="t", description="d")
            assert not core_context.preempt.should_preempt()
            core_context.train.report_validation_metrics(3, {"loss": 1.0})

    caplog.set_level(logging.INFO, "determined.core")
    job = make_job(tmp_path / "checkpoints", trial_directory=str(tmp_path / "trial"), unit="batches", max_length=3)
    assert run(train, job, ScriptedLink()) == Ended(3)
    assert (tmp_path / "trial" / "tensorboard" / "events").exists()
    assert "Ashwood does not profile" in caplog.text
    assert "checkpoint_storage of core.init() has no effect" in caplog.text


@pytest.mark.parametrize(
    ("unit", "expected"), [("epochs", "EPOCHS"), ("batches", "BATCHES"), ("records", "RECORDS"), ("steps", None)]
)
def test_configured_unit(tmp_path: Path, unit: str, expected: str | None) -> None:
    found = []

    def code(core_context: Core, info: det.ClusterInfo) -> None:
        found.append(core_context.searcher.get_configured_units())
        core_context.searcher.acknowledge_out_of_ops()

    train_with(code, tmp_path, unit=unit)
    assert found == [None if expected is None else det.core.Unit(expected)]


# -- requests to end ----------------------------------------------------------------------------


def test_request_to_end_in_the_middle_saves_what_was_stored_and_ends(tmp_path: Path) -> None:
    outcome, link = train_with(by_epochs, tmp_path, suspend_at=6, target=100)
    assert isinstance(outcome, Ended)
    assert not asked_at(link)
    assert link.saves[-1].startswith(f"length-{outcome.length}-")


def test_request_to_end_at_the_end_of_an_operation_waits_until_it_is_completed(tmp_path: Path) -> None:
    answers = []

    def code(core_context: Core, info: det.ClusterInfo) -> None:
        for op in core_context.searcher.operations():
            core_context.train.report_validation_metrics(steps_completed=op.length, metrics={"loss": 0.5})
            store(core_context, op.length)
            answers.append(core_context.preempt.should_preempt())
            op.report_completed(0.5)
        answers.append(core_context.preempt.should_preempt())

    outcome, link = train_with(code, tmp_path, [SUSPEND], suspend_at=2, unit="batches")
    assert outcome == Ended(3)
    assert answers == [False, True]
    assert validations(link) == [(3, 0.5)]
    assert link.saves == ["length-3-attempt-1-batches-3"]


def test_code_can_store_its_checkpoint_after_the_request_to_end(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        for op in core_context.searcher.operations():
            for batch in range(1, op.length):
                core_context.train.report_training_metrics(steps_completed=batch, metrics={"x": 1.0})
                if core_context.preempt.should_preempt():
                    store(core_context, batch)
                    return

    outcome, link = train_with(code, tmp_path, suspend_at=4, target=100, unit="batches")
    assert isinstance(outcome, Ended)
    [saved] = link.saves
    assert saved == f"length-{outcome.length}-attempt-1-batches-{outcome.length}"


def test_trial_that_has_already_been_asked_to_end_gets_one_operation(tmp_path: Path) -> None:
    outcome, _ = train_with(by_epochs, tmp_path, suspend_at=1, target=2)
    assert isinstance(outcome, Ended)


# -- training code that owns its loop -----------------------------------------------------------


def by_itself(
    epochs: int, *, store_first: bool = False, name: str | None = "epochs", begin: int = 1
) -> Callable[[Core, det.ClusterInfo], None]:
    """Train as code for Determined 0.38 does: without operations.  The metric ``name`` counts epochs from ``begin``."""

    def code(core_context: Core, info: det.ClusterInfo) -> None:
        first = 0
        if info.latest_checkpoint is not None:
            with core_context.checkpoint.restore_path(info.latest_checkpoint) as path:
                first = int((path / "model").read_text())
        for epoch in range(first + 1, epochs + 1):
            steps = epoch * BATCHES
            if store_first:
                store(core_context, steps, str(epoch))
            metrics = {"loss": 1 / epoch} | ({} if name is None else {name: epoch - 1 + begin})
            core_context.train.report_validation_metrics(steps_completed=steps, metrics=metrics)
            core_context.train.report_progress(epoch / epochs)
            if not store_first:
                store(core_context, steps, str(epoch))
            if core_context.preempt.should_preempt():
                return

    return code


@pytest.mark.parametrize("store_first", [False, True])
def test_halving_compares_reports_by_the_metric_that_is_named_like_the_unit(tmp_path: Path, store_first: bool) -> None:
    code = by_itself(16, store_first=store_first)
    outcome, link = train_with(code, tmp_path, [go(4), PAUSE], target=2, halving=True, max_length=16)
    assert outcome == Ended(4)
    assert asked_at(link) == [2, 4]
    # Before the first validation, the number of batches in an epoch is unknown.
    assert [int(name.split("-")[1]) for name in link.saves] == [0 if store_first else 1, 2, 3, 4]
    if store_first:
        assert link.metrics_saved["length-4-attempt-1-batches-200"]["loss"] == 0.25


@pytest.mark.parametrize("begin", [0, 1])
@pytest.mark.parametrize(("unit", "name"), [("epochs", "epochs"), ("steps", "epoch")])
def test_halving_compares_reports_by_the_metric_that_time_metric_names(
    tmp_path: Path, unit: str, name: str, begin: int
) -> None:
    config = {"searcher": {"time_metric": name, "max_time": 16}}
    job: dict[str, Any] = {"halving": True, "max_length": 16, "unit": unit, "config": config}
    outcome, link = train_with(by_itself(20, name=name, begin=begin), tmp_path, [go(4), PAUSE], target=2, **job)
    assert outcome == Ended(4)
    assert asked_at(link) == [2, 4]
    assert [length for length, _ in validations(link)] == list(range(begin, 5))
    assert [int(saved.split("-")[1]) for saved in link.saves] == list(range(begin, 5))


def test_time_metric_may_be_a_fraction(tmp_path: Path) -> None:
    def code(core_context: Core, _: det.ClusterInfo) -> None:
        for quarter in range(1, 40):
            metrics = {"loss": 1 / quarter, "epoch": quarter / 4}
            core_context.train.report_validation_metrics(steps_completed=quarter * 10, metrics=metrics)
            if core_context.preempt.should_preempt():
                return

    config = {"searcher": {"time_metric": "epoch", "max_time": 9}}
    outcome, link = train_with(
        code, tmp_path, [go(4), PAUSE], target=2, halving=True, max_length=9, unit="steps", config=config
    )
    assert outcome == Ended(4)
    assert validations(link) == [(0, 1), (1, 1 / 4), (2, 1 / 8), (3, 1 / 12), (4, 1 / 16)]


def test_promoted_loop_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    job: dict[str, Any] = {"halving": True, "max_length": 16}
    _, first = train_with(by_itself(16), tmp_path, target=2, **job)
    name = f"trial-7/{first.saves[-1]}"
    outcome, link = train_with(by_itself(16), tmp_path, target=4, attempt=2, length=2, checkpoint=name, **job)
    assert outcome == Ended(4)
    assert [length for length, _ in validations(link)] == [3, 4]


def test_loop_that_ignores_the_end_of_its_trial_is_ended_at_its_next_report(tmp_path: Path) -> None:
    reached = []

    def code(core_context: Core, info: det.ClusterInfo) -> None:
        for step in range(1, 100):
            reached.append(step)
            core_context.train.report_validation_metrics(steps_completed=step, metrics={"loss": 1.0})

    outcome, _ = train_with(code, tmp_path, target=10, unit="batches", halving=True)
    assert outcome == Ended(10)
    assert reached[-1] == 11


def test_halving_keeps_the_results_of_a_loop_that_ends_early(tmp_path: Path) -> None:
    outcome, link = train_with(by_itself(3), tmp_path, [go(8)], target=2, halving=True, max_length=16)
    assert outcome == Stopped()
    assert asked_at(link) == [2]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("store_first", [False, True])
@pytest.mark.parametrize("limit", [1, 3, 14, 100])
def test_random_search_trains_a_loop_to_its_own_end(tmp_path: Path, limit: int, store_first: bool, named: bool) -> None:
    code = by_itself(14, store_first=store_first, name="epochs" if named else None)
    outcome, link = train_with(code, tmp_path, [PAUSE], target=limit, max_length=limit)
    assert outcome == Ended(limit)
    assert asked_at(link) == [limit]
    assert validations(link)[-1] == (limit, 1 / 14)
    assert link.saves[-1].startswith(f"length-{limit}-attempt-1-")
    assert link.metrics_saved[link.saves[-1]]["loss"] == 1 / 14
    lengths = [length for length, _ in validations(link)]
    assert lengths == sorted(set(lengths))
    if limit == 14:
        assert lengths == list(range(1, 15))


def test_random_search_completes_a_loop_without_the_metric_of_the_search(tmp_path: Path) -> None:
    outcome, link = train_with(by_itself(2), tmp_path, target=2, max_length=2, metric="los")
    assert outcome == Ended(2)
    [(_, message)] = [sent for sent in link.sent if sent[0] == "warned"]
    assert message == (
        "the training code ended without reporting 'los', only 'loss', 'epochs' (did you mean 'loss'?); the trial is "
        "complete, without a result"
    )
    assert isnan([sent[2] for sent in link.sent if sent[0] == "report"][-1]["los"])
    assert link.saves[-1] == "length-2-attempt-1-batches-100"


@pytest.mark.parametrize("limit", [1, 100])
def test_code_that_reports_nothing_completes_its_trial(tmp_path: Path, limit: int) -> None:
    outcome, link = train_with(lambda core_context, info: None, tmp_path, target=limit, max_length=limit)
    assert outcome == Ended(limit)
    assert ("warned", "the training code ended without reporting 'loss'; the trial is complete, without a result") in (
        link.sent
    )


def test_code_that_reports_nothing_fails_in_a_halving_search(tmp_path: Path) -> None:
    outcome, _ = train_with(lambda core_context, info: None, tmp_path, halving=True)
    assert isinstance(outcome, Failed)


def test_code_with_nothing_left_to_train_completes_with_the_result_of_its_checkpoint(tmp_path: Path) -> None:
    job: dict[str, Any] = {"target": 4, "max_length": 4}
    _, first = train_with(by_itself(3), tmp_path, **job)
    [name] = [f"trial-7/{name}" for name in first.saves if name.startswith("length-2-")]
    outcome, link = train_with(by_itself(2), tmp_path, attempt=2, length=2, checkpoint=name, **job)
    assert outcome == Ended(4)
    assert validations(link) == [(4, 1 / 2)]


@pytest.mark.parametrize("halving", [False, True])
@pytest.mark.parametrize("end", [SystemExit(1), ValueError("no luck")])
def test_failure_after_the_context_fails_the_attempt(tmp_path: Path, end: BaseException, halving: bool) -> None:
    def train(trial: Trial) -> None:
        with det.core.init() as core_context:
            info = det.get_cluster_info()
            assert info is not None
            by_itself(2)(core_context, info)
        raise end

    link = ScriptedLink()
    job = make_job(
        tmp_path / "checkpoints", trial_directory=str(tmp_path / "trial"), experiment="e", target=3, halving=halving
    )
    assert isinstance(run(train, job, link), Failed)
    assert not asked_at(link)


def test_exception_fails_the_attempt(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        core_context.train.report_validation_metrics(steps_completed=1, metrics={"loss": 1.0})
        store(core_context, 1)
        raise ValueError("no luck")

    outcome, link = train_with(code, tmp_path, target=100)
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("ValueError: no luck")
    assert link.saves == ["length-1-attempt-1-batches-1"]


@pytest.mark.parametrize(("unit", "period"), [("epochs", (5, "batches")), ("batches", (1, "epochs"))])
def test_periods_in_another_unit_are_for_the_training_code(tmp_path: Path, unit: str, period: tuple[int, str]) -> None:
    for code in (by_epochs, by_itself(3)):
        outcome, _ = train_with(code, tmp_path, unit=unit, checkpoint_period=period, validation_period=period)
        assert outcome == Ended(3)


# -- metrics ------------------------------------------------------------------------------------


def test_groups_of_metrics(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        train = core_context.train
        train.set_status("training")
        train.report_metrics("training", 1, {"loss": 1.0})
        train.report_metrics("validation", 2, {"loss": 0.5})
        train.report_metrics("inference", 3, {"speed": 9})
        train._report_trial_metrics(group="training", total_batches=4, metrics={"loss": 0.4})
        train.report_training_metrics(5, {"loss": 0.3}, batch_metrics=[{"loss": 0.3}])

    _, link = train_with(code, tmp_path, target=100, unit="batches")
    assert [sent[1:] for sent in link.sent if sent[0] == "report"][:5] == [
        (1, {"training.loss": 1.0}),
        (2, {"loss": 0.5}),
        (3, {"inference.speed": 9.0}),
        (4, {"training.loss": 0.4}),
        (5, {"training.loss": 0.3}),
    ]


def test_validation_metric_of_none_is_an_error(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        core_context.train.report_validation_metrics(1, {"loss": None})

    outcome, _ = train_with(code, tmp_path)
    assert isinstance(outcome, Failed)
    assert "Validation metric 'loss' returned an invalid scalar value: None" in outcome.error


def test_only_numbers_are_recorded() -> None:
    class Tensor:
        def item(self) -> float:
            return 0.25

    found = numbers(
        {"a": 1, "b": Tensor(), "c": "text", "d": [1, 2], "e": {"f": 2, "g": {"h": True}}, "i": None, "j": b"1"}
    )
    assert found == {"a": 1.0, "b": 0.25, "e.f": 2.0, "e.g.h": 1.0}


@pytest.mark.parametrize(("smaller", "expected"), [(True, 0.2), (False, 0.5)])
def test_best_validation_of_the_experiment(tmp_path: Path, smaller: bool, expected: float) -> None:
    found: list[float | None] = []

    def code(core_context: Core, info: det.ClusterInfo) -> None:
        found.append(core_context.train.get_experiment_best_validation())
        for step, loss in enumerate((0.3, 0.2, 0.5)):
            core_context.train.report_validation_metrics(step + 1, {"loss": loss})
        found.append(core_context.train.get_experiment_best_validation())

    train_with(code, tmp_path, target=100, unit="batches", smaller_is_better=smaller)
    assert found == [None, expected]


# -- checkpoints --------------------------------------------------------------------------------


def test_stored_checkpoint_can_be_restored_before_and_after_it_is_saved(tmp_path: Path) -> None:
    texts = []

    def code(core_context: Core, info: det.ClusterInfo) -> None:
        checkpoint = core_context.checkpoint
        ids = [store(core_context, steps, str(steps), about={"steps": steps}) for steps in (1, 2, 3)]
        for storage_id in ids:
            with checkpoint.restore_path(storage_id) as path:
                texts.append((path / "model").read_text())
        assert [checkpoint.get_metadata(each)["about"] for each in ids] == [{"steps": n} for n in (1, 2, 3)]

    _, link = train_with(code, tmp_path, unit="batches")
    assert texts == ["1", "2", "3"]
    assert [name[:8] for name in link.saves] == ["length-1", "length-2", "length-3"]


def test_two_checkpoints_after_the_same_step_are_both_saved(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        ids = [store(core_context, 2, text) for text in ("best", "last")]
        for storage_id, text in zip(ids, ("best", "last"), strict=True):
            with core_context.checkpoint.restore_path(storage_id) as path:
                assert (path / "model").read_text() == text

    outcome, link = train_with(code, tmp_path, target=5, unit="batches")
    assert outcome == Ended(5)
    assert link.saves == ["length-2-attempt-1-batches-2", "length-2-attempt-1-saves-2"]


def test_upload_and_download_with_selectors(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    (source / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.bin", "sub/c.txt"):
        (source / name).write_text(name)
    (source / "link").symlink_to(source / "a.txt")

    def code(core_context: Core, info: det.ClusterInfo) -> None:
        checkpoint = core_context.checkpoint
        whole = checkpoint.upload(source, {"steps_completed": 1})
        part = checkpoint.upload(str(source), {"steps_completed": 2}, selector=lambda name: name.endswith(".txt"))
        (source / "a.txt").write_text("changed")  # The checkpoint is a copy.
        checkpoint.download(whole, tmp_path / "whole")
        checkpoint.download(part, tmp_path / "part")
        checkpoint.download(whole, tmp_path / "chosen", selector=lambda name: name == "sub/c.txt")
        with checkpoint.restore_path(whole, selector=lambda name: name == "b.bin") as path:
            assert [found.name for found in path.iterdir()] == ["b.bin"]

    train_with(code, tmp_path, target=5, unit="batches")

    def files(name: str) -> list[str]:
        top = tmp_path / name
        return sorted(path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file())

    assert files("whole") == ["a.txt", "b.bin", "link", "metadata.json", "sub/c.txt"]
    assert files("part") == ["a.txt", "metadata.json", "sub/c.txt"]
    assert files("chosen") == ["sub/c.txt"]
    assert (tmp_path / "whole" / "a.txt").read_text() == (tmp_path / "whole" / "link").read_text() == "a.txt"


def test_deleted_checkpoint_is_gone(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        for steps in (1, 9):  # The second one is held until the report at the target.
            storage_id = store(core_context, steps)
            core_context.checkpoint.delete(storage_id)
            with (
                pytest.raises(CheckpointError, match="has no checkpoint"),
                core_context.checkpoint.restore_path(storage_id),
            ):
                pass

    _, link = train_with(code, tmp_path, target=5, unit="batches")
    assert len(link.saves) == 1
    assert not (tmp_path / "checkpoints" / "trial-7").exists()


def test_checkpoint_of_an_earlier_attempt_is_found_by_its_id(tmp_path: Path) -> None:
    ids: list[str] = []
    train_with(lambda core, info: ids.append(store(core, 1, "one")), tmp_path, target=5, unit="batches")

    def code(core_context: Core, info: det.ClusterInfo) -> None:
        with core_context.checkpoint.restore_path(ids[0]) as path:
            assert (path / "model").read_text() == "one"
        core_context.checkpoint.delete(ids[0])

    train_with(code, tmp_path, target=5, unit="batches", attempt=2)
    assert not (tmp_path / "checkpoints" / "trial-7").exists()


def test_metadata_must_have_the_steps(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        with core_context.checkpoint.store_path({"epoch": 1}) as (path, _):
            (path / "model").touch()

    outcome, _ = train_with(code, tmp_path)
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("ValueError: metadata for reported checkpoints")


def test_exception_while_storing_discards_the_files(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        with core_context.checkpoint.store_path({"steps_completed": 1}) as (path, _):
            (path / "model").touch()
            raise ValueError("no luck")

    outcome, link = train_with(code, tmp_path)
    assert isinstance(outcome, Failed)
    assert not link.saves
    assert not list((tmp_path / "trial").iterdir())


def test_nothing_is_left_in_the_directory_of_the_trial(tmp_path: Path) -> None:
    (tmp_path / "trial" / ".determined-left").mkdir(parents=True)  # by a killed process
    train_with(by_epochs, tmp_path, target=3)
    assert not list((tmp_path / "trial").iterdir())


def test_checkpoint_of_other_training_code_has_an_id_and_no_steps(tmp_path: Path) -> None:
    assert Identity.read(tmp_path, "trial-3/length-4-attempt-1") == ("trial-3-length-4-attempt-1", None)


# -- hyperparameters, and what is known about the trial ---------------------------------------------


def test_invalid_hyperparameters(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        raise det.InvalidHP("too deep")

    assert train_with(code, tmp_path)[0] == Invalid("too deep")


def test_early_exits(tmp_path: Path) -> None:
    def code(reason: det.core.EarlyExitReason) -> Callable[[Core, det.ClusterInfo], None]:
        def train(core_context: Core, info: det.ClusterInfo) -> None:
            core_context.train.report_early_exit(reason)
            assert core_context.preempt.should_preempt()

        return train

    reasons = det.core.EarlyExitReason
    assert isinstance(train_with(code(reasons.INVALID_HP), tmp_path)[0], Invalid)
    assert train_with(code(reasons.USER_REQUESTED_STOP), tmp_path)[0] == Stopped()


def test_cluster_info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("ASHWOOD_SLOTS_PER_TRIAL", "4")
    found: list[Any] = []
    train_with(
        lambda core_context, info: found.append((info, core_context.info)),
        tmp_path,
        hparams={"lr": 0.1, "layers": {"sizes": [1, 2]}},
        data={"path": "x"},
        seed=2**40 + 5,
        experiment_id=3,
        attempt=2,
        unit="epochs",
        max_length=16,
    )
    info, same = found[0]
    assert same is info
    trial = info.trial
    assert trial.hparams == {"lr": 0.1, "layers": {"sizes": [1, 2]}}
    assert type(trial.hparams["layers"]) is dict
    assert (trial.trial_id, trial.experiment_id, trial.trial_seed, trial._debug) == (7, 3, 5, False)
    assert (info.task_type, info.allocation_id, info.latest_checkpoint) == ("TRIAL", "3.7.2", None)
    assert info.user_data == {"path": "x"}
    assert (info.slot_ids, info.container_addrs, info.container_rank) == ([0, 1, 2, 3], ["127.0.0.1"], 0)
    assert info.container_slot_counts == [4]
    assert (info.agent_id, info.task_id) == (socket.gethostname(), "3.7")
    # What belongs to a master is an empty text.
    assert (info.master_url, info.cluster_id, info.session_token, info.gpu_uuids) == ("", "", "", [])
    assert (info.master_cert_name, info.master_cert_file) == (None, None)
    assert trial._config["searcher"]["metric"] == "loss"
    assert trial._config["searcher"]["max_length"] == {"epochs": 16}
    # Determined adds the defaults of what the file leaves out.
    assert (trial._config["max_restarts"], trial._config["labels"], trial._config["scheduling_unit"]) == (5, [], 100)
    assert trial._config["optimizations"]["aggregation_frequency"] == 1


def test_gpus_are_slots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    found: list[Any] = []
    train_with(lambda core_context, info: found.append((info.slot_ids, info.gpu_uuids)), tmp_path)
    assert found == [([0, 1], ["4", "5"])]


def test_log_says_once_that_the_package_replaces_determined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ASHWOOD_DETERMINED_SAID")
    for attempt in (1, 2):
        train_with(lambda core_context, info: det.get_cluster_info(), tmp_path, attempt=attempt)
    said = "The package determined is not installed; ashwood.integrations.determined takes its place."
    assert capsys.readouterr().out.splitlines().count(said) == 2


def test_outside_an_experiment_reports_are_logged_and_checkpoints_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert det.get_cluster_info() is None
    caplog.set_level(logging.INFO, "determined.core")
    with det.core.init(checkpoint_storage=str(tmp_path / "stored")) as core_context:
        for op in core_context.searcher.operations():
            assert op.length == 1
            core_context.train.report_validation_metrics(1, {"loss": 1.0})
            storage_id = store(core_context, 1, "x", note="y")
            assert not core_context.preempt.should_preempt()
            op.report_completed(1.0)
        with core_context.checkpoint.restore_path(storage_id) as path:
            assert path == tmp_path / "stored" / storage_id
        assert core_context.checkpoint.get_metadata(storage_id) == {"steps_completed": 1, "note": "y"}
        core_context.checkpoint.delete(storage_id)
        assert core_context.train.get_tensorboard_path().is_dir()
    assert "report_validation_metrics(steps_completed=1, metrics={'loss': 1.0})" in caplog.text


def test_context_needs_the_ranks_of_its_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ValueError, match="you must provide a valid DistributedContext"):
        det.core.init()


def test_should_preempt_needs_a_context_that_has_begun() -> None:
    with pytest.raises(RuntimeError, match="use core"):
        det.core.init().preempt.should_preempt()


def test_context_without_with_statement(tmp_path: Path) -> None:
    def train(trial: Trial) -> None:
        core_context = det.core.init()
        core_context.__enter__()
        for op in core_context.searcher.operations():
            op.report_completed(0.5)
        core_context.close()

    assert run(train, make_job(tmp_path, trial_directory=str(tmp_path / "t")), ScriptedLink()) == Ended(3)


def test_operations_need_a_length(tmp_path: Path) -> None:
    outcome, _ = train_with(by_epochs, tmp_path, **OPEN_ENDED)
    assert isinstance(outcome, Failed)
    assert "add max_length to its searcher section" in outcome.error


def test_search_without_a_length_records_steps_and_ends_when_the_code_returns(tmp_path: Path) -> None:
    def code(core_context: Core, info: det.ClusterInfo) -> None:
        for step in (10, 20):
            core_context.train.report_training_metrics(steps_completed=step, metrics={"x": step})
            store(core_context, step)
            assert not core_context.preempt.should_preempt()
        core_context.train.report_validation_metrics(steps_completed=20, metrics={"loss": 0.5})

    outcome, link = train_with(code, tmp_path, **OPEN_ENDED)
    assert outcome == Returned()
    assert not asked_at(link)
    assert validations(link) == [(20, 0.5)]
    # The last checkpoint is saved again, because its metric was reported after it was stored.
    assert link.saves == [
        f"length-{n}" for n in ("10-attempt-1-batches-10", "20-attempt-1-batches-20", "20-attempt-1-saves-3")
    ]
    assert link.metrics_saved[link.saves[-1]]["loss"] == 0.5


def test_request_to_end_does_not_complete_a_trial_without_a_length(tmp_path: Path) -> None:
    outcome, _ = train_with(by_itself(100), tmp_path, suspend_at=5, **OPEN_ENDED)
    assert isinstance(outcome, Ended)


# -- lengths ------------------------------------------------------------------------------------


@given(st.integers(1, 1000), st.integers(1, 100), st.sampled_from(["epochs", "batches", "records", "steps"]))
def test_lengths_follow_from_a_completed_operation(per_unit: int, length: int, unit: str) -> None:
    lengths = Lengths(make_job(Path(), unit=unit, max_length=100))
    lengths.learn(length, length * per_unit)
    assert [lengths.at(n * per_unit) for n in range(5)] == [0, 1, 2, 3, 4]
    assert lengths.at(per_unit - 1) == 0


def test_lengths_follow_from_the_experiment_file() -> None:
    epochs = Lengths(make_job(Path(), hparams={"global_batch_size": 64}, records_per_epoch=60_000))
    assert [epochs.at(n) for n in (0, 937, 938, 1876)] == [0, 0, 1, 2]
    records = Lengths(make_job(Path(), unit="records", hparams={"global_batch_size": 64}))
    assert records.at(10) == 640


def test_lengths_follow_from_the_checkpoint_that_the_trial_continues_from() -> None:
    lengths = Lengths(make_job(Path(), length=4), steps=400)
    assert [lengths.at(n) for n in (400, 450, 500)] == [4, 4, 5]


@settings(max_examples=60, deadline=None)
@given(
    unit=st.sampled_from(["epochs", "batches", "records", "steps"]),
    per_unit=st.integers(1, 7),
    offset=st.integers(-3, 3),
    validates_every=st.integers(1, 4),
    stores_every=st.integers(1, 4),
    rungs=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    store_first=st.booleans(),
)
def test_any_way_to_count_steps_is_compared_exactly_at_operations_and_loses_no_checkpoint(
    unit: str,
    per_unit: int,
    offset: int,
    validates_every: int,
    stores_every: int,
    rungs: list[int],
    store_first: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    targets = [sum(rungs[: n + 1]) for n in range(len(rungs))]
    tmp_path = tmp_path_factory.mktemp("any")
    stored: list[str] = []

    def code(core_context: Core, info: det.ClusterInfo) -> None:
        done = 0

        def validate() -> None:
            core_context.train.report_validation_metrics(done * per_unit + offset, {"loss": 1.0, "x": 2.0})

        for op in core_context.searcher.operations():
            while done < op.length:
                done += 1
                core_context.train.report_training_metrics(done * per_unit + offset - 1, {"x": 1.0})
                if not store_first and done % validates_every == 0:
                    validate()
                if done % stores_every == 0:
                    stored.append(str(done))
                    store(core_context, done * per_unit + offset, str(done))
                if store_first and done % validates_every == 0:
                    validate()
                assert not core_context.preempt.should_preempt()
            op.report_completed(1 / done)

    answers = [*map(go, targets[1:]), PAUSE]
    outcome, link = train_with(code, tmp_path, answers, target=targets[0], unit=unit, max_length=targets[-1])
    assert outcome == Ended(targets[-1])
    assert asked_at(link) == targets
    lengths = [sent[1] for sent in link.sent if sent[0] in ("report", "saved")]
    assert lengths == sorted(lengths)
    saved = {(path / "model").read_text() for path in (tmp_path / "checkpoints").glob("trial-7/*")}
    assert saved == set(stored)
