"""Tests of the fold of all views."""

import pickle
from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from ashwood.experiment.entry import fold
from ashwood.experiment.events import ValidationReported
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import TrialState
from ashwood.views.descriptions import trials_of
from ashwood.views.history import STRETCH, History
from ashwood.views.ladder import RungView
from ashwood.views.progress import Progress
from ashwood.views.reports import TrialReport
from tests.views.simulate import Workers
from tests.views.streams import runs


@given(runs())
def test_improvements_improve_and_lead_to_the_best(ran: Workers) -> None:
    spec = ran.spec
    folded = fold(History(spec), ran.entries)
    sign = 1 if spec.smaller_is_better else -1
    losses = [sign * each.metric for each in folded.improvements]
    assert losses == sorted(losses, reverse=True)
    assert [each.trained for each in folded.improvements] == sorted(each.trained for each in folded.improvements)
    best = folded.progress.best
    assert (best and best.metric) == (folded.improvements[-1].metric if folded.improvements else None)


@given(runs())
def test_history_has_entries_of_each_trial_without_mere_reports(ran: Workers) -> None:
    folded = fold(History(ran.spec), ran.entries)
    expected: dict[int, list[int]] = {}
    for number, (_, event, decisions) in enumerate(ran.entries, start=1):
        mere = isinstance(event, ValidationReported)
        decided = {trial for each in decisions if (trial := getattr(each, "trial", None)) is not None}
        for trial in trials_of(event, decisions):
            if not mere or trial in decided:
                expected.setdefault(trial, []).append(number)
    assert {trial: folded.details.entries.of(trial) for trial in expected} == expected


@given(runs())
def test_history_has_reports_of_trials_with_a_job(ran: Workers) -> None:
    folded = fold(History(ran.spec), ran.entries)
    replayed = Experiment(ran.spec)
    expected: dict[int, list[TrialReport]] = {}
    for at, event, _ in ran.entries:
        if isinstance(event, ValidationReported):
            trial = replayed.trials[event.trial]
            if trial.state is TrialState.RUNNING and trial.attempt == event.attempt:
                expected.setdefault(trial.id, []).append(TrialReport(at, event.attempt, event.length, event.metrics))
        replayed.handle(event)
    for row in folded.progress.trials.rows.values():
        assert repr(list(folded.details.reports.of(row.id))) == repr(expected.get(row.id, []))
        assert (row.id in folded.details.reports) == (row.id in expected)


@given(runs(), st.data())
def test_views_continued_from_snapshot_equal_views_of_whole_log(ran: Workers, data: st.DataObject) -> None:
    spec, entries = ran.spec, ran.entries
    cut = data.draw(st.integers(0, len(entries)))
    first = fold(History(spec), entries[:cut])
    parts = pickle.loads(pickle.dumps({**first.progress.parts(), "details": first.details}))
    again = fold(History(spec, Progress.from_parts(parts), parts["details"]), entries[cut:])
    assert views_of(again) == views_of(fold(History(spec), entries))


def vars_of(rung: RungView) -> dict[str, object]:
    values = {each.name: getattr(rung, each.name) for each in fields(rung)}
    return {name: sorted(value) if isinstance(value, set) else value for name, value in values.items()}


def views_of(folded: History) -> list[str]:
    """Return everything that a history shows, as text, because NaN differs from itself."""
    progress, timeline, history = folded.progress, folded.timeline, folded.details
    trials = progress.trials
    shown = [
        progress.summary(),
        progress.state,
        progress.improvements,
        trials.rows,
        trials.leader,
        trials.spending.__dict__,
        # Equal sets can have different orders.
        [
            [bracket.planned, bracket.created, *(vars_of(rung) for rung in bracket.rungs)]
            for bracket in progress.ladder.brackets
        ],
        list(timeline.spans),
        list(folded.ladder.paths),
        timeline.live,
        timeline.presences(),
        folded.checkpoints.rows,
        folded.checkpoints.kept_as(),
        [(list(history.reports.of(trial)), history.entries.of(trial)) for trial in trials.rows],
        [history.stretches.of(trial) for trial in trials.rows],
        history.losses,
    ]
    return list(map(repr, shown))


@given(runs())
def test_stretches_of_trial_contain_its_entries(ran: Workers) -> None:
    folded = fold(History(ran.spec), ran.entries)
    expected: dict[int, list[int]] = {}
    for place, (_, event, decisions) in enumerate(ran.entries):
        for trial in trials_of(event, decisions):
            known = expected.setdefault(trial, [])
            if known[-1:] != [place // STRETCH]:
                known.append(place // STRETCH)
    assert {trial: folded.details.stretches.of(trial) for trial in expected} == expected
