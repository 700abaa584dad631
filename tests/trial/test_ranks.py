from collections import deque
from pathlib import Path
from typing import Any

import pytest

from ashwood.backends.local.server import _append
from ashwood.errors import StorageUnreachable, TrainingCodeError
from ashwood.trial import Trial
from ashwood.trial import attempt as attempts
from ashwood.trial.channel import Message
from ashwood.trial.job import WorkerJob
from ashwood.trial.ranks import FollowingAttempt, LeadingAttempt
from ashwood.trial.run import outcome_of
from tests.trial.links import DROP, PAUSE, ScriptedLink, go, make_job, save


def test_rank_0_never_repeats_a_save_in_which_others_took_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        def save(self, *_: Any) -> None:
            raise StorageUnreachable("the storage is down")

    monkeypatch.setattr(attempts, "open_storage", lambda *_: Unreachable())
    job = WorkerJob(7, 1, 4, {}, 0, str(tmp_path), metric="loss", checkpoint_period=(1, "steps"))
    link = ScriptedLink()
    announced: list[Any] = []
    trial = Trial(job, link, LeadingAttempt(job, link, lambda *announcement: announced.append(announcement)))
    assert next(trial.steps()) == 0
    with pytest.raises(StorageUnreachable):
        trial.report(loss=1.0, checkpoint=save)
    assert announced[0] == ("to", "steps", 1, True)


class Announced:
    """What rank 0 announced, all of it at once."""

    def __init__(self) -> None:
        self.queue: deque[Message] = deque()

    def announce(self, *announcement: Any) -> None:
        _append(self.queue, list(announcement))

    def next(self) -> Message | None:
        return self.queue.popleft() if self.queue else None

    def put_back(self, announcement: Message) -> None:
        self.queue.appendleft(announcement)


def own_loop(trial: Trial) -> list[int]:
    lengths, length = [], trial.length
    while not trial.should_stop:
        length += 2
        lengths.append(length)
        trial.report(loss=1.0, length=length, checkpoint=lambda directory: save(directory))
    return lengths


@pytest.mark.parametrize(
    ("link", "lengths", "saves"),
    [
        (ScriptedLink([go(9), PAUSE]), [2, 4, 6, 8, 10], ["length-10-attempt-1"]),
        (ScriptedLink([DROP]), [2, 4], []),
        # Suspended while the first length is trained: noticed at the next question, and saved with the next report.
        (ScriptedLink(suspend_at=2), [2, 4], ["length-4-attempt-1"]),
        (ScriptedLink(suspend_at=1), [], []),
    ],
)
def test_all_processes_of_code_that_owns_its_loop_take_the_same_steps(
    tmp_path: Path, link: ScriptedLink, lengths: list[int], saves: list[str]
) -> None:
    job = make_job(tmp_path, target=4, world_size=2)
    announced = Announced()
    leader = Trial(job, link, LeadingAttempt(job, link, announced.announce))
    assert own_loop(leader) == lengths
    assert link.saves == saves
    other = ScriptedLink()
    follower = Trial(job._replace(rank=1), other, FollowingAttempt(job._replace(rank=1), other, announced))
    assert own_loop(follower) == lengths
    assert follower._attempt._saved_at == (("", lengths[-1]) if saves else None)
    assert not announced.queue
    assert outcome_of(leader) == outcome_of(follower)


def test_ranks_must_use_the_same_loop(tmp_path: Path) -> None:
    job, link = make_job(tmp_path), ScriptedLink()
    announced = Announced()
    next(Trial(job, link, LeadingAttempt(job, link, announced.announce)).epochs())
    follower = Trial(job, link, FollowingAttempt(job._replace(rank=1), link, announced))
    with pytest.raises(TrainingCodeError, match=r"rank 1 asks trial\.should_stop, but rank 0 loops over"):
        follower.should_stop  # noqa: B018
