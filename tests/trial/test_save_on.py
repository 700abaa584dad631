"""Saves that ``checkpoint_policy`` asks for: of results that are better than all checkpoints of the experiment."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ashwood.errors import StorageUnreachable
from ashwood.trial import Trial, attempt
from ashwood.trial.channel import DriverLink, Message, ReportAnswer
from ashwood.trial.heartbeat import Heartbeat
from ashwood.trial.ranks import FollowingAttempt, LeadingAttempt
from tests.trial.links import DROP, PAUSE, ScriptedLink, go, make_job, save
from tests.trial.test_ranks import Announced


def train(trial: Trial, losses: Sequence[float]) -> None:
    for epoch in trial.epochs():
        trial.report(loss=losses[epoch], checkpoint=save)


def saved(link: ScriptedLink) -> list[int]:
    return [sent[1] for sent in link.sent if sent[0] == "saved"]


@pytest.mark.parametrize(("policy", "lengths"), [("best", [1, 3, 6]), ("all", [1, 2, 3, 4, 5, 6]), ("none", [6])])
def test_report_that_is_better_than_all_before_is_saved(tmp_path: Path, policy: str, lengths: list[int]) -> None:
    link = ScriptedLink()
    train(Trial(make_job(tmp_path, target=6, save_on=policy), link), [5.0, 5.0, 4.0, nan, 4.5, 4.2])
    assert saved(link) == lengths


def test_larger_metric_is_better_if_the_experiment_says_so(tmp_path: Path) -> None:
    link = ScriptedLink()
    job = make_job(tmp_path, target=5, save_on="best", smaller_is_better=False)
    train(Trial(job, link), [5.0, 4.0, 6.0, inf, 1.0])
    assert saved(link) == [1, 3, 5]


def test_best_loss_includes_other_trials(tmp_path: Path) -> None:
    link = ScriptedLink()
    trial = Trial(make_job(tmp_path, target=5, save_on="best", best=3.0), link)
    for epoch in trial.epochs():
        link.best_loss = 1.5 if epoch >= 2 else inf
        trial.report(loss=[4.0, 2.5, 2.0, 1.0, 9.0][epoch], checkpoint=save)
    assert saved(link) == [2, 4, 5]


def test_best_result_at_a_rung_is_saved_whatever_the_search_answers(tmp_path: Path) -> None:
    link = ScriptedLink([go(2), DROP])
    train(Trial(make_job(tmp_path, target=1, save_on="best"), link), [2.0, 1.0])
    assert [sent[:2] for sent in link.sent[1:]] == [
        ("report", 1),
        ("asked", go(2)),
        ("saved", 1),
        ("report", 2),
        ("asked", DROP),
        ("saved", 2),
    ]


def test_metrics_that_are_reported_one_by_one_belong_together(tmp_path: Path) -> None:
    link = ScriptedLink()
    trial = Trial(make_job(tmp_path, target=3, save_on="best"), link)
    for epoch in trial.epochs():
        trial.report(loss=[3.0, 2.0, 9.0][epoch])
        trial.report(accuracy=1.0, checkpoint=save)
    assert saved(link) == [1, 2, 3]


def test_code_that_owns_its_loop_saves_its_best_result(tmp_path: Path) -> None:
    link = ScriptedLink()
    trial = Trial(make_job(tmp_path, target=30, save_on="best"), link)
    for length, loss in ((10, 3.0), (20, 4.0), (25, 2.0), (30, 5.0)):
        trial.report(loss=loss, length=length, checkpoint=save)
    assert saved(link) == [10, 25, 30]


def test_code_that_is_called_again_knows_what_it_saved(tmp_path: Path) -> None:
    job = make_job(tmp_path, target=1, save_on="best")
    trial = Trial(job, ScriptedLink([go(2)]))
    trial.report(loss=0.5, checkpoint=save, length=1)
    again = trial._attempt.outcome()
    assert isinstance(again, attempt.Again)
    assert again.job.best == 0.5


def test_training_continues_if_storage_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        def save(self, *_: Any) -> None:
            raise StorageUnreachable("the storage is down")

    link = ScriptedLink()
    trial = Trial(make_job(tmp_path, target=5, save_on="best"), link)
    epochs = trial.epochs()
    with monkeypatch.context() as patched:
        patched.setattr(attempt, "open_storage", lambda *_: Unreachable())
        next(epochs)
        trial.report(loss=1.0, checkpoint=save)
    monkeypatch.setattr(attempt, "_NEXT_TRY_SECONDS", 0.0)
    trial._attempt._next_try_at_age = 0.0
    next(epochs)
    trial.report(loss=0.9, checkpoint=save)
    assert saved(link) == [2]


def test_warning_says_when_saves_take_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 0.0

    def slow_save(directory: Path) -> None:
        nonlocal seconds
        save(directory)
        seconds += 3.0

    monkeypatch.setattr(attempt, "time", SimpleNamespace(monotonic=lambda: seconds))
    monkeypatch.setattr(attempt, "Heartbeat", lambda link, pulse: Heartbeat(link, pulse, lambda: seconds))
    link = ScriptedLink()
    trial = Trial(make_job(tmp_path, target=9, save_on="best"), link)
    warned_at = []
    for epoch in trial.epochs():
        seconds += 10.0
        trial.report(loss=-epoch, checkpoint=slow_save)
        warned_at += [epoch] * sum(sent[0] == "warned" for sent in link.sent[-1:])
    # 3 s in 10 s of training are too few to speak of, 6 s in 20 s are not.
    assert warned_at == [1]
    assert [sent[1] for sent in link.sent if sent[0] == "warned"] == [
        "checkpoint_policy: best saves checkpoints for more than 20% of the training time; checkpoint_policy: none "
        "saves only when a trial pauses or ends, and every min_checkpoint_period"
    ]


def test_link_learns_the_best_while_it_waits_and_between() -> None:
    class Scripted:
        gone = False

        def __init__(self, messages: Iterable[Message]) -> None:
            self.messages = deque(messages)

        def poll(self) -> Message | None:
            return self.messages.popleft() if self.messages else None

        receive = poll

    link = DriverLink(Scripted([["best", 3.0], ["continue", 9], ["best", 2.0]]))  # type: ignore[arg-type]
    assert link.answer() == go(9)
    assert link.best() == 2.0
    assert not link.suspended()


# -- several processes ------------------------------------------------------------------------

TrainTogether = Callable[[Trial, Sequence[float]], list[int]]


class Recorder:
    """Saves a trial's checkpoints, and notes at which lengths."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.lengths: list[int] = []

    def __call__(self, directory: Path) -> None:
        self.lengths.append(self.trial.length)
        save(directory)


