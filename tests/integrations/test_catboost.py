"""CatBoost: trees, metrics and early stopping do not depend on pauses, and settings that cannot work are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import ashwood
from ashwood.errors import TrainingCodeError
from ashwood.trial import Trial
from tests.integrations.kit import assert_resumes, load_example, run_example
from tests.integrations.stretches import assert_given_seed_counts, set_max_length, train_in_stretches
from tests.trial.links import PAUSE, ScriptedLink, go, make_job

cb = pytest.importorskip("catboost")
example = load_example("catboost")

SAMPLED = {"subsample": 0.6, "bootstrap_type": "Bernoulli", "rsm": 0.5, "random_strength": 2.0}
VALID = (example.x_valid, example.y_valid)


def train(trial: ashwood.Trial, **kwargs: Any) -> Any:
    settings = {"depth": 3, "thread_count": 1, "verbose": False, **trial.hparams}
    arguments = {"eval_set": VALID, **kwargs}
    return ashwood.catboost.fit(trial, cb.CatBoostClassifier(**settings), example.x_train, example.y_train, **arguments)


def train_example(trial: ashwood.Trial) -> None:
    """Train as the example does; a worker can import this function."""
    example.train(trial)


def trees(model: Any) -> list[float]:
    return model.predict(example.x_valid, prediction_type="RawFormulaVal").tolist()  # type: ignore[no-any-return]


def test_interrupted_search_reports_same_metrics(tmp_path: Path) -> None:
    hparams = {**SAMPLED, "learning_rate": ashwood.Log(-2, 0), "thread_count": 1}
    metric = "validation-Logloss"
    reports = assert_resumes(train_example, tmp_path, hparams=hparams, metric=metric, max_length=8, seed=4)
    assert {"learn-Logloss", "validation-Logloss", "validation-Accuracy"} <= set(reports.columns)


def test_example_runs(tmp_path: Path) -> None:
    assert "validation-Logloss" in run_example("catboost", tmp_path, "searcher.max_trials=4", "searcher.max_length=16")


@pytest.mark.parametrize(
    "hparams",
    [
        SAMPLED,
        {"bootstrap_type": "Bayesian", "boosting_type": "Ordered"},
        {"bootstrap_type": "MVS", "grow_policy": "Lossguide", "num_leaves": 5, "depth": None},
        {"metric_period": 4, "learning_rate": 0.3},
    ],
    ids=["bernoulli", "ordered", "lossguide", "metric_period"],
)
def test_pauses_do_not_change_model(hparams: dict[str, Any], tmp_path: Path) -> None:
    class Rounds:
        def after_iteration(self, info: Any) -> bool:
            rounds.append(info.iteration)
            return True

    def train_to_14(trial: ashwood.Trial) -> Any:
        set_max_length(trial, 14)  # CatBoost chooses its learning rate by the total number of rounds.
        return train(trial, callbacks=[Rounds()])

    rounds: list[int] = []
    once = train_in_stretches(train_to_14, tmp_path / "once", 14, **hparams)
    ends = (5, 9, 14) if "metric_period" in hparams else (5, 6, 14)
    rounds.clear()
    paused = train_in_stretches(train_to_14, tmp_path / "paused", *ends, **hparams)
    assert rounds == list(range(1, 15))  # No round is trained twice, which would hide a state that is not restored.
    assert trees(paused.result) == trees(once.result)
    assert paused.reports == once.reports
    assert list(paused.reports) == ([1, 5, 9, 13, 14] if "metric_period" in hparams else list(range(1, 15)))
    assert paused.result.tree_count_ == once.result.tree_count_ == 14


def test_early_stopping_of_catboost_stops_trial_at_same_round(tmp_path: Path) -> None:
    def train_and_stop(trial: ashwood.Trial) -> Any:
        set_max_length(trial, 200)
        return train(trial, early_stopping_rounds=4)

    def ends_at(directory: Path, *ends: int) -> int:
        with pytest.raises(SystemExit):
            train_in_stretches(train_and_stop, directory, *ends, **SAMPLED, learning_rate=1.0)
        length, path = max((int(path.name.split("-")[1]), path) for path in directory.glob("trial-0/length-*"))
        assert cb.CatBoostClassifier().load_model(str(path / "model.cbm")).tree_count_ == length
        return length

    length = ends_at(tmp_path / "once", 200)
    assert length < 200
    assert ends_at(tmp_path / "paused", length - 4, length - 2, 200) == length


def in_search(tmp_path: Path, **fields: Any) -> Any:
    common = {"unit": "steps", "metric": "validation-Logloss", "max_length": 14, "hparams": SAMPLED, "seed": 5}
    return make_job(tmp_path / "saved", trial_directory=str(tmp_path / "directory"), **{**common, **fields})


def train_once(trial: ashwood.Trial) -> Any:
    set_max_length(trial, 14)
    return train(trial)


def test_fit_passes_rungs_without_saving_and_saves_at_the_end(tmp_path: Path) -> None:
    link = ScriptedLink([go(9), go(14), PAUSE])
    model = train(Trial(in_search(tmp_path, target=4), link))
    once = train_in_stretches(train_once, tmp_path / "once", 14, **SAMPLED)
    assert trees(model) == trees(once.result)
    assert link.reports == list(range(1, 15))
    assert link.saves == ["length-14-attempt-1"]
    assert link.metrics_saved["length-14-attempt-1"] == once.reports[14]


@pytest.mark.parametrize(("metric_period", "saved"), [(1, [4, 8, 11]), (5, [6, 11])])
def test_fit_saves_each_period_and_at_a_request_to_stop(metric_period: int, saved: list[int], tmp_path: Path) -> None:
    """The request to stop comes in round 11; with a period of 5, CatBoost evaluates in rounds 1, 6, 11 and 14."""

    class Request:
        def after_iteration(self, info: Any) -> bool:
            link.suspended = lambda: info.iteration >= 11  # type: ignore[method-assign]
            return True

    link = ScriptedLink([PAUSE])
    job = in_search(tmp_path, target=14, checkpoint_period=(4, "steps"))
    train(Trial(job, link), callbacks=[Request()], metric_period=metric_period)
    assert link.saves == [f"length-{length}-attempt-1" for length in saved]
    name = "trial-7/length-11-attempt-1"
    resumed = in_search(tmp_path, target=14, length=11, checkpoint=name, directory=str(tmp_path / "saved" / name))
    last = ScriptedLink([PAUSE])
    model = train(Trial(resumed, last), metric_period=metric_period)
    assert last.reports == ([12, 13, 14] if metric_period == 1 else [14])
    assert trees(model) == trees(train_in_stretches(train_once, tmp_path / "once", 14, **SAMPLED).result)


def test_snapshot_of_a_killed_attempt_is_not_used(tmp_path: Path) -> None:
    link = ScriptedLink([PAUSE])
    trial = Trial(in_search(tmp_path, target=14), link)
    (trial.directory / "catboost.snapshot").write_text("damaged")
    train(trial)
    assert link.reports == list(range(1, 15))
    assert not (trial.directory / "catboost.snapshot").exists()
    assert not (Path.cwd() / "catboost_info").exists()


def test_seed_of_model_replaces_seed_of_trial(tmp_path: Path) -> None:
    assert_given_seed_counts(train, trees, tmp_path, "random_state", **SAMPLED)


def test_several_evaluation_sets_and_pools(tmp_path: Path) -> None:
    def train_pools(trial: ashwood.Trial) -> Any:
        pool = cb.Pool(example.x_train, example.y_train)
        model = cb.CatBoostClassifier(depth=3, thread_count=1, verbose=False, allow_writing_files=False)
        return ashwood.catboost.fit(trial, model, pool, eval_set=[VALID, pool])

    reports = train_in_stretches(train_pools, tmp_path, 2).reports
    assert reports[2].keys() == {"learn-Logloss", "validation_0-Logloss", "validation_1-Logloss"}


@pytest.mark.parametrize(
    ("hparams", "arguments", "message"),
    [
        ({}, {"eval_set": None}, "CatBoost evaluates nothing: pass eval_set="),
        ({}, {"eval_set": []}, "CatBoost evaluates nothing"),
        ({}, {"init_model": "model.cbm"}, "init_model= is given"),
        ({"iterations": 100}, {}, "iterations=100 contradicts max_length: 4"),
        ({"n_estimators": 50}, {}, "n_estimators=50 contradicts max_length: 4"),
        ({"task_type": "GPU"}, {}, "calls no callbacks on a GPU"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    hparams: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingCodeError, match=re.escape(message)):
        train(ashwood.get_trial(hparams, steps=4), **arguments)


def test_lengths_with_a_unit_are_refused() -> None:
    with pytest.raises(TrainingCodeError, match="CatBoost cannot count epochs: write max_length: N"):
        train(ashwood.get_trial(epochs=4))
