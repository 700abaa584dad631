"""Trains one perceptron on the digits."""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)

model = MLPClassifier(learning_rate_init=0.003, alpha=1e-4, random_state=0)
model.fit(X_train, y_train)
print(model.score(X_test, y_test))
