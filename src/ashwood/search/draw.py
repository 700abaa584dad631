"""Random draws that have an address instead of a state.

A draw is a pure function of its address.  So the value of ``lr`` of the n-th trial of a bracket
is always the same, on any machine, whatever was drawn before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from json.encoder import encode_basestring_ascii as quoted
from struct import unpack
from typing import Final

Address = int | str

LARGEST_DRAW: Final = 1 - 2**-53
"""The largest draw; all are multiples of 2**-53 in [0, 1)."""

_BLOCK = 8
_BLOCK_FORMAT = f">{_BLOCK}Q"
_BLANK = blake2b(digest_size=8, person=b"ashwood")


def bits(seed: int, *address: Address) -> int:
    """Return 64 uniform bits for an address."""
    # As JSON, ("a", "b") differs from ("a,b",) and 1 from "1".  Simulations draw millions of times, and json.dumps with
    # a new hash object takes three times as long as writing part by part and hashing from a copy.
    name = f"[{seed}"
    for part in address:
        name += f",{quoted(part)}" if isinstance(part, str) else f",{part}"
    drawn = _BLANK.copy()
    drawn.update(f"{name}]".encode())
    return int.from_bytes(drawn.digest(), "big")


def unit_draws(count: int, seed: int, *address: Address) -> Sequence[float]:
    """Return ``count`` uniform draws from [0, 1) for one address, which is much faster than separate addresses."""
    drawn: list[float] = []
    for first in range(0, count, _BLOCK):
        start = bits(seed, *address, first).to_bytes(8, "big")
        block = blake2b(start, digest_size=8 * _BLOCK, person=b"ashwood").digest()
        drawn += [(number >> 11) * 2.0**-53 for number in unpack(_BLOCK_FORMAT, block)]
    return drawn[:count]


def unit_draw(seed: int, *address: Address) -> float:
    """Return a uniform draw from [0, 1) for an address, a multiple of 2**-53."""
    return (bits(seed, *address) >> 11) * 2.0**-53


def training_seed(seed: int, bracket: int, index: int, replicate: int = 0) -> int:
    """Return the seed for a trial's training code, uniform in [0, 2**31).

    ``replicate`` is 0 for the trial itself, and the number of a replicate for one of its replicates.
    """
    return bits(seed, "training_seed", bracket, index, *((replicate,) if replicate else ())) >> 33
