"""``ashwood events``, ``replay``, ``export`` and ``import``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ashwood.engine import open_home
from ashwood.experiment.decisions import Warn
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import CapacityChanged

from .conftest import GATED, RANDOM, TRAIN, Workplace


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace whose experiment 1 is completed."""
    workplace = Workplace(tmp_path_factory.mktemp("finished"))
    workplace.write(train=TRAIN.replace("loss = abs", "loss = float('nan') if trial.id == 2 else abs"))
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    return workplace


def test_events_for_people(finished: Workplace) -> None:
    lines = finished.ashwood("events", "1").splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert "driver started, 2 workers" in lines[0]
    assert "→ create trial 0 to 1 epoch (trial 0 of bracket 0); create trial 1 to 4 epochs" in lines[0]
    assert "→ the experiment is completed (the search is done)" in lines[-1]
    assert any("trial 2 reported at 1 epoch: loss nan" in line for line in lines)
    assert any("pause trial" in line and "at rung 0" in line for line in lines)
    arrows = {line.index("→") for line in lines if "→" in line and "reported" in line}
    assert len(arrows) == 1


def test_events_for_programs(finished: Workplace) -> None:
    lines = finished.ashwood("events", "1", "--json").splitlines()
    entries = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    assert entries[0]["event"] == {"is": "DriverStarted", "slots": 2}
    assert set(entries[0]) == {"seq", "at", "event", "decisions"}
    behind = finished.ashwood("events", "1", "--json", "--after", str(len(entries) - 2)).splitlines()
    assert behind == lines[-2:]


def test_events_of_one_trial(finished: Workplace) -> None:
    entries = [json.loads(line) for line in finished.ashwood("events", "1", "--json", "--trial", "3").splitlines()]
    assert len(entries) > 3
    for entry in entries:
        assert 3 in [each.get("trial") for each in (entry["event"], *entry.get("decisions", []))]
    reports = [entry for entry in entries if entry["event"]["is"] == "ValidationReported"]
    assert len(reports) >= 1


def test_following_ends_with_the_experiment(workplace: Workplace) -> None:
    workplace.write(RANDOM, GATED)
    driving = workplace.driving("run", "toy.yaml", "--workers", "2")
    with driving, workplace.start("events", "1", "--follow") as follower:
        assert follower.stdout is not None
        first = follower.stdout.readline()
        (workplace.path / "go").touch()
        lines = [first, *follower.stdout.readlines()]
    assert follower.returncode == 0
    assert "driver started" in lines[0]
    assert "the experiment is completed" in lines[-1]
    assert lines == workplace.ashwood("events", "1", "--follow").splitlines(keepends=True)


def test_replay_accepts_sound_log(finished: Workplace) -> None:
    output = finished.json("replay", "1")
    assert output["state"] == "completed"
    assert output["events"] == len(finished.ashwood("events", "1").splitlines())
    assert f"{output['events']} events replayed in" in finished.ashwood("replay", "1")
    assert "every decision matches the event log" in finished.ashwood("replay", "1")


def test_replay_names_entry_that_differs(finished: Workplace, tmp_path: Path) -> None:
    finished.ashwood("export", "1", "--out", str(tmp_path / "whole.ashwood"), "--until", "4")
    elsewhere = Workplace(tmp_path)
    elsewhere.ashwood("import", "whole.ashwood")
    with open_home(tmp_path / ".ashwood") as home:
        home.store.log(1).append([Entry(1.0, CapacityChanged(2), (Warn("made up"),))])
    output = elsewhere.ashwood("replay", "1", code=1)
    assert "entry 5 of the event log has other decisions than this version of Ashwood makes" in output


# -- elsewhere -----------------------------------------------------------------------------------


def outcome(workplace: Workplace, experiment: str) -> list[tuple[object, ...]]:
    return [
        (trial["trial"], trial["state"], trial["hparams.x"], trial["seed"], trial["length"], trial["best.loss"])
        for trial in workplace.json("trials", experiment)
    ]


def test_imported_experiment_can_be_resumed(workplace: Workplace, tmp_path: Path) -> None:
    slow = TRAIN.replace('print("epoch", epoch)', "import time; time.sleep(0.02)")
    workplace.write(train=slow)
    with workplace.driving("run", "toy.yaml", "--workers", "1") as driver:
        workplace.ashwood("pause", "1")
        driver.communicate()
    workplace.ashwood("label", "1", "moved")
    output = workplace.ashwood("export", "1", "--out", "whole.ashwood", "--checkpoints", "--logs")
    assert output.startswith("Wrote experiment 1 (")
    assert "checkpoint" in output
    workplace.write(train=TRAIN)
    assert "completed" in workplace.ashwood("resume", "1", "--workers", "1")

    (tmp_path / "there").mkdir()
    there = Workplace(tmp_path / "there")
    (there.path / "code").mkdir()
    shutil.copy(workplace.path / "train.py", there.path / "code")
    (there.path / "train.py").unlink()
    assert "which does not exist here" not in there.ashwood("import", str(workplace.path / "whole.ashwood"))
    output = there.ashwood("import", str(workplace.path / "whole.ashwood"), "--workdir", "code")
    assert "is experiment 2 here (toy)" in output
    assert "To continue: ashwood resume 2" in output
    [_, row] = there.json("list")
    assert (row["name"], row["labels"], row["state"]) == ("toy", ["moved"], "paused")
    assert "completed" in there.ashwood("resume", "2", "--workers", "1")
    described = there.json("describe", "2")
    assert described["length_repeated"] == 0
    assert outcome(there, "2") == outcome(workplace, "1")


def test_the_experiment_of_a_dead_driver_shows_as_interrupted(workplace: Workplace, tmp_path: Path) -> None:
    workplace.write(RANDOM, GATED)
    with workplace.driving("run", "toy.yaml", "--workers", "1"):
        workplace.ashwood("export", "1", "--out", "whole.ashwood")
    (tmp_path / "there").mkdir()
    there = Workplace(tmp_path / "there")
    output = there.ashwood("import", str(workplace.path / "whole.ashwood"))
    assert "not finished" in output
    assert "the file has no checkpoints, so trials restart from 0" in output
    assert [row["state"] for row in there.json("list")] == ["interrupted"]


def test_options_fit_the_kind_of_file(finished: Workplace) -> None:
    assert "--checkpoints is for a whole experiment: .ashwood" in finished.ashwood(
        "export", "1", "--out", "trials.csv", "--checkpoints", code=1
    )
    assert "--metrics is for a table" in finished.ashwood("export", "1", "--out", "whole.ashwood", "--metrics", code=1)
    (finished.path / "broken.ashwood").write_bytes(b"PK\x03\x04")
    assert "Nothing was imported" in finished.ashwood("import", "broken.ashwood", code=1)
    assert len(finished.json("list")) == 1


def test_commands_show_the_same_with_and_without_the_snapshot_of_the_driver(finished: Workplace) -> None:
    snapshot = finished.path / ".ashwood/experiments/1/snapshot"
    commands = [
        "describe 1 --json", "describe 1", "best 1 --json", "trials 1 --json", "watch 1 --once", "export 1 --out t.csv"
    ]  # fmt: skip
    with_it = [finished.ashwood(*command.split()) for command in commands]
    table = (finished.path / "t.csv").read_text()
    snapshot.rename(snapshot.with_name("elsewhere"))
    (finished.path / "t.csv").unlink()
    assert [finished.ashwood(*command.split()) for command in commands] == with_it
    assert (finished.path / "t.csv").read_text() == table
