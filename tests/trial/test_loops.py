from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.errors import TrainingCodeError
from ashwood.trial import Trial
from tests.trial.links import DROP, PAUSE, ScriptedLink, go, make_job, save


def test_loop_runs_to_target(tmp_path: Path) -> None:
    link = ScriptedLink([go(5), PAUSE])
    trial = Trial(make_job(tmp_path), link)
    seen = []
    for epoch in trial.epochs():
        trial.report(loss=1.0)
        seen.append(epoch)
    assert seen == [0, 1, 2, 3, 4]
    assert link.reports == [1, 2, 3, 4, 5]
    assert [sent for sent in link.sent if sent[0] == "asked"] == [("asked", go(5)), ("asked", PAUSE)]


def test_loop_continues_from_checkpoint(tmp_path: Path) -> None:
    trial = Trial(
        make_job(tmp_path, length=2, checkpoint="trial-7/length-2-attempt-1", directory="/there", target=4),
        ScriptedLink(),
    )
    assert list(trial.epochs()) == [2, 3]
    assert trial.checkpoint == Path("/there")


def test_length_includes_current_step(tmp_path: Path) -> None:
    trial = Trial(make_job(tmp_path, unit="batches", target=100), ScriptedLink())
    assert trial.length == 0
    assert all(trial.length == batch + 1 for batch in trial.batches())
    assert trial.length == trial.target == 100


def test_batches_send_no_message_each_step(tmp_path: Path) -> None:
    link = ScriptedLink()
    trial = Trial(make_job(tmp_path, unit="batches", target=1_000_000), link)
    assert sum(1 for _ in trial.batches()) == 1_000_000
    assert link.polls < 1_000


def test_a_checkpoint_at_the_target_is_trained_on_to_get_an_answer(tmp_path: Path) -> None:
    trial = Trial(make_job(tmp_path, length=3, checkpoint="trial-7/length-3-attempt-1", target=3), ScriptedLink())
    assert list(trial.epochs()) == [3]


def test_validation_is_due_at_its_periods_and_at_the_target(tmp_path: Path) -> None:
    job = make_job(
        tmp_path, unit="batches", target=50, validation_period=(20, "batches"), checkpoint_period=(15, "batches")
    )
    link = ScriptedLink()
    trial = Trial(job, link)
    for _ in trial.batches():
        if trial.validation_due:
            trial.report(loss=1.0, checkpoint=save)
    assert link.reports == [15, 20, 30, 40, 45, 50]
    assert link.saves == [f"length-{length}-attempt-1" for length in (15, 30, 45, 50)]


def test_loop_continues_to_next_validation_if_target_has_none(tmp_path: Path) -> None:
    link = ScriptedLink([go(7), go(25), DROP])
    trial = Trial(make_job(tmp_path, target=2, max_length=25, validation_period=(5, "epochs")), link)
    for epoch in trial.epochs():
        if (epoch + 1) % 5 == 0:
            trial.report(loss=1.0, checkpoint=save)
        else:
            trial.report(train_loss=1.0, checkpoint=save)
    assert link.reports == list(range(1, 26))
    asked = [link.sent[n - 1][1] for n, sent in enumerate(link.sent) if sent[0] == "asked"]
    assert asked == [5, 10, 25]


@pytest.mark.parametrize(("period", "ends_at"), [((5, "epochs"), 5), (None, 2), ((5, "steps"), 5), ((9, "epochs"), 7)])
def test_loop_continues_at_most_one_period_and_not_past_max_length(
    tmp_path: Path, period: tuple[int, str] | None, ends_at: int
) -> None:
    job = make_job(tmp_path, target=2, max_length=7, validation_period=period)
    trial = Trial(job, ScriptedLink())
    for _ in trial.epochs():
        trial.report(train_loss=1.0)
    assert trial.length == ends_at


def test_loop_over_records_continues_to_next_validation(tmp_path: Path) -> None:
    job = make_job(tmp_path, unit="records", target=20, validation_period=(50, "records"))
    trial = Trial(job._replace(max_length=500), ScriptedLink([DROP]))
    for _ in trial.records(8):
        if trial.length >= 50:
            trial.report(loss=1.0)
    assert trial.length == 50


