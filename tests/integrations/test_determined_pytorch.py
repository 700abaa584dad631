"""`determined.pytorch`: trial classes that are paused, promoted and killed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

import ashwood  # noqa: E402
from ashwood.backends.local.load import command_of  # noqa: E402
from ashwood.integrations.determined import pytorch  # noqa: E402
from tests.integrations import determined_trials as trials  # noqa: E402
from tests.integrations.attempts import Training  # noqa: E402
from tests.integrations.kit import assert_resumes  # noqa: E402

HPARAMS = {"hidden": 16, "lr": 0.05, "global_batch_size": 32}
ROOT = str(Path(__file__).parents[2])
BATCHES = 13  # in an epoch of DigitsTrial


def train(cls: Any, tmp_path: Path, name: str = "checkpoints", **options: Any) -> Training:
    options = {"targets": [3], "hparams": HPARAMS} | options
    return Training(cls.__ashwood_train__, tmp_path / name, **options)


def assert_same(cls: Any, tmp_path: Path, pauses: list[int], *, targets: tuple[int, ...] = (3,), **options: Any) -> Any:
    """Check that pauses and rungs change no metric, and return the training with pauses."""
    straight = train(cls, tmp_path, "straight", targets=[targets[-1]], **options)
    paused = train(cls, tmp_path, "paused", targets=list(targets), pauses=pauses, **options)
    assert str(straight.outcome).startswith("Ended"), straight.outcome
    assert paused.outcome == straight.outcome
    assert paused.attempts == len(pauses) + 1
    for length, metrics in straight.reports.items():
        assert paused.reports[length] == metrics, length
    return paused


def test_pauses_inside_epochs_and_rungs_change_no_metric(tmp_path: Path) -> None:
    paused = assert_same(trials.DigitsTrial, tmp_path, [4, BATCHES, 30], targets=(1, 2, 3))
    assert paused.saved[0].endswith("batches-5")
    assert paused.reports[3]["training.epoch"] == 1.0  # the mean over three epochs, since the window is 100 batches
    assert paused.reports[3]["accuracy"] > 0.5
    assert not paused.warnings


def test_two_optimizers_and_evaluation_of_the_full_dataset_resume(tmp_path: Path) -> None:
    paused = assert_same(
        trials.GanTrial, tmp_path, [2, 9], targets=(5, 11, 24), unit="batches", hparams={"latent": 4, "lr": 0.01},
        metric="loss", validation_period=(8, "batches"),
    )  # fmt: skip
    assert sorted(paused.reports) == [5, 8, 11, 16, 24]
    assert paused.reports[24].keys() == {"loss", "training.loss", "training.g_loss"}


def test_reducers_and_callbacks_resume(tmp_path: Path) -> None:
    trials.EVENTS.clear()
    paused = assert_same(
        trials.ReducersTrial, tmp_path, [5, 20], targets=(1, 3), validation_period=(2, "epochs"),
        checkpoint_period=(10, "batches"),
    )  # fmt: skip
    assert sorted(paused.reports) == [1, 2, 3]
    found = paused.reports[3]
    assert found["records"] == 360.0
    assert found["training.records"] == 8 * 32 + 16  # since batch 30, at which a checkpoint was due
    assert found["median_size"] == 32.0
    assert "on_trial_startup" in dict.fromkeys(event for event, *_ in trials.EVENTS)
    state = torch.load(paused.checkpoints / paused.saved[-1] / "state_dict.pth")  # with weights_only=True
    counts = state["callbacks"]["counter"]["counts"]
    assert counts["on_training_epoch_end"] == 3
    assert counts["on_validation_end"] == 3  # at the two rungs and the period
    assert counts["on_trial_startup"] == 1  # before the state is restored
    assert counts["on_checkpoint_save_start"] >= 1


@pytest.mark.parametrize("loader", ["torch", "torch-skip", "weighted", "generator", "plain", "workers"])
def test_data_continues_at_the_batch_at_which_the_trial_stopped(loader: str, tmp_path: Path) -> None:
    hparams = HPARAMS | {"loader": loader}
    assert_same(trials.LoadersTrial, tmp_path, [6, 20], targets=(30,), unit="batches", hparams=hparams)


def test_class_whose_methods_build_the_model_resumes(tmp_path: Path) -> None:
    paused = assert_same(trials.MethodsTrial, tmp_path, [4, 17])
    assert paused.reports[3]["validation_loss"] < 2.2
    loaded = pytorch.load_trial_from_checkpoint_path(str(paused.checkpoints / paused.saved[-1]))
    assert len(loaded.context.models) == 1


def test_stream_without_a_length_resumes_and_counts_epochs_by_the_file(tmp_path: Path) -> None:
    assert_same(trials.StreamTrial, tmp_path, [4, 9], targets=(20,), unit="batches")
    found = train(trials.StreamTrial, tmp_path, "unknown")
    assert "has no length, so epochs cannot be counted: add records_per_epoch" in str(found.outcome)
    found = train(trials.StreamTrial, tmp_path, "known", records_per_epoch=200)
    assert found.saved[-1].endswith("-batches-18")  # 3 epochs of 200 // 32 batches


@pytest.mark.parametrize(
    ("mode", "steps"),
    [
        ("STEP_EVERY_BATCH", lambda batch: batch // 3 * 3 // 2),
        ("STEP_EVERY_OPTIMIZER_STEP", lambda batch: batch // 6),
        ("STEP_EVERY_EPOCH", lambda batch: int(batch >= 24)),  # the last step of the optimizer before batch 26
        ("MANUAL_STEP", lambda batch: batch // 10),
    ],
)
def test_schedulers_step_as_often_as_with_determined(mode: str, steps: Any, tmp_path: Path) -> None:
    """Frequency 2, and gradients of 3 batches are aggregated."""
    trials.STEPS.clear()
    config = {"optimizations": {"aggregation_frequency": 3}}
    train(trials.ScheduledTrial, tmp_path, hparams=HPARAMS | {"mode": mode}, config=config, pauses=[4, 17])
    assert [(batch, steps(batch)) for batch in range(3 * BATCHES)] == trials.STEPS


@pytest.mark.filterwarnings("ignore:.*GradScaler is enabled, but CUDA is not available")
@pytest.mark.parametrize("scaler", ["use_amp", "cuda", "cpu"])
def test_mixed_precision_on_the_cpu_resumes(scaler: str, tmp_path: Path) -> None:
    paused = assert_same(trials.ScaledTrial, tmp_path, [4, 17], hparams=HPARAMS | {"scaler": scaler})
    state = torch.load(paused.checkpoints / paused.saved[-1] / "state_dict.pth")
    assert ("scale" in state["scaler_state_dict"]) == (scaler == "cpu")


def test_callbacks_are_called_in_the_order_of_determined(tmp_path: Path) -> None:
    class Called(trials.DigitsTrial):
        def build_callbacks(self) -> Any:
            return {"counter": trials.Counter()}

    trials.EVENTS.clear()
    config = {"perform_initial_validation": True, "scheduling_unit": 10}
    found = train(Called, tmp_path, targets=[1], config=config)
    assert found.reports.keys() == {0, 1}
    validation = ["validation_step_start", "validation_start", "validation_epoch_start"]
    validation += ["validation_epoch_end", "validation_step_end", "validation_end"]
    training = ["training_workload_end", "training_epoch_end", "training_workload_end"]
    saving = ["checkpoint_save_start", "checkpoint_end", "checkpoint_write_end", "checkpoint_upload_end"]
    begin, end = ["trial_startup", "training_start", *validation, "training_epoch_start"], ["trial_shutdown"]
    events = [event.removeprefix("on_") for event, *_ in trials.EVENTS if event != "on_before_optimizer_step"]
    assert events == [*begin, *training, *validation, *saving, *end]
    assert len(trials.EVENTS) - len(events) == BATCHES
    assert ("on_trial_startup", 0, None) in trials.EVENTS
    assert ("on_checkpoint_upload_end", found.saved[-1]) in trials.EVENTS


def test_invalid_hparams(tmp_path: Path) -> None:
    found = train(trials.InvalidTrial, tmp_path, hparams=HPARAMS | {"hidden": 2})
    assert str(found.outcome) == "Invalid(why='too small')"


def test_checkpoint_has_the_format_of_determined(tmp_path: Path) -> None:
    found = train(trials.DigitsTrial, tmp_path, targets=[1])
    directory = found.checkpoints / found.saved[-1]
    state = torch.load(directory / "state_dict.pth", weights_only=True)
    assert {"models_state_dict", "optimizers_state_dict", "lr_schedulers_state_dict", "callbacks", "rng_state"} < set(
        state
    )
    assert {"cpu_rng_state", "np_rng_state", "random_rng_state"} <= set(state["rng_state"])
    about = json.loads((directory / "load_data.json").read_text())
    assert about["trial_cls_spec"] == "tests.integrations.determined_trials:DigitsTrial"
    loaded = pytorch.load_trial_from_checkpoint_path(str(directory))
    assert isinstance(loaded, trials.DigitsTrial)
    first = next(iter(loaded.model.state_dict().values()))
    assert torch.equal(first, next(iter(state["models_state_dict"][0].values())))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_search_with_pauses_a_kill_and_promotions_reports_the_same_metrics(tmp_path: Path) -> None:
    assert_resumes(
        trials.DigitsTrial.__ashwood_train__,
        tmp_path,
        hparams=HPARAMS | {"lr": ashwood.Log(-2, -1)},
        metric="validation_loss",
        max_length={"epochs": 8},
        min_validation_period={"epochs": 1},
    )


@pytest.mark.parametrize(
    ("slots", "kind", "starts"), [("1", "function", False), ("2", "function", True), ("2", "pickle", False)]
)
def test_class_is_started_in_a_process_for_each_slot(
    slots: str, kind: str, starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASHWOOD_SLOTS_PER_TRIAL", slots)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    command = command_of(trials.DigitsTrial.__ashwood_train__, kind, "model_def:DigitsTrial")
    assert (command is not None) == starts
    assert command is None or command.endswith("launch.torch_distributed --trial model_def:DigitsTrial")


CLASS = """
import logging
import torch
from determined.pytorch import DataLoader, LRScheduler, PyTorchTrial, PyTorchTrialContext

