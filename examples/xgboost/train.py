"""Gradient boosting with XGBoost on scikit-learn's breast-cancer data; each step of training is one round."""

import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import ashwood

features, labels = load_breast_cancer(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(features, labels, test_size=0.3, random_state=0)
dtrain = xgboost.DMatrix(x_train, y_train)
dvalid = xgboost.DMatrix(x_valid, y_valid)


def train(trial: ashwood.Trial) -> None:
    params = {"objective": "binary:logistic", "eval_metric": ["error", "logloss"], **trial.hparams}
    ashwood.xgboost.train(trial, params, dtrain, evals=[(dtrain, "train"), (dvalid, "valid")])


if __name__ == "__main__":
    train(ashwood.get_trial(hparams={"learning_rate": 0.1, "max_depth": 3, "subsample": 0.8}, steps=20))
