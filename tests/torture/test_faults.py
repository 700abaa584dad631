"""Disks that fill, fail or turn read-only, clocks that jump, files that are damaged, logs of old versions."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ashwood.engine import open_home
from ashwood.experiment.events import CheckpointDamaged

from .disks import CannotMount, Disk, Filler, memory_disk, power_disk
from .driver import CLOCK
from .experiment import Run
from .oracle import Evidence, judge
from .scenarios import Scenario
from .sessions import Place, Session

pytestmark = pytest.mark.timeout(300)

SCENARIO = Scenario("for faults", {"name": "adaptive_asha", "max_trials": 6}, checkpoint_period=2)

SLOW = replace(SCENARIO, step_seconds=0.05)
"""The same, slow enough that it isn't done before a disk is full, also on a busy machine."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return Run(SCENARIO, Place(tmp_path_factory.mktemp("undisturbed")), 0, iter(())).to_the_end().evidence


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    yield from running(Place(tmp_path))


@pytest.fixture
def filler(tmp_path: Path) -> Iterator[Filler]:
    try:
        with memory_disk(tmp_path / "disk", 32) as filler:
            yield filler
    except CannotMount as why:
        pytest.skip(str(why))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        with power_disk(tmp_path / "disk") as disk:
            yield disk
    except CannotMount as why:
        pytest.skip(str(why))


def running(place: Place, scenario: Scenario = SCENARIO) -> Iterator[Run]:
    run = Run(scenario, place, 0, iter(()))
    yield run
    place.end_all()
    place.wait_until_empty(20)


def heard(run: Run, session: Session) -> Session:
    """Hear a session to its end, for the oracle."""
    session.hear()
    run.acknowledged.append(session.acknowledged)
    run.place.wait_until_empty(20)
    return session


def resume(run: Run, *, more: dict[str, str] | None = None) -> Session:
    with Session(run.place, *run.arguments("paused"), more=more) as session:
        return heard(run, session)


def killed(run: Run, lines: int) -> Session:
    """A driver that was killed after so many entries."""
    with Session(run.place, *run.arguments(run.state())) as session:
        session.hear(lines=lines)
        session.kill()
        return heard(run, session)


# -- disks --------------------------------------------------------------------------------------


def test_a_disk_that_fills_under_the_record_pauses_the_experiment(
    filler: Filler, tmp_path: Path, undisturbed: Evidence
) -> None:
    place = Place(tmp_path, home=str(filler.path / "home"))
    for run in running(place, SLOW):
        with Session(place, *run.arguments(None)) as session:
            session.hear(lines=20)
            filler.fill()
            heard(run, session)
            assert session.returncode in (1, 3)
            assert "disk" in session.errors + str(session.acknowledged[-1])
        filler.free()
        assert run.state() == "paused"
        assert resume(run).returncode == 0
        assert judge(run.evidence(), undisturbed, ordered=True).complaints == []


def test_a_disk_that_fills_under_the_checkpoints_pauses_the_experiment(
    filler: Filler, tmp_path: Path, undisturbed: Evidence
) -> None:
    place = Place(tmp_path)
    place.storage = filler.path / "checkpoints"
    for run in running(place, SLOW):
        with Session(place, *run.arguments(None)) as session:
            session.hear(lines=20)
            filler.fill()
            heard(run, session)
            assert session.returncode in (1, 3)
            assert "No space left on device" in session.errors + json.dumps(session.acknowledged[-20:])
        assert run.state() == "paused"
        filler.free()
        assert resume(run).returncode == 0
        assert judge(run.evidence(), undisturbed, ordered=True).complaints == []


def test_a_disk_that_dies_ends_the_driver_and_loses_nothing(disk: Disk, tmp_path: Path, undisturbed: Evidence) -> None:
    place = Place(tmp_path, disk=disk)
    for run in running(place):
        with Session(place, *run.arguments(None)) as session:
            session.hear(lines=20)
            place.freeze()
            disk.cut_power()
            place.thaw()
            heard(run, session)
            assert session.returncode == 1
            assert "error: " in session.errors
            assert "Traceback" not in session.errors
        disk.restore_power()
        assert resume(run).returncode == 0
        assert judge(run.evidence(), undisturbed, ordered=True).complaints == []


def test_a_read_only_home_is_refused_until_it_is_writable_again(
    filler: Filler, tmp_path: Path, undisturbed: Evidence
) -> None:
    place = Place(tmp_path, home=str(filler.path / "home"))
    for run in running(place):
        killed(run, 20)
        filler.remount("ro")
        refused = resume(run)
        assert refused.returncode == 1
        assert "Traceback" not in refused.errors
        filler.remount("rw")
        assert resume(run).returncode == 0
        assert judge(run.evidence(), undisturbed, ordered=True).complaints == []


# -- clocks -------------------------------------------------------------------------------------


def test_a_clock_that_jumps_back_is_no_news(run: Run, undisturbed: Evidence) -> None:
    killed(run, 15)
    with Session(run.place, *run.arguments("running"), more={CLOCK: "0 3600"}) as session:
        session.hear(lines=15)
        session.kill()
        heard(run, session)
    assert resume(run, more={CLOCK: "5 86400"}).returncode == 0
    assert judge(run.evidence(), undisturbed, ordered=True).complaints == []


