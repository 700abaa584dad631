"""Previews of experiment files run in processes with limits, and do not delay other requests."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from ashwood.dashboard import previewing
from ashwood.dashboard.routes import previews

DIGITS = (Path(__file__).parents[2] / "examples" / "digits" / "digits.yaml").read_text()
HEAVY = DIGITS.replace("max_trials: 400", "max_trials: 20_000")


def test_slow_preview_is_ended_and_does_not_delay_others(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previewing, "SECONDS", 2)
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(client.post, "/api/v1/preview", json={"text": HEAVY})
        assert client.post("/api/v1/preview", json={"text": "name: x\n"}).json()["problems"]
        [problem] = asked.result().json()["problems"]
    assert "needs more; ashwood preview FILE" in problem["message"]


def test_new_preview_ends_the_oldest_if_there_are_too_many(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "_AT_ONCE", 1)
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(client.post, "/api/v1/preview", json={"text": HEAVY})
        while not previews._running:
            time.sleep(0.01)
        assert client.post("/api/v1/preview", json={"text": DIGITS}).json()["ok"]
        assert not asked.result().json()["ok"]


def test_memory_of_preview_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = "import ashwood.dashboard.previewing as p; p.MEMORY = 64 << 20; p.main()"
    monkeypatch.setattr(previewing, "_COMMAND", (sys.executable, "-P", "-c", limited))
    question = {"text": "- a\n" * 50_000, "workers": None, "unit_seconds": None, "cost_per_worker_hour": None}
    question |= {"checkpoint_bytes": None}
    assert asyncio.run(previewing.preview(question)) is None


def test_preview_forecasts_disk_space_with_and_without_max_size(client: TestClient) -> None:
    text = DIGITS.replace("max_trials: 400", "max_trials: 40") + "checkpoint_storage: {max_size: 2MB}\n"
    assumed = {"text": text, "workers": 4, "checkpoint_bytes": 1e6}
    for more in ({}, {"unit_seconds": 1.0}):
        storage = client.post("/api/v1/preview", json=assumed | more).json()["plan"]["storage"]
        assert storage["max_size"] == 2e6
        assert storage["limited_bytes"]["middle"] < storage["bytes"]["middle"]
    unknown = client.post("/api/v1/preview", json={"text": text}).json()["plan"]["storage"]
    assert (unknown["bytes"], unknown["limited"]) == (None, None)


def test_preview_ends_when_the_client_disconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []

    async def cancel_early() -> None:
        monkeypatch.setattr(previewing, "_COMMAND", (sys.executable, "-P", "-c", "import time; time.sleep(60)"))
        create = asyncio.create_subprocess_exec

        async def noted(*command: str, **pipes: Any) -> asyncio.subprocess.Process:
            process = await create(*command, **pipes)
            pids.append(process.pid)
            return process

        monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
        asked = asyncio.create_task(previewing.preview({"text": ""}))
        while not pids:
            await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(cancel_early())
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
