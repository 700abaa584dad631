"""The report: one page, of which everything that a user can name is text, and that needs nobody else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from ashwood.errors import AshwoodError
from ashwood.experiment.entry import fold
from ashwood.experiment.spec import CheckpointPolicy
from ashwood.figures import report, report_sections
from ashwood.figures.extras import plotly_script
from ashwood.figures.markup import Markup, h
from ashwood.figures.registry import draw
from ashwood.figures.report import ReportHeader, render_report
from ashwood.figures.theme import DARK, LIGHT
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Categorical, Double, Log, Space
from ashwood.views.history import History
from tests.dashboard.homes import NASTY, nasty_spec, ran
from tests.views.simulate import Workers, asha, power_law, spec_of

VOID = {"meta", "br", "hr"}


class Page(HTMLParser):
    """A page taken apart, strictly: what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        match self._open[-1:]:
            case ["script"]:
                attributes, before = self.scripts[-1]
                self.scripts[-1] = attributes, before + data
            case ["style"]:
                assert "url(" not in data
                assert "@import" not in data
            case _:
                self.texts.append(data)

    @property
    def visible_text(self) -> str:
        return "\n".join(self.texts)

    @property
    def figures(self) -> Any:
        (island,) = [text for attributes, text in self.scripts if attributes.get("id") == "figures"]
        return json.loads(island)

    def attribute(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(name)) is not None]


def about(folded: History, **more: Any) -> ReportHeader:
    known = {"state": str(folded.progress.state), "name": folded.spec.name, "labels": folded.spec.labels}
    return ReportHeader(**{"id": 3, "created_at": 1_000.0, "made_at": 90_000.0, **known, **more})


def page_of(folded: History, **more: Any) -> Page:
    return Page(render_report(folded, about(folded, **more)))


@pytest.fixture(scope="module")
def nasty() -> History:
    workers = ran(40)
    return fold(History(workers.experiment.spec), workers.entries)


@pytest.fixture(scope="module")
def page(nasty: History) -> Page:
    return page_of(nasty)


def test_names_of_users_are_escaped(page: Page) -> None:
    kinds = [{"id": "figures", "type": "application/json"}, {"id": "plotly", "type": "text/plain"}, {}]
    assert [attributes for attributes, _ in page.scripts] == kinds
    assert f"nasty {NASTY}" in page.visible_text
    assert f"h{NASTY}" in page.visible_text
    assert f"l{NASTY}" in page.visible_text
    assert f"# {NASTY}" in page.visible_text
    assert NASTY not in page.scripts[0][1]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_notes_are_shown_without_their_markup_and_load_nothing(nasty: History) -> None:
    own = "# Why\n\n**better**, see [it](https://example.org/7)\n\n---\n\n![pixel](https://example.org/pixel.png)"
    page = page_of(nasty, notes={None: own, 3: f"odd {NASTY} [x](javascript:alert(1)) <img src=//example.org/x>"})
    assert (page.scripts[0][0], len(page.scripts)) == ({"id": "figures", "type": "application/json"}, 3)
    assert not {tag for tag, _ in page.tags} & {"img", "iframe", "link", "object", "b"}
    assert page.attribute("src") == []
    assert page.attribute("href") == ["https://example.org/7", "https://example.org/pixel.png"]
    assert page.attribute("rel") == ["noopener noreferrer nofollow"] * 2
    assert page.texts.index("better") < page.texts.index("Trial 3")
    assert page.texts.index("better") < page.texts.index("The best 20 trials")
    assert "[x](javascript:alert(1)) <img src=//example.org/x>" in page.visible_text.replace("\n", "")
    assert "Note" not in page_of(nasty).texts


def test_report_replaces_lone_surrogates() -> None:
    surrogate = "\udcff"
    space = Space({"lr": Log(-4, 0), f"k{surrogate}": Categorical((f"a{surrogate}", "b")), "d": Double(0.0, 1.0)})
    spec = replace(nasty_spec(asha(20)), space=space, config_text=surrogate)
    page = page_of(fold(History(spec), ran(spec=spec).entries))
    assert "k?" in page.visible_text.encode().decode()
    assert "Left out" not in page.visible_text


def test_report_needs_no_network(page: Page) -> None:
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "embed", "base", "video", "form"}
    assert page.attribute("src") == []
    assert page.attribute("href") == []
    assert "http" not in page.scripts[0][1]
    assert "showSendToCloud: false" in page.scripts[2][1]
    assert not re.search(r"https?:|fetch\(|XMLHttp|import\(", page.scripts[2][1])


