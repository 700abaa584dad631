"""Commands in a home with a damaged experiment."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ashwood.engine import open_home
from ashwood.eventlog.head import head_path, read_head

from .conftest import RANDOM, TRAIN, Workplace, wait_until


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database of a home with three completed experiments."""
    workplace = Workplace(tmp_path_factory.mktemp("home"))
    workplace.write(RANDOM)
    for _ in range(3):
        workplace.ashwood("run", "toy.yaml", "--set", "searcher.max_trials=2")
    return (workplace.path / ".ashwood" / "ashwood.db").read_bytes()


@pytest.fixture
def damaged(home: bytes, workplace: Workplace) -> Workplace:
    workplace.write(RANDOM)
    (workplace.path / ".ashwood").mkdir()
    (workplace.path / ".ashwood" / "ashwood.db").write_bytes(home)
    return workplace


def change(workplace: Workplace, sql: str) -> None:
    with closing(sqlite3.connect(workplace.path / ".ashwood" / "ashwood.db")) as database:
        database.execute(sql)
        database.commit()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE experiments SET summary = '{' WHERE id = 2",
        "UPDATE experiments SET state = 'x' WHERE id = 2",
        "UPDATE experiments SET state = 'paused' WHERE id = 2",
        "UPDATE experiments SET labels = '[' WHERE id = 2",
        "UPDATE experiments SET created_at = 1e300 WHERE id = 2",
        "UPDATE experiments SET spec = '{' WHERE id = 2",
        "UPDATE experiments SET version = 99 WHERE id = 2",
        "UPDATE logs SET head = 100000 WHERE experiment = 2",
    ],
)
def test_list_shows_damaged_experiment_and_the_others(damaged: Workplace, sql: str) -> None:
    before = damaged.json("list")
    change(damaged, sql)
    after = damaged.json("list")
    assert [record["state"] for record in after] == ["completed", "damaged", "completed"]
    assert [after[0], after[2]] == [before[0], before[2]]
    output = damaged.ashwood("list")
    assert "experiment 2 is damaged: " in output
    for number in ("1", "3"):
        assert damaged.json("describe", number)["state"] == "completed"
        damaged.ashwood("best", number)
        damaged.ashwood("replay", number)
    damaged.ashwood("run", "--resume-latest", "toy.yaml", "--set", "searcher.max_trials=1")
    damaged.ashwood("delete", "1", "--yes")


def test_replay_rebuilds_state_and_summary(damaged: Workplace) -> None:
    before = damaged.json("list")
    best = damaged.ashwood("best", "2")
    change(damaged, "UPDATE experiments SET state = 'paused', summary = '{' WHERE id = 2")
    described = damaged.json("describe", "2")
    assert described["state"] == "completed"
    assert "ashwood verify 2 --repair" in described["damage"]
    output = damaged.ashwood("best", "2")
    assert "warning: experiment 2 is damaged" in output
    assert output.endswith(best)
    assert "rebuilt from the event log" in damaged.ashwood("replay", "2")
    after = damaged.json("list")
    for record in (*before, *after):  # These depend on the time.
        record["summary"] = {
            name: value for name, value in record["summary"].items() if "seconds" not in name and name != "at"
        }
    assert after == before


@pytest.mark.parametrize("head", ["3", "'x'", "-1"])
def test_low_head_hides_no_entries(damaged: Workplace, head: str) -> None:
    events, best = damaged.ashwood("events", "2"), damaged.ashwood("best", "2")
    change(damaged, f"UPDATE logs SET head = {head} WHERE experiment = 2")
    assert damaged.ashwood("events", "2") == events
    assert damaged.ashwood("best", "2") == best
    assert f"{len(events.splitlines())} events replayed" in damaged.ashwood("replay", "2")
    output = damaged.ashwood("resume", "2", code=1)
    assert "there is nothing left to run" in output


def test_request_that_cannot_be_read_does_not_stop_resume(damaged: Workplace) -> None:
    change(
        damaged, """INSERT INTO requests (experiment, at, version, body) VALUES (4, 1, 5, '{"is":"SomethingNew"}')"""
    )
    damaged.ashwood("run", "toy.yaml", "--set", "searcher.max_trials=2")
    with closing(sqlite3.connect(damaged.path / ".ashwood" / "ashwood.db")) as database:
        [(answered, refused)] = database.execute("SELECT answered, refused FROM requests").fetchall()
    assert answered == 1
    assert "Send the request again" in refused


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose driver was killed, and which was not opened since."""
    workplace = Workplace(tmp_path_factory.mktemp("interrupted"))
    workplace.write(RANDOM, f"import time\n{TRAIN}".replace('print("epoch", epoch)', "time.sleep(0.5)"))
    head = head_path(workplace.path / ".ashwood", 1)
    with workplace.start("run", "toy.yaml", "--json") as driver:
        wait_until(lambda: (noted := read_head(head)) is not None and noted.seq > 8)
        driver.kill()
    return workplace.path / ".ashwood"


@pytest.fixture
def cut(interrupted: Path, workplace: Workplace) -> Workplace:
    workplace.write(RANDOM)
    shutil.copytree(interrupted, workplace.path / ".ashwood", ignore=shutil.ignore_patterns("*-shm"))
    return workplace


def test_damaged_write_ahead_log_is_named_by_every_command(cut: Workplace) -> None:
    wal = cut.path / ".ashwood" / "ashwood.db-wal"
    content = bytearray(wal.read_bytes())
    content[len(content) // 2] ^= 4
    wal.write_bytes(content)
    for command in ("replay 1", "list", "resume 1", "best 1", "export 1 --out out.ashwood", "delete 1 --yes"):
        output = cut.ashwood(*command.split(), code=1)
        assert "ashwood.db-wal: frame" in output
        assert "Traceback" not in output
        assert wal.read_bytes() == content
    saved = int(output.partition("--until N")[2].partition("--until ")[2].split()[0])
    cut.ashwood("export", "1", "--until", str(saved), "--out", "out.ashwood")
    cut.ashwood("import", "out.ashwood", "--home", "other")
    assert f"{saved} events replayed" in cut.ashwood("replay", "1", "--home", "other")


def test_cut_write_ahead_log_is_named(cut: Workplace) -> None:
    wal = cut.path / ".ashwood" / "ashwood.db-wal"
    os.truncate(wal, wal.stat().st_size // 2)
    for command in ("replay 1", "resume 1", "kill 1", "export 1 --out out.ashwood"):
        output = cut.ashwood(*command.split(), code=1)
        assert re.search(r"experiment 1: entr(y|ies) \d+ .* missing", output)
    with open_home(cut.path / ".ashwood") as home:
        assert home.store.pending(1) == [], "a repair must not be followed by a kill"
    assert cut.json("list")[0]["state"] == "damaged"
    assert " missing: " in cut.ashwood("describe", "1")


def test_missing_write_ahead_log_is_named(cut: Workplace) -> None:
    (cut.path / ".ashwood" / "ashwood.db-wal").unlink()
    for command in ("replay 1", "resume 1"):
        output = cut.ashwood(*command.split(), code=1)
        assert "experiments" in output
        assert "deleted, or replaced by an older one? Restore both" in output
    assert "does not have experiments 1" in cut.ashwood("list")
    output = cut.ashwood("run", "toy.yaml")
    assert "ID 1 was not used" in output
    assert "experiment 2 completed" in output
