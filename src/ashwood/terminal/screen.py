"""The display of an experiment on a terminal: one model, and one way to draw it.

`ashwood run` feeds the model from its driver (`ashwood.terminal.live`), `ashwood watch` from the event log
(`ashwood.terminal.watch`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.decisions import Decision
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import AttemptEnded, AttemptStarted, CheckpointSaved, ValidationReported
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.forecast.time_left import Forecaster
from ashwood.search.settings import NO_LENGTH
from ashwood.search.space import ABSENT, Const
from ashwood.search.trust import Level
from ashwood.terminal.ladder import Promotions, promotions, render_ladder
from ashwood.terminal.messages import (
    clock_time,
    how_it_ended,
    how_to_resume,
    leaving,
    time_left,
    waiting_for,
    what_next,
)
from ashwood.terminal.reporter import Reporter
from ashwood.terminal.text import brief, on_one_line
from ashwood.views.descriptions import describe_event, is_routine
from ashwood.views.event_groups import group_decisions
from ashwood.views.progress import Progress
from ashwood.views.table import flatten
from ashwood.views.trials import TrialRow
from ashwood.views.trust import TrustReading
from ashwood.views.wording import format_capacity, format_duration, format_length, format_setting, format_value

_FRESH = 3.0
"""Seconds for which a promotion is highlighted."""
_KEPT = 50
LOOKED_BACK = 10 * _KEPT
"""Number of entries among which the latest ones that are shown are found."""
_MOST_TRIALS = 10
_MOST_INLINE_TRIALS = 5
_MOST_NEWS = 3
_MOST_DECISIONS = 5
"""Groups of decisions of an entry that are shown."""
_FEWEST_LATEST = 2
_PRINTED_LATEST = 5
_LONGEST = 500
"""Characters of a message that are processed: an error can be very long."""
_ROOMY = 22
"""Height of a terminal from which on there are empty lines between the parts."""
TRUST_PATIENCE = 200
"""The trust meter is not read again for this multiple of the time that reading it took."""
_BAR_WIDTH = 30
_NARROW_BAR_WIDTH = 12
_GAP = 2
_LONGEST_CELL = 40
_NARROW = 100
"""Columns of a terminal below which optional words are left out."""

Mode = Literal["full", "inline", "printed"]
"""Whole terminal, a part below other output, or printed once with any height."""


class Notice(NamedTuple):
    """A message of a reporter, with its time."""

    at: float
    message: str
    style: str


class Screen(Reporter):
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
        self.name = spec.name
        self.is_driven = self.complete = True
        self.notices: deque[Notice] = deque(maxlen=_KEPT)
        self.latest: deque[Entry] = deque(maxlen=_KEPT)
        self._at = 0.0
        self._promoted: deque[tuple[float, Promotions]] = deque()
        self._trust: TrustReading | None = None
        self._trust_due = 0.0

    @property
    def is_interrupted(self) -> bool:
        """Whether the experiment should run, but its driver has died."""
        return self.complete and self.progress.state.active and not self.is_driven

    def observe(self, entries: Sequence[Entry]) -> None:
        super().observe(entries)
        self.keep(entries[-LOOKED_BACK:])

    def keep(self, entries: Sequence[Entry]) -> None:
        """Keep the latest entries that are worth showing."""
        self.latest.extend(filter(_leads_to_something, entries))

    def write(self, message: str, style: str = "", *, err: bool = False) -> None:  # noqa: ARG002 one screen shows both
        self.notices.append(Notice(self._at, message, style))

    def just_promoted(self, now: float) -> Promotions:
        """Return how many trials of each rung were promoted in the last 3 s, or since an older last call."""
        promoted = promotions(self.progress.ladder)
        self._promoted.append((now, promoted))
        while len(self._promoted) > 1 and self._promoted[1][0] <= now - _FRESH:
            self._promoted.popleft()
        before = self._promoted[0][1]
        return {rung: max(0, count - before[rung]) for rung, count in promoted.items()}

    def trust(self) -> TrustReading | None:
        """Return the latest reading of the trust meter, or None; computing it takes at most 0.5 % of the time."""
        began = time.monotonic()
        if self.complete and began >= self._trust_due:
            self._trust = self.progress.trust.reading()
            self._trust_due = time.monotonic() + TRUST_PATIENCE * (time.monotonic() - began)
        return self._trust

    def _show(self, entry: Entry) -> None:
        self._at = entry.at
        super()._show(entry)


def _leads_to_something(entry: Entry) -> bool:
    return bool(_worth_showing(entry.decisions)) or not isinstance(
        entry.event, ValidationReported | CheckpointSaved | AttemptStarted | AttemptEnded
    )


def _worth_showing(decisions: Sequence[Decision]) -> list[Decision]:
    return [decision for decision in decisions if not is_routine(decision)]


def render(
    screen: Screen, now: float | None, console: Console, mode: Mode = "full", *, best: int | None = None
) -> RenderableType:
    """Return the display of an experiment; except if it is printed once, it fits the height of the console.

    Args:
        screen: state of the experiment.
        now: current time, or None if no driver is running.
        console: console, for its size.
        mode: how the display is used.
        best: largest number of trials, or None for as many as fit.
    """
    progress, width, height = screen.progress, console.width, console.height
    moved = None if mode == "printed" or not screen.complete else screen.just_promoted(now or time.time())
    notices, bar = list(_notices(screen, mode)), _render_bar(screen.forecaster, now, width)
    ladder: RenderableType = render_ladder(progress.spec, progress.ladder, width=width, moved=moved)
    if (reading := screen.trust()) is not None and progress.reports:
        ladder = Group(ladder, _render_trust(reading, mode))
    gap = [Text()] if mode == "printed" or height >= _ROOMY else []
    narrow = width < _NARROW
    if mode == "printed":
        latest = [] if progress.state.ended else _latest(screen, _PRINTED_LATEST, narrow=narrow)
        head, trials = Group(_title(screen, mode), bar), render_trials(progress, best or _MOST_TRIALS, width)
        return Group(*_joined([head, ladder, trials, *(Group(*part) for part in (latest, notices) if part)], gap))
    head = Group(bar, *notices) if mode == "inline" else Group(_title(screen, mode), *notices, bar)
    left = height - sum(len(console.render_lines(part)) for part in (head, ladder)) - 3 * len(gap)
    # If the user asked for a number of trials, they have priority over events.
    kept = 0 if mode == "inline" else left // 3 if best is None else min(_FEWEST_LATEST, left // 3)
    has_seen_line = progress.describe_seen() is not None
    most = best or (_MOST_INLINE_TRIALS if mode == "inline" else _MOST_TRIALS)
    trials = render_trials(progress, max(1, min(most, left - 1 - has_seen_line - kept)), width)
    if mode == "inline":
        return Group(*gap, *_joined([head, ladder, trials], gap))
    left -= len(console.render_lines(trials))
    return Group(*_joined([head, ladder, trials, Group(*_latest(screen, max(0, left), narrow=narrow))], gap))


def _joined(parts: Sequence[RenderableType], gap: Sequence[RenderableType]) -> Iterator[RenderableType]:
    for position, part in enumerate(parts):
        yield from gap if position else ()
        yield part


def _title(screen: Screen, mode: Mode) -> Table:
    state, live = "interrupted" if screen.is_interrupted else str(screen.progress.state), mode == "full"
    style = {"running": "green bold", "interrupted": "red bold", "errored": "red bold"}.get(state, "bold")
    title = Text.assemble((f"experiment {screen.id}", "bold"), "  ", (state, style), f"  {on_one_line(screen.name)}")
    row = Table.grid(expand=live)
    row.add_column(no_wrap=True, overflow="ellipsis", ratio=1 if live else None)
    row.add_column(no_wrap=True, justify="right")
    row.add_row(title, Text("q: leave" if live else "", style="dim"))
    return row


def _notices(screen: Screen, mode: Mode) -> Iterator[Text]:
    """Yield lines about the state that need attention, and what to do."""
    if mode == "inline" and not screen.progress.state.active:
        return  # The reporter prints how the run ended.
    for line in _matters(screen):
        yield Text(on_one_line(line[:_LONGEST]), style="yellow")


def _matters(screen: Screen) -> Iterator[str]:
    progress = screen.progress
    if not screen.complete:
        yield "reading the event log …"
    elif screen.is_interrupted:
        yield "The driver process has stopped. No recorded results are lost."
        yield from how_to_resume(screen.id, None)
    elif progress.state is ExperimentState.CREATED:
        if not screen.is_driven:
            yield f"Not started yet. To start: ashwood resume {screen.id}"
    elif not progress.state.active:
        yield from how_it_ended(screen.id, progress)
        yield from what_next(screen.id, progress)
    elif progress.leaving is not None:
        yield leaving(
            ExperimentState.PAUSED if progress.state is ExperimentState.PAUSING else progress.state,
            progress.leaving.why,
        )
        if trials := progress.waits_for:
            yield waiting_for(trials)
    elif not progress.trials.spending.slots:
        yield "waiting for workers"


def _latest(screen: Screen, lines: int, *, narrow: bool) -> list[Text]:
    """Return the latest notices, then the latest events, each with the newest at the bottom."""
    most = min(_MOST_NEWS, lines // 2)
    news = list(screen.notices)[-most:] if most else []
    rest = lines - len(news)
    events = list(screen.latest)[-rest:] if rest else []
    notices = [_line(at, message, style) for at, message, style in news]
    return [*notices, *(_line(entry.at, _summary(entry, screen.spec, narrow=narrow), "dim") for entry in events)]


def _summary(entry: Entry, spec: ExperimentSpec, *, narrow: bool) -> str:
    """Return the event and the decisions of an entry; if ``narrow``, only the decisions unless there are none."""
    groups = group_decisions(_worth_showing(entry.decisions), spec.unit)
    more = sum(len(group.decisions) for group in groups[_MOST_DECISIONS:])
    decided = "; ".join(group.text for group in groups[:_MOST_DECISIONS])
    decided += f"; and {more} more" if more > 0 else ""
    if narrow and decided:
        return decided
    event = entry.event
    if isinstance(event, ValidationReported) and spec.metric in event.metrics:
        event = event._replace(metrics={spec.metric: event.metrics[spec.metric]})
    happened = describe_event(event, spec.unit)
    return f"{happened} → {decided}" if decided else happened


def _line(at: float, message: str, style: str) -> Text:
    text = f"{clock_time(at)}  {on_one_line(message.partition(chr(10))[0][:_LONGEST])}"
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _render_bar(forecaster: Forecaster, now: float | None, width: int) -> RenderableType:
    """Return the progress of an experiment, on one line if it fits; ``now`` is None if no driver is running."""
    progress, forecast = forecaster.progress, forecaster.forecast(now)
    states = progress.trials.states
    spending = progress.trials.spending
    runs = now is not None and progress.state.active
    driven = spending.driver_seconds if now is None else spending.driven(now)
    left = f", {time_left(forecast)}" if runs and progress.state is ExperimentState.RUNNING else ""
    time = Text.assemble((f"{forecast.fraction:4.0%}", "bold"), f"  {format_duration(driven)}{left}")
    failed = states[TrialState.ERRORED]
    facts = Text("  ·  ").join(
        [
            Text(f"{progress.describe_created()}, {format_length(progress.reports, 'reports')}"),
            *([Text(f"{failed} failed", style="red")] if failed else []),
            Text(_workers(progress, now) if runs else f"workers were {progress.utilisation():.0%} busy"),
        ]
    )
    fits = _BAR_WIDTH + time.cell_len + facts.cell_len + 8 <= width
    roomy = _BAR_WIDTH + time.cell_len + 2 <= width
    bar = ProgressBar(total=1.0, completed=forecast.fraction, width=_BAR_WIDTH if roomy else _NARROW_BAR_WIDTH)
    row = Table.grid(padding=(0, 1))
    if fits:
        row.add_row(bar, Text.assemble(time, "  ·  ", facts))
        return row
    time.no_wrap, time.overflow = True, "ellipsis"
    row.add_row(bar, time)
    facts.no_wrap, facts.overflow = True, "ellipsis"
    return Group(row, facts)


def _render_trust(reading: TrustReading, mode: Mode) -> Text:
    style = {Level.TRUSTWORTHY: "green", Level.TOO_EARLY: "dim"}.get(reading.level, "yellow")
    return Text(reading.sentence, style=style, no_wrap=mode != "printed", overflow="ellipsis")


def _workers(progress: Progress, now: float | None) -> str:
    spending = progress.trials.spending
    there = format_capacity(spending.slots, len(spending.nodes), "")
    return f"{len(spending.live)} of {there} busy, {progress.utilisation(now):.0%} so far"


def render_trials(progress: Progress, n: int, width: int) -> RenderableType:
    """Return the best ``n`` trials, one line each, with their state and as many hyperparameters as fit.

    If a better metric was reported than the best result, one more line shows it.
    """
    spec = progress.spec
    rows = progress.best_trials(n)
    if not rows:
        none = (
            "no trial yet"
            if not progress.trials.rows
            else f"no trial has reported {brief(spec.metric, _LONGEST_CELL)} yet"
        )
        return Text(none, style="dim", no_wrap=True, overflow="ellipsis")
    columns = [
        ("trial", [str(row.id) for row in rows]),
        (brief(f"best {spec.metric}", _LONGEST_CELL), [format_value(row.metric) for row in rows]),
        ("state", [_state(row, progress, brief=width < _NARROW) for row in rows]),
        *_hparams(rows, progress),
    ]
    shown = _those_that_fit(columns, width)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for position, (name, values) in enumerate(shown):
        right = all(_is_number(value) for value in values)
        style = "green bold" if position == 1 else "dim" if position > 2 else ""
        table.add_column(name, justify="right" if right else "left", style=style, no_wrap=True, overflow="ellipsis")
    if more := len(columns) - len(shown):
        table.columns[-1].header = f"{shown[-1][0]}  … {more} more"
    for position in range(len(rows)):
        table.add_row(*(Text(values[position]) for _, values in shown))
    if (seen := progress.describe_seen()) is None:
        return table
    return Group(table, Text(seen, style="dim", no_wrap=True, overflow="ellipsis"))


def _hparams(rows: Sequence[TrialRow], progress: Progress) -> list[tuple[str, list[str]]]:
    """Return one column per hyperparameter that is not constant."""
    fixed = {".".join(path) for path, leaf in progress.spec.space.leaves() if isinstance(leaf, Const)}
    flat = [flatten(row.hparams) for row in rows]
    names = [
        name
        for name in dict.fromkeys(name for each in flat for name in each)
        if not any(name == path or name.startswith(f"{path}.") for path in fixed)
    ]
    return [
        (brief(name, _LONGEST_CELL), [brief(format_setting(each.get(name, ABSENT)), _LONGEST_CELL) for each in flat])
        for name in names
    ]


def _those_that_fit(columns: Sequence[tuple[str, list[str]]], width: int) -> Sequence[tuple[str, list[str]]]:
    """Return the first columns that fit, with room for the number of those that are left out; at least three."""
    taken = 0
    for count, (name, values) in enumerate(columns):
        more = len(f"  … {len(columns) - count - 1} more") if count + 1 < len(columns) else 0
        needed = max(max(map(_cells, values)), _cells(name) + more)
        if count >= 3 and taken + needed > width:
            return columns[:count]
        taken += max(_cells(name), *map(_cells, values)) + _GAP
    return columns


def _cells(text: str) -> int:
    return Text(text).cell_len


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == "–"
    return True


def _state(row: TrialRow, progress: Progress, *, brief: bool) -> str:
    bracket = f" #{row.bracket}" if brief else f", bracket {row.bracket}"
    if row.original is not None:
        bracket = f", replicate of trial {row.original}"
    bracket = bracket if len(progress.ladder.brackets) > 1 else ""
    length, target = (
        str(each) if brief and each != NO_LENGTH else format_length(each, progress.spec.unit)
        for each in (row.length, row.target)
    )
    match row.state:
        case _ if row.has_job:
            verb = "training" if row.id in progress.trials.spending.live else "waiting to train"
            return f"{verb} to {target}{bracket}"
        case TrialState.PAUSED:
            return f"paused at {length}{bracket}"
        case TrialState.COMPLETED:
            return f"completed{bracket}"
    return f"{row.state} at {length}{bracket}"
