"""``ashwood watch``: its display of any experiment, and of a real run on a real terminal."""

from __future__ import annotations

import io
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from rich.console import Console

from ashwood.cli import remote
from ashwood.engine import Home
from ashwood.errors import NotFound
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.decisions import Asked, LeaveExperiment, Warn
from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.events import AttemptFailed, DriverStarted, PauseRequested
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.settings import Mode
from ashwood.terminal.ladder import promotions, render_ladder
from ashwood.terminal.messages import named_trials
from ashwood.terminal.screen import render
from ashwood.terminal.watch import LogFollower, WatchedScreen
from ashwood.views.ladder import Ladder
from tests.eventlog.memory_store import MemoryStore
from tests.views.simulate import Workers, asha, power_law, spec_of
from tests.views.streams import runs

from .conftest import GATED, RANDOM, Workplace, go, wait_until
from .terminal import CTRL_C, Screen, on_terminal


def simulated(trials: int = 40, *, stop_after: int | None = None, crash: bool = False) -> Workers:
    ran = Workers(spec_of(asha(trials)), power_law(3), period=4)
    ran.run(stop_after=stop_after, crash=crash)
    return ran


def watcher(ran: Workers, *, driven: bool = True, entries: Sequence[Entry] | None = None) -> WatchedScreen:
    seen = WatchedScreen(7, ran.spec)
    if observed := ran.entries if entries is None else entries:
        seen.observe(observed)
    seen.set_state(ran.spec.name, driven=driven, complete=True, at=ran.clock())
    return seen


def drawn(
    seen: WatchedScreen, *, width: int = 140, height: int | None = 40, best: int | None = None, at: float = 0.0
) -> str:
    console = Console(file=io.StringIO(), width=width, height=height or 25, highlight=False)
    now = at or (seen.latest[-1].at if seen.latest else 1.0)
    picture = render(seen, now if seen.is_driven else None, console, "printed" if height is None else "full", best=best)
    lines = console.render_lines(picture, pad=False)
    return "\n".join("".join(segment.text for segment in line) for line in lines)


# -- what is drawn --------------------------------------------------------------------------------------


@examples(max_examples=25)
@given(ran=runs(), width=st.integers(40, 200), height=st.integers(20, 60), driven=st.booleans())
def test_watch_fits_any_experiment_to_the_screen(ran: Workers, width: int, height: int, driven: bool) -> None:
    lines = drawn(watcher(ran, driven=driven), width=width, height=height).splitlines()
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


@examples(max_examples=25)
@given(ran=runs(), data=st.data())
def test_watch_shows_the_same_for_any_split_of_the_log(ran: Workers, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(ran.entries)), max_size=5)) | {0, len(ran.entries)})
    # The time left depends on when it was forecast, so it is not compared.
    seen = watcher(ran, entries=(), driven=False)
    for start, end in pairwise(cuts):
        seen.observe(ran.entries[start:end])
    assert drawn(seen, height=None) == drawn(watcher(ran, driven=False), height=None)


def test_watch_shows_progress_rungs_best_trials_and_latest_events() -> None:
    ran = simulated(stop_after=150, crash=True)
    seen = watcher(ran)
    output = drawn(seen)
    progress = seen.progress
    assert re.search(r"experiment 7  running  simulated +q: leave", output)
    assert f"{progress.describe_created()}, {progress.reports} reports" in output
    assert re.search(r"\d of 4 workers busy", output)
    assert re.search(r"\d% .* left", output)
    for bracket in progress.ladder.brackets:
        assert f"bracket {bracket.number}: {bracket.created}/{bracket.planned} trials" in output
    first, second = progress.trials.best(2)
    table = output[re.search(r"trial +best loss +state", output).start() :].splitlines()  # type: ignore[union-attr]
    assert re.match(rf" *{first.id} +{first.metric:.6g} .*{first.hparams['lr']:.6g}$", table[1])
    assert re.match(rf" *{second.id} +{second.metric:.6g} ", table[2])
    assert re.search(r"trial \d+ reported at \d+ epochs?: loss .* → ", table[-1])


