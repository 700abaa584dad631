"""``--on`` and ``--submit``, with a fake of Ray's job client."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ashwood.cli import frames, remote
from ashwood.cli.frames import SUBMISSION, FrameParser, copy_work_directory, frame
from ashwood.cli.main import app
from ashwood.engine import open_home
from ashwood.errors import AshwoodError
from ashwood.terminal.messages import COMMAND

from .conftest import RANDOM, TRAIN, Workplace

URL = "http://head:8265"
NOISE = "2026-01-01 INFO Runtime env is setting up.\nRunning entrypoint for job {id}: {entrypoint}\n"


class Client:
    """Ray's client, of a cluster whose jobs all do the same."""

    def __init__(self) -> None:
        self.log = NOISE + frame("begin")
        self.code: int | None = 0
        self.message = "Job finished."
        self.interrupt = False
        self.ended = True
        self.jobs: list[dict[str, Any]] = []
        self.stopped: list[str] = []

    def submit_job(self, **job: Any) -> str:
        self.jobs.append(job)
        return str(job["submission_id"])

    def get_job_info(self, id_: str) -> Any:
        status = SimpleNamespace(is_terminal=lambda: self.ended)
        return SimpleNamespace(status=status, driver_exit_code=self.code, message=self.message)

    def get_job_logs(self, id_: str) -> str:
        return self.log.format(id=id_, entrypoint=self.jobs[-1]["entrypoint"])

    async def tail_job_logs(self, id_: str) -> AsyncIterator[str]:
        text = self.get_job_logs(id_)
        for start in range(0, len(text), 7):
            yield text[start : start + 7]
        if self.interrupt:
            raise KeyboardInterrupt

    def stop_job(self, id_: str) -> None:
        self.stopped.append(id_)

    @property
    def command(self) -> list[str]:
        """What the last job is to do, without the variables."""
        words = shlex.split(self.jobs[-1]["entrypoint"])
        start = words.index("python")
        assert words[start : start + 3] == ["python", "-m", "ashwood.cli.job"]
        return words[start + 3 :]

    @property
    def variables(self) -> dict[str, str]:
        words = shlex.split(self.jobs[-1]["entrypoint"])
        assert words[:2] == ["exec", "env"]
        return dict(word.split("=", 1) for word in words[2 : words.index("python")])


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()
    monkeypatch.setattr(remote, "connect", lambda url: client)
    return client


# -- frames -------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from(["out", "err", "experiment", "begin"]), st.text(min_size=1))), st.integers(1, 9)
)
def test_frame_parser_takes_pieces_of_any_size(parts: list[tuple[Any, str]], size: int) -> None:
    parts = [(kind, text.replace("\x1b", "")) for kind, text in parts]
    sent = "".join(text if kind == "out" else frame(kind, text) for kind, text in parts)
    frames, got = FrameParser(), list[tuple[Any, str]]()
    for start in range(0, len(sent), size):
        got += frames.feed(sent[start : start + size])
    for kind in ("out", "err", "experiment"):
        assert "".join(text for k, text in got if k == kind) == "".join(text for k, text in parts if k == kind)
    assert [text for k, text in got if k == "begin"] == [text for k, text in parts if k == "begin"]


def test_frame_parser_passes_on_colours() -> None:
    assert list(FrameParser().feed("\x1b[1mbold\x1b[0m\n")) == [("out", "\x1b[1mbold\x1b[0m\n")]


# -- looking and steering -----------------------------------------------------------------------------


