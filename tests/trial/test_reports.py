import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ashwood.checkpoints import MANIFEST, RETRY_SECONDS, Patience, Storage, open_storage
from ashwood.errors import StorageUnreachable, TrainingCodeError
from ashwood.trial import Trial, attempt
from ashwood.trial.attempt import Again, Ended, Failed, Invalid, Outcome, Stopped, StorageTrouble, Unusable
from ashwood.trial.channel import ReportAnswer
from ashwood.trial.run import outcome_of, run
from tests.trial.links import DROP, PAUSE, SUSPEND, ScriptedLink, go, make_job, save

NUMBERS = [1, 1.5, np.float32(1.5), np.int64(3), np.array(2.0), float("nan"), float("inf"), True, np.False_]


@pytest.mark.parametrize("value", [*NUMBERS, np.array([1.5]), np.array([[True]])])
def test_metric_can_be_any_number(tmp_path: Path, value: Any) -> None:
    link = ScriptedLink()
    Trial(make_job(tmp_path), link).report(loss=value)
    sent = link.sent[-1][2]["loss"]
    assert type(sent) is float
    assert sent == np.asarray(value).item() or sent != sent


@pytest.mark.parametrize("value", ["0.5", b"1", [1.0], 1j, np.array([1.0, 2.0]), np.array(["1"]), 10**400])
def test_metric_that_is_no_number_is_refused_by_name(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match="metric 'accuracy' must be one number"):
        Trial(make_job(tmp_path), ScriptedLink()).report(accuracy=value)


def test_metric_that_is_none_was_not_measured(tmp_path: Path) -> None:
    link = ScriptedLink()
    trial = Trial(make_job(tmp_path, target=1), link)
    next(trial.epochs())
    trial.report(loss=None, accuracy=1)
    assert link.sent[-1] == ("report", 1, {"accuracy": 1.0})
    trial.report(loss=None)
    assert len(link.reports) == 1
    assert len(link.answers) == 1


def test_training_metrics_are_recorded_beside_those_of_the_same_name_and_never_compared(tmp_path: Path) -> None:
    link = ScriptedLink()
    trial = Trial(make_job(tmp_path, target=1), link)
    next(trial.epochs())
    trial.report(training={"loss": 0.1})
    assert len(link.answers) == 1
    trial.report(loss=0.5, training={"loss": np.float32(0.25), "skipped": None})
    assert link.sent[1:3] == [
        ("report", 1, {"training.loss": 0.1}),
        ("report", 1, {"loss": 0.5, "training.loss": 0.25}),
    ]
    assert not link.answers


def test_training_metric_cannot_be_the_metric_of_the_search_or_be_reported_twice(tmp_path: Path) -> None:
    trial = Trial(make_job(tmp_path, metric="training.loss"), ScriptedLink())
    with pytest.raises(TypeError, match=r"the search compares metric 'training\.loss'"):
        trial.report(training={"loss": 0.5})
    with pytest.raises(TypeError, match=r"'training\.lr' is reported twice"):
        trial.report({"training.lr": 1}, training={"lr": 1})


def test_metrics_come_by_mapping_too(tmp_path: Path) -> None:
    link = ScriptedLink()
    trial = Trial(make_job(tmp_path), link)
    trial.report({"val/loss": 1}, accuracy=0.5)
    assert link.sent[-1] == ("report", 0, {"val/loss": 1.0, "accuracy": 0.5})
    with pytest.raises(TypeError, match="name of a metric"):
        trial.report({1: 2.0})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="checkpoint must be a function"):
        trial.report(loss=1.0, checkpoint="model.pt")  # type: ignore[arg-type]


def finish_loop(link: ScriptedLink, tmp_path: Path, **changes: Any) -> Outcome:
    def train(trial: Trial) -> None:
        for _ in trial.epochs():
            trial.report(loss=1.0, checkpoint=save)

    return run(train, make_job(tmp_path, **changes), link)


@pytest.mark.parametrize("returned", [0.25, 1, np.float64(0.25), np.float32(0.25), np.array(0.25)])
def test_number_that_code_without_a_loop_returns_is_its_result(tmp_path: Path, returned: float) -> None:
    link = ScriptedLink()
    assert run(lambda _: returned, make_job(tmp_path), link) == Ended(3)
    assert link.sent == [("started", 0), ("report", 3, {"loss": float(returned)}), ("asked", PAUSE)]


