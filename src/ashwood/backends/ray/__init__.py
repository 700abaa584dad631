"""Runs trials on a Ray cluster.

Ray places workers, starts them and tells of nodes; what is said between them and the driver goes
over sockets of their own, because a report mustn't cost as much as a task of Ray.  Each worker is an
actor that runs a local backend of one slot, so what training code meets on a cluster is what it
meets on one machine.

Ray is imported when it is first used: ``pip install 'ashwood[ray]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ashwood.backends.ray.backend import RayBackend

__all__ = ["RayBackend"]


def __getattr__(name: str) -> Any:
    if name == "RayBackend":
        from ashwood.backends.ray.backend import RayBackend

        return RayBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
