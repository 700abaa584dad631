"""Random draws that have an address instead of a state.

A draw is a pure function of its address, so the value of ``lr`` of the n-th trial of a
bracket is the same whatever was drawn before it, on any machine, for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from json.encoder import encode_basestring_ascii as quoted
from struct import unpack

Address = int | str

_BLOCK = 8
_BLOCK_FORMAT = f">{_BLOCK}Q"
_BLANK = blake2b(digest_size=8, person=b"ashwood")


def bits(seed: int, *address: Address) -> int:
    """64 uniform bits for an address."""
    # JSON keeps ("a", "b") apart from ("a,b",) and 1 apart from "1".  Written part by part, and hashed from a copy,
    # for the sake of simulations, which draw millions: json.dumps and a new hash take three times as long.
    name = f"[{seed}"
    for part in address:
        name += f",{quoted(part)}" if isinstance(part, str) else f",{part}"
    drawn = _BLANK.copy()
    drawn.update(f"{name}]".encode())
    return int.from_bytes(drawn.digest(), "big")


def unit_draws(count: int, seed: int, *address: Address) -> Sequence[float]:
    """So many uniform draws from [0, 1) at one address, in a fraction of the time of an address each."""
    drawn: list[float] = []
    for first in range(0, count, _BLOCK):
        start = bits(seed, *address, first).to_bytes(8, "big")
        block = blake2b(start, digest_size=8 * _BLOCK, person=b"ashwood").digest()
        drawn += [(number >> 11) * 2.0**-53 for number in unpack(_BLOCK_FORMAT, block)]
    return drawn[:count]


def unit_draw(seed: int, *address: Address) -> float:
    """A uniform draw from [0, 1) for an address, on a grid of 2**-53."""
    return (bits(seed, *address) >> 11) * 2.0**-53


def training_seed(seed: int, bracket: int, index: int) -> int:
    """The seed that a trial's training code gets: uniform in [0, 2**31)."""
    return bits(seed, "training_seed", bracket, index) >> 33
