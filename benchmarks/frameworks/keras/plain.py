"""One training with Keras."""

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

x, y = load_digits(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x / 16, y, random_state=0)

model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.2), keras.layers.Dense(10)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
model.fit(x_train, y_train, epochs=8, validation_data=(x_valid, y_valid), verbose=2)
