"""``ashwood verify``: findings in damaged homes, and repairs."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ashwood.backends.local.worker_lock import clear_former_workers
from ashwood.engine import open_home
from ashwood.eventlog.fold_cache import fold
from ashwood.eventlog.head import head_path, read_head
from ashwood.experiment.events import ValidationReported

from .conftest import TRAIN, Workplace, wait_until

FILE = """\
entrypoint: train:train
hyperparameters: {x: {type: double, minval: 0, maxval: 1}}
searcher: {name: async_halving, metric: loss, max_length: {epochs: 9}, max_trials: 9, num_rungs: 3, divisor: 3}
reproducibility: {experiment_seed: 3}
"""


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``.ashwood`` (one completed and one interrupted experiment) and an earlier copy, ``earlier``.

    The write-ahead log holds what was recorded last, because the driver was killed and nothing opened the home since.
    """
    workplace = Workplace(tmp_path_factory.mktemp("homes"))
    workplace.write(FILE, TRAIN)
    workplace.ashwood("run", "toy.yaml")
    workplace.write(FILE, f"import time\n{TRAIN}".replace('print("epoch", epoch)', "time.sleep(0.2)"))
    home = workplace.path / ".ashwood"
    head = head_path(home, 2)

    def recorded(entries: int) -> bool:
        return (noted := read_head(head)) is not None and noted.seq >= entries

    with workplace.start("run", "toy.yaml", "--json", "--workers", "2") as driver:
        wait_until(lambda: recorded(10))
        # The write-ahead log is copied first: an older one fits a newer database, because nothing is moved meanwhile.
        shutil.copytree(home, workplace.path / "earlier", ignore=shutil.ignore_patterns("*-shm", "experiments"))
        wait_until(lambda: recorded(30))
        driver.kill()
    clear_former_workers(home / "experiments" / "2" / "workers.lock")
    workplace.write(FILE, TRAIN)
    return workplace.path


@pytest.fixture
def copied(homes: Path, workplace: Workplace) -> Workplace:
    workplace.write(FILE, TRAIN)
    shutil.copytree(homes / ".ashwood", workplace.path / ".ashwood", ignore=shutil.ignore_patterns("*-shm"))
    return workplace


def change(workplace: Workplace, sql: str) -> None:
    with closing(sqlite3.connect(workplace.path / ".ashwood" / "ashwood.db")) as database:
        database.execute(sql)
        database.commit()


def experiment(workplace: Workplace, number: int) -> Path:
    return workplace.path / ".ashwood" / "experiments" / str(number)


def first_checkpoint(workplace: Workplace, number: int) -> Path:
    return min(experiment(workplace, number).glob("checkpoints/trial-*/length-*"))


def test_verify_finds_nothing_in_sound_home(copied: Workplace) -> None:
    before = copied.json("list")
    for arguments in ((), ("--all",), ("--repair",)):
        output = copied.ashwood("verify", *arguments)
        assert output.count("no problem") == 2
    found = copied.json("verify")
    assert found == {"experiments": 2, "problems": 0, "findings": []}
    assert copied.json("verify", "1")["experiments"] == 1
    assert copied.json("list") == before
    copied.ashwood("verify", "1", "--all", code=2)
    assert "there is no experiment 7" in copied.ashwood("verify", "7", code=1)


def flip_checkpoint(workplace: Workplace) -> None:
    with (first_checkpoint(workplace, 2) / "state.json").open("a") as file:
        file.write(" ")


def delete_checkpoint(workplace: Workplace) -> None:
    shutil.rmtree(first_checkpoint(workplace, 2))


def copy_checkpoints(workplace: Workplace) -> None:
    one, other = (experiment(workplace, number) / "checkpoints" / "trial-0" for number in (1, 2))
    for checkpoint in one.iterdir():
        shutil.rmtree(other / checkpoint.name, ignore_errors=True)
        shutil.copytree(checkpoint, other / checkpoint.name)


def exchange_logs(workplace: Workplace) -> None:
    one, other = (experiment(workplace, number) / "logs" / "trial-0.log" for number in (1, 2))
    shutil.copy(one, other)


def exchange_locks(workplace: Workplace) -> None:
    one, other = (experiment(workplace, number) / "workers.lock" for number in (1, 2))
    shutil.copy(one, other)


def add_log(workplace: Workplace) -> None:
    (experiment(workplace, 2) / "logs" / "trial-77.log").write_text("stray")


def link_log(workplace: Workplace) -> None:
    log = experiment(workplace, 2) / "logs" / "trial-0.log"
    log.unlink()
    log.symlink_to("/etc/hostname")


def damage_head(workplace: Workplace) -> None:
    (experiment(workplace, 1) / "head").write_text("x")


