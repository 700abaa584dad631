"""Replacing the searcher section of a file without changing anything else."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from ashwood.config import parse_length, read_experiment, replace_searcher, searcher_of, section_text, with_search
from ashwood.errors import ConfigError
from ashwood.experiment.spec import Length, Unit
from ashwood.forecast.searches import in_mode
from ashwood.search.settings import Method, Mode, SearchSettings

FITTED = SearchSettings(
    method=Method.ADAPTIVE_ASHA, max_length=27, max_trials=500, mode=Mode.AGGRESSIVE, divisor=Fraction(5, 2)
)
LEAST = "\nentrypoint: python x.py {a}\nhyperparameters: {a: {type: int, minval: 1, maxval: 3}}\n"
BLOCK = """\
# top
name: mine # why not
searcher:
  # how
  name: async_halving
  metric: "val loss"
  smaller_is_better: false
  max_length:
    epochs: 27
  max_trials: 9
  num_rungs: 2
  stop_when: {metric_at: 0.9, max_time: 2h}

# what
entrypoint: python train.py {lr}
hyperparameters:
  lr: {type: log, minval: -4, maxval: 0}
"""


def rewritten(text: str, length: Length | None = None) -> str:
    return replace_searcher(text, with_search(searcher_of(text), FITTED, length))


def test_replace_searcher_keeps_other_lines() -> None:
    text = rewritten(BLOCK)
    before, after = BLOCK.split("searcher:")
    assert text.startswith(before + "searcher:\n  name: adaptive_asha\n")
    assert text.endswith("\n\n# what" + after.split("\n\n# what")[1])


def test_with_search_keeps_other_keys(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(rewritten(BLOCK))
    spec = read_experiment(path).spec
    assert spec.search == FITTED
    assert (spec.metric, spec.smaller_is_better, spec.unit) == ("val loss", False, Unit.EPOCHS)
    assert (spec.metric_at, spec.max_time) == (0.9, 7200.0)


@pytest.mark.parametrize(
    "searcher",
    [
        "searcher: {name: random, metric: loss, max_length: 27, max_trials: 3}",
        "searcher: {name: random, metric: loss,\n  max_length: 27,\nmax_trials: 3\n}",
        '"searcher":\n  name: random\n  metric: loss\n  max_length: 27\n  max_trials: 3',
        "searcher:\n  {name: grid, metric: loss, time_metric: epochs, max_time: 27}",
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_replace_searcher_handles_all_ways_to_write_section(tmp_path: Path, searcher: str, last: bool) -> None:
    rest = "entrypoint: python x.py {a}\nhyperparameters: {a: {type: int, minval: 1, maxval: 3}}"
    text = f"{rest}\n{searcher}\n" if last else f"{searcher}\n{rest}\n"
    path = tmp_path / "x.yaml"
    path.write_text(rewritten(text))
    assert read_experiment(path).spec.search == FITTED
    assert rest in path.read_text()


def test_with_search_replaces_length_in_both_spellings() -> None:
    text = "searcher: {name: grid, metric: loss, time_metric: epochs, max_time: 27}\n"
    section = searcher_of(rewritten(text, Length(9, Unit.RECORDS)))
    assert section["max_length"] == {"records": 9}
    assert not {"max_time", "time_metric"} & set(section)
    assert searcher_of(rewritten(text, Length(9, Unit.STEPS)))["max_length"] == 9


@pytest.mark.parametrize("audit", [None, 0, 0.25])
@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.STANDARD])
def test_with_search_writes_share_of_audits_of_proposed_search(tmp_path: Path, audit: float | None, mode: Mode) -> None:
    proposed = replace(in_mode(FITTED, mode), audit=Fraction(0 if audit is None else str(audit)))
    text = "searcher: {name: adaptive_asha, metric: loss, max_length: 27, max_trials: 3}"
    text = text if audit is None else text.replace("}", f", audit: {audit}}}")
    path = tmp_path / "x.yaml"
    path.write_text(replace_searcher(text, with_search(searcher_of(text), proposed, None)) + LEAST)
    assert read_experiment(path).spec.search == proposed


@pytest.mark.parametrize("value", ["yes", "null", "1e3", "a b", "x: y", "Zürich", "", "#1", 'a"b', "val/loss"])
def test_section_text_keeps_text_values(value: str) -> None:
    assert searcher_of(section_text({"metric": value})) == {"metric": value}


def test_section_inside_a_line_is_refused() -> None:
    with pytest.raises(ConfigError, match="shares its lines"):
        replace_searcher("{searcher: {name: random}, name: x}", {"name": "random"})
    assert searcher_of("- 1") == {}


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("27", Length(27, Unit.STEPS)),
        ("27 epochs", Length(27, Unit.EPOCHS)),
        (" 1epoch ", Length(1, Unit.EPOCHS)),
        ("5000 Batches", Length(5000, Unit.BATCHES)),
        ("1 batch", Length(1, Unit.BATCHES)),
        ("60000 records", Length(60000, Unit.RECORDS)),
    ],
)
def test_parse_length(text: str, length: Length) -> None:
    assert parse_length(text) == length


@pytest.mark.parametrize("text", ["0", "epochs", "3.5", "27 miles", "-1", ""])
def test_parse_length_error_has_example(text: str) -> None:
    with pytest.raises(ValueError, match="27 epochs"):
        parse_length(text)
