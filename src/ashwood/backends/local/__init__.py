"""Run trials in processes on this machine.

Workers import this package too.  They start faster without the driver's modules, so those are imported at their first
use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ashwood.backends.local.backend import LocalBackend
    from ashwood.backends.local.worker_lock import clear_former_workers

__all__ = ["LocalBackend", "clear_former_workers"]


def __getattr__(name: str) -> Any:
    if name == "LocalBackend":
        from ashwood.backends.local.backend import LocalBackend

        return LocalBackend
    if name == "clear_former_workers":
        from ashwood.backends.local.worker_lock import clear_former_workers

        return clear_former_workers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
