"""What any store of event logs must do.

An outside author subclasses in a few lines::

    class TestMyStore(StoreContract):
        @contextmanager
        def open_store(self, place):
            with closing(MyStore(place / "my.db")) as store:
                yield store
"""

from __future__ import annotations

import math
from abc import abstractmethod
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path

import pytest

from ashwood.errors import NotFound
from ashwood.eventlog.port import Entry, Store
from ashwood.experiment.decisions import CloseTrial, CreateTrial, EndExperiment, GaveUp, PauseTrial, TrainTrial
from ashwood.experiment.events import (
    AttemptFailed,
    CheckpointSaved,
    DriverStarted,
    DriverStopped,
    PauseRequested,
    ValidationReported,
)
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, Length, Unit
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Categorical, Const, Double, Int, Log, Space
from ashwood.search.vocabulary import Created, Promoted, Waits


def full_spec() -> ExperimentSpec:
    """A spec that uses every field and every kind of hyperparameter."""
    space = Space(
        {
            "lr": Log(-4, -1, base=10.0, count=3),
            "layers": Int(1, 5),
            "optimizer": {"momentum": Double(0.0, 0.9), "int": {"const": Const([1, {"a": None}])}},
            "activation": Categorical(("relu", "tanh", None, 1.5, [1, 2])),
        }
    )
    return ExperimentSpec(
        name="déjà vu ✓",
        description="two\nlines",
        labels=("a", "b"),
        space=space,
        search=SearchSettings(
            method=Method.ADAPTIVE_ASHA,
            max_length=81,
            max_trials=100,
            divisor=Fraction("2.7"),
            bracket_rungs=(3, 2),
            stop_once=True,
        ),
        metric="loss",
        smaller_is_better=False,
        unit=Unit.EPOCHS,
        entrypoint=Entrypoint(EntrypointKind.FUNCTION, "model:train"),
        workdir="/somewhere",
        seed=7,
        data={"path": "x", "nested": {"n": [1, 2]}},
        records_per_epoch=50_000,
        min_validation_period=Length(2, Unit.EPOCHS),
        min_checkpoint_period=Length(500, Unit.BATCHES),
        max_restarts=1,
        checkpoint_storage="/elsewhere",
        source_checkpoint="/elsewhere/trial-1/length-3-attempt-1",
        slots_per_trial=2,
        environment={"A": "b"},
        config_text="name: x\n",
    )


def telling_entries() -> list[Entry]:
    """Entries with everything that is easily lost: NaN, infinities, the last bit of a float, odd text, reasons."""
    hparams = {"lr": 0.1 + 0.2, "optimizer": {"is": "CreateTrial", "momentum": 5e-324}, "name": "☃\n\"'"}
    return [
        Entry(1e9 + 1e-6, DriverStarted(4), (CreateTrial(0, 1, 2, hparams, 2**31 - 1, 4, Created(1, 2)),)),
        Entry(1.5, ValidationReported(0, 1, 4, {"loss": math.nan, "a": math.inf, "b": -math.inf, "c": 0.1}), ()),
        Entry(2.0, CheckpointSaved(0, 1, 4, "/a/b c"), (PauseTrial(0, 1, Waits(0, 7, 12, 3)),)),
        Entry(2.0, AttemptFailed(0, 1, "boom\nTraceback"), (TrainTrial(0, 2, 16, Promoted(0, 1, 9, 2)),)),
        Entry(3.0, AttemptFailed(0, 6, "boom"), (CloseTrial(0, TrialState.ERRORED, GaveUp(6)),)),
        Entry(4.0, DriverStopped(), (EndExperiment(ExperimentState.ERRORED, "every trial failed"),)),
    ]


class StoreContract:
    """Tests that every store of event logs passes."""

    @abstractmethod
    def open_store(self, place: Path) -> AbstractContextManager[Store]:
        """Open the store at a place; the same place opened again holds what was written."""

    durable = True
    """Whether a store that is closed and opened again holds what it held."""

    def test_what_is_appended_is_read_back(self, tmp_path: Path) -> None:
        """To the last bit, in order, numbered without gaps."""
        with self.open_store(tmp_path) as store:
            log = store.log(store.create(full_spec(), at=1.0))
            entries = telling_entries()
            assert log.append(entries[:2]) == 2
            assert log.append(entries[2:]) == len(entries)
            read = list(log.read())
        assert [seq for seq, _ in read] == list(range(1, len(entries) + 1))
        # repr, because NaN is not equal to itself.
        assert [repr(entry) for _, entry in read] == [repr(entry) for entry in entries]

    def test_reading_from_the_middle(self, tmp_path: Path) -> None:
        """``after`` leaves out what is known."""
        with self.open_store(tmp_path) as store:
            log = store.log(store.create(full_spec(), at=1.0))
            log.append(telling_entries())
            assert [seq for seq, _ in log.read(after=4)] == [5, 6]
            assert list(log.read(after=6)) == []

    def test_logs_are_apart(self, tmp_path: Path) -> None:
        """Entries of one experiment are no other's."""
        with self.open_store(tmp_path) as store:
            first, second = (store.log(store.create(full_spec(), at=1.0)) for _ in range(2))
            first.append(telling_entries())
            assert list(second.read()) == []
            assert second.append(telling_entries()[:1]) == 1

    def test_a_spec_comes_back_whole(self, tmp_path: Path) -> None:
        """Every field, and the order of the hyperparameters."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            spec = store.spec(experiment)
        assert spec == full_spec()
        assert [path for path, _ in spec.space.leaves()] == [path for path, _ in full_spec().space.leaves()]

    def test_the_list_follows_the_log(self, tmp_path: Path) -> None:
        """State and summary without reading logs."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=12.5)
            log = store.log(experiment)
            assert store.record(experiment).state is ExperimentState.CREATED
            log.append([Entry(1.0, DriverStarted(1), ())], summary={"best": 0.5})
            assert store.record(experiment).state is ExperimentState.RUNNING
            log.append([Entry(2.0, PauseRequested(), ())])
            assert store.record(experiment).state is ExperimentState.PAUSING
            log.append(telling_entries()[-1:])
            [record] = store.experiments()
        assert record == (experiment, 12.5, full_spec().name, ExperimentState.ERRORED, {"best": 0.5})

    def test_no_such_experiment(self, tmp_path: Path) -> None:
        """Is said, not answered with nothing."""
        with self.open_store(tmp_path) as store:
            for ask in (store.spec, store.log, store.record):
                with pytest.raises(NotFound, match="no experiment 3"):
                    ask(3)

    def test_closing_loses_nothing(self, tmp_path: Path) -> None:
        """A store opened again is the same store."""
        if not self.durable:
            pytest.skip("lives as long as its process")
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            store.log(experiment).append(telling_entries())
        with self.open_store(tmp_path) as store:
            log = store.log(experiment)
            assert len(list(log.read())) == len(telling_entries())
            assert log.append(telling_entries()) == 2 * len(telling_entries())
            assert store.create(full_spec(), at=2.0) != experiment
