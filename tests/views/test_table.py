"""Tests of sorting and filtering the table of trials."""

from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.errors import AshwoodError
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import AttemptStarted, DriverStarted
from ashwood.search.space import Categorical, Const, Double, Group, Space, Tree
from ashwood.views.table import (
    Record,
    best_first,
    blank_hparams,
    csv_record,
    explain_no_match,
    heading,
    near_misses,
    select,
    setting_of,
    trial_columns,
    trial_records,
)
from ashwood.views.trials import TrialRow, TrialTable
from tests.views.simulate import asha, spec_of


@pytest.mark.parametrize("sort", ["loss", "-loss"])
@given(values=st.lists(st.sampled_from([None, nan, 0.0, 1.0, 2.0, "a", True])))
def test_records_without_value_come_last(values: list[object], sort: str) -> None:
    records = [{"trial": trial, "loss": value} for trial, value in enumerate(values)]
    found = [record["loss"] for record in select(records, (), sort)]
    there = [value for value in found if value is not None and value == value]
    assert found[: len(there)] == there
    numbers = [value for value in there if isinstance(value, float)]
    assert numbers == sorted(numbers, reverse=sort == "-loss")
    assert len(found) == len(values)


TRIALS: list[Record] = [
    {"trial": 0, "best.loss": 0.3, "last.loss": 0.4, "last.accuracy": 0.7, "hparams.lr": 1, "last.lr": 5},
    {"trial": 1, "best.loss": 0.1, "last.loss": 0.9, "last.accuracy": 0.8, "hparams.lr": 2, "last.lr": 4},
    {"trial": 2, "best.loss": 0.2, "last.loss": 0.2, "last.accuracy": 0.9, "hparams.lr": 3, "last.lr": 3},
]


@pytest.mark.parametrize(
    ("sort", "trials"),
    [
        *[(name, [1, 2, 0]) for name in ("loss", "best", "best.loss", "best loss", "best_loss")],
        *[(name, [2, 0, 1]) for name in ("last", "last.loss", "last loss", "last_loss")],
        ("-accuracy", [2, 1, 0]),
        ("hparams.lr", [0, 1, 2]),
        ("last.lr", [2, 1, 0]),
    ],
)
def test_sort_accepts_all_names_of_metric_columns(sort: str, trials: list[int]) -> None:
    assert [record["trial"] for record in select(TRIALS, (), sort)] == trials


def test_filter_by_metric_uses_best_result() -> None:
    assert [record["trial"] for record in select(TRIALS, ["loss<=0.2"], "")] == [1, 2]
    assert [record["trial"] for record in select(TRIALS, ["last<=0.4"], "")] == [0, 2]
    with pytest.raises(AshwoodError, match=r"write hparams\.lr or last\.lr"):
        select(TRIALS, ["lr<1"], "")
    with pytest.raises(AshwoodError, match=r"no column 'acuracy' \(did you mean 'accuracy'\?\)"):
        select(TRIALS, [], "acuracy")


def test_headings_are_unique() -> None:
    columns = ["trial", "best.loss", "last.loss", "hparams.trial", "hparams.lr", "hparams.best.loss"]
    assert [heading(column, columns) for column in columns] == [
        "trial",
        "best loss",
        "last loss",
        "hparams.trial",
        "lr",
        "hparams.best.loss",
    ]


@pytest.mark.parametrize(
    ("sort", "smaller", "order"),
    [
        ("score", True, "score"),
        ("score", False, "-score"),
        ("-best", False, "best"),
        ("last.score", False, "-last.score"),
        ("x", False, "x"),
        ("", False, ""),
    ],
)
def test_best_value_of_the_metric_comes_first(sort: str, smaller: bool, order: str) -> None:
    records = [{"trial": 0, "best.score": 1.0, "last.score": 0.5, "hparams.x": 2}]
    assert best_first(records, sort, "score", smaller_is_better=smaller) == order


def test_records_have_a_column_for_each_hyperparameter_in_the_order_of_the_file() -> None:
    tree: Tree = {
        "opt": Categorical(("sgd", "adam")),
        "sgd": Group({"momentum": Double(0.0, 0.9), "more": Const({"a": 1, "b": 2})}, {"opt": "sgd"}),
        "lr": Double(0.0, 1.0),
    }
    names = ["opt", "sgd.momentum", "sgd.more.a", "sgd.more.b", "lr"]
    assert list(blank_hparams(Space(tree))) == [f"hparams.{name}" for name in names]
    assert blank_hparams(Space({"lr": Double(0.0, 1.0)})) == {}


