"""Gradient boosting, staged: each unit of training adds a batch of trees."""

import pickle

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

import ashwood

TREES_PER_STEP = 5

features, labels = load_breast_cancer(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(features, labels, test_size=0.3, random_state=0)


def train(trial: ashwood.Trial) -> None:
    if trial.checkpoint:
        model = pickle.loads((trial.checkpoint / "model.pkl").read_bytes())
    else:
        model = GradientBoostingClassifier(**trial.hparams, random_state=trial.seed, warm_start=True, n_estimators=0)
    for _step in trial.steps():
        model.n_estimators += TREES_PER_STEP
        model.fit(x_train, y_train)  # warm_start: adds trees to those that are there
        trial.report(
            validation_loss=log_loss(y_valid, model.predict_proba(x_valid)),
            validation_accuracy=model.score(x_valid, y_valid),
            checkpoint=lambda directory: (directory / "model.pkl").write_bytes(pickle.dumps(model)),
        )


if __name__ == "__main__":
    train(ashwood.get_trial(hparams={"learning_rate": 0.1, "max_depth": 3}, steps=4))
