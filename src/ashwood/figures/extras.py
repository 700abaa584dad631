"""Drawing libraries, which are optional: imported when they are used, with a word on how to get them."""

from __future__ import annotations

import re
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


def plotly_script() -> str:
    """Plotly's own script for pages, which can stand inside of one.

    Raises:
        AshwoodError: plotly is not installed.
    """
    graph_objects()
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    # Strings and patterns mean the same with it.
    return re.sub(r"</(?=script)|<(?=!--)", lambda found: "<\\" + found[0][1:], text, flags=re.IGNORECASE)


def optuna() -> Any:
    """``optuna``, which knows how to tell what a hyperparameter matters.

    Raises:
        AshwoodError: it is not installed, or too old.
    """
    try:
        import optuna.importance

        optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.1)
    except (ImportError, AttributeError, TypeError) as error:
        raise AshwoodError("this needs optuna 5 or newer: pip install 'ashwood[figures,importance]'") from error
    return optuna


def check_matplotlib() -> None:
    """Make sure that ``matplotlib`` can be imported.

    Raises:
        AshwoodError: it is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise AshwoodError("this needs matplotlib: pip install 'ashwood[animate]'") from error


def ffmpeg() -> Any:
    """``imageio_ffmpeg``, which brings its own ffmpeg.

    Raises:
        AshwoodError: it is not installed.
    """
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise AshwoodError("this needs imageio-ffmpeg: pip install 'ashwood[animate]'") from error
    return imageio_ffmpeg
