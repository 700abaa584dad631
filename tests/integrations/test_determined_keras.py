"""`determined.keras`: trial classes and the callback in trials that are paused and promoted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
keras = pytest.importorskip("keras")
datasets = pytest.importorskip("sklearn.datasets")

import ashwood  # noqa: E402
from ashwood.integrations import determined as det  # noqa: E402
from ashwood.integrations.determined.keras import (  # noqa: E402
    DeterminedCallback,
    TensorBoard,
    TFKerasTrial,
    callbacks,
    load_model_from_checkpoint_path,
)
from tests.integrations.attempts import Training  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves weights

HPARAMS = {"units": 16, "lr": 0.01, "global_batch_size": 32}


def iris() -> Any:
    x, y = datasets.load_iris(return_X_y=True)
    chosen = np.arange(len(y)) % 3 != 0
    return (x[chosen].astype("float32"), y[chosen]), (x[~chosen].astype("float32"), y[~chosen])


def build(units: int, lr: float) -> Any:
    layers = [keras.Input((4,)), keras.layers.Dense(units, "relu"), keras.layers.Dropout(0.2), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(lr), loss, metrics=["accuracy"])
    return model


class Dataset(keras.utils.PyDataset):  # type: ignore[misc,name-defined]
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        (x, y), _ = iris()
        return x[index::4], y[index::4]


class IrisTrial(TFKerasTrial):
    def __init__(self, context: Any) -> None:
        self.context = context

    def build_model(self) -> Any:
        model = build(self.context.get_hparam("units"), self.context.get_hparam("lr"))
        return self.context.wrap_model(model)

    def keras_callbacks(self) -> list[Any]:
        return [callbacks.ReduceLROnPlateau(monitor="val_loss", patience=1, factor=0.5)]

    def build_training_data_loader(self) -> Any:
        return Dataset() if self.context.get_hparams().get("dataset") else iris()[0]

    def build_validation_data_loader(self) -> Any:
        return iris()[1]


@pytest.mark.parametrize("dataset", [False, True])
def test_class_resumes_inside_epochs(dataset: bool, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "hparams": HPARAMS | ({"dataset": True} if dataset else {}),
        "metric": "val_accuracy",
        "validation_period": (1, "epochs"),
    }
    straight = Training(IrisTrial.__ashwood_train__, tmp_path / "a", targets=[3], **options)
    paused = Training(IrisTrial.__ashwood_train__, tmp_path / "b", targets=[1, 3], pauses=[2, 6], **options)
    assert str(straight.outcome) == "Ended(length=3)", straight.outcome
    assert paused.attempts == 3
    assert straight.reports.keys() == paused.reports.keys() == {1, 2, 3}
    assert paused.reports == straight.reports
    assert {"val_loss", "val_accuracy", "training.loss"} <= set(straight.reports[3])
    model = load_model_from_checkpoint_path(str(paused.checkpoints / paused.saved[-1]))
    x, y = iris()[1]
    assert model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] == straight.reports[3]["val_accuracy"]


class Gan(keras.Model):  # type: ignore[misc,name-defined]
    """Two models, each with an optimizer, in a ``train_step`` for PyTorch; the model itself cannot be called."""

    def __init__(self) -> None:
        super().__init__()
        dense = keras.layers.Dense
        self.generator = keras.Sequential([keras.Input((4,)), dense(8, "relu"), dense(2)])
        self.discriminator = keras.Sequential([keras.Input((2,)), dense(8, "relu"), dense(1)])
        self.noise = keras.random.SeedGenerator(1)
        self.loss_of = keras.losses.BinaryCrossentropy(from_logits=True)

    def compile(self, d_optimizer: Any, g_optimizer: Any) -> None:
        super().compile()
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer
        self.d_loss = keras.metrics.Mean(name="d_loss")

    def optimize(self, loss: Any, model: Any, optimizer: Any) -> None:
        import torch

        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            optimizer.apply([weight.value.grad for weight in model.trainable_weights], model.trainable_weights)

    def train_step(self, data: Any) -> Any:
        real, ones, zeros = data[0], keras.ops.ones((32, 1)), keras.ops.zeros((32, 1))
        fake = self.generator(keras.random.normal((32, 4), seed=self.noise))
        loss = self.loss_of(ones, self.discriminator(real)) + self.loss_of(zeros, self.discriminator(fake.detach()))
        self.optimize(loss, self.discriminator, self.d_optimizer)
        self.optimize(self.loss_of(ones, self.discriminator(fake)), self.generator, self.g_optimizer)
        self.d_loss.update_state(loss.detach())
        return {"d_loss": self.d_loss.result()}

    def test_step(self, data: Any) -> Any:
        self.d_loss.update_state(keras.ops.mean(self.discriminator(data[0])))
        return {"d_loss": self.d_loss.result()}


class GanTrial(TFKerasTrial):
    def build_model(self) -> Any:
        model = self.context.wrap_model(Gan())
        model.compile(keras.optimizers.Adam(0.01), keras.optimizers.Adagrad(0.01))
        return model

    def build_training_data_loader(self) -> Any:
        points = np.random.default_rng(0).normal(size=(128, 2)).astype("float32")
        return points, np.zeros(128)

    build_validation_data_loader = build_training_data_loader


def test_model_with_two_optimizers_and_its_own_train_step_resumes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    options: dict[str, Any] = {"hparams": {"global_batch_size": 32}, "metric": "val_d_loss"}
    straight = Training(GanTrial.__ashwood_train__, tmp_path / "a", targets=[3], **options)
    paused = Training(GanTrial.__ashwood_train__, tmp_path / "b", targets=[3], pauses=[2, 6], **options)
    assert str(straight.outcome) == "Ended(length=3)", straight.outcome
    assert paused.attempts == 3
    assert paused.reports == straight.reports


def fit(trial: ashwood.Trial) -> None:
    info = det.get_cluster_info()
    assert info is not None
    with det.core.init() as core_context:
        keras.utils.set_random_seed(info.trial.trial_seed)
        model = build(info.trial.hparams["units"], info.trial.hparams["lr"])
        (x, y), validation = iris()
        callback = DeterminedCallback(core_context, info.latest_checkpoint, info.trial.trial_id)
        each = [callback, TensorBoard(core_context, update_freq="batch")]
        model.fit(x, y, validation_data=validation, epochs=4, batch_size=32, verbose=0, callbacks=each)


def test_callback_reports_epochs_and_resumes(tmp_path: Path) -> None:
    options: dict[str, Any] = {"hparams": HPARAMS, "metric": "val_accuracy", "halving": True}
    straight = Training(fit, tmp_path / "a", targets=[4], **options)
    paused = Training(fit, tmp_path / "b", targets=[1, 2, 4], pauses_at_targets=True, **options)
    assert str(straight.outcome) == "Ended(length=4)", straight.outcome
    assert paused.outcome == straight.outcome
    assert paused.attempts == 3
    for length in (1, 2, 3, 4):
        assert paused.reports[length]["val_accuracy"] == straight.reports[length]["val_accuracy"]
        assert paused.reports[length]["loss"] == pytest.approx(straight.reports[length]["loss"], rel=1e-6)
