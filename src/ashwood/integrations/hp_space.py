"""Searches over the ``hp_space`` of a Transformers `Trainer`, a function that suggests values as it does for Optuna."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from math import ceil
from types import SimpleNamespace
from typing import Any

import ashwood
from ashwood.errors import AshwoodError, TrainingCodeError
from ashwood.integrations.common import require
from ashwood.search.space import Hyperparameter
from ashwood.spaces import choice, int_range, number_range

hf: Any = require("transformers", "transformers")

HpSpace = Callable[[Any], Mapping[str, Any]]
Objective = Callable[[dict[str, float]], float]

_UNITS = (0.0, 0.26, 0.5, 0.76, 1 - 2**-53)
"""Draws in [0, 1) at which an ``hp_space`` is called, to find out whether it always suggests the same."""


def hyperparameter_search(
    trainer: Any,
    hp_space: HpSpace | None = None,
    compute_objective: Objective | None = None,
    n_trials: int = 20,
    direction: str = "minimize",
    **options: Any,
) -> Any:
    """Search with adaptive ASHA, with the arguments and the result of `Trainer.hyperparameter_search`.

    Example::

        def hp_space(trial):
            return {"learning_rate": trial.suggest_float("learning_rate", 1e-6, 1e-3, log=True)}

        best = ashwood.transformers.hyperparameter_search(trainer, hp_space, n_trials=40)
        print(best.objective, best.hyperparameters)

    Args:
        trainer: a `transformers.Trainer` with ``model_init``.  Its ``num_train_epochs``, or ``max_steps``, is the
            length of the longest trials.
        hp_space: function that suggests values; by default, that of Transformers without ``num_train_epochs``.
        compute_objective: function that computes the objective from the metrics of an evaluation.
        n_trials: number of trials.
        direction: ``minimize`` or ``maximize``.
        **options: options of `ashwood.run`, such as ``workers``, ``home`` or ``seed``.

    Returns:
        A `BestRun`, with the number of the trial as ``run_id`` and the experiment as ``run_summary``.

    Raises:
        TrainingCodeError: the trainer or the ``hp_space`` cannot be used.
        AshwoodError: the search failed.
    """
    import cloudpickle

    if trainer.model_init is None or direction not in ("minimize", "maximize"):
        raise TrainingCodeError('pass a trainer with model_init, and the direction "minimize" or "maximize"')
    space = hp_space or _default_space
    bare, hparams = _without_model(trainer, compute_objective), space_of(space)
    unit, length = "epochs", ceil(trainer.args.num_train_epochs)
    if trainer.args.max_steps > 0:
        unit, length = "batches", trainer.args.max_steps
    ashwood.transformers.check(SimpleNamespace(unit=unit, max_length=length, world_size=1), bare)
    content, paths = cloudpickle.dumps((bare, space)), list(sys.path)

    def train_trial(trial: ashwood.Trial) -> None:
        sys.path += [path for path in paths if path not in sys.path]
        trainer, space = cloudpickle.loads(content)
        values = values_of(space, trial.hparams)
        _apply(values, trainer)
        ashwood.transformers.train(trial, trainer, trial=values)

    train_trial.__module__ = "__main__"  # Workers start in the directory of the script, not in that of this module.
    searcher = {"name": "adaptive_asha", "metric": "objective", "max_length": {unit: length}, "max_trials": n_trials}
    searcher["smaller_is_better"] = direction == "minimize"
    options = {"name": "hyperparameter_search"} | options
    experiment = ashwood.run(train_trial, hparams=hparams, searcher=searcher, **options)
    if (best := experiment.best_trial) is None:
        raise AshwoodError(f"no trial of experiment {experiment.id} has reported an objective")
    return hf.trainer_utils.BestRun(str(best.id), best.metric, values_of(space, best.hparams), experiment)


class _Suggestions:
    """The trial that an ``hp_space`` gets: it records each hyperparameter, and returns its value."""

    def __init__(self, value: Callable[[str, Hyperparameter], Any]) -> None:
        self.space: dict[str, Hyperparameter] = {}
        self._value = value

    def _suggest(self, name: str, hyperparameter: Hyperparameter) -> Any:
        self.space[name] = hyperparameter
        return self._value(name, hyperparameter)

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> Any:
        return self._suggest(name, number_range(low, high, step, log=log))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> Any:
        return round(self._suggest(name, int_range(low, high, step, log=log)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._suggest(name, choice(choices))

    def __getattr__(self, name: str) -> Any:
        raise TrainingCodeError(f"hp_space uses {name}, but has only suggest_float, suggest_int, suggest_categorical")


def space_of(hp_space: HpSpace) -> dict[str, Hyperparameter]:
    """Return the hyperparameters that an ``hp_space`` suggests, or raise an error if they depend on their values."""
    spaces = []
    for unit in _UNITS:
        trial = _Suggestions(lambda _, hyperparameter, unit=unit: hyperparameter.at(unit))  # type: ignore[misc]
        if length := {"num_train_epochs", "max_steps"} & hp_space(trial).keys():
            raise TrainingCodeError(
                f"hp_space sets {length.pop()}, but the search decides how long each trial trains, at most up to the "
                "num_train_epochs or max_steps of the trainer: remove it from hp_space"
            )
        spaces.append(trial.space)
    names = {name for space in spaces for name in space}
    if unsteady := sorted(name for name in names if any(space.get(name) != spaces[0].get(name) for space in spaces)):
        raise TrainingCodeError(
            f"hp_space suggests {', '.join(unsteady)} only at some values of other hyperparameters, or with other "
            "bounds. Ashwood draws all hyperparameters of a trial at once: suggest each of them in every call, with "
            "the same bounds, and do not use those that do not apply"
        )
    return spaces[0]


def values_of(hp_space: HpSpace, hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an ``hp_space`` returns for the hyperparameters of a trial."""
    return dict(hp_space(_Suggestions(lambda name, _: hparams[name])))


def _default_space(trial: Any) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-6, 1e-4, log=True),
        "seed": trial.suggest_int("seed", 1, 40),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", [4, 8, 16, 32, 64]),
    }


def _without_model(trainer: Any, compute_objective: Objective | None) -> Any:
    """Return a copy of the trainer that can be pickled."""
    bare, handler = copy(trainer), copy(trainer.callback_handler)
    bare.model = bare.model_wrapped = bare.optimizer = bare.lr_scheduler = None
    handler.model = handler.optimizer = handler.lr_scheduler = handler.train_dataloader = handler.eval_dataloader = None
    bare.callback_handler, bare.state = handler, hf.TrainerState()
    bare.compute_objective = compute_objective or hf.trainer_utils.default_compute_objective
    # The progress bar of a notebook works in the notebook only, and the writer of TensorBoard cannot be pickled.
    handler.callbacks = [
        type(callback)() if type(callback).__name__ == "TensorBoardCallback" else callback
        for callback in handler.callbacks
        if type(callback).__name__ != "NotebookProgressCallback"
    ]
    return bare


def _apply(values: Mapping[str, Any], trainer: Any) -> None:
    """Set training arguments, as `Trainer` does in its own search.  Other values are for ``model_init``."""
    args = trainer.args
    for name, value in values.items():
        if hasattr(args, name):
            old = getattr(args, name)
            setattr(args, name, value if old is None else type(old)(value))
    args._n_gpu = min(args.n_gpu, sys.modules["torch"].cuda.device_count())  # A worker may see fewer GPUs.
    trainer._train_batch_size = args.train_batch_size
    trainer.create_accelerator_and_postprocess()