def test_one_report_without_a_loop_is_the_result(tmp_path: Path) -> None:
    link = ScriptedLink()
    assert run(lambda trial: trial.report(loss=0.5, accuracy=1), make_job(tmp_path), link) == Ended(3)
    assert link.reports == [0, 3]
    assert link.sent[-2] == ("report", 3, {"loss": 0.5, "accuracy": 1.0})


@pytest.mark.parametrize("code", [lambda _: 0.25, lambda trial: trial.report(loss=0.25)])
def test_halving_search_shows_the_loop_that_is_missing(tmp_path: Path, code: Any) -> None:
    outcome = run(code, make_job(tmp_path, halving=True), ScriptedLink())
    assert isinstance(outcome, Unusable)
    assert "for epoch in trial.epochs():" in outcome.why
    assert "trial.report(loss=..., checkpoint=save)" in outcome.why


@pytest.mark.parametrize("returned", [True, None, "0.5", {"loss": 0.5}, np.array([1.0, 2.0])])
def test_what_is_no_number_is_no_result(tmp_path: Path, returned: Any) -> None:
    outcome = run(lambda _: returned, make_job(tmp_path), ScriptedLink())
    assert isinstance(outcome, Failed)
    assert outcome.cause == "unfinished at length 0"
    assert returned is None or f"it returned a {type(returned).__name__}, which is not a number" in outcome.error


def test_several_reports_without_a_loop_are_a_loop_that_is_missing(tmp_path: Path) -> None:
    def train(trial: Trial) -> None:
        for _ in range(3):
            trial.report(loss=0.5)

    outcome = run(train, make_job(tmp_path), ScriptedLink())
    assert isinstance(outcome, Failed)
    assert "trial.epochs()" in outcome.error


def test_exit_with_zero_is_a_normal_end(tmp_path: Path) -> None:
    def train(trial: Trial) -> None:
        for _ in trial.epochs():
            trial.report(loss=1.0)
        sys.exit(0)

    assert run(train, make_job(tmp_path), ScriptedLink()) == Ended(3)


def raising(error: Exception) -> Failed:
    def train(trial: Trial) -> None:
        for epoch in trial.epochs():
            if epoch == 1:
                try:
                    raise error
                finally:
                    trial.report(loss=1.0)

    outcome = run(train, make_job(Path("nowhere")), ScriptedLink())
    assert isinstance(outcome, Failed)
    assert outcome.has_reported
    return outcome


def test_error_has_a_cause_that_does_not_depend_on_its_message() -> None:
    assert raising(ValueError("1")).cause == raising(ValueError("2")).cause
    assert re.fullmatch(r"ValueError at .*test_reports\.py:\d+, length 2", raising(ValueError("1")).cause)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("reset"),
        MemoryError(),
        RuntimeError("CUDA out of memory"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
        type("ReadTimeout", (Exception,), {})(),
    ],
)
def test_error_that_may_pass_has_no_cause(error: Exception) -> None:
    assert raising(error).cause == ""


@pytest.mark.parametrize(
    ("answer", "saves"), [(PAUSE, ["length-3-attempt-1"]), (DROP, []), (SUSPEND, ["length-3-attempt-1"])]
)
def test_report_saves_only_when_due(tmp_path: Path, answer: ReportAnswer | None, saves: list[str]) -> None:
    link = ScriptedLink([answer])
    assert finish_loop(link, tmp_path) == Ended(3)
    assert link.saves == saves


def test_suspended_trial_is_saved_at_next_report(tmp_path: Path) -> None:
    link = ScriptedLink(suspend_at=4)
    assert finish_loop(link, tmp_path, target=100) == Ended(2)
    assert link.sent[-2:] == [("report", 2, {"loss": 1.0}), ("saved", 2, "length-2-attempt-1")]


def test_a_suspension_between_two_epochs_saves_the_state_just_reported(tmp_path: Path) -> None:
    link = ScriptedLink(suspend_at=3)
    assert finish_loop(link, tmp_path, target=100) == Ended(1)
    assert link.saves == ["length-1-attempt-1"]


