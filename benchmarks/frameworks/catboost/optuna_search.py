"""Search with Optuna, which ends trials early."""

import catboost
import optuna
from optuna_integration import CatBoostPruningCallback
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

x, y = load_breast_cancer(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x, y, random_state=0)


def objective(trial):
    model = catboost.CatBoostClassifier(
        iterations=64,
        verbose=False,
        allow_writing_files=False,
        learning_rate=trial.suggest_float("learning_rate", 0.01, 1, log=True),
        depth=trial.suggest_int("depth", 1, 6),
    )
    callback = CatBoostPruningCallback(trial, "Logloss")
    model.fit(x_train, y_train, eval_set=(x_valid, y_valid), callbacks=[callback])
    callback.check_pruned()
    return model.best_score_["validation"]["Logloss"]


if __name__ == "__main__":
    pruner = optuna.pruners.SuccessiveHalvingPruner()
    study = optuna.create_study(direction="minimize", pruner=pruner)
    study.optimize(objective, n_trials=4)
    print(study.best_trial)