def test_watch_folds_trials_that_a_bracket_stops_into_one_event() -> None:
    output = drawn(watcher(simulated(200)), width=200)
    assert re.search(r"→ .*bracket \d finished: \d+ waiting trials stopped", output)


def test_watch_shows_whether_early_stopping_can_be_believed() -> None:
    early = drawn(watcher(simulated(stop_after=20, crash=True)))
    assert re.search(r"Early stopping: too early to judge; \d of 12 trials needed have reached rung 1", early)
    ran = Workers(spec_of(asha(200, mode=Mode.AGGRESSIVE)), lambda trial, length: trial % 97 + 1 / length)
    ran.run()
    assert "Early stopping can be trusted: the first rung (1 epoch) predicts" in drawn(watcher(ran))
    ran = Workers(spec_of(asha(20, max_rungs=1)), power_law(3))
    ran.run()
    assert "arly stopping" not in drawn(watcher(ran))
    printed = drawn(watcher(simulated(stop_after=20, crash=True)), width=80, height=None)
    assert re.search(r"have reached rung 1 \(\d+ epochs\)\.", " ".join(printed.split()))


def test_trust_meter_is_read_again_after_a_multiple_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5, 10.5, 11.0, 109.0, 111.0, 111.0, 111.0])
    monkeypatch.setattr(
        "ashwood.terminal.screen.time", SimpleNamespace(monotonic=lambda: next(clock), time=lambda: 0.0)
    )
    seen = watcher(simulated())
    readings = []
    monkeypatch.setattr(type(seen.progress.trust), "reading", lambda _: readings.append(1))
    for _ in range(4):
        seen.trust()
    assert len(readings) == 2


def test_watch_once_prints_as_many_lines_as_needed() -> None:
    seen = watcher(simulated())
    output = drawn(seen, height=None, best=12)
    assert len(re.findall(r"^ *\d+ +\d\.\d+ +(?:completed|stopped at)", output, re.MULTILINE)) == 12
    assert "q: leave" not in output
    assert "more: ashwood best 7" in output.splitlines()[-1]


def test_watch_shows_every_part_on_a_small_terminal() -> None:
    seen = watcher(simulated(stop_after=150, crash=True))
    output = drawn(seen, width=50, height=15)
    assert len(output.splitlines()) == 15
    assert "running" in output
    assert re.search(r"#0 \d+/\d+ +#1 \d+/\d+", output)
    assert re.search(r"\d+→\d", output)
    assert re.search(rf"^ *{seen.progress.trials.best()[0].id} ", output, re.MULTILINE)
    assert re.search(r"^\d\d:\d\d:\d\d  (?:create|pause|train|trial)", output, re.MULTILINE)


def test_rung_table_leaves_out_brackets_on_narrow_terminal() -> None:
    spec = spec_of(asha(40, mode=Mode.CONSERVATIVE))
    ladder = Ladder(spec)
    console = Console(width=30)
    lines = console.render_lines(render_ladder(spec, ladder, width=30), pad=False)
    title = "".join(segment.text for segment in lines[0]).rstrip()
    assert len(ladder.brackets) == 3
    assert re.fullmatch(r"epochs  #0 0/\d+  … 2 more", title)


def test_rung_table_counts_audits() -> None:
    ran = Workers(spec_of(asha(40, audit=Fraction("0.4"))), power_law(1))
    ran.run()
    ladder = fold(Ladder(ran.spec), ran.entries)
    for width, pattern in ((None, r"→ {} +{} audited"), (42, r"→{} +{}◇")):
        console = Console(width=90)
        lines = console.render_lines(render_ladder(ran.spec, ladder, width=width), pad=False)
        text = "\n".join("".join(segment.text for segment in line) for line in lines)
        rungs = [rung for rung in ladder.brackets[0].rungs if rung.audits]
        assert rungs
        assert all(re.search(pattern.format(rung.promoted, rung.audits), text) for rung in rungs)


