"""Tests of the REST API: it returns what the event log contains, and passes requests on."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from math import nan
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from ashwood.checkpoints.limited import trim
from ashwood.cli.ui import HomeSteering
from ashwood.dashboard import experiment_cache
from ashwood.dashboard.app import create_app
from ashwood.dashboard.live import experiment_events, message, resume_position, until_failure
from ashwood.dashboard.routes import figures
from ashwood.dashboard.routes.files import _read_log
from ashwood.dashboard.store_thread import StoreThread
from ashwood.engine.control import ask
from ashwood.errors import NotFound, RequestRefused
from ashwood.eventlog.home import Home, open_home
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.entry import fold
from ashwood.experiment.events import (
    AddTrialRequested,
    AttemptFailed,
    CancelRequested,
    ExtendRequested,
    KillRequested,
    PauseRequested,
    Request,
    SettingsChanged,
    TrialStopRequested,
    ValidationReported,
)
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.spec import Entrypoint, EntrypointKind
from ashwood.figures.progress import draw_comparison
from ashwood.search.space import Categorical, Double, Int, Space
from ashwood.views.history import History, TrialDetails
from ashwood.views.plain import plain
from ashwood.views.progress import Progress
from tests.views.simulate import Workers, asha, spec_of

from .homes import NASTY, Steered, a_home, add, append, nasty_spec, ran


def get(client: TestClient, path: str, status: int = 200) -> Any:
    answer = client.get(f"/api/v1/{path}")
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def told(home: Path) -> History:
    with open_home(home) as opened:
        return fold(History(opened.store.spec(1)), (entry for _, entry in opened.store.log(1).read()))


# -- looking --------------------------------------------------------------------------------------------


def test_list_contains_every_experiment(client: TestClient, told: History) -> None:
    cards = get(client, "experiments")["experiments"]
    assert [(card["id"], card["state"]) for card in cards] == [(3, "created"), (2, "interrupted"), (1, "completed")]
    assert cards[2]["best"] == told.progress.summary()["best"]
    assert cards[2]["trials"] == told.progress.summary()["trials"]
    assert cards[2]["labels"] == ["nice", f"l{NASTY}"]


def test_list_contains_experiment_that_was_canceled_without_driver(tmp_path: Path) -> None:
    with open_home(a_home(tmp_path)) as home:
        ask(home, 2, CancelRequested())
    with TestClient(create_app(lambda: open_home(tmp_path), name="home"), base_url="http://127.0.0.1") as client:
        states = {card["id"]: card["state"] for card in get(client, "experiments")["experiments"]}
    assert states == {1: "completed", 2: "canceled", 3: "created"}


def test_experiment_page_agrees_with_event_log(client: TestClient, told: History) -> None:
    page = get(client, "experiments/1")
    assert page["best"]["metric"] == page["best_trial"]["best.loss"] == told.improvements[-1].metric
    saved = told.progress.trials.rows[page["best"]["trial"]].best_checkpoint
    assert saved is not None
    assert page["best_trial"]["checkpoint"] == saved.path
    assert page["best_trial"]["download"].endswith(f"/checkpoints/{saved.path.rpartition('/')[2]}/download")
    assert page["seen"] == (told.progress.seen and told.progress.seen._asdict())
    assert page["reports"] == told.progress.reports
    assert [bracket["created"] for bracket in page["brackets"]] == [b.created for b in told.progress.ladder.brackets]
    assert [action for action, possible in page["can"].items() if possible] == ["extend"]
    assert get(client, "experiments/2")["can"]["activate"]
    assert get(client, "experiments/3")["best_trial"] is None
    assert "lr:" in page["best_trial"]["as_yaml"]
    same: dict[str, Any] = {"whole": False, "step": None, "ordered": False, "when": []}
    assert page["searched"] == [
        {"name": "lr", "choices": None, "least": 1e-4, "most": 1.0, **same},
        {"name": f"h{NASTY}", "choices": None, "least": 0.0, "most": 1.0, **same},
        {"name": "kind", "choices": [f"a{NASTY}", "b"], "least": None, "most": None, **same},
    ]


def test_trust_is_that_of_the_event_log(client: TestClient, told: History) -> None:
    reading = told.progress.trust.reading()
    assert reading is not None
    answered = get(client, "experiments/1/trust")["reading"]
    assert answered == json.loads(json.dumps(plain(reading)))
    assert answered["level"] == reading.level


def test_search_without_early_stopping_has_no_trust(tmp_path: Path) -> None:
    with open_home(tmp_path, create=True) as home:
        add(home, ran(spec=nasty_spec(asha(4, max_rungs=1))))
    with TestClient(create_app(lambda: open_home(tmp_path), name="home"), base_url="http://127.0.0.1") as client:
        assert get(client, "experiments/1/trust") == {"reading": None}


def test_sparkline_comes_from_summary_or_else_from_event_log(tmp_path: Path) -> None:
    whole = ran()
    with open_home(tmp_path, create=True) as home:
        summed_up, older = add(home, whole), add(home, whole)
        summary = dict(home.store.record(older).summary)
        assert len(summary.pop("improvements")) > 2
        home.store.log(older).append([], summary=summary)
        home.store.create(whole.experiment.spec, at=2_000.0)
    app = create_app(lambda: open_home(tmp_path), name="home")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        few = get(client, f"experiments/{summed_up}/spark")["points"]
        store: StoreThread = app.state.dashboard.store
        assert few[-1][1] == few[-2][1]
        for (at, metric), (known_at, known) in zip(
            few, get(client, f"experiments/{older}/spark")["points"], strict=True
        ):
            assert (at, metric) == (pytest.approx(known_at, abs=0.001), pytest.approx(known, rel=1e-5))
        assert store._cache is not None
        assert summed_up not in store._cache._experiments
        assert get(client, "experiments/3/spark")["points"] == []


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_pages_of_trials_contain_the_whole_table_in_order(client: TestClient, told: History, limit: int) -> None:
    rows: list[dict[str, Any]] = []
    while True:
        page = get(client, f"experiments/1/trials?offset={len(rows)}&limit={limit}")
        if not page["rows"]:
            break
        rows += page["rows"]
    assert page["total"] == page["matching"] == len(rows) == len(told.progress.trials.rows)
    with_metric = [row["trial"] for row in rows if row["best.loss"] is not None]
    invalid = {row.id for row in told.progress.trials.rows.values() if row.state == "invalid"}
    ranked = [row.id for row in told.progress.trials.ranked() if row.metric is not None]
    assert [t for t in with_metric if t not in invalid] == [t for t in ranked if t not in invalid]


def test_trials_are_filtered_and_sorted_by_any_column(client: TestClient) -> None:
    page = get(client, "experiments/1/trials?where=state=completed&sort=-hparams.lr&limit=500")
    rates = [row["hparams.lr"] for row in page["rows"]]
    assert rates == sorted(rates, reverse=True)
    assert {row["state"] for row in page["rows"]} == {"completed"}
    assert 0 < page["matching"] < page["total"]
    few = get(client, "experiments/1/trials?where=hparams.lr>0.001&where=hparams.lr<=0.1&where=state!=completed")
    assert few["rows"]
    assert all(0.001 < row["hparams.lr"] <= 0.1 and row["state"] != "completed" for row in few["rows"])
    assert "is not a number" in get(client, "experiments/1/trials?where=loss<low", 400)["error"]["what"]
    longest = get(client, "experiments/1/trials?sort=-length&limit=500")["rows"]
    ranks = [(-row["length"], row["best.loss"] is None, row["best.loss"]) for row in longest]
    assert ranks == sorted(ranks), "the better first among those that trained equally long"
    assert get(client, "experiments/1/trials?q=script&limit=1")["matching"] > 0
    assert {column["key"] for column in page["columns"]} >= {
        "trial",
        "rung",
        "last.loss",
        "hparams.lr",
        f"hparams.h{NASTY}",
    }
    error = get(client, "experiments/1/trials?sort=learning", 400)["error"]
    assert "there is no column 'learning'" in error["what"]
    assert "KEY=VALUE" in get(client, "experiments/1/trials?where=completed", 400)["error"]["what"]


def test_trial_page_has_decisions_with_reasons(client: TestClient, told: History) -> None:
    trial = told.progress.best
    assert trial is not None
    page = get(client, f"experiments/1/trials/{trial.trial}")
    assert next(step["kind"] for step in page["way"]) == "created"
    assert any("rank" in step for step in page["way"])
    assert page["attempts"]
    assert all(attempt["ended_at"] for attempt in page["attempts"])
    assert page["hyperparameters"]["kind"] in (f"a{NASTY}", "b")
    failed = next(row for row in told.progress.trials.rows.values() if row.errors)
    attempts = get(client, f"experiments/1/trials/{failed.id}")["attempts"]
    assert any((attempt["error"] or "").startswith("boom\n") for attempt in attempts)


def test_trial_page_says_why_trial_has_its_state(client: TestClient, told: History) -> None:
    texts = {
        row.id: get(client, f"experiments/1/trials/{row.id}")["standing"] for row in told.progress.trials.rows.values()
    }
    assert {TrialState.STOPPED, TrialState.COMPLETED} <= {row.state for row in told.progress.trials.rows.values()}
    for row in told.progress.trials.rows.values():
        rank = told.ladder.rank(row.id)
        if row.state is TrialState.COMPLETED:
            assert rank is not None
            assert texts[row.id] == rank.describe("epochs")
        elif row.state is TrialState.STOPPED:
            assert texts[row.id] == (rank.describe("epochs") if rank else "stopped by its training code")


def test_failures_are_grouped_and_select_their_trials(client: TestClient, told: History) -> None:
    groups = get(client, "experiments/1/failures")["groups"]
    table = told.progress.trials
    assert sum(group["text"].startswith("2 × boom") for group in groups) == (table.states[TrialState.ERRORED] == 2)
    for group in groups:
        found = client.get("/api/v1/experiments/1/trials", params={"where": group["where"], "q": group["q"]}).json()
        assert {row["trial"] for row in found["rows"]} >= set(group["trials"])


def test_filter_without_matches_names_known_values(client: TestClient) -> None:
    page = get(client, "experiments/1/trials?where=state=erored&where=lr>100&where=bracket>=0")
    known = {each["condition"]: each for each in page["known"]}
    assert known.keys() == {"state=erored", "lr>100"}
    assert "completed" in known["state=erored"]["values"]
    assert 0 < known["lr>100"]["least"] < known["lr>100"]["most"] < 100
    assert get(client, "experiments/1/trials?where=state=completed")["known"] == []


def test_numbers_that_are_not_finite_are_texts_in_tables(tmp_path: Path) -> None:
    workers = Workers(spec_of(asha(4)), lambda trial, _: nan if trial == 1 else float(trial), period=1)
    workers.run()
    with open_home(tmp_path, create=True) as home:
        add(home, workers)
    with TestClient(create_app(lambda: open_home(tmp_path), name="home"), base_url="http://localhost") as client:
        (row,) = get(client, "experiments/1/trials?where=diverged=true")["rows"]
        assert (row["trial"], row["last.loss"]) == (1, "nan")
        assert get(client, "experiments/1/trials?where=last.loss=nan")["matching"] == 1
        assert get(client, "experiments/1")["diverged"] == 1
        (group,) = get(client, "experiments/1/failures")["groups"]
        assert (group["kind"], group["text"]) == ("diverged", "trial 1: loss is NaN")


@pytest.mark.parametrize("kind", ["decisions", "failures", "bests", "steering"])
def test_events_of_one_kind_are_all_found(client: TestClient, kind: str) -> None:
    every = get(client, "experiments/1/events?limit=500")
    whole = list(every["events"])
    while every["first"] > 1:
        every = get(client, f"experiments/1/events?limit=500&before={every['first']}")
        whole[:0] = every["events"]
    page = get(client, f"experiments/1/events?kind={kind}&limit=7")
    found = list(page["events"])
    while page["first"] > 1:
        page = get(client, f"experiments/1/events?kind={kind}&limit=7&before={page['first']}")
        found[:0] = page["events"]
    assert found
    assert [each["seq"] for each in found] == sorted({each["seq"] for each in found})
    assert all(each in whole for each in found)
    if kind == "failures":
        failed = {each["seq"] for each in whole if re.search(r" failed, | declared its ", each["text"])}
        assert failed <= {each["seq"] for each in found}


def test_trials_are_exported_as_csv(client: TestClient, told: History) -> None:
    answer = client.get("/api/v1/experiments/1/trials.csv?where=state=completed")
    assert answer.headers["content-type"].startswith("text/csv")
    assert re.fullmatch(r'attachment; filename="[\w.-]+-1-trials.csv"', answer.headers["content-disposition"])
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    completed = [row for row in told.progress.trials.ranked() if row.state is TrialState.COMPLETED]
    assert [int(row["trial"]) for row in rows] == [row.id for row in completed]
    assert [float(row["best.loss"]) for row in rows] == [row.metric for row in completed]
    chosen = client.get("/api/v1/experiments/1/trials.csv?trial=3&trial=5").text
    assert {int(row["trial"]) for row in csv.DictReader(io.StringIO(chosen))} == {3, 5}


def test_report_and_experiment_file_are_downloads(client: TestClient) -> None:
    report = client.get("/api/v1/experiments/1/report.html")
    assert report.headers["content-disposition"].startswith("attachment")
    assert "<h2>Result</h2>" in report.text
    file = client.get("/api/v1/experiments/1/experiment.yaml")
    assert file.text == f"name: nasty {NASTY}  # {NASTY}\n"
    assert "no experiment file" in get(client, "experiments/3/experiment.yaml", 404)["error"]["what"]


def test_preview_proposes_searches_for_a_time_limit(client: TestClient) -> None:
    text = "\n".join([
        "name: toy", "entrypoint: toy:train", "hyperparameters: {lr: {type: double, minval: 0, maxval: 1}}",
        "searcher: {name: adaptive_asha, metric: loss, max_length: {epochs: 4}, max_trials: 3}",
    ])  # fmt: skip
    body = {"text": text, "workers": 2, "unit_seconds": 60.0}
    answer = client.post("/api/v1/preview", json={**body, "deadline_hours": 0.5}).json()
    assert answer["plan"] is None
    assert {each["name"] for each in answer["fitting"]} >= {"standard", "random"}
    first = answer["fitting"][0]
    assert first["seconds"]["high"] <= 1_800
    assert f"max_trials: {first['trials']}" in first["text"]
    tight = client.post("/api/v1/preview", json={**body, "deadline_hours": 0.01}).json()
    assert "no search fits" in tight["too_tight"]


def test_attempt_ends_with_its_driver(tmp_path: Path) -> None:
    workers = ran(stop_after=200, crash=True)
    died = workers.entries[-1].at
    live = fold(History(workers.experiment.spec), workers.entries).progress.trials.spending.live
    trial, lost = next(iter(live.items()))
    workers.run()
    with open_home(tmp_path, create=True) as home:
        add(home, workers)
    app = create_app(lambda: open_home(tmp_path), name="home")
    with TestClient(app, base_url="http://localhost") as client:
        attempts = get(client, f"experiments/1/trials/{trial}")["attempts"]
    (found,) = (attempt for attempt in attempts if attempt["number"] == lost.attempt)
    assert (found["how"], found["ended_at"]) == ("lost its driver", died)
    assert all(attempt["ended_at"] for attempt in attempts)


def test_curves_have_at_most_the_requested_points(client: TestClient, told: History) -> None:
    row = max(told.progress.trials.rows.values(), key=lambda row: len(told.details.reports.of(row.id)))
    reports = told.details.reports.of(row.id)
    whole = get(client, f"experiments/1/trials/{row.id}/metrics?points=5000")
    assert whole["metrics"]["loss"]["values"] == list(reports.values["loss"])
    assert whole["metrics"]["loss"]["lengths"] == list(reports.lengths)
    few = get(client, f"experiments/1/trials/{row.id}/metrics?points=6")["metrics"]["loss"]["values"]
    assert len(few) <= 6
    assert min(few) == min(reports.values["loss"])


def test_pages_of_events_contain_the_whole_log(client: TestClient) -> None:
    page = get(client, "experiments/1/events?limit=50")
    seqs = [event["seq"] for event in page["events"]]
    while page["first"] > 1:
        page = get(client, f"experiments/1/events?limit=50&before={page['first']}")
        seqs = [*(event["seq"] for event in page["events"]), *seqs]
    assert seqs == list(range(1, page["last"] + 1))
    of_one = get(client, "experiments/1/events?trial=1&limit=500")["events"]
    assert of_one
    assert all("trial 1" in " ".join([event["text"], *event["decided"]]) for event in of_one)


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("experiments/99", "there is no experiment 99"),
        ("experiments/99/live", "there is no experiment 99"),
        ("experiments/1/trials/999", "experiment 1 has no trial 999"),
        ("experiments/1/trials/999/log", "experiment 1 has no trial 999"),
        ("nothing", "there is no such page"),
    ],
)
def test_missing_experiment_trial_or_page_is_named(client: TestClient, path: str, what: str) -> None:
    assert what in get(client, path, 404)["error"]["what"]


def test_values_that_json_cannot_hold_are_encoded(tmp_path: Path) -> None:
    workers = ran()
    place, failed = next(
        (place, entry.event) for place, entry in enumerate(workers.entries) if isinstance(entry.event, AttemptFailed)
    )
    workers.entries[place] = workers.entries[place]._replace(event=failed._replace(error="no file \udcff.png"))
    with open_home(tmp_path, create=True) as home:
        home.store.create(replace(workers.experiment.spec, seed=2**70), at=0.0)
        home.store.log(1).append(workers.entries)
    app = create_app(lambda: open_home(tmp_path), name="home")
    with TestClient(app, base_url="http://localhost") as client:
        assert get(client, "experiments/1")["seed"] == 2**70
        assert get(client, f"experiments/1/trials/{failed.trial}")["errors"][0] == "no file \udcff.png"
    assert message("changed", {"text": "\udcff", "of": {1: nan}}) == (
        b'event: changed\ndata: {"text": "\\udcff", "of": {"1": null}}\n\n'
    )


def test_metric_in_some_reports_only_has_points_at_their_lengths(tmp_path: Path) -> None:
    workers = ran()
    for place, entry in enumerate(workers.entries):
        if isinstance(entry.event, ValidationReported) and entry.event.length % 2 == 0:
            more = entry.event._replace(metrics={**entry.event.metrics, "accuracy": 0.5})
            workers.entries[place] = entry._replace(event=more)
    row = max(
        fold(History(workers.experiment.spec), workers.entries).progress.trials.rows.values(),
        key=lambda row: row.length,
    )
    with open_home(tmp_path, create=True) as home:
        add(home, workers)
    app = create_app(lambda: open_home(tmp_path), name="home")
    with TestClient(app, base_url="http://localhost") as client:
        metrics = get(client, f"experiments/1/trials/{row.id}/metrics")["metrics"]
    assert {length % 2 for length in metrics["loss"]["lengths"]} == {0, 1}
    assert {length % 2 for length in metrics["accuracy"]["lengths"]} == {0}
    assert set(metrics["accuracy"]["values"]) == {0.5}


# -- files ------------------------------------------------------------------------------------------------


def test_log_is_read_by_position_without_splitting_characters(client: TestClient, home: Path) -> None:
    text = "epoch 1 ✓ größer\n" * 50
    path = home / "experiments" / "1" / "logs" / "trial-1.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() + "…".encode()[:2])
    whole = get(client, "experiments/1/trials/1/log?tail=1000000")
    assert whole["text"] == text
    assert get(client, f"experiments/1/trials/1/log?after={whole['end']}")["text"] == ""
    path.write_bytes(text.encode() + "…".encode())
    assert get(client, f"experiments/1/trials/1/log?after={whole['end']}")["text"] == "…"
    assert len(get(client, "experiments/1/trials/1/log?tail=10")["text"]) <= 10
    assert not get(client, "experiments/1/trials/2/log")["exists"]


def test_log_is_read_backwards_to_its_beginning(client: TestClient, home: Path) -> None:
    written = "größer ✓ 🎉\n".encode() + b"\xff\xf0\x9f" + 7 * b"\x9f" + "…".encode() + b"\xe2\x82"
    path = home / "experiments" / "1" / "logs" / "trial-3.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(written * 3)
    for tail in range(4, 40):
        piece = get(client, f"experiments/1/trials/3/log?tail={tail}")
        pieces = [piece["text"]]
        while piece["begin"]:
            until = piece["begin"]
            piece = get(client, f"experiments/1/trials/3/log?tail={tail}&until={until}")
            assert piece["end"] == until
            pieces.insert(0, piece["text"])
        assert "".join(pieces) == (written * 3)[:-2].decode(errors="replace"), tail
    beyond = get(client, "experiments/1/trials/3/log?tail=8&until=1000000")
    assert beyond == get(client, "experiments/1/trials/3/log?tail=8")


def test_shortened_log_is_read_by_positions_in_the_whole_output(tmp_path: Path) -> None:
    path, limit = tmp_path / "trial-0.log", 100_000
    lines = [f"{number:07}\n" for number in range(50_000)]
    path.write_text("".join(lines[:30_000]))
    known = _read_log(path, limit, None, 100).end
    assert known == 240_000
    trim(path, limit)
    with path.open("a") as file:
        file.write("".join(lines[30_000:]))
    trim(path, limit)
    following = _read_log(path, limit, known + 8 * 19_000, 0)
    assert following.text == "".join(lines[49_000:])
    assert following.end == following.size == 400_000
    pieces: list[str] = []
    until = following.end
    while until:
        piece = _read_log(path, limit, None, 10_000, until)
        assert piece.end == until
        assert len(piece.text) <= 10_000 + 128
        pieces.insert(0, piece.text)
        until = piece.begin
    assert "".join(pieces) == path.read_text()
    resumed = _read_log(path, limit, known, 0)  # What came next is left out.
    assert resumed.begin < known
    assert resumed.text.startswith("\n[... ")
    assert resumed.text.endswith(lines[-1])


def test_log_that_is_not_a_regular_file_is_not_read(client: TestClient, home: Path) -> None:
    logs = home / "experiments" / "1" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "trial-4.log").symlink_to(__file__)
    os.mkfifo(logs / "trial-5.log")
    for trial in (4, 5):
        error = get(client, f"experiments/1/trials/{trial}/log", 404)["error"]
        assert f"trial-{trial}.log is not a regular file" in error["what"]
        with client.stream("GET", f"/api/v1/experiments/1/trials/{trial}/log/live") as answer:
            assert "is not a regular file" in "".join(answer.iter_text())


def test_checkpoint_is_downloaded_completely(client: TestClient, home: Path, told: History, tmp_path: Path) -> None:
    saved = next(iter(told.checkpoints.rows.values()))
    files = {"model/weights.bin": bytes(range(256)) * 9_000, "empty": b"", "ä": b"text"}

    def write(directory: Path) -> None:
        (directory / "model").mkdir()
        for name, data in files.items():
            (directory / name).write_bytes(data)
        (directory / "link").symlink_to(tmp_path / "vocabulary")
        (directory / "last").symlink_to(directory / "model")

    (tmp_path / "vocabulary").write_bytes(b"words")
    with open_home(home) as opened:
        opened.storage(1, told.spec).save(saved.name, write)
    page = get(client, f"experiments/1/trials/{saved.trial}")
    link = next(each["download"] for each in page["checkpoints"] if each["name"] == saved.name)
    answer = client.get(link)
    assert answer.headers["content-disposition"].endswith('.tar"')
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    found = {name: (tmp_path / "out" / name).read_bytes() for name in (*files, "link", "last/weights.bin")}
    assert found == {**files, "link": b"words", "last/weights.bin": files["model/weights.bin"]}
    assert (tmp_path / "out" / "last").readlink() == Path("model")


def test_canceled_download_releases_checkpoint(
    home: Path, told: History, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "weights").write_bytes(b"1234")
    fetched: list[str] = []

    class Storage:
        @contextmanager
        def fetch(self, name: str) -> Iterator[Path]:
            fetched.append(name)
            yield tmp_path
            fetched.remove(name)

    monkeypatch.setattr(Home, "storage", lambda *_: Storage())
    saved = next(iter(told.checkpoints.rows.values()))
    name = saved.name.rpartition("/")[2]
    heard: list[str] = []

    async def download() -> None:
        app = create_app(lambda: open_home(home), name="home")
        messages: Iterator[Message] = iter([{"type": "http.request", "body": b""}, {"type": "http.disconnect"}])

        async def receive() -> Message:
            return next(messages)

        async def send(message: Message) -> None:
            heard.append(message["type"])
            assert fetched == [saved.name]
            await asyncio.Event().wait()  # the client reads nothing any more

        path = f"/api/v1/experiments/1/trials/{saved.trial}/checkpoints/{name}/download"
        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
        await app(scope, receive, send)
        await app.state.dashboard.store.close()

    asyncio.run(download())
    assert heard == ["http.response.start"]
    assert fetched == []


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2f..%2f..%2fashwood.db", "length-1-attempt-1", "%00", "length-1"])
def test_no_path_of_a_request_reaches_the_files(client: TestClient, name: str) -> None:
    answer = client.get(f"/api/v1/experiments/3/trials/0/checkpoints/{name}/download")
    assert answer.status_code == 404
    for path in (
        f"/static/{name}",
        f"/static/../{name}",
        f"/static//{name}",
        "/static/../app.py",
        "/static//etc/passwd",
    ):
        assert client.get(path).status_code in (200, 404)  # a normalised path is a page
        assert "create_app" not in client.get(path).text


# -- live ----------------------------------------------------------------------------------------------------


def test_stream_sends_changes_as_they_are_recorded(tmp_path: Path) -> None:
    workers = ran()
    half = len(workers.entries) // 2
    with open_home(tmp_path, create=True) as home:
        experiment = add(home, workers, until=half)
        app = create_app(lambda: open_home(tmp_path), name="home")
        with TestClient(app, base_url="http://localhost") as client:
            seq = get(client, f"experiments/{experiment}")["seq"]
            assert seq == half
            with Events(client, experiment, seq) as events:
                first = events.next()
                assert first["experiment"]["state"] == "interrupted"
                assert "trials" not in first
                later = workers.entries[half:]
                append(home, experiment, workers.experiment.spec, later, workers.entries[:half])
                heard = events.until(len(workers.entries))
            named = {getattr(each, "trial", None) for entry in later for each in (entry.event, *entry.decisions)}
            assert {row["trial"] for changed in heard for row in changed["trials"]} == named - {None}
            assert heard[-1]["experiment"]["state"] == "completed"
            assert heard[-1]["events"][-1]["seq"] == len(workers.entries)
            with Events(client, experiment, seq) as again:
                caught_up = again.until(len(workers.entries))
            assert {row["trial"] for changed in caught_up for row in changed["trials"]} == named - {None}


class Events:
    """What one page is told while it listens; a test client can't hear an answer that never ends."""

    def __init__(self, client: TestClient, experiment: int, since: int) -> None:
        store = client.app.state.dashboard.store  # type: ignore[attr-defined]
        self._client = client
        self._stream: AsyncGenerator[bytes] = experiment_events(store, experiment, since)

    def __enter__(self) -> Events:
        return self

    def next(self) -> Any:
        portal = self._client.portal
        assert portal is not None
        while True:
            said = portal.call(self._stream.__anext__).decode()
            if "data: " in said:
                return json.loads(said.partition("data: ")[2])

    def until(self, seq: int) -> list[Any]:
        """All that is told until the record is known as far as that."""
        heard = [self.next()]
        while heard[-1]["seq"] < seq:
            heard.append(self.next())
        return heard

    def __exit__(self, *_: object) -> None:
        portal = self._client.portal
        assert portal is not None
        portal.call(self._stream.aclose)


