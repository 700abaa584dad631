"""Keras 3 on any backend: report each epoch, stop, and continue with weights, optimizer and random numbers."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

from ashwood.errors import TrainingCodeError
from ashwood.integrations.common import check_metric, check_one_process, check_unit, require, seed_everything
from ashwood.trial import Trial

keras: Any = require("keras", "keras")
np: Any = require("numpy", "keras")

_MODEL, _WEIGHTS, _STATE = "model.keras", "model.weights.h5", "state.npz"
_COUNTERS = ("best", "best_epoch", "best_weights", "cooldown_counter", "wait", "_ema_weights_in_model")
"""Attributes of Keras' callbacks that change during training."""


class Callback(keras.callbacks.Callback):
    """A callback that reports each epoch, restores and saves checkpoints, and ends the training.

    It must be the last callback of ``model.fit``::

        stopping = keras.callbacks.EarlyStopping(patience=3)
        callbacks = [stopping, ashwood.keras.Callback(trial, [stopping])]
        model.fit(x, y, epochs=trial.max_length, initial_epoch=trial.length, callbacks=callbacks, validation_split=0.2)

    Args:
        trial: the trial.
        callbacks: the other callbacks, whose counters are saved and restored, too.

    Raises:
        TrainingCodeError: the experiment does not count epochs, the trial has several processes, or a callback is
            ``BackupAndRestore``.  When training begins: ``epochs`` is wrong, or the model is not built.  After an
            epoch: the search compares a metric that is not reported.
    """

    def __init__(self, trial: Trial, callbacks: Iterable[Any] = ()) -> None:
        super().__init__()
        self._trial = trial
        self._others = {f"{type(other).__name__}-{number}": other for number, other in enumerate(callbacks)}
        check_unit(trial, "Keras", "epochs")
        check_one_process("Keras", trial.world_size)
        if any(isinstance(other, keras.callbacks.BackupAndRestore) for other in self._others.values()):
            raise TrainingCodeError("BackupAndRestore would overwrite what the trial's checkpoint restores: remove it")

    def on_train_begin(self, logs: Any = None) -> None:
        """Restore the checkpoint of the trial."""
        if self.params.get("epochs") != self._trial.max_length:
            raise TrainingCodeError("model.fit needs epochs=trial.max_length and initial_epoch=trial.length")
        if not self.model.built:
            raise TrainingCodeError("build the model before fit: add keras.Input(shape), or call it with one batch")
        if self._trial.checkpoint is not None and self._restore(self._trial.checkpoint):
            self._trial.stop()
        seed_epoch(self._trial.seed, self._trial.length)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Report the metrics of the epoch, and end the training if the search says so."""
        trial = self._trial
        metrics = {name: value for name, value in (logs or {}).items() if isinstance(value, (int, float))}
        # With validation_freq=n, only every n-th epoch has metrics of the validation.
        if any(name.startswith("val_") for name in metrics) or not str(trial.metric).startswith("val_"):
            check_metric(trial, metrics)
        trial.report(metrics, length=epoch + 1, checkpoint=self._save)
        if trial.should_stop:
            self.model.stop_training = True
        elif self.model.stop_training:
            trial.save(self._save, length=epoch + 1)
        seed_epoch(trial.seed, epoch + 1)

    def on_train_end(self, logs: Any = None) -> None:
        """End the trial if another callback, such as ``EarlyStopping``, has ended the training."""
        if self.model.stop_training and not self._trial.should_stop:
            self._trial.stop()

    def _save(self, directory: Path) -> None:
        try:
            self.model.save(str(directory / _MODEL))
        except (AttributeError, LookupError, NotImplementedError, TypeError, ValueError) as error:
            why = " ".join(str(error).strip().partition("\n\n")[0].split())
            print(f"The checkpoint contains {_WEIGHTS} and not {_MODEL}, because model.save() failed: {why}")
            (directory / _MODEL).unlink(missing_ok=True)
            self.model.save_weights(str(directory / _WEIGHTS))
        # Keras saves neither the seeds of layers nor the counters of callbacks.
        state = {"seeds": np.array([keras.ops.convert_to_numpy(seed) for seed in layer_seeds(self.model)])}
        for (key, other), name in product(self._others.items(), _COUNTERS):
            if isinstance(value := getattr(other, name, None), list):
                state |= {f"{key}/{name}/{index}": item for index, item in enumerate(value)}
            elif isinstance(value, (int, float)):
                state[f"{key}/{name}"] = value
        np.savez(directory / _STATE, ended=self.model.stop_training, **state)

    def _restore(self, directory: Path) -> bool:
        """Restore a checkpoint, and return whether another callback had ended the training there."""
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self.model.load_weights(str(directory / (_MODEL if (directory / _MODEL).exists() else _WEIGHTS)))
        with np.load(directory / _STATE) as state:
            for seed, value in zip(layer_seeds(self.model), state["seeds"], strict=False):
                seed.assign(value)
            for path, value in state.items():
                key, name, index = [*path.split("/"), "", ""][:3]
                if (other := self._others.get(key)) is not None:  # items of a list follow each other
                    setattr(other, name, [*(getattr(other, name) or []), value] if index else value.item())
            return bool(state["ended"])


def fit(trial: Trial, model: Any, *args: Any, **kwargs: Any) -> Any:
    """Call ``model.fit`` from the trial's length to its end, report each epoch, and return the ``History``.

    All arguments are those of ``model.fit``.  ``epochs`` and ``initial_epoch`` are set, ``verbose`` is 2 by default::

        keras.utils.set_random_seed(trial.seed)
        model = build(**trial.hparams)
        ashwood.keras.fit(trial, model, x, y, validation_data=(x_valid, y_valid))

    Raises:
        TrainingCodeError: ``epochs`` or ``initial_epoch`` is passed, there is no validation data but the search
            compares a metric ``val_…``, or see `Callback`.
    """
    call = signature(model.fit).bind_partial(*args, **kwargs)
    given = call.arguments
    if not {"epochs", "initial_epoch"}.isdisjoint(given):
        raise TrainingCodeError("leave out epochs and initial_epoch: they follow from max_length and the checkpoint")
    validates = given.get("validation_data") is not None or given.get("validation_split")
    if str(trial.metric).startswith("val_") and not validates:
        raise TrainingCodeError(f"{trial.metric!r} needs validation data: pass validation_data or validation_split")
    others = keras.tree.flatten(given.get("callbacks") or [])
    given |= {"verbose": 2} | given | {"callbacks": [*others, Callback(trial, others)]}
    given |= {"epochs": trial.max_length, "initial_epoch": trial.length}
    keras.utils.set_random_seed(trial.seed)  # TensorFlow shuffles arrays by this seed.
    if keras.backend.backend() == "tensorflow" and not model.built and isinstance(given.get("x"), np.ndarray):
        model(given["x"][:1])  # Other backends build the model before the training.
    return model.fit(*call.args, **call.kwargs)


def seed_epoch(seed: int, epoch: int) -> None:
    """Make the random numbers of an epoch independent of earlier pauses."""
    seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    # With TensorFlow, set_random_seed would make the random operations of compiled functions repeat themselves.
    (seed_everything if keras.backend.backend() == "tensorflow" else keras.utils.set_random_seed)(seed)


def layer_seeds(model: Any) -> list[Any]:
    """Return the variables with the states of the random numbers of layers."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]
