"""The comparison itself: it accepts code that restores its state, and rejects code that does not."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

import ashwood
from tests.integrations.kit import assert_resumes

HPARAMS = {"x": ashwood.Double(0, 1)}


def train(trial: ashwood.Trial, *, restores: bool) -> None:
    totals = [float((trial.checkpoint / "total").read_text())] if trial.checkpoint and restores else [0.0]
    for step in trial.steps():
        totals.append(totals[-1] + trial.hparams.x * (step + 1))
        trial.report(loss=1 / totals[-1], checkpoint=lambda d: (d / "total").write_text(repr(totals[-1])))


def test_code_that_restores_its_state_is_accepted(tmp_path: Path) -> None:
    reports = assert_resumes(partial(train, restores=True), tmp_path, hparams=HPARAMS, metric="loss", max_length=8)
    assert reports.attempt.max() > 2


def test_code_that_does_not_restore_its_state_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="loss"):
        assert_resumes(partial(train, restores=False), tmp_path, hparams=HPARAMS, metric="loss", max_length=8)
