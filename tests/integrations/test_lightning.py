"""Lightning: interrupted searches by epochs and inside epochs, what is refused, early stopping, and two processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ashwood
from ashwood.errors import TrainingCodeError
from ashwood.experiment.events import CheckpointSaved, ValidationReported
from ashwood.experiment.spec import EntrypointKind, Unit
from ashwood.search.settings import Method, SearchSettings
from ashwood.testing.backend import drive, job
from ashwood.trial import Trial
from ashwood.trial.channel import ReportAnswer
from ashwood.trial.job import WorkerJob
from ashwood.trial.standalone import PrintingLink
from tests.backends.conftest import make
from tests.backends.helpers import Make, losses
from tests.integrations import kit

L = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")
import torch  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

__all__ = ["make"]

# Lightning warns of settings that are right in tests, such as few batches and data loaders without workers.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
HPARAMS = {"hidden": 8, "dropout": 0.3, "learning_rate": ashwood.Log(-3, -1)}


class Link(PrintingLink):
    """Keeps reports and checkpoints, and pauses the trial at its target."""

    def __init__(self) -> None:
        super().__init__("steps", None)
        self.reports: list[tuple[int, dict[str, float]]] = []
        self.checkpoints: list[str] = []

    def reported(self, length: int, metrics: dict[str, float]) -> None:
        self.reports.append((length, metrics))

    def saved(self, length: int, name: str, metrics: Any, size: int) -> None:
        self.checkpoints.append(name)

    def answer(self) -> ReportAnswer | None:
        return ReportAnswer(None, save=True)


def attempts(directory: Path, train: Callable[[Trial], Any], unit: str, *targets: int) -> tuple[Link, Trial]:
    """Train a trial to the last target, with a pause at each of the others."""
    link = Link()
    first = WorkerJob(
        trial=0, attempt=0, target=0, hparams={}, seed=5, checkpoints=str(directory), data={}, unit=unit,
        max_length=targets[-1], trial_directory=str(directory / "directory"),
    )  # fmt: skip
    length = 0
    checkpoint: str | None = None
    for number, target in enumerate(targets, 1):
        path = None if checkpoint is None else str(directory / checkpoint)
        again: dict[str, Any] = {
            "attempt": number,
            "target": target,
            "length": length,
            "checkpoint": checkpoint,
            "directory": path,
        }
        trial = Trial(first._replace(**again), link)
        train(trial)
        length, checkpoint = link.reports[-1][0], link.checkpoints[-1]
    return link, trial


class Model(L.LightningModule):  # type: ignore[misc, name-defined]
    """A linear model with dropout, and a schedule on a plateau, which Lightning steps after the checkpoint."""

    def __init__(self, interval: str = "epoch", frequency: int = 1, *, manual: bool = False) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
        self.interval, self.frequency = interval, frequency
        self.automatic_optimization = not manual

    def training_step(self, batch: Any, index: int) -> Any:
        loss = torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1])
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("loss", torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1]))
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log("steps", float(self.trainer.global_step))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=0.2)
        scheduler = {"scheduler": plateau, "monitor": "loss", "interval": self.interval, "frequency": self.frequency}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def loaders(workers: int = 0) -> tuple[Any, Any]:
    """Return loaders of 7 batches for training, shuffled, and of 2 for validation."""
    x = torch.randn(28, 4, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, x.sum(1, keepdim=True))
    return DataLoader(data, batch_size=4, shuffle=True, num_workers=workers), DataLoader(data, batch_size=14)


def trainer_of(trial: Trial, **settings: Any) -> Any:
    return L.Trainer(accelerator="cpu", default_root_dir=trial.directory, **{**QUIET, **settings})


def train_with(model: Callable[[], Any], workers: int = 0, **settings: Any) -> Callable[[Trial], None]:
    def train(trial: Trial) -> None:
        L.seed_everything(trial.seed, verbose=False)
        ashwood.lightning.fit(trial, trainer_of(trial, **settings), model(), *loaders(workers))

    return train


def trial_of(tmp_path: Path, unit: str, length: int) -> Trial:
    lengths: dict[str, Any] = {unit: length}
    return ashwood.get_trial(**lengths, checkpoint_dir=tmp_path)


def test_interrupted_search_reports_the_same_metrics_as_an_uninterrupted_one(tmp_path: Path) -> None:
    train = kit.load_example("lightning").train
    data = {"batch_size": 256}
    # With this seed, the first trial is better than the second, so the search pauses and then promotes it.
    reports = kit.assert_resumes(
        train, tmp_path, hparams=HPARAMS, metric="val_loss", max_length={"epochs": 8}, data=data, seed=5
    )
    assert {"val_loss", "val_accuracy", "train_loss"} <= set(reports.columns)


def test_example_runs_as_its_users_run_it(tmp_path: Path) -> None:
    kit.run_example("lightning", tmp_path, "searcher.max_trials=3", "searcher.max_length.epochs=4")


@pytest.mark.parametrize(
    ("unit", "targets", "lengths", "train"),
    [
        pytest.param("epochs", (1, 3, 4), [1, 2, 3, 4], train_with(Model), id="epochs"),
        pytest.param("batches", (7, 14, 28), [7, 14, 21, 28], train_with(Model), id="batches-at-ends-of-epochs"),
        pytest.param(
            "batches",
            (4, 8, 16, 18),
            [4, 8, 12, 16, 18],
            train_with(lambda: Model("step", 4), val_check_interval=4, check_val_every_n_epoch=None),
            id="batches-inside-epochs",
        ),
        pytest.param(
            "steps",
            (2, 5, 10),
            [2, 6, 10],
            train_with(Model, accumulate_grad_batches=2, val_check_interval=4),
            id="optimizer-steps",
        ),
        pytest.param(
            "steps",
            (3, 10, 14),
            [3, 6, 10, 13, 14],
            train_with(lambda: Model(manual=True), val_check_interval=3),
            id="manual-optimization",
        ),
        pytest.param(
            "batches",
            (3, 9, 13),
            [3, 6, 10, 13],
            train_with(Model, 1, val_check_interval=3),
            id="loader-with-a-process",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "epochs", (2, 5), [2, 4, 5], train_with(lambda: Model("epoch", 2), check_val_every_n_epoch=2), id="rare"
        ),
        pytest.param("epochs", (1, 2), [1, 2], train_with(Model, val_check_interval=0.3), id="often"),
    ],
)
def test_paused_training_continues_exactly(
    tmp_path: Path, unit: str, targets: tuple[int, ...], lengths: list[int], train: Callable[[Trial], None]
) -> None:
    expected, _ = attempts(tmp_path / "whole", train, unit, targets[-1])
    found, _ = attempts(tmp_path / "parts", train, unit, *targets)
    assert found.reports == expected.reports
    assert [length for length, _ in found.reports] == lengths
    steps = [round(metrics["steps"]) for _, metrics in found.reports]
    assert steps[-1] == targets[-1] * (7 if unit == "epochs" else 1)


@pytest.mark.parametrize(
    ("unit", "model", "settings", "message"),
    [
        ("epochs", Model, {"limit_val_batches": 0}, "limit_val_batches > 0"),
        ("batches", Model, {"accumulate_grad_batches": 2}, "write max_length: 4, without a unit"),
        ("batches", lambda: Model(manual=True), {}, "manual optimization, Lightning counts optimizer steps"),
        ("records", Model, {}, r"cannot count records: write max_length: {epochs: N} or {batches: N} or N"),
        ("epochs", Model, {"devices": 2}, r"2 processes, but the trial 1: .*torchrun .*--nproc-per-node N train.py"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(
    tmp_path: Path, unit: str, model: Callable[[], Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingCodeError, match=message):
        train_with(model, **settings)(trial_of(tmp_path, unit, 4))


def test_training_without_validation_data_is_refused(tmp_path: Path) -> None:
    trial = trial_of(tmp_path, "epochs", 4)
    with pytest.raises(TrainingCodeError, match="it needs a validation_step, validation data"):
        ashwood.lightning.fit(trial, trainer_of(trial), Model(), loaders()[0])


def test_second_checkpoint_path_is_refused(tmp_path: Path) -> None:
    trial = trial_of(tmp_path, "epochs", 4)
    with pytest.raises(TypeError, match="multiple values for keyword argument 'ckpt_path'"):
        ashwood.lightning.fit(trial, trainer_of(trial), Model(), *loaders(), ckpt_path="other.ckpt")


def test_limits_of_the_trainer_are_those_of_the_search(tmp_path: Path) -> None:
    trial = trial_of(tmp_path, "epochs", 3)
    trainer = trainer_of(trial, max_epochs=1, min_epochs=9, max_steps=2, min_steps=99)
    ashwood.lightning.fit(trial, trainer, Model(), *loaders())
    assert (trial.length, trainer.current_epoch, trainer.global_step) == (3, 3, 21)


def test_early_stopping_saves_and_stops_the_trial(tmp_path: Path) -> None:
    trial = trial_of(tmp_path, "epochs", 8)
    stopping = L.callbacks.EarlyStopping("loss", patience=0, min_delta=1e9)
    with pytest.raises(SystemExit):
        ashwood.lightning.fit(trial, trainer_of(trial, callbacks=[stopping]), Model(), *loaders())
    assert trial.length == 2
    assert (tmp_path / "trial-0/length-2-attempt-1/lightning.ckpt").exists()


def test_early_stopping_inside_an_epoch_stops_the_trial(tmp_path: Path) -> None:
    trial = trial_of(tmp_path, "epochs", 8)
    stopping = L.callbacks.EarlyStopping("loss", patience=0, min_delta=1e9)
    trainer = trainer_of(trial, callbacks=[stopping], val_check_interval=5, check_val_every_n_epoch=None)
    with pytest.raises(SystemExit):
        ashwood.lightning.fit(trial, trainer, Model(), *loaders())
    assert trial.length == 1


def test_state_of_other_callbacks_continues(tmp_path: Path) -> None:
    counts: list[int] = []

    def train(trial: Trial) -> None:
        stopping = L.callbacks.EarlyStopping("loss", patience=99, min_delta=1e9)
        ashwood.lightning.fit(trial, trainer_of(trial, callbacks=[stopping]), Model(), *loaders())
        counts.append(stopping.wait_count)

    attempts(tmp_path, train, "epochs", 2, 3, 5)
    assert counts == [1, 2, 4]


def test_callback_alone_connects_a_trainer(tmp_path: Path) -> None:
    def train(trial: Trial) -> None:
        L.seed_everything(trial.seed, verbose=False)
        report = ashwood.lightning.ReportCallback(trial)
        settings = {"callbacks": [report], "enable_checkpointing": True}
        trainer = trainer_of(trial, **settings)
        trainer.fit(Model(), *loaders(), ckpt_path=report.ckpt_path)
        assert not report.ended_early
        assert trainer.checkpoint_callbacks == [report]

    expected, _ = attempts(tmp_path / "whole", train_with(Model), "epochs", 3)
    found, _ = attempts(tmp_path / "parts", train, "epochs", 1, 3)
    assert found.reports == expected.reports


class Settings:
    """A class that ``weights_only=True`` does not know."""


class ModelWithSettings(Model):
    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.save_hyperparameters()


def test_hyperparameters_of_the_model_can_be_of_any_class(tmp_path: Path) -> None:
    _, trial = attempts(tmp_path, train_with(lambda: ModelWithSettings(Settings())), "epochs", 1, 2)
    assert trial.length == 2


def test_model_of_a_checkpoint_loads_without_ashwood(tmp_path: Path) -> None:
    train_with(Model)(trial_of(tmp_path, "epochs", 2))
    model = Model.load_from_checkpoint(tmp_path / "trial-0/length-2-attempt-1/lightning.ckpt")
    assert isinstance(model, Model)


OLDER_PACKAGE = """
import ashwood, pytorch_lightning, sys, torch

