"""Training on several processes with the real torchrun, which needs PyTorch: ``pip install torch``."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ashwood.backends.local.backend import LocalBackend
from ashwood.backends.local.logs import trial_log
from ashwood.backends.port import Abort, Command, ContinueAttempt, Suspend
from ashwood.experiment.events import (
    ABORTED,
    AttemptEnded,
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    ValidationReported,
)
from ashwood.experiment.spec import EntrypointKind
from ashwood.testing.backend import drive, finish, job
from ashwood.testing.process_backend import wait_for_end, wait_for_number
from tests.backends.helpers import Make, error, losses

pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TRAIN = """
import argparse, os
from pathlib import Path
import ashwood, torch
import torch.distributed as dist

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--fail-at", type=int)
arguments = parser.parse_args()
trial = ashwood.get_trial()
dist.init_process_group("gloo")
assert (trial.rank, trial.world_size) == (dist.get_rank(), dist.get_world_size()) == (int(os.environ["RANK"]), 2)
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=arguments.lr)
if trial.checkpoint:
    model.load_state_dict(torch.load(trial.checkpoint / "model.pt"))
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)

def save(directory):
    dist.barrier()  # hangs unless all ranks save
    if dist.get_rank() == 0:
        torch.save(model.state_dict(), directory / "model.pt")

Path(f"pid-{trial.rank}").write_text(str(os.getpid()))
for epoch in trial.epochs():
    if epoch == arguments.fail_at and trial.rank == 1:
        raise ValueError("no luck")
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    dist.all_reduce(loss.detach())
    trial.report(loss=loss.item(), checkpoint=save)
print("left at", trial.length)
dist.destroy_process_group()
"""


@pytest.fixture
def backend(tmp_path: Path, make: Make) -> LocalBackend:
    (tmp_path / "train.py").write_text(TRAIN)
    command = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2 train.py {{args}}"
    return make(command, EntrypointKind.COMMAND, slots_per_trial=2)


def on(length: int, command: Command) -> Callable[[ValidationReported], Command | None]:
    return lambda report: command if report.length == length else None


def test_two_ranks_train_pause_and_continue_from_their_checkpoint(tmp_path: Path, backend: LocalBackend) -> None:
    hparams = {"lr": 0.1, "fail-at": None}
    events = drive(
        backend,
        [job(target=2, hparams=hparams)],
        lambda report: ContinueAttempt(0, 1, 4) if report.length == 2 else finish(report),
    )
    assert [type(event) for event in events].count(AttemptStarted) == 1
    assert events[-1] == AttemptEnded(0, 1, 4)
    [checkpoint] = [event.path for event in events if isinstance(event, CheckpointSaved)]
    more = drive(backend, [job(target=6, hparams=hparams, attempt=2, length=4, checkpoint=checkpoint)])
    curve = losses([*events, *more])
    assert len(curve) == 6
    assert curve == sorted(curve, reverse=True)
    assert trial_log(tmp_path / "logs", 0).read_text().count("left at 4\n") == 2


def test_two_ranks_leave_at_the_same_step_when_suspended(tmp_path: Path, backend: LocalBackend) -> None:
    start = job(target=10**6, hparams={"lr": 0.1, "fail-at": None})
    events = drive(backend, [start], on_the_way=on(100, Suspend(0, 1)))
    assert isinstance(events[-1], AttemptEnded)
    [saved] = [event.length for event in events if isinstance(event, CheckpointSaved)]
    assert trial_log(tmp_path / "logs", 0).read_text().count(f"left at {saved}\n") == 2


def test_exception_of_rank_1_is_the_reason_of_the_failure(backend: LocalBackend) -> None:
    said = error(drive(backend, [job(target=4, hparams={"lr": 0.1, "fail-at": 1})]))
    assert said.startswith("the command ended with exit code 1: rank 1: ValueError: no luck\n")


def test_abort_ends_all_ranks(tmp_path: Path, backend: LocalBackend) -> None:
    start = job(target=10**6, hparams={"lr": 0.1, "fail-at": None})
    events = drive(backend, [start], on_the_way=on(3, Abort(0, 1)))
    assert events[-1] == AttemptFailed(0, 1, ABORTED)
    for rank in range(2):
        wait_for_end(wait_for_number(tmp_path / f"pid-{rank}"))
