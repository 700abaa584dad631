"""Reads ``environment_variables``: a list of ``NAME=value``, a map, or Determined's lists for kinds of devices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ashwood.config.kinds import Kind
from ashwood.config.report import Report
from ashwood.config.wording import Path, must_be, shorten, shown

_DEVICES = ("cpu", "cuda", "gpu", "rocm")
_LIST = {"type": "array", "items": {"type": "string", "pattern": "^[^=]+="}}


def _read(value: Any, path: Path, report: Report) -> dict[str, str] | None:
    if isinstance(value, list):
        return _from_list(value, path, report)
    if not isinstance(value, Mapping):
        raise ValueError(must_be('a list of "NAME=value" or a map', value))
    if value and all(name in _DEVICES and (each is None or isinstance(each, list)) for name, each in value.items()):
        return _from_devices(value, path, report)
    return {name: str(text) for name, text in value.items() if _is_variable(name, text, (*path, name), report)}


def _from_devices(value: Mapping[str, Any], path: Path, report: Report) -> dict[str, str]:
    used = [device for device in _DEVICES if device != "rocm" and value.get(device)]
    unused = "; variables for rocm are ignored" if value.get("rocm") else ""
    report.warn(path, f"every trial gets the variables for {' and '.join(used) or 'no device'}, on any device{unused}")
    variables: dict[str, str] = {}
    for device in used:
        variables |= _from_list(value[device], (*path, device), report)
    return variables


def _from_list(items: list[Any], at: Path, report: Report) -> dict[str, str]:
    variables: dict[str, str] = {}
    for position, item in enumerate(items):
        path = (*at, position)
        if not isinstance(item, str):
            report.error(path, must_be('text such as "NAME=value"', item))
            continue
        name, equals, text = item.partition("=")
        if not equals or not name.strip():
            report.error(path, f'must read "NAME=value", not {shown(item)}')
        elif _is_variable(name, text, path, report):
            if name in variables:
                report.warn(path, f"{shorten(name)} is given twice; the last one counts")
            variables[name] = text
    return variables


def _is_variable(name: str, text: Any, path: Path, report: Report) -> bool:
    if not re.fullmatch(r"[^=\0\s]+", name):
        report.error(path, f"{shown(name)} can't be the name of an environment variable")
    elif isinstance(text, bool) or not isinstance(text, str | int):
        report.error(path, must_be("text", text))
    elif "\0" in str(text):
        report.error(path, "must not contain a NUL character")
    else:
        return True
    return False


_ITEM = {"anyOf": [{"type": ["string", "integer"]}, _LIST]}
VARIABLES = Kind({"anyOf": [_LIST, {"type": "object", "additionalProperties": _ITEM}]}, _read)
