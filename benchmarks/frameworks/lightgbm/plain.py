"""Train one model with LightGBM."""

import lightgbm
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

x, y = load_breast_cancer(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x, y, random_state=0)
train_set = lightgbm.Dataset(x_train, y_train)
valid_set = lightgbm.Dataset(x_valid, y_valid, reference=train_set)

params = {"objective": "binary", "verbosity": -1, "learning_rate": 0.1, "num_leaves": 15}
lightgbm.train(params, train_set, num_boost_round=64, valid_sets=[valid_set])
