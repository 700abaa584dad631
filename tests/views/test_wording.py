"""Lengths as text."""

from __future__ import annotations

import pytest

from ashwood.trial import lengths
from ashwood.views import wording


@pytest.mark.parametrize("text", ["1 batch", "2 batches", "1 epoch", "0 records", "1 record", "1 step"])
def test_length_has_the_right_number(text: str) -> None:
    count, word = text.split(" ")
    unit = {"batch": "batches", "record": "records", "epoch": "epochs", "step": "steps"}.get(word, word)
    assert wording.format_length(int(count), unit) == lengths.format_length(int(count), unit) == text


def test_ordinal_numbers_have_their_endings() -> None:
    texts = [wording.ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 112, 1_023)]
    assert texts == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th", "1,023rd"]
