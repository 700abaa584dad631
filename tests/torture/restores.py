"""Restore older copies of a database under experiments, kill their drivers, and look for wrong results.

``python -m tests.torture.restores --count 50`` runs experiments, puts an older copy of the database back at a random
moment, and resumes with more kills.  Trials of the course that was given up have the numbers of trials with other
hyperparameters.  So each loss in the log, and each checkpoint that training code gets, must be of the trial itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ashwood.engine import open_home
from ashwood.errors import AshwoodError
from ashwood.eventlog.fold_cache import fold
from ashwood.eventlog.head import head_path, read_head
from ashwood.experiment.events import AttemptFailed, ValidationReported

LONGEST = 27
TRAIN = """\
import json, time

def train(trial):
    x = trial.hparams["x"]
    if trial.checkpoint is not None:
        assert json.loads((trial.checkpoint / "x").read_text()) == x, "a checkpoint of another trial"
    for epoch in trial.epochs():
        time.sleep(0.01)
        trial.report(loss=(x - 0.3) ** 2 + 1 / (epoch + 1), checkpoint=lambda d: (d / "x").write_text(json.dumps(x)))
"""
FILE = """\
entrypoint: train:train
hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}
searcher: {{name: adaptive_asha, metric: loss, mode: {mode}, max_length: {{epochs: 27}}, max_trials: 30, divisor: 3}}
min_checkpoint_period: {{epochs: 1}}
reproducibility: {{experiment_seed: {seed}}}
"""


@dataclass
class Database:
    """A database that can be copied and restored.

    Attributes:
        home: as ``--home`` takes it.
        files: the directory of the files of its experiments.
        copy: keeps a copy of the database as it is.
        restore: puts the copy back.
    """

    home: str
    files: Path
    copy: Callable[[], None]
    restore: Callable[[], None]


def sqlite_database(directory: Path) -> Database:
    """Return a database of SQLite.  Its files are copied while a driver writes."""
    home, aside = directory / "home", directory / "copy"

    def copy() -> None:
        aside.mkdir()
        for path in (home / "ashwood.db", home / "ashwood.db-wal"):
            shutil.copy(path, aside)

    def restore() -> None:
        for path in home.glob("ashwood.db*"):
            path.unlink()
        for path in aside.iterdir():
            shutil.copy(path, home)

    return Database(str(home), home, copy, restore)


def postgres_database(directory: Path, url: str, programs: Path) -> Database:
    """Return a database of a PostgreSQL server.  ``pg_dump`` copies it while a driver writes."""
    dump = directory / "dump.sql"

    def run(program: str, *arguments: str) -> None:
        subprocess.run([programs / program, *arguments, url], check=True, stdout=subprocess.DEVNULL)

    os.environ["ASHWOOD_FILES"] = str(directory / "files")
    (files,) = open_files(url)
    return Database(
        url,
        files,
        lambda: run("pg_dump", "--clean", "--if-exists", f"--file={dump}"),
        lambda: run("psql", "--quiet", "--single-transaction", f"--file={dump}"),
    )


def open_files(url: str) -> Iterator[Path]:
    """Yield the directory in which the home at a URL keeps files on this machine."""
    with open_home(url, create=True) as home:
        yield home.path


@dataclass
class Ordeal:
    """One experiment whose database is restored.

    Attributes:
        complaints: what is wrong.
        steps: what was done.
    """

    database: Database
    directory: Path
    luck: Random
    complaints: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Run it."""
        mode = self.luck.choice(("aggressive", "conservative", "auto"))
        self.write_code()
        (self.directory / "e.yaml").write_text(FILE.format(mode=mode, seed=self.luck.randrange(1000)))
        copied = self.luck.randint(5, 120)
        with self.driver("run", "e.yaml"):
            self.await_entries(copied)
            self.database.copy()
            self.await_entries(copied + self.luck.randint(40, 200))
        self.database.restore()
        self.steps.append(f"mode {mode}, copied after entry {copied}")
        head = head_path(self.database.files, 1)
        # A head is written once a second, so it may not name more than the copy has.
        is_older = (noted := read_head(head)) is not None and noted.seq > self.last()
        if self.luck.random() < 0.5 or not is_older:
            head.unlink(missing_ok=True)
            is_older = False
            self.steps.append("without the head file")
        else:
            refused = self.ashwood("resume", "1", "--workers", "2")
            if refused.returncode == 0 or " missing: " not in refused.stderr:
                self.complaints.append(f"resume does not name the entries that are missing: {refused.stderr}")
            repaired = self.ashwood("verify", "1", "--repair")
            if repaired.returncode or "accepted with" not in repaired.stdout:
                self.complaints.append(f"verify --repair: {repaired.stdout}{repaired.stderr}")
        for _ in range(self.luck.randint(0, 3)):
            with self.driver("resume", "1"):
                self.await_entries(self.last() + self.luck.randint(1, 40))
        ended = self.ashwood("resume", "1", "--workers", "2")
        if ended.returncode and "there is nothing left to run" not in ended.stderr:
            self.complaints.append(f"resume: {ended.stdout[-500:]}{ended.stderr[-500:]}")
        self.complaints += judge(self.database.home)
        verified = self.ashwood("verify", "1", "--json")
        for finding in json.loads(verified.stdout)["findings"]:
            # Checkpoints that the older log names were deleted meanwhile. A repair takes note of that.
            if not finding["harmless"] and (is_older or "there is no checkpoint" not in finding["problem"]):
                self.complaints.append(f"verify: {finding['problem']}")

    def write_code(self) -> None:
        """Write the training code."""
        (self.directory / "train.py").write_text(TRAIN)

    def ashwood(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments), cwd=self.directory, check=False, capture_output=True, text=True, timeout=300
        )

    def command(self, *arguments: str) -> list[str]:
        """Return the arguments of a process that runs a command."""
        code = "from ashwood.cli.main import main; main()"
        return [sys.executable, "-c", code, *arguments, "--home", self.database.home]

    @contextmanager
    def driver(self, *arguments: str) -> Iterator[None]:
        """Let a driver run meanwhile, and kill it at the end."""
        command = self.command(*arguments, "--workers", "2")
        with subprocess.Popen(command, cwd=self.directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as driver:
            try:
                yield
            finally:
                driver.send_signal(signal.SIGKILL)

    def last(self) -> int:
        """Return the number of the last entry, or 0 if there is no experiment yet."""
        try:
            with open_home(self.database.home) as home:
                return home.store.log(1).last()
        except AshwoodError:
            return 0

    def await_entries(self, count: int) -> None:
        """Wait until the log has so many entries, or the experiment has ended."""
        deadline = time.monotonic() + 120
        while self.last() < count and time.monotonic() < deadline:
            if self.last():
                with open_home(self.database.home) as home:
                    if home.store.record(1).state.ended:
                        return
            time.sleep(0.02)


def judge(url: str) -> Iterator[str]:
    """Yield what is wrong with the log of the experiment in a home."""
    with open_home(url) as home:
        log = home.store.log(1)
        experiment = fold(home.store.spec(1), log).experiment
        if not experiment.state.ended:
            yield f"it is {experiment.state}"
        for seq, (_, event, _) in log.read():
            if isinstance(event, AttemptFailed):
                yield f"entry {seq}: {event.error}"
            if isinstance(event, ValidationReported):
                x = experiment.trials[event.trial].hparams["x"]
                if abs(event.metrics["loss"] - (x - 0.3) ** 2 - 1 / event.length) > 1e-9 or event.length > LONGEST:
                    yield f"entry {seq}: {event}, but x is {json.dumps(x)}"


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.restores", description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="how many experiments (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="number of the first of them (default: 0)")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite", help="where the database is")
    options = parser.parse_args()
    wrong = 0
    with databases(options.store) as new:
        for seed in range(options.seed, options.seed + options.count):
            with tempfile.TemporaryDirectory(prefix="ashwood-restores-") as temporary:
                ordeal = Ordeal(new(Path(temporary)), Path(temporary), Random(seed))
                ordeal.run()
                wrong += len(ordeal.complaints)
                for complaint in ordeal.complaints:
                    print(f"seed {seed} ({', '.join(ordeal.steps)}): {complaint}", flush=True)
    print(f"{options.count} experiments, {wrong} complaints")
    return wrong > 0


@contextmanager
def databases(kind: str) -> Iterator[Callable[[Path], Database]]:
    """Yield what makes a database in a directory."""
    if kind == "sqlite":
        yield sqlite_database
        return
    from tests.postgres import find_programs, postgres_server

    with postgres_server() as server:
        yield lambda directory: postgres_database(directory, server.fresh_database(), find_programs())


if __name__ == "__main__":
    sys.exit(main())