def test_suspended_code_without_checkpoints_ends_at_once(tmp_path: Path) -> None:
    def train(trial: Trial) -> None:
        for _ in trial.epochs():
            trial.report(loss=1.0)

    assert run(train, make_job(tmp_path, target=100), ScriptedLink(suspend_at=3)) == Ended(1)


def test_trial_suspended_before_its_first_step_leaves_at_once(tmp_path: Path) -> None:
    link = ScriptedLink(suspend_at=1)
    assert finish_loop(link, tmp_path, target=100) == Ended(0)
    assert link.sent == [("started", 0)]


def test_resumed_trial_suspended_before_its_first_step_leaves_with_the_checkpoint_it_has(tmp_path: Path) -> None:
    finish_loop(ScriptedLink(), tmp_path)
    link = ScriptedLink(suspend_at=1)
    resumed = {"attempt": 2, "target": 100, "length": 3, "checkpoint": "trial-7/length-3-attempt-1"}
    assert finish_loop(link, tmp_path, **resumed) == Ended(3)
    assert link.sent == [("started", 3)]


def test_report_after_a_loop_that_was_suspended_before_its_first_step_is_dropped(tmp_path: Path) -> None:
    def train(trial: Trial) -> None:
        assert list(trial.epochs()) == []
        trial.report(loss=1.0, checkpoint=save)

    link = ScriptedLink(suspend_at=1)
    assert run(train, make_job(tmp_path), link) == Ended(0)
    assert link.sent == [("started", 0)]


def test_a_batch_loop_is_asked_for_a_report_when_suspended(tmp_path: Path) -> None:
    link = ScriptedLink(suspend_at=5)

    def train(trial: Trial) -> None:
        for _ in trial.batches():
            if trial.validation_due:
                trial.report(loss=1.0, checkpoint=save)

    outcome = run(train, make_job(tmp_path, unit="batches", target=10**9), link)
    assert isinstance(outcome, Ended)
    assert outcome.length < 10**6
    assert link.saves == [f"length-{outcome.length}-attempt-1"]


def test_several_reports_at_the_target_ask_once_and_save_what_was_offered(tmp_path: Path) -> None:
    link = ScriptedLink([PAUSE])

    def train(trial: Trial) -> None:
        for _ in trial.epochs():
            trial.report(accuracy=0.5, checkpoint=save)
            trial.report(loss=1.0)
            trial.report(extra=2.0)

    assert run(train, make_job(tmp_path, target=1), link) == Ended(1)
    assert [sent[0] for sent in link.sent] == ["started", "report", "report", "asked", "saved", "report"]


def test_a_checkpoint_offered_after_the_answer_counts(tmp_path: Path) -> None:
    link = ScriptedLink([PAUSE])
    trial = Trial(make_job(tmp_path, target=1), link)
    for _ in trial.epochs():
        trial.report(loss=1.0)
        trial.report(checkpoint=save)
    assert link.saves == ["length-1-attempt-1"]


def test_code_that_reports_after_its_loop_is_called_again(tmp_path: Path) -> None:
    calls: list[tuple[int, list[int]]] = []

    def train(trial: Trial) -> None:
        calls.append((trial.length, list(trial.epochs())))
        trial.report(loss=1.0, checkpoint=save)

    link = ScriptedLink([go(5), PAUSE])
    assert run(train, make_job(tmp_path), link) == Ended(5)
    assert calls == [(0, [0, 1, 2]), (3, [3, 4])]
    assert link.saves == ["length-3-attempt-1", "length-5-attempt-1"]


def test_without_a_checkpoint_it_is_called_again_from_the_start(tmp_path: Path) -> None:
    calls = []

    def train(trial: Trial) -> None:
        calls.append(list(trial.epochs()))
        trial.report(loss=1.0)

    link = ScriptedLink([go(5), PAUSE])
    assert run(train, make_job(tmp_path), link) == Ended(5)
    assert calls == [[0, 1, 2], [0, 1, 2, 3, 4]]
    assert [sent for sent in link.sent if sent[0] == "started"] == [("started", 0), ("started", 0)]


