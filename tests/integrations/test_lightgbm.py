"""LightGBM: trees, metrics and early stopping do not depend on pauses, and settings that cannot work are refused."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest

import ashwood
from ashwood.errors import TrainingCodeError
from tests.integrations.kit import assert_resumes, load_example, run_example
from tests.integrations.stretches import assert_given_seed_counts, recorded, set_max_length, train_in_stretches

lgb = pytest.importorskip("lightgbm")
example = load_example("lightgbm")

SAMPLED = {"bagging_fraction": 0.6, "bagging_freq": 3, "feature_fraction": 0.5}
SETTINGS = {"objective": "binary", "num_leaves": 7, "num_threads": 1, "force_col_wise": True, "verbosity": -1}


def train(trial: ashwood.Trial, **kwargs: Any) -> Any:
    sets = {"valid_sets": [example.train_set, example.valid_set], "valid_names": ["train", "valid"]}
    return ashwood.lightgbm.train(trial, {**SETTINGS, **trial.hparams}, example.train_set, **{**sets, **kwargs})


def train_example(trial: ashwood.Trial) -> None:
    """Train as the example does; a worker can import this function."""
    example.train(trial)


def trees(booster: Any) -> str:
    text = booster.model_to_string(num_iteration=-1)
    return text[text.index("\nTree=0") : text.index("end of trees")]  # type: ignore[no-any-return]


def test_interrupted_search_reports_same_metrics(tmp_path: Path) -> None:
    hparams = {**SAMPLED, "learning_rate": ashwood.Log(-2, 0), "num_threads": 1, "force_col_wise": True}
    reports = assert_resumes(train_example, tmp_path, hparams=hparams, metric="valid_0-binary_logloss", max_length=8)
    assert {"valid_0-binary_logloss", "valid_0-binary_error"} <= set(reports.columns)


def test_example_runs(tmp_path: Path) -> None:
    printed = run_example("lightgbm", tmp_path, "searcher.max_trials=4", "searcher.max_length=16")
    assert "valid_0-binary_logloss" in printed


@pytest.mark.parametrize(
    "hparams",
    [
        SAMPLED,
        {"pos_bagging_fraction": 0.5, "neg_bagging_fraction": 0.9, "subsample_freq": 1},
        {"feature_fraction_bynode": 0.5, "extra_trees": True, "max_bin": 15},
        {"objective": "l1", "bagging_fraction": 0.5, "bagging_freq": 2, "boost_from_average": False},
        {"min_gain_to_split": 60.0},
    ],
    ids=["bagging", "balanced", "extra_trees", "l1", "rounds_without_trees"],
)
def test_pauses_do_not_change_trees(hparams: dict[str, Any], tmp_path: Path) -> None:
    once = train_in_stretches(train, tmp_path / "once", 14, **hparams)
    paused = train_in_stretches(train, tmp_path / "paused", 5, 7, 14, **hparams)
    assert trees(paused.result) == trees(once.result)
    assert paused.reports == once.reports
    assert list(paused.reports) == list(range(1, 15))
    assert (once.result.num_trees() < 14) == ("min_gain_to_split" in hparams)
    margins = [result.predict(example.x_valid, raw_score=True).tolist() for result in (paused.result, once.result)]
    assert margins[0] == margins[1]


def test_booster_that_the_search_stopped_predicts_with_all_trees(tmp_path: Path) -> None:
    def stops_at_3(trial: ashwood.Trial) -> Any:
        set_max_length(trial, 9)
        return train(trial)

    booster = train_in_stretches(stops_at_3, tmp_path, 3).result
    assert booster.num_trees() == booster.best_iteration == 3
    assert lgb.Booster(model_file=next(tmp_path.glob("trial-0/*/model.txt"))).num_trees() == 3


def test_seed_of_params_replaces_seed_of_trial(tmp_path: Path) -> None:
    assert_given_seed_counts(train, trees, tmp_path, "random_state", **SAMPLED)


def test_trials_of_one_process_do_not_change_shared_datasets(tmp_path: Path) -> None:
    alone = train_in_stretches(train, tmp_path / "alone", 6)
    train_in_stretches(train, tmp_path / "other", 3, 6, max_bin=7, min_data_in_leaf=40)
    after = train_in_stretches(train, tmp_path / "after", 6)
    assert trees(after.result) == trees(alone.result)
    assert after.reports == alone.reports


def test_constructed_dataset_that_keeps_its_raw_data_can_be_used(tmp_path: Path) -> None:
    def train_constructed(trial: ashwood.Trial) -> Any:
        return ashwood.lightgbm.train(trial, {**SETTINGS, **trial.hparams}, data, valid_sets=valid)

    data = lgb.Dataset(example.x_train, example.y_train, free_raw_data=False, params={"verbosity": -1}).construct()
    valid = data.create_valid(example.x_valid, example.y_valid).construct()
    once = train_in_stretches(train_constructed, tmp_path / "once", 6, max_bin=15)
    paused = train_in_stretches(train_constructed, tmp_path / "paused", 2, 6, max_bin=15)
    assert trees(paused.result) == trees(once.result)
    assert data.get_params().get("max_bin") is None
    assert data.num_data() == len(example.x_train)


def test_callbacks_get_rounds_and_history_of_whole_trial(tmp_path: Path) -> None:
    def note(env: Any) -> None:
        seen.append((env.iteration, env.begin_iteration, env.end_iteration))

    def train_with_schedule(trial: ashwood.Trial) -> Any:
        rates = lgb.reset_parameter(learning_rate=lambda number: 0.5 / (1 + number))
        results: dict[str, Any] = {}
        own = [note, rates, lgb.record_evaluation(results)]
        booster = train(trial, callbacks=own, num_boost_round=trial.max_length)
        assert len(results["valid"]["binary_logloss"]) == trial.max_length
        return booster

    seen: list[tuple[int, int, int]] = []
    paused = train_in_stretches(train_with_schedule, tmp_path / "paused", 2, 3, 6, **SAMPLED)
    assert seen == [(0, 0, 2), (1, 0, 2), (2, 0, 3), (3, 0, 6), (4, 0, 6), (5, 0, 6)]
    once = train_in_stretches(train_with_schedule, tmp_path / "once", 6, **SAMPLED)
    assert trees(paused.result) == trees(once.result)


@pytest.mark.parametrize("in_params", [True, False])
def test_early_stopping_of_lightgbm_stops_trial_at_same_round(tmp_path: Path, in_params: bool) -> None:
    def train_and_stop(trial: ashwood.Trial) -> Any:
        return train(trial, callbacks=[] if in_params else [lgb.early_stopping(4, verbose=False)])

    def ends_at(directory: Path, *ends: int) -> int:
        hparams = {**SAMPLED, "learning_rate": 1.0, **({"n_iter_no_change": 4} if in_params else {})}
        with pytest.raises(SystemExit):
            train_in_stretches(train_and_stop, directory, *ends, **hparams)
        lengths = [int(path.name.split("-")[1]) for path in directory.glob("trial-0/length-*")]
        return max(lengths)

    length = ends_at(tmp_path / "once", 200)
    assert length < 200
    assert ends_at(tmp_path / "paused", length - 4, length - 2, 200) == length


def test_custom_objective_and_metric(tmp_path: Path) -> None:
    def squared(margin: Any, data: Any) -> tuple[Any, Any]:
        return margin - data.get_label(), margin * 0 + 1

    def distance(margin: Any, data: Any) -> tuple[str, float, bool]:
        return "distance", float(abs(margin - data.get_label()).mean()), False

    def train_squared(trial: ashwood.Trial) -> Any:
        params = {**SETTINGS, **SAMPLED, "objective": squared, "metric": "none"}
        return ashwood.lightgbm.train(
            trial, params, example.train_set, valid_sets=example.valid_set, valid_names=["valid"], feval=distance
        )

    once = train_in_stretches(train_squared, tmp_path / "once", 6)
    paused = train_in_stretches(train_squared, tmp_path / "paused", 2, 6)
    assert paused.reports == once.reports
    assert once.reports[6].keys() == {"valid-distance"}


def fit(trial: ashwood.Trial, *, continues: bool = True, own: Any = (), **settings: Any) -> Any:
    rounds = trial.max_length - trial.length
    classifier = lgb.LGBMClassifier(n_estimators=rounds, n_jobs=1, verbosity=-1, **trial.hparams, **settings)
    start = ashwood.lightgbm.model(trial) if continues else None
    callbacks = ashwood.lightgbm.callbacks(trial, own)
    with warnings.catch_warnings(action="ignore"):  # eval_set is deprecated in version 4.7, which adds eval_X.
        data = [(example.x_valid, example.y_valid)]
        return classifier.fit(example.x_train, example.y_train, eval_set=data, callbacks=callbacks, init_model=start)


def test_callbacks_alone_continue_estimator(tmp_path: Path) -> None:
    hparams = {"subsample": 0.6, "subsample_freq": 2, "colsample_bytree": 0.5, "force_col_wise": True}
    once = train_in_stretches(fit, tmp_path / "once", 9, **hparams)
    paused = train_in_stretches(fit, tmp_path / "paused", 4, 9, **hparams)
    assert paused.reports == once.reports
    assert once.reports[9].keys() == {"valid_0-binary_logloss"}
    assert trees(paused.result.booster_) == trees(once.result.booster_)
    assert paused.result.predict_proba(example.x_valid).tolist() == once.result.predict_proba(example.x_valid).tolist()


def test_early_stopping_of_estimator_stops_trial(tmp_path: Path) -> None:
    reports: dict[int, dict[str, float]] = {}
    trial = recorded(ashwood.get_trial({"learning_rate": 1.0}, steps=200, checkpoint_dir=tmp_path), reports)
    with pytest.raises(SystemExit):
        fit(trial, own=[lgb.early_stopping(3, verbose=False)])
    assert len(reports) < 200
    assert (tmp_path / f"trial-0/length-{len(reports)}-attempt-1/model.txt").exists()


def test_estimator_without_the_model_to_continue_from_is_refused(tmp_path: Path) -> None:
    train_in_stretches(fit, tmp_path, 3)
    trial = ashwood.get_trial(steps=6, checkpoint=tmp_path / "trial-0/length-3-attempt-1")
    with pytest.raises(TrainingCodeError, match=r"has 0 rounds, but the trial continues from 3: pass init_model="):
        fit(trial, continues=False)


def freed() -> Any:
    return lgb.Dataset(example.x_train, example.y_train, params={"verbosity": -1}).construct()


@pytest.mark.parametrize(
    ("hparams", "arguments", "message"),
    [
        ({}, {"valid_sets": []}, "LightGBM evaluates nothing: pass valid_sets="),
        ({"metric": "none"}, {}, "LightGBM evaluates nothing"),
        ({}, {"init_model": "model.txt"}, "init_model= is given"),
        ({}, {"num_boost_round": 100}, "num_boost_round=100 contradicts max_length: 4"),
        ({"n_estimators": 50}, {}, "n_estimators=50 contradicts max_length: 4"),
        ({"boosting_type": "dart"}, {}, "cannot continue boosting='dart'"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, {}, "cannot continue boosting='rf'"),
        ({}, {"valid_sets": [freed()], "valid_names": ["valid"]}, "must have raw data"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    hparams: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingCodeError, match=re.escape(message)):
        train(ashwood.get_trial(hparams, steps=4), **arguments)


def test_initial_scores_are_refused() -> None:
    data = lgb.Dataset(example.x_train, example.y_train, init_score=[0.5] * len(example.y_train))
    with pytest.raises(TrainingCodeError, match="no init_score"):
        ashwood.lightgbm.train(ashwood.get_trial(steps=4), SETTINGS, data, valid_sets=[example.valid_set])


def test_lengths_with_a_unit_are_refused() -> None:
    with pytest.raises(TrainingCodeError, match="LightGBM cannot count batches: write max_length: N"):
        train(ashwood.get_trial(batches=4))
