"""optuna-dashboard: a study as large as our experiment, in the storage that its users have."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage

_BATCH = 500
_SPACE = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
    "momentum": FloatDistribution(0.5, 0.99),
    "dropout": FloatDistribution(0.0, 0.6),
    "layers": IntDistribution(2, 12),
    "optimizer": CategoricalDistribution(("sgd", "adam", "lion")),
}


def build(path: Path, trials: int, values: int) -> None:
    """A study of finished trials with intermediate values each, in one SQLite file.

    Its tables are filled by SQL: through Optuna's own interface 3 million values take hours.
    """
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    storage = RDBStorage(f"sqlite:///{unfinished}")
    study = optuna.create_study(study_name="large", storage=storage)
    # One of each kind by its own interface, for everything that it writes besides.
    study.add_trial(optuna.trial.create_trial(value=1.0, params=_draw(Random(0)), distributions=_SPACE))
    storage.engine.dispose()
    with closing(sqlite3.connect(unfinished)) as database:
        [(study_id,)] = database.execute("SELECT study_id FROM studies")
        begin = datetime(2026, 10, 1)
        random = Random(1)
        for first in range(1, trials, _BATCH):
            with database:
                for number in range(first, min(first + _BATCH, trials)):
                    _add(database, study_id, number, begin + timedelta(seconds=10 * number), values, random)
    unfinished.rename(path)


def _add(database: sqlite3.Connection, study: int, number: int, at: datetime, values: int, random: Random) -> None:
    trial = number + 1
    times = (at.isoformat(" "), (at + timedelta(seconds=9)).isoformat(" "))
    database.execute(
        "INSERT INTO trials (trial_id, number, study_id, state, datetime_start, datetime_complete)"
        " VALUES (?, ?, ?, 'COMPLETE', ?, ?)",
        (trial, number, study, *times),
    )
    params = _draw(random)
    database.executemany(
        "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)",
        [
            (trial, name, _SPACE[name].to_internal_repr(value), optuna.distributions.distribution_to_json(_SPACE[name]))
            for name, value in params.items()
        ],
    )
    floor, speed = 0.1 + 0.4 * random.random(), 0.3 + 0.5 * random.random()
    losses = [floor + (1 + step) ** -speed + 0.02 * random.random() for step in range(1, values + 1)]
    database.executemany(
        "INSERT INTO trial_intermediate_values"
        " (trial_id, step, intermediate_value, intermediate_value_type) VALUES (?, ?, ?, 'FINITE')",
        [(trial, step, loss) for step, loss in enumerate(losses, start=1)],
    )
    database.execute(
        "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, 0, ?, 'FINITE')",
        (trial, losses[-1]),
    )


def _draw(random: Random) -> dict[str, float | int | str]:
    return {
        "lr": 10 ** random.uniform(-5, -1),
        "weight_decay": 10 ** random.uniform(-6, -2),
        "momentum": random.uniform(0.5, 0.99),
        "dropout": random.uniform(0.0, 0.6),
        "layers": random.randint(2, 12),
        "optimizer": random.choice(("sgd", "adam", "lion")),
    }


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["build", path, trials, values]:
            build(Path(path), int(trials), int(values))
            print(json.dumps({}))
        case _:
            sys.exit("usage: build FILE TRIALS VALUES")
