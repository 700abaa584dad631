"""Search with Ashwood, which pauses trials and continues them from checkpoints."""

import catboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import ashwood

x, y = load_breast_cancer(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x, y, random_state=0)


def train(trial):
    model = catboost.CatBoostClassifier(verbose=False, **trial.hparams)
    ashwood.catboost.fit(trial, model, x_train, y_train, eval_set=(x_valid, y_valid))


if __name__ == "__main__":
    hparams = {"learning_rate": ashwood.Log(-2, 0), "depth": ashwood.Int(1, 6)}
    searcher = ashwood.AdaptiveASHA(metric="validation-Logloss", max_length=64, max_trials=4)
    experiment = ashwood.run(train, hparams=hparams, searcher=searcher)
    print(experiment.best_trial)