# -- figures ---------------------------------------------------------------------------------------------------


def test_etag_of_figure_depends_on_its_content(client: TestClient) -> None:
    path = "/api/v1/experiments/1/figures/best_so_far"
    first = client.get(path)
    same = {"If-None-Match": first.headers["etag"]}
    assert client.get(path, headers=same).status_code == 304
    for other in ("?theme=dark", "?against=trials"):
        assert client.get(path + other, headers=same).status_code == 200


def test_comparison_is_drawn_again_only_after_new_entries(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Mock(wraps=draw_comparison)
    monkeypatch.setattr(figures, "draw_comparison", drawn)
    with TestClient(create_app(lambda: open_home(home), name="home"), base_url="http://127.0.0.1") as client:
        for ids in ("1,2", "1,2", "2,1", "1,2"):
            get(client, f"figures/compare?ids={ids}")
    assert drawn.call_count == 2


# -- steering --------------------------------------------------------------------------------------------------


def test_requests_of_pages_reach_steering(client: TestClient, steered: Steered) -> None:
    steered.asked.clear()
    client.post("/api/v1/experiments/2/pause", json={}).raise_for_status()
    client.post("/api/v1/experiments/2/kill", json={}).raise_for_status()
    client.post("/api/v1/experiments/2/activate", json={}).raise_for_status()
    client.post("/api/v1/experiments/2/trials/1/stop", json={}).raise_for_status()
    client.patch("/api/v1/experiments/2/settings", json={"max_trials": 30, "max_invalid_trials": 50}).raise_for_status()
    bounds = {"metric_at": 0.25, "max_time": 7200, "max_trials": None}
    client.patch("/api/v1/experiments/2/settings", json=bounds).raise_for_status()
    client.patch("/api/v1/experiments/2/settings", json={"metric_at": None, "max_time": None}).raise_for_status()
    for most in (10**12, None):
        client.patch("/api/v1/experiments/2/settings", json={"max_size": most}).raise_for_status()
    client.patch("/api/v1/experiments/2", json={"labels": ["a"], "archived": True}).raise_for_status()
    client.post("/api/v1/experiments/2/trials", json={"hparams": {"lr": 0.5}, "extra": True}).raise_for_status()
    client.post("/api/v1/experiments/1/extend", json={"max_trials": 60, "max_length": None}).raise_for_status()
    assert steered.asked == [
        (2, PauseRequested()),
        (2, KillRequested()),
        (2, "activate"),
        (2, TrialStopRequested(1)),
        (2, SettingsChanged({"max_trials": 30, "max_invalid_trials": 50})),
        (2, SettingsChanged({"metric_at": 0.25, "max_time": 7200.0})),
        (2, SettingsChanged({"metric_at": None, "max_time": None})),
        (2, SettingsChanged({"max_size": 10**12})),
        (2, SettingsChanged({"max_size": None})),
        (2, None, ["a"], True),
        (2, AddTrialRequested({"lr": 0.5}, extra=True)),
        (1, ExtendRequested(60)),
    ]


def test_notes_are_read_written_and_versioned(tmp_path: Path) -> None:
    a_home(tmp_path)
    app = create_app(lambda: open_home(tmp_path), name="home", steering=HomeSteering(str(tmp_path)))
    with TestClient(app, base_url="http://localhost") as client:
        assert get(client, "experiments/1")["notes"] == {}
        assert get(client, "experiments/1/note") == {"text": "", "version": "", "content": []}
        answer = client.put("/api/v1/experiments/1/note", json={"text": "**a** <b>"})
        strong = {"tag": "strong", "attributes": {}, "children": ["a"]}
        paragraph = {"tag": "p", "attributes": {}, "children": [strong, " <b>"]}
        version = get(client, "experiments/1")["notes"][""]
        expected = {"text": "**a** <b>", "version": version, "content": [paragraph]}
        assert answer.json() == get(client, "experiments/1/note") == expected
        client.put("/api/v1/experiments/1/trials/2/note", json={"text": "two"}).raise_for_status()
        before = get(client, "experiments/1")["notes"]
        assert before.keys() == {"", "2"}
        client.put("/api/v1/experiments/1/note", json={"text": "b"}).raise_for_status()
        after = get(client, "experiments/1")["notes"]
        assert (after[""] == before[""], after["2"] == before["2"]) == (False, True)
        client.put("/api/v1/experiments/1/trials/2/note", json={"text": " "}).raise_for_status()
        assert get(client, "experiments/1")["notes"].keys() == {""}
        for path, text, status in (
            ("9/note", "x", 404),
            ("1/trials/99/note", "x", 404),
            ("1/note", "é" * 40_000, 400),
            ("1/note", "x" * 70_000, 422),
            ("1/note", "\0", 400),
        ):
            assert client.put(f"/api/v1/experiments/{path}", json={"text": text}).status_code == status
        get(client, "experiments/9/note", 404)
        get(client, "experiments/1/trials/99/note", 404)
        assert get(client, "experiments/1/note")["text"] == "b"
    with TestClient(create_app(lambda: open_home(tmp_path), name="home"), base_url="http://localhost") as client:
        answer = client.put("/api/v1/experiments/1/note", json={"text": "c"})
        assert answer.status_code == 409
        assert get(client, "experiments/1/note")["text"] == "b"


FORK = """\
name: fork
entrypoint: train:train
hyperparameters: {x: {type: double, minval: 0, maxval: 1}}
searcher: {name: random, metric: loss, max_length: 4, max_trials: 3}
"""


def test_fork_reaches_steering_only_if_the_file_is_right(client: TestClient, steered: Steered, home: Path) -> None:
    steered.asked.clear()
    answer = client.post("/api/v1/experiments/2/fork", json={"text": FORK})
    assert (answer.status_code, answer.json()["id"]) == (200, 2)
    assert steered.asked == [(2, "fork", FORK)]
    steered.asked.clear()
    answer = client.post("/api/v1/experiments/2/fork", json={"text": FORK.replace("max_length", "max_lenght")})
    assert answer.status_code == 422
    assert "4: searcher.max_lenght: unknown key" in answer.json()["error"]["what"]
    assert client.post("/api/v1/experiments/2/fork", json={}).status_code == 422
    assert client.post("/api/v1/experiments/2/fork", json={"text": "x" * 300_000}).status_code == 422
    assert steered.asked == []
    assert NASTY in get(client, "experiments/1/fork")["text"]
    app = create_app(lambda: open_home(home), name="home")
    with TestClient(app, base_url="http://localhost") as read_only:
        assert read_only.post("/api/v1/experiments/2/fork", json={"text": FORK}).status_code == 409


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("settings", {"max_trials": 0}),
        ("settings", {"max_trials": "30"}),
        ("settings", {"max_trails": 30}),
        ("settings", {"max_time": 0}),
        ("settings", {"metric_at": "0.9"}),
        ("", {"labels": [""]}),
        ("", {"name": 3}),
    ],
)
def test_malformed_changes_are_refused(client: TestClient, steered: Steered, path: str, body: dict[str, Any]) -> None:
    steered.asked.clear()
    answer = client.patch(f"/api/v1/experiments/2/{path}".rstrip("/"), json=body)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert next(iter(body)) in error["what"]
    assert error["fields"].keys() == (set() if body == {"labels": [""]} else body.keys())
    assert steered.asked == []


