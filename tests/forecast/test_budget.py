"""Tests of the training and time that an experiment took."""

from __future__ import annotations

import pytest
from hypothesis import given

from ashwood.experiment.entry import fold
from ashwood.forecast.arrivals import expected_length
from ashwood.forecast.budget import budget
from ashwood.views.history import History
from tests.views.simulate import Workers, asha, power_law, spec_of
from tests.views.streams import runs


@given(runs())
def test_budget_adds_up_to_spending(ran: Workers) -> None:
    folded = fold(History(ran.spec), ran.entries)
    found, spending = budget(folded), folded.progress.trials.spending
    shares = [share for bracket in found.shares for share in bracket]
    assert sum(share.seconds for share in shares) == pytest.approx(spending.busy_seconds)
    assert found.busy + found.idle == pytest.approx(spending.slot_seconds)
    # Checkpoints can be longer than the latest report.
    assert found.trained <= spending.trained
    assert all(share.repeated >= 0 and share.trained >= 0 for share in shares)


def test_budget_without_failures_has_no_repeated_training() -> None:
    ran = Workers(spec_of(asha(100)), power_law(3))
    folded = fold(History(ran.spec), ran.run())
    found = budget(folded)
    assert (found.trained, found.repeated) == (folded.progress.length_trained, 0)
    assert found.expected == pytest.approx(expected_length(ran.spec.search))
    assert found.trained == pytest.approx(found.expected, rel=0.3)


def test_training_without_checkpoint_counts_as_repeated() -> None:
    ran = Workers(spec_of(asha(30), max_restarts=5), power_law(3), faults=(0.03, 0.0, 0.0), period=1, checkpoints=False)
    folded = fold(History(ran.spec), ran.run())
    assert budget(folded).repeated == folded.progress.length_repeated > 0