def test_error_of_early_return_says_what_was_expected(tmp_path: Path) -> None:
    def train(trial: Trial) -> None:
        for epoch in trial.epochs():
            trial.report(losss=1.0)
            if epoch == 1:
                return

    outcome = run(train, make_job(tmp_path), ScriptedLink())
    assert isinstance(outcome, Failed)
    assert outcome.error.splitlines()[:2] == [
        "the training code ended at 2 epochs without reporting 'loss' at 3 epochs (did you mean 'losss'?)",
        "It reported 'losss' (last at 2 epochs).",
    ]


@pytest.mark.parametrize(
    ("period", "cause"), [(None, "no validation at length 3"), ((3, "epochs"), "unfinished at length 6")]
)
def test_error_of_missing_validation_names_min_validation_period(
    tmp_path: Path, period: tuple[int, str] | None, cause: str
) -> None:
    def train(trial: Trial) -> None:
        for epoch in trial.epochs():
            trial.report({"loss" if epoch == 1 else "other": 1.0})

    outcome = run(train, make_job(tmp_path, validation_period=period), ScriptedLink())
    assert isinstance(outcome, Failed)
    assert outcome.cause == cause
    assert ("set min_validation_period" in outcome.error.splitlines()[0]) == (period is None)
    assert ("min_validation_period: {epochs: n} in the experiment file" in outcome.error) == (period is None)


def test_asynchronous_function_is_error(tmp_path: Path) -> None:
    async def train(trial: Trial) -> None: ...

    outcome = run(train, make_job(tmp_path), ScriptedLink())
    assert isinstance(outcome, Failed)
    assert "asynchronous" in outcome.error


def test_ends_that_the_code_asks_for_pass_its_own_handlers(tmp_path: Path) -> None:
    def reject(trial: Trial) -> None:
        try:
            trial.invalid_hparams("too many layers")
        except Exception:  # noqa: BLE001 - as training code does
            raise AssertionError from None

    def swallow(trial: Trial) -> None:
        try:
            trial.stop()
        except BaseException:  # noqa: BLE001 - as training code does
            return

    assert run(reject, make_job(tmp_path), ScriptedLink()) == Invalid("too many layers")
    assert run(swallow, make_job(tmp_path), ScriptedLink()) == Stopped()


def test_error_shows_traceback_from_user_code(tmp_path: Path) -> None:
    def train(trial: Trial) -> None:
        trial.hparams.learning_rate  # noqa: B018

    outcome = run(train, make_job(tmp_path, hparams={"learnin_rate": 1}), ScriptedLink())
    assert isinstance(outcome, Failed)
    headline, *trace = outcome.error.splitlines()
    assert "did you mean 'learnin_rate'?" in headline
    assert trace[0].startswith("Traceback")
    assert __file__ in trace[1]


def test_failed_checkpoint_fails_attempt_and_leaves_no_files(tmp_path: Path) -> None:
    def broken(directory: Path) -> None:
        save(directory)
        raise OSError("disk full")

    def train(trial: Trial) -> None:
        for _ in trial.epochs():
            trial.report(loss=1.0, checkpoint=broken)

    link = ScriptedLink()
    outcome = run(train, make_job(tmp_path), link)
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("OSError: disk full")
    assert link.saves == []
    assert list((tmp_path / "trial-7").iterdir()) == []