# -- copies and damage --------------------------------------------------------------------------


def test_a_copy_made_while_it_runs_opens_clean_and_replays(run: Run, undisturbed: Evidence) -> None:
    counts = []
    with Session(run.place, *run.arguments(None)) as session:
        for lines in range(5, 50, 5):
            session.hear(lines=lines)
            assert run.state() == "running"
            with open_home(run.place.path / "copy") as copy:
                counts.append(len(list(copy.store.log(1).read())))
            assert counts[-1] >= lines
        heard(run, session)
    assert counts == sorted(counts)
    assert judge(run.evidence(), undisturbed, ordered=True).complaints == []


def test_an_entry_that_was_changed_is_named(run: Run) -> None:
    killed(run, 20)
    change(run, "UPDATE entries SET body = replace(body, '\"loss\":', '\"loss\":1') WHERE seq = 3")
    refused = resume(run)
    assert refused.returncode == 1
    assert "entry 3 " in refused.errors


def test_a_log_that_was_cut_off_is_refused(run: Run) -> None:
    killed(run, 20)
    change(run, "DELETE FROM entries WHERE seq > 15")
    refused = resume(run)
    assert refused.returncode == 1
    assert "entry 16 " in refused.errors


def change(run: Run, statement: str) -> None:
    with closing(sqlite3.connect(Path(run.place.home, "ashwood.db"))) as connection, connection:
        assert connection.execute(statement).rowcount > 0


def test_damaged_checkpoints_are_worked_around(tmp_path: Path) -> None:
    scenario = Scenario("one trial", {"name": "random", "max_trials": 1}, checkpoint_period=2)
    (tmp_path / "undisturbed").mkdir()
    undisturbed = Run(scenario, Place(tmp_path / "undisturbed"), 0, iter(())).to_the_end().evidence
    for run in running(Place(tmp_path), scenario):
        killed(run, 14)
        damaged = list(run.place.storage.rglob("trial-0/*/state.json"))
        assert damaged
        for file in damaged:
            file.write_bytes(file.read_bytes()[:-1])
        resumed = resume(run)
        assert resumed.returncode == 0
        assert "warning: " in resumed.errors
        evidence = run.evidence()
        assert any(isinstance(entry.event, CheckpointDamaged) for entry in evidence.entries)
        complaints = judge(evidence, undisturbed, ordered=True).complaints
        # That it starts again from further back is the price, and the only one.
        assert [each for each in complaints if "starts at 0" not in each] == []


# -- logs of old versions -----------------------------------------------------------------------

VERSION_1 = Path(__file__).parents[1] / "eventlog" / "logs" / "version-1.db"
VERSION_1_DIRECTORY = "/tmp/v1"
"""Where the experiments of that file were run."""
VERSION_1_TRAINING = """
import json

def train(trial):
    if trial.hparams.x > 0.93:
        trial.invalid_hparams("x is too large")
    if 0.60 < trial.hparams.x < 0.66:
        raise ValueError("x has no luck")
    start = 0
    if trial.checkpoint:
        start = json.loads((trial.checkpoint / "state.json").read_text())["epochs"]
    for epoch in trial.epochs():
        assert epoch == start
        start += 1
        loss = float("nan") if 0.5 < trial.hparams.x < 0.55 else abs(trial.hparams.x - 0.3) + 1 / start
        if trial.hparams.x < 0.05 and epoch == 3:
            trial.stop()
        trial.report(loss=loss, checkpoint=lambda d: (d / "state.json").write_text(json.dumps({"epochs": start})))
"""


@pytest.mark.parametrize(
    ("there", "experiment"),
    [
        pytest.param(True, 2, id="checkpoints there, paused"),
        pytest.param(True, 3, id="checkpoints there, interrupted", marks=pytest.mark.slow),
        pytest.param(False, 2, id="checkpoints gone, paused", marks=pytest.mark.slow),
        pytest.param(False, 3, id="checkpoints gone, interrupted"),
    ],
)
def test_an_experiment_of_version_1_goes_on(tmp_path: Path, experiment: int, there: bool) -> None:
    place = Place(tmp_path)
    home = Path(place.home)
    home.mkdir()
    shutil.copy(VERSION_1, home / "ashwood.db")
    (tmp_path / "train.py").write_text(VERSION_1_TRAINING)
    with closing(sqlite3.connect(home / "ashwood.db")) as connection, connection:
        for table, column in (("experiments", "spec"), ("entries", "body")):
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (VERSION_1_DIRECTORY, str(tmp_path))
            )
        bodies = connection.execute("SELECT body FROM entries WHERE body LIKE '%CheckpointSaved%'").fetchall()
    for (body,) in bodies if there else ():
        event = json.loads(body)["event"]
        directory = Path(event["path"])
        directory.mkdir(parents=True)
        (directory / "state.json").write_text(json.dumps({"epochs": event["length"]}))
    with Session(place, "resume", str(experiment), "--workers", "2") as session:
        session.hear()
        assert session.returncode == 0, session.errors
    assert place.wait_until_empty(20) == []
    with open_home(home) as opened:
        assert opened.store.record(experiment).state == "completed"
        damaged = [e for _, e in opened.store.log(experiment).read() if isinstance(e.event, CheckpointDamaged)]
    assert bool(damaged) != there
