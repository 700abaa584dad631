"""A search from Python, without an experiment file: scikit-learn's digits, a linear model by SGD."""

import pickle

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

import ashwood

images, labels = load_digits(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(images / 16, labels, test_size=0.25, random_state=0)


def train(trial: ashwood.Trial) -> None:
    if trial.checkpoint:
        model = pickle.loads((trial.checkpoint / "model.pkl").read_bytes())
    else:
        model = SGDClassifier(**trial.hparams, learning_rate="constant", random_state=trial.seed)
    for _epoch in trial.epochs():
        model.partial_fit(x_train, y_train, classes=range(10))
        trial.report(
            error=1 - model.score(x_valid, y_valid),
            checkpoint=lambda directory: (directory / "model.pkl").write_bytes(pickle.dumps(model)),
        )


if __name__ == "__main__":
    experiment = ashwood.run(
        train,
        hparams={
            "eta0": ashwood.Log(-5, 0),
            "alpha": ashwood.Log(-7, -1),
            "loss": ashwood.Categorical(("hinge", "log_loss", "modified_huber")),
        },
        searcher=ashwood.AdaptiveASHA(metric="error", max_length={"epochs": 27}, max_trials=50, divisor=3),
        seed=1,
    )
    print(experiment.best_trial)
    print(experiment.trials().sort_values("error").head())