def test_new_bests_name_each_trial_once_in_a_row(client: TestClient, told: History) -> None:
    bests = get(client, "experiments/1")["bests"]
    assert bests[0]["metric"] == told.progress.improvements[-1].metric
    assert 0 < len(bests) <= 8
    metrics = [best["metric"] for best in bests]
    assert metrics == sorted(metrics)
    assert all(one["trial"] != other["trial"] for one, other in pairwise(bests))


def test_problems_of_added_trial_are_told_by_hyperparameter(tmp_path: Path) -> None:
    space = Space(
        {"lr": Double(0.0, 1.0), "layers": Int(1, 8), "kind": Categorical(("a", "b"))},
        constraints=("lr * layers <= 4",),
    )
    steered = Steered()
    with open_home(tmp_path, create=True) as home:
        home.store.create(replace(spec_of(asha(8)), space=space), at=1.0)
    app = create_app(lambda: open_home(tmp_path), name="home", steering=steered)
    with TestClient(app, base_url="http://localhost") as client:

        def fields(**body: Any) -> dict[str, str]:
            answer = client.post("/api/v1/experiments/1/trials", json=body)
            assert answer.status_code == (200 if answer.is_success else 409)
            found: dict[str, str] = {} if answer.is_success else answer.json()["error"]["fields"]
            return found

        assert fields(hparams={"lr": "high", "layers": 1.5, "leyers": 1}) == {
            "lr": "must be a finite number, not 'high'",
            "layers": "must be a whole number, not 1.5",
            "leyers": "unknown hyperparameter; did you mean layers?",
        }
        assert fields(hparams={"lr": 2.0, "kind": "c"}, strict=True) == {
            "lr": "2.0 is outside its range, 0 to 1",
            "kind": "'c' is not one of its values",
        }
        broken = "breaks the constraint lr * layers <= 4"
        assert fields(hparams={"lr": 0.9, "layers": 8}, strict=True) == {"lr": broken, "layers": broken}
        assert steered.asked == []
        assert fields(hparams={"lr": 0.9, "layers": 8}) == {}
        assert steered.asked == [(1, AddTrialRequested({"lr": 0.9, "layers": 8}))]


