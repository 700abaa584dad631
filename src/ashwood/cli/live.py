"""The live display of `ashwood run` on a terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ashwood.cli.ladder import render_ladder
from ashwood.cli.output import flatten, format_capacity, format_duration, format_length, format_value
from ashwood.cli.progress import Reporter, closing, interruption, opening, to_go
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.views.progress import Progress

_FRAMES_A_SECOND = 4


class LiveReporter(Reporter):
    """Redraws one screenful a few times a second."""

    def __init__(self, experiment: ExperimentId, spec: ExperimentSpec, console: Console) -> None:
        super().__init__(experiment, spec)
        self._console = console
        self._live = Live(
            console=console, get_renderable=self._render, refresh_per_second=_FRAMES_A_SECOND, transient=True
        )

    def started(self, slots: int) -> None:
        self._console.print(opening(self.id, self.progress, slots), markup=False)
        self._live.start(refresh=False)

    def interrupted(self, count: int) -> None:
        self._console.print(interruption(count), style="yellow", markup=False)

    def say_warning(self, message: str) -> None:
        self._console.print(f"warning: {message}", style="yellow", markup=False)

    def say_news(self, message: str) -> None:
        self._console.print(message, style="bold", markup=False)

    def ended(self) -> None:
        with self._lock:
            self._console.print(render_ladder(self.spec, self.progress.ladder))
            self._console.print(closing(self.id, self.progress), markup=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        super().__exit__(kind, error, trace)

    def _render(self) -> RenderableType:
        with self._lock:
            return render_progress(self.progress, time.time())


def render_progress(progress: Progress, now: float) -> RenderableType:
    """The whole display: how far, who is where, the best so far."""
    return Group(
        Text(), _bar(progress, now), Text(), render_ladder(progress.spec, progress.ladder), Text(), _best(progress)
    )


def _bar(progress: Progress, now: float) -> Table:
    forecast = progress.forecast(now)
    states = progress.trials.states
    started = min((row.created_at for row in progress.trials.rows.values()), default=now)
    bar = ProgressBar(total=1.0, completed=forecast.fraction, width=30)
    failed = states[TrialState.ERRORED]
    facts = Text.assemble(
        (f" {forecast.fraction:4.0%}", "bold"),
        f"  {format_duration(now - started)}, {to_go(forecast)}",
        f"  ·  {states.total()} trials, {progress.reports} reports",
        f"  ·  {_workers(progress)} {progress.utilisation(now):.0%} busy",
        (f"  ·  {failed} failed", "red") if failed else "",
    )
    row = Table.grid(padding=(0, 1))
    row.add_row(bar, facts)
    return row


def _workers(progress: Progress) -> str:
    spending = progress.trials.spending
    return format_capacity(spending.slots, len(spending.nodes), "") if spending.nodes else "workers"


def _best(progress: Progress) -> Text:
    best, spec = progress.best, progress.spec
    if best is None:
        return Text(f"best: no trial has reported {spec.metric} yet", style="dim")
    hparams = flatten(progress.trials.rows[best.trial].hparams)
    return Text.assemble(
        "best: ",
        (f"{spec.metric} {format_value(best.metric)}", "green bold"),
        f" at {format_length(best.length, spec.unit)}, trial {best.trial}\n",
        ("  ".join(f"{name}={format_value(value)}" for name, value in hparams.items()), "dim"),
    )
