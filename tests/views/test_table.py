"""Tests of sorting and filtering the table of trials."""

from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.errors import AshwoodError
from ashwood.search.space import Categorical, Const, Double, Group, Space, Tree
from ashwood.views.table import Record, best_first, blank_hparams, heading, select


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
