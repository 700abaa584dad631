"""Determined AI's training API for trials of Ashwood, so that training code of Determined runs unchanged.

If the package ``determined`` is not installed, processes of an experiment find this package under that name::

    import determined as det

    with det.core.init() as core_context:
        for op in core_context.searcher.operations():
            ...

Names, arguments and behaviour are those of Determined 0.17 to 0.38.  Where both eras differ, both work.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ashwood.integrations.determined.alias import not_offered
from ashwood.integrations.determined.errors import InvalidHP

if TYPE_CHECKING:
    from ashwood.integrations.determined import core
    from ashwood.integrations.determined._context import TrialContext
    from ashwood.integrations.determined._import_from_path import import_from_path
    from ashwood.integrations.determined.info import (
        ClusterInfo,
        RendezvousInfo,
        ResourcesInfo,
        TrialInfo,
        get_cluster_info,
    )

__version__ = "0.38.1"
"""Version of Determined whose API this is, for training code that asks."""

LOG_FORMAT = "%(levelname)s: [%(process)s] %(name)s: %(message)s"

_INFO = ("ClusterInfo", "RendezvousInfo", "ResourcesInfo", "TrialInfo", "get_cluster_info")
_OTHERS = {"TrialContext": "_context", "import_from_path": "_import_from_path"}

__all__ = [
    "LOG_FORMAT",
    "ClusterInfo",
    "InvalidHP",
    "RendezvousInfo",
    "ResourcesInfo",
    "TrialContext",
    "TrialInfo",
    "__version__",
    "core",
    "get_cluster_info",
    "import_from_path",
]


def __getattr__(name: str) -> Any:
    if name in _INFO:
        value: Any = getattr(import_module(f"{__name__}.info"), name)
    elif name in _OTHERS:
        value = getattr(import_module(f"{__name__}.{_OTHERS[name]}"), name)
    elif name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        # Training code may use det.core or det.pytorch without importing it, because another module has.
        try:
            value = import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise  # The module needs a framework that is not installed.
            raise AttributeError(not_offered(name)) from None
    globals()[name] = value
    return value
