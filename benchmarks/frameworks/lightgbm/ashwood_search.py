"""Search with Ashwood, which pauses trials and continues them from checkpoints."""

import lightgbm
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import ashwood

x, y = load_breast_cancer(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x, y, random_state=0)
train_set = lightgbm.Dataset(x_train, y_train)
valid_set = lightgbm.Dataset(x_valid, y_valid, reference=train_set)


def train(trial):
    params = {"objective": "binary", "verbosity": -1, **trial.hparams}
    ashwood.lightgbm.train(trial, params, train_set, valid_sets=[valid_set])


if __name__ == "__main__":
    hparams = {"learning_rate": ashwood.Log(-2, 0), "num_leaves": ashwood.Int(2, 31)}
    searcher = ashwood.AdaptiveASHA(metric="valid_0-binary_logloss", max_length=64, max_trials=4)
    experiment = ashwood.run(train, hparams=hparams, searcher=searcher)
    print(experiment.best_trial)
