"""Tests that the kept checkpoints are those of the policy and those from which trials resume, and no others."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.experiment.checkpoints import Checkpoint, Checkpoints
from ashwood.experiment.decisions import DeleteCheckpoint
from ashwood.experiment.events import CheckpointDamaged, CheckpointSaved, HparamsInvalid
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import CheckpointPolicy
from ashwood.testing.search_method import losses
from tests.experiment.conftest import Begin
from tests.experiment.world import World

_steps = st.lists(
    st.tuples(
        st.sampled_from(["save", "save", "save", "end", "drop", "reject"]),
        st.integers(0, 3),
        st.integers(1, 6),
        st.none() | losses(),
    ),
    max_size=40,
)


class Plain:
    """A simple and slow model of the rules, which sorts all checkpoints again at each step."""

    def __init__(self, policy: CheckpointPolicy) -> None:
        self.policy = policy
        self.kept: list[Checkpoint] = []
        self.ended: set[int] = set()
        self.invalid: set[int] = set()
        self.ever: list[Checkpoint] = []
        self.damaged: dict[int, set[str]] = {}

    def needed(self, trial: int) -> set[str]:
        mine = [checkpoint for checkpoint in self.kept if checkpoint.trial == trial]
        latest = sorted(mine, key=lambda c: c.length)
        count = self.policy.save_trial_latest if trial in self.ended else max(1, self.policy.save_trial_latest)
        names = {c.name for c in latest[max(0, len(latest) - count) :]} if count else set()
        best = sorted((c for c in mine if c.loss is not None), key=lambda c: c.rank)
        names |= {c.name for c in best[: self.policy.save_trial_best]}
        rated = [c for c in self.kept if c.loss is not None and c.trial not in self.invalid]
        all_best = sorted(rated, key=lambda c: c.rank)
        return names | {c.name for c in all_best[: self.policy.save_experiment_best]}

    def sweep(self) -> set[str]:
        gone: set[str] = set()
        while True:
            over = [c for c in self.kept if c.name not in self.needed(c.trial)]
            if not over:
                return gone
            gone |= {c.name for c in over}
            self.kept = [c for c in self.kept if c not in over]


@given(st.builds(CheckpointPolicy, *[st.integers(0, 4)] * 3), _steps)
def test_checkpoints_keep_what_policy_and_resuming_need(
    policy: CheckpointPolicy, steps: list[tuple[str, int, int, Any]]
) -> None:
    plain = Plain(policy)
    book = Checkpoints(policy, lambda trial: trial in plain.ended)
    for number, (what, trial, length, loss) in enumerate(steps):
        if what == "save":
            if trial in plain.invalid:
                continue  # Its attempt has ended.
            checkpoint = Checkpoint(trial, f"{trial}/{length}/{number}", length, loss)
            plain.kept.append(checkpoint)
            plain.ever.append(checkpoint)
            gone = book.add(checkpoint)
        elif what == "end":
            plain.ended.add(trial)
            gone = book.ended(trial)
        elif what == "reject":
            plain.ended.add(trial)
            plain.invalid.add(trial)
            book.reject(trial)
            gone = book.ended(trial)
        else:
            latest = book.latest(trial)
            gone = []
            if latest is not None:
                assert book.drop(trial, latest.name)
                plain.damaged.setdefault(trial, set()).add(latest.name)
                plain.kept.remove(latest)
        assert {checkpoint.name for checkpoint in gone} == plain.sweep()
        assert {checkpoint.name for checkpoint in book} == {checkpoint.name for checkpoint in plain.kept}
        if what == "save" and (latest := book.latest(trial)) is not None:
            mine = [c for c in plain.ever if c.trial == trial and trial not in plain.damaged]
            known = {c.name for c in mine if c.length >= latest.length}
            assert known <= book.names(trial), "recovery takes none of these for a new one"
            assert plain.damaged.get(trial, set()) <= book.names(trial)


def test_repeated_checkpoint_event_counts_once() -> None:
    book = Checkpoints(CheckpointPolicy(1, 0, 1), lambda _: True)
    book.add(Checkpoint(0, "a", 1, 0.1))
    book.add(Checkpoint(0, "a", 1, 0.9))
    book.add(Checkpoint(1, "b", 1, 0.5))
    assert book.add(Checkpoint(1, "c", 2, 0.7)) == []
    assert {checkpoint.name for checkpoint in book} == {"a", "b", "c"}, "b is the best of all"


def test_all_checkpoints_are_kept_without_policy() -> None:
    book = Checkpoints(None, lambda _: True)
    assert not any(book.add(Checkpoint(0, str(length), length, nan)) for length in range(9))
    assert len(list(book)) == 9


@pytest.mark.parametrize(("rules", "kept"), [(2, [10, 50]), (3, [10, 20, 30, 40, 50])])
def test_trial_keeps_as_many_latest_checkpoints_as_the_policy_says(begin: Begin, rules: int, kept: list[int]) -> None:
    policy = CheckpointPolicy(save_trial_best=1, save_trial_latest=4)
    world = begin(max_length=100, max_trials=1, method="single", checkpoint_policy=policy, rules=rules)
    for length in (10, 20, 30, 40, 50):
        world.report(world.processes[0], length, loss=float(length))
        world.save(world.processes[0])
    assert [c.length for c in world.experiment.checkpoints] == kept


def test_trial_keeps_latest_and_best_checkpoint(begin: Begin) -> None:
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


def arrives(world: World, saved: CheckpointSaved) -> None:
    """Handle a checkpoint of the trial's attempt, which may have reported at later lengths since."""
    world.stored[saved.path] = saved.trial
    world.handle(saved)


