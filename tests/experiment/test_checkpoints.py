"""Which checkpoints are kept: what the policy asks for, and what a living trial goes on from, nothing else."""

from __future__ import annotations

from math import nan
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ashwood.experiment.checkpoints import Checkpoint, Checkpoints
from ashwood.experiment.decisions import DeleteCheckpoint
from ashwood.experiment.spec import CheckpointPolicy
from ashwood.testing.search_method import losses
from tests.experiment.conftest import Begin

_steps = st.lists(
    st.tuples(
        st.sampled_from(["save", "save", "save", "end", "drop"]),
        st.integers(0, 3),
        st.integers(1, 6),
        st.none() | losses(),
    ),
    max_size=40,
)


class Plain:
    """The rules in the plainest way: of everything that was ever kept, sorted anew each time."""

    def __init__(self, policy: CheckpointPolicy) -> None:
        self.policy = policy
        self.kept: list[Checkpoint] = []
        self.ended: set[int] = set()

    def needed(self, trial: int) -> set[str]:
        mine = [checkpoint for checkpoint in self.kept if checkpoint.trial == trial]
        latest = sorted(mine, key=lambda c: c.length)
        count = self.policy.save_trial_latest if trial in self.ended else max(1, self.policy.save_trial_latest)
        names = {c.name for c in latest[max(0, len(latest) - count) :]} if count else set()
        best = sorted((c for c in mine if c.loss is not None), key=lambda c: c.rank)
        names |= {c.name for c in best[: self.policy.save_trial_best]}
        all_best = sorted((c for c in self.kept if c.loss is not None), key=lambda c: c.rank)
        return names | {c.name for c in all_best[: self.policy.save_experiment_best]}

    def sweep(self) -> set[str]:
        gone: set[str] = set()
        while True:
            over = [c for c in self.kept if c.name not in self.needed(c.trial)]
            if not over:
                return gone
            gone |= {c.name for c in over}
            self.kept = [c for c in self.kept if c not in over]


@given(st.builds(CheckpointPolicy, *[st.integers(0, 2)] * 3), _steps)
def test_what_is_kept_is_what_is_needed(policy: CheckpointPolicy, steps: list[tuple[str, int, int, Any]]) -> None:
    plain = Plain(policy)
    book = Checkpoints(policy, lambda trial: trial in plain.ended)
    for number, (what, trial, length, loss) in enumerate(steps):
        if what == "save":
            checkpoint = Checkpoint(trial, f"{trial}/{length}/{number}", length, loss)
            plain.kept.append(checkpoint)
            gone = book.add(checkpoint)
        elif what == "end":
            plain.ended.add(trial)
            gone = book.ended(trial)
        else:
            latest = book.latest(trial)
            gone = []
            if latest is not None:
                assert book.drop(trial, latest.name)
                plain.kept.remove(latest)
        assert {checkpoint.name for checkpoint in gone} == plain.sweep()
        assert {checkpoint.name for checkpoint in book} == {checkpoint.name for checkpoint in plain.kept}


def test_a_checkpoint_that_is_told_again_counts_once() -> None:
    book = Checkpoints(CheckpointPolicy(1, 0, 1), lambda _: True)
    book.add(Checkpoint(0, "a", 1, 0.1))
    book.add(Checkpoint(0, "a", 1, 0.9))
    book.add(Checkpoint(1, "b", 1, 0.5))
    assert book.add(Checkpoint(1, "c", 2, 0.7)) == []
    assert {checkpoint.name for checkpoint in book} == {"a", "b", "c"}, "b is the best of all"


def test_without_a_policy_all_are_kept() -> None:
    book = Checkpoints(None, lambda _: True)
    assert not any(book.add(Checkpoint(0, str(length), length, nan)) for length in range(9))
    assert len(list(book)) == 9


def test_a_trial_keeps_its_latest_and_its_best_checkpoint(begin: Begin) -> None:
    world = begin(max_length=100, max_trials=1, method="single", checkpoint_policy=CheckpointPolicy())
    process = world.processes[0]

    def train_to(length: int, loss: float) -> tuple[object, ...]:
        world.report(process, length, loss=loss)
        return world.save(process)

    assert train_to(10, 0.5) == ()
    assert train_to(20, 0.1) == (DeleteCheckpoint(0, "trial-0/length-10-attempt-1"),)
    assert train_to(30, 0.3) == ()
    assert train_to(40, 0.4) == (DeleteCheckpoint(0, "trial-0/length-30-attempt-1"),)
    assert [c.length for c in world.experiment.checkpoints] == [20, 40]


def test_what_a_living_trial_goes_on_from_is_kept_whatever_the_policy(begin: Begin) -> None:
    world = begin(max_trials=2, checkpoint_policy=CheckpointPolicy(0, 0, 0))
    process = world.processes[0]
    world.report(process, 2, loss=0.9)
    assert world.save(process) == ()
    assert world.experiment.trials[0].checkpoint == "trial-0/length-2-attempt-1"
    world.report(world.processes[1], 2, loss=0.1)
    *_, deleted = world.report(world.processes[1], 4, loss=0.1)
    assert deleted == DeleteCheckpoint(0, "trial-0/length-2-attempt-1")
    assert world.save(world.processes[1]) == (DeleteCheckpoint(1, "trial-1/length-4-attempt-1"),)
