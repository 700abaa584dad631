"""Tests that an attempt that was killed on request does not count as failed."""

from ashwood.experiment.entry import Entry
from ashwood.experiment.events import ABORTED, AttemptFailed, AttemptStarted
from ashwood.experiment.spec import Unit
from ashwood.views.descriptions import describe_event
from ashwood.views.progress import Progress
from ashwood.views.table import trial_record
from tests.views.simulate import Workers, asha, power_law, spec_of


def test_attempt_killed_on_request_is_no_failure() -> None:
    workers = Workers(spec_of(asha(4)), power_law(3))
    workers.run()
    spec = workers.experiment.spec
    history, plain = Progress(spec), Progress(spec)
    for entry in workers.entries:
        history.apply(entry)
        plain.apply(entry)
        if isinstance(entry.event, AttemptStarted):
            break
    started = entry.event
    assert isinstance(started, AttemptStarted)
    for progress, error in ((history, ABORTED), (plain, "out of memory")):
        event = AttemptFailed(started.trial, started.attempt, error)
        progress.apply(Entry(entry.at + 1.0, event))
    assert (history.failed_attempts, plain.failed_attempts) == (0, 1)
    row = history.trials.rows[started.trial]
    assert trial_record(row, None, spec.metric, str)["failures"] == 0
    assert plain.trials.rows[started.trial].errors == ("out of memory",)


def test_description_says_killed_on_request() -> None:
    assert describe_event(AttemptFailed(3, 1, ABORTED), Unit.EPOCHS) == "trial 3 was killed on request, attempt 1"
    assert describe_event(AttemptFailed(3, 1, "oh\nno"), Unit.EPOCHS) == "trial 3 failed, attempt 1: oh"
