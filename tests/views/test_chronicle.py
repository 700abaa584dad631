"""A chronicle holds what its parts hold, and how the best came about."""

from hypothesis import given

from ashwood.experiment.events import ValidationReported
from ashwood.views.chronicle import STRETCH, chronicle
from ashwood.views.descriptions import trials_of
from ashwood.views.trials import TrialTable
from tests.views.simulate import Workers
from tests.views.streams import runs


@given(runs())
def test_improvements_improve_and_lead_to_the_best(ran: Workers) -> None:
    spec = ran.experiment.spec
    told = chronicle(spec, ran.entries)
    sign = 1 if spec.smaller_is_better else -1
    losses = [sign * each.metric for each in told.improvements]
    assert losses == sorted(losses, reverse=True)
    assert [each.trained for each in told.improvements] == sorted(each.trained for each in told.improvements)
    best = told.progress.best
    assert (best and best.metric) == (told.improvements[-1].metric if told.improvements else None)


@given(runs())
def test_every_event_of_a_trial_is_in_its_happenings_or_its_reports(ran: Workers) -> None:
    told = chronicle(ran.experiment.spec, ran.entries)
    of_trials = [event for _, event, _ in ran.entries if getattr(event, "trial", None) is not None]
    reports = [event for event in of_trials if isinstance(event, ValidationReported)]
    assert sum(map(len, told.happenings.values())) == len(of_trials) - len(reports)


@given(runs())
def test_rows_are_those_of_a_table(ran: Workers) -> None:
    told = chronicle(ran.experiment.spec, ran.entries)
    table = TrialTable(ran.experiment.spec, history=True)
    for entry in ran.entries:
        table.apply(*entry)
    assert repr(told.progress.trials.rows) == repr(table.rows)


@given(runs())
def test_the_entries_of_a_trial_are_in_its_stretches(ran: Workers) -> None:
    told = chronicle(ran.experiment.spec, ran.entries)
    expected: dict[int, list[int]] = {}
    for place, (_, event, decisions) in enumerate(ran.entries):
        for trial in trials_of(event, decisions):
            known = expected.setdefault(trial, [])
            if known[-1:] != [place // STRETCH]:
                known.append(place // STRETCH)
    assert {trial: list(stretches) for trial, stretches in told.stretches.items()} == expected