def test_watch_highlights_recent_promotions() -> None:
    ran = simulated()
    seen = watcher(ran, entries=ran.entries[:100])
    assert "↑" not in drawn(seen, at=100.0)
    before = promotions(seen.progress.ladder)
    seen.observe(ran.entries[100:140])
    moved = seen.just_promoted(101.0)
    after = promotions(seen.progress.ladder)
    assert sum(moved.values()) > 0
    assert moved == {place: after[place] - before[place] for place in after}
    assert "↑" in drawn(seen, at=102.0)
    assert "↑" not in drawn(seen, at=105.0)


def test_watch_before_first_trial_shows_what_it_waits_for() -> None:
    ran = Workers(spec_of(asha(40)), power_law(3))
    assert "Not started yet. To start: ashwood resume 7" in drawn(watcher(ran, driven=False))
    seen = watcher(ran)
    assert "created" in drawn(seen)
    assert "no trial yet" in drawn(seen)
    seen.observe([Entry(1.0, DriverStarted(0), ())])
    assert "waiting for workers" in drawn(seen)


def test_watch_shows_how_to_resume_paused_or_interrupted_experiment() -> None:
    paused = simulated(stop_after=60)
    output = drawn(watcher(paused, driven=False))
    assert "experiment 7  paused" in output
    assert "To continue: ashwood resume 7" in output

    died = simulated(stop_after=60, crash=True)
    seen = watcher(died, driven=False)
    output = drawn(seen)
    assert "experiment 7  interrupted" in output
    assert "To continue: ashwood resume 7" in output
    assert " left" not in output
    seen.observe([Entry(died.clock(), DriverStarted(4), ())])
    seen.set_state("renamed", driven=True, complete=True, at=died.clock())
    output = drawn(seen)
    assert "experiment 7  running  renamed" in output
    assert "resume" not in output


def test_watch_names_the_trials_that_a_pause_waits_for() -> None:
    died = simulated(stop_after=60, crash=True)
    seen = watcher(died)
    assert "waiting for" not in drawn(seen)
    leave = LeaveExperiment(ExperimentState.PAUSED, Asked("paused"))
    seen.observe([Entry(died.clock(), PauseRequested(), (leave,))])
    output = drawn(seen)
    assert "pausing on request" in output
    assert f"waiting for {named_trials(seen.progress.waits_for)} to finish a step and save" in output


def test_warnings_stay_while_events_pass() -> None:
    ran = simulated(stop_after=100, crash=True)
    odd = Entry(ran.entries[-1].at, ran.entries[-1].event, (Warn("odd\x1b[2J\nand more"),))
    seen = watcher(ran, entries=[*ran.entries[:50], odd._replace(event=DriverStarted(4)), *ran.entries[50:]])
    output = drawn(seen)
    assert re.search(r"warning: odd\?\[2J$", output, re.MULTILINE)
    assert "\x1b" not in output


def test_watch_shows_each_failure_once() -> None:
    ran = simulated(stop_after=100, crash=True)
    trial = next(iter(watcher(ran).progress.trials.spending.live))
    failed = [Entry(ran.clock(), AttemptFailed(trial, 1, "ValueError: no"), ()) for _ in range(3)]
    seen = watcher(ran, entries=[*ran.entries, *failed])
    assert [output.message for output in seen.notices] == [
        f"warning: trial {trial} failed: ValueError: no (see: ashwood logs 7 {trial})"
    ]


# -- following the record ---------------------------------------------------------------------------------


class Recording(MemoryStore):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def log(self, *arguments: Any) -> Any:
        log = super().log(*arguments)

        def read(*, after: int = 0) -> Iterator[Any]:
            for each in log.read(after=after):
                self.read += 1
                yield each

        return SimpleNamespace(read=read, append=log.append)


