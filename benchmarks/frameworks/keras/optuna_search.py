"""A search with Optuna, which ends bad trials and cannot continue the others."""

import keras
import optuna
from optuna_integration import KerasPruningCallback
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

x, y = load_digits(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x / 16, y, random_state=0)


def objective(trial):
    keras.utils.clear_session()
    dropout = trial.suggest_float("dropout", 0, 0.5)
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(dropout), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(lr), loss, metrics=["accuracy"])
    callbacks = [KerasPruningCallback(trial, "val_loss")]
    history = model.fit(x_train, y_train, epochs=8, validation_data=(x_valid, y_valid), verbose=2, callbacks=callbacks)
    return history.history["val_loss"][-1]


if __name__ == "__main__":
    study = optuna.create_study(direction="minimize", pruner=optuna.pruners.HyperbandPruner(max_resource=8))
    study.optimize(objective, n_trials=4)
