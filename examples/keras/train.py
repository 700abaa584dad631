"""A small convolutional network on scikit-learn's digits, in Keras, on any backend."""

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import ashwood

digits = load_digits()
images = digits.images.astype("float32")[..., None] / 16
x_train, x_valid, y_train, y_valid = train_test_split(images, digits.target, test_size=0.25, random_state=0)
batch_size = 32


def build(hp) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(hp.channels, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dropout(hp.dropout),
            keras.layers.Dense(10),
        ]
    )


def train(trial: ashwood.Trial) -> None:
    keras.utils.clear_session()
    keras.utils.set_random_seed(trial.seed)
    model = build(trial.hparams)
    steps = trial.max_length * -(-len(x_train) // batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(trial.hparams.learning_rate, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"])
    ashwood.keras.fit(trial, model, x_train, y_train, batch_size=batch_size, validation_data=(x_valid, y_valid))


if __name__ == "__main__":
    train(ashwood.get_trial(hparams={"channels": 8, "dropout": 0.2, "learning_rate": 0.01}, epochs=4))
