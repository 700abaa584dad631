"""Search with Ashwood, which pauses trials and continues them from checkpoints."""

import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import ashwood

x, y = load_breast_cancer(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x, y, random_state=0)
dtrain = xgboost.DMatrix(x_train, y_train)
dvalid = xgboost.DMatrix(x_valid, y_valid)


def train(trial):
    params = {"objective": "binary:logistic", **trial.hparams}
    ashwood.xgboost.train(trial, params, dtrain, evals=[(dvalid, "valid")])


if __name__ == "__main__":
    hparams = {"learning_rate": ashwood.Log(-2, 0), "max_depth": ashwood.Int(1, 6)}
    searcher = ashwood.AdaptiveASHA(metric="valid-logloss", max_length=64, max_trials=4)
    experiment = ashwood.run(train, hparams=hparams, searcher=searcher)
    print(experiment.best_trial)
