"""Training code of Determined in experiments, with real processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ashwood
from tests.integrations.kit import EXAMPLES, assert_command_resumes

WALK = '''
import determined as det

class Walk:
    """A loss that depends on all steps so far, and so on the restored state."""

    def __init__(self, hparams):
        self.factor, self.x, self.done = hparams["factor"], 1.0, 0

    def step(self):
        self.x = (self.x * self.factor + 0.1) % 1.0
        self.done += 1

    def load(self, path):
        x, done = (path / "state").read_text().split(",")
        self.x, self.done = float(x), int(done)

    def save(self, core_context, steps):
        with core_context.checkpoint.store_path({"steps_completed": steps}) as (path, storage_id):
            (path / "state").write_text(f"{self.x!r},{self.done}")

def begin(core_context):
    info = det.get_cluster_info()
    walk = Walk(info.trial.hparams)
    if info.latest_checkpoint is not None:
        with core_context.checkpoint.restore_path(info.latest_checkpoint) as path:
            walk.load(path)
    return walk
'''

OPERATIONS = f"""
{WALK}
def main(core_context):
    walk = begin(core_context)
    for op in core_context.searcher.operations():
        while walk.done < op.length:
            for batch in range(10):
                walk.step() if batch == 9 else None
            core_context.train.report_validation_metrics(steps_completed=walk.done * 10, metrics={{"loss": walk.x}})
            op.report_progress(walk.done)
            walk.save(core_context, walk.done * 10)
            if core_context.preempt.should_preempt():
                return
        op.report_completed(walk.x)

def train(trial):
    with det.core.init() as core_context:
        main(core_context)

if __name__ == "__main__":
    train(None)
"""

LOOP = f"""
{WALK}
with det.core.init() as core_context:
    walk = begin(core_context)
    while walk.done < 8:
        walk.step()
        metrics = {{"loss": walk.x, "epochs": walk.done}}
        core_context.train.report_validation_metrics(steps_completed=walk.done * 10, metrics=metrics)
        walk.save(core_context, walk.done * 10)
        if core_context.preempt.should_preempt():
            break
"""

LAUNCHED = f"""
import subprocess, sys
{WALK}
def work(rank, size):
    distributed = det.core.DistributedContext(
        rank=rank, size=size, local_rank=rank, local_size=size, cross_rank=0, cross_size=1, chief_ip="127.0.0.1"
    )
    with det.core.init(distributed=distributed) as core_context:
        walk = begin(core_context)
        for op in core_context.searcher.operations():
            while walk.done < op.length:
                walk.factor = sum(distributed.allgather(walk.factor / size))
                walk.step()
                assert distributed.gather(rank) == (list(range(size)) if rank == 0 else None)
                if rank == 0:
                    core_context.train.report_validation_metrics(walk.done, {{"loss": walk.x}})
                    walk.save(core_context, walk.done)
                if core_context.preempt.should_preempt():
                    return
            if rank == 0:
                op.report_completed(walk.x)
        metadata = {{"steps_completed": walk.done, f"rank-{{rank}}": True}}
        with core_context.checkpoint.store_path(metadata, shard=True) as (path, storage_id):
            (path / ("state" if rank == 0 else f"rank-{{rank}}")).write_text(f"{{walk.x!r}},{{walk.done}}")
        print("rank", rank, core_context.checkpoint.get_metadata(storage_id))

if sys.argv[1] == "launch":
    info = det.get_cluster_info()
    size = len(info.slot_ids)
    command = [sys.executable, "-m", "determined.launch.wrap_rank"]
    children = [
        subprocess.Popen([*command, str(rank), "--", sys.executable, __file__, str(rank), str(size)])
        for rank in range(size)
    ]
    sys.exit(max(child.wait() for child in children))
work(int(sys.argv[1]), int(sys.argv[2]))
"""

HPARAMS = {"factor": {"type": "double", "minval": 1.5, "maxval": 3.5}}
HALVING = {"name": "async_halving", "max_length": {"epochs": 8}, "max_trials": 5, "divisor": 2, "num_rungs": 3}
RANDOM = {"name": "random", "max_length": {"epochs": 8}, "max_trials": 5}


def execute(tmp_path: Path, settings: dict[str, Any], *options: str) -> tuple[ashwood.Experiment, str]:
    """Run an experiment file in a directory, and return the experiment and the logs of its trials."""
    (tmp_path / "experiment.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "ashwood", "run", "experiment.json", "--home", "home", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    logs = "".join(log.read_text() for log in sorted(tmp_path.glob("home/experiments/1/logs/*.log")))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return ashwood.open_experiment(1, home=tmp_path / "home"), logs


@pytest.mark.parametrize("code", [OPERATIONS, LOOP], ids=["operations", "loop"])
def test_pauses_promotions_and_a_kill_change_nothing(tmp_path: Path, code: str) -> None:
    script = tmp_path / "train.py"
    script.write_text(code)
    reports = assert_command_resumes(
        script,
        "python3",
        tmp_path,
        metric="loss",
        hyperparameters=HPARAMS,
        searcher=RANDOM,
        interrupted_by=HALVING,
    )
    assert set(reports["length"]) == set(range(1, 9))


@pytest.mark.timeout(300)
def test_example_resumes(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    assert_command_resumes(
        EXAMPLES / "determined" / "train.py",
        "python3",
        tmp_path,
        metric="validation_error",
        hyperparameters={
            "learning_rate": {"type": "log", "minval": -2, "maxval": -1, "base": 10},
            "hidden_units": 8,
            "l2": 0.01,
            "global_batch_size": 16,
        },
        data={"test_fraction": 0.3},
        records_per_epoch=105,
        searcher={**RANDOM, "max_trials": 4},
        interrupted_by={**HALVING, "max_trials": 4},
    )


def test_function_and_shell_script_find_the_package(tmp_path: Path) -> None:
    for kind in ("function", "shell"):
        directory = tmp_path / kind
        directory.mkdir()
        (directory / "model_def.py").write_text(OPERATIONS)
        (directory / "train.sh").write_text("set -e\ncd /\nexec python3 $OLDPWD/model_def.py\n")
        entrypoint = "model_def:train" if kind == "function" else "sh train.sh"
        searcher = {"name": "random", "metric": "loss", "max_length": {"epochs": 2}, "max_trials": 2}
        settings = {"entrypoint": entrypoint, "hyperparameters": HPARAMS, "searcher": searcher}
        experiment, logs = execute(directory, settings, "--workers", "1")
        assert list(experiment.trials()["state"]) == ["completed"] * 2
        assert logs.count("The package determined is not installed") == 2


EXITS = f"""
import sys
{WALK}
with det.core.init() as core_context:
    walk = begin(core_context)
    while walk.done < 4:
        walk.step()
        core_context.train.report_validation_metrics(walk.done, {{"loss": walk.done / 8}})
        walk.save(core_context, walk.done)
