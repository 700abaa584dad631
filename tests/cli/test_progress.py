"""Output of a running experiment: neither a slow reader nor a signal can block the driver."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from rich.console import Console

from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.decisions import Warn
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    AttemptFailed,
    AttemptStarted,
    CapacityChanged,
    CheckpointSaved,
    DriverStarted,
    Event,
    PauseRequested,
    ValidationReported,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import ExperimentSpec
from ashwood.terminal.live import LiveReporter
from ashwood.terminal.reporter import JsonReporter, PlainReporter, Reporter
from ashwood.testing.records import full_spec

from .conftest import TRAIN, Workplace, wait_until
from .terminal import CTRL_C, CTRL_Q, CTRL_S, on_terminal

SPEC = replace(full_spec(), max_restarts=0)


class Output(io.StringIO):
    """A stream that calls a function before each write."""

    def __init__(self, before: Callable[[], object]) -> None:
        super().__init__()
        self._before = before

    def write(self, text: str, /) -> int:
        self._before()
        return super().write(text)


def a_live_reporter(experiment: ExperimentId, spec: ExperimentSpec) -> Reporter:
    console = Console(file=sys.stdout, force_terminal=True, width=200, height=50, highlight=False)
    return LiveReporter(experiment, spec, console)


REPORTERS = pytest.mark.parametrize("make", [a_live_reporter, PlainReporter, JsonReporter])
Make = Callable[[ExperimentId, ExperimentSpec], Reporter]


@contextmanager
def reporting(make: Make, monkeypatch: pytest.MonkeyPatch, before_write: Callable[[], object]) -> Iterator[Reporter]:
    output = Output(before_write)
    monkeypatch.setattr("sys.stdout", output)
    monkeypatch.setattr("sys.stderr", output)
    with make(1, SPEC) as reporter:
        yield reporter


def entries() -> Iterator[Sequence[Entry]]:
    """Turns of which reporters say a failure, a trial given up, a warning, a capacity and a pause."""
    experiment = Experiment(SPEC)
    events: list[Event] = [
        DriverStarted(2),
        AttemptStarted(0, 1, 0, 0),
        AttemptFailed(0, 1, "ValueError: diverged\ndetails"),
        CapacityChanged(0, {}, "every node died"),
        PauseRequested(),
    ]
    for at, event in enumerate(events):
        odd = (Warn("odd"),) if at == 1 else ()
        yield [Entry(float(at), event, (*experiment.handle(event), *odd))]


def test_plain_reporter_shows_a_leader_once_if_its_checkpoint_is_saved_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment = Experiment(SPEC)
    length, metric = 1, SPEC.metric
    worse, better = ({metric: value} for value in ((0.9, 0.5) if SPEC.smaller_is_better else (0.5, 0.9)))
    events: list[Event] = [
        DriverStarted(2),
        AttemptStarted(0, 1, 0, 0),
        AttemptStarted(1, 1, 0, 0),
        ValidationReported(0, 1, length, worse),
        ValidationReported(1, 1, length, better),
        CheckpointSaved(0, 1, length, "trial-0/length-1-attempt-1", worse),
        CheckpointSaved(1, 1, length, "trial-1/length-1-attempt-1", better),
    ]
    output = io.StringIO()
    monkeypatch.setattr("sys.stdout", output)
    with PlainReporter(1, SPEC) as reporter:
        reporter.ready(2)
        for at, event in enumerate(events):
            reporter.observe([Entry(float(at), event, experiment.handle(event))])
    assert re.findall(r"best so far: trial (\d)", output.getvalue()) == ["0", "1"]


@REPORTERS
def test_reporter_writes_without_holding_its_lock(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []
    made: list[Reporter] = []

    def take_lock() -> None:
        # As the refresh of the live display does. It waits for another thread, but not for its own.
        taken.extend(reporter._lock.acquire(timeout=5) for reporter in made)
        if made and taken[-1]:
            made[0]._lock.release()

    with reporting(make, monkeypatch, take_lock) as reporter:
        made.append(reporter)
        reporter.ready(2)
        for turn in entries():
            reporter.observe(turn)
        reporter.interrupted(1)
    assert taken
    assert all(taken)


@REPORTERS
def test_reporter_returns_at_once_while_its_output_is_blocked(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked, opened = threading.Event(), threading.Event()

    def wait() -> None:
        blocked.set()
        assert opened.wait(60)

    def drive() -> None:
        reporter.ready(2)
        blocked.wait(60)
        for turn in entries():
            reporter.observe(turn)
        reporter.interrupted(1)
        reporter.summary()

    with reporting(make, monkeypatch, wait) as reporter:
        driver = threading.Thread(target=drive, daemon=True)
        driver.start()
        driver.join(10)
        halted = driver.is_alive()
        opened.set()
    assert not halted


@REPORTERS
def test_reporter_writes_everything_in_order_before_it_ends(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with reporting(make, monkeypatch, lambda: None) as reporter:
        output = sys.stdout
        reporter.ready(2)
        for turn in entries():
            reporter.observe(turn)
        reporter.interrupted(1)
    assert isinstance(output, Output)
    printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue())
    places = [
        printed.index("warning: odd"),
        printed.index("trial 0 failed once and will not be retried: ValueError: diverged\n  | "),
    ]
    if make is JsonReporter:
        json_lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        assert [line["event"]["is"] for line in json_lines[1:]] == [
            "DriverStarted",
            "AttemptStarted",
            "AttemptFailed",
            "CapacityChanged",
            "PauseRequested",
        ]
        places += [printed.index('"is": "PauseRequested"')]
    else:
        words = ("0 workers: every node died", "pausing: ", "press Ctrl-C again", "experiment 1 ")
        places += [printed.index(text, places[-1]) for text in words]
    assert places == sorted(places)


@pytest.mark.timeout(60)
def test_signal_handler_returns_while_the_display_waits_for_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    with reporting(a_live_reporter, monkeypatch, lambda: None) as reporter:
        assert isinstance(reporter, LiveReporter)
        reporter.ready(2)
        former = signal.signal(signal.SIGUSR1, lambda *_: reporter.interrupted(1))
        try:
            with reporter._lock:
                # The refresh thread takes the lock of the display, and then waits for that of the reporter.
                while not reporter._live._refresh_thread or reporter._live._lock.acquire(blocking=False):
                    if reporter._live._refresh_thread:
                        reporter._live._lock.release()
                    threading.Event().wait(0.01)
                signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, former)


# -- on a real terminal and a real pipe -----------------------------------------------------------

DIVERGING = """
def train(trial):
    if trial.id % 10:
        raise ValueError(f"diverged at x={trial.hparams.x}")
    for step in trial.epochs():
        trial.report(loss=trial.hparams.x + 1 / (step + 1))