def test_seconds_include_running_attempt() -> None:
    table = TrialTable(spec_of(asha(1)))
    table.rows[0] = TrialRow(0, 0, 0, {}, 0, 4, 0.0, seconds=5.0)
    for at, event in ((0.0, DriverStarted(1)), (10.0, AttemptStarted(0, 2, 0, 0))):
        table.spending.apply(Entry(at, event))
    (record,) = trial_records(table, spec_of(asha(1)), str, 27.0)
    assert record["seconds"] == 22.0


KINDS: list[Record] = [
    {"trial": 0, "hparams.kind": "relu", "hparams.slope": 0.5, "given": None},
    {"trial": 1, "hparams.kind": None, "given": None},
    {"trial": 2, "hparams.kind": "tanh", "given": "kind"},
    {"trial": 3, "given": None},
    {"trial": 4, "hparams.kind": True, "hparams.slope": 2, "given": None},
]


@pytest.mark.parametrize(
    ("condition", "trials"),
    [
        ("kind=null", [1]),
        ("kind=NULL", [1]),
        ("kind=", [3]),
        ("kind!=", [0, 1, 2, 4]),
        ("kind!=null", [0, 2, 3, 4]),
        ("kind=relu,null", [0, 1]),
        ("kind=relu,", [0, 3]),
        ("kind!=relu,tanh", [1, 3, 4]),
        ("kind=true", [4]),
        ("kind=none", []),
        ("slope=0.50,2.0", [0, 4]),
        ("slope=", [1, 2, 3]),
        ("slope>=0.5", [0, 4]),
        ("given=", [0, 1, 3, 4]),
        ("given=null", []),
        ("trial=4,1,17", [1, 4]),
    ],
)
def test_filter_distinguishes_null_absent_and_several_values(condition: str, trials: list[int]) -> None:
    assert [record["trial"] for record in select(KINDS, [condition], "")] == trials


def test_value_with_comma_is_found() -> None:
    records = [{"trial": 0, "hparams.kind": "a,b"}, {"trial": 1, "hparams.kind": "a"}]
    assert [record["trial"] for record in select(records, ["kind=a,b"], "")] == [0, 1]
    assert [record["trial"] for record in select(records, ["kind=a"], "")] == [1]


@given(
    values=st.lists(st.sampled_from([None, "a", "b", 1, 2.5, True, nan]), max_size=8),
    wanted=st.lists(st.sampled_from(["null", "a", "b", "1", "2.5", "true", "nan", ""]), min_size=1, max_size=3),
)
def test_equal_and_unequal_conditions_are_complementary(values: list[object], wanted: list[str]) -> None:
    records = [{"trial": trial, "hparams.x": value} for trial, value in enumerate(values)]
    records += [{"trial": len(values), "hparams.y": 0}]
    text = ",".join(wanted)
    equal, unequal = (select(records, [f"hparams.x{sign}{text}"], "", ["hparams.x"]) for sign in ("=", "!="))
    assert sorted(record["trial"] for record in (*equal, *unequal)) == list(range(len(records)))
    one_by_one = [select(records, [f"hparams.x={each}"], "", ["hparams.x"]) for each in wanted]
    expected = {record["trial"] for found in one_by_one for record in found}
    assert {record["trial"] for record in equal} == expected


def test_null_is_a_known_value() -> None:
    assert near_misses(KINDS, ["kind=x"], ["hparams.kind"])["kind=x"].values == ["relu", "null", "tanh", "true"]
    assert "values of hparams.kind are null, relu, tanh, true" in explain_no_match(KINDS, ["kind=x"])


def test_csv_writes_null_as_text_and_absent_as_nothing() -> None:
    assert [csv_record(record).get("hparams.kind", "") for record in KINDS] == ["relu", "null", "tanh", "", True]
    assert csv_record(KINDS[0])["given"] is None
    assert [setting_of(record, "hparams.kind") for record in KINDS] == ["relu", "null", "tanh", None, True]


def test_columns_have_the_order_of_the_file_if_first_trials_lack_some() -> None:
    space = Space({"kind": Categorical(("relu", None)), "slope": Double(0.0, 1.0, when={"kind": "relu"})})
    records = [{"trial": 0, "hparams.kind": None, "given": None}, KINDS[0]]
    assert trial_columns(records, space) == ["trial", "hparams.kind", "hparams.slope", "given"]
    assert trial_columns([], space) == []
