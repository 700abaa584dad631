"""Whole experiments in virtual time: the engine, the experiment and the search are the real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ashwood.backends.simulated import SimulatedBackend
from ashwood.engine.loop import Engine
from ashwood.engine.recorder import Observer
from ashwood.eventlog.collector import no_collector
from ashwood.eventlog.null_log import NullLog
from ashwood.eventlog.port import EventLog
from ashwood.experiment.experiment import Experiment


def simulate(
    experiment: Experiment,
    backend: SimulatedBackend,
    *,
    log: EventLog | None = None,
    observers: Sequence[Observer] = (),
    watch: Callable[[Engine], None] = lambda _: None,
) -> Experiment:
    """Run an experiment to its end on a simulated backend.

    Args:
        experiment: fresh, or as its log left it.
        backend: the workers and what they train.
        log: where to record; None: nowhere.
        observers: called with the entries of each turn.
        watch: called once with the engine, before it runs, for whoever wants to pause it.
    """
    engine = Engine(experiment, log or NullLog(), backend, observers=observers, clock=backend.clock)
    watch(engine)
    with no_collector():
        engine.run()
    return experiment
