"""The display of `ashwood run` on a terminal."""

from __future__ import annotations

import time
from functools import partial
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live

from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.spec import ExperimentSpec
from ashwood.terminal.ladder import render_ladder
from ashwood.terminal.output import make_console
from ashwood.terminal.reporter import JsonReporter, PlainReporter, Reporter
from ashwood.terminal.screen import Screen, render

_FRAMES_A_SECOND = 4


def make_reporter(experiment: ExperimentId, spec: ExperimentSpec, *, json: bool = False) -> Reporter:
    """Return a reporter of JSON, or of text: a live display on a terminal and plain lines otherwise."""
    if json:
        return JsonReporter(experiment, spec)
    console = make_console()
    return LiveReporter(experiment, spec, console) if console.is_terminal else PlainReporter(experiment, spec)


class LiveReporter(Screen):
    """A reporter that prints messages and redraws the state of the experiment below them a few times per second."""

    def __init__(self, experiment: ExperimentId, spec: ExperimentSpec, console: Console) -> None:
        super().__init__(experiment, spec)
        console.file = self.writer.out
        self._console = console
        self._live = Live(
            console=console, get_renderable=self._render, refresh_per_second=_FRAMES_A_SECOND, transient=True
        )

    def ready(self, slots: int) -> None:
        super().ready(slots)
        self.writer.call(self._live.start)

    def write(self, message: RenderableType, style: str = "", *, err: bool = False) -> None:  # noqa: ARG002 one screen
        self.writer.call(partial(self._console.print, message, style=style, markup=False))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.call(self._live.stop)
        if error is None:
            self.write(render_ladder(self.spec, self.progress.ladder, width=self._console.width))
        super().__exit__(kind, error, trace)

    def _render(self) -> RenderableType:
        with self._lock:
            return render(self, time.time(), self._console, "inline")