def recorded(store: MemoryStore, spec: ExperimentSpec, entries: Sequence[Entry]) -> ExperimentId:
    experiment = store.create(spec, at=0.0)
    store.log(experiment).append(entries)
    return experiment


def test_log_follower_reads_each_entry_once(tmp_path: Path) -> None:
    ran, store = simulated(), Recording()
    experiment = recorded(store, ran.spec, ran.entries[:100])
    following = LogFollower(Home(tmp_path, store), experiment)
    following.catch_up()
    assert not following.is_over
    assert not following.take(1.0)
    store.log(experiment).append(ran.entries[100:])
    following.catch_up()
    assert store.read == len(ran.entries)
    assert following.is_over
    assert following.screen.progress.state is ExperimentState.COMPLETED
    assert (
        drawn(following.screen, height=None).splitlines()[1:]
        == drawn(watcher(ran, driven=False), height=None).replace(" 7", f" {experiment}").splitlines()[1:]
    )


def test_log_follower_reads_long_log_in_slices(tmp_path: Path) -> None:
    ran, store = simulated(200), MemoryStore()
    assert len(ran.entries) > 1000
    following = LogFollower(Home(tmp_path, store), recorded(store, ran.spec, ran.entries))
    slices = 1
    while following.take(0.0):
        assert not following.screen.complete
        slices += 1
    assert slices >= 3
    assert following.screen.complete


def test_watch_says_that_the_log_is_being_read() -> None:
    seen = watcher(simulated(stop_after=60, crash=True), driven=False)
    seen.set_state("simulated", driven=False, complete=False, at=1.0)
    output = drawn(seen)
    assert "reading the event log" in output
    assert "experiment 7  running" in output
    assert "driver process has stopped" not in output


def test_watch_of_deleted_experiment_is_an_error(tmp_path: Path) -> None:
    ran, store = simulated(stop_after=60), MemoryStore()
    experiment = recorded(store, ran.spec, ran.entries)
    following = LogFollower(Home(tmp_path, store), experiment)
    following.catch_up()
    store.delete(experiment)
    with pytest.raises(NotFound):
        following.take(1.0)


# -- the command --------------------------------------------------------------------------------------------


def test_watch_prints_once_if_output_is_not_a_terminal(workplace: Workplace) -> None:
    workplace.write(RANDOM)
    workplace.ashwood("run", "toy.yaml")
    output = workplace.ashwood("watch", "1")
    assert "experiment 1  completed  toy" in output
    assert "6/6 trials" in output
    assert "\x1b" not in output
    assert workplace.ashwood("watch", "1", "--once") == output
    assert len(workplace.ashwood("watch", "1", "--best", "2").splitlines()) == len(output.splitlines()) - 4
    assert "there is no experiment 2" in workplace.ashwood("watch", "2", code=1)


def test_watch_prints_once_on_cluster_head(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Sequence[str]] = []

    def look(url: str, arguments: Sequence[str], *, follow: bool) -> int:
        sent.append(arguments)
        return 0

    monkeypatch.setattr(remote, "look", look)
    workplace.ashwood("--on", "http://head:8265", "watch", "3", "--once", "--best", "4", "--home", "/data")
    assert sent == [["watch", "3", "--once", "--best", "4", "--home", "/data"]]


# -- on a terminal --------------------------------------------------------------------------------------------


def watching(workplace: Workplace, *arguments: str, **more: Any) -> AbstractContextManager[Screen]:
    return on_terminal(workplace, "watch", *arguments, **more)


