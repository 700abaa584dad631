"""Reports keep what was reported, packed."""

from math import isnan

from hypothesis import given
from hypothesis import strategies as st

from ashwood.views.reports import Report, Reports

reports = st.builds(
    Report,
    st.floats(0, 1e10),
    st.integers(1, 9),
    st.integers(0, 10**12),
    st.dictionaries(st.sampled_from(["loss", "accuracy", "time"]), st.floats()),
)


@given(st.lists(reports))
def test_reports_come_back_as_they_were_made(made: list[Report]) -> None:
    kept = Reports()
    for report in made:
        kept.add(*report)
    assert len(kept) == len(made)
    assert repr(list(kept)) == repr([report._replace(metrics=_in_order(report, kept)) for report in made])
    assert repr(kept[-3:]) == repr(list(kept)[-3:])


@given(st.lists(reports, min_size=1))
def test_columns_are_as_long_as_there_are_reports(made: list[Report]) -> None:
    kept = Reports()
    for report in made:
        kept.add(*report)
    for name, column in kept.values.items():
        assert len(column) == len(made)
        assert all(name in report.metrics or isnan(value) for report, value in zip(made, column, strict=True))


def _in_order(report: Report, kept: Reports) -> dict[str, float]:
    return {name: report.metrics[name] for name in kept.values if name in report.metrics}
