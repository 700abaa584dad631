"""The harness can fail: whatever is tampered with, the oracle complains."""

import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from ashwood.experiment.decisions import CreateTrial, PauseTrial
from ashwood.experiment.events import AttemptStarted, ValidationReported

from .oracle import Evidence, differences, judge
from .schedule import blows
from .sessions import Place


def find(evidence: Evidence, kind: type, nth: int = 0) -> int:
    """The place of the nth event of a kind in the log."""
    return [number for number, entry in enumerate(evidence.entries) if isinstance(entry.event, kind)][nth]


def change(evidence: Evidence, number: int, **fields: Any) -> None:
    entry = evidence.entries[number]
    evidence.entries[number] = entry._replace(event=entry.event._replace(**fields))


def a_report_lost(evidence: Evidence) -> None:
    del evidence.entries[find(evidence, ValidationReported, 1)]


def the_end_lost(evidence: Evidence) -> None:
    del evidence.entries[-4:]


def a_report_doubled(evidence: Evidence) -> None:
    number = find(evidence, ValidationReported)
    evidence.entries.insert(number, evidence.entries[number])


def a_report_changed(evidence: Evidence) -> None:
    change(evidence, find(evidence, ValidationReported), metrics={"loss": 0.5})


def a_report_made_up(evidence: Evidence) -> None:
    evidence.diary = [line for line in evidence.diary if line[2:4] != ["report", 2]]


def an_entry_from_before(evidence: Evidence) -> None:
    evidence.entries[5] = evidence.entries[5]._replace(at=evidence.entries[4].at - 1)


def not_over(evidence: Evidence) -> None:
    evidence.state = "paused"


def two_processes_of_a_trial(evidence: Evidence) -> None:
    evidence.diary.insert(1, [evidence.diary[0][0], evidence.diary[0][1], "overlap"])


def an_attempt_that_goes_on_beside_the_next(evidence: Evidence) -> None:
    number = next(number for number, line in enumerate(evidence.diary) if line[1:3] == [2, "start"])
    evidence.diary.insert(number + 1, [evidence.diary[number][0], 1, "step", 2])


def an_attempt_that_begins_twice(evidence: Evidence) -> None:
    evidence.diary.append(next(line for line in evidence.diary if line[2] == "start"))


def training_repeated(evidence: Evidence) -> None:
    start = next(line for line in evidence.diary if line[1:3] == [2, "start"])
    start[3] = 0


def a_checkpoint_deleted(evidence: Evidence) -> None:
    again = [n for n, e in enumerate(evidence.entries) if isinstance(e.event, AttemptStarted) and e.event.attempt == 2]
    change(evidence, again[0], length=0)


def another_start_recorded(evidence: Evidence) -> None:
    change(evidence, find(evidence, AttemptStarted), length=3)


def other_hyperparameters(evidence: Evidence) -> None:
    for number, entry in enumerate(evidence.entries):
        decisions = [d._replace(hparams={"x": 0.1}) if isinstance(d, CreateTrial) else d for d in entry.decisions]
        evidence.entries[number] = entry._replace(decisions=tuple(decisions))


def another_verdict(evidence: Evidence) -> None:
    for number, entry in enumerate(evidence.entries):
        decisions = [d for d in entry.decisions if not isinstance(d, PauseTrial)]
        evidence.entries[number] = entry._replace(decisions=tuple(decisions))


def a_process_left(evidence: Evidence) -> None:
    evidence.left = ["process 1: worker"]


def a_driver_that_gave_up(evidence: Evidence) -> None:
    evidence.manual = ["driver 0 gave up with 1"]


@pytest.mark.parametrize(
    ("tamper", "complaint"),
    [
        (a_report_lost, "acknowledged"),
        (the_end_lost, "acknowledged"),
        (a_report_doubled, "recorded twice"),
        (a_report_changed, "training gives"),
        (a_report_made_up, "no training code made it"),
        (an_entry_from_before, "older than the one before"),
        (not_over, "the experiment is paused"),
        (two_processes_of_a_trial, "while another process was at it"),
        (an_attempt_that_goes_on_beside_the_next, "goes on beside 2"),
        (an_attempt_that_begins_twice, "began after"),
        (training_repeated, "was complete"),
        (a_checkpoint_deleted, "had been saved"),
        (another_start_recorded, "training code says 0"),
        (other_hyperparameters, "(bracket, nth)"),
        (another_verdict, "verdict"),
        (a_process_left, "left behind"),
        (a_driver_that_gave_up, "gave up"),
    ],
)
def test_the_oracle_complains(smallest: Evidence, tamper: Callable[[Evidence], None], complaint: str) -> None:
    assert judge(smallest, smallest, ordered=True).complaints == []
    tampered = replace(smallest, entries=list(smallest.entries), diary=deepcopy(smallest.diary))
    tamper(tampered)
    complaints = judge(tampered, smallest, ordered=True).complaints
    assert any(complaint in each for each in complaints), complaints


def test_losses_and_repetitions_are_counted(smallest: Evidence) -> None:
    tampered = replace(smallest, entries=list(smallest.entries), diary=deepcopy(smallest.diary))
    a_report_lost(tampered)
    training_repeated(tampered)
    found = judge(tampered, smallest, ordered=True)
    assert found.lost == 1
    assert found.beyond >= 1


def test_two_logs_that_differ_are_told_apart(smallest: Evidence) -> None:
    later = [entry._replace(at=entry.at + 1) for entry in smallest.entries]
    assert list(differences(smallest.entries, later)) == []
    tampered = replace(smallest, entries=list(smallest.entries))
    a_report_changed(tampered)
    assert list(differences(smallest.entries, tampered.entries))


def test_a_process_that_is_left_is_found_and_ended(tmp_path: Path) -> None:
    place = Place(tmp_path)
    sleep = "import time; print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", sleep], env=place.environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert place.processes() == [process.pid]
        place.end_all()
        process.wait()
    assert place.wait_until_empty(10) == []


def test_a_schedule_follows_from_its_seed() -> None:
    drawn = [list(islice(blows(seed, entries=100, worker_kills=3), 50)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert {blow.point is None for blow in drawn[0]} == {True, False}
