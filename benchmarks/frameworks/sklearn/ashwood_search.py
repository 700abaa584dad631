"""Searches with `AshwoodSearchCV`; promoted candidates continue."""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import ashwood

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)

space = {"learning_rate_init": ashwood.Log(-4, -1), "alpha": ashwood.Log(-6, 0)}
model = ashwood.sklearn.AshwoodSearchCV(
    MLPClassifier(random_state=0), space, resource="epochs", max_resources=16, max_trials=4
)
model.fit(X_train, y_train)
print(model.score(X_test, y_test))
