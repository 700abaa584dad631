"""The learning curves in an experiment's log, for simulations that repeat them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite

from ashwood.simulation.recorded import Curve, Point, Recorded
from ashwood.views.chronicle import Chronicle
from ashwood.views.reports import Report
from ashwood.views.trials import TrialRow


def recorded(views: Chronicle) -> Recorded:
    """Return the learning curves of an experiment, in the order of its trials.

    Trials without a finite metric are left out.

    Raises:
        ValueError: no trial has reported a finite metric.
    """
    spec = views.spec
    sign = 1 if spec.smaller_is_better else -1
    curves = []
    for row in views.progress.trials.rows.values():
        reports = views.history.reports.of(row.id)
        losses = {
            report.length: sign * value
            for report in reports
            if (value := report.metrics.get(spec.metric)) is not None and isfinite(value)
        }
        if losses:
            points = [Point(length, losses[length]) for length in sorted(losses) if length > 0]
            curves.append(Curve(points or [Point(1, losses[0])], _pace(row, reports)))
    return Recorded(curves)


def _pace(row: TrialRow, reports: Sequence[Report]) -> float:
    """Return the seconds for one unit of length, between reports of one attempt if possible, else from its start."""
    stretches = [
        (later.at - earlier.at, later.length - earlier.length)
        for earlier, later in pairwise(reports)
        if earlier.attempt == later.attempt and later.length > earlier.length
    ]
    if not stretches:
        first = reports[0]
        begun = row.created_at if row.started_at is None else row.started_at
        stretches = [(first.at - begun, max(1, first.length))]
    return max(0.0, sum(seconds for seconds, _ in stretches)) / sum(length for _, length in stretches)
