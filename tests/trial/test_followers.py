"""Several processes train one trial: the others follow the first through their loops."""

import socket
from pathlib import Path

from ashwood.trial import Trial
from ashwood.trial.attempt import Ended, Failed
from ashwood.trial.channel import Channel, DriverLink, encode
from ashwood.trial.run import run
from tests.trial.links import DROP, PAUSE, ScriptedLink, go, make_job, save


def test_one_that_reports_nothing_trains_as_far_as_the_first(tmp_path: Path) -> None:
    link = ScriptedLink([go(5), PAUSE])
    epochs: list[int] = []

    def train(trial: Trial) -> None:
        epochs.extend(trial.epochs())

    assert run(train, make_job(tmp_path, rank=1, world_size=2), link) == Ended(5)
    assert epochs == [0, 1, 2, 3, 4]
    assert link.sent == [("started", 0), ("asked", go(5)), ("asked", PAUSE)]


def test_one_that_runs_the_same_code_is_asked_once_and_its_reports_do_not_count(tmp_path: Path) -> None:
    link = ScriptedLink([go(5), DROP])

    def train(trial: Trial) -> None:
        for _ in trial.epochs():
            trial.report(loss=1.0)

    assert run(train, make_job(tmp_path, rank=1, world_size=2), link) == Ended(5)
    assert link.sent == [("started", 0), ("asked", go(5)), ("asked", DROP)]


def test_all_take_part_in_saving_and_what_the_others_write_is_thrown_away(tmp_path: Path) -> None:
    link = ScriptedLink([PAUSE])
    places: list[Path] = []

    def keep(directory: Path) -> None:
        save(directory)
        places.append(directory)

    def train(trial: Trial) -> None:
        for _ in trial.epochs():
            trial.report(loss=1.0, checkpoint=keep)

    assert run(train, make_job(tmp_path, rank=1, world_size=2), link) == Ended(3)
    assert len(places) == 1
    assert not places[0].exists()
    assert not any(tmp_path.iterdir())
    assert link.saves == []


def test_code_that_returns_at_its_target_gets_advice_to_loop(tmp_path: Path) -> None:
    def train(trial: Trial) -> None:
        for epoch in trial.epochs():
            if epoch == 2:
                trial.report(loss=1.0)
                return

    outcome = run(train, make_job(tmp_path, rank=1, world_size=2), ScriptedLink([go(5)]))
    assert isinstance(outcome, Failed)
    assert "inside its loop" in outcome.error


def test_trial_has_rank_world_size_and_rendezvous(tmp_path: Path) -> None:
    alone = Trial(make_job(tmp_path), ScriptedLink())
    assert (alone.rank, alone.world_size, alone.rendezvous) == (0, 1, None)
    job = make_job(tmp_path, rank=1, world_size=2, rendezvous="10.0.0.1:29500")
    one_of_two = Trial(job, ScriptedLink())
    assert (one_of_two.rank, one_of_two.world_size, one_of_two.rendezvous) == (1, 2, "10.0.0.1:29500")


def test_answer_that_arrives_before_report_is_kept(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for message in (["continue", 5], ["finish", False]):  # the first process is ahead
            ours.sendall(encode(message).encode() + b"\n")

        def train(trial: Trial) -> None:
            for _ in trial.epochs():
                pass

        outcome = run(train, make_job(tmp_path, rank=1, world_size=2), DriverLink(Channel(theirs)))
    assert outcome == Ended(5)
