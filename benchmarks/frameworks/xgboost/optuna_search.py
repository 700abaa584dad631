"""Search with Optuna, which ends trials early."""

import optuna
import xgboost
from optuna_integration import XGBoostPruningCallback
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

x, y = load_breast_cancer(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x, y, random_state=0)
dtrain = xgboost.DMatrix(x_train, y_train)
dvalid = xgboost.DMatrix(x_valid, y_valid)


def objective(trial):
    params = {
        "objective": "binary:logistic",
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 1, log=True),
        "max_depth": trial.suggest_int("max_depth", 1, 6),
    }
    results = {}
    xgboost.train(
        params,
        dtrain,
        num_boost_round=64,
        evals=[(dvalid, "valid")],
        evals_result=results,
        verbose_eval=False,
        callbacks=[XGBoostPruningCallback(trial, "valid-logloss")],
    )
    return results["valid"]["logloss"][-1]


if __name__ == "__main__":
    pruner = optuna.pruners.SuccessiveHalvingPruner()
    study = optuna.create_study(direction="minimize", pruner=pruner)
    study.optimize(objective, n_trials=4)
    print(study.best_trial)