class FailingStorage:
    """Stands for `ashwood.trial.attempt.open_storage`: a storage that fails a given number of times.

    Attributes:
        failures: how many saves still fail.
        patience: for how many seconds each save was to be tried.
        now: seconds of the clock, which only the test moves.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
        self.failures = failures
        self.patience: list[float] = []
        self.now = 0.0
        monkeypatch.setattr(attempt, "open_storage", self._open)
        monkeypatch.setattr(attempt, "time", SimpleNamespace(monotonic=lambda: self.now))

    def _open(self, place: str, patience: Patience) -> Storage:
        self.patience.append(patience.seconds)
        if self.failures > 0:
            self.failures -= 1
            raise StorageUnreachable(f"can't upload {place}: the token has expired")
        return open_storage(place)


def train_ten_epochs(link: ScriptedLink, tmp_path: Path, storage: FailingStorage, seconds: float) -> Outcome:
    def train(trial: Trial) -> None:
        for _ in trial.epochs():
            storage.now += seconds
            trial.report(loss=1.0, checkpoint=save)

    return run(train, make_job(tmp_path, target=10, checkpoint_period=(1, "epochs")), link)


def test_trial_trains_on_while_a_save_that_may_wait_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, link = FailingStorage(monkeypatch, failures=4), ScriptedLink()
    assert train_ten_epochs(link, tmp_path, storage, seconds=3.0) == Ended(10)
    assert link.reports == list(range(1, 11))
    assert link.saves == [f"length-{length}-attempt-1" for length in range(5, 11)]
    assert storage.patience[:5] == [0.0] * 5
    # The reports without a checkpoint of their own come with the next one.
    manifest = open_storage(tmp_path).manifest("trial-7/length-5-attempt-1")
    assert [*manifest.reports] == [(length, {"loss": 1.0}) for length in range(1, 5)]


def test_storage_that_fails_for_good_ends_the_attempt_without_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, link = FailingStorage(monkeypatch, failures=100), ScriptedLink()
    outcome = train_ten_epochs(link, tmp_path, storage, seconds=15.0)
    assert isinstance(outcome, StorageTrouble)
    assert outcome.error.startswith(f"can't upload {tmp_path}: the token has expired\n")
    assert link.reports == [1, 2, 3, 4]
    assert storage.patience == [0.0, 0.0, 0.0, 10.0]


def test_save_that_a_trial_cannot_do_without_is_tried_for_the_rest_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, link = FailingStorage(monkeypatch, failures=100), ScriptedLink()
    outcome = train_ten_epochs(link, tmp_path, storage, seconds=2.0)
    assert isinstance(outcome, StorageTrouble)
    assert link.reports == list(range(1, 11))
    assert storage.patience[-1] == RETRY_SECONDS - 18.0


async def save_later(directory: Path) -> None: ...


@pytest.mark.parametrize(
    ("write", "words"), [(lambda _: None, "wrote nothing"), (lambda d: d.rmdir(), "wrote"), (save_later, "asynchron")]
)
def test_checkpoint_without_files_is_error(tmp_path: Path, write: Any, words: str) -> None:
    trial = Trial(make_job(tmp_path, target=1), ScriptedLink())
    next(trial.epochs())
    with pytest.raises(TrainingCodeError, match=words):
        trial.report(loss=1.0, checkpoint=write)


def test_leftovers_are_removed_and_an_unknown_checkpoint_is_replaced(tmp_path: Path) -> None:
    home = tmp_path / "trial-7"
    (home / ".writing-length-1-attempt-1").mkdir(parents=True)
    (home / "length-3-attempt-1").mkdir()
    (home / "length-3-attempt-1" / "stale").touch()
    finish_loop(ScriptedLink(), tmp_path)
    assert [path.name for path in home.iterdir()] == ["length-3-attempt-1"]
    assert sorted(path.name for path in (home / "length-3-attempt-1").iterdir()) == [MANIFEST, "model"]


def test_outcome_of_a_trial_that_waits_to_be_called_again(tmp_path: Path) -> None:
    trial = Trial(make_job(tmp_path, target=1), ScriptedLink([go(4)]))
    list(trial.epochs())
    trial.report(loss=1.0)
    outcome = outcome_of(trial)
    assert isinstance(outcome, Again)
    assert (outcome.job.length, outcome.job.target) == (0, 4)


def test_checkpoint_has_all_metrics_that_were_reported_at_its_length(tmp_path: Path) -> None:
    def train(trial: Trial) -> None:
        for _ in trial.epochs():
            trial.report(loss=0.5)
            trial.report(accuracy=trial.length / 10, checkpoint=save)

    link = ScriptedLink([go(5), PAUSE])
    run(train, make_job(tmp_path, target=3, checkpoint_period=(2, "epochs")), link)
    saved = {"length-2-attempt-1": 0.2, "length-4-attempt-1": 0.4, "length-5-attempt-1": 0.5}
    assert link.metrics_saved == {name: {"loss": 0.5, "accuracy": value} for name, value in saved.items()}
    manifest = open_storage(tmp_path).manifest("trial-7/length-4-attempt-1")
    assert manifest.metrics == {"loss": 0.5, "accuracy": 0.4}