def test_added_trial_must_not_give_a_command_new_texts(tmp_path: Path) -> None:
    steered = Steered()
    space, command = Space({"kind": Categorical(("a", "b"))}), Entrypoint(EntrypointKind.COMMAND, "train {kind}")
    with open_home(tmp_path, create=True) as home:
        home.store.create(replace(spec_of(asha(8)), space=space, entrypoint=command), at=1.0)
    app = create_app(lambda: open_home(tmp_path), name="home", steering=steered)
    with TestClient(app, base_url="http://localhost") as client:
        answer = client.post("/api/v1/experiments/1/trials", json={"hparams": {"kind": "$(touch x)"}})
        assert answer.status_code == 409
        assert "is a new text" in answer.json()["error"]["fields"]["kind"]
        assert steered.asked == []
        client.post("/api/v1/experiments/1/trials", json={"hparams": {"kind": "b"}}).raise_for_status()
    assert steered.asked == [(1, AddTrialRequested({"kind": "b"}))]


def test_refusal_of_driver_names_its_setting(home: Path) -> None:
    class Refusing(Steered):
        def ask(self, experiment: ExperimentId, request: Request) -> None:
            raise RequestRefused("max_trials can't become 3: 5 were created")

    app = create_app(lambda: open_home(home), name="home", steering=Refusing())
    with TestClient(app, base_url="http://localhost") as client:
        changes = {"max_trials": 3, "max_time": 9}
        error = client.patch("/api/v1/experiments/2/settings", json=changes).json()["error"]
        assert error["fields"] == {"max_trials": "max_trials can't become 3: 5 were created"}
        error = client.post("/api/v1/experiments/2/extend", json={"replicates": 3}).json()["error"]
        assert error["fields"] == {}


