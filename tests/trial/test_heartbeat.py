"""Heartbeats: the messages to the driver while a trial trains, waits and saves."""

from pathlib import Path

import pytest

from ashwood.checkpoints import Patience, Write
from ashwood.errors import StorageUnreachable
from ashwood.trial.api import Trial
from ashwood.trial.channel import Phase
from ashwood.trial.heartbeat import Heartbeat

from .links import ScriptedLink, make_job, save


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Training:
    """Heartbeat of life on a clock of the test."""

    def __init__(self, pulse: float = 1.0) -> None:
        self.link = ScriptedLink()
        self.clock = Clock()
        self.signs = Heartbeat(self.link, pulse, self.clock)
        self.position = 0
        self.signs.note(self.position)

    def step(self, seconds: float) -> None:
        self.clock.now += seconds
        self.position += 1
        self.signs.note(self.position)


def test_finished_steps_are_reported_at_most_once_per_pulse() -> None:
    training = Training()
    for _ in range(100):
        training.step(0.125)
    assert len(training.link.alive_after) == 13
    assert set(training.link.alive_after) == {0.125}


def test_longest_step_is_reported() -> None:
    training = Training()
    for seconds in (2.0, 7.0, 3.0):
        training.step(seconds)
    assert training.link.alive_after == [2.0, 7.0, 7.0]


def test_code_that_finishes_no_step_gives_no_sign() -> None:
    training = Training()
    for _ in range(100):
        training.clock.now += 10.0
        training.signs.note(training.position)
    assert training.link.alive_after == []


def test_waits_and_saves_are_no_part_of_a_step(tmp_path: Path) -> None:
    training = Training()
    training.clock.now += 100.0
    training.signs.wait_over()
    training.step(2.0)
    with training.signs.saving(save) as write:
        training.clock.now += 50.0
        write(tmp_path)
    training.step(3.0)
    assert training.link.alive_after == [2.0, 3.0]


def test_phases_of_save_are_reported(tmp_path: Path) -> None:
    training = Training()
    with training.signs.saving(save) as write:
        write(tmp_path)
    assert training.link.phases == [(Phase.WRITING, str(tmp_path)), (Phase.STORING, ""), (Phase.TRAINING, "")]


def test_training_continues_after_failed_save() -> None:
    training = Training()
    with pytest.raises(StorageUnreachable), training.signs.saving(save):
        raise StorageUnreachable("away")
    assert training.link.phases == [(Phase.TRAINING, "")]


def test_trial_gives_signs_without_reports(tmp_path: Path) -> None:
    link = ScriptedLink()
    trial = Trial(make_job(tmp_path, target=1000, pulse=0.0), link)
    for _ in trial.epochs():
        pass
    assert link.sent == [("started", 0)]
    assert link.alive_after


def test_loop_that_is_entered_again_and_again_gives_no_sign(tmp_path: Path) -> None:
    link = ScriptedLink(suspend_at=1)
    trial = Trial(make_job(tmp_path, pulse=0.0), link)
    for _ in range(10):
        for _ in trial.epochs():
            pytest.fail("the trial must stop before its first step")
    assert link.alive_after == []


def test_transfer_of_a_checkpoint_gives_signs_while_its_storage_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = ScriptedLink()
    waits = [0, 0, 0]

    class Slow:
        def __init__(self, _place: str, patience: Patience) -> None:
            self._patience = patience

        def save(self, _name: str, write: Write, _about: object) -> None:
            write(tmp_path)
            for number in range(len(waits)):
                before = len(link.alive_after)
                assert not self._patience.hurries()
                waits[number] = len(link.alive_after) - before

    monkeypatch.setattr("ashwood.trial.attempt.open_storage", Slow)
    trial = Trial(make_job(tmp_path, target=1, pulse=0.0), link)
    for _ in trial.epochs():
        trial.report(loss=1.0, checkpoint=save)
    assert waits == [1, 1, 1]