def test_watch_runs_until_user_leaves_or_experiment_ends(workplace: Workplace) -> None:
    workplace.write(RANDOM, GATED)
    with workplace.driving("run", "toy.yaml", "--workers", "2") as driver:
        with watching(workplace, "1", "--interval", "60", NO_COLOR="1") as screen:
            shown = screen.wait_for(lambda shown: "experiment 1  running" in shown and "best" not in shown)
            assert screen.written.index("\x1b[?1049h") < screen.written.index("experiment 1")
            screen.resize(60, 15)
            shown = screen.wait_for(
                lambda shown: len(shown.split("\n")[0].rstrip("\r")) == 60 and shown.count("\n") == 14
            )
            assert "q: leave" in shown
            screen.press("x")
            screen.press("q")
            assert screen.left().strip() == ""
            assert not re.search(r"\x1b\[[0-9;]*[34][0-7]m", screen.written)
        with watching(workplace, "1", "--interval", "60") as screen:
            screen.wait_for(lambda shown: "experiment 1  running" in shown)
            screen.process.send_signal(signal.SIGINT)
            assert screen.left().strip() == ""
        with watching(workplace, "1", "--interval", "60") as screen:
            screen.wait_for(lambda shown: "experiment 1  running" in shown)
            screen.process.terminate()
            screen.wait_for(lambda _: "\x1b[?1049l" in screen.written)
        with watching(workplace, "1", "--interval", "0.1") as screen:
            screen.wait_for(lambda shown: "experiment 1  running" in shown)
            assert driver.poll() is None
            go(workplace)
            driver.communicate()
            last = screen.left()
            assert "experiment 1  completed  toy" in last
            assert "more: ashwood best 1" in last


def test_watch_ends_on_ctrl_c_if_sigint_was_ignored(workplace: Workplace) -> None:
    workplace.write(RANDOM, GATED)
    with (
        workplace.driving("run", "toy.yaml", "--workers", "2"),
        watching(workplace, "1", "--interval", "60", ignoring_sigint=True) as screen,
    ):
        screen.wait_for(lambda shown: "experiment 1  running" in shown)
        screen.press(CTRL_C)
        assert screen.left().strip() == ""


@pytest.mark.parametrize("command", ["events", "logs"])
def test_logs_follow_ends_on_ctrl_c_if_sigint_was_ignored(workplace: Workplace, command: str) -> None:
    workplace.write(RANDOM, GATED.replace("import pathlib", "print('gate'); import pathlib"))
    arguments = ["events", "1", "-f"] if command == "events" else ["logs", "1", "0", "-f"]
    with (
        workplace.driving("run", "toy.yaml", "--workers", "1"),
        on_terminal(workplace, *arguments, ignoring_sigint=True) as screen,
    ):
        screen.wait_for(lambda shown: "trial 0" in shown if command == "events" else "gate" in shown)
        screen.press(CTRL_C)
        screen.left()


def test_watch_continues_after_death_of_driver(workplace: Workplace) -> None:
    workplace.write(RANDOM, GATED)
    with (
        workplace.driving("run", "toy.yaml", "--workers", "2") as driver,
        watching(workplace, "1", "--interval", "0.1") as screen,
    ):
        screen.wait_for(lambda shown: "experiment 1  running" in shown)
        driver.kill()
        driver.communicate()
        shown = screen.wait_for(lambda shown: "experiment 1  interrupted" in shown and "To continue" in shown)
        assert "ashwood resume 1" in shown
        go(workplace)
        workplace.apart("resume", "1", "--workers", "2")
        assert "experiment 1  completed  toy" in screen.left()


def test_watch_continues_while_experiment_is_paused(workplace: Workplace) -> None:
    workplace.write(RANDOM, GATED)
    with (
        workplace.driving("run", "toy.yaml", "--workers", "2") as driver,
        watching(workplace, "1", "--interval", "0.1") as screen,
    ):
        workplace.ashwood("pause", "1")
        go(workplace)
        driver.communicate()
        screen.wait_for(lambda shown: "experiment 1  paused" in shown and "To continue: ashwood resume 1" in shown)
        screen.press("q")
        screen.left()
    wait_until(lambda: bool(workplace.json("list")[0]["state"] == "paused"))
