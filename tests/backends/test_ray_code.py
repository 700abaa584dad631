"""What a driver sends to the nodes, and what it leaves to the job that it is."""

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


def test_a_driver_sends_the_code_and_ashwood(tmp_path: Path) -> None:
    environment = sent(tmp_path)
    assert environment["working_dir"] == toy_spec(tmp_path).workdir
    assert environment["py_modules"] == [own_package()]
    assert environment["pip"] == ["numpy"]
    assert {"data", ".git"} <= set(environment["excludes"])


def test_code_that_is_on_all_nodes_is_not_sent(tmp_path: Path) -> None:
    assert sent(tmp_path, RayCluster(runtime_env=WANTED.runtime_env, ship_code=False)) == {"pip": ["numpy"]}


def test_a_job_that_brought_its_code_sends_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_job(monkeypatch, working_dir="gcs://a.zip", py_modules=["gcs://b.zip"])
    assert sent(tmp_path) == {"pip": ["numpy"]}


def test_a_job_that_brought_ashwood_alone_sends_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_job(monkeypatch, py_modules=["gcs://b.zip"])
    environment = sent(tmp_path)
    assert environment["working_dir"] == toy_spec(tmp_path).workdir
    assert "data" in environment["excludes"]
    assert "py_modules" not in environment


def test_a_job_without_an_environment_sends_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = sent(tmp_path)
    monkeypatch.setenv(JOB, json.dumps({"metadata": {}}))
    assert sent(tmp_path) == outside


def test_a_job_drives_on_its_own_cluster_whatever_the_file_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_too_much_to_send_is_told_with_what_to_do(refusal: str) -> None:
    said = why_not(RuntimeError(refusal), "head", "/work")
    assert said.startswith("the work directory /work is too large")
    assert ".gitignore" in said
