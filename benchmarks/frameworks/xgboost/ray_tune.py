"""Search with Ray Tune, which ends trials early and continues failed ones from checkpoints."""

import xgboost
from ray import tune
from ray.tune.integration.xgboost import TuneReportCheckpointCallback
from ray.tune.schedulers import ASHAScheduler
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split


def train(config):
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_valid, y_train, y_valid = train_test_split(x, y, random_state=0)
    dtrain = xgboost.DMatrix(x_train, y_train)
    dvalid = xgboost.DMatrix(x_valid, y_valid)

    model, rounds = None, 64
    if checkpoint := tune.get_checkpoint():
        model = TuneReportCheckpointCallback.get_model(checkpoint)
        rounds -= model.num_boosted_rounds()
    params = {"objective": "binary:logistic", **config}
    xgboost.train(
        params,
        dtrain,
        num_boost_round=rounds,
        evals=[(dvalid, "valid")],
        verbose_eval=False,
        xgb_model=model,
        callbacks=[TuneReportCheckpointCallback(frequency=1)],
    )


if __name__ == "__main__":
    space = {"learning_rate": tune.loguniform(0.01, 1), "max_depth": tune.randint(1, 7)}
    scheduler = ASHAScheduler(metric="valid-logloss", mode="min", max_t=64, grace_period=4)
    tuner = tune.Tuner(
        train,
        param_space=space,
        tune_config=tune.TuneConfig(scheduler=scheduler, num_samples=4),
        run_config=tune.RunConfig(failure_config=tune.FailureConfig(max_failures=2)),
    )
    print(tuner.fit().get_best_result(metric="valid-logloss", mode="min").config)
