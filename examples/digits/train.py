"""Train a small neural network on scikit-learn's handwritten digits, one epoch at a time."""

import pickle
import warnings

from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import ashwood

images, labels = load_digits(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(images / 16, labels, test_size=0.25, random_state=0)

# With a learning rate that is much too high, the weights overflow.  The search recognizes that by the loss.
warnings.filterwarnings("ignore", category=RuntimeWarning)


def train(trial: ashwood.Trial) -> None:
    hp = trial.hparams
    if trial.checkpoint:
        model = pickle.loads((trial.checkpoint / "model.pkl").read_bytes())
    else:
        model = MLPClassifier(
            hidden_layer_sizes=(hp.hidden_units,) * hp.hidden_layers,
            activation=hp.activation,
            solver="sgd",
            learning_rate_init=hp.optimizer.learning_rate,
            momentum=hp.optimizer.momentum,
            batch_size=hp.batch_size,
            alpha=hp.weight_decay,
            random_state=trial.seed,
        )
    for _epoch in trial.epochs():
        try:
            model.partial_fit(x_train, y_train, classes=range(10))
            probabilities = model.predict_proba(x_valid)
        except ValueError:  # the weights have become NaN or infinite
            trial.report(validation_loss=float("nan"), validation_accuracy=0.1)
            continue
        trial.report(
            validation_loss=log_loss(y_valid, probabilities),
            validation_accuracy=(probabilities.argmax(axis=1) == y_valid).mean(),
            checkpoint=lambda directory: (directory / "model.pkl").write_bytes(pickle.dumps(model)),
        )


if __name__ == "__main__":
    # The function runs by itself too: python train.py
    defaults = {
        "hidden_units": 32,
        "hidden_layers": 1,
        "activation": "relu",
        "batch_size": 32,
        "weight_decay": 1e-4,
        "optimizer": {"learning_rate": 0.1, "momentum": 0.9},
    }
    train(ashwood.get_trial(hparams=defaults, epochs=5))