class LineTrial(PyTorchTrial):
    def __init__(self, context: PyTorchTrialContext) -> None:
        super().__init__(context)
        self.context = context
        self.model = context.wrap_model(torch.nn.Linear(1, 1))
        self.optimizer = context.wrap_optimizer(torch.optim.SGD(self.model.parameters(), lr=context.get_hparam("lr")))
        scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)
        context.wrap_lr_scheduler(scheduler, step_mode=LRScheduler.StepMode.STEP_EVERY_EPOCH)
        x = torch.linspace(0, 1, context.get_data_config()["records"])[:, None]
        self.data = torch.utils.data.TensorDataset(x, 2 * x + 1)

    def build_training_data_loader(self) -> DataLoader:
        return DataLoader(self.data, batch_size=self.context.get_per_slot_batch_size(), shuffle=True)

    build_validation_data_loader = build_training_data_loader

    def train_batch(self, batch, epoch_idx: int, batch_idx: int):
        loss = self.evaluate_batch(batch)["loss"]
        self.context.backward(loss)
        self.context.step_optimizer(self.optimizer)
        logging.info("trained batch %d", batch_idx)
        return {"loss": loss}

    def evaluate_batch(self, batch):
        x, y = batch
        return {"loss": ((self.model(x) - y) ** 2).mean()}
