"""Keras on each backend that is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ashwood
from ashwood.errors import TrainingCodeError
from ashwood.trial.attempt import Ended, Failed, Outcome, Stopped
from ashwood.trial.channel import ReportAnswer
from ashwood.trial.run import run
from tests.integrations import kit
from tests.trial.links import PAUSE, ScriptedLink, go, make_job

BACKENDS = [name for name in ("torch", "jax", "tensorflow") if find_spec(name)]
# Keras reads the variable when it is imported; worker processes and examples inherit it.
os.environ.setdefault("KERAS_BACKEND", [*BACKENDS, "torch"][0])

keras: Any = pytest.importorskip("keras")

# Keras, and the packages that it imports, use functions that NumPy and Python deprecate.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
    pytest.mark.timeout(600),  # importing the backends takes long on a busy machine
]

ROOT = Path(__file__).parents[2]
EPOCHS = 8
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(96, 4)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int32")
VALID = (X[:32], Y[:32])
STEPS = 3
"""Batches of an epoch."""

Train = Callable[[ashwood.Trial], Any]


def build(optimizer: Any = None, model: Any = None, metrics: Any = ("accuracy",)) -> Any:
    layers = [keras.layers.Dense(8), keras.layers.Dropout(0.3), keras.layers.Dropout(0.3, seed=2)]
    model = model or keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2)])
    optimizer = optimizer or keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, EPOCHS * STEPS))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=[*metrics])
    return model


def train(trial: ashwood.Trial, make: Callable[[], Any] = build, **settings: Any) -> Any:
    keras.utils.set_random_seed(trial.seed)
    model = make()
    settings = {"validation_data": VALID, "verbose": 0} | settings
    if callable(others := settings.pop("callbacks", None)):
        settings["callbacks"] = others()
    return ashwood.keras.fit(trial, model, X, Y, batch_size=32, **settings)


class Attempts:
    """Runs attempts of one trial, each from the checkpoint of the one before."""

    def __init__(self, directory: Path, train: Train) -> None:
        self.directory, self.train = directory, train
        self.reports: list[tuple[int, dict[str, float]]] = []
        self.length, self.attempt = 0, 0

    def to(self, target: int, *answers: ReportAnswer | None, **job: Any) -> Outcome:
        checkpoint = f"trial-7/length-{self.length}-attempt-{self.attempt}" if self.length else None
        self.attempt += 1
        job = {"max_length": EPOCHS, "metric": "val_loss", "length": self.length, "checkpoint": checkpoint} | job
        link = ScriptedLink(answers or (PAUSE,))
        outcome = run(self.train, make_job(self.directory, target=target, attempt=self.attempt, **job), link)
        self.reports += [(sent[1], sent[2]) for sent in link.sent if sent[0] == "report"]
        self.saves = link.saves
        self.length = target
        return outcome

    @property
    def checkpoint(self) -> Path:
        return self.directory / f"trial-7/length-{self.length}-attempt-{self.attempt}"


def assert_pauses_change_nothing(directory: Path, train: Train) -> Attempts:
    paused, undisturbed = Attempts(directory / "paused", train), Attempts(directory / "undisturbed", train)
    assert paused.to(2) == Ended(2)
    assert paused.to(EPOCHS) == undisturbed.to(EPOCHS) == Ended(EPOCHS)
    assert paused.reports == undisturbed.reports
    return paused


def check_backend(directory: str) -> None:
    """Compare trials with and without a pause; called in a process of its own, too."""

    def make() -> Any:
        layers = [keras.layers.Dense(8), keras.layers.Dropout(0.3), keras.layers.Dropout(0.3, seed=2)]
        return build(model=keras.Sequential([*layers, keras.layers.Dense(2)]))

    assert_pauses_change_nothing(Path(directory), partial(train, make=make))
    print("exact on", keras.backend.backend())


@pytest.mark.parametrize("backend", BACKENDS)
def test_paused_trial_reports_the_same_on_each_backend(backend: str, tmp_path: Path) -> None:
    if backend == keras.backend.backend():
        check_backend(str(tmp_path))
        return
    # Otherwise set_random_seed imports TensorFlow with each backend, which takes long.
    block = "" if backend == "tensorflow" else "import sys; sys.modules['tensorflow'] = None; "
    code = f"{block}from tests.integrations.test_keras import check_backend; check_backend({str(tmp_path)!r})"
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert f"exact on {backend}" in done.stdout, done.stdout + done.stderr


def train_on(backend: str, trial: ashwood.Trial) -> None:
    assert keras.backend.backend() == backend
    train(trial, lambda: build(keras.optimizers.Adam(trial.hparams.learning_rate)))


def test_search_that_pauses_and_kills_reports_what_undisturbed_trials_report(tmp_path: Path) -> None:
    reports = kit.assert_resumes(
        partial(train_on, keras.backend.backend()),
        tmp_path,
        hparams={"learning_rate": ashwood.Log(-3, -1)},
        metric="val_loss",
        max_length={"epochs": EPOCHS},
        seed=5,
    )
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= {*reports.columns}


def test_example_runs(tmp_path: Path) -> None:
    printed = kit.run_example("keras", tmp_path, "searcher.max_trials=1", "searcher.max_length.epochs=4")
    assert "val_loss" in printed


def test_counters_of_other_callbacks_continue(tmp_path: Path) -> None:
    def callbacks() -> list[Any]:
        plateau = keras.callbacks.ReduceLROnPlateau(patience=2, min_delta=100)
        best = keras.callbacks.EarlyStopping(patience=EPOCHS, min_delta=0.5, restore_best_weights=True)
        return [plateau, best, keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]

    restored = []

    def fit(trial: ashwood.Trial) -> None:
        history = train(trial, lambda: build(keras.optimizers.Adam(0.05, use_ema=True)), callbacks=callbacks)
        restored.append([weights.tolist() for weights in history.model.get_weights()])

    attempts = assert_pauses_change_nothing(tmp_path, fit)
    assert len({metrics["learning_rate"] for _, metrics in attempts.reports}) > 2
    # EarlyStopping restores its best weights when the training ends; they are from before the pause.
    assert restored[1] == restored[2]


class Custom(keras.Model):  # type: ignore[misc]
    """A model that Keras cannot serialize, because of an argument."""

    def __init__(self, unknown: object) -> None:
        super().__init__()
        self.unknown = unknown
        self.hidden = [keras.layers.Dense(8), keras.layers.Dropout(0.3)]
        self.last = keras.layers.Dense(2)

    def call(self, x: Any, training: bool = False) -> Any:
        for layer in self.hidden:
            x = layer(x, training=training) if isinstance(layer, keras.layers.Dropout) else layer(x)
        return self.last(x)


def test_weights_of_a_model_that_keras_cannot_save_are_restored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts = assert_pauses_change_nothing(tmp_path, partial(train, make=lambda: build(model=Custom(object()))))
    files = {path.name for path in attempts.checkpoint.iterdir()}
    assert files == {"ashwood-checkpoint.json", "model.weights.h5", "state.npz"}
    assert "model.save() failed: Object Custom was created by passing non-serializable" in capsys.readouterr().out


def test_checkpoint_loads_without_ashwood(tmp_path: Path) -> None:
    attempts = assert_pauses_change_nothing(tmp_path, train)
    model = keras.models.load_model(attempts.checkpoint / "model.keras")
    assert int(model.optimizer.iterations) == EPOCHS * STEPS
    found = model.evaluate(*VALID, batch_size=32, return_dict=True, verbose=0)
    assert found["loss"] == pytest.approx(attempts.reports[-1][1]["val_loss"], rel=1e-5)


def test_callback_alone_reports_what_fit_reports(tmp_path: Path) -> None:
    def own_fit(trial: ashwood.Trial) -> None:
        keras.utils.set_random_seed(trial.seed)
        epochs, callbacks = {"epochs": trial.max_length, "initial_epoch": trial.length}, [ashwood.keras.Callback(trial)]
        build().fit(X, Y, 32, validation_data=VALID, callbacks=callbacks, verbose=0, **epochs)

    alone, by_fit = Attempts(tmp_path / "alone", own_fit), Attempts(tmp_path / "fit", train)
    for attempts in (alone, by_fit):
        attempts.to(1)
        attempts.to(3)
    assert alone.reports == by_fit.reports


def test_fit_returns_the_history_of_the_epochs_that_it_trained(tmp_path: Path) -> None:
    histories = []
    attempts = Attempts(tmp_path, lambda trial: histories.append(train(trial).epoch))
    attempts.to(2)
    attempts.to(3, go(4), PAUSE)
    assert histories == [[0, 1], [2, 3]]


def test_early_stopping_of_keras_ends_the_trial_with_a_checkpoint(tmp_path: Path) -> None:
    stopping = partial(keras.callbacks.EarlyStopping, min_delta=100, patience=2)
    attempts = Attempts(tmp_path, partial(train, callbacks=lambda: [stopping()]))
    assert attempts.to(EPOCHS) == Stopped()
    assert [length for length, _ in attempts.reports] == [1, 2, 3]
    assert attempts.saves == ["length-3-attempt-1"]


def test_trial_that_is_paused_when_early_stopping_ends_it_does_not_continue(tmp_path: Path) -> None:
    stopping = partial(keras.callbacks.EarlyStopping, min_delta=100, patience=2)
    attempts = Attempts(tmp_path, partial(train, callbacks=lambda: [stopping()]))
    assert attempts.to(3) == Ended(3)
    assert attempts.to(EPOCHS) == Stopped()
    assert len(attempts.reports) == 3


def test_epochs_without_validation_report_training_metrics(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, partial(train, validation_freq=2))
    assert attempts.to(3) == Ended(4)
    assert ["val_loss" in metrics for _, metrics in attempts.reports] == [False, True, False, True]
    assert all("loss" in metrics for _, metrics in attempts.reports)


def test_training_loss_is_compared_without_validation_data(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, partial(train, validation_data=None))
    assert attempts.to(2, metric="loss") == Ended(2)


def test_metrics_of_several_numbers_are_left_out(tmp_path: Path) -> None:
    def vector(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(y_pred, axis=-1)

    class PerClass(keras.metrics.MeanMetricWrapper):  # type: ignore[misc]
        def result(self) -> Any:
            return keras.ops.stack([super().result()] * 2)

    make = partial(build, metrics=["accuracy", PerClass(vector, name="per_class")])
    attempts = Attempts(tmp_path, partial(train, make=make))
    assert attempts.to(1) == Ended(1)
    assert {*attempts.reports[0][1]} == {"loss", "accuracy", "val_loss", "val_accuracy"}


def test_trial_without_an_experiment_trains_and_continues(tmp_path: Path) -> None:
    first = train(ashwood.get_trial(epochs=2, checkpoint_dir=tmp_path))
    second = train(ashwood.get_trial(epochs=3, checkpoint=tmp_path / "trial-0/length-2-attempt-1"))
    assert (first.epoch, second.epoch) == ([0, 1], [2])


@pytest.mark.parametrize(
    ("settings", "job", "message"),
    [
        ({"epochs": 3}, {}, "leave out epochs and initial_epoch"),
        ({"validation_data": None}, {}, "'val_loss' needs validation data: pass validation_data or validation_split"),
        ({}, {"unit": "batches"}, "cannot count batches: write max_length: {epochs: N}"),
        ({}, {"world_size": 2}, "Keras must train in one process, but the trial has 2"),
        ({"callbacks": lambda: [keras.callbacks.BackupAndRestore("x")]}, {}, "BackupAndRestore .* remove it"),
        ({}, {"metric": "val_acuracy"}, "'val_acuracy', which is not reported .did you mean 'val_accuracy'"),
        ({}, {"metric": "acc"}, "'acc', which is not reported"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    settings: dict[str, Any], job: dict[str, Any], message: str, tmp_path: Path
) -> None:
    outcome = Attempts(tmp_path, partial(train, **settings)).to(2, **job)
    assert isinstance(outcome, Failed)
    assert re.search(message, outcome.error), outcome.error


@pytest.mark.parametrize(
    ("epochs", "model", "message"),
    [
        (1, None, "model.fit needs epochs=trial.max_length"),
        (2, keras.Sequential([keras.layers.Dense(2)]), r"build the model before fit: add keras.Input\(shape\)"),
    ],
)
def test_callback_refuses_training_that_cannot_resume(epochs: int, model: Any, message: str) -> None:
    callback = ashwood.keras.Callback(ashwood.get_trial(epochs=2))
    callback.set_params({"epochs": epochs})
    callback.set_model(model or SimpleNamespace(built=True))
    with pytest.raises(TrainingCodeError, match=message):
        callback.on_train_begin()
