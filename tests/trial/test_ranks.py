from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ashwood.errors import StorageUnreachable, TrainingCodeError
from ashwood.trial import Trial
from ashwood.trial import attempt as attempts
from ashwood.trial.job import Job
from ashwood.trial.ranks import FollowingAttempt, LeadingAttempt
from tests.trial.links import PAUSE, ScriptedLink, go, save


def test_rank_0_never_repeats_a_save_in_which_others_took_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        def save(self, *_: Any) -> None:
            raise StorageUnreachable("the storage is down")

    monkeypatch.setattr(attempts, "open_storage", lambda *_: Unreachable())
    job = Job(7, 1, 4, {}, 0, str(tmp_path), metric="loss", checkpoint_period=(1, "steps"))
    link = ScriptedLink()
    announced: list[Any] = []
    trial = Trial(job, link, LeadingAttempt(job, link, lambda *announcement: announced.append(announcement)))
    assert next(trial.steps()) == 0
    with pytest.raises(StorageUnreachable):
        trial.report(loss=1.0, checkpoint=save)
    assert announced[0] == ("to", "steps", 1, True)


class Queue:
    """What rank 0 announced, in memory."""

    def __init__(self) -> None:
        self.announced: deque[list[Any]] = deque()

    def next(self) -> list[Any] | None:
        return self.announced.popleft() if self.announced else None

    def put_back(self, announcement: list[Any]) -> None:
        self.announced.appendleft(announcement)


@pytest.mark.parametrize("suspend_at", [None, 1, 2, 3])
def test_ranks_whose_code_owns_its_loop_stop_at_the_same_report(tmp_path: Path, suspend_at: int | None) -> None:
    queue = Queue()
    job = Job(7, 1, 3, {}, 0, str(tmp_path / "0"), metric="loss")
    link = ScriptedLink([go(5), PAUSE], suspend_at)
    leader = Trial(job, link, LeadingAttempt(job, link, lambda *announcement: queue.announced.append([*announcement])))
    other = job._replace(rank=1, world_size=2)
    follower = Trial(other, ScriptedLink([]), FollowingAttempt(other, ScriptedLink([]), queue))
    saved: list[int] = []

    def save_as(rank: int, directory: Path) -> None:
        save(directory)
        saved.append(rank)

    for length in range(1, 9):
        assert leader.should_stop == follower.should_stop, length
        if leader.should_stop:
            break
        for rank, trial in enumerate((leader, follower)):
            trial.report(loss=1.0, length=length, checkpoint=partial(save_as, rank))
    assert leader.should_stop
    assert leader.length == follower.length <= 5
    assert saved == [0, 1]


def test_rank_that_reports_at_another_length_is_named(tmp_path: Path) -> None:
    queue = Queue()
    queue.announced.append(["at", 2])
    job = Job(7, 1, 3, {}, 0, str(tmp_path), metric="loss", rank=1, world_size=2)
    trial = Trial(job, ScriptedLink([]), FollowingAttempt(job, ScriptedLink([]), queue))
    with pytest.raises(TrainingCodeError, match="rank 1 reports at length 1, but rank 0 at 2"):
        trial.report(loss=1.0, length=1)