"""


def test_class_is_the_entrypoint_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "model_def.py").write_text(CLASS)
    settings = {
        "entrypoint": "model_def:LineTrial",
        "data": {"records": 40},
        "hyperparameters": {"lr": 0.1, "global_batch_size": 8},
        "searcher": {"name": "single", "metric": "loss", "max_length": {"epochs": 3}},
        "min_validation_period": {"batches": 5},
        "reproducibility": {"experiment_seed": 3},
        "max_restarts": 0,
    }
    (tmp_path / "experiment.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "ashwood", "run", "experiment.json", "--home", "home", "--workers", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    log = next(tmp_path.glob("home/experiments/1/logs/*.log")).read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    reports = ashwood.open_experiment(1, home=tmp_path / "home").reports()
    assert reports["length"].tolist() == [1, 2, 3]
    assert reports["loss"].is_monotonic_decreasing
    assert re.search(r"INFO: \[\d+\] root: trained batch 14\n", log)


INTERRUPTED = """
import os, signal, subprocess, sys, time
from pathlib import Path
from tests.integrations.determined_trials import ReducersTrial

class InterruptedTrial(ReducersTrial):
    def train_batch(self, batch, epoch_idx, batch_idx):
        if self.context.distributed.get_rank() == 0 and self.context.get_data_config()["interrupted"]:
            if batch_idx == 9 and not Path("paused").exists():
                Path("paused").touch()
                subprocess.run([sys.executable, "-m", "ashwood", "pause", "1", "--home", "home"], check=True)
            if batch_idx == 21 and not Path("killed").exists():
                Path("killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().train_batch(batch, epoch_idx, batch_idx)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_class_in_two_processes_that_is_paused_and_killed_reports_the_same_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH")))))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "model_def.py").write_text(INTERRUPTED)
    found = []
    for number, interrupted in enumerate((True, False), 1):
        settings = {
            "entrypoint": "model_def:InterruptedTrial",
            "data": {"interrupted": interrupted},
            "hyperparameters": HPARAMS,
            "searcher": {"name": "single", "metric": "validation_loss", "max_length": {"epochs": 3}},
            "min_validation_period": {"epochs": 1},
            "min_checkpoint_period": {"batches": 5},
            "scheduling_unit": 4,
            "resources": {"slots_per_trial": 2},
            "reproducibility": {"experiment_seed": 3},
            "max_restarts": 1,
        }
        (tmp_path / "experiment.json").write_text(json.dumps(settings))
        for action in [("run", "experiment.json"), ("resume", "1")] if interrupted else [("run", "experiment.json")]:
            command = [sys.executable, "-m", "ashwood", *action, "--home", "home", "--workers", "1"]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        experiment = ashwood.open_experiment(number, home=tmp_path / "home")
        assert experiment.state == "completed", done.stdout + done.stderr
        found.append(experiment.reports().drop(columns=["attempt", "at"]))
    assert (tmp_path / "paused").exists()
    assert (tmp_path / "killed").exists()
    assert found[0].groupby("length").last().equals(found[1].groupby("length").last())