def test_on_passes_arguments_unchanged(
    workplace: Workplace, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    client.log += "a table\n" + frame("err", "warning: odd\n") + "its end\n"
    output = workplace.ashwood("--on", URL, "rename", "3", "it's; a $name", "--home", "~/else where")
    assert client.command == ["rename", "3", "it's; a $name", "--home", "~/else where"]
    assert client.jobs[0]["runtime_env"] == {"py_modules": [str(Path(frames.__file__).parents[1])]}
    assert client.jobs[0]["entrypoint_num_cpus"] == 0
    assert output == "a table\nwarning: odd\nits end\n"
    assert client.stopped == []


def test_on_returns_exit_code_and_errors_of_the_command(workplace: Workplace, client: Client) -> None:
    client.log += frame("err", "error: there is no experiment 7\n")
    client.code = 1
    assert workplace.ashwood("--on", URL, "describe", "7", code=1) == "error: there is no experiment 7\n"


def test_wrong_usage_is_refused_before_a_job_is_submitted(workplace: Workplace, client: Client) -> None:
    assert "invalid value" in workplace.ashwood("--on", URL, "events", "1", "--after", "x", code=2)
    assert client.jobs == []


def test_ctrl_c_ends_follow_and_its_job(workplace: Workplace, client: Client) -> None:
    client.log += "line\n"
    client.interrupt, client.ended = True, False
    assert workplace.ashwood("--on", URL, "logs", "1", "0", "--follow") == "line\n"
    assert client.stopped == [client.jobs[0]["submission_id"]]


def test_job_gets_variables_of_the_terminal(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "77")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert remote.look(URL, ["list"], follow=False) == 0
    assert client.variables | {"COLUMNS": "77", "FORCE_COLOR": "1", "TZ": "Asia/Tokyo"} == client.variables
    monkeypatch.setenv("NO_COLOR", "1")
    assert remote.look(URL, ["list"], follow=False) == 0
    assert client.variables["NO_COLOR"] == "1"
    assert "FORCE_COLOR" not in client.variables
    assert client.variables[COMMAND] == f"ashwood --on {URL}"


def test_every_command_is_classified_for_on() -> None:
    names = {
        (each.name or each.callback.__name__).replace("_", "-") for each in app.registered_commands if each.callback
    }
    files = {"export", "import", "download", "report", "timeline", "ui"}
    places = [remote._LOOKS, remote._STEERS, remote._DRIVES, remote._HERE, files, {"run"}]
    assert sum(map(len, places)) == len(set().union(*places))
    assert names == set().union(*places)


def test_on_refuses_commands_with_local_files(workplace: Workplace, client: Client) -> None:
    output = workplace.ashwood("--on", URL, "export", "1", "--out", "x.csv", code=1)
    assert "files of the machine that it runs on" in output
    assert client.jobs == []


def test_commands_without_experiment_run_here(workplace: Workplace, client: Client) -> None:
    assert "24 trials" in workplace.ashwood("--on", URL, "preview-search", "toy.yaml")
    assert "--on cannot" in workplace.ashwood("--on", URL, "preview-search", "toy.yaml", "--like", "1", code=1)
    assert client.jobs == []


# -- driving ------------------------------------------------------------------------------------------


def test_an_experiment_is_submitted_with_its_code(workplace: Workplace, client: Client) -> None:
    client.log += "unseen\n" + frame("experiment", "4") + "unseen\n"
    client.ended = False
    changes = ["--set", "searcher.max_trials=3", "--set", "name=a b", "--stop-when", "0.9"]
    output = workplace.ashwood("run", "toy.yaml", "--submit", URL, "--home", "/data", "--workers", "2", *changes)
    (sent,) = client.jobs
    assert client.command == ["run", "toy.yaml", "--backend", "ray", "--home", "/data", "--workers", "2", *changes]
    assert sent["runtime_env"]["working_dir"] == str(workplace.path)
    assert ".git" in sent["runtime_env"]["excludes"]
    assert json.loads(client.variables[SUBMISSION]) == {"git": None, "workdir": str(workplace.path)}
    assert f"experiment 4 runs on the cluster, driven by job {sent['submission_id']}" in output
    assert f"ashwood --on {URL} describe 4" in output
    assert "unseen" not in output
    assert client.stopped == []


def test_with_json_its_number_can_be_read(workplace: Workplace, client: Client) -> None:
    client.log += frame("experiment", "4")
    got = workplace.json("--on", URL, "run", "toy.yaml")
    assert got == {"experiment": 4, "job": client.jobs[0]["submission_id"], "on": URL}
    assert "--json" not in client.command


def test_submit_without_ship_code_sends_no_code(workplace: Workplace, client: Client) -> None:
    client.log += frame("experiment", "1")
    workplace.ashwood("run", "toy.yaml", "--submit", URL, "--set", "backend.ship_code=false")
    assert client.command[:2] == ["run", str(workplace.file)]
    assert "working_dir" not in client.jobs[0]["runtime_env"]
    assert SUBMISSION not in client.variables


def test_ctrl_c_ends_followed_output_but_not_the_driver(workplace: Workplace, client: Client) -> None:
    client.log += frame("experiment", "4") + "best so far\n"
    client.interrupt, client.ended = True, False
    output = workplace.ashwood("run", "toy.yaml", "--submit", URL, "--follow")
    assert "best so far" in output
    assert output.endswith("experiment 4 continues on the cluster\n")
    assert client.stopped == []


def test_submit_follow_returns_exit_code_of_driver(workplace: Workplace, client: Client) -> None:
    client.log += frame("experiment", "4") + "a line\n"
    client.code = 3
    assert "a line\n" in workplace.ashwood("--on", URL, "resume", "4", "--json", code=3)
    assert client.command == ["resume", "4", "--json"]


def test_submit_shows_why_driver_did_not_start(workplace: Workplace, client: Client) -> None:
    client.log += frame("err", "error: experiment 4 is completed\n")
    client.code = 1
    assert workplace.ashwood("--on", URL, "activate", "4", code=1) == "error: experiment 4 is completed\n"


@pytest.mark.parametrize(
    "options", [["--from", "1"], ["--resume-latest"], ["--backend", "local"], ["--ray-address", "a:1"]]
)
def test_submit_refuses_options_other_than_file(workplace: Workplace, client: Client, options: list[str]) -> None:
    file = [] if "--from" in options else ["toy.yaml"]
    assert "--submit and --on run a file" in workplace.ashwood("run", *file, "--submit", URL, *options, code=2)
    assert client.jobs == []


def test_wrong_file_is_refused_before_a_job_is_submitted(workplace: Workplace, client: Client) -> None:
    workplace.write("name: toy\n")
    assert "entrypoint" in workplace.ashwood("run", "toy.yaml", "--submit", URL, code=2)
    assert client.jobs == []


def test_on_refuses_home_with_password(workplace: Workplace, client: Client) -> None:
    home = ["--home", "postgresql://me:secret@host/db"]
    for command in (["list"], ["run", "toy.yaml"]):
        output = workplace.ashwood("--on", URL, *command, *home, code=2)
        assert "password" in output
        assert "secret" not in output
    assert client.jobs == []


def test_the_home_of_this_machine_is_not_that_of_the_head(
    workplace: Workplace, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASHWOOD_HOME", "/here")
    client.log += frame("experiment", "1")
    assert CliRunner().invoke(app, ["run", str(workplace.file), "--submit", URL]).exit_code == 0
    assert "--home" not in client.command


# -- what can go wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["python: No module named ashwood", "ModuleNotFoundError: No module named 'typer'"])
def test_head_without_ashwood_is_reported(workplace: Workplace, client: Client, noise: str) -> None:
    client.log, client.code = NOISE + noise, 1
    output = workplace.ashwood("--on", URL, "list", code=1)
    assert "pip install 'ashwood[ray]'" in output
    assert noise in output


def test_job_that_did_not_start_is_reported(workplace: Workplace, client: Client) -> None:
    client.log, client.code, client.message = "", None, "runtime_env setup failed"
    output = workplace.ashwood("--on", URL, "list", code=1)
    assert "did not start" in output
    assert "runtime_env setup failed" in output


def test_stopped_job_is_reported(workplace: Workplace, client: Client) -> None:
    client.log += "line\n"
    client.code, client.message = None, "Job was intentionally stopped."
    output = workplace.ashwood("--on", URL, "list", code=1)
    assert "line\n" in output
    assert "intentionally stopped" in output


def test_url_without_dashboard_is_reported(workplace: Workplace) -> None:
    assert "no Ray dashboard answers at http://127.0.0.1:1" in workplace.ashwood(
        "--on", "http://127.0.0.1:1/", "list", code=1
    )
    assert "http://HOST:8265" in workplace.ashwood("--on", "127.0.0.1:6379", "list", code=2)


# -- inside the job -----------------------------------------------------------------------------------


def inside(directory: Path, home: Path, *arguments: str, **variables: str) -> tuple[int, list[tuple[Any, str]]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASHWOOD_")}
    done = subprocess.run(
        [sys.executable, "-m", "ashwood.cli.job", *arguments],
        cwd=directory,
        env={**environment, "HOME": str(home), "PYTHONUNBUFFERED": "1", **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, list(FrameParser().feed(done.stdout))


def test_job_frames_everything_but_standard_output(tmp_path: Path) -> None:
    code, output = inside(tmp_path, tmp_path, "list")
    assert code == 1
    assert output[0] == ("begin", "")
    assert {kind for kind, _ in output[1:]} == {"err"}
    assert "".join(text for _, text in output).startswith(f"error: there are no experiments in {tmp_path}/.ashwood")


def test_job_copies_code_and_records_its_source(tmp_path: Path) -> None:
    home, sent = tmp_path / "home", tmp_path / "sent"
    home.mkdir()
    sent.mkdir()
    (sent / "toy.yaml").write_text(RANDOM + "backend: local\ncheckpoint_storage: kept\n")
    (sent / "train.py").write_text(TRAIN)
    git = {"root": "/mine", "commit": "0" * 40, "branch": None, "prefix": "", "dirty": 1}
    told = {SUBMISSION: json.dumps({"git": git, "workdir": "/mine"}), COMMAND: f"ashwood --on {URL}"}
    code, output = inside(sent, home, "run", "toy.yaml", **told)
    assert code == 0, output
    assert ("experiment", "1") in output
    assert f"more: ashwood --on {URL} best 1" in "".join(text for _, text in output)
    assert "1 file differs from commit 0000000000" in "".join(text for kind, text in output if kind == "err")
    with open_home(home / ".ashwood") as opened:
        spec = opened.store.spec(1)
    workdir = Path(spec.workdir)
    assert workdir.parent == home / ".ashwood" / "code"
    assert (workdir / "train.py").read_text() == TRAIN
    assert (workdir / "kept").is_dir()
    assert spec.provenance["git"] == git
    assert spec.provenance["submitted_from"] == "/mine"


def test_work_directory_that_cannot_be_copied_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(AshwoodError, match="cannot copy the work directory"):
        copy_work_directory(tmp_path / "toy.yaml", tmp_path / "taken")
