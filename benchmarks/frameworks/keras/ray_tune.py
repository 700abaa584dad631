"""A search with Ray Tune and ASHA, with checkpoints."""

import tempfile
from pathlib import Path

import keras
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

x, y = load_digits(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x / 16, y, random_state=0)


class ReportCheckpoint(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        with tempfile.TemporaryDirectory() as directory:
            self.model.save(Path(directory) / "model.keras")
            (Path(directory) / "epoch.txt").write_text(str(epoch + 1))
            tune.report(dict(logs), checkpoint=tune.Checkpoint.from_directory(directory))


def train(config):
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as directory:
            model = keras.models.load_model(Path(directory) / "model.keras")
            start = int((Path(directory) / "epoch.txt").read_text())
    else:
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(config["dropout"]), keras.layers.Dense(10)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(config["lr"]), loss, metrics=["accuracy"])
    model.fit(
        x_train,
        y_train,
        epochs=8,
        initial_epoch=start,
        validation_data=(x_valid, y_valid),
        verbose=2,
        callbacks=[ReportCheckpoint()],
    )


if __name__ == "__main__":
    scheduler = ASHAScheduler(metric="val_loss", mode="min", max_t=8, grace_period=1)
    space = {"dropout": tune.uniform(0, 0.5), "lr": tune.loguniform(1e-4, 1e-1)}
    tuner = tune.Tuner(train, param_space=space, tune_config=tune.TuneConfig(num_samples=4, scheduler=scheduler))
    tuner.fit()
