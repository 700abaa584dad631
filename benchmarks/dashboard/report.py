"""Everything that is measured of a dashboard: its first page, pages in a browser, answers, and what looking costs."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.dashboard import asking, made, pages, peer, watching
from benchmarks.dashboard.asking import Latency
from benchmarks.dashboard.made import EXPERIMENT, Size
from benchmarks.dashboard.running import Running
from benchmarks.dashboard.served import Client, Served, dashboard
from benchmarks.tables import Options, Table
from benchmarks.workload import Workload

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_LIMIT = 300.0


def tables(options: Options) -> Iterator[Table]:
    """Measure; ``quick``: a small experiment, for a short time."""
    size = made.SMALL if options.quick else made.LARGE
    home = made.home(size)
    running = Running(size)
    trials, reports = _size(home)
    what = f"an experiment with {trials:,} trials and {reports:,} reports"
    yield _first_page(home, what, 3 if options.quick else 7)
    yield _experiment_page(home, what, 2 if options.quick else 5)
    yield _answers(home, running, what, 5 if options.quick else 40)
    yield _live(running, what, 5 if options.quick else 30)
    yield _throughput(1 if options.quick else 4, 5 if options.quick else 15)
    if options.peers:
        yield _beside(home, size, what)


def _size(home: Path) -> tuple[int, int]:
    with dashboard(home) as served:
        served.wait_until_read(EXPERIMENT)
        page = served.get(f"/api/v1/experiments/{EXPERIMENT}")
    return page["trials_created"], page["reports"]


def _say(what: str) -> None:
    print(f"  {what} (load {os.getloadavg()[0]:.1f})", file=sys.stderr)


# -- the first page ------------------------------------------------------------------------------


def _first_page(home: Path, what: str, repeats: int) -> Table:
    _say("first page")
    seconds = []
    for _ in range(repeats):
        with dashboard(home) as served:
            _ask_first(served)
            seconds.append(time.monotonic() - served.began)
    return Table(
        "First page",
        "Seconds from the command `ashwood ui --no-open` until the first page and the list of experiments are "
        f"answered; {repeats} starts, with {what}. Aim: under 1.5.",
        ["", "median", "slowest"],
        [["Ashwood", median(seconds), max(seconds)]],
    )


def _ask_first(served: Served) -> None:
    with Client(served.port) as client:
        client.get("/")
        client.get("/api/v1/experiments")


# -- its page ------------------------------------------------------------------------------------


def _experiment_page(home: Path, what: str, repeats: int) -> Table:
    rows: list[list[object]] = []
    overview, trials = pages.experiment_page(EXPERIMENT), pages.trials_page(EXPERIMENT)
    kept = home / "experiments" / str(EXPERIMENT) / "history"

    def row(name: str, seen: pages.Visit, served: Served) -> None:
        marks = [seen.marks.get("usable"), seen.marks.get("drawn"), seen.longest_block]
        rows.append([name, *(None if each is None else each / 1000 for each in marks), served.peak_mb()])

    with pages.browser() as opened:
        with dashboard(home) as served:
            _say("pages, record read")
            served.wait_until_read(EXPERIMENT)
            served.get(f"/api/v1/experiments/{EXPERIMENT}/figures/ladder")
            row("record read: overview", pages.visits(opened, served.url(""), overview, repeats), served)
            row("record read: table of trials", pages.visits(opened, served.url(""), trials, repeats), served)
        _say("pages, server just started")
        with dashboard(home) as served:
            row("server just started: overview", pages.visit(opened, served.url(""), overview), served)
        _say("pages, nothing read")
        kept.unlink(missing_ok=True)
        with dashboard(home) as served:
            row("nothing read yet: overview", pages.visit(opened, served.url(""), overview), served)
            served.wait_until_read(EXPERIMENT)
            seconds = time.monotonic() - served.began
            row(f"nothing read yet: all of it, after {seconds:.0f} s", pages.Visit({}, None), served)
    return Table(
        "Experiment page",
        f"Seconds in a headless Chromium with nothing in its cache, at 1440 x 900, of {what}; from the start of "
        "navigation until the header, the controls and the rows of the table are there (usable), and until the ladder "
        f"is drawn; the longest time in which the page did not react; medians of {repeats} where the record is read. "
        "A server that has read a record before keeps what it read for the next one. In the last column the most "
        "memory that the server had until then, in MB. Aim: usable under 1.",
        ["", "usable", "ladder drawn", "longest block", "MB"],
        rows,
    )


# -- answers -------------------------------------------------------------------------------------


def _answers(home: Path, running: Running, what: str, seconds: float) -> Table:
    _say("answers, at rest")
    with dashboard(home) as served:
        served.wait_until_read(EXPERIMENT)
        paths = _paths(served)
        first = asking.once(served.port, paths)
        rest = asking.measure(served.port, paths, seconds)
        sizes = asking.sizes(served.port, paths)
    _say("answers, running")
    running.rewind()
    with tempfile.TemporaryDirectory() as place, dashboard(running.path) as served:
        served.wait_until_read(EXPERIMENT)
        asking.once(served.port, paths)
        with running.driven(Path(place, "commits")):
            busy = asking.measure(served.port, paths, seconds)
    everything = [_all(rest), _all(busy)]
    rows: list[list[object]] = [
        [name, sizes[name] / 1000, first[name], *_of(rest.get(name)), *_of(busy.get(name))] for name in paths
    ]
    rows.append(["all", None, None, *(part for each in everything for part in _of(each))])
    return Table(
        "Answers",
        f"Milliseconds that answers of the API take, of {what}: {asking.CLIENTS} clients at once ask for everything in "
        f"random order, without a break, for {seconds:.0f} s; while nothing happens, and while {running.rate:,} "
        "reports a second arrive. The first column of times is the first answer of a server that has just read the "
        "record, with what has to be loaded and drawn for it. Aim: under 200 at the 95th percentile.",
        ["", "kB", "first", "at rest, median", "95 %", "running, median", "95 %"],
        rows,
    )


def _paths(served: Served) -> dict[str, str]:
    figures = [each["name"] for each in served.get(f"/api/v1/experiments/{EXPERIMENT}/figures")]
    best = served.get(f"/api/v1/experiments/{EXPERIMENT}")["best"]["trial"]
    return asking.endpoints(EXPERIMENT, best, figures)


def _of(latency: Latency | None) -> list[float | None]:
    return [None, None] if latency is None else [latency.median, latency.p95]


def _all(latencies: dict[str, Latency]) -> Latency:
    """Of all endpoints the one in the middle, and the worst."""
    return Latency(
        sum(each.number for each in latencies.values()),
        median(each.median for each in latencies.values()),
        max(each.p95 for each in latencies.values()),
        max(each.most for each in latencies.values()),
    )


# -- live ----------------------------------------------------------------------------------------


def _live(running: Running, what: str, seconds: float) -> Table:
    _say("live")
    running.rewind()
    with tempfile.TemporaryDirectory() as place, dashboard(running.path) as served:
        served.wait_until_read(EXPERIMENT)
        commits = Path(place, "commits")
        with running.driven(commits):
            behind = Latency.of(watching.lags(served, commits, seconds))
    return Table(
        "Live updates",
        f"Milliseconds from a commit of the driver until a client that listens is told of it, of {what}, of which "
        f"{running.rate:,} a second arrive. Aim: under 1,000.",
        ["", "commits", "median", "95 %", "most"],
        [["Ashwood", behind.number, behind.median, behind.p95, behind.most]],
    )


# -- what looking costs --------------------------------------------------------------------------


def _throughput(repeats: int, seconds: float) -> Table:
    workloads = {
        "steps of 20 ms, 8 workers": Workload(trials=100_000, workers=8, step_seconds=0.02),
        "steps that cost nothing, 2 workers": Workload(trials=100_000, workers=2, step_seconds=0),
    }
    rows: list[list[object]] = []
    for name, workload in workloads.items():
        alone, clients, tabs = [], [], []
        for _ in range(repeats):
            _say(name)
            alone.append(watching.steps_per_second(workload, seconds, pages=0))
            clients.append(watching.steps_per_second(workload, seconds, pages=watching.PAGES))
            tabs.append(watching.steps_per_second(workload, seconds, pages=watching.PAGES, in_browser=True))
        left, looked_at, shown = median(alone), median(clients), median(tabs)
        rows.append([name, left, looked_at, 100 * looked_at / left, shown, 100 * shown / left])
    return Table(
        "What looking costs",
        f"Training steps a second of a search on this machine, with a report each, without a dashboard, and with one "
        f"that {watching.PAGES} pages look at: as clients that do what pages do (follow the events, ask for the ladder "
        "and the best so far again every 2 s); and as tabs of a Chromium on the same machine, all of them visible, "
        f"which draw on the processors that train. Medians of {repeats}, one after the other in turn. Aim: 95 % where "
        "training takes time.",
        ["", "without", "10 clients", "%", "10 tabs", "%"],
        rows,
    )


# -- beside others -------------------------------------------------------------------------------


def _beside(home: Path, size: Size, what: str) -> Table:
    _say("optuna-dashboard")
    rows: list[list[object]] = []
    with pages.browser() as opened:
        with dashboard(home) as served:
            with Client(served.port) as client:
                client.get("/")
                client.get("/api/v1/experiments")
            rows.append(["Ashwood", *_opened(served, opened, pages.experiment_page(EXPERIMENT), peer.OUR_PATHS)])
        with peer.dashboard(peer.study(size)) as served:
            with Client(served.port) as client:
                client.get("/dashboard")
                client.get("/api/studies")
            paths = {name: path.format(after=size.trials - 1) for name, path in peer.PATHS.items()}
            rows.append(["optuna-dashboard", *_opened(served, opened, peer.study_page(), paths)])
    return Table(
        "Beside optuna-dashboard",
        f"{what[0].upper()}{what[1:]}, and a study of {size.trials:,} trials with {peer.VALUES} intermediate values "
        "each in Optuna's SQLite storage, filled by SQL. Seconds from the command until the first page and the list "
        "are answered; then the page of the experiment in a browser, until it can be used (optuna-dashboard's: shows "
        f"its history) and until the ladder, or the intermediate values, are drawn; –: not in {pages.PATIENCE:.0f} s. "
        "Then milliseconds of single answers, asked for alone, the first time; the whole of an experiment (of ours: "
        f"its header, the rest comes in pieces); inf: none in {_LIMIT:.0f} s. Ours had kept what it read of it.",
        ["", "first page, s", "usable, s", "drawn, s", "longest block, s", *peer.PATHS, "MB"],
        rows,
    )


def _opened(served: Served, opened: Browser, page: pages.Milestones, paths: Mapping[str, str]) -> list[object]:
    start = time.monotonic() - served.began
    seen = pages.visit(opened, served.url(""), page)
    return [start, *_marks(seen), *asking.once(served.port, paths, _LIMIT).values(), served.peak_mb()]


def _marks(seen: pages.Visit) -> list[float | None]:
    told = [seen.marks.get("usable"), seen.marks.get("drawn"), seen.longest_block]
    return [None if each is None else each / 1000 for each in told]
