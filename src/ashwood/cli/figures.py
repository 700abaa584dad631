"""``ashwood report``, ``timeline`` and ``animate``: files with figures of a search."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ashwood.api.report import write_report
from ashwood.backends.simulated import SimulatedBackend
from ashwood.cli.where import output_path
from ashwood.engine import open_home
from ashwood.engine.simulate import simulate
from ashwood.errors import AshwoodError
from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.sizes import format_size
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, Unit
from ashwood.figures import Figures
from ashwood.figures.animation import animate
from ashwood.figures.playback import Part, Playback
from ashwood.forecast.costs import Costs
from ashwood.forecast.training import PowerLaw
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Double, Space
from ashwood.terminal.output import tell, writing, wrote_or_replaced
from ashwood.terminal.text import say
from ashwood.views.progress import Progress
from ashwood.views.wording import format_length

_DIVISOR = 3
_MAX_LENGTH = 27
_TRAINING = PowerLaw(max_length=_MAX_LENGTH, base=_DIVISOR, unit_seconds=60.0, spread=1.3)
# As in the simulations of Li et al. 2020 (arXiv:1810.05934), appendix A.1.
_COSTS = Costs(straggling=0.8)

TYPICAL_SEED = 87
"""Seed below 100 whose search is nearest to the medians of idle time and of the ends of the first and last trial."""


def report_experiment(home: str | None, experiment: int, out: Path | None, *, opens: bool, json: bool) -> None:
    """Write a report in the format of the file's suffix, print its size, and open it if ``opens``."""
    out = output_path(home, experiment, out, ".html")
    wrote = wrote_or_replaced(out)
    with open_home(home) as opened:
        write_report(opened, experiment, out)
    size = out.stat().st_size
    tell(f"{wrote} {out} ({format_size(size)}).", json=json, path=str(out), size=size)
    if opens and not webbrowser.open(out.resolve().as_uri()):
        say(f"No browser was found to open {out}.", err=True)


def write_timeline(home: str | None, experiment: int, out: Path | None, *, json: bool) -> None:
    """Write a self-contained page, which needs no network."""
    out = output_path(home, experiment, out, "-timeline.html")
    wrote = wrote_or_replaced(out)
    if out.suffix.lower() != ".html":
        raise AshwoodError(f"--out {out}: the file must end in .html; the page has a button that saves a picture")
    with open_home(home) as opened:
        log = opened.store.log(experiment)
        figure = Figures(opened.store.spec(experiment), lambda: (entry for _, entry in log.read())).timeline()
    with writing(out):
        config = {"displaylogo": False, "showSendToCloud": False}
        figure.write_html(out, include_plotlyjs=True, div_id="timeline", config=config)
    tell(f"{wrote} {out}.", json=json, path=str(out), size=out.stat().st_size)


def animate_experiment(
    home: str | None, experiment: int, out: Path | None, *, seconds: float, fps: int, json: bool
) -> None:
    """Write an animation of a recorded experiment."""
    out = output_path(home, experiment, out, ".gif")
    with open_home(home) as opened:
        spec = opened.store.spec(experiment)
        progress = fold(Progress(spec), (entry for _, entry in opened.store.log(experiment).read()))
    better = "smaller" if spec.smaller_is_better else "larger"
    trials = format_length(len(progress.trials.rows), "trials")
    what = f"{spec.search.method} on {spec.metric} ({better} is better), {trials}"
    _write([Part(Playback(progress), spec.name, what)], out, f"experiment {experiment}", seconds, fps, json=json)


def animate_halving(
    out: Path | None, *, workers: int, trials: int, seed: int, seconds: float, fps: int, json: bool
) -> None:
    """Write an animation of simulated synchronous and asynchronous halving, with the same trials and workers."""
    parts = [
        Part(
            Playback(simulated(Method.SYNC_HALVING, workers, trials, seed)),
            "Synchronous halving",
            "Each rung waits for the slowest trial of the rung below.",
        ),
        Part(
            Playback(simulated(Method.ASYNC_HALVING, workers, trials, seed)),
            "Asynchronous halving (ASHA)",
            "No worker waits: the best trials so far are promoted at once.",
        ),
    ]
    headline = (
        f"The same {format_length(trials, 'trials')} on {format_length(workers, 'workers')}: "
        "the best third of each rung are promoted"
    )
    _write(parts, out or Path("asha.gif"), headline, seconds, fps, json=json)


def _write(parts: list[Part], out: Path, headline: str, seconds: float, fps: int, *, json: bool) -> None:
    wrote = wrote_or_replaced(out)
    frames = animate(parts, out, headline=headline, seconds=seconds, fps=fps)
    size = out.stat().st_size
    text = f"{wrote} {out} ({format_length(frames, 'frames')}, {size / 1e6:.1f} MB)."
    tell(text, json=json, path=str(out), size=size, frames=frames)


def simulated(method: Method, workers: int, trials: int, seed: int) -> Progress:
    """Return the progress of a search in virtual time; the trials depend only on the seed, not on the method."""
    spec = replace(_SPEC, search=replace(_SPEC.search, method=method, max_trials=trials), seed=seed)
    progress = Progress(spec)

    def observe(entries: Sequence[Entry]) -> None:
        fold(progress, entries)

    simulate(Experiment(spec), SimulatedBackend(spec, _TRAINING, workers, costs=_COSTS), observers=[observe])
    return progress


_SPEC = ExperimentSpec(
    name="simulated",
    space=Space({"x": Double(0.0, 1.0)}),
    search=SearchSettings(
        method=Method.ASYNC_HALVING,
        max_length=_MAX_LENGTH,
        max_trials=1,
        max_concurrent_trials=0,
        divisor=Fraction(_DIVISOR),
    ),
    metric="loss",
    unit=Unit.EPOCHS,
    entrypoint=Entrypoint(EntrypointKind.FUNCTION, "simulated:train"),
    workdir="",
    seed=0,
)
