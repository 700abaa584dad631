"""Gradient boosting with CatBoost on scikit-learn's breast-cancer data; each step of training is one round."""

import catboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import ashwood

features, labels = load_breast_cancer(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(features, labels, test_size=0.3, random_state=0)


def train(trial: ashwood.Trial) -> None:
    model = catboost.CatBoostClassifier(custom_metric="Accuracy", verbose=False, **trial.hparams)
    ashwood.catboost.fit(trial, model, x_train, y_train, eval_set=(x_valid, y_valid))


if __name__ == "__main__":
    train(ashwood.get_trial(hparams={"learning_rate": 0.1, "depth": 4}, steps=20))
