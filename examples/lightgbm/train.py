"""Gradient boosting with LightGBM on scikit-learn's breast-cancer data; each step of training is one round."""

import lightgbm
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import ashwood

features, labels = load_breast_cancer(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(features, labels, test_size=0.3, random_state=0)
train_set = lightgbm.Dataset(x_train, y_train)
valid_set = lightgbm.Dataset(x_valid, y_valid, reference=train_set)


def train(trial: ashwood.Trial) -> None:
    params = {"objective": "binary", "metric": ["binary_logloss", "binary_error"], "verbosity": -1, **trial.hparams}
    ashwood.lightgbm.train(trial, params, train_set, valid_sets=[valid_set])


if __name__ == "__main__":
    train(ashwood.get_trial(hparams={"learning_rate": 0.1, "num_leaves": 15}, steps=20))