def fit(trial: ashwood.Trial, **options: Any) -> None:
    """Train as a script with the Trainer does."""
    with pytorch.init() as context:
        trainer = pytorch.Trainer(trials.DigitsTrial(context), context)
        trainer.fit(**options)


def test_trainer_uses_its_own_periods_and_resumes(tmp_path: Path) -> None:
    def code(trial: ashwood.Trial) -> None:
        fit(
            trial,
            validation_period=pytorch.Batch([3, 20]),
            checkpoint_period=pytorch.Batch(15),
            max_length=pytorch.Batch(4),
            reporting_period=pytorch.Batch(10),
            latest_checkpoint="uuid",
        )

    options: dict[str, Any] = {"hparams": HPARAMS, "unit": "batches", "validation_period": (1, "batches")}
    straight = Training(code, tmp_path / "straight", targets=[30], **options)
    paused = Training(code, tmp_path / "paused", targets=[12, 30], pauses=[7, 25], **options)
    assert str(straight.outcome) == "Ended(length=30)"
    assert sorted(straight.reports) == [3, 10, 15, 20, 30]
    assert sorted(paused.reports) == [3, 10, 12, 15, 20, 30]
    for length, metrics in straight.reports.items():
        assert paused.reports[length] == metrics, length
    assert straight.saved == ["trial-0/length-15-attempt-1", "trial-0/length-30-attempt-1"]


def test_trainer_in_a_search_without_a_length_uses_its_own_and_resumes(tmp_path: Path) -> None:
    def code(trial: ashwood.Trial) -> None:
        fit(
            trial,
            max_length=pytorch.Epoch(2),
            validation_period=pytorch.Epoch(1),
            reporting_period=pytorch.Batch(4),
            latest_checkpoint="uuid",
        )

    # The best validation is the first one, so the checkpoint at the end is not the best.
    options: dict[str, Any] = {"hparams": HPARAMS, "open_ended": True, "unit": "steps", "smaller_is_better": False}
    straight = Training(code, tmp_path / "straight", targets=[1 << 62], save_on="best", **options)
    paused = Training(code, tmp_path / "paused", targets=[1 << 62], pauses=[4, 16], save_on="best", **options)
    assert str(straight.outcome) == "Returned()", straight.outcome
    assert paused.outcome == straight.outcome
    assert paused.attempts == 3
    assert paused.reports == straight.reports
    assert sorted(straight.reports) == [4, 8, 12, 13, 16, 20, 24, 26]
    assert straight.saved == ["trial-0/length-13-attempt-1", "trial-0/length-26-attempt-1"]


