"""``ashwood watch``: a running experiment on the whole terminal, read from its event log only."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from itertools import islice

from rich.console import Console
from rich.live import Live

from ashwood.errors import IllegalEvent
from ashwood.eventlog.fold_cache import load, load_progress
from ashwood.eventlog.home import Home, open_home
from ashwood.eventlog.port import ExperimentId, Seq
from ashwood.experiment.entry import Entry
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import ExperimentSpec
from ashwood.terminal.keys import Keys
from ashwood.terminal.messages import is_over
from ashwood.terminal.output import make_console
from ashwood.terminal.screen import LOOKED_BACK, Screen, render
from ashwood.views.progress import Progress

_SLICE = 0.25
"""Seconds of reading between two checks of the keyboard."""
_CHUNK = 500
_LEAVE = frozenset("qQ\x04")
_SUSPEND = "\x1a"


def watch_experiment(home: str | None, experiment: int, *, interval: float, best: int | None, once: bool) -> None:
    """Show an experiment until it ends or the user leaves; only once if the output is not a terminal."""
    console = make_console()
    with open_home(home) as opened:
        following = LogFollower(opened, experiment)
        try:
            if once or not sys.stdout.isatty() or console.is_dumb_terminal:
                following.catch_up()
            elif not _watch(following, console, interval, best):
                return
        except KeyboardInterrupt:
            return
        console.print(render(following.screen, following.now(), console, "printed", best=best))


def _watch(following: LogFollower, console: Console, interval: float, best: int | None) -> bool:
    """Draw until the experiment has ended (return True) or the user leaves (return False)."""
    more = following.take(_SLICE)
    if following.is_over and not more:
        return True
    with Keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while more or not following.is_over:
            live.update(render(following.screen, following.now(), console, best=best), refresh=True)
            pressed = keys.wait(0.0 if more else interval)
            if _LEAVE.intersection(pressed):
                return False
            if _SUSPEND in pressed:
                live.stop()
                keys.suspend()
                live.start()
            more = following.take(_SLICE)
    return True


class WatchedScreen(Screen):
    """The display of an experiment whose driver is another process."""

    def __init__(self, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        super().__init__(experiment, spec)
        self.running = True
        self.is_driven = self.complete = False
        self._experiment: Experiment | None = Experiment(spec)

    def start_from(self, progress: Progress, experiment: Experiment | None, latest: Sequence[Entry]) -> None:
        """Start from a snapshot and the latest entries before it."""
        self.folded(progress)
        self._experiment = experiment
        self.keep(latest)

    def observe(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            try:
                if self._experiment is not None:
                    self._experiment.handle(entry.event)
            except IllegalEvent:  # Another version of Ashwood wrote the log, so there is no forecast.
                self._experiment = None
        super().observe(entries)

    def set_state(self, name: str, *, driven: bool, complete: bool, at: float) -> None:
        """Set what is not in the log: the name, whether a driver is running, and whether all of it was read."""
        self.name, self.is_driven, self.complete = name, driven, complete
        # Before the log has been read to its end, a forecast would be about the past.
        self.progress.search = None if self._experiment is None or not complete else self._experiment.search
        self.forecaster.look(at)


class LogFollower:
    """A reader of an experiment's event log that reads new entries, each once.

    Attributes:
        screen: state of the experiment that is displayed.
    """

    def __init__(self, home: Home, experiment: ExperimentId) -> None:
        self._home = home
        self._log = home.store.log(experiment)
        self._after: Seq = 0
        spec = home.store.spec(experiment)
        self.screen = WatchedScreen(experiment, spec)
        snapshot = home.snapshot(experiment)
        if is_over(home.store.record(experiment).state):
            # Neither a forecast nor the latest events are shown, so the progress is enough.
            progress, self._after = load_progress(spec, snapshot, self._log)
            self.screen.start_from(progress, None, [])
        elif (folded := load(spec, snapshot, self._log)) is not None:
            self._after = folded.seq
            first = max(0, folded.seq - LOOKED_BACK)
            latest = islice(self._log.read(after=first), folded.seq - first)
            self.screen.start_from(folded.progress, folded.experiment, [entry for _, entry in latest])

    @property
    def is_over(self) -> bool:
        """Whether the experiment has ended or stopped."""
        return is_over(self.screen.progress.state)

    def now(self) -> float | None:
        """Return the time, or None if no driver is running or the log has not been read to its end."""
        return time.time() if self.screen.is_driven and self.screen.complete else None

    def catch_up(self) -> None:
        """Read the log to its end."""
        while self.take(_SLICE):
            pass

    def take(self, seconds: float) -> bool:
        """Read new entries for at most ``seconds``; return whether there are more."""
        # Whether a driver runs is checked before the log is read.  If it has ended, its last entries are then in the
        # log, so that an experiment never looks interrupted because they were not read.
        record = self._home.store.record(self.screen.id)
        driven = self._home.is_driven(self.screen.id)
        until = time.monotonic() + seconds
        more = False
        entries: list[Entry] = []
        for seq, entry in self._log.read(after=self._after):
            entries.append(entry)
            self._after = seq
            if len(entries) == _CHUNK:
                self.screen.observe(entries)
                entries = []
                if time.monotonic() >= until:
                    more = True
                    break
        if entries:
            self.screen.observe(entries)
        self.screen.set_state(record.name, driven=driven, complete=not more, at=time.time())
        return more
