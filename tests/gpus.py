"""A machine with GPUs, as far as Ashwood can tell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Four GPUs that ``nvidia-smi`` lists; the UUIDs of them."""
    uuids = [f"GPU-{letter * 4}-1111" for letter in "abcd"]
    tool = tmp_path / "tools" / "nvidia-smi"
    tool.parent.mkdir()
    lines = "\n".join(f"GPU {number}: NVIDIA H200 (UUID: {uuid})" for number, uuid in enumerate(uuids))
    tool.write_text(f"#!/bin/sh\necho '{lines}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return uuids
