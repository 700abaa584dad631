"""``ashwood watch``: a running experiment on the whole terminal, read from its event log only."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ashwood.cli.events import follow, is_over
from ashwood.cli.keys import Keys
from ashwood.cli.ladder import Promotions, promotions, render_ladder
from ashwood.cli.output import make_console
from ashwood.cli.picture import NARROW, render_bar, render_trials
from ashwood.cli.progress import Reporter, clock_time, how_it_ended, how_to_resume, leaving, named_trials, what_next
from ashwood.cli.text import on_one_line
from ashwood.engine import Home, open_home
from ashwood.eventlog.fold_cache import load, load_progress
from ashwood.eventlog.port import ExperimentId, Seq
from ashwood.experiment.decisions import Decision, DeleteCheckpoint
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import AttemptEnded, AttemptStarted, CheckpointSaved, ValidationReported
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.views.descriptions import describe_decisions, describe_event
from ashwood.views.progress import Progress

_SLICE = 0.25
"""Seconds of reading between two checks of the keyboard."""
_CHUNK = 500
_FRESH = 3.0
"""Seconds for which a promotion is highlighted."""
_KEPT = 50
_LOOKED_BACK = 10 * _KEPT
_MOST_BEST = 10
_MOST_NEWS = 3
_MOST_DECISIONS = 5
"""Decisions of an entry that are shown: the last entry of a search can stop thousands of trials."""
_FEWEST_LATEST = 2
_STILL_LATEST = 5
_LONGEST = 500
"""Characters of a message that are processed: an error can be very long."""
_ROOMY = 22
"""Height of a terminal from which on there are empty lines between the parts."""
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
        console.print(render(following.seen, following.now(), console, best=best))


def _watch(following: LogFollower, console: Console, interval: float, best: int | None) -> bool:
    """Draw until the experiment has ended (return True) or the user leaves (return False)."""
    more = following.take(_SLICE)
    if following.is_over and not more:
        return True
    with Keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while more or not following.is_over:
            picture = render(following.seen, following.now(), console, height=console.height, best=best)
            live.update(picture, refresh=True)
            pressed = keys.wait(0.0 if more else interval)
            if _LEAVE.intersection(pressed):
                return False
            if _SUSPEND in pressed:
                live.stop()
                keys.suspend()
                live.start()
            more = following.take(_SLICE)
    return True


class LogFollower:
    """A reader of an experiment's event log that reads new entries, each once.

    Attributes:
        seen: state of the experiment that is displayed.
    """

    def __init__(self, home: Home, experiment: ExperimentId) -> None:
        self._home = home
        self._log = home.store.log(experiment)
        self._after: Seq = 0
        spec = home.store.spec(experiment)
        self.seen = Watcher(experiment, spec)
        snapshot = home.snapshot(experiment)
        if is_over(home.store.record(experiment).state):
            # Neither a forecast nor the latest events are shown, so the progress is enough.
            progress, self._after = load_progress(spec, snapshot, self._log)
            self.seen.start_from(progress, None, [])
        elif (folded := load(spec, snapshot, self._log)) is not None:
            self._after = folded.seq
            first = max(0, folded.seq - _LOOKED_BACK)
            latest = islice(self._log.read(after=first), folded.seq - first)
            self.seen.start_from(folded.progress, folded.experiment, [entry for _, entry in latest])

    @property
    def is_over(self) -> bool:
        """Whether the experiment has ended or stopped."""
        return is_over(self.seen.progress.state)

    def now(self) -> float | None:
        """Return the time, or None if no driver is running or the log has not been read to its end."""
        return time.time() if self.seen.is_driven and self.seen.complete else None

    def catch_up(self) -> None:
        """Read the log to its end."""
        while self.take(_SLICE):
            pass

    def take(self, seconds: float) -> bool:
        """Read new entries for at most ``seconds``; return whether there are more."""
        # Whether a driver runs is checked before the log is read.  If it has ended, its last entries are then in the
        # log, so that an experiment never looks interrupted because they were not read.
        record = self._home.store.record(self.seen.id)
        driven = self._home.is_driven(self.seen.id)
        until = time.monotonic() + seconds
        more = False
        entries: list[Entry] = []
        for seq, entry in self._log.read(after=self._after):
            entries.append(entry)
            self._after = seq
            if len(entries) == _CHUNK:
                self.seen.observe(entries)
                entries = []
                if time.monotonic() >= until:
                    more = True
                    break
        if entries:
            self.seen.observe(entries)
        self.seen.set_state(record.name, driven=driven, complete=not more, at=time.time())
        return more


class _Notice(NamedTuple):
    """A message of the reporter, with its time."""

    at: float
    message: str
    style: str


class Watcher(Reporter):
    """A reporter that collects what the display shows of an experiment.

    Attributes:
        name: current name of the experiment.
        is_driven: whether a driver is running.
        complete: whether the event log has been read to its end.
        notices: latest warnings and news.
        latest: latest entries that led to a decision or are worth showing for another reason.
    """

    def __init__(self, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        super().__init__(experiment, spec)
        self.running = True
        self.name = spec.name
        self.is_driven = False
        self.complete = False
        self.notices: deque[_Notice] = deque(maxlen=_KEPT)
        self.latest: deque[Entry] = deque(maxlen=_KEPT)
        self._at = 0.0
        self._experiment: Experiment | None = Experiment(spec)
        self._promoted: deque[tuple[float, Promotions]] = deque()

    def start_from(self, progress: Progress, experiment: Experiment | None, latest: Sequence[Entry]) -> None:
        """Start from a snapshot and the latest entries before it."""
        self.folded(progress)
        self._experiment = experiment
        self._keep(latest)

    def observe(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._experiment = None if self._experiment is None else follow(self._experiment, entry)
        super().observe(entries)
        self._keep(entries[-_LOOKED_BACK:])

    def _keep(self, entries: Sequence[Entry]) -> None:
        self.latest.extend(filter(_leads_to_something, entries))

    def set_state(self, name: str, *, driven: bool, complete: bool, at: float) -> None:
        """Set what is not in the log: the name, whether a driver is running, and whether all of it was read."""
        self.name, self.is_driven, self.complete = name, driven, complete
        # Before the log has been read to its end, a forecast would be about the past.
        self.progress.search = None if self._experiment is None or not complete else self._experiment.search
        self.forecaster.look(at)

    def just_promoted(self, now: float) -> Promotions:
        """Return how many trials of each rung were promoted in the last 3 s, or since an older last call."""
        promoted = promotions(self.progress.ladder)
        self._promoted.append((now, promoted))
        while len(self._promoted) > 1 and self._promoted[1][0] <= now - _FRESH:
            self._promoted.popleft()
        before = self._promoted[0][1]
        return {place: max(0, count - before[place]) for place, count in promoted.items()}

    def say_warning(self, message: str) -> None:
        self.notices.append(_Notice(self._at, f"warning: {message}", "yellow"))

    def say_news(self, message: str) -> None:
        self.notices.append(_Notice(self._at, message, "bold"))

    def _show(self, entry: Entry) -> None:
        self._at = entry.at
        super()._show(entry)


def _leads_to_something(entry: Entry) -> bool:
    return bool(_worth_showing(entry.decisions)) or not isinstance(
        entry.event, ValidationReported | CheckpointSaved | AttemptStarted | AttemptEnded
    )


def _worth_showing(decisions: Sequence[Decision]) -> list[Decision]:
    return [decision for decision in decisions if not isinstance(decision, DeleteCheckpoint)]


# -- drawing ------------------------------------------------------------------------------------------


def render(
    seen: Watcher, now: float | None, console: Console, *, height: int | None = None, best: int | None = None
) -> RenderableType:
    """Return the display of an experiment that fits a screen, or of any height to be printed once.

    Args:
        seen: state of the experiment.
        now: current time, or None if no driver is running.
        console: console, for its width.
        height: lines of the screen, or None if the display is printed once.
        best: largest number of trials, or None for as many as fit.
    """
    progress, width = seen.progress, console.width
    moved = seen.just_promoted(now or time.time()) if height is not None and seen.complete else None
    title, notices = _title(seen, live=height is not None), list(_notices(seen))
    bar = render_bar(seen.forecaster, now, width)
    ladder = render_ladder(progress.spec, progress.ladder, width=width, moved=moved)
    gap = [Text()] if height is None or height >= _ROOMY else []
    wanted, brief = best or _MOST_BEST, width < NARROW
    if height is None:
        latest = [] if progress.state.ended else _latest(seen, _STILL_LATEST, brief=brief)
        trials = render_trials(progress, wanted, width)
        return Group(*_joined([Group(title, bar), ladder, trials, *_groups(latest, notices)], gap))
    head = Group(title, *notices, bar)
    left = height - sum(len(console.render_lines(part)) for part in (head, ladder)) - 3 * len(gap)
    # If the user asked for a number of trials, they have priority over events.
    kept = left // 3 if best is None else min(_FEWEST_LATEST, left // 3)
    seen_line = progress.describe_seen() is not None
    rows = max(1, min(wanted, left - 1 - seen_line - kept))
    trials = render_trials(progress, rows, width)
    left -= len(console.render_lines(trials))
    return Group(*_joined([head, ladder, trials, Group(*_latest(seen, max(0, left), brief=brief))], gap))


def _groups(*texts: Sequence[Text]) -> Iterator[Group]:
    return (Group(*lines) for lines in texts if lines)


def _joined(parts: Sequence[RenderableType], gap: Sequence[RenderableType]) -> Iterator[RenderableType]:
    for place, part in enumerate(parts):
        if place:
            yield from gap
        yield part


def _title(seen: Watcher, *, live: bool) -> Table:
    state = "interrupted" if _is_interrupted(seen) else str(seen.progress.state)
    style = {"running": "green bold", "interrupted": "red bold", "errored": "red bold"}.get(state, "bold")
    title = Text.assemble((f"experiment {seen.id}", "bold"), "  ", (state, style), f"  {on_one_line(seen.name)}")
    row = Table.grid(expand=live)
    row.add_column(no_wrap=True, overflow="ellipsis", ratio=1 if live else None)
    row.add_column(no_wrap=True, justify="right")
    row.add_row(title, Text("q: leave" if live else "", style="dim"))
    return row


def _is_interrupted(seen: Watcher) -> bool:
    return seen.complete and seen.progress.state.active and not seen.is_driven


def _notices(seen: Watcher) -> Iterator[Text]:
    """Yield lines about the state that need attention, and what to do."""
    for line in _matters(seen):
        yield Text(on_one_line(line[:_LONGEST]), style="yellow")


def _matters(seen: Watcher) -> Iterator[str]:
    progress = seen.progress
    if not seen.complete:
        yield "reading the event log …"
    elif _is_interrupted(seen):
        yield "The driver process has stopped. No recorded results are lost."
        yield from how_to_resume(seen.id, None)
    elif progress.state is ExperimentState.CREATED:
        if not seen.is_driven:
            yield f"Not started yet. To start: ashwood resume {seen.id}"
    elif not progress.state.active:
        yield from how_it_ended(seen.id, progress)
        yield from what_next(seen.id, progress)
    elif progress.leaving is not None:
        yield leaving(
            ExperimentState.PAUSED if progress.state is ExperimentState.PAUSING else progress.state,
            progress.leaving.why,
        )
        if trials := progress.waits_for:
            yield f"waiting for {named_trials(trials)} to finish a step and save"
    elif not progress.trials.spending.slots:
        yield "waiting for workers"


def _latest(seen: Watcher, lines: int, *, brief: bool) -> list[Text]:
    """Return the latest notices, then the latest events, each with the newest at the bottom."""
    most = min(_MOST_NEWS, lines // 2)
    news = list(seen.notices)[-most:] if most else []
    rest = lines - len(news)
    events = list(seen.latest)[-rest:] if rest else []
    notices = [_line(at, message, style) for at, message, style in news]
    return [*notices, *(_line(entry.at, _summary(entry, seen.spec, brief=brief), "dim") for entry in events)]


def _summary(entry: Entry, spec: ExperimentSpec, *, brief: bool) -> str:
    """Return the event and the decisions of an entry; if ``brief``, only the decisions unless there are none."""
    worth_showing = _worth_showing(entry.decisions)
    more = len(worth_showing) - _MOST_DECISIONS
    decided = describe_decisions(worth_showing[:_MOST_DECISIONS], spec.unit)
    decided += f"; and {more} more" if more > 0 else ""
    if brief and decided:
        return decided
    event = entry.event
    if isinstance(event, ValidationReported) and spec.metric in event.metrics:
        event = event._replace(metrics={spec.metric: event.metrics[spec.metric]})
    happened = describe_event(event, spec.unit)
    return f"{happened} → {decided}" if decided else happened


def _line(at: float, message: str, style: str) -> Text:
    text = f"{clock_time(at)}  {on_one_line(message.partition(chr(10))[0][:_LONGEST])}"
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
