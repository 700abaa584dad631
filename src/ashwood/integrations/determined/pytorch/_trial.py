"""The trial class of PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ashwood.integrations.determined._context import start_logging
from ashwood.integrations.determined.errors import InvalidHP
from ashwood.integrations.determined.info import current_trial, slots_of_trial
from ashwood.integrations.determined.launch.torch_distributed import class_command
from ashwood.integrations.determined.pytorch import _data, _state
from ashwood.integrations.determined.pytorch._callback import PyTorchCallback
from ashwood.integrations.determined.pytorch._context import PyTorchTrialContext
from ashwood.integrations.determined.pytorch._group import joined
from ashwood.integrations.determined.pytorch._loop import TrainingLoop, periods_of
from ashwood.integrations.determined.pytorch._reducer import Reducer
from ashwood.integrations.torch import seed_all
from ashwood.trial import Trial

_F = TypeVar("_F", bound=Callable[..., Any])


def _default(method: _F) -> _F:
    method.is_default = True  # type: ignore[attr-defined]
    return method


class PyTorchTrial(ABC):
    """A model, with the functions that train it on a batch and evaluate it.

    Example::

        class DigitsTrial(PyTorchTrial):
            def __init__(self, context):
                self.context = context
                self.model = context.wrap_model(build(context.get_hparam("hidden")))
                self.optimizer = context.wrap_optimizer(torch.optim.SGD(self.model.parameters(), lr=0.1))

            def build_training_data_loader(self):
                return DataLoader(train_set, batch_size=self.context.get_per_slot_batch_size(), shuffle=True)

            def build_validation_data_loader(self):
                return DataLoader(valid_set, batch_size=self.context.get_per_slot_batch_size())

            def train_batch(self, batch, epoch_idx, batch_idx):
                images, labels = batch
                loss = F.cross_entropy(self.model(images), labels)
                self.context.backward(loss)
                self.context.step_optimizer(self.optimizer)
                return {"loss": loss}

            def evaluate_batch(self, batch, batch_idx):
                images, labels = batch
                return {"validation_loss": F.cross_entropy(self.model(images), labels)}

    An experiment trains it with ``entrypoint: model_def:DigitsTrial``, or a script with `Trainer`.
    """

    trial_context_class = PyTorchTrialContext

    @abstractmethod
    def __init__(self, context: PyTorchTrialContext, *args: Any, **kwargs: Any) -> None:
        """Build and wrap models, optimizers and learning rate schedulers."""

    @abstractmethod
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        """Train on a batch, and return a loss or metrics by name."""

    @abstractmethod
    def build_training_data_loader(self) -> Any:
        """Return the data loader for the training."""

    @abstractmethod
    def build_validation_data_loader(self) -> Any:
        """Return the data loader for validations."""

    def build_callbacks(self) -> dict[str, PyTorchCallback]:
        """Return callbacks by name."""
        return {}

    @_default
    def evaluate_batch(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Return the validation metrics of a batch by name; `evaluation_reducer` says how they are combined."""
        raise NotImplementedError

    @_default
    def evaluate_full_dataset(self, data_loader: Any) -> dict[str, Any]:
        """Return the metrics of a validation by name, instead of `evaluate_batch`.  Only rank 0 calls it."""
        raise NotImplementedError

    def evaluation_reducer(self) -> Reducer | dict[str, Reducer]:
        """Return how the metrics of batches are combined: one way for all metrics, or one for each."""
        return Reducer.AVG

    def get_batch_length(self, batch: Any) -> int:
        """Return the number of records in a batch."""
        return _data.data_length(batch)

    @classmethod
    def __ashwood_command__(cls, target: str) -> str | None:
        """Return the command that trains the class with a process for each slot, or None if the trial has one slot."""
        return class_command(target) if slots_of_trial() > 1 else None

    @classmethod
    def __ashwood_train__(cls, trial: Trial) -> None:
        """Train the class in a trial of an experiment whose entrypoint it is."""
        current_trial()  # It says in the log that determined is not installed.
        start_logging()
        with joined(trial) as processes, invalid_hparams_end(trial):
            seed_all(trial.seed)
            saved = _state.read_saved(trial)
            context = cls.trial_context_class(trial, processes, managed=True)
            context._initial_batch = saved.batches
            config = context.get_experiment_config()
            TrainingLoop(cls(context), context, trial, periods_of(trial, config), saved).run()


@contextmanager
def invalid_hparams_end(trial: Trial) -> Iterator[None]:
    """Declare the hyperparameters invalid if training code raises `InvalidHP`."""
    try:
        yield
    except InvalidHP as error:
        trial.invalid_hparams(str(error))
