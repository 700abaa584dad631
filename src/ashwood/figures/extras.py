"""Imports of optional drawing libraries, with errors that say how to install them."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from ashwood.errors import AshwoodError


def graph_objects() -> Any:
    """Return the module ``plotly.graph_objects``.

    Raises:
        AshwoodError: plotly is not installed.
    """
    return _import("plotly.graph_objects", "figures need plotly: pip install 'ashwood[figures]'")


def plotly_script() -> str:
    """Return Plotly's JavaScript in a form that is safe inside a ``<script>`` element.

    Raises:
        AshwoodError: plotly is not installed.
    """
    graph_objects()
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    # HTML would end or hide the script at these characters.  In JavaScript strings and regular
    # expressions, where they occur, a backslash before them changes nothing.
    return re.sub(r"</(?=script)|<(?=!--)", lambda found: "<\\" + found[0][1:], text, flags=re.IGNORECASE)


def check_matplotlib() -> None:
    """Check that ``matplotlib`` can be imported.

    Raises:
        AshwoodError: matplotlib is not installed.
    """
    _import("matplotlib", "animations need matplotlib: pip install 'ashwood[animate]'")


def ffmpeg() -> Any:
    """Return the module ``imageio_ffmpeg``, which contains an ffmpeg program.

    Raises:
        AshwoodError: imageio-ffmpeg is not installed.
    """
    need = "animations as MP4 and HTML need imageio-ffmpeg: pip install 'ashwood[animate]'"
    return _import("imageio_ffmpeg", need)


def _import(module: str, need: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise AshwoodError(need) from error
