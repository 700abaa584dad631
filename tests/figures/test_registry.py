"""The list of figures: each can be drawn for any experiment, and wrong options are refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from ashwood.errors import AshwoodError
from ashwood.experiment.entry import fold
from ashwood.figures import Figures, ladder, timeline
from ashwood.figures.registry import FIGURES, OptionKind, describe, draw
from ashwood.figures.theme import DARK, LIGHT
from ashwood.views.history import History
from tests.figures.simulated import LINK, SPACE, is_safe, simulated, spec
from tests.views.simulate import Workers, power_law
from tests.views.streams import runs


@pytest.fixture(scope="module")
def known() -> History:
    return simulated(60, faults=0.01)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("name", FIGURES)
def test_figure_has_background_of_theme(name: str, theme: object, known: History) -> None:
    figure = draw(name, known, theme=theme)  # type: ignore[arg-type]
    assert figure.layout.paper_bgcolor == theme.paper  # type: ignore[attr-defined]
    assert figure.layout.title.text
    assert figure.layout.uirevision


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("stop_after", [0, 1, 2, 9, 30])
def test_figure_can_be_drawn_early_in_a_search(name: str, stop_after: int) -> None:
    assert draw(name, simulated(30, stop_after=stop_after)).to_json()


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(runs())
def test_figures_can_be_drawn_for_any_history(ran: Workers) -> None:
    known = fold(History(ran.spec), ran.entries)
    for name in FIGURES:
        json.loads(draw(name, known).to_json())


@pytest.mark.parametrize("name", FIGURES)
def test_figure_can_be_drawn_with_values_outside_their_ranges(name: str) -> None:
    odd = ({"lr": 50.0, "drop": 1e300}, {"lr": 0.0, "opt": "lion"}, {"lr": -1.0, "opt": [1], f"model.{LINK}": 10**99})
    ran = Workers(replace(spec(30), start_with=odd), power_law(3))
    ran.run()
    history = fold(History(ran.experiment.spec), ran.entries)
    assert [row.given for row in history.progress.trials.rows.values() if row.given] == list(odd)
    for option in next(kind for kind in describe(history) if kind["name"] == name)["options"]:
        flags = (True, False) if option["kind"] == "flag" else ()
        for value in option["allowed"] or option.get("offered") or flags:
            json.loads(draw(name, history, {option["name"]: value}).to_json())
    json.loads(draw(name, history).to_json())


def test_every_allowed_value_of_options_can_be_drawn(known: History) -> None:
    for kind in describe(known):
        for option in kind["options"]:
            flags = (True, False) if option["kind"] == "flag" else ()
            for value in option["allowed"] or option.get("offered") or flags:
                draw(kind["name"], known, {option["name"]: value})
    assert json.loads(json.dumps(describe(known))) == describe(known)


def test_every_figure_is_a_method_of_figures() -> None:
    assert set(FIGURES) <= set(dir(Figures))


def test_methods_and_registry_draw_same_figures(known: History) -> None:
    ran = Workers(replace(known.spec, name="x"), lambda trial, length: trial + 1 / length)
    ran.run()
    figures = Figures(ran.spec, lambda: ran.entries)
    again = fold(History(ran.spec), ran.entries)
    for name in FIGURES:
        assert getattr(figures, name)().to_json() == draw(name, again).to_json()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lader", {}, r"there is no figure 'lader' \(did you mean 'ladder'\?\)"),
        ("ladder", {"top": 3}, "figure ladder: there is no option 'top'; there are: counts"),
        ("best_so_far", {"against": "tme"}, r"against: there is no 'tme' \(did you mean 'time'\?\)"),
        ("learning_curves", {"top": "0"}, "top: expected a number from 1 to 100, not '0'"),
        ("learning_curves", {"top": "many"}, "top: expected a number from 1 to 100, not 'many'"),
        ("learning_curves", {"log_x": "perhaps"}, "log_x: expected true or false, not 'perhaps'"),
        ("learning_curves", {"metric": "x"}, "metric: there is no 'x'"),
        ("learning_curves", {"by": "name"}, "by: there is no 'name'; there are: metric, length"),
        ("heatmap", {"summary": "worst"}, "summary: there is no 'worst'; there are: best, mean"),
        ("scatter", {"hparam": "dorp"}, r"hparam: there is no 'dorp' \(did you mean 'drop'\?\)"),
    ],
)
def test_unknown_figures_options_and_values_are_refused(
    name: str, options: dict[str, object], message: str, known: History
) -> None:
    with pytest.raises(AshwoodError, match=message):
        draw(name, known, options)


def test_options_are_read_from_text(known: History) -> None:
    figure = draw("learning_curves", known, {"top": "3", "log_x": "true", "log_y": "0", "metric": LINK, "by": ""})
    assert len([trace for trace in figure.data if trace.name != "other trials"]) == 3
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", None)


def test_options_list_their_allowed_values(known: History) -> None:
    options = {option.name: option for kind in FIGURES.values() for option in kind.options}
    assert options["hparam"].allowed(known) == ["lr", "drop", "opt", f"model.{LINK}"]
    assert options["metric"].allowed(known) == [known.spec.metric]
    flags = {name for name, option in options.items() if option.kind is OptionKind.FLAG}
    assert flags == {"counts", "log_x", "log_y", "log_metric", "zoom", "stopped"}
    assert known.spec.space == SPACE


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "parallel_coordinates"])
def test_names_are_escaped(name: str, known: History) -> None:
    assert is_safe(draw(name, known))


@pytest.mark.parametrize("name", ["best_so_far", "learning_curves", "scatter"])
def test_wide_positive_metrics_have_logarithmic_axis(name: str) -> None:
    wide = simulated(40, curve=lambda trial, length: 10.0 ** -(trial % 5) / length)
    narrow = simulated(40, curve=lambda trial, length: 1.0 + 0.1 * (trial % 5) / length)
    assert draw(name, wide).layout.yaxis.type == "log"
    assert draw(name, wide, {"log_y": False}).layout.yaxis.type is None
    assert draw(name, narrow).layout.yaxis.type is None
    assert draw(name, narrow, {"log_y": True}).layout.yaxis.type == "log"


@pytest.mark.parametrize("name", ["best_so_far", "learning_curves", "scatter"])
@pytest.mark.parametrize("log_y", [True, False])
def test_zoom_shows_best_tenth(name: str, log_y: bool) -> None:
    known = simulated(60)
    whole, best = (draw(name, known, {"log_y": log_y, "zoom": zoom}).layout.yaxis.range for zoom in (False, True))
    assert best[1] < whole[1]
    assert best[0] >= whole[0] - 1e-9


@pytest.mark.parametrize("name", ["best_so_far", "heatmap", "learning_curves", "parallel_coordinates", "scatter"])
def test_logarithmic_scale_without_positive_values_shows_message(name: str) -> None:
    known = simulated(60, curve=lambda trial, length: -1.0 - trial)
    option = "log_metric" if name in ("heatmap", "parallel_coordinates") else "log_y"
    assert "No value is above 0" in draw(name, known, {option: True}).layout.annotations[0].text


@pytest.mark.parametrize("values", [(1e308, -1e308, 5e-324), (0.0,), (-1.0, -2.0), (1e300, 1e-300)])
def test_figures_can_be_drawn_with_extreme_metrics(values: tuple[float, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ladder, timeline):
        monkeypatch.setattr(module, "MANY", 10)
    known = simulated(60, curve=lambda trial, length: values[(trial + length) % len(values)])
    for name in FIGURES:
        json.loads(draw(name, known).to_json())
    draw("learning_curves", known, {"log_x": "on", "log_y": "on"})
    draw("heatmap", known, {"summary": "mean"})
