"""Replaces the ``searcher`` section of an experiment file and keeps the rest, including comments."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ashwood.config.document import parse
from ashwood.errors import ConfigError, Problem
from ashwood.experiment.spec import Length, Unit
from ashwood.search.settings import AUTO_DEFAULTS, DEFAULTS, Mode, SearchSettings

_SECTION = "searcher"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
# Keys that a proposed search replaces.  The other keys don't change how much is trained, so they are kept.
_REPLACED = ("name", "mode", "max_trials", "max_concurrent_trials", "divisor", "bracket_rungs", "num_rungs")
_FIRST = ("name", "metric", "smaller_is_better", "max_length", "max_trials", "mode", "divisor", "max_concurrent_trials")


def searcher_of(text: str) -> dict[str, Any]:
    """Return the ``searcher`` section of a file's text, or an empty map if it has none."""
    data = parse(text).data
    section = data.get(_SECTION) if isinstance(data, dict) else None
    return dict(section) if isinstance(section, dict) else {}


def with_search(section: Mapping[str, Any], search: SearchSettings, length: Length | None) -> dict[str, Any]:
    """Return a searcher section with the settings of an adaptive ASHA search, and with ``length`` unless it is None."""
    kept = {key: value for key, value in section.items() if key not in _REPLACED and value is not None}
    if length is not None:
        kept = {key: value for key, value in kept.items() if key not in ("max_time", "time_metric")}
        kept["max_length"] = length.count if length.unit is Unit.STEPS else {length.unit.value: length.count}
    divisor = float(search.divisor)
    kept |= {
        "name": search.method.value,
        "max_trials": search.max_trials,
        "mode": search.mode.value,
        "divisor": int(divisor) if divisor.is_integer() else divisor,
        "max_concurrent_trials": search.max_concurrent_trials,
    }
    defaults = AUTO_DEFAULTS if search.mode is Mode.AUTO else DEFAULTS
    if "max_rungs" in kept or search.max_rungs != defaults.max_rungs:
        kept["max_rungs"] = search.max_rungs
    if "sampler" in kept or search.sampler is not defaults.sampler:
        kept["sampler"] = search.sampler.value
    if search.can_audit and ("audit" in kept or search.audit != defaults.audit):
        kept["audit"] = float(search.audit)
    return {key: kept[key] for key in (*_FIRST, *kept) if key in kept}


def section_text(section: Mapping[str, Any]) -> str:
    """Return a searcher section as YAML."""
    return "".join([f"{_SECTION}:\n", *(f"  {key}: {_value(value)}\n" for key, value in section.items())])


def replace_searcher(text: str, section: Mapping[str, Any]) -> str:
    """Return the text of a file with another searcher section.

    Raises:
        ConfigError: the section shares its lines with other values, so it can't be replaced.
    """
    lines = text.splitlines(keepends=True)
    places = {path[0]: line - 1 for path, line in parse(text).lines.items() if len(path) == 1}
    begin = places.get(_SECTION)
    if begin is None or not lines[begin].lstrip("\"'").startswith(_SECTION):
        message = "shares its lines with other keys, so it can't be replaced: write it on lines of its own"
        raise ConfigError([Problem(_SECTION, message)])
    end = min((line for line in places.values() if line > begin), default=len(lines))
    # Comments and blank lines directly above the next key belong to that key, so they are kept.
    while end > begin + 1 and re.match(r"\s*(#|$)", lines[end - 1]):
        end -= 1
    return "".join([*lines[:begin], section_text(section), *lines[end:]])


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and isinstance(parse(value).data, str):
        return value
    return json.dumps(value, ensure_ascii=False)  # Every JSON value is also YAML.