def test_content_policy_allows_own_scripts_and_no_requests(page: Page) -> None:
    (policy,) = [value for value in page.attribute("content") if "default-src" in value]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules
    assert "unsafe-inline" not in rules["script-src"]
    for _, text in page.scripts[2:]:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in rules["script-src"]


def test_figures_equal_those_of_dashboard(page: Page, nasty: History) -> None:
    assert page.attribute("data-figure") == list(page.figures)
    assert {"ladder", "best_so_far", "learning_curves", "importance", "spending", "timeline"} <= set(page.figures)
    for name, island in page.figures.items():
        options = {"top": 20} if name == "learning_curves" else None
        light, dark = (json.loads(draw(name, nasty, options, theme=theme).to_json()) for theme in (LIGHT, DARK))
        assert island["light"] == light
        assert patched(light, island["dark"]) == dark


def patched(figure: Any, changes: Any) -> Any:
    """What the page's script does for dark paper."""
    figure = json.loads(json.dumps(figure))
    for path, value in changes:
        node = figure
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
    return figure


def test_dark_theme_adds_no_copy_of_data() -> None:
    workers = Workers(spec_of(asha(1_500)), power_law(3), workers=16)
    workers.run()
    folded = fold(History(workers.experiment.spec), workers.entries)
    sizes = {
        name: [len(json.dumps(each)) for each in (island["light"], island["dark"])]
        for name, island in page_of(folded).figures.items()
    }
    assert all(dark < 10_000 for _, dark in sizes.values()), sizes
    assert sum(light for light, _ in sizes.values()) < 1_000_000, sizes


def test_report_shows_result_and_training_first(page: Page, nasty: History) -> None:
    best = nasty.progress.trials.leader
    assert best is not None
    visible_text = page.visible_text
    assert f"loss {best.metric:.6g}" in visible_text
    assert f"trial {best.id}, after {best.metric_length} epochs" in visible_text
    assert "hyperparameters:\n" in visible_text
    assert f"{nasty.progress.length_trained:,} epochs were trained: " in visible_text
    assert "trials would take at full length" in visible_text
    assert "The best 20 trials" in visible_text
    assert "has not ended" not in visible_text
    headings = re.findall(r"<h2[^>]*>([^<]+)</h2>", render_report(nasty, about(nasty)))
    assert headings[:3] == ["Result", "Best so far", "Metric by hyperparameter"]
    assert headings[-3:] == ["Search", "Provenance", "Experiment file"]


def test_result_has_takeaways_and_checkpoint(page: Page, nasty: History) -> None:
    best = nasty.progress.trials.leader
    assert best is not None
    assert best.best_checkpoint is not None
    text = page.visible_text.replace("\n", "")
    assert f"The best loss is {best.metric:.6g}; the median of " in text
    assert f"Checkpoint {best.best_checkpoint.path} at " in text
    assert "ashwood download 3 --out best" in text


def test_report_says_why_most_trials_failed() -> None:
    workers = Workers(spec_of(asha(3)), power_law(1), faults=(1.0, 0.0, 0.0))
    workers.run()
    text = page_of(fold(History(workers.spec), workers.entries)).visible_text
    assert "Of 3 trials, 3 failed. The most frequent cause: 3 × boom." in text


def test_report_is_smaller_than_3_mb(nasty: History) -> None:
    assert len(render_report(nasty, about(nasty)).encode()) < 3_000_000


def test_values_of_the_command_line_are_beside_the_experiment_file() -> None:
    spec = replace(spec_of(asha(8)), config_text="name: toy\n", provenance={"overrides": ["searcher.max_trials=8"]})
    assert "Replaced on the command line: \nsearcher.max_trials=8\n" in page_of(History(spec)).visible_text


def test_better_report_without_checkpoint_is_a_second_line() -> None:
    spec = replace(spec_of(asha(8)), checkpoint_policy=CheckpointPolicy(save_trial_best=0))
    workers = Workers(spec, lambda _, length: 0.01 if length == 3 else 1.0, period=1)
    workers.run()
    folded = fold(History(workers.experiment.spec), workers.entries)
    seen = folded.progress.describe_seen()
    assert seen is not None
    assert seen.startswith("lowest seen: ")
    assert seen in page_of(folded).visible_text


def test_headline_is_result_of_recommended_trial() -> None:
    spec = spec_of(SearchSettings(method=Method.RANDOM, max_length=8, max_trials=4))
    workers = Workers(spec, lambda trial, length: 0.01 if (trial, length) == (2, 3) else trial + 8 / length, period=1)
    workers.run()
    page = page_of(fold(History(spec), workers.entries)).visible_text
    assert "loss 1 trial 0, after 8 epochs" in " ".join(page.split())
    assert "(lowest seen 0.01 by trial 2 at 3 epochs)" in page


