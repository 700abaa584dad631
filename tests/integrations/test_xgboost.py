"""XGBoost: trees, metrics and early stopping do not depend on pauses, and settings that cannot work are refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import ashwood
from ashwood.errors import TrainingCodeError
from tests.integrations.kit import assert_resumes, load_example, run_example
from tests.integrations.stretches import assert_given_seed_counts, recorded, train_in_stretches

xgb = pytest.importorskip("xgboost")
example = load_example("xgboost")

SAMPLED = {"subsample": 0.6, "colsample_bynode": 0.5, "colsample_bytree": 0.7}


def train(trial: ashwood.Trial, **kwargs: Any) -> Any:
    params = {"objective": "binary:logistic", "learning_rate": 0.3, "max_depth": 3, "nthread": 1, **trial.hparams}
    evals = [(example.dtrain, "train"), (example.dvalid, "valid")]
    return ashwood.xgboost.train(trial, params, example.dtrain, **{"evals": evals, **kwargs})


def train_example(trial: ashwood.Trial) -> None:
    """Train as the example does; a worker can import this function."""
    example.train(trial)


def trees(booster: Any) -> list[str]:
    return booster.get_dump(with_stats=True, dump_format="json")  # type: ignore[no-any-return]


def test_interrupted_search_reports_same_metrics(tmp_path: Path) -> None:
    hparams = {**SAMPLED, "learning_rate": ashwood.Log(-2, 0), "nthread": 1}
    reports = assert_resumes(train_example, tmp_path, hparams=hparams, metric="valid-logloss", max_length=8)
    assert {"train-error", "train-logloss", "valid-error", "valid-logloss"} <= set(reports.columns)


def test_example_runs(tmp_path: Path) -> None:
    assert "valid-logloss" in run_example("xgboost", tmp_path, "searcher.max_trials=4", "searcher.max_length=16")


@pytest.mark.parametrize(
    "hparams",
    [
        SAMPLED,
        {**SAMPLED, "tree_method": "approx"},
        {"subsample": 0.6, "colsample_bylevel": 0.5, "tree_method": "exact"},
        {"subsample": 0.6, "sampling_method": "gradient_based", "seed_per_iteration": True},
        {**SAMPLED, "grow_policy": "lossguide", "max_leaves": 5, "num_parallel_tree": 3},
        {**SAMPLED, "booster": "dart", "rate_drop": 0.3, "one_drop": True},
        {"booster": "gblinear", "updater": "coord_descent", "feature_selector": "random", "max_depth": None},
    ],
    ids=["hist", "approx", "exact", "gradient_based", "forest", "dart", "gblinear"],
)
def test_pauses_do_not_change_trees(hparams: dict[str, Any], tmp_path: Path) -> None:
    once = train_in_stretches(train, tmp_path / "once", 12, **hparams)
    paused = train_in_stretches(train, tmp_path / "paused", 5, 6, 12, **hparams)
    assert trees(paused.result) == trees(once.result)
    assert paused.reports == once.reports
    assert list(paused.reports) == list(range(1, 13))
    assert paused.result.num_boosted_rounds() == 12
    margins = [result.predict(example.dvalid, output_margin=True).tolist() for result in (paused.result, once.result)]
    assert margins[0] == margins[1]


def test_seed_of_params_replaces_seed_of_trial(tmp_path: Path) -> None:
    assert_given_seed_counts(train, trees, tmp_path, "seed", **SAMPLED)


def test_callbacks_get_rounds_and_history_of_whole_trial(tmp_path: Path) -> None:
    base: Any = xgb.callback.TrainingCallback

    class Recorder(base):  # type: ignore[misc]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            seen.append((epoch, len(evals_log["valid"]["logloss"])))
            return False

    def train_with_schedule(trial: ashwood.Trial) -> Any:
        schedule = xgb.callback.LearningRateScheduler(lambda epoch: 0.5 / (1 + epoch))
        results: dict[str, Any] = {}
        booster = train(trial, callbacks=[schedule, Recorder()], evals_result=results, num_boost_round=trial.max_length)
        assert len(results["valid"]["logloss"]) == trial.max_length
        return booster

    seen: list[tuple[int, int]] = []
    hparams = {**SAMPLED, "eval_metric": "logloss"}
    paused = train_in_stretches(train_with_schedule, tmp_path / "paused", 2, 3, 6, **hparams)
    assert seen == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]
    once = train_in_stretches(train_with_schedule, tmp_path / "once", 6, **hparams)
    assert trees(paused.result) == trees(once.result)


def test_early_stopping_of_xgboost_stops_trial_at_same_round(tmp_path: Path) -> None:
    def ends_at(directory: Path, *ends: int) -> tuple[int, int]:
        def train_and_stop(trial: ashwood.Trial) -> Any:
            return train(trial, early_stopping_rounds=4)

        hparams = {**SAMPLED, "learning_rate": 1.0, "max_depth": 6, "eval_metric": "logloss"}
        with pytest.raises(SystemExit):
            train_in_stretches(train_and_stop, directory, *ends, **hparams)
        length, checkpoint = max(
            (int(path.name.split("-")[1]), path) for path in directory.glob("trial-0/length-*") if path.is_dir()
        )
        booster = xgb.Booster(model_file=str(checkpoint / "model.ubj"))
        assert booster.num_boosted_rounds() == length < 60
        return length, booster.best_iteration

    length, best = ends_at(tmp_path / "once", 60)
    assert length == best + 1 + 4
    assert ends_at(tmp_path / "paused", best, best + 3, 60) == (length, best)


def test_custom_objective_and_metric(tmp_path: Path) -> None:
    def squared(margin: Any, data: Any) -> tuple[Any, Any]:
        return margin - data.get_label(), margin * 0 + 1

    def distance(margin: Any, data: Any) -> tuple[str, float]:
        return "distance", float(abs(margin - data.get_label()).mean())

    def train_custom(trial: ashwood.Trial) -> Any:
        params = {**trial.hparams, "nthread": 1, "disable_default_eval_metric": True}
        evals = [(example.dvalid, "valid")]
        return ashwood.xgboost.train(trial, params, example.dtrain, evals=evals, obj=squared, custom_metric=distance)

    once = train_in_stretches(train_custom, tmp_path / "once", 6, **SAMPLED)
    paused = train_in_stretches(train_custom, tmp_path / "paused", 2, 6, **SAMPLED)
    assert paused.reports == once.reports
    assert once.reports[6].keys() == {"valid-distance"}


def test_quantile_data_continue(tmp_path: Path) -> None:
    dtrain = xgb.QuantileDMatrix(example.x_train, example.y_train)
    dvalid = xgb.QuantileDMatrix(example.x_valid, example.y_valid, ref=dtrain)

    def train_quantiles(trial: ashwood.Trial) -> Any:
        params = {"objective": "binary:logistic", "nthread": 1, **trial.hparams}
        return ashwood.xgboost.train(trial, params, dtrain, evals=[(dvalid, "valid")])

    once = train_in_stretches(train_quantiles, tmp_path / "once", 6, **SAMPLED)
    paused = train_in_stretches(train_quantiles, tmp_path / "paused", 2, 6, **SAMPLED)
    assert trees(paused.result) == trees(once.result)
    assert paused.reports == once.reports


def fit(trial: ashwood.Trial, *, continues: bool = True, **settings: Any) -> Any:
    callback = ashwood.xgboost.Callback(trial)
    rounds = trial.max_length - trial.length
    classifier = xgb.XGBClassifier(n_estimators=rounds, callbacks=[callback], n_jobs=1, **trial.hparams, **settings)
    start = ashwood.xgboost.model(trial) if continues else None
    data = [(example.x_valid, example.y_valid)]
    return classifier.fit(example.x_train, example.y_train, eval_set=data, xgb_model=start, verbose=False)


def test_callback_alone_continues_estimator(tmp_path: Path) -> None:
    once = train_in_stretches(fit, tmp_path / "once", 9, **SAMPLED)
    paused = train_in_stretches(fit, tmp_path / "paused", 4, 9, **SAMPLED)
    assert paused.reports == once.reports
    assert once.reports[9].keys() == {"validation_0-logloss"}
    assert trees(paused.result.get_booster()) == trees(once.result.get_booster())
    assert paused.result.get_booster().num_boosted_rounds() == 9


def test_early_stopping_of_estimator_stops_trial(tmp_path: Path) -> None:
    reports: dict[int, dict[str, float]] = {}
    trial = recorded(ashwood.get_trial({"learning_rate": 1.0}, steps=60, checkpoint_dir=tmp_path), reports)
    with pytest.raises(SystemExit):
        fit(trial, early_stopping_rounds=3)
    assert len(reports) < 60
    assert (tmp_path / f"trial-0/length-{len(reports)}-attempt-1/model.ubj").exists()


def test_estimator_without_the_model_to_continue_from_is_refused(tmp_path: Path) -> None:
    train_in_stretches(fit, tmp_path, 3)
    trial = ashwood.get_trial(steps=6, checkpoint=tmp_path / "trial-0/length-3-attempt-1")
    with pytest.raises(TrainingCodeError, match=r"has 0 rounds, but the trial continues from 3: pass xgb_model="):
        fit(trial, continues=False)


@pytest.mark.filterwarnings("ignore:.*manually specified the `updater`")
@pytest.mark.parametrize(
    ("hparams", "arguments", "message"),
    [
        ({}, {"evals": []}, "XGBoost evaluates nothing: pass evals="),
        ({}, {"xgb_model": "model.ubj"}, "xgb_model= is given"),
        ({}, {"num_boost_round": 100}, "num_boost_round=100 contradicts max_length: 4"),
        ({"disable_default_eval_metric": True}, {}, "XGBoost evaluates nothing"),
        ({"updater": "grow_histmaker"}, {}, "cannot continue with updater="),
        ({"process_type": "update", "updater": "refresh"}, {}, "cannot continue with updater="),
    ],
)
def test_settings_that_cannot_work_are_refused(
    hparams: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingCodeError, match=re.escape(message)):
        train(ashwood.get_trial(hparams, steps=4), **arguments)


def test_lengths_with_a_unit_are_refused() -> None:
    with pytest.raises(TrainingCodeError, match="XGBoost cannot count epochs: write max_length: N"):
        train(ashwood.get_trial(epochs=4))


def test_trial_of_several_processes_is_refused() -> None:
    trial = ashwood.get_trial(steps=4)
    trial.world_size = 2
    with pytest.raises(TrainingCodeError, match="this trial has 2"):
        train(trial)


def test_wrong_metric_lists_the_names(tmp_path: Path) -> None:
    searcher = ashwood.RandomSearch(metric="logloss", max_length=2, max_trials=1)
    with pytest.raises(ashwood.AshwoodError, match="valid-logloss"):
        ashwood.run(train, hparams=SAMPLED, searcher=searcher, home=tmp_path, progress=False)


def test_best_checkpoint_is_a_model_of_xgboost(tmp_path: Path) -> None:
    searcher = ashwood.RandomSearch(metric="valid-logloss", max_length=3, max_trials=3, stop_when={"metric_at": 0.0})
    hparams = {"max_depth": ashwood.Int(1, 3)}
    experiment = ashwood.run(train, hparams=hparams, searcher=searcher, home=tmp_path, progress=False)
    best = experiment.best_checkpoint()
    booster = xgb.Booster(model_file=str(best.directory / "model.ubj"))
    assert booster.num_boosted_rounds() == best.length
    assert json.loads((best.directory / "state.json").read_text())[0]["valid"]["logloss"][-1] == best.metric
    assert {"best.valid-logloss", "last.valid-logloss"} <= set(experiment.trials().columns)
