"""Tables of trials in the order that was asked for."""

from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.views.table import select


@pytest.mark.parametrize("sort", ["loss", "-loss"])
@given(values=st.lists(st.sampled_from([None, nan, 0.0, 1.0, 2.0, "a", True])))
def test_what_has_no_number_is_last_and_disturbs_nobody(values: list[object], sort: str) -> None:
    records = [{"trial": trial, "loss": value} for trial, value in enumerate(values)]
    found = [record["loss"] for record in select(records, (), sort)]
    there = [value for value in found if value is not None and value == value]
    assert found[: len(there)] == there
    numbers = [value for value in there if isinstance(value, float)]
    assert numbers == sorted(numbers, reverse=sort == "-loss")
    assert len(found) == len(values)
