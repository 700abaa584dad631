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


def fit(trial: ashwood.Trial) -> None:
    info = det.get_cluster_info()
    assert info is not None
    with det.core.init() as core_context:
        keras.utils.set_random_seed(info.trial.trial_seed)
        model = build(info.trial.hparams["units"], info.trial.hparams["lr"])
        (x, y), validation = iris()
        callback = DeterminedCallback(core_context, info.latest_checkpoint, info.trial.trial_id)
        model.fit(x, y, validation_data=validation, epochs=4, batch_size=32, verbose=0, callbacks=[callback])


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
