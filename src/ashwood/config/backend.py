"""Reads ``backend``: whether trials run on this machine or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ashwood.config.checking import must_be
from ashwood.config.report import Report, Source
from ashwood.config.wording import Path, any_of, nearest, not_one_of, shorten, shown
from ashwood.experiment.spec import RayCluster

BACKEND: Path = ("backend",)
LOCAL, RAY = BACKENDS = ("local", "ray")

_KEYS = ("address", "runtime_env", "ship_code", "autoscales")
_REFUSED = {
    "working_dir": "Ashwood sends the work directory itself (or, with ship_code: false, looks for it on every node)",
    "py_modules": "Ashwood sends the work directory, and what is imported from it, itself; "
    "other packages are for pip, uv or conda",
}
"""Keys of Ray's runtime environment that Ashwood sets itself, with the reason."""


def read_backend(value: Any, report: Report) -> RayCluster | None:
    """Return the Ray cluster that trials run on, or None if they run on this machine.

    A mistake is reported and also returns None.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        return _from_map(value, report)
    if isinstance(value, str) and "://" in value:
        report.error(
            BACKEND, f"is the name of a backend, not an address: write {{type: ray, address: {shorten(value, 100)}}}"
        )
    elif not isinstance(value, str) or value not in BACKENDS:
        report.error(BACKEND, not_one_of(value, BACKENDS, "a backend"))
    elif value == RAY:
        return RayCluster()
    return None


def parse_backend(value: Any) -> RayCluster | None:
    """Return the Ray cluster that a value outside a file describes, or None for this machine.

    Raises:
        ConfigError: the value is wrong; the error lists all its problems.
    """
    report = Report(Source())
    cluster = read_backend(value, report)
    report.check()
    return cluster


def _from_map(value: Mapping[str, Any], report: Report) -> RayCluster | None:
    kind = value.get("type")
    if kind is None:
        report.error((*BACKEND, "type"), f"is missing: {any_of(BACKENDS)}")
    elif not isinstance(kind, str) or kind not in BACKENDS:
        report.error((*BACKEND, "type"), not_one_of(kind, BACKENDS, "a backend"))
    misspelt = [key for key in value if key not in ("type", *_KEYS)]
    for key in misspelt[: report.room]:
        close = nearest(key, ("type", *_KEYS))
        hint = f"did you mean {close}?" if close else f"here may be {any_of(('type', *_KEYS))}"
        report.error((*BACKEND, key), f"unknown key; {hint}")
    given = [key for key in _KEYS if value.get(key) is not None]
    if kind == LOCAL:
        for key in given:
            report.error((*BACKEND, key), "is for type: ray, but type is local: leave one of them out")
        return None
    return RayCluster(
        address=_address(value.get("address"), report),
        runtime_env=_runtime_env(value.get("runtime_env"), report),
        ship_code=_flag(value, "ship_code", RayCluster().ship_code, report),
        autoscales=_flag(value, "autoscales", RayCluster().autoscales, report),
    )


def _address(value: Any, report: Report) -> str | None:
    path = (*BACKEND, "address")
    if value is None:
        return None
    if not isinstance(value, str):
        report.error(path, must_be("text such as 10.0.0.1:6379", value))
    elif not value.strip():
        report.error(path, "must not be empty; leave it out for RAY_ADDRESS, or else the cluster of this machine")
    elif value.startswith(("http://", "https://")):
        report.error(path, f"must be that of the cluster's head, such as 10.0.0.1:6379; {shown(value)} is a web page's")
    else:
        return value.strip()
    return None


def _runtime_env(value: Any, report: Report) -> Mapping[str, Any]:
    path = (*BACKEND, "runtime_env")
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        report.error(path, must_be("a map of what Ray sets up, such as {pip: [torch]}", value))
        return {}
    for key in value:
        if key in _REFUSED:
            report.error((*path, key), f"can't be set here: {_REFUSED[key]}")
    return dict(value)


def _flag(value: Mapping[str, Any], key: str, default: bool, report: Report) -> bool:
    flag = value.get(key)
    if flag is None:
        return default
    if not isinstance(flag, bool):
        report.error((*BACKEND, key), must_be("true or false", flag))
        return default
    return flag
