"""Draws have addresses.  The values here are for ever: recorded searches must replay."""

from __future__ import annotations

import json
from hashlib import blake2b
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ashwood.search.draw import bits, training_seed, unit_draw

addresses = st.lists(st.integers(0, 2**64) | st.text(max_size=8), max_size=5).map(tuple)


def test_the_values_never_change() -> None:
    assert bits(0) == 17901272461182045073
    assert bits(1, "hparams", 0, 17, "optimizer", "lr") == 8237271178967300222
    assert bits(-(2**70), "größe", 10**30) == 6184655524146180425
    assert unit_draw(0, "hparams", 0, 0, "lr") == 0.7891755402005945
    assert unit_draw(751, "hparams", 2, 99_999, "Ł", "") == 0.013105837463886272
    assert training_seed(0, 0, 0) == 1087381256
    assert training_seed(2**31, 3, 12) == 1999558778


@given(seed=st.integers(), address=addresses)
def test_the_name_of_a_draw_is_a_list_in_json(seed: int, address: tuple[int | str, ...]) -> None:
    name = json.dumps([seed, *address], separators=(",", ":")).encode()
    digest = blake2b(name, digest_size=8, person=b"ashwood").digest()
    assert bits(seed, *address) == int.from_bytes(digest, "big")


@given(seed=st.integers(), address=addresses)
def test_ranges(seed: int, address: tuple[int | str, ...]) -> None:
    assert 0 <= bits(seed, *address) < 2**64
    unit = unit_draw(seed, *address)
    assert 0 <= unit < 1
    assert (unit * 2**53).is_integer()
    assert 0 <= training_seed(seed, len(address), 3) < 2**31


@given(one=addresses, other=addresses)
def test_different_addresses_give_different_draws(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> None:
    assert (bits(7, *one) == bits(7, *other)) == (one == other)


def test_addresses_that_look_alike_are_apart() -> None:
    lookalikes = [("a", "b"), ("a,b",), ("ab",), ("a", "b", ""), ('a","b',), (1,), ("1",), (1, 1), (11,)]
    assert len({bits(0, *address) for address in lookalikes}) == len(lookalikes)


def test_draws_look_uniform() -> None:
    n = 20_000
    draws = [unit_draw(5, "hparams", 0, i, "x") for i in range(n)]
    deciles = [sum(d / 10 <= u < (d + 1) / 10 for u in draws) for d in range(10)]
    # Fixed draws, so this can't flake; five sigma of a binomial.
    assert all(abs(count - n / 10) < 5 * (n * 0.09) ** 0.5 for count in deciles)
    mean = sum(draws) / n
    lagged = sum((a - mean) * (b - mean) for a, b in pairwise(draws)) / n
    assert abs(lagged) < 5 / 12 / n**0.5


def test_training_seeds_differ() -> None:
    assert len({training_seed(0, bracket, nth) for bracket in range(3) for nth in range(1_000)}) == 3_000
