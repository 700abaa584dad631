"""Search with Ray Tune, which ends trials early and continues failed ones from checkpoints."""

import lightgbm
from ray import tune
from ray.tune.integration.lightgbm import TuneReportCheckpointCallback
from ray.tune.schedulers import ASHAScheduler
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split


def train(config):
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_valid, y_train, y_valid = train_test_split(x, y, random_state=0)
    train_set = lightgbm.Dataset(x_train, y_train)
    valid_set = lightgbm.Dataset(x_valid, y_valid, reference=train_set)

    model, rounds = None, 64
    if checkpoint := tune.get_checkpoint():
        model = TuneReportCheckpointCallback.get_model(checkpoint)
        rounds -= model.current_iteration()
    params = {"objective": "binary", "verbosity": -1, **config}
    lightgbm.train(
        params,
        train_set,
        num_boost_round=rounds,
        valid_sets=[valid_set],
        init_model=model,
        callbacks=[TuneReportCheckpointCallback(frequency=1)],
    )


if __name__ == "__main__":
    space = {"learning_rate": tune.loguniform(0.01, 1), "num_leaves": tune.randint(2, 32)}
    scheduler = ASHAScheduler(metric="valid_0-binary_logloss", mode="min", max_t=64, grace_period=4)
    tuner = tune.Tuner(
        train,
        param_space=space,
        tune_config=tune.TuneConfig(scheduler=scheduler, num_samples=4),
        run_config=tune.RunConfig(failure_config=tune.FailureConfig(max_failures=2)),
    )
    print(tuner.fit().get_best_result(metric="valid_0-binary_logloss", mode="min").config)