def cut_log(workplace: Workplace) -> None:
    wal = workplace.path / ".ashwood" / "ashwood.db-wal"
    os.truncate(wal, wal.stat().st_size * 3 // 4)


def damage_frame(workplace: Workplace) -> None:
    wal = workplace.path / ".ashwood" / "ashwood.db-wal"
    content = bytearray(wal.read_bytes())
    content[len(content) * 3 // 4] ^= 4
    wal.write_bytes(content)


def add_directory(workplace: Workplace) -> None:
    shutil.copytree(experiment(workplace, 1), experiment(workplace, 3))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (flip_checkpoint, "is damaged: "),
        (delete_checkpoint, "there is no checkpoint "),
        (copy_checkpoints, "belongs to the experiment with identity|belongs to another experiment"),
        (exchange_logs, "trial-0.log belongs to the experiment with identity "),
        (exchange_locks, "workers.lock belongs to the experiment with identity "),
        (add_log, "trial-77.log belongs to a trial that is not in the event log"),
        (link_log, "trial-0.log is not a regular file"),
        (damage_head, "head is missing or damaged"),
        (add_directory, "has the files of an experiment that the database does not have"),
        (damage_frame, "ashwood.db-wal: frame "),
        (cut_log, " missing: "),
        ("UPDATE experiments SET summary = '{' WHERE id = 2", "its state or summary is damaged"),
        ("UPDATE experiments SET labels = '[' WHERE id = 1", "its name, labels, creation time or archived flag"),
        (
            'INSERT INTO requests (experiment, at, version, body) VALUES (2, 1, 5, \'{"is":"SomethingNew"}\')',
            "request 1 cannot be read",
        ),
        (
            "INSERT INTO notes (experiment, trial, text, digest) VALUES (2, 1, 'goo', 5)",
            "the note on trial 1 is damaged",
        ),
    ],
)
def test_verify_names_damage_and_repairs_it(
    copied: Workplace, damage: Callable[[Workplace], None] | str, problem: str
) -> None:
    if isinstance(damage, str):
        change(copied, damage)
    else:
        damage(copied)
    output = copied.ashwood("verify", code=1)
    assert re.search(problem, output)
    assert "add --repair" in output
    assert copied.ashwood("verify", code=1) == output  # It changes nothing.
    output = copied.ashwood("verify", "--repair")
    assert re.search(problem, output)
    assert "Repaired: " in output
    assert "no problem" in copied.ashwood("verify")
    copied.ashwood("resume", "2")
    copied.ashwood("verify")
    assert_losses_are_right(copied, 2)


def assert_losses_are_right(workplace: Workplace, number: int) -> None:
    """Each report must be what the training code computes from the trial's own hyperparameters."""
    with open_home(workplace.path / ".ashwood") as home:
        folded = fold(home.store.spec(number), home.store.log(number))
        reports = [e.event for _, e in home.store.log(number).read() if isinstance(e.event, ValidationReported)]
    for report in reports:
        x = folded.experiment.trials[report.trial].hparams["x"]
        assert report.length <= 9
        assert report.metrics["loss"] == pytest.approx(abs(x - 0.3) + 1 / report.length)


def test_verify_leaves_unrepairable_damage_unchanged(copied: Workplace) -> None:
    change(copied, "UPDATE entries SET body = '{}' WHERE experiment = 1 AND seq = 20")
    output = copied.ashwood("verify", "--repair", code=1)
    assert "entry 20 of experiment 1 cannot be read" in output
    assert "--until 19" in output
    assert "experiment 2: no problem" in output
    change(copied, "UPDATE experiments SET spec = '{' WHERE id = 1")
    assert "Its other parts were not checked" in copied.ashwood("verify", "1", "--repair", code=1)


def test_missing_checkpoint_of_completed_experiment_is_a_loss(copied: Workplace) -> None:
    shutil.rmtree(first_checkpoint(copied, 1))
    for arguments in ((), ("--repair",)):
        assert "there is no checkpoint " in copied.ashwood("verify", *arguments, code=1)


def test_damaged_checkpoint_of_completed_experiment_stays_a_problem(copied: Workplace) -> None:
    (first_checkpoint(copied, 1) / "state.json").write_text("{}")
    for arguments in ((), ("--repair",), ()):
        output = copied.ashwood("verify", "1", *arguments, code=1)
        assert "is damaged: " in output
        assert "Restore it from a backup" in output


def test_empty_database_is_refused_and_nothing_is_set_aside(copied: Workplace) -> None:
    for path in (copied.path / ".ashwood").glob("ashwood.db*"):
        path.unlink()
    (copied.path / ".ashwood" / "ashwood.db").touch()
    for command in (["verify", "--repair"], ["list"]):
        assert "does not have experiments 1, 2" in copied.ashwood(*command, code=1)
    assert experiment(copied, 1).is_dir()


def test_running_experiment_is_verified_in_part_and_not_repaired(workplace: Workplace) -> None:
    workplace.write(FILE, TRAIN.replace('print("epoch", epoch)', "__import__('time').sleep(60)"))
    with workplace.driving("run", "toy.yaml"):
        assert "it is running, so its checkpoints and other files were not checked" in workplace.ashwood("verify", "1")
        assert "ashwood" in workplace.ashwood("verify", "1", "--repair", code=1)
