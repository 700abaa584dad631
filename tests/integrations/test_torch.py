"""PyTorch: its example in an interrupted search, what `ashwood.torch.state` refuses, and two processes."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest

import ashwood
from ashwood.errors import TrainingCodeError
from ashwood.experiment.events import CheckpointSaved
from ashwood.experiment.spec import EntrypointKind
from ashwood.testing.backend import drive, job
from tests.backends.conftest import make
from tests.backends.helpers import Make, losses
from tests.integrations import kit

__all__ = ["make"]

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
np = pytest.importorskip("numpy")

pytestmark = pytest.mark.timeout(600)  # Each worker imports PyTorch.

HPARAMS = {"channels": 4, "dropout": 0.3, "learning_rate": ashwood.Log(-2, 0), "momentum": 0.9, "global_batch_size": 8}


def trial_of(tmp_path: Path, length: int, checkpoint: Path | None = None, **hparams: Any) -> ashwood.Trial:
    return ashwood.get_trial(hparams=hparams, steps=length, checkpoint_dir=tmp_path, checkpoint=checkpoint)


def saved(tmp_path: Path, **objects: Any) -> Path:
    """Train objects for one step and return the directory of the checkpoint."""
    trial = trial_of(tmp_path, 1)
    with ashwood.torch.state(trial, **objects) as save:
        for _step in trial.steps():
            trial.report(loss=1.0, checkpoint=save)
    return tmp_path / "trial-0/length-1-attempt-1"


def draws() -> list[float]:
    """Return a number of each generator."""
    return [random.random(), np.random.rand(), np.random.randn(), float(torch.rand(()))]


def test_interrupted_search_reports_the_same_metrics_as_an_uninterrupted_one(tmp_path: Path) -> None:
    train = kit.load_example("torch").train
    period = {"batches": 1}  # so that both searches report at the same lengths
    length = {"batches": 8}
    kit.assert_resumes(
        train, tmp_path, hparams=HPARAMS, metric="validation_loss", max_length=length, min_validation_period=period
    )


def test_example_runs_as_its_users_run_it(tmp_path: Path) -> None:
    kit.run_example("torch", tmp_path, "searcher.max_trials=4", "searcher.max_length.batches=64")


def test_all_generators_continue_where_they_were(tmp_path: Path) -> None:
    generator = torch.Generator()
    trial = trial_of(tmp_path, 1)
    with ashwood.torch.state(trial, generator=generator) as save:
        for _step in trial.steps():
            np.random.randn()  # draws two numbers, and keeps one of them
            draws()
            torch.rand((), generator=generator)
            trial.report(loss=1.0, checkpoint=save)
    expected = [*draws(), float(torch.rand((), generator=generator))]
    draws()
    resumed = torch.Generator()
    with ashwood.torch.state(trial_of(tmp_path, 2, tmp_path / "trial-0/length-1-attempt-1"), generator=resumed):
        assert [*draws(), float(torch.rand((), generator=resumed))] == expected


def test_trial_without_checkpoint_is_seeded(tmp_path: Path) -> None:
    with ashwood.torch.state(trial_of(tmp_path, 1)):
        first = draws()
    with ashwood.torch.state(trial_of(tmp_path, 1)):
        assert draws() == first


def test_wrapped_model_is_saved_without_its_wrappers(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 1)
    checkpoint = saved(tmp_path, model=torch.compile(torch.nn.DataParallel(torch.compile(model))))
    plain = torch.nn.Linear(2, 1)
    plain.load_state_dict(torch.load(checkpoint / "state.pt", weights_only=True)["model"])
    assert torch.equal(plain.weight, model.weight)


@pytest.mark.parametrize("thing", [0.1, None, torch.nn.Linear, [torch.nn.Linear(1, 1)]], ids=str)
def test_object_without_state_is_refused(tmp_path: Path, thing: Any) -> None:
    message = r"got lr=.*needs objects with the methods state_dict and load_state_dict, or of torch.Generator"
    with pytest.raises(TypeError, match=message), ashwood.torch.state(trial_of(tmp_path, 1), lr=thing):
        pass


def test_checkpoint_of_other_objects_is_refused(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    checkpoint = saved(tmp_path, model=model, optimizer=optimizer)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    message = (
        r"length-1-attempt-1 has no state of 'scheduler': it contains model, optimizer, .* but .* got .*scheduler$"
    )
    trial = trial_of(tmp_path, 2, checkpoint)
    with (
        pytest.raises(TrainingCodeError, match=message),
        ashwood.torch.state(trial, model=model, optimizer=optimizer, scheduler=scheduler),
    ):
        pass
    with (
        pytest.raises(TrainingCodeError, match="has a state of 'optimizer'"),
        ashwood.torch.state(trial, model=model),
    ):
        pass


def test_state_of_another_shape_is_refused(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, model=torch.nn.Linear(2, 1))
    with (
        pytest.raises(TrainingCodeError, match=r"(?s)'model' does not fit its state in .*size mismatch for weight"),
        ashwood.torch.state(trial_of(tmp_path, 2, checkpoint), model=torch.nn.Linear(3, 1)),
    ):
        pass


class Average:
    """An object with a state that cannot be read with ``weights_only=True``."""

    def state_dict(self) -> dict[str, Any]:
        return {"path": Path("x")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


def test_state_that_could_not_be_read_is_an_error_when_saving(tmp_path: Path) -> None:
    with pytest.raises(TrainingCodeError, match="states may contain tensors, numbers, text, lists"):
        saved(tmp_path, average=Average())


def test_states_that_pytorch_itself_makes_can_be_read(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    schedulers = torch.optim.lr_scheduler
    first = schedulers.MultiStepLR(optimizer, [2, 4])
    sequence = schedulers.SequentialLR(optimizer, [first, schedulers.CosineAnnealingLR(optimizer, 5)], [3])
    plateau = schedulers.ReduceLROnPlateau(optimizer)
    cycle = schedulers.OneCycleLR(optimizer, 0.1, total_steps=9)
    scaler = torch.amp.GradScaler("cpu")
    average = torch.optim.swa_utils.AveragedModel(model)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    names = {"model": model, "optimizer": optimizer, "sequence": sequence, "plateau": plateau, "cycle": cycle}
    names |= {"scaler": scaler, "average": average}
    checkpoint = saved(tmp_path, **names)
    with ashwood.torch.state(trial_of(tmp_path, 2, checkpoint), **names):
        assert average.module.weight.equal(model.weight) or average.n_averaged == 0


DDP = """
import random
import ashwood, torch
import torch.distributed as dist

