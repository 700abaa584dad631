"""Runs whole experiments in virtual time, with the same engine and search as real ones."""

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
        experiment: the experiment, new or in the state at the end of ``log``.
        backend: simulated workers and the model of what they train.
        log: event log to record to; by default, nothing is recorded.
        observers: called with new entries of the event log.
        watch: called once with the engine before it runs, so that a caller can pause it.

    Returns:
        The same experiment in its final state.
    """
    engine = Engine(experiment, log or NullLog(), backend, observers=observers, clock=backend.clock)
    watch(engine)
    with no_collector():
        engine.run()
    return experiment
