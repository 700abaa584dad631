"""Entries, requests and specs for tests of stores, with values that are easily lost when they are stored."""

from __future__ import annotations

import math
from fractions import Fraction

from ashwood.eventlog.port import Driver
from ashwood.experiment import decisions as d
from ashwood.experiment import events as e
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import Request
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import (
    CheckpointPolicy,
    Demand,
    Entrypoint,
    EntrypointKind,
    ExperimentSpec,
    Length,
    RayCluster,
    Unit,
)
from ashwood.search.guides import PastTrials
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Categorical, Const, Double, Group, Int, Log, Space
from ashwood.search.vocabulary import Audited, Created, Extended, Promoted, Replicated, RetriedOnRequest, Waits


def full_spec() -> ExperimentSpec:
    """Return a spec that uses every field and every kind of hyperparameter."""
    space = Space(
        {
            "lr": Log(-4, -1, base=10.0, count=3),
            "layers": Int(1, 5),
            "width": Int(1, 4096, log=True),
            "batch": Int(8, 64, step=8),
            "dropout": Double(0.0, 0.5, count=2, step=0.1),
            "decay": Double(1e-6, 1e-2, log=True),
            "size": Categorical(("small", "large"), ordered=True),
            "optimizer": {"momentum": Double(0.0, 0.9), "int": {"const": Const([1, {"a": None}])}},
            "activation": Categorical(("relu", "tanh", None, 1.5, [1, 2])),
            "slope": Const(0.1, when={"activation": ["relu", None], "layers": ">= 2"}),
            "attention": Group({"heads": Int(1, 8), "inner": {"bias": Const(val=True)}}, {"size": "large"}),
        },
        ("layers * width <= 4096", "not (activation == 'tanh' and hparams['lr'] > 0.01)"),
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
            audit=Fraction("0.03"),
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
        max_trial_time=7200.5,
        max_invalid_trials=9,
        max_common_failures=3,
        metric_at=0.98,
        max_time=3600.5,
        checkpoint_storage="s3://elsewhere/x",
        checkpoint_policy=CheckpointPolicy(1, 2, 3),
        max_size=2**38,
        source_checkpoint="/elsewhere/trial-1/length-3-attempt-1",
        slots_per_trial=2,
        max_preemptions=9,
        demand=Demand(1.5, 0.25, 2**33, {"tpu": 1}),
        ray=RayCluster("10.0.0.1:6379", {"pip": ["torch"]}, ship_code=False, autoscales=True),
        environment={"A": "b"},
        config_text="name: x\n",
        provenance={
            "ashwood": "1",
            "packages": {"torch": "2"},
            "git": {"commit": "c0ffee", "dirty": True, "prefix": ""},
        },
        warm_start=(PastTrials("3", ({"lr": 0.1 + 0.2}, {}), ({"activation": [1, 2]},)),),
        start_with=({"lr": 0.1 + 0.2, "optimizer.momentum": 5e-324}, {"activation": [1, 2]}),
    )


def edge_case_entries() -> list[Entry]:
    """Return entries with values that are easily lost: NaN, infinities, the last bit of a float, unusual text."""
    hparams = {"lr": 0.1 + 0.2, "optimizer": {"is": "CreateTrial", "momentum": 5e-324}, "name": "☃\n\"'"}
    continues = (d.TrainTrial(0, 2, 16, Promoted(0, 1, 9, 2), 4), d.TrainTrial(0, 3, 16, Audited(0, 7, 9)))
    return [
        Entry(1e9 + 1e-6, e.DriverStarted(4), (d.CreateTrial(0, 1, 2, hparams, 2**31 - 1, 4, Created(1, 2)),)),
        Entry(1.5, e.ValidationReported(0, 1, 4, {"loss": math.nan, "a": math.inf, "b": -math.inf, "c": 0.1}), ()),
        Entry(2.0, e.CheckpointSaved(0, 1, 4, "/a/b c", None, 2**40), (d.PauseTrial(0, 1, Waits(0, 7, 12, 3)),)),
        Entry(2.0, e.AttemptFailed(0, 1, "boom\nTraceback"), continues),
        Entry(3.0, e.AttemptFailed(0, 6, "boom"), (d.CloseTrial(0, TrialState.ERRORED, d.GaveUp(6)),)),
        Entry(4.0, e.DriverStopped(), (d.EndExperiment(ExperimentState.ERRORED, "every trial failed"),)),
    ]


