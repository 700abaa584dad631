"""Homes with simulated experiments for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ashwood.eventlog.home import Home, open_home
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.events import Request
from ashwood.experiment.spec import ExperimentSpec
from ashwood.forecast.time_left import Forecaster
from ashwood.search.settings import SearchSettings
from ashwood.search.space import Categorical, Double, Log, Space
from ashwood.search.vocabulary import TrialId
from ashwood.views.progress import Progress
from tests.views.simulate import Workers, asha, power_law, spec_of

NASTY = "<b>&amp;</b><script>alert(1)</script><img src=x onerror=alert(2)>"
"""A text that users may enter anywhere."""


def nasty_spec(settings: SearchSettings, name: str = f"nasty {NASTY}") -> ExperimentSpec:
    """An experiment with a script tag in every text that its user supplies."""
    space = Space(
        {
            "lr": Log(-4.0, 0.0, base=10.0, count=1),
            f"h{NASTY}": Double(0.0, 1.0, count=1),
            "kind": Categorical((f"a{NASTY}", "b")),
        }
    )
    return replace(
        spec_of(settings),
        name=name,
        space=space,
        labels=("nice", f"l{NASTY}"),
        description=f"d{NASTY}",
        config_text=f"name: {name}  # {NASTY}\n",
    )


def ran(
    trials: int = 20, *, spec: ExperimentSpec | None = None, stop_after: int | None = None, crash: bool = False
) -> Workers:
    """Return workers that have trained in virtual time, with failures."""
    workers = Workers(
        nasty_spec(asha(trials)) if spec is None else spec,
        power_law(3),
        faults=(0.01, 0.002, 0.002),
        period=1,
    )
    workers.run(stop_after=stop_after, crash=crash)
    return workers


def add(home: Home, workers: Workers, *, until: int | None = None) -> ExperimentId:
    """Create an experiment with the entries of simulated workers, or the first ones of them."""
    spec = workers.experiment.spec
    experiment = home.store.create(spec, at=1_000.0)
    append(home, experiment, spec, workers.entries[:until])
    return experiment


def append(
    home: Home,
    experiment: ExperimentId,
    spec: ExperimentSpec,
    entries: Sequence[Entry],
    before: Sequence[Entry] = (),
) -> None:
    """Append entries, with the summary that a driver would write."""
    progress = fold(Progress(spec), (*before, *entries))
    summary = Forecaster(progress).summary(entries[-1].at if entries else None)
    home.store.log(experiment).append(entries, summary=summary)


def a_home(path: Path) -> Path:
    """A home with an experiment that ended, one that should be running, and one that hasn't begun."""
    with open_home(path, create=True) as home:
        whole = ran()
        add(home, whole)
        add(home, whole, until=len(whole.entries) // 2)
        home.store.create(spec_of(asha(8)), at=2_000.0)
    return path


class Steered:
    """Steering that records all requests."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def ask(self, experiment: ExperimentId, request: Request) -> None:
        self.asked.append((experiment, request))

    def activate(self, experiment: ExperimentId) -> None:
        self.asked.append((experiment, "activate"))

    def fork(self, experiment: ExperimentId, text: str) -> ExperimentId:
        self.asked.append((experiment, "fork", text))
        return experiment

    def write_note(self, experiment: ExperimentId, trial: TrialId | None, text: str) -> None:
        self.asked.append((experiment, trial, text))

    def delete(self, experiment: ExperimentId) -> None:
        self.asked.append((experiment, "delete"))

    def annotate(
        self,
        experiment: ExperimentId,
        *,
        name: str | None = None,
        labels: list[str] | None = None,
        archived: bool | None = None,
    ) -> None:
        self.asked.append((experiment, name, labels, archived))
