from pathlib import Path
from typing import Any

import pytest

from ashwood.backends.local.slots import Machine, _quotas, plan, survey
from ashwood.errors import BackendError
from ashwood.testing.backend import toy_spec

LAPTOP = Machine(cores=8)
SERVER = Machine(cores=64, gpus=("0", "1", "2", "3"))


def test_without_gpus_every_core_is_a_slot_with_one_thread() -> None:
    slots = plan(toy_spec(Path("/w")), LAPTOP, None, {})
    assert [slot.number for slot in slots] == list(range(8))
    assert {slot.environment["OMP_NUM_THREADS"] for slot in slots} == {"1"}
    assert not any(slot.gpus or "CUDA_VISIBLE_DEVICES" in slot.environment for slot in slots)


def test_gpus_are_assigned_by_slot_and_share_the_cores() -> None:
    slots = plan(toy_spec(Path("/w")), SERVER, None, {})
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "1", "2", "3"]
    assert slots[0].environment["OPENBLAS_NUM_THREADS"] == "16"
    assert [slot.gpus for slot in slots] == [("0",), ("1",), ("2",), ("3",)]


def test_listing_gpus_does_not_prevent_forks_by_default() -> None:
    name = "PYTORCH_NVML_BASED_CUDA_CHECK"
    assert [slot.environment[name] for slot in plan(toy_spec(Path("/w")), SERVER, 1, {})] == ["1"]
    assert [slot.environment[name] for slot in plan(toy_spec(Path("/w")), SERVER, 1, {name: "0"})] == ["0"]
    assert name not in plan(toy_spec(Path("/w")), LAPTOP, 1, {})[0].environment


@pytest.mark.parametrize(
    ("machine", "share", "workers", "devices"),
    [
        (SERVER, 2, None, ["0,1", "2,3"]),
        (SERVER, 3, None, ["0,1,2"]),
        (SERVER, 1, 2, ["0", "1"]),
        (SERVER, 2, 3, ["0,1", "2,3", "0,1"]),
        (LAPTOP, 4, None, [None, None]),
        (LAPTOP, 16, 1, [None]),
        (LAPTOP, 1, 20, [None] * 20),
    ],
)
def test_slots_are_grouped_and_workers_override(
    machine: Machine, share: int, workers: int | None, devices: list[str | None]
) -> None:
    slots = plan(toy_spec(Path("/w"), slots_per_trial=share), machine, workers, {})
    assert [slot.environment.get("CUDA_VISIBLE_DEVICES") for slot in slots] == devices


@pytest.mark.parametrize(
    ("machine", "share", "workers", "words"),
    [
        (SERVER, 5, None, "slots_per_trial is 5, but this machine has 4 GPUs"),
        (SERVER, 5, 1, "4 GPUs"),
        (Machine(1), 2, None, "has 1 CPU core: set it to at most 1"),
        (LAPTOP, 1, 0, "workers is 0"),
    ],
)
def test_trial_that_does_not_fit_is_error(machine: Machine, share: int, workers: int | None, words: str) -> None:
    with pytest.raises(BackendError, match=words):
        plan(toy_spec(Path("/w"), slots_per_trial=share), machine, workers, {})


def test_variables_of_user_take_precedence() -> None:
    spec = toy_spec(Path("/w"), environment={"MKL_NUM_THREADS": "9"})
    (slot, *_) = plan(spec, LAPTOP, None, {"OMP_NUM_THREADS": "3", "PYTHONPATH": "/mine"})
    assert slot.environment["OMP_NUM_THREADS"] == "3"
    assert slot.environment["MKL_NUM_THREADS"] == "9"
    assert slot.environment["PYTHONPATH"] == "/mine"


@pytest.mark.parametrize(
    ("environment", "gpus"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2,GPU-abc"}, ("2", "GPU-abc")),
        ({"CUDA_VISIBLE_DEVICES": ""}, ()),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, ("0",)),
        ({"CUDA_VISIBLE_DEVICES": "1,1,0"}, ("1", "0")),
        ({"PATH": ""}, ()),
    ],
)
def test_gpus_are_those_that_cuda_may_see(environment: dict[str, str], gpus: tuple[str, ...]) -> None:
    assert survey(environment).gpus == gpus


@pytest.mark.parametrize(
    ("listing", "gpus"),
    [("GPU 0: H200 (UUID: GPU-a)\\nGPU 1: H200 (UUID: GPU-b)\\n  MIG 1g: ...\\n", ("0", "1")), ("no devices\\n", ())],
)
def test_gpus_are_listed_by_the_driver_tool(tmp_path: Path, listing: str, gpus: tuple[str, ...]) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{listing}'\n")
    tool.chmod(0o755)
    assert survey({"PATH": str(tmp_path)}).gpus == gpus
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert survey({"PATH": str(tmp_path)}).gpus == ()


LISTING = """GPU 0: H200 (UUID: GPU-aa11)
GPU 1: H200 (UUID: GPU-bb22)
  MIG 3g.71gb     Device  0: (UUID: MIG-cc33)
  MIG 3g.71gb     Device  1: (UUID: MIG-dd44)
"""


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        (None, {"0": "GPU-aa11", "1": "MIG-cc33"}),
        ("1,0", {"1": "MIG-cc33", "0": "GPU-aa11"}),
        ("GPU-aa,MIG-dd44", {"GPU-aa": "GPU-aa11", "MIG-dd44": "MIG-dd44"}),
        ("0,GPU-aa11,GPU-bb22,MIG-cc33", {"0": "GPU-aa11", "GPU-bb22": "MIG-cc33"}),
        ("7", {"7": None}),
    ],
)
def test_gpus_have_uuids_however_they_are_named(
    tmp_path: Path, visible: str | None, uuids: dict[str, str | None]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{LISTING}'\n")
    tool.chmod(0o755)
    machine = survey({"PATH": str(tmp_path)} | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}))
    assert {gpu: machine.uuids.get(gpu) for gpu in machine.gpus} == uuids


@pytest.mark.parametrize(
    ("membership", "files", "quotas"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000", "cpu.max": "800000 100000"}, [2, 8]),
        ("0::/\n", {"cpu.max": "50000 100000"}, [1]),
        ("4:cpu,cpuacct:/x\n", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, [3]),
        ("4:cpu:/x\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, []),
        ("0::/gone\n", {}, []),
    ],
)
def test_cores_are_limited_by_control_groups(
    tmp_path: Path, membership: str, files: dict[str, Any], quotas: list[int]
) -> None:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "membership").write_text(membership)
    assert list(_quotas(tmp_path / "cgroup", tmp_path / "membership")) == quotas