"""

MANY_FAILURES = """
name: toy
entrypoint: train:train
hyperparameters: {x: {type: double, minval: 0.0, maxval: 1.0}}
max_restarts: 0
max_common_failures: 0
searcher: {name: adaptive_asha, metric: loss, max_length: {epochs: 16}, max_trials: 400}
"""

ENDLESS = """
name: toy
entrypoint: train:train
hyperparameters: {x: {type: double, minval: 0.0, maxval: 1.0}}
searcher: {name: random, metric: loss, max_length: {epochs: 1000000}, max_trials: 1}
"""

REPORTING = """
import time

def train(trial):
    for epoch in trial.epochs():
        trial.report(loss=1.0)
        time.sleep(0.001)
"""

STUCK = TRAIN.replace('print("epoch", epoch)', "import time; time.sleep(3600)")


def test_display_survives_hundreds_of_failures(workplace: Workplace) -> None:
    workplace.write(MANY_FAILURES, DIVERGING)
    with on_terminal(workplace, "run", "toy.yaml", "--workers", "12") as screen:
        assert "360 of 400 trials failed" in screen.left()


def test_ctrl_c_on_a_terminal_pauses_and_a_second_one_ends_the_run(workplace: Workplace) -> None:
    workplace.write(train=STUCK)
    with on_terminal(workplace, "run", "toy.yaml", "--workers", "2") as screen:
        screen.wait_for(lambda shown: "2 of 2 workers busy" in shown)
        screen.press(CTRL_C)
        screen.wait_for(lambda shown: "pausing: running trials save a checkpoint" in shown)
        screen.press(CTRL_C)
        shown = screen.left(code=3)
        assert "ending at once: running trials lose their work" in shown
        assert "experiment 1 paused" in shown
        assert screen.written.rpartition("\x1b[?25")[2].startswith("h"), "the cursor is hidden"


_HEED_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""SIGINT may be ignored where the tests were started."""


@contextmanager
def into_a_small_pipe(
    workplace: Workplace, *arguments: str
) -> Iterator[tuple[subprocess.Popen[bytes], io.BufferedReader]]:
    """A command whose output goes into a pipe of one page, and the end to read from."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    with (
        os.fdopen(read, "rb") as output,
        subprocess.Popen(
            [sys.executable, "-P", "-c", f"{_HEED_SIGINT}; from ashwood.cli.main import main; main()", *arguments],
            cwd=workplace.path,
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=write,
        ) as process,
    ):
        os.close(write)
        try:
            yield process, output
        finally:
            process.kill()


def pause_once_the_pipe_is_full(workplace: Workplace, output: io.BufferedReader) -> list[bytes]:
    """Wait until more is recorded than the pipe can hold, then pause; return the lines read before."""
    first = output.readline()
    wait_until(lambda: workplace.json("describe", "1")["reports"] > 200)
    workplace.ashwood("pause", "1")
    wait_until(lambda: bool(workplace.json("describe", "1")["state"] == "paused"))
    return [first]


def test_driver_answers_while_its_output_is_not_read_and_loses_no_line(workplace: Workplace) -> None:
    workplace.write(ENDLESS, REPORTING)
    with into_a_small_pipe(workplace, "run", "toy.yaml", "--workers", "1", "--json") as (process, output):
        lines = pause_once_the_pipe_is_full(workplace, output) + output.readlines()
        assert process.wait(60) == 3
    _, *printed = map(json.loads, lines)
    recorded = map(json.loads, workplace.ashwood("events", "1", "--json").splitlines())
    assert [line["event"] for line in printed] == [line["event"] for line in recorded]


def test_ctrl_c_ends_a_run_whose_output_is_not_read(workplace: Workplace) -> None:
    workplace.write(ENDLESS, REPORTING)

    def interrupt() -> bool:
        process.send_signal(signal.SIGINT)
        return process.poll() is not None

    with into_a_small_pipe(workplace, "run", "toy.yaml", "--workers", "1", "--json") as (process, output):
        pause_once_the_pipe_is_full(workplace, output)
        wait_until(interrupt)
        assert process.returncode != -signal.SIGABRT, "Python waits for the thread at exit, and gives up"


def test_driver_answers_while_its_terminal_is_stopped(workplace: Workplace) -> None:
    workplace.write(ENDLESS, REPORTING)
    with on_terminal(workplace, "run", "toy.yaml", "--workers", "1") as screen:
        screen.wait_for(lambda shown: "1 of 1 worker" in shown)
        screen.press(CTRL_S)
        workplace.ashwood("pause", "1")
        wait_until(lambda: bool(workplace.json("describe", "1")["state"] == "paused"))
        screen.press(CTRL_Q)
        assert "experiment 1 paused" in screen.left(code=3)
