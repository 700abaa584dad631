"""The live display of `ashwood run` on a terminal."""

from __future__ import annotations

import time
from functools import partial
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ashwood.cli.ladder import render_ladder
from ashwood.cli.picture import render_bar, render_best
from ashwood.cli.progress import Reporter, closing, interruption, named_trials, opening
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.spec import ExperimentSpec
from ashwood.forecast.time_left import Forecaster
from ashwood.views.progress import Progress

_FRAMES_A_SECOND = 4
WIDE = 120


class LiveReporter(Reporter):
    """A reporter that redraws the state of the experiment a few times per second."""

    def __init__(self, experiment: ExperimentId, spec: ExperimentSpec, console: Console) -> None:
        super().__init__(experiment, spec)
        console.file = self.writer.out
        self._console = console
        self._live = Live(
            console=console, get_renderable=self._render, refresh_per_second=_FRAMES_A_SECOND, transient=True
        )

    def started(self, slots: int) -> None:
        self._print(opening(self.id, self.progress, slots))
        self.writer.call(self._live.start)

    def interrupted(self, count: int) -> None:
        self._print(interruption(count), style="yellow")

    def say_warning(self, message: str) -> None:
        self._print(f"warning: {message}", style="yellow")

    def say_news(self, message: str) -> None:
        self._print(message, style="bold")

    def ended(self) -> None:
        self._print(render_ladder(self.spec, self.progress.ladder, width=self._console.width))
        self._print(closing(self.id, self.progress))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.call(self._live.stop)
        super().__exit__(kind, error, trace)

    def _print(self, what: RenderableType, style: str | None = None) -> None:
        self.writer.call(partial(self._console.print, what, style=style, markup=False))

    def _render(self) -> RenderableType:
        with self._lock:
            return render_progress(self.forecaster, time.time(), self._console.width)


def render_progress(forecaster: Forecaster, now: float, width: int = WIDE) -> RenderableType:
    """Return the whole display: progress, rungs and the best trial so far."""
    progress = forecaster.progress
    return Group(
        Text(),
        render_bar(forecaster, now, width),
        *_render_waits(progress),
        Text(),
        render_ladder(progress.spec, progress.ladder, width=width),
        Text(),
        render_best(progress),
    )


def _render_waits(progress: Progress) -> list[Text]:
    if not (trials := progress.waits_for):
        return []
    return [Text(f"{progress.state}: waiting for {named_trials(trials)} to finish a step and save", style="yellow")]
