import json
import math

import pytest

from ashwood.forecast.time_left import Forecast, TimeLeft
from ashwood.terminal.messages import time_left
from ashwood.terminal.output import format_moment, print_json
from ashwood.views.table import flatten
from ashwood.views.wording import format_duration, format_value

from .conftest import RANDOM, Workplace


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (math.inf, "–"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


def test_values() -> None:
    assert [format_value(value) for value in (None, True, 1, 0.1 + 0.2, math.nan, "x")] == [
        "–",
        "true",
        "1",
        "0.3",
        "nan",
        "x",
    ]


def test_json_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [math.nan, math.inf, 1.5, None, True, "é"], "b": (1, {"c": -math.inf})})
    strict = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert strict == {"a": [None, None, 1.5, None, True, "é"], "b": [1, {"c": None}]}


def test_flatten() -> None:
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": {}}) == {"a": 1, "b.c": 2, "b.d.e": 3, "f": {}}


@pytest.mark.parametrize(
    ("forecast", "words"),
    [
        (Forecast(10.0, 0.5, None), "estimating…"),
        (Forecast(10.0, 0.5, 90.0), "1 min 30 s left"),
        (Forecast(10.0, 0.5, 90.0, TimeLeft(60.0, 90.0, 200.0)), "1 min 30 s left (1 min 00 s–3 min 20 s)"),
        (Forecast(10.0, 0.5, 90.0, TimeLeft(88.0, 90.0, 91.0)), "1 min 30 s left"),
        (Forecast(10.0, 0.5, 3.0, TimeLeft(1.0, 3.0, 9.0)), "3.0 s left"),
    ],
)
def test_time_left_has_range_if_it_is_wide(forecast: Forecast, words: str) -> None:
    assert time_left(forecast) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0"), (0.0123, "12 ms"), (0.25, "0.2 s"), (5.0, "5 s"), (40.0, "40 s"), (90.0, "1 min 30 s")],
)
def test_moments(seconds: float, words: str) -> None:
    assert format_moment(seconds) == words


def test_metrics_called_like_columns_and_hyperparameters_keep_their_values(workplace: Workplace) -> None:
    workplace.write(
        RANDOM.replace("hyperparameters: {", "hyperparameters: {lr: {type: double, minval: 0, maxval: 1}, "),
        "def train(trial):\n"
        "    for step in trial.epochs():\n"
        "        trial.report({'loss': 1 / (step + 1), 'state': 1, 'length': 99, 'seconds': 12.5, 'trial': 7,\n"
        "                      'hparams.x': 0, 'best_loss': 5, 'lr': 3, 'accuracy': 0.5})\n",
    )
    workplace.ashwood("run", "toy.yaml")
    for trial in workplace.json("trials", "1"):
        assert trial["state"] == "completed"
        assert trial["length"] == 2
        assert (trial["best.loss"], trial["last.loss"]) == (0.5, 0.5)
        assert 0 <= trial["hparams.lr"] < 1
        assert 0 <= trial["hparams.x"] < 1
        own = {name.removeprefix("last."): trial[name] for name in trial if name.startswith("last.")}
        assert own.pop("accuracy") == own.pop("loss") == 0.5
        assert own == {"state": 1, "length": 99, "seconds": 12.5, "trial": 7, "hparams.x": 0, "best_loss": 5, "lr": 3}
    assert "write hparams.lr or last.lr" in workplace.ashwood("trials", "1", "--filter", "lr<0.3", code=1)
    workplace.ashwood("trials", "1", "--filter", "last.lr>2", "--sort", "hparams.lr")
    workplace.ashwood("export", "1", "--metrics", "--out", "reports.csv")
    header, first, *_ = (workplace.path / "reports.csv").read_text().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert (row["length"], row["metrics.length"], row["metrics.trial"]) == ("1", "99.0", "7.0")
