"""``backend``: whether trials run on this machine or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ashwood.config.kinds import ANY, FLAG, Kind, choice, map_of, single, text
from ashwood.config.report import Report, Source
from ashwood.config.section import Section, key, section
from ashwood.config.wording import Path, must_be, shorten, shown
from ashwood.experiment.spec import RayCluster

_DEFAULT = RayCluster()
_TYPE = choice(("local", "ray"), "a backend")
_RAY = ("ray",)


def _address(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(must_be("text such as 10.0.0.1:6379", value))
    if not value.strip():
        raise ValueError("must not be empty; remove it to use RAY_ADDRESS or the cluster of this machine")
    if value.startswith(("http://", "https://")):
        raise ValueError(f"must be the address of the cluster's head, such as 10.0.0.1:6379, not {shown(value)}")
    return value.strip()


@dataclass(frozen=True, kw_only=True)
class BackendSection(Section, at=("backend",), selector="type"):
    """The backend that runs the trials, with the settings of the cluster."""

    type: str = key(_TYPE, "Where trials run: local or ray.", "local", required="local or ray")
    address: str | None = key(
        single(text().schema, _address),
        "The head of the Ray cluster, such as 10.0.0.1:6379; local: a cluster of this machine alone, for one run.",
        otherwise="RAY_ADDRESS, or the cluster of this machine",
        only=_RAY,
    )
    runtime_env: Mapping[str, Any] | None = key(
        map_of(ANY, "a map of what Ray sets up, such as {pip: [torch]}", ("backend", "runtime_env")),
        "What else Ray sets up for workers: pip, uv, conda, env_vars, excludes and others.",
        only=_RAY,
    )
    ship_code: bool = key(
        FLAG,
        "true: send the work directory to the nodes; false: it has the same path on every node.",
        _DEFAULT.ship_code,
        only=_RAY,
    )
    autoscales: bool = key(
        FLAG,
        "Whether the cluster may add nodes that are larger than those it has now.",
        _DEFAULT.autoscales,
        only=_RAY,
    )

    def cluster(self) -> RayCluster | None:
        """Return the Ray cluster that trials run on, or None if they run on this machine."""
        if self.type == "local":
            return None
        return RayCluster(self.address, self.runtime_env or {}, self.ship_code, self.autoscales)


def _name(value: Any, path: Path, report: Report) -> Any:
    if isinstance(value, str) and "://" in value:
        written = shorten(value, 100)
        raise ValueError(f"is the name of a backend, not an address: write {{type: ray, address: {written}}}")
    return _TYPE.parse(value, path, report)


BACKEND = section(BackendSection, Kind(_TYPE.schema, _name), "type")


def parse_backend(value: Any) -> RayCluster | None:
    """Return the Ray cluster that a value outside a file describes, or None for this machine.

    Raises:
        ConfigError: the value is wrong; the error lists all its problems.
    """
    report = Report(Source())
    backend: BackendSection | None = None if value is None else BACKEND.read(value, BackendSection.at, report)
    report.check()
    return None if backend is None else backend.cluster()