trial = ashwood.get_trial()
dist.init_process_group("gloo")
torch.manual_seed(trial.seed)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
generator = torch.Generator()
x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
y = x.sum(1, keepdim=True)
sampler = torch.utils.data.DistributedSampler(x, shuffle=True, seed=trial.seed)
with ashwood.torch.state(trial, model=model, optimizer=optimizer, generator=generator) as save:
    numbers = [random.random(), float(torch.rand(())), float(torch.rand((), generator=generator))]
    with open(f"rank-{trial.rank}-from-{trial.length}", "a") as file:
        print(*numbers, file=file)
    for epoch in trial.epochs():
        sampler.set_epoch(epoch)
        for chosen in torch.tensor(list(sampler)).split(4):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = torch.nn.functional.mse_loss(model.module(x), y)
        trial.report(loss=loss, checkpoint=save)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_continue_exactly_with_random_numbers_of_their_own(tmp_path: Path, make: Make) -> None:
    (tmp_path / "train.py").write_text(DDP)
    command = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2 train.py"
    backend = make(command, EntrypointKind.COMMAND, slots_per_trial=2)
    expected = drive(backend, [job(target=4)])
    first = drive(backend, [job(target=2)])
    [checkpoint] = [event.path for event in first if isinstance(event, CheckpointSaved)]
    second = drive(backend, [job(target=4, attempt=2, length=2, checkpoint=checkpoint)])
    assert losses([*first, *second]) == losses(expected)
    drawn = {file.name: file.read_text().splitlines() for file in tmp_path.glob("rank-*")}
    numbers = [drawn[f"rank-{rank}-from-{length}"] for rank in (0, 1) for length in (0, 2)]
    assert [len(set(lines)) for lines in numbers] == [1, 1, 1, 1], "two attempts at one length drew different numbers"
    # Only the user's own generator, which has its default seed, begins alike in both processes.
    assert len({number for lines in numbers for number in lines[0].split()}) == 11
