"""Drawing libraries, which are optional: imported when they are used, with a word on how to get them."""

from __future__ import annotations

from typing import Any

from ashwood.errors import AshwoodError


def graph_objects() -> Any:
    """``plotly.graph_objects``.

    Raises:
        AshwoodError: plotly is not installed.
    """
    try:
        import plotly.graph_objects
    except ImportError as error:
        raise AshwoodError("this needs plotly: pip install 'ashwood[figures]'") from error
    return plotly.graph_objects