@pytest.mark.parametrize("lag", [0, 1, 2, 3])
def test_checkpoint_is_ranked_by_its_own_metric_however_late_it_arrives(begin: Begin, lag: int) -> None:
    world = begin(max_length=100, max_trials=1, method="single", checkpoint_policy=CheckpointPolicy())
    saving: list[CheckpointSaved] = []
    for length, loss in enumerate([0.3, 0.1, 0.9, 0.95, 0.96, 0.97, 0.98], start=1):
        world.report(world.processes[0], length, loss=loss)
        saving.append(CheckpointSaved(0, 1, length, f"trial-0/length-{length}-attempt-1", {"loss": loss}))
        if len(saving) > lag:
            arrives(world, saving.pop(0))
    for saved in saving:
        arrives(world, saved)
    assert {(c.length, c.loss) for c in world.experiment.checkpoints} == {(2, 0.1), (7, 0.98)}


def test_checkpoint_of_old_log_is_ranked_by_latest_report(begin: Begin) -> None:
    world = begin(max_length=100, max_trials=1, method="single", checkpoint_policy=CheckpointPolicy())
    world.report(world.processes[0], 1, loss=0.5)
    arrives(world, CheckpointSaved(0, 1, 1, "trial-0/length-1-attempt-1"))
    world.report(world.processes[0], 3, loss=0.1)
    arrives(world, CheckpointSaved(0, 1, 2, "trial-0/length-2-attempt-1"))
    assert {(c.length, c.loss) for c in world.experiment.checkpoints} == {(1, 0.5), (2, None)}


def test_best_checkpoint_is_known_without_invalid_damaged_and_diverged_ones(begin: Begin) -> None:
    world = begin(slots=3, max_length=4, max_trials=3, method="random", checkpoint_policy=CheckpointPolicy())
    losses = []
    for process, loss in zip([world.processes[trial] for trial in (0, 1, 2)], [0.01, 0.5, nan], strict=True):
        world.report(process, 2, loss=loss)
        world.save(process)
        losses.append(world.experiment.best_saved)
    world.reject(world.processes[0])
    losses.append(world.experiment.best_saved)
    world.handle(CheckpointDamaged(1, 0, "trial-1/length-2-attempt-1", "a file is missing"))
    losses.append(world.experiment.best_saved)
    assert losses == [0.01, 0.01, 0.01, 0.5, inf]


def test_invalid_and_damaged_trials_besides_the_best_cost_no_search(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = begin(slots=3, max_length=4, max_trials=3, method="random", checkpoint_policy=CheckpointPolicy())
    for process, loss in zip([world.processes[trial] for trial in (0, 1, 2)], [0.01, 0.5, 0.7], strict=True):
        world.report(process, 2, loss=loss)
        world.save(process)
    experiment = Experiment(world.spec)
    for event, _ in world.log:
        experiment.handle(event)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "__iter__", lambda _: pytest.fail("all checkpoints are looked at"))
        experiment.handle(HparamsInvalid(1, 1, "no"))
        experiment.handle(CheckpointDamaged(2, 0, "trial-2/length-2-attempt-1", "a file is missing"))
    assert experiment.best_saved == 0.01


def test_checkpoint_of_invalid_trial_does_not_count_among_the_best_of_the_experiment(begin: Begin) -> None:
    policy = CheckpointPolicy(save_experiment_best=1, save_trial_best=0, save_trial_latest=0)
    world = begin(max_length=4, max_trials=2, method="random", checkpoint_policy=policy)
    invalid, other = world.processes[0], world.processes[1]
    world.report(invalid, 2, loss=0.01)
    world.save(invalid)
    *_, deleted = (d for d in world.reject(invalid) if isinstance(d, DeleteCheckpoint))
    assert deleted == DeleteCheckpoint(0, "trial-0/length-2-attempt-1")
    world.report(other, 4, loss=0.9)
    assert world.save(other) == ()
    assert [c.trial for c in world.experiment.checkpoints] == [1]


def test_names_of_deleted_checkpoints_are_dropped_when_recovery_ignores_them(begin: Begin) -> None:
    world = begin(max_length=100, max_trials=1, method="single", checkpoint_policy=CheckpointPolicy())
    for length in range(1, 51):
        world.report(world.processes[0], length, loss=1 / length)
        world.save(world.processes[0])
    assert len(world.experiment.checkpoints.names(0)) <= 2


def test_checkpoint_to_resume_from_is_kept_whatever_the_policy(begin: Begin) -> None:
    world = begin(max_trials=2, checkpoint_policy=CheckpointPolicy(0, 0, 0))
    process = world.processes[0]
    world.report(process, 2, loss=0.9)
    assert world.save(process) == ()
    assert world.experiment.trials[0].checkpoint == "trial-0/length-2-attempt-1"
    world.report(world.processes[1], 2, loss=0.1)
    *_, deleted = world.report(world.processes[1], 4, loss=0.1)
    assert deleted == DeleteCheckpoint(0, "trial-0/length-2-attempt-1")
    assert world.save(world.processes[1]) == (DeleteCheckpoint(1, "trial-1/length-4-attempt-1"),)