def test_report_shows_provenance() -> None:
    workers = ran(8)
    git = {"root": "/home/me/x", "commit": "0123456789abcdef", "branch": "main", "prefix": "", "dirty": 2}
    provenance = {"ashwood": "0.1.0", "python": "3.12.1", "platform": "Linux", "packages": {}, "git": git}
    folded = fold(History(replace(workers.experiment.spec, provenance=provenance)), workers.entries)
    visible_text = page_of(folded).visible_text
    assert "Ashwood 0.1.0, Python 3.12.1, Linux" in visible_text
    assert "0123456789 of main; 2 files differed from it, unrecorded" in visible_text
    assert "/home/me" not in visible_text


def test_failures_are_counted_by_their_first_lines(page: Page) -> None:
    assert "Failures and warnings" in page.visible_text
    assert "boom" in page.visible_text
    assert "Traceback" not in page.visible_text


def test_report_counts_equal_errors_with_and_without_advice_as_one_kind() -> None:
    workers = ran(8)
    folded = fold(History(workers.experiment.spec), workers.entries)
    advice = " (this worker process had trained before; set reuse_workers: false)"
    for trial, end in ((0, ""), (1, advice)):
        folded.progress.trials.rows[trial].errors = (f"MemoryError: too large{end}\ndetails",)
    visible_text = page_of(folded).visible_text.partition("Failures and warnings")[2]
    assert visible_text.count("MemoryError: too large") == 1
    assert "reuse_workers" not in visible_text


def test_report_of_unfinished_experiment_has_notice() -> None:
    workers = ran(40, stop_after=80)
    spec = workers.experiment.spec
    half = fold(History(spec), workers.entries[:60])
    assert "The experiment is still running. About" in page_of(half).visible_text
    assert (
        "The experiment was interrupted: its driver is no longer running"
        in page_of(half, state="interrupted").visible_text
    )
    paused = fold(History(spec), workers.entries)
    assert paused.progress.state == "paused"
    assert "The experiment is paused" in page_of(paused).visible_text


def test_report_of_stopped_or_failed_experiment_says_why() -> None:
    spec = replace(spec_of(asha(12)), metric_at=1.9)
    workers = Workers(spec, power_law(3))
    workers.run()
    stopped = fold(History(spec), workers.entries)
    assert stopped.progress.state == "stopped"
    visible_text = page_of(stopped).visible_text
    assert (
        f"The experiment stopped before the search was done: {stopped.progress.why_ended}. It can be resumed."
        in visible_text
    )
    assert "until loss is 1.9 or better" in visible_text
    assert "The experiment was canceled" in page_of(stopped, state="canceled").visible_text
    assert "The experiment failed: " in page_of(stopped, state="errored").visible_text


def test_report_of_experiment_before_its_start() -> None:
    visible_text = page_of(fold(History(nasty_spec(asha(4))), [])).visible_text
    assert "The experiment had not started" in visible_text
    assert "No trial has reported" in visible_text


@pytest.mark.parametrize("method", list(Method))
def test_report_of_any_search_method(method: Method) -> None:
    trials = 1 if method is Method.SINGLE else 9
    workers = Workers(spec_of(asha(trials, method=method)), power_law(3))
    workers.run()
    folded = fold(History(workers.experiment.spec), workers.entries)
    assert f"{method}: {trials} trial" in page_of(folded).visible_text


def test_report_without_plotly_raises(nasty: History, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise AshwoodError("this needs plotly")

    monkeypatch.setattr(report, "graph_objects", missing)
    with pytest.raises(AshwoodError, match="needs plotly"):
        render_report(nasty, about(nasty))


def test_plotly_script_cannot_end_its_element(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: 'x = "<!-- </SCRIPT> <b>"')
    assert plotly_script() == r'x = "<\!-- <\/SCRIPT> <b>"'


def test_elements_escape_text_and_attributes() -> None:
    made = h("p", "<b>", [None, 3, h("i", "&")], class_='a"b', hidden=True, title=None)
    assert made == '<p class="a&quot;b" hidden>&lt;b&gt;3<i>&amp;</i></p>'
    assert h("meta", data_x="1") == '<meta data-x="1">'
    assert h("p", Markup("<b>")) == "<p><b></p>"


def test_counts_are_sentences() -> None:
    assert report_sections._counted(1, "attempts lost their worker") == "1 attempt lost its worker"
    assert report_sections._counted(2, "trials were stopped") == "2 trials were stopped"
    assert report_sections._counted(1, "warnings") == "1 warning"
