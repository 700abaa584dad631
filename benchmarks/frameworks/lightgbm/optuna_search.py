"""Search with Optuna, which ends trials early."""

import lightgbm
import optuna
from optuna_integration import LightGBMPruningCallback
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

x, y = load_breast_cancer(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x, y, random_state=0)


def objective(trial):
    # Each trial constructs its own datasets, because a constructed dataset keeps the parameters of its trial.
    train_set = lightgbm.Dataset(x_train, y_train)
    valid_set = lightgbm.Dataset(x_valid, y_valid, reference=train_set)
    params = {
        "objective": "binary",
        "metric": "binary_logloss",
        "verbosity": -1,
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 1, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 2, 31),
    }
    booster = lightgbm.train(
        params,
        train_set,
        num_boost_round=64,
        valid_sets=[valid_set],
        callbacks=[LightGBMPruningCallback(trial, "binary_logloss")],
    )
    return booster.best_score["valid_0"]["binary_logloss"]


if __name__ == "__main__":
    pruner = optuna.pruners.SuccessiveHalvingPruner()
    study = optuna.create_study(direction="minimize", pruner=pruner)
    study.optimize(objective, n_trials=4)
    print(study.best_trial)
