"""Searches with Optuna, which ends bad trials; the best model is trained again."""

import optuna
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.neural_network import MLPClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
splits = list(StratifiedKFold(5).split(X_train, y_train))


def objective(trial):
    params = {
        "learning_rate_init": trial.suggest_float("learning_rate_init", 1e-4, 1e-1, log=True),
        "alpha": trial.suggest_float("alpha", 1e-6, 1, log=True),
    }
    models = [MLPClassifier(random_state=0, **params) for _ in splits]
    for epoch in range(16):
        score = 0.0
        for model, (train, valid) in zip(models, splits, strict=True):
            model.partial_fit(X_train[train], y_train[train], classes=range(10))
            score += model.score(X_train[valid], y_train[valid]) / len(splits)
        trial.report(score, epoch + 1)
        if trial.should_prune():
            raise optuna.TrialPruned
    return score


study = optuna.create_study(direction="maximize", pruner=optuna.pruners.SuccessiveHalvingPruner())
study.optimize(objective, n_trials=4)
model = MLPClassifier(random_state=0, max_iter=16, **study.best_params)
model.fit(X_train, y_train)
print(model.score(X_test, y_test))