sys.exit(1 if det.get_cluster_info().allocation_id.endswith(".1") else 0)
"""


@pytest.mark.parametrize("name", ["random", "async_halving"])
def test_exit_code_after_the_context_decides_whether_the_trial_has_failed(tmp_path: Path, name: str) -> None:
    (tmp_path / "train.py").write_text(EXITS)
    settings = {
        "entrypoint": "python3 train.py",
        "hyperparameters": HPARAMS,
        "searcher": {"name": name, "metric": "loss", "max_length": {"batches": 8}, "max_trials": 1},
        "max_restarts": 1,
    }
    experiment, _ = execute(tmp_path, settings, "--workers", "1")
    [trial] = experiment.trials().to_dict("records")
    # In the halving search, the code ends before max_length.
    expected = ("completed", 8) if name == "random" else ("stopped", 4)
    assert (trial["state"], trial["length"], trial["failures"]) == (*expected, 1)
    assert experiment.reports()["loss"].dropna().iloc[-1] == 0.5


def test_program_of_one_step_need_not_report(tmp_path: Path) -> None:
    settings = {
        "entrypoint": "echo done",
        "searcher": {"name": "single", "metric": "x", "max_length": 1},
        "max_restarts": 0,
    }
    experiment, _ = execute(tmp_path, settings, "--workers", "1")
    assert list(experiment.trials()["state"]) == ["completed"]
    described = subprocess.run(
        [sys.executable, "-m", "ashwood", "describe", "1", "--home", "home"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "without reporting 'x'; the trial is complete, without a result" in described.stdout


def test_package_that_the_user_puts_on_pythonpath_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "determined"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import ashwood\nget_trial = ashwood.get_trial\n")
    (tmp_path / "train.py").write_text(
        "import determined\nfor _ in determined.get_trial().steps(): determined.get_trial().report(loss=1)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(package.parent), os.environ.get("PYTHONPATH")))))
    searcher = {"name": "single", "metric": "loss", "max_length": 2}
    _, logs = execute(tmp_path, {"entrypoint": "python3 train.py", "searcher": searcher})
    assert "takes its place" not in logs


def test_processes_of_a_launcher_of_its_own_train_together(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(LAUNCHED)
    settings = {
        "entrypoint": "python3 train.py launch",
        "hyperparameters": HPARAMS,
        "searcher": {**HALVING, "metric": "loss", "max_length": {"batches": 4}, "num_rungs": 2},
        "resources": {"slots_per_trial": 2},
        "max_restarts": 0,
    }
    experiment, logs = execute(tmp_path, settings, "--workers", "1")
    assert set(experiment.trials()["state"]) == {"completed", "stopped"}
    assert "[rank=1] rank 1 {'steps_completed': 4, 'rank-0': True, 'rank-1': True}" in logs
    assert logs.count("The package determined is not installed") == logs.count(", attempt ")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_torch_distributed_starts_a_process_for_each_slot(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    script = LAUNCHED.partition('if sys.argv[1] == "launch"')[0] + (
        "import torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "assert dist.get_world_size() == 2\n"
        "with det.core.init(distributed=det.core.DistributedContext.from_torch_distributed()) as core_context:\n"
        "    walk = begin(core_context)\n"
        "    for op in core_context.searcher.operations():\n"
        "        while walk.done < op.length:\n"
        "            walk.step()\n"
        "            dist.barrier()\n"
        "            if core_context.distributed.rank == 0:\n"
        "                core_context.train.report_validation_metrics(walk.done, {'loss': walk.x})\n"
        "                walk.save(core_context, walk.done)\n"
        "            if core_context.preempt.should_preempt(): raise SystemExit\n"
        "        if core_context.distributed.rank == 0: op.report_completed(walk.x)\n"
        "    print('left', core_context.distributed.rank, sys.argv[1:])\n"
    )
    (tmp_path / "train.py").write_text(script)
    settings = {
        "entrypoint": "python3 -m determined.launch.torch_distributed -- python3 train.py --flag x",
        "hyperparameters": HPARAMS,
        "searcher": {**HALVING, "metric": "loss", "max_length": {"batches": 4}, "num_rungs": 2},
        "resources": {"slots_per_trial": 2},
        "max_restarts": 0,
    }
    experiment, logs = execute(tmp_path, settings, "--workers", "1")
    assert "completed" in set(experiment.trials()["state"])
    assert "left 1 ['--flag', 'x']" in logs
