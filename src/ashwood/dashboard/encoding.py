"""Answers as bytes."""

from __future__ import annotations

import json
from typing import Any

import orjson

from ashwood.views.table import to_json


def encode(data: Any) -> bytes:
    """Data as JSON; numbers that JSON hasn't are null."""
    try:
        return orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS, default=str)
    except TypeError:  # half a character, as file names in errors can have, or an integer of more than 64 bits
        return json.dumps(to_json(data)).encode()
