"""The runtime environment that a driver sends to the nodes, alone or as part of a Ray job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ashwood.backends.ray.cluster import _address, _environment, own_package, why_not
from ashwood.experiment.spec import RayCluster
from ashwood.testing.backend import toy_spec

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
WANTED = RayCluster(runtime_env={"pip": ["numpy"], "excludes": ["data"]})


def sent(directory: Path, wanted: RayCluster = WANTED) -> dict[str, Any]:
    return _environment(wanted, toy_spec(directory))


def in_a_job(monkeypatch: pytest.MonkeyPatch, **environment: Any) -> None:
    monkeypatch.setenv(JOB, json.dumps({"runtime_env": {"env_vars": {}, **environment}, "metadata": {}}))


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB, raising=False)


def test_driver_sends_code_and_ashwood(tmp_path: Path) -> None:
    environment = sent(tmp_path)
    assert environment["working_dir"] == toy_spec(tmp_path).workdir
    assert environment["py_modules"] == [own_package()]
    assert environment["pip"] == ["numpy"]
    assert {"data", ".git"} <= set(environment["excludes"])


def test_driver_without_ship_code_sends_no_code(tmp_path: Path) -> None:
    assert sent(tmp_path, RayCluster(runtime_env=WANTED.runtime_env, ship_code=False)) == {"pip": ["numpy"]}


def test_job_with_code_sends_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_job(monkeypatch, working_dir="gcs://a.zip", py_modules=["gcs://b.zip"])
    assert sent(tmp_path) == {"pip": ["numpy"]}


def test_job_with_ashwood_alone_sends_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_job(monkeypatch, py_modules=["gcs://b.zip"])
    environment = sent(tmp_path)
    assert environment["working_dir"] == toy_spec(tmp_path).workdir
    assert "data" in environment["excludes"]
    assert "py_modules" not in environment


def test_job_without_environment_sends_code_and_ashwood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = sent(tmp_path)
    monkeypatch.setenv(JOB, json.dumps({"metadata": {}}))
    assert sent(tmp_path) == outside


def test_job_uses_its_own_cluster_despite_address_in_file(monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_job(monkeypatch)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert _address(RayCluster("nowhere:1")) == "local"


@pytest.mark.parametrize(
    "refusal",
    [
        "Package size (614.40MiB) exceeds the maximum size of 512.00MiB.",
        "Request failed with status code 413: Maximum request body size 104857600 exceeded.",
    ],
)
def test_error_for_large_work_directory_says_what_to_do(refusal: str) -> None:
    message = why_not(RuntimeError(refusal), "head", "/work")
    assert message.startswith("the work directory /work is too large")
    assert ".gitignore" in message