def test_read_only_dashboard_refuses_changes(home: Path) -> None:
    app = create_app(lambda: open_home(home), name="home")
    with TestClient(app, base_url="http://localhost") as client:
        assert get(client, "home")["read_only"]
        answer = client.post("/api/v1/experiments/2/pause", json={})
        assert answer.status_code == 409
        assert "read-only" in answer.json()["error"]["what"]


def test_preview_names_the_lines_of_problems(client: TestClient) -> None:
    answer = client.post("/api/v1/preview", json={"text": "name: x\nsearcher:\n  nam: foo\n"}).json()
    assert not answer["ok"]
    assert {"line": 3, "key": "searcher.nam", "message": "unknown key; did you mean name?"} in answer["problems"]
    text = (Path(__file__).parents[2] / "examples" / "digits" / "digits.yaml").read_text()
    answer = client.post("/api/v1/preview", json={"text": text, "workers": 4, "unit_seconds": 2.0}).json()
    assert answer["ok"]
    assert answer["plan"]["total_trials"] == 400
    assert answer["plan"]["forecast"]["seconds"]["middle"] > 0
    large = text.replace("max_trials: 400", "max_trials: 1_000_000")
    assert "take too long" in client.post("/api/v1/preview", json={"text": large}).json()["too_large"]


