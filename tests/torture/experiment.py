"""One experiment under torture, from its first driver to its end."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ashwood.engine import open_home
from ashwood.errors import AshwoodError, NotFound
from ashwood.experiment.events import ExtendRequested
from tests.torture.disks import Disk
from tests.torture.oracle import Evidence
from tests.torture.points import COUNT, Point
from tests.torture.scenarios import Scenario
from tests.torture.schedule import HARMLESS, Blow, Victim
from tests.torture.sessions import Hangs, Place, Session

_PAUSED = 3
_TO_EXTEND = "completed, to be extended"
_INTERRUPTED = 130  # before anything had started
_GRACE_SECONDS = 20.0
"""Seconds after which no process of a killed driver is left: the reaper's grace period and a margin."""
_MANY = 60
"""Blows that an experiment of this size suffers at most."""


@dataclass
class Outcome:
    """What torture led to.

    Attributes:
        evidence: for the oracle.
        kills: how many processes' deaths it took, a death of several at once counting once.
        dealt: the blows that hit somebody, in words.
    """

    evidence: Evidence
    kills: int
    dealt: list[str]


def torture(
    scenario: Scenario,
    directory: Path,
    seed: int,
    blows: Iterator[Blow],
    *,
    home: str | None = None,
    disk: Disk | None = None,
) -> Outcome:
    """Run an experiment to its end, dealing blows until there are no more.

    Args:
        scenario: what it is.
        directory: where it may put everything; empty.
        seed: the experiment's.
        blows: whom to kill when.
        home: where the record is; None: in the directory.
        disk: where the record and the checkpoints are, if that may lose its power.
    """
    place = Place(directory, home=home, disk=disk)
    try:
        return Run(scenario, place, seed, islice(blows, _MANY)).to_the_end()
    finally:
        place.end_all()


def count_points(scenario: Scenario, directory: Path, seed: int) -> tuple[Evidence, dict[str, int]]:
    """Run an experiment undisturbed; returns also how often each crash point was reached."""
    counter = directory / "points"
    place = Place(directory)
    run = Run(scenario, place, seed, iter(()))
    with Session(place, *run.arguments(None), more=Point(COUNT, 0, "", counter).environment()) as session:
        session.hear()
        run.acknowledged.append(session.acknowledged)
    names = counter.read_text().split()
    return run.evidence(), {name: names.count(name) for name in sorted(set(names))}


class Run:
    """An experiment from its first driver to its last.

    Attributes:
        place: where it is.
        acknowledged: what its drivers said to be recorded, a list a driver.
    """

    def __init__(self, scenario: Scenario, place: Place, seed: int, blows: Iterator[Blow]) -> None:
        self.acknowledged: list[list[dict[str, Any]]] = []
        self._scenario = scenario
        self.place = place
        self._file = scenario.write(place.path, seed, place.storage, place.more)
        self._blows = blows
        self._dealt: list[str] = []
        self._manual: list[str] = []
        self._kills = 0

    def to_the_end(self) -> Outcome:
        """Run driver after driver until the experiment is over, or one gives up by itself."""
        self._drive_on()
        if not self._manual:
            for command in self._scenario.then:
                subprocess.run([sys.executable, "-m", "ashwood", *command, "--home", self.place.home], check=True)
            self._drive_on()
        return Outcome(self.evidence(), self._kills, self._dealt)

    def _drive_on(self) -> None:
        while not self._manual and (state := self.state()) not in ("completed", "errored"):
            self.drive(state)

    def arguments(self, state: str | None) -> list[str]:
        """What a person would type now."""
        workers = ["--workers", str(self._scenario.workers)]
        if state == _TO_EXTEND:
            return ["extend", "1", *self._scenario.extend, *workers]
        return ["run", str(self._file), *workers] if state is None else ["resume", "1", *workers]

    def evidence(self) -> Evidence:
        """All there is."""
        left = [_describe(process) for process in self.place.wait_until_empty(_GRACE_SECONDS)]
        diary = self.place.path / "diary"
        with open_home(self.place.home) as home:
            log = home.store.log(1)
            return Evidence(
                spec=home.store.spec(1),
                state=home.store.record(1).state,
                entries=[entry for _, entry in log.read()],
                acknowledged=self.acknowledged,
                diary=[json.loads(line) for line in diary.read_text().splitlines()] if diary.exists() else [],
                left=left,
                manual=self._manual,
            )

    def drive(self, state: str | None) -> None:
        """Start the next driver and hear it to its end."""
        blow = next(self._blows, None)
        point = self._arm(blow)
        paused = False
        more = point.environment() if point else None
        with self.place.session(*self.arguments(state), more=more) as session:
            try:
                while blow is not None and session.returncode is None:
                    if self._deal(session, blow, point):
                        paused |= blow.victim is Victim.INTERRUPTED
                        self._dealt.append(f"driver {len(self.acknowledged)}: {blow}")
                        self._kills += blow.victim not in HARMLESS
                    if session.returncode is None:
                        blow, point = self._next_blow(), None
                session.hear()
            except Hangs as error:
                self._manual.append(f"driver {len(self.acknowledged)}: {error}")
            self.acknowledged.append(session.acknowledged)
            code = session.returncode
            if code is not None and code >= 0 and code not in (0, *([_PAUSED, _INTERRUPTED] if paused else [])):
                self._manual.append(f"driver {len(self.acknowledged) - 1} gave up with {code}: {session.errors}")
        if blow is None or not blow.haste:
            left = self.place.wait_until_empty(_GRACE_SECONDS)
            self._manual.extend(f"outlived its driver: {_describe(process)}" for process in left)

    def _arm(self, blow: Blow | None) -> Point | None:
        if blow is None or blow.point is None:
            return None
        counter = self.place.path / f"point-{len(self.acknowledged)}"
        return Point(blow.point, blow.hit, blow.victim, counter)

    def _next_blow(self) -> Blow | None:
        """The next that isn't bound to the start of a driver."""
        return next((blow for blow in self._blows if blow.point is None), None)

    def _deal(self, session: Session, blow: Blow, point: Point | None) -> bool:
        if point is None:
            return session.deal(blow)
        session.hear(lines=blow.lines)
        if point.counter.exists() and point.counter.stat().st_size >= point.hit:
            return True
        return blow.victim is not Victim.WORKER and session.deal(blow)

    def state(self) -> str | None:
        """Where the record says that the experiment stands; None: there is none.

        It is read from a copy of the files, which has to open clean, so that the next driver finds them as the last
        one left them.
        """
        if "://" in self.place.home:
            return self._recorded_state(self.place.home)
        home, copy = Path(self.place.home), self.place.path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in home.glob("ashwood.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, copy)
        if not (copy / "ashwood.db").exists():
            return None
        with closing(sqlite3.connect(copy / "ashwood.db")) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
            if verdict != "ok":
                self._manual.append(f"the record is damaged: {verdict}")
        return self._recorded_state(str(copy))

    def _recorded_state(self, home: str) -> str | None:
        try:
            with open_home(home) as opened:
                experiments = opened.store.experiments()
                if self._scenario.extend and experiments and experiments[0].state == "completed":
                    extended = any(isinstance(e.event, ExtendRequested) for _, e in opened.store.log(1).read())
                    return "completed" if extended else _TO_EXTEND
        except NotFound:
            return None
        except AshwoodError as error:
            self._manual.append(f"the record can't be opened: {error}")
            return None
        return experiments[0].state if experiments else None


def _describe(process: int) -> str:
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return f"process {process}: {words}"
    except OSError:
        return f"process {process}"
