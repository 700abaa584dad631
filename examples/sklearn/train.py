"""A perceptron of scikit-learn on its digits, trained by ``partial_fit``."""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import ashwood

X, y = load_digits(return_X_y=True)
X_train, X_valid, y_train, y_valid = train_test_split(X / 16, y, random_state=0)


def make(units, layers, learning_rate, alpha, batch_size) -> MLPClassifier:
    sizes = (units,) * layers
    return MLPClassifier(sizes, learning_rate_init=learning_rate, alpha=alpha, batch_size=batch_size)


def train(trial: ashwood.Trial) -> None:
    ashwood.sklearn.partial_fit(trial, make, X_train, y_train, (X_valid, y_valid))


if __name__ == "__main__":
    defaults = {"units": 64, "layers": 1, "learning_rate": 0.003, "alpha": 1e-4, "batch_size": 32}
    train(ashwood.get_trial(hparams=defaults, epochs=5))