# -- reading ------------------------------------------------------------------------------------------------------


def test_long_log_is_read_in_pieces_and_saved_in_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_cache, "_TURN_SECONDS", 0.0)
    monkeypatch.setattr(experiment_cache, "_SNAPSHOT_ENTRIES", 10)
    a_home(tmp_path)
    answers = []
    for _ in range(2):
        app = create_app(lambda: open_home(tmp_path), name="home")
        with TestClient(app, base_url="http://localhost") as client:
            answers.append([get(client, "experiments/1"), get(client, "experiments/1/trials?limit=500")])
    assert answers[0] == answers[1]
    assert (tmp_path / "experiments" / "1" / "history").exists()
    monkeypatch.setattr(Progress, "apply", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr(TrialDetails, "apply", lambda *_: pytest.fail("read again"))
    app = create_app(lambda: open_home(tmp_path), name="home")
    with TestClient(app, base_url="http://localhost") as client:
        assert get(client, "experiments/1") == answers[0][0]


def test_new_home_at_the_same_path_is_opened(tmp_path: Path) -> None:
    place = tmp_path / "home"
    a_home(place)
    app = create_app(lambda: open_home(place), name="home")
    with TestClient(app, base_url="http://localhost") as client:
        assert len(get(client, "experiments")["experiments"]) == 3
        shutil.rmtree(place)
        assert "there are no experiments in" in get(client, "experiments", 404)["error"]["what"]
        assert "there are no experiments in" in get(client, "experiments/1", 404)["error"]["what"]
        with open_home(place, create=True) as home:
            home.store.create(nasty_spec(asha(3), "new"), at=1.0)
        assert [card["name"] for card in get(client, "experiments")["experiments"]] == ["new"]
        assert get(client, "experiments/1")["name"] == "new"


@pytest.mark.parametrize("seconds", [10.0, 0.0], ids=["at once", "in pieces"])
def test_damaged_log_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(experiment_cache, "_TURN_SECONDS", seconds)
    a_home(tmp_path)
    with sqlite3.connect(tmp_path / "ashwood.db") as database:
        database.execute("UPDATE entries SET body = '{}' WHERE experiment = 1 AND seq = 400")
    database.close()
    app = create_app(lambda: open_home(tmp_path), name="home")
    with TestClient(app, base_url="http://localhost") as client:
        for _ in range(3):  # and not just to who asks first
            for path in ("experiments/1", "experiments/1/live"):
                assert "entry 400 of experiment 1" in get(client, path, 503)["error"]["what"]
        assert get(client, "experiments/2")["id"] == 2


@pytest.mark.parametrize("path", ["experiments/1/figures/ladder", "figures/compare?ids=2,1"])
def test_outdated_figure_says_when_to_request_it_again(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ran(4)
    half = len(whole.entries) // 2
    with open_home(tmp_path, create=True) as opened:
        add(opened, whole, until=half)
        add(opened, whole)
        app = create_app(lambda: open_home(tmp_path), name="home")
        with TestClient(app, base_url="http://localhost") as client:
            path = f"/api/v1/{path}"
            monkeypatch.setattr(figures, "_LEAST_SECONDS", 1e6)
            first = client.get(path)
            assert "Retry-After" not in first.headers
            append(opened, ExperimentId(1), whole.experiment.spec, whole.entries[half : half + 3], whole.entries[:half])
            known = {"If-None-Match": first.headers["ETag"]}
            second = client.get(path, headers=known)
            assert second.status_code == 304
            assert int(second.headers["Retry-After"]) > 1
            monkeypatch.setattr(figures, "_LEAST_SECONDS", 0.0)
            monkeypatch.setattr(figures, "_PATIENCE", 0.0)
            third = client.get(path, headers=known)
            assert third.status_code == 200
            assert "Retry-After" not in third.headers


def test_more_logs_than_the_cache_holds_are_read_to_their_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_cache, "_TURN_SECONDS", 0.0)
    workers = ran(8)
    with open_home(tmp_path, create=True) as home:
        numbers = [add(home, workers) for _ in range(experiment_cache._MOST_CACHED + 4)]

    async def all_of_them() -> list[int]:
        store = StoreThread(lambda: open_home(tmp_path))
        try:
            read = asyncio.gather(*(store.ask(number, lambda cached: cached.seq) for number in numbers))
            return await asyncio.wait_for(read, 20.0)
        finally:
            await store.close()

    monkeypatch.setattr("ashwood.dashboard.store_thread._PATIENCE", None)
    assert asyncio.run(all_of_them()) == [len(workers.entries)] * len(numbers)


def test_client_from_before_a_restart_reloads_all_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_cache, "_SNAPSHOT_ENTRIES", 10)
    a_home(tmp_path)
    for _ in range(2):  # the second begins where the first left off
        app = create_app(lambda: open_home(tmp_path), name="home")
        with TestClient(app, base_url="http://localhost") as client:
            page = get(client, "experiments/1")
            with Events(client, 1, page["seq"] - 1) as events:
                told = events.next()
    assert told["many"] == page["trials_created"]
    assert "trials" not in told


