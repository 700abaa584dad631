"""Tests of the groups of failed and diverged trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf, nan
from operator import eq, ge, le
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ashwood.experiment.lifecycle import TrialState
from ashwood.search.settings import Method
from ashwood.search.space import Categorical, Double, Int, Space
from ashwood.views.failures import FailureKind, Shared, group_failures
from ashwood.views.table import select, trial_records
from ashwood.views.trials import TrialRow, TrialTable, has_diverged
from tests.views.simulate import Workers, asha, spec_of
from tests.views.streams import runs
from tests.views.test_trials import table_of

SPEC = replace(
    spec_of(asha(60, method=Method.RANDOM)),
    space=Space({"layers": Int(1, 6), "lr": Double(0.0, 1.0), "kind": Categorical(["a", "b"])}),
)
MEMORY = "CUDA out of memory. Tried to allocate {} MiB"


def table(*rows: TrialRow) -> TrialTable:
    made = TrialTable(SPEC)
    made.rows = {row.id: row for row in rows}
    return made


def row(id_: int, *, error: str | None = None, loss: float | None = 0.5, **hparams: Any) -> TrialRow:
    values: Mapping[str, Any] = {"layers": 1 + id_ % 5, "lr": (id_ * 37 % 100) / 100, "kind": "ab"[id_ % 2]} | hparams
    made = TrialRow(id_, 0, id_, values, 0, 4, 0.0, state=TrialState.COMPLETED)
    if error is not None:
        made.state, made.errors = TrialState.ERRORED, (error,)
    elif loss is not None:
        made.length, made.metrics = 4, {"loss": loss}
    return made


def test_failures_with_one_cause_are_one_group_with_the_value_that_only_they_have() -> None:
    advice = " (this worker process had trained before; set reuse_workers: false)"
    errors = [MEMORY.format(id_ * 10) + advice * (id_ > 2) + "\ndetails" for id_ in range(7)]
    failed = [row(id_, error=error, layers=6) for id_, error in enumerate(errors)]
    (group,) = group_failures(table(*failed, *map(row, range(7, 60))), SPEC)
    assert str(group) == "7 × CUDA out of memory. Tried to allocate … MiB, all with layers = 6"
    assert group.trials == (0, 1, 2, 3, 4, 5, 6)
    assert group.shared == (Shared("layers", "=", 6, 0),)


def test_diverged_trials_share_a_range() -> None:
    diverged = [row(id_, loss=nan, lr=0.9123 + id_ / 100) for id_ in range(5)]
    (group,) = group_failures(table(*diverged, *(row(id_, lr=id_ / 100) for id_ in range(5, 60))), SPEC)
    assert str(group) == "5 × loss is NaN, all with lr ≥ 0.91"
    assert group.shared[0].condition == "hparams.lr>=0.91"


def test_infinite_metric_differs_from_nan_and_groups_are_sorted_by_size() -> None:
    groups = group_failures(table(row(0, loss=nan), row(1, loss=-inf), row(2, loss=inf), row(3)), SPEC)
    assert [str(group) for group in groups] == ["2 × loss is infinite", "trial 0: loss is NaN"]


def test_values_that_many_other_trials_have_are_not_shared() -> None:
    failed = [row(id_, error="boom", kind="a") for id_ in (0, 2, 4)]
    (group,) = group_failures(table(*failed, *map(row, range(5, 60))), SPEC)
    assert group.shared == ()
    assert str(group) == "3 × boom"


def test_equal_numbers_stay_in_the_cause() -> None:
    (group,) = group_failures(table(row(0, error="shape 3x5 at 0x7f"), row(1, error="shape 3x6 at 0x81")), SPEC)
    assert group.cause == "shape 3x… at …"


def test_sign_that_stands_for_numbers_elsewhere_is_a_part_of_the_cause() -> None:
    groups = group_failures(table(row(0, error="line # is wrong"), row(1, error="line 3 is wrong")), SPEC)
    assert [group.cause for group in groups] == ["line # is wrong", "line 3 is wrong"]


def test_finite_report_after_nan_has_not_diverged() -> None:
    assert has_diverged(row(0, loss=nan), "loss")
    assert not has_diverged(row(0), "loss")
    assert not has_diverged(row(0, loss=None), "loss")


@given(st.lists(st.sampled_from(["boom 1", "boom 2", "other", "0.5", "nan", "inf"]), min_size=1, max_size=20))
def test_conditions_select_the_trials_of_a_group(fates: list[str]) -> None:
    def made(id_: int, fate: str) -> TrialRow:
        return row(id_, error=fate) if fate[0] in "bo" else row(id_, loss=float(fate))

    trials = table(*(made(id_, fate) for id_, fate in enumerate(fates)))
    records = list(trial_records(trials, SPEC, str))
    for group in group_failures(trials, SPEC):
        where, text = group.conditions(trials, "loss")
        found = select(records, where, "") if records else []
        assert {each["trial"] for each in found if text in str(each["error"])} == set(group.trials)


@given(ran=runs())
def test_each_failed_trial_is_in_one_group_and_the_shared_conditions_find_it(ran: Workers) -> None:
    trials = table_of(ran.spec, ran.entries)
    groups = group_failures(trials, ran.spec)
    failed = [trial for group in groups if group.kind is FailureKind.FAILED for trial in group.trials]
    assert sorted(failed) == [row.id for row in trials.rows.values() if row.state is TrialState.ERRORED]
    records = list(trial_records(trials, ran.spec, str))
    for group in groups:
        for shared in group.shared:
            assert {record["trial"] for record in select(records, [shared.condition], "")} >= set(group.trials)


@given(st.lists(st.sampled_from([nan, inf, 0.5, None]), min_size=1, max_size=30), st.integers(0, 2**32))
def test_shared_properties_hold_for_the_group_and_count_the_others(losses: list[float | None], seed: int) -> None:
    rows = [row(id_, loss=loss, lr=(seed * (id_ + 1) % 997) / 997) for id_, loss in enumerate(losses)]
    for group in group_failures(table(*rows), SPEC):
        for name, sign, value, others in group.shared:
            fits = {"=": eq, ">=": ge, "<=": le}[sign]
            have = {each.id for each in rows if each.length and fits(each.hparams[name], value)}
            assert set(group.trials) <= have
            assert len(have - set(group.trials)) == others
