"""Trials and reports of an experiment as flat records, and data frames of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ashwood.errors import AshwoodError
from ashwood.eventlog.fold_cache import read_progress
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import ValidationReported
from ashwood.experiment.spec import ExperimentSpec
from ashwood.terminal.messages import warn_of_damage
from ashwood.views.progress import Progress
from ashwood.views.table import Record
from ashwood.views.trials import TrialTable

if TYPE_CHECKING:
    import pandas as pd

_REPORT_COLUMNS = frozenset(("trial", "length", "attempt", "at"))


def read_fold(home: Home, experiment: ExperimentId) -> Progress:
    """Return the progress of an experiment."""
    warn_of_damage(home, experiment)
    return read_progress(home, experiment)


def read_trials(home: Home, experiment: ExperimentId) -> tuple[ExperimentSpec, TrialTable]:
    """Return the spec and the trials of an experiment."""
    progress = read_fold(home, experiment)
    return progress.spec, progress.trials


def report_records(entries: Iterable[Entry]) -> Iterator[Record]:
    """Yield one flat record per report, in order of arrival.

    A metric with the name of another column gets the column ``metrics.NAME``.
    """
    for at, event, _ in entries:
        if isinstance(event, ValidationReported):
            yield {
                "trial": event.trial,
                "length": event.length,
                "attempt": event.attempt,
                "at": at,
                **{_report_column(name): value for name, value in event.metrics.items()},
            }


def _report_column(metric: str) -> str:
    is_taken = metric in _REPORT_COLUMNS or metric.startswith("metrics.")
    return f"metrics.{metric}" if is_taken else metric


def make_frame(records: Iterable[Record], columns: list[str] | None = None) -> pd.DataFrame:
    """Return a data frame with one row per record, and the given columns or those of the records.

    Raises:
        AshwoodError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise AshwoodError("pandas is not installed: pip install 'ashwood[pandas]'") from error
    return pd.DataFrame(list(records), columns=columns)
