"""What a `TFKerasTrial` knows about its trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ashwood.integrations.determined._context import TrialContext


class TFKerasExperimentalContext:
    """Less common settings: ``context.experimental``.  The data layer of Determined caches nothing here."""

    def cache_train_dataset(self, *_: Any, **__: Any) -> Callable[[Any], Any]:
        """Return a decorator that changes nothing."""
        return lambda function: function

    cache_validation_dataset = cache_train_dataset


class TFKerasTrialContext(TrialContext):
    """What a `TFKerasTrial` knows about its trial.  Models, optimizers and data sets need no wrapping.

    Attributes:
        model: the model, if it was wrapped.
        experimental: less common settings.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model: Any = None
        self.experimental = TFKerasExperimentalContext()
        self.fit_options: dict[str, Any] = {"shuffle": True, "class_weight": None, "validation_steps": None}

    def wrap_model(self, model: Any) -> Any:
        """Return the model; compile it and return it from ``build_model``."""
        self.model = model
        return model

    def wrap_optimizer(self, optimizer: Any) -> Any:
        """Return the optimizer."""
        return optimizer

    def wrap_dataset(self, dataset: Any, shard_dataset: bool = True) -> Any:
        """Return the data set."""
        return dataset

    def configure_fit(self, **options: Any) -> None:
        """Set ``shuffle``, ``class_weight`` or ``validation_steps`` of the training; other options have no effect."""
        self.fit_options |= {name: value for name, value in options.items() if name in self.fit_options}