def loop(trial: Trial, losses: Sequence[float]) -> list[int]:
    recorder = Recorder(trial)
    for epoch in trial.epochs():
        # What counts is the loss of rank 0.
        trial.report(loss=losses[epoch] if trial.rank == 0 else -epoch, checkpoint=recorder)
    return recorder.lengths


def own_loop(trial: Trial, losses: Sequence[float]) -> list[int]:
    recorder, length = Recorder(trial), trial.length
    while not trial.should_stop:
        loss, length = losses[length], length + 1
        trial.report(loss=loss, length=length, checkpoint=recorder)
    return recorder.lengths


@pytest.mark.parametrize("answer", [PAUSE, DROP])
@pytest.mark.parametrize("train_together", [loop, own_loop])
def test_all_processes_save_the_best_result_together(
    tmp_path: Path, answer: ReportAnswer, train_together: TrainTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Chunks of one step, as in a loop whose steps take long: rank 0 learns of nothing within one.
    monkeypatch.setattr("ashwood.trial.loop._MOMENT", 0.0)
    losses = [5.0, 6.0, 4.0, 3.0, 7.0]
    job = make_job(tmp_path, target=3, world_size=2, save_on="best")
    link, other, announced = ScriptedLink([go(5), answer]), ScriptedLink(), Announced()
    saved_by_rank_0 = train_together(Trial(job, link, LeadingAttempt(job, link, announced.announce)), losses)
    job = job._replace(rank=1)
    saved_by_rank_1 = train_together(Trial(job, other, FollowingAttempt(job, other, announced)), losses)
    assert saved_by_rank_0 == saved_by_rank_1 == [1, 3, 4, *([5] if answer is PAUSE else [])]


def test_processes_on_several_machines_save_where_the_search_answers_alone(tmp_path: Path) -> None:
    link = ScriptedLink()
    job = make_job(tmp_path, target=3, world_size=2, rendezvous="host:1", save_on="all")
    train(Trial(job, link), [3.0, 2.0, 1.0])
    assert saved(link) == [3]
