"""Train one model with XGBoost."""

import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

x, y = load_breast_cancer(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x, y, random_state=0)
dtrain = xgboost.DMatrix(x_train, y_train)
dvalid = xgboost.DMatrix(x_valid, y_valid)

params = {"objective": "binary:logistic", "learning_rate": 0.1, "max_depth": 4}
xgboost.train(params, dtrain, num_boost_round=64, evals=[(dvalid, "valid")], verbose_eval=False)
