"""Strategies for event streams of any kind, for property tests."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import strategies as st

from ashwood.experiment.spec import CheckpointPolicy, ExperimentSpec
from ashwood.search.draw import bits
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.testing.search_method import AUDITS
from tests.views.simulate import Curve, Workers, power_law, spec_of

NAN, INF = float("nan"), float("inf")
POLICIES = (
    None,
    CheckpointPolicy(),
    CheckpointPolicy(save_experiment_best=1, save_trial_best=0, save_trial_latest=0),
    CheckpointPolicy(save_trial_best=0),
    CheckpointPolicy(save_trial_best=0, save_trial_latest=0),
    CheckpointPolicy(save_trial_best=2, save_trial_latest=2),
)


def telling(seed: int) -> Curve:
    """Return metrics from a small set, so that equal and bad values are frequent."""
    values = (NAN, INF, -INF, 0.0, 1.0, 2.0)
    return lambda trial, length: values[bits(seed, trial, length) % len(values)]


@st.composite
def settings(draw: st.DrawFn) -> SearchSettings:
    method = draw(st.sampled_from(Method))
    drawn = SearchSettings(
        method=method,
        max_length=draw(st.integers(1, 60)),
        max_trials=1 if method is Method.SINGLE else draw(st.integers(1, 30)),
        max_concurrent_trials=draw(st.integers(0, 6)),
        mode=draw(st.sampled_from(Mode)),
        divisor=draw(st.sampled_from([Fraction(4), Fraction(3), Fraction(2), Fraction(3, 2)])),
        max_rungs=draw(st.integers(1, 5)),
        num_rungs=draw(st.none() | st.integers(1, 4)),
        stop_once=draw(st.booleans()),
        replicates=draw(st.sampled_from([0, 0, 1, 3])),
    )
    return replace(drawn, audit=draw(st.sampled_from(AUDITS))) if drawn.can_audit else drawn


@st.composite
def workers(draw: st.DrawFn, *, faults: bool = True) -> Workers:
    """Draw workers that have not run yet."""
    seed = draw(st.integers(0, 1_000_000))
    spec: ExperimentSpec = spec_of(draw(settings()), smaller_is_better=draw(st.booleans()))
    return Workers(
        replace(spec, checkpoint_policy=draw(st.sampled_from(POLICIES))),
        draw(st.sampled_from([power_law(seed), telling(seed)])),
        workers=draw(st.integers(1, 6)),
        seed=seed,
        faults=draw(st.sampled_from([(0.0, 0.0, 0.0), (0.02, 0.01, 0.01), (0.2, 0.0, 0.0)]))
        if faults
        else (0.0, 0.0, 0.0),
        preemptions=draw(st.sampled_from([0.0, 0.02])) if faults else 0.0,
        period=draw(st.sampled_from([None, 1, 7])),
        checkpoints=draw(st.booleans()),
    )


@st.composite
def runs(draw: st.DrawFn) -> Workers:
    """Draw workers that have run, to the end or not, with pauses and crashes on the way.

    On the way or after the end, failed trials may be retried, trials may be added, and the search may be extended.
    """
    ran: Workers = draw(workers())
    for stop_after in draw(st.lists(st.integers(1, 80), max_size=2)):
        ran.run(stop_after=stop_after, crash=draw(st.booleans()))
        if draw(st.booleans()):
            ran.retry()
        if draw(st.booleans()):
            ran.add(lr=draw(st.sampled_from([0.5, 7.0])), extra=draw(st.booleans()))
        if draw(st.integers(0, 3)) == 0:
            ran.extend(*draw(extensions(ran.experiment.search.settings)))
        if ran.experiment.state.ended:
            return ran
    if draw(st.booleans()) or not ran.entries:
        ran.run()
    if draw(st.booleans()):
        ran.retry()
        if draw(st.booleans()):
            ran.extend(*draw(extensions(ran.experiment.search.settings)))
        if not ran.experiment.state.ended and draw(st.booleans()):
            ran.run()
    return ran


def extensions(settings: SearchSettings) -> st.SearchStrategy[tuple[int | None, int | None]]:
    """Return a strategy for numbers of trials and lengths to which a search can be extended."""
    more = st.none() | st.integers(1, 9).map(lambda trials: settings.max_trials + trials)
    return st.tuples(more, st.none() | st.integers(1, 99).map(lambda length: settings.max_length + length))
