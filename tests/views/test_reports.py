"""Tests of the compact storage of reports."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from ashwood.views.reports import Reports, TrialReport

reports = st.builds(
    TrialReport,
    st.floats(0, 1e10),
    st.integers(1, 9),
    st.integers(0, 10**12),
    st.dictionaries(st.sampled_from(["loss", "accuracy", "time"]), st.floats()),
)


@given(st.lists(reports))
def test_reports_return_what_was_added(made: list[TrialReport]) -> None:
    kept = Reports()
    for report in made:
        kept.add(*report)
    assert len(kept) == len(made)
    assert repr(list(kept)) == repr([report._replace(metrics=_in_order(report, kept)) for report in made])
    assert repr(kept[-3:]) == repr(list(kept)[-3:])


@given(st.lists(reports, min_size=1))
def test_places_match_values(made: list[TrialReport]) -> None:
    kept = Reports()
    for report in made:
        kept.add(*report)
    for name in ("loss", "accuracy", "time"):
        having = [place for place, report in enumerate(made) if name in report.metrics]
        assert list(kept.places(name)) == having
        assert repr(list(kept.values.get(name, ()))) == repr([made[place].metrics[name] for place in having])


def test_rare_metric_stores_only_reported_values() -> None:
    kept = Reports()
    for length in range(1, 10_001):
        kept.add(0.0, 1, length, {"loss": 1.0} if length % 100 else {"loss": 1.0, f"accuracy after {length}": 0.5})
    assert len(pickle.dumps(kept)) < 500_000


def _in_order(report: TrialReport, kept: Reports) -> dict[str, float]:
    return {name: report.metrics[name] for name in kept.values if name in report.metrics}
