"""JSON encoding of the API's answers."""

from __future__ import annotations

import json
from typing import Any

import orjson

from ashwood.views.plain import plain
from ashwood.views.table import to_json


def encode(data: Any) -> bytes:
    """Return dataclasses, mappings and lists as JSON; infinite numbers and NaN become null."""
    try:
        return orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS, default=str)
    except TypeError:  # A lone surrogate, which file names in errors can contain, or an integer of more than 64 bits.
        return json.dumps(to_json(plain(data))).encode()