class Model(pytorch_lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
    def training_step(self, batch):
        return self.layer(batch).square().mean()
    def validation_step(self, batch):
        self.log("loss", self.layer(batch).square().mean())
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

trial = ashwood.get_trial(epochs=2)
loader = torch.utils.data.DataLoader(torch.ones(4, 1))
trainer = pytorch_lightning.Trainer(accelerator="cpu", logger=False, default_root_dir=trial.directory)
ashwood.lightning.fit(trial, trainer, Model(), loader, loader)
assert isinstance(trainer.callbacks[-1], pytorch_lightning.callbacks.Checkpoint)
"""


@pytest.mark.slow
def test_trainer_of_the_package_pytorch_lightning_is_accepted() -> None:
    pytest.importorskip("pytorch_lightning")
    done = subprocess.run([sys.executable, "-c", OLDER_PACKAGE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 epochs: loss=" in done.stdout


DDP = """
import warnings
warnings.filterwarnings("ignore")
import ashwood, lightning, torch
from torch.utils.data import DataLoader, TensorDataset

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    def training_step(self, batch):
        torch.rand(1 + self.global_rank)  # so that the ranks have different random states
        return torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1])
    def validation_step(self, batch):
        self.log("loss", torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1]), sync_dist=True)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)

trial = ashwood.get_trial()
lightning.seed_everything(trial.seed)
x = torch.randn(56, 4, generator=torch.Generator().manual_seed(0))
data = TensorDataset(x, x.sum(1, keepdim=True))
trainer = lightning.Trainer(
    accelerator="cpu", devices=2, strategy="ddp", default_root_dir=trial.directory, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    val_check_interval=4, check_val_every_n_epoch=None,
)
loader = DataLoader(data, batch_size=4, shuffle=True)
ashwood.lightning.fit(trial, trainer, Model(), loader, DataLoader(data, batch_size=14))
print("left at", trial.length)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_continue_exactly_inside_an_epoch(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ashwood.testing.backend.PATIENCE", 300.0)  # Three processes import Lightning first.
    (tmp_path / "train.py").write_text(DDP)
    command = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2 train.py"
    search = SearchSettings(method=Method.RANDOM, max_length=16, max_trials=1)
    backend = make(command, EntrypointKind.COMMAND, slots_per_trial=2, unit=Unit.BATCHES, search=search)
    expected = drive(backend, [job(target=16)])
    first = drive(backend, [job(target=8)])
    [checkpoint] = [event.path for event in first if isinstance(event, CheckpointSaved)]
    second = drive(backend, [job(target=16, attempt=2, length=8, checkpoint=checkpoint)])
    events = [*first, *second]
    assert [event.length for event in events if isinstance(event, ValidationReported)] == [4, 8, 12, 16]
    assert losses(events) == losses(expected)
