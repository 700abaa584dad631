"""``ashwood ui`` as a separate process, with requests like those of a browser."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.postgres import PostgresServer

from .conftest import GATED, RANDOM, Workplace, go, wait_until


class Ui:
    """A dashboard that takes requests at ``url``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        output = process.stdout.readline()
        assert " is at http://" in output, process.communicate()
        self.url = urlsplit(output.split()[-1])

    def ask(self, path: str, body: Any = None, *, method: str | None = None, **headers: str) -> tuple[int, Any]:
        assert self.url.hostname is not None
        connection = HTTPConnection(self.url.hostname, self.url.port, timeout=30)
        kind = {} if body is None else {"Content-Type": "application/json"}
        method = method or ("GET" if body is None else "POST")
        connection.request(method, path, None if body is None else json.dumps(body), {**kind, **headers})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, json.loads(text) if path.startswith("/api") else text


@contextmanager
def dashboard(workplace: Workplace, *options: str) -> Iterator[Ui]:
    with workplace.start("ui", "--port", "0", "--no-open", *options) as process:
        try:
            yield Ui(process)
            process.send_signal(signal.SIGINT)
            output = "".join(process.communicate(timeout=30))
            assert process.returncode == 0, output
            assert "token" not in output, "tokens are printed once"
        finally:
            process.kill()


def test_ui_serves_page_and_api(workplace: Workplace) -> None:
    with dashboard(workplace) as ui:
        status, page = ui.ask("/")
        assert (status, "<script" in page) == (200, True)
        assert ui.ask("/api/v1/experiments") == (200, {"experiments": []})
        assert ui.ask("/plotly.js")[0] == 200
        assert ui.ask("/api/v1/experiments", Host="evil.example")[0] == 421
        assert ui.ask("/api/v1/experiments/1/kill", {}, Origin="http://evil.example")[0] == 403


def test_ui_prints_its_address_as_json(workplace: Workplace) -> None:
    with workplace.start("ui", "--port", "0", "--no-open", "--json") as process:
        try:
            assert process.stdout is not None
            started = json.loads(process.stdout.readline())
            assert started["pid"] == process.pid
            assert started["url"].startswith("http://127.0.0.1:")
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=30)[0] == ""
        finally:
            process.kill()


@pytest.mark.slow
def test_ui_controls_home_in_postgresql(workplace: Workplace, postgres: PostgresServer) -> None:
    home = postgres.fresh_database()
    workplace.write(RANDOM, GATED)
    with workplace.driving("run", "toy.yaml", "--home", home) as driver, dashboard(workplace, home) as ui:
        (shown,) = ui.ask("/api/v1/experiments")[1]["experiments"]
        assert (shown["state"], shown["id"]) == ("running", 1)
        assert ui.ask("/api/v1/experiments/1/pause", {})[0] == 200
        go(workplace)
        assert driver.wait(60) == 3
        page = ui.ask("/api/v1/experiments/1")[1]
        assert page["state"] == "paused"
        assert page["reports"] >= 1
        assert ui.ask("/api/v1/experiments/1/trials")[1]["total"] == page["trials_created"]
        assert ui.ask("/api/v1/experiments/1/trials/0/log")[0] == 200
        assert ui.ask("/api/v1/experiments/1/figures/ladder")[0] == 200


def test_ui_controls_running_experiment(workplace: Workplace) -> None:
    workplace.write(RANDOM, GATED)
    with workplace.driving("run", "toy.yaml") as driver, dashboard(workplace) as ui:
        assert ui.ask("/api/v1/experiments/1")[1]["can"]["pause"]
        status, answer = ui.ask("/api/v1/experiments/1", method="DELETE")
        assert (status, "another ashwood" in answer["error"]["what"]) == (409, True)
        status, answer = ui.ask("/api/v1/experiments/1/pause", {})
        assert (status, answer["state"] in ("pausing", "paused")) == (200, True)
        go(workplace)
        assert driver.wait(60) == 3
        assert ui.ask("/api/v1/experiments/1")[1]["state"] == "paused"
        status, answer = ui.ask("/api/v1/experiments/1/activate", {})
        assert status == 200, answer
        wait_until(lambda: ui.ask("/api/v1/experiments/1")[1]["state"] == "completed")
        status, answer = ui.ask("/api/v1/experiments/1/pause", {})
        assert status == 409
        assert "completed" in answer["error"]["what"]

        files = workplace.path / ".ashwood" / "experiments" / "1"
        assert files.is_dir()
        wait_until(lambda: ui.ask("/api/v1/experiments/1", method="DELETE") == (200, {"deleted": 1}))
        assert ui.ask("/api/v1/experiments/1")[0] == 404
        assert ui.ask("/api/v1/experiments") == (200, {"experiments": []})
    assert not files.exists(), "nothing was written after the deletion"


def test_ui_ends_on_ctrl_c_while_a_page_listens(workplace: Workplace) -> None:
    workplace.ashwood("run", "toy.yaml")
    with workplace.start("ui", "--port", "0", "--no-open") as process:
        try:
            ui = Ui(process)
            assert ui.url.hostname is not None
            connection = HTTPConnection(ui.url.hostname, ui.url.port, timeout=30)
            connection.request("GET", "/api/v1/experiments/1/live")
            assert b"retry" in connection.getresponse().readline()
            process.send_signal(signal.SIGINT)
            output = "".join(process.communicate(timeout=30))
            assert (process.returncode, "Traceback" in output, "Cancel" in output) == (0, False, False), output
            connection.close()
        finally:
            process.kill()


def test_read_only_ui_refuses_changes(workplace: Workplace) -> None:
    with dashboard(workplace, "--read-only") as ui:
        assert ui.ask("/api/v1/home")[1]["read_only"]
        assert ui.ask("/api/v1/experiments/1/kill", {})[0] == 403
        assert ui.ask("/api/v1/experiments/1", method="DELETE")[0] == 403


def test_ui_with_token_refuses_requests_without_it(workplace: Workplace) -> None:
    with dashboard(workplace, "--token") as ui:
        token = ui.url.query.removeprefix("token=")
        assert len(token) > 30
        assert ui.ask("/api/v1/home")[0] == 401
        assert ui.ask("/api/v1/home", Authorization=f"Bearer {token}x")[0] == 401
        assert ui.ask("/api/v1/home", Authorization=f"Bearer {token}")[0] == 200


@pytest.mark.parametrize(
    ("options", "output"),
    [
        (["nowhere"], "there are no experiments in"),
        (["--host", "192.0.2.1"], "can't listen at 192.0.2.1"),
        (["--port", "70000"], "--port"),
    ],
)
def test_ui_names_home_or_address_that_cannot_be_served(workplace: Workplace, options: list[str], output: str) -> None:
    code = 2 if "70000" in options else 1
    assert output in workplace.apart("ui", "--no-open", *options, code=code)
