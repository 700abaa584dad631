"""Whether early stopping can be believed, as commands and the Python API say it."""

from __future__ import annotations

import ashwood
from ashwood.eventlog.home import open_home
from ashwood.search.draw import unit_draw
from ashwood.search.settings import Mode
from tests.dashboard.homes import add
from tests.views.simulate import Workers, asha, spec_of

from .conftest import Workplace


def misleading(trial: int, length: int) -> float:
    return unit_draw(1, trial, 16 if length >= 16 else length)


def searched(workplace: Workplace, *, max_rungs: int = 5) -> None:
    """Add an experiment whose first rungs are noise."""
    workers = Workers(spec_of(asha(300, mode=Mode.AGGRESSIVE, max_rungs=max_rungs)), misleading, workers=8)
    workers.run()
    with open_home(workplace.path / ".ashwood", create=True) as home:
        add(home, workers)


def test_describe_shows_verdict_reasons_and_commands(workplace: Workplace) -> None:
    searched(workplace)
    text = workplace.ashwood("describe", "1")
    assert "Early stopping cannot be trusted: no rung is known to predict which trials are good later." in text
    assert "rung 0 (1 epoch) and rung 1 (4 epochs): agreement " in text
    assert "ashwood run --from 1 --set searcher.mode=conservative" in text
    assert "ashwood run --from 1 --set searcher.max_rungs=1 --set searcher.max_trials=" in text


def test_json_and_python_have_the_same_reading(workplace: Workplace) -> None:
    searched(workplace)
    described = workplace.json("describe", "1")["trust"]
    reading = ashwood.open_experiment(1, home=workplace.path / ".ashwood").trust
    assert reading is not None
    assert described["level"] == reading.level == "not_trustworthy"
    assert described["reasons"] == reading.reasons
    assert [pair["agreement"] for pair in described["pairs"]] == [pair.agreement for pair in reading.pairs]


def test_search_without_early_stopping_has_no_verdict(workplace: Workplace) -> None:
    searched(workplace, max_rungs=1)
    assert workplace.json("describe", "1")["trust"] is None
    assert "arly stopping" not in workplace.ashwood("describe", "1")
    assert ashwood.open_experiment(1, home=workplace.path / ".ashwood").trust is None