def test_records_come_in_ranges_and_stop_exactly(tmp_path: Path) -> None:
    link = ScriptedLink([go(200), DROP])
    trial = Trial(make_job(tmp_path, unit="records", target=100, hparams={"global_batch_size": 32}), link)
    ranges = []
    for records in trial.records():
        ranges.append(records)
        if trial.validation_due:
            trial.report(loss=1.0)
    assert [i for records in ranges for i in records] == list(range(200))
    assert [len(records) for records in ranges] == [32, 32, 32, 4, 32, 32, 32, 4]
    assert link.reports == [100, 200]


@pytest.mark.parametrize("size", [0, -1, None, 2.5])
def test_records_need_a_batch_size(tmp_path: Path, size: int | None) -> None:
    trial = Trial(make_job(tmp_path, unit="records"), ScriptedLink())
    with pytest.raises(TrainingCodeError, match="global_batch_size"):
        next(trial.records(size))


@given(
    unit=st.sampled_from(["epochs", "batches", "records"]),
    loop=st.sampled_from(["epochs", "batches", "records"]),
    per_epoch=st.integers(1, 50),
    batch=st.integers(1, 50),
    targets=st.lists(st.integers(1, 40), min_size=1, max_size=3),
)
def test_any_loop_reaches_its_targets_and_no_further_than_a_step(
    unit: str, loop: str, per_epoch: int, batch: int, targets: list[int]
) -> None:
    totals = [sum(targets[: n + 1]) for n in range(len(targets))]
    link = ScriptedLink([*map(go, totals[1:]), DROP])
    hparams = {"global_batch_size": batch}
    job = make_job(Path("unused"), unit=unit, target=totals[0], records_per_epoch=per_epoch, hparams=hparams)
    trial = Trial(job, link)
    size = {"epochs": per_epoch, "batches": batch, "records": 1}
    steps: list[object] = []
    asked: list[int] = []
    for step in getattr(trial, loop)(*[1] if loop == "records" else []):
        steps.append(step)
        if trial.validation_due:
            asked.append(trial.length)
            trial.report(loss=1.0)
    trained = len(steps) * size[loop]
    # A coarse step may pass several targets at once, and then each asks for a step more.
    assert trained >= totals[-1] * size[unit]
    assert trained < totals[-1] * size[unit] + len(targets) * (size[loop] + size[unit])
    assert asked == sorted(asked)
    assert not link.answers


def test_unitless_experiments_take_any_one_loop(tmp_path: Path) -> None:
    for loop in ("steps", "epochs", "batches"):
        assert list(getattr(Trial(make_job(tmp_path, unit="steps"), ScriptedLink()), loop)()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("unit", "loop", "words"),
    [
        ("epochs", "batches", "add records_per_epoch .* and .* global_batch_size .* or loop over trial.epochs"),
        ("records", "epochs", "add records_per_epoch to the experiment, or loop over trial.records"),
        ("epochs", "steps", "loop over trial.epochs"),
    ],
)
def test_loop_in_unrelated_unit_is_error_with_advice(tmp_path: Path, unit: str, loop: str, words: str) -> None:
    with pytest.raises(TrainingCodeError, match=words):
        next(getattr(Trial(make_job(tmp_path, unit=unit), ScriptedLink()), loop)())


def test_nested_loops_are_error(tmp_path: Path) -> None:
    trial = Trial(make_job(tmp_path, unit="steps"), ScriptedLink())
    for _ in trial.epochs():
        with pytest.raises(TrainingCodeError, match="inside the loop over"):
            next(trial.batches())


def test_after_a_break_the_length_is_where_it_broke_off(tmp_path: Path) -> None:
    trial = Trial(make_job(tmp_path), ScriptedLink())
    for epoch in trial.epochs():
        if epoch == 1:
            break
    assert trial.length == 2
    assert list(trial.epochs()) == [2]


def test_a_checkpoint_between_two_lengths_resumes_at_its_very_batch(tmp_path: Path) -> None:
    job = make_job(tmp_path, target=4, records_per_epoch=100, hparams={"global_batch_size": 30})
    link = ScriptedLink(suspend_at=2)
    trial = Trial(job, link)
    batches = []
    for batch in trial.batches():
        batches.append(batch)
        if batch == 4:
            trial.report(loss=1.0, checkpoint=save)
    assert link.saves == ["length-1-attempt-1-batches-5"]
    again = Trial(job._replace(length=1, checkpoint=f"trial-7/{link.saves[0]}", attempt=2), ScriptedLink())
    assert next(again.batches()) == 5
