"""Train one model with CatBoost."""

import catboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

x, y = load_breast_cancer(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x, y, random_state=0)

model = catboost.CatBoostClassifier(iterations=64, verbose=False, learning_rate=0.1, depth=4)
model.fit(x_train, y_train, eval_set=(x_valid, y_valid))