def test_trainer_stops_when_the_trial_requests_it(tmp_path: Path) -> None:
    class Stopping(trials.DigitsTrial):
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            if batch_idx == 12:
                self.context.set_stop_requested(True)
            return super().train_batch(batch, epoch_idx, batch_idx)

    def code(trial: ashwood.Trial) -> None:
        with pytorch.init() as context:
            pytorch.Trainer(Stopping(context), context).fit(reporting_period=pytorch.Batch(10))

    found = Training(code, tmp_path, targets=[60], hparams=HPARAMS, unit="batches")
    assert str(found.outcome) == "Stopped()"
    assert found.saved == ["trial-0/length-20-attempt-1"]


def test_trainer_without_a_search_trains_to_its_length(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    with pytorch.init(hparams=HPARAMS, exp_conf={"data": {"url": "none"}}) as context:
        assert context.get_data_config() == {"url": "none"}
        trainer = pytorch.Trainer(trials.DigitsTrial(context), context)
        trainer.fit(max_length=pytorch.Epoch(2), validation_period=pytorch.Epoch(1), checkpoint_policy="none")
    printed = capsys.readouterr().out
    assert "1 epoch: validation_loss=" in printed
    assert "2 epochs: validation_loss=" in printed
    with pytorch.init(hparams=HPARAMS) as context:
        trial = trials.DigitsTrial(context)
        with pytest.raises(ashwood.AshwoodError, match="needs a length such as max_length"):
            pytorch.Trainer(trial, context).fit()
        pytorch.Trainer(trial, context).fit(max_length=pytorch.Epoch(9), test_mode=True)
    assert "validation_loss=" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c: c.configure_apex_amp(), "does not use NVIDIA's Apex"),
        (lambda c: c.get_hparam("hiden"), r"no hyperparameter 'hiden' \(did you mean 'hidden'\?\)"),
        (lambda c: c.wrap_model(3), "needs a torch.nn.Module"),
        (lambda c: c.wrap_reducer(3), "must be a function or a pytorch.MetricReducer"),
        (lambda c: c.current_train_batch(), "has not started"),
    ],
)
def test_wrong_use_of_the_context_says_what_to_do(make: Any, message: str) -> None:
    context = pytorch.PyTorchTrialContext.from_config({"hyperparameters": {"hidden": 3}})
    with pytest.raises(Exception, match=message):
        make(context)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluate_batch": pytorch.PyTorchTrial.evaluate_batch}, "either evaluate_batch"),
        ({"evaluate_batch": lambda self, batch: {"loss": 1.0}}, r"compares the metric 'validation_loss', but .* loss"),
        ({"evaluate_batch": lambda self, batch: 1.0}, "must return a dictionary of metrics"),
        ({"train_batch": lambda self, batch, epoch_idx, batch_idx: None}, "must return a dictionary of metrics"),
        ({"build_training_data_loader": lambda self: None}, "returned None"),
        ({"build_training_data_loader": lambda self: [1]}, "disable_dataset_reproducibility_checks"),
        ({"evaluation_reducer": lambda self: "mean"}, "must return a det.pytorch.Reducer"),
    ],
)
def test_wrong_trial_class_says_what_to_do(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    wrong = type("Wrong", (trials.DigitsTrial,), changes)
    found = train(wrong, tmp_path, targets=[1])
    assert type(found.outcome).__name__ == "Failed"
    assert re.search(message, str(found.outcome).replace("\\", "")), found.outcome


def test_gradients_of_several_batches_are_averaged(tmp_path: Path) -> None:
    config = {"optimizations": {"aggregation_frequency": 2}}
    paused = assert_same(trials.DigitsTrial, tmp_path, [4, 17], config=config)
    assert (
        paused.reports[3]["validation_loss"] != train(trials.DigitsTrial, tmp_path, "one").reports[3]["validation_loss"]
    )
