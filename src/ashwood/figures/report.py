"""A report of an experiment: a self-contained HTML page that loads nothing from the network."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from html import unescape
from importlib.resources import files
from typing import Any, NamedTuple, TypeAlias

from ashwood import __version__
from ashwood.figures import report_sections
from ashwood.figures.extras import graph_objects, plotly_script
from ashwood.figures.markup import Child, Markup, h
from ashwood.figures.registry import FIGURES, draw
from ashwood.figures.report_sections import ReportHeader as ReportHeader
from ashwood.figures.theme import DARK, LIGHT
from ashwood.views.history import History

Json: TypeAlias = Any

_OPTIONS: Mapping[str, Mapping[str, Any]] = {"learning_curves": {"top": 20}}
_SHOWN = (
    "best_so_far",
    "scatter",
    "ladder",
    "trust",
    "learning_curves",
    "importance",
    "parallel_coordinates",
    "spending",
    "timeline",
)
_SUBTITLE = re.compile(r"<br><span[^>]*>(.*)</span>$", re.DOTALL)


class _Drawn(NamedTuple):
    """A figure in both themes.

    Attributes:
        name: name of the figure.
        light: figure with light colours.
        dark: differences of the dark figure from the light one.
    """

    name: str
    light: Json
    dark: Json


def render_report(history: History, about: ReportHeader) -> str:
    """Return the report of an experiment as HTML.

    Raises:
        AshwoodError: plotly is not installed.
    """
    graph_objects()
    shown = [name for name in _SHOWN if name != "trust" or history.progress.trust.applies()]
    drawn = [_drawn(name, history) for name in shown]
    island = {each.name: {"light": each.light, "dark": each.dark} for each in drawn}
    page = _page(
        about.name,
        [
            h("header", *report_sections.head(history, about)),
            h(
                "main",
                report_sections.result(history, about),
                report_sections.note(about),
                *map(_figure, drawn),
                report_sections.trust(history),
                report_sections.trials(history),
                report_sections.trial_notes(about),
                report_sections.trouble(history),
                report_sections.search(history),
                report_sections.provenance(history, about),
                report_sections.experiment_file(history.spec),
            ),
            h("footer", h("p", report_sections.made(about, __version__))),
        ],
        island,
    )
    # File names in error messages can contain lone surrogates, which cannot be encoded as UTF-8.
    return page.encode(errors="replace").decode()


# -- figures -----------------------------------------------------------------------------------------


def _drawn(name: str, history: History) -> _Drawn:
    light, dark = (
        json.loads(draw(name, history, _OPTIONS.get(name), theme=theme).to_json()) for theme in (LIGHT, DARK)
    )
    return _Drawn(name, light, list(_differences(light, dark)))


def _differences(this: Json, that: Json, path: Sequence[str | int] = ()) -> Iterator[tuple[Sequence[str | int], Json]]:
    """Yield the paths and values that change ``this`` into ``that``.

    Two figures of the same data differ only in their colours, so this is much shorter than a second figure.
    """
    if isinstance(this, dict) and isinstance(that, dict) and this.keys() == that.keys():
        for name, value in this.items():
            yield from _differences(value, that[name], (*path, name))
    elif _has_parts(this) and _has_parts(that) and len(this) == len(that):
        for place, (value, other) in enumerate(zip(this, that, strict=True)):
            yield from _differences(value, other, (*path, place))
    elif this != that:
        yield path, that


def _has_parts(value: Json) -> bool:
    return isinstance(value, list) and any(isinstance(each, dict | list) for each in value)


def _figure(drawn: _Drawn) -> Markup:
    kind = FIGURES[drawn.name]
    id_ = f"figure-{drawn.name}"
    title = h("h2", kind.title, id=id_)
    height = drawn.light["layout"].get("height", 420)
    return h(
        "section",
        title,
        h("p", _subtitle(drawn.light) or kind.about, class_="muted small"),
        h("noscript", h("p", "Figures are drawn by a script, and this browser runs none here.")),
        h(
            "div",
            class_="plot",
            data_figure=drawn.name,
            role="group",
            aria_labelledby=id_,
            style=f"min-height:{height - 60}px",
        ),
        class_="figure",
    )


def _subtitle(figure: Json) -> str:
    """Return the subtitle of a figure as plain text, or an empty string."""
    found = _SUBTITLE.search(figure["layout"].get("title", {}).get("text", ""))
    return unescape(found[1]) if found else ""


# -- page --------------------------------------------------------------------------------------------


def _page(title: str, body: Sequence[Child], island: Json) -> str:
    own = _asset("report.js")
    digest = b64encode(sha256(own.encode()).digest()).decode()
    # The policy blocks all network requests, whatever text the experiment puts into the page.  Plotly is compressed,
    # which saves two thirds of the size of a report, and it compiles functions from text for figures with many points.
    # Both need 'unsafe-eval'.
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}' 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return "<!doctype html>\n" + h(
        "html",
        h(
            "head",
            h("meta", charset="utf-8"),
            h("meta", http_equiv="Content-Security-Policy", content=policy),
            h("meta", name="viewport", content="width=device-width, initial-scale=1"),
            h("meta", name="generator", content=f"Ashwood {__version__}"),
            h("meta", name="referrer", content="no-referrer"),
            h("title", f"{title} – Ashwood"),
            h("style", Markup(_asset("report.css"))),
        ),
        "\n",
        h(
            "body",
            body,
            "\n",
            h("script", Markup(_to_json(island)), id="figures", type="application/json"),
            "\n",
            h("script", Markup(_packed_plotly()), id="plotly", type="text/plain"),
            "\n",
            h("script", Markup(own)),
        ),
        lang="en",
    )


@lru_cache(maxsize=1)
def _packed_plotly() -> str:
    """Return Plotly's JavaScript compressed by gzip, as base64."""
    return b64encode(gzip.compress(plotly_script().encode(), mtime=0)).decode()


def _to_json(data: Json) -> str:
    """Return JSON that is safe inside HTML: markup characters are escaped, so no tag can begin in it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@lru_cache(maxsize=4)
def _asset(name: str) -> str:
    return files("ashwood.figures").joinpath(name).read_text(encoding="utf-8")