def sample_requests() -> list[Request]:
    """Return a request of each kind."""
    return [
        e.PauseRequested("dinner ☃", "SIGTERM"),
        e.CancelRequested(),
        e.KillRequested(),
        e.TrialKillRequested(3),
        e.TrialStopRequested(4),
        e.SettingsChanged({"max_trials": 7, "metric_at": math.inf, "max_time": None}),
        e.RetryFailedRequested(),
        e.AddTrialRequested({"lr": 0.1 + 0.2, "optimizer": {"momentum": 5e-324}, "activation": [1, 2]}, extra=True),
        e.ExtendRequested(800, 243, 3),
    ]


def control_entries() -> list[Entry]:
    """Return entries about requests, time limits, storage and workers, with every reason to leave an experiment."""
    paused, stopped, x = ExperimentState.PAUSED, ExperimentState.STOPPED, {"optimizer.momentum": 5e-324, "act": [1, 2]}
    return [
        *(Entry(1.0, request, ()) for request in sample_requests()),
        Entry(1.0, e.PauseRequested(), (d.LeaveExperiment(paused, d.Asked("pause", "☃")),)),
        Entry(1.0, e.HparamsInvalid(0, 1, "☃"), (d.LeaveExperiment(paused, d.TooManyInvalid(9, 9, "☃")),)),
        Entry(1.0, e.TimeRanOut(1e-9), (d.LeaveExperiment(stopped, d.TimeIsUp(1e-9, 0.0)),)),
        Entry(1.0, e.StorageFailed(0, 1, "full"), (d.LeaveExperiment(paused, d.NoSpace("full")),)),
        Entry(1.0, e.StorageFailed(0, 1, "silent", e.UNREACHABLE), (d.LeaveExperiment(paused, d.NoStorage("silent")),)),
        Entry(1.0, e.DriverStarted(1), (d.LeaveExperiment(stopped, d.GoalReached(0, math.nan, 0.5)),)),
        Entry(1.0, e.AttemptFailed(0, 1, "boom"), (d.LeaveExperiment(paused, d.CommonFailure(3, "boom")),)),
        Entry(
            1.0, e.AttemptPreempted(0, 1, "a spot instance"), (d.TrainTrial(0, 2, 4, d.Preempted("a spot instance")),)
        ),
        Entry(1.0, e.CapacityChanged(7, {"10.0.0.5/3fa9c1": 4, "here ☃": 3}, "node 10.0.0.5/3fa9c1 joined"), ()),
        Entry(1.0, e.AttemptStarted(0, 2, 6, 0, "here ☃"), ()),
        Entry(1.0, e.TrialWarned(0, 2, "it never reads ☃"), (d.Warn("trial 0: it never reads ☃"),)),
        Entry(1.0, e.TrialTrained(0, 2, 0.1), (d.CloseTrial(0, TrialState.STOPPED, d.TrialTimeIsUp(0.3, 0.3)),)),
        Entry(1.0, e.CheckpointDamaged(0, 1, "trial-0/length-1-attempt-1", "gone"), (d.DeleteCheckpoint(0, "x"),)),
        Entry(1.5, e.CheckpointSaved(0, 1, 1, "x"), (d.DeleteCheckpoint(0, "x", d.OverQuota(9, 8, 0, 7, 12, 3)),)),
        Entry(1.0, e.TrialKillRequested(0), (d.CloseTrial(0, TrialState.KILLED, d.KilledByUser()),)),
        Entry(1.0, e.RetryFailedRequested(), (d.ReopenTrial(0, TrialState.PAUSED, 1, 4, RetriedOnRequest(2)),)),
        Entry(1.0, e.RetryFailedRequested(), (d.ReopenTrial(1, TrialState.PAUSED, 1, 4, d.BracketReopened(1)),)),
        Entry(1.0, e.DriverStarted(1), (d.TrainTrial(0, 2, 4, RetriedOnRequest(2)),)),
        Entry(1.0, e.AddTrialRequested(x), (d.CreateTrial(1, 0, 2, x, 3, 4, Created(0, 2), given=x),)),
        Entry(1.0, e.DriverStarted(1), (d.CreateTrial(9, 0, 2, x, 5, 9, Replicated(1, 2)),)),
        Entry(1.0, e.SettingsChanged({}), (d.ChangeSettings(4, (1, 2), None, 0.1, 7, None, 3),)),
        Entry(1.0, e.ExtendRequested(3), (d.ExtendSearch(9, ((1, 3, 9), (3, 9)), (2, 1), 3),)),
        Entry(1.0, e.ExtendRequested(3), (d.ReopenTrial(0, TrialState.PAUSED, 1, 4, d.BracketReopened(1, True)),)),
        Entry(1.0, e.ExtendRequested(None, 9), (d.ReopenTrial(0, TrialState.PAUSED, 1, 4, Extended(4)),)),
    ]


def a_driver(process: int = 1, host: str = "here ☃") -> Driver:
    """Return a driver that does not exist."""
    return Driver(host, process, "machine", 2**40)
