"""Damage homes and bundles at random, and look for silent losses, tracebacks and foreign data.

``python -m tests.torture.mutations --count 5000`` makes copies of a home with two experiments, damages one thing
in each, and runs commands on it.  A command may fail with an error that names the damage.  If it succeeds without a
warning, it must print what it prints for the undamaged home.  If ``ashwood verify`` finds nothing, all of them must.
Some homes are repaired and their second experiment is resumed: every loss in its log must be that of its own trial.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import NamedTuple
from unittest.mock import patch

from ashwood.cli.main import main as command_line
from ashwood.engine import open_home
from tests.cli.conftest import Workplace

TRAIN = """\
import json

def train(trial):
    for epoch in trial.epochs():
        loss = OFFSET + abs(trial.hparams["x"] - 0.5) + 1 / (epoch + 1)
        trial.report(loss=loss, checkpoint=lambda d: (d / "model").write_text(json.dumps([OFFSET, trial.id, epoch])))
"""
FILE = """\
name: {name}
entrypoint: {name}:train
hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}
searcher: {{name: async_halving, metric: loss, max_length: {{epochs: 9}}, max_trials: 9, num_rungs: 3, divisor: 3}}
reproducibility: {{experiment_seed: 7}}
"""
LONGEST = 9
RESUMED_EVERY = 25
OFFSETS = {1: 0, 2: 1000}
"""Added to each loss, so that data of another experiment is recognised."""

COMPLAINTS = ("damaged", "missing", "not verified", "warning", '"size": null', '"problem": ')
"""One of these is in the output of a command that has found damage; the last is a checkpoint that is not there."""

READING = (
    "list --json --all",
    "describe {id} --json",
    "best {id} --json",
    "trials {id} --json",
    "events {id} --json",
    "checkpoints {id} --json",
    "replay {id} --json",
    "verify {id} --json",
)
"""Commands whose output must be that of the undamaged home, or which must say that something is wrong."""


class Ran(NamedTuple):
    """What a command printed, and its exit code; ``crash`` is a traceback."""

    code: int
    out: str
    err: str
    crash: str = ""

    @property
    def complains(self) -> bool:
        """Whether it failed, or says that something is damaged, missing or not verified."""
        said = self.out + self.err
        return self.code != 0 or any(word in said for word in COMPLAINTS)


def run(home: Path, command: str) -> Ran:
    """Run a command of the command line in this process."""
    out, err, code, crash = io.StringIO(), io.StringIO(), 0, ""
    arguments = ["ashwood", *command.split(), "--home", str(home)]
    with patch.object(sys, "argv", arguments), redirect_stdout(out), redirect_stderr(err):
        try:
            command_line()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:  # noqa: BLE001 - whatever it is, a user would see a traceback
            crash = traceback.format_exc()
    return Ran(code, out.getvalue(), err.getvalue(), crash)


# -- damage --------------------------------------------------------------------------------------------


def flip(path: Path, luck: Random) -> str:
    """Flip one bit."""
    data = bytearray(path.read_bytes())
    if not data:
        return "nothing to flip"
    at = luck.randrange(len(data))
    data[at] ^= 1 << luck.randrange(8)
    path.write_bytes(data)
    return f"bit flipped at {at}"


def cut(path: Path, luck: Random) -> str:
    """Cut the file off."""
    size = luck.randrange(path.stat().st_size + 1)
    os.truncate(path, size)
    return f"cut off at {size}"


def blank(path: Path, luck: Random) -> str:
    """Fill a stretch with zeros."""
    data = bytearray(path.read_bytes())
    at, length = luck.randrange(len(data) + 1), luck.choice((1, 16, 512, 4096))
    data[at : at + length] = bytes(len(data[at : at + length]))
    path.write_bytes(data)
    return f"{length} zeros at {at}"


def grow(path: Path, luck: Random) -> str:
    """Append random bytes."""
    with path.open("ab") as file:
        file.write(luck.randbytes(luck.choice((1, 100, 5000))))
    return "grown"


def remove(path: Path, luck: Random) -> str:
    """Delete the file."""
    path.unlink()
    return "deleted"


def link(path: Path, luck: Random) -> str:
    """Put a link to nowhere in its place."""
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))
    return "replaced by a link to nowhere"


FILE_DAMAGES = (flip, flip, flip, cut, blank, grow, remove, link)
COLUMNS = {
    "experiments": ("created_at", "name", "version", "spec", "state", "summary", "digest", "labels", "archived"),
    "logs": ("head", "token", "beat", "driver", "seen"),
    "entries": ("seq", "at", "version", "body", "digest"),
}
VALUES = (None, "", "{", "{}", "[]", "x", -1, 0, 1, 100, 1 << 62, 1e300, b"\xff\xfe", "\ud800", '{"a": 1}', "running")


def change_a_column(home: Path, luck: Random) -> str:
    """Write a random value into a random column of a random row."""
    with closing(sqlite3.connect(home / "ashwood.db", isolation_level=None)) as database:
        table = luck.choice([*COLUMNS, "requests"])
        if table == "requests":
            body = luck.choice(('{"is":"SomethingNew"}', "{", "[]", '{"is":"PauseRequested"}', '{"is":1}'))
            version = luck.choice((1, 4, 99, "x"))
            database.execute(
                "INSERT INTO requests (experiment, at, version, body) VALUES (1, 1, ?, ?)", (version, body)
            )
            return f"request {body} of version {version!r}"
        column, value = luck.choice(COLUMNS[table]), luck.choice(VALUES)
        rows = database.execute(f"SELECT rowid FROM {table}" if table != "entries" else "SELECT seq FROM entries")
        number = luck.choice(rows.fetchall())[0]
        key = "seq" if table == "entries" else "rowid"
        try:
            database.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (value, number))
        except (sqlite3.Error, UnicodeEncodeError) as error:
            return f"{table}.{column} = {value!r} refused: {error}"
        return f"{table}.{column} = {value!r} where {key} = {number}"


def delete_a_row(home: Path, luck: Random) -> str:
    """Delete a random entry, the row of a log, or an experiment."""
    with closing(sqlite3.connect(home / "ashwood.db", isolation_level=None)) as database:
        table = luck.choice(("entries", "entries", "logs", "experiments"))
        key = {"entries": "seq", "logs": "experiment", "experiments": "id"}[table]
        number = luck.choice(database.execute(f"SELECT {key} FROM {table}").fetchall())[0]
        database.execute(f"DELETE FROM {table} WHERE {key} = ?", (number,))
        return f"{table} {number} deleted"


def swap_directories(home: Path, luck: Random) -> str:
    """Exchange the directories of two experiments, or of two of their trials."""
    one, other = home / "experiments" / "1", home / "experiments" / "2"
    if luck.random() < 0.7:
        one, other = one / "checkpoints", other / "checkpoints"
        trials = sorted({path.name for path in one.iterdir()} & {path.name for path in other.iterdir()})
        if trials and luck.random() < 0.8:
            one, other = one / luck.choice(trials), other / luck.choice(trials)
    aside = home / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    return f"{one.relative_to(home)} and {other.relative_to(home)} exchanged"


def damage(home: Path, luck: Random) -> str:
    """Damage one thing in a home; return what."""
    kind = luck.random()
    if kind < 0.2:
        return change_a_column(home, luck)
    if kind < 0.25:
        return delete_a_row(home, luck)
    if kind < 0.32:
        return swap_directories(home, luck)
    files = [path for path in home.rglob("*") if path.is_file() and path.name not in (".gitignore", "workers.lock")]
    groups: dict[str, list[Path]] = {}
    for path in files:
        groups.setdefault(path.name if path.parent == home else path.suffix or path.name, []).append(path)
    # The database and its write-ahead log count as much as all checkpoints.
    path = luck.choice(groups[luck.choice(sorted(groups))])
    return f"{path.relative_to(home)}: {luck.choice(FILE_DAMAGES)(path, luck)}"


# -- judgement -----------------------------------------------------------------------------------------


def make_home(directory: Path) -> Path:
    """Return a home with two experiments, whose write-ahead log is still there."""
    workplace = Workplace(directory)
    for number, name in enumerate(("first", "second"), start=1):
        (directory / f"{name}.py").write_text(TRAIN.replace("OFFSET", str(OFFSETS[number])))
        (directory / f"{name}.yaml").write_text(FILE.format(name=name))
    home = directory / ".ashwood"
    with open_home(home, create=True):  # The last connection that is closed would delete the write-ahead log.
        workplace.ashwood("run", "first.yaml", "--workers", "2")
        # It stops early, so that it can be resumed.
        workplace.ashwood("run", "second.yaml", "--workers", "2", "--stop-when", "metric_at=1000.9")
        copy = directory / "home"
        shutil.copytree(home, copy)
    return copy


def undamaged(home: Path) -> Mapping[str, str]:
    """What the commands print for a home as it is."""
    printed = {}
    for command in commands():
        ran = run(home, command)
        assert ran.code == 0, (command, ran)
        printed[command] = stable(ran.out)
    return printed


def commands() -> Iterator[str]:
    """All commands that only read."""
    for command in READING:
        if "{id}" in command:
            yield from (command.format(id=experiment) for experiment in OFFSETS)
        else:
            yield command


def stable(text: str) -> str:
    """What is the same at any time and in any directory."""
    return "\n".join(
        line
        for line in text.splitlines()
        if not any(word in line for word in ('"seconds', '"logs"', '"place"', '"checkpoint"'))
    )


def judge(home: Path, what: str, expected: Mapping[str, str], directory: Path) -> Iterator[str]:
    """Run the commands on a damaged home, and yield what is wrong."""
    verified = run(home, "verify")
    if verified.crash:
        yield f"verify: {verified.crash}"
    # A request that can be read is no damage.
    is_sound = not verified.complains and "note: " not in verified.out and not what.startswith("request")
    for command in expected:
        ran = run(home, command)
        if ran.crash:
            yield f"{command}: {ran.crash}"
        elif not ran.complains and stable(ran.out) != expected[command]:
            yield f"{command}: prints something else without a word:\n{ran.out[:2000]}\n{ran.err[:500]}"
        elif is_sound and stable(ran.out) != expected[command]:
            yield f"{command}: prints something else, but verify finds nothing:\n{ran.out[:2000]}\n{ran.err[:500]}"
    for experiment, offset in OFFSETS.items():
        out = directory / f"models-{experiment}"
        ran = run(home, f"download {experiment} --best 2 --out {out}")
        if ran.crash:
            yield f"download {experiment}: {ran.crash}"
        for model in out.rglob("model"):
            if not model.read_text().startswith(f"[{offset}, {model.parent.name.removeprefix('trial-')},"):
                yield f"download {experiment}: {model} holds {model.read_text()}"
        bundle = directory / f"{experiment}.ashwood"
        ran = run(home, f"export {experiment} --out {bundle} --checkpoints --logs")
        if ran.crash:
            yield f"export {experiment}: {ran.crash}"


def judge_repair(home: Path) -> Iterator[str]:
    """Repair a damaged home, resume its second experiment, and yield what is wrong."""
    for command in ("verify --repair", "verify", "resume 2 --stop-when none --workers 2"):
        ran = run(home, command)
        if ran.crash:
            yield f"{command}: {ran.crash}"
    ran = run(home, "events 2 --json")
    if ran.code != 0:
        return
    drawn: dict[int, float] = {}
    for line in ran.out.splitlines():
        entry = json.loads(line)
        for decision in entry.get("decisions", ()):
            if decision["is"] == "CreateTrial":
                drawn[decision["trial"]] = decision["hparams"]["x"]
        event = entry["event"]
        if event["is"] == "ValidationReported":
            loss = OFFSETS[2] + abs(drawn[event["trial"]] - 0.5) + 1 / event["length"]
            if abs(event["metrics"]["loss"] - loss) > 1e-9 or event["length"] > LONGEST:
                yield f"resume: recorded {line}"


def judge_bundle(bundle: Path, elsewhere: Path, expected: str) -> Iterator[str]:
    """Import a damaged bundle into an empty home, and yield what is wrong."""
    ran = run(elsewhere, f"import {bundle}")
    if ran.crash:
        yield f"import: {ran.crash}"
        return
    listed = run(elsewhere, "list --json --all") if (elsewhere / "ashwood.db").exists() else Ran(0, "[]", "")
    if listed.crash:
        yield f"list: {listed.crash}"
    if ran.code != 0:
        if listed.out.strip() != "[]":
            yield f"import failed ({ran.err}), but it left: {listed.out}"
    elif run(elsewhere, "events 1 --json").out != expected:
        yield "import: other events than were exported"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.mutations", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="how many homes and bundles (default: 5000)")
    parser.add_argument("--seed", type=int, default=0, help="number of the first of them (default: 0)")
    options = parser.parse_args(arguments)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="ashwood-mutations-") as temporary:
        top = Path(temporary)
        (top / "base").mkdir()
        base = make_home(top / "base")
        expected, bundle = undamaged(copy_of(base, top / "whole")), top / "whole.ashwood"
        assert run(top / "whole", f"export 1 --out {bundle} --checkpoints --logs").code == 0
        events = run(top / "whole", "events 1 --json").out
        for seed in range(options.seed, options.seed + options.count):
            luck, directory = Random(seed), top / str(seed)
            directory.mkdir()
            if luck.random() < 0.15:
                broken = Path(shutil.copy(bundle, directory))
                what = luck.choice((flip, cut, blank, grow))(broken, luck)
                complaints = list(judge_bundle(broken, directory / "elsewhere", events))
            else:
                home = copy_of(base, directory / "home")
                what = damage(home, luck)
                complaints = list(judge(home, what, expected, directory))
                if seed % RESUMED_EVERY == 0:
                    complaints += judge_repair(home)
            for complaint in complaints:
                print(f"seed {seed}: {what}\n  {complaint}", flush=True)
            wrong += len(complaints)
            shutil.rmtree(directory)
            if (seed + 1) % 250 == 0:
                print(f"{seed + 1 - options.seed} done, {wrong} complaints", flush=True)
    return wrong > 0


def copy_of(home: Path, place: Path) -> Path:
    """Return a copy of a home."""
    return shutil.copytree(home, place, symlinks=True)


if __name__ == "__main__":
    sys.exit(main())
