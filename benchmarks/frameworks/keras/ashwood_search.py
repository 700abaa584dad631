"""A search with Ashwood."""

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import ashwood

x, y = load_digits(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x / 16, y, random_state=0)


def train(trial):
    keras.utils.clear_session()
    keras.utils.set_random_seed(trial.seed)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(trial.hparams.dropout), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(trial.hparams.lr), loss, metrics=["accuracy"])
    ashwood.keras.fit(trial, model, x_train, y_train, validation_data=(x_valid, y_valid), verbose=2)


if __name__ == "__main__":
    hparams = {"dropout": ashwood.Double(0, 0.5), "lr": ashwood.Log(-4, -1)}
    searcher = ashwood.AdaptiveASHA(metric="val_loss", max_length={"epochs": 8}, max_trials=4)
    ashwood.run(train, hparams=hparams, searcher=searcher)
