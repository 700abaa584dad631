"""What trial classes of all frameworks know about their trial."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ashwood.errors import TrainingCodeError, did_you_mean
from ashwood.integrations.determined import LOG_FORMAT
from ashwood.integrations.determined.core import DummyDistributedContext
from ashwood.integrations.determined.info import configuration, plain
from ashwood.trial import Trial

logger = logging.getLogger("determined")


def start_logging() -> None:
    """Write log messages of training code from level INFO on into the trial's log, unless it configures logging."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)


def batch_sizes(hparams: Mapping[str, Any], processes: int) -> tuple[int, int] | None:
    """Return the batch size of each process and of all, or None if there is no hyperparameter global_batch_size.

    Raises:
        TrainingCodeError: the batch size is not a positive number, or less than the number of processes.
    """
    size = hparams.get("global_batch_size")
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int | float) or size != int(size) or size < 1:
        raise TrainingCodeError(f"the hyperparameter global_batch_size must be an integer of at least 1, not {size!r}")
    share, rest = divmod(int(size), processes)
    if not share:
        raise TrainingCodeError(
            f"the hyperparameter global_batch_size is {int(size)}, which is less than the {processes} processes of the "
            "trial: use a larger batch or fewer slots"
        )
    if rest:
        logger.warning("global_batch_size %d is reduced to %d, for %d processes", size, share * processes, processes)
    return share, share * processes


class TrialContext:
    """What a trial knows about itself: hyperparameters, settings and processes.

    Attributes:
        distributed: the processes that train the trial.
    """

    def __init__(
        self,
        trial: Trial | None,
        distributed: Any,
        *,
        hparams: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Create a context.

        Args:
            trial: the trial, or None if there is none yet.
            distributed: the processes that train it.
            hparams: the hyperparameters, by default those of the trial.
            config: the experiment's settings, by default those of the trial.
        """
        self._trial = trial
        self.distributed = distributed
        of_trial = {} if trial is None else plain(trial.hparams)
        self._hparams = of_trial if hparams is None else plain(hparams)
        if config is None and trial is not None:
            config = configuration(trial._attempt.job)
        self._config = None if config is None else plain(config)
        self._sizes = batch_sizes(self._hparams, distributed.get_size())
        self._stop_requested = False
        self._initial_batch = 0
        self._asked_initial_batch = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Return a context outside of any search, to debug a trial class.

        Args:
            config: an experiment file as a dictionary; its ``hyperparameters`` must be constants.
        """
        hparams = {name: _constant(name, value) for name, value in config.get("hyperparameters", {}).items()}
        return cls(None, DummyDistributedContext(), hparams=hparams, config=config)

    def get_experiment_config(self) -> dict[str, Any]:
        """Return the settings of the experiment, under the names of an experiment file.

        Raises:
            TrainingCodeError: there is no experiment.
        """
        if self._config is None:
            raise TrainingCodeError("there is no experiment: pass exp_conf= to det.pytorch.init() for its settings")
        return self._config

    def get_data_config(self) -> dict[str, Any]:
        """Return the ``data`` settings of the experiment."""
        return self.get_experiment_config().get("data") or {}

    def get_experiment_id(self) -> int:
        """Return the number of the experiment, or 0 if there is none."""
        return self._trial.experiment.id if self._trial is not None and self._trial.experiment else 0

    def get_trial_id(self) -> int:
        """Return the number of the trial."""
        return 0 if self._trial is None else self._trial.id

    def get_trial_seed(self) -> int:
        """Return the seed of the trial."""
        return 0 if self._trial is None else self._trial.seed

    def get_hparams(self) -> dict[str, Any]:
        """Return the hyperparameters by name."""
        return self._hparams

    def get_hparam(self, name: str) -> Any:
        """Return a hyperparameter.

        Raises:
            ValueError: there is no such hyperparameter.
        """
        if name not in self._hparams:
            raise ValueError(
                f"there is no hyperparameter {name!r}{did_you_mean(name, self._hparams)}: add it to the "
                "hyperparameters of the experiment"
            )
        return self._hparams[name]

    def get_global_batch_size(self) -> int:
        """Return the number of records in a batch of all processes: the hyperparameter ``global_batch_size``."""
        return self._known_sizes()[1]

    def get_per_slot_batch_size(self) -> int:
        """Return the number of records in a batch of each process."""
        return self._known_sizes()[0]

    def _known_sizes(self) -> tuple[int, int]:
        if self._sizes is None:
            raise TrainingCodeError(
                "the batch size is unknown: add an integer global_batch_size to the hyperparameters"
            )
        return self._sizes

    def get_stop_requested(self) -> bool:
        """Return whether the training code has requested to stop the trial."""
        return self._stop_requested

    def set_stop_requested(self, stop_requested: bool) -> None:
        """Request to stop the trial early, after the present part of the training is reported and saved."""
        if not isinstance(stop_requested, bool):
            raise TypeError(f"stop_requested must be True or False, not {stop_requested!r}")
        self._stop_requested = stop_requested

    def get_initial_batch(self) -> int:
        """Return the number of batches that were trained before this process started."""
        self._asked_initial_batch = True
        return self._initial_batch

    def get_enable_tensorboard_logging(self) -> bool:
        """Return False: Ashwood stores no TensorBoard files."""
        return False

    def set_enable_tensorboard_logging(self, enable_tensorboard_logging: bool) -> None:
        """Check the argument; it has no effect, because Ashwood stores no TensorBoard files."""
        if not isinstance(enable_tensorboard_logging, bool):
            raise TypeError(f"enable_tensorboard_logging must be True or False, not {enable_tensorboard_logging!r}")


def _constant(name: str, value: Any) -> Any:
    if not isinstance(value, Mapping) or "type" not in value:
        return plain(value)
    if value["type"] == "const":
        return value["val"]
    raise TrainingCodeError(f"hyperparameter {name!r} has a range: outside a search, give it one value")