@pytest.mark.parametrize(
    ("said", "place"), [(None, 7), ("", 7), ("12", 12), ("-1", 7), ("1e3", 7), ("9" * 5_000, 7), ("x", 7)]
)
def test_stream_resumes_after_last_event_id(said: str | None, place: int) -> None:
    assert resume_position(said, 7) == place


def test_stream_of_deleted_experiment_sends_error_and_ends(tmp_path: Path) -> None:
    a_home(tmp_path)

    async def listen() -> list[bytes]:
        store = StoreThread(lambda: open_home(tmp_path))
        heard: list[bytes] = []
        async for said in until_failure(experiment_events(store, 1, 0)):
            heard.append(said)
            if len(heard) == 2:
                await store.do(lambda cache: cache.home.store.delete(1))
        await store.close()
        return heard

    *_, last = asyncio.run(listen())
    assert last.startswith(b"event: failed\n")
    assert "there is no experiment 1" in json.loads(last.partition(b"data: ")[2])["error"]["what"]


def test_one_experiment_is_listed_without_reading_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_home(tmp_path)
    with open_home(tmp_path) as home:
        looking = experiment_cache.ExperimentCache(home)
        monkeypatch.setattr(home.store, "experiments", lambda: pytest.fail("all of them"))
        assert [looking.list_experiment(number).record.state for number in (1, 3)] == ["completed", "created"]
        home.store.annotate(1, name="other")
        looking.refresh_list()
        assert looking.list_experiment(1).record.name == "other"
        home.store.delete(1)
        looking.refresh_list()
        for _ in range(2):
            with pytest.raises(NotFound):
                looking.list_experiment(1)
