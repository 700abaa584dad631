"""Training code that runs as a command with arguments, as it did with Determined AI."""

import argparse
import pickle

from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import ashwood


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--hidden-units", type=int, default=8)
    parser.add_argument("--l2", type=float, default=0.0)
    args = parser.parse_args()

    # In a search, this is the search's trial.  If the script runs by itself, it is a new trial of three epochs.
    trial = ashwood.get_trial(hparams={"global_batch_size": 16}, data={"test_fraction": 0.3}, epochs=3)

    features, labels = load_iris(return_X_y=True)
    x_train, x_valid, y_train, y_valid = train_test_split(
        features, labels, test_size=trial.data.test_fraction, random_state=0
    )
    model = MLPClassifier(
        hidden_layer_sizes=args.hidden_units,
        solver="sgd",
        learning_rate_init=args.learning_rate,
        alpha=args.l2,
        batch_size=trial.hparams.global_batch_size,
        random_state=trial.seed,
    )
    if trial.checkpoint:
        model = pickle.loads((trial.checkpoint / "model.pkl").read_bytes())
    for _epoch in trial.epochs():
        model.partial_fit(x_train, y_train, classes=[0, 1, 2])
        trial.report(
            validation_error=1 - model.score(x_valid, y_valid),
            checkpoint=lambda directory: (directory / "model.pkl").write_bytes(pickle.dumps(model)),
        )


if __name__ == "__main__":
    main()
