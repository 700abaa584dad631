"""``ashwood preview-search`` where it is known what a unit of training takes."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Workplace

PRICED = ("--cost-per-worker-hour", "2.10", "--checkpoint-size", "300MB", "--start-time", "5s", "--save-time", "2s")


@pytest.fixture
def small(workplace: Workplace) -> Workplace:
    workplace.file.write_text(workplace.file.read_text().replace("max_trials: 24", "max_trials: 16"))
    return workplace


def test_it_says_what_the_search_takes_beside_others(small: Workplace) -> None:
    said = small.ashwood("preview-search", "toy.yaml", "--workers", "4", "--unit-time", "40s", *PRICED)
    lines = said.splitlines()
    row = next(line for line in lines if line.startswith("search "))
    assert row.split()[1] in ("minutes", "hours")
    rows = [line.split("  ")[0] for line in lines[lines.index(row) + 1 :]]
    assert rows[:5] == [
        "adaptive_asha standard",
        "adaptive_asha aggressive",
        "adaptive_asha conservative",
        "sync_halving",
        "random",
    ]
    assert "On 4 workers, with 40 s for 1 epoch on average" in said
    assert "random search would train" in said
    assert "checkpoints at once" in said
    assert len(lines) < 40


def test_it_says_so_in_json(small: Workplace) -> None:
    shown = small.json("preview-search", "toy.yaml", "--workers", "4", "--unit-time", "40s", *PRICED)
    outlook = shown["outlook"]
    assert outlook["seconds"]["low"] <= outlook["seconds"]["middle"] <= outlook["seconds"]["high"]
    assert outlook["cost"]["middle"] == pytest.approx(2.1 * outlook["worker_hours"]["middle"])
    assert outlook["disk_bytes"]["high"] == 3e8 * outlook["checkpoints"]["high"]
    assert shown["conditions"]["unit_seconds"] == 40
    assert shown["conditions"]["costs"] == {"start": 5, "restore": 0, "save": 2, "straggling": 0}
    assert [each["settings"]["method"] for each in shown["beside"]][-2:] == ["sync_halving", "random"]


def test_without_a_unit_time_nothing_is_said_of_time(small: Workplace) -> None:
    shown = small.json("preview-search", "toy.yaml", "--workers", "4")
    assert shown["outlook"] is None
    assert "conditions" not in shown
    assert "hours" not in small.ashwood("preview-search", "toy.yaml")


def test_the_number_of_workers_is_that_of_this_machine_unless_it_is_given(small: Workplace) -> None:
    said = small.ashwood("preview-search", "toy.yaml", "--unit-time", "1s")
    assert "as many as this machine has room for" in said


def test_workers_that_the_search_has_no_use_for_are_named(small: Workplace) -> None:
    said = small.ashwood("preview-search", "toy.yaml", "--unit-time", "1s", "--workers", "20")
    assert "max_concurrent_trials lets only 16 of the 20 workers train" in said


def test_a_grid_is_compared_with_nothing(workplace: Workplace) -> None:
    workplace.file.write_text(
        workplace.file.read_text()
        .replace("name: adaptive_asha", "name: grid")
        .replace("max_trials: 24, divisor: 4", "max_concurrent_trials: 2")
        .replace("maxval: 1.0}", "maxval: 1.0, count: 3}")
    )
    shown = workplace.json("preview-search", "toy.yaml", "--unit-time", "1s", "--workers", "2")
    assert shown["exact"]
    assert shown["beside"] == []


def test_what_is_wrong_with_options_is_said_with_an_example(small: Workplace) -> None:
    said = small.ashwood(
        "preview-search", "toy.yaml", "--unit-time", "soon", "--unit-time-spread", "0.5", "--checkpoint-size", "big",
        code=2,
    )  # fmt: skip
    assert "--unit-time: must be a duration above 0, such as 40s" in said
    assert "--unit-time-spread: must be a factor of at least 1, such as 1.5x" in said
    assert "--checkpoint-size: must be a size above 0, such as 300MB" in said


def test_options_that_mean_nothing_without_a_unit_time_say_so(small: Workplace) -> None:
    said = small.ashwood("preview-search", "toy.yaml", "--cost-per-worker-hour", "2", code=2)
    assert "--cost-per-worker-hour: says nothing while it is unknown" in said
    assert "--unit-time 40s" in said
