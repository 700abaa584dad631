"""``--on`` and ``--submit``: commands that run as jobs on the head of a Ray cluster."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from json import dumps
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import typer

from ashwood.cli.frames import SUBMISSION, FrameParser
from ashwood.cli.options import BackendKind, RunOptions
from ashwood.errors import AshwoodError, ClusterError, ConfigError, Problem
from ashwood.terminal.messages import COMMAND
from ashwood.terminal.output import print_json

_REACH_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = (0.1, 1.0)
_LAST_LINES: Final = 20

_LOOKS: Final = frozenset(
    (
        *("list", "describe", "config", "wait", "trials", "best", "logs", "events", "watch", "replay"),
        *("checkpoints", "verify"),
    )
)
_STEERS: Final = frozenset(
    (
        *(
            "pause",
            "cancel",
            "kill",
            "kill-trial",
            "stop-trial",
            "add-trial",
            "set",
            "rename",
            "label",
            "note",
            "archive",
            "unarchive",
        ),
        *("delete", "gc"),
    )
)
_DRIVES: Final = frozenset(("resume", "activate", "extend"))
_HERE: Final = frozenset(("init", "schema", "check", "preview", "plan", "animate"))
"""Commands that run here, unless an option names an experiment of the cluster."""


def run_on_cluster(url: str, command: str, arguments: Sequence[str], options: Mapping[str, Any]) -> int | None:
    """Run a command on the head of a cluster; return its exit code, or None if it must run on this machine.

    Args:
        url: URL of the cluster's dashboard.
        command: name of the command.
        arguments: its arguments, as text.
        options: its arguments and options, parsed.

    Raises:
        AshwoodError: the command cannot run there.
    """
    looks = options.get("like") is not None or options.get("experiment") is not None
    if command == "run" or (command in _HERE and not looks):
        return None
    if command not in _LOOKS | _STEERS | _DRIVES or (command == "note" and options.get("file") is not None):
        raise AshwoodError(
            f"ashwood {command} reads or writes files of the machine that it runs on, so --on cannot run it on the "
            "cluster: run it on the head itself; or keep experiments in PostgreSQL and checkpoints at a URL, and run "
            "it here with --home and without --on (and ASHWOOD_ON)"
        )
    _refuse_passwords(options.get("home"))
    if command in _DRIVES:
        follow = command != "activate" and not options.get("background")
        return drive(url, [command, *arguments], follow=follow, json=bool(options.get("json")))
    return look(url, [command, *arguments], follow=bool(options.get("follow")))


# -- reading and control ------------------------------------------------------------------------------


def look(url: str, arguments: Sequence[str], *, follow: bool) -> int:
    """Run a command as a job until it ends, print its output, and return its exit code."""
    job = ClusterJob.submit(url, arguments, terminal())
    try:
        for kind, text in job.output(follow=follow):
            _print(kind, text)
    except KeyboardInterrupt:
        if not follow:
            raise
        return 0
    finally:
        job.stop()
    return job.exit_code()


def _print(kind: str, text: str) -> None:
    out = {"out": sys.stdout, "err": sys.stderr}.get(kind)
    if out is not None:
        out.write(text)
        out.flush()


# -- driving ------------------------------------------------------------------------------------------


def submit(url: str, file: Path, options: RunOptions, overrides: Sequence[str], *, follow: bool) -> int:
    """Start the driver of an experiment as a job on the cluster, and return the exit code.

    Args:
        url: URL of the cluster's dashboard.
        file: experiment file.
        options: options of the run; the home is one on the cluster.
        overrides: values that replace those of the file.
        follow: whether to print the output of the driver until it ends.

    Raises:
        ConfigError: with all problems of the file.
        ClusterError: the cluster cannot be used, or the driver did not start.
    """
    from ashwood.backends.ray.cluster import code_environment
    from ashwood.cli.run import all_overrides
    from ashwood.config import read_experiment
    from ashwood.engine.provenance import collect
    from ashwood.experiment.spec import RayCluster

    _refuse_passwords(options.home)
    on_ray = replace(options, backend=BackendKind.RAY)
    spec = read_experiment(file, overrides=all_overrides(on_ray, overrides)).spec
    cluster = spec.ray or RayCluster()
    environment, source, name = None, None, str(file.absolute())
    if cluster.ship_code:
        environment, name = code_environment(cluster, spec.workdir), file.name
        source = {"git": collect(Path(spec.workdir))["git"], "workdir": spec.workdir}
    home = [] if options.home is None else ["--home", options.home]
    arguments = ["run", name, "--backend", "ray", *home, *replace(options, backend=None).arguments]
    arguments += [word for value in overrides for word in ("--set", value)]
    arguments += [word for value in options.stop_when or () for word in ("--stop-when", value)]
    # The driver prints JSON only if its lines are printed here.  Otherwise `drive` prints one JSON object itself.
    arguments += ["--json"] * (options.json and follow)
    return drive(url, arguments, follow=follow, json=options.json, environment=environment, source=source)


def drive(
    url: str,
    arguments: Sequence[str],
    *,
    follow: bool,
    json: bool,
    environment: dict[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
) -> int:
    """Start a driver as a job on the cluster, which continues when this command ends.

    Args:
        url: URL of the cluster's dashboard.
        arguments: command line of the driver.
        follow: whether to print its output until it ends or Ctrl-C.
        json: whether to print JSON.
        environment: Ray's runtime environment that ships its work directory, or None if the cluster has it.
        source: JSON-able description of where the work directory comes from.

    Returns:
        its exit code, or 0 when it drives (without ``follow``) or after Ctrl-C.
    """
    # Without the terminal's other variables, the driver prints plain lines, which also suit its log.
    variables = {name: value for name, value in terminal().items() if name == "TZ"}
    if environment is not None:
        variables[SUBMISSION] = dumps(source)
    job = ClusterJob.submit(url, arguments, variables, environment)
    number, output = None, list[str]()
    try:
        for kind, text in job.output(follow=follow):
            if kind == "experiment":
                number = int(text)
                if json and not follow:
                    print_json({"experiment": number, "job": job.id, "on": url})
                    return 0
                typer.echo(f"experiment {number} runs on the cluster, driven by job {job.id}", err=follow)
                if not follow:
                    typer.echo(f"to inspect it: {_command_for(url)} describe {number} (or events {number} --follow)")
                    return 0
                typer.echo("Ctrl-C stops this output, not the experiment", err=True)
            elif follow or kind == "err":
                _print(kind, text)
            else:
                output.append(text)
    except KeyboardInterrupt:
        which = f"job {job.id}" if number is None else f"experiment {number}"
        typer.echo(f"{which} continues on the cluster", err=True)
        return 0
    code = job.exit_code()
    _print("out", "".join(output))  # The driver ended before it started an experiment; its output says why.
    return code


# -- jobs ---------------------------------------------------------------------------------------------


class ClusterJob:
    """A command line that runs as a job.

    Attributes:
        id: its submission ID.
    """

    def __init__(self, client: Any, id_: str, command: str) -> None:
        self._client = client
        self.id = id_
        self._noise = f"Running entrypoint for job {id_}: {command}\n"
        self._frames = FrameParser()
        self._before: list[str] = []
        self._began = False

    @classmethod
    def submit(
        cls,
        url: str,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        environment: dict[str, Any] | None = None,
    ) -> ClusterJob:
        """Submit a job that runs the command line.

        Raises:
            ClusterError: the cluster cannot be used.
        """
        client = connect(url)
        from ashwood.backends.ray.cluster import own_package, why_not

        command = entrypoint(arguments, {**variables, COMMAND: _command_for(url)})
        with _refused(lambda error: why_not(error, url, (environment or {}).get("working_dir", ""))):
            id_ = client.submit_job(
                entrypoint=command,
                submission_id=f"ashwood-{arguments[0]}-{secrets.token_hex(4)}",
                runtime_env=environment or {"py_modules": [own_package()]},
                entrypoint_num_cpus=0,
            )
        return cls(client, id_, command)

    def output(self, *, follow: bool) -> Iterator[tuple[str, str]]:
        """Yield the parts of its output, each with its kind, until it ends; without ``follow`` by polling."""
        for text in self._tail() if follow else self._poll():
            for kind, part in self._frames.feed(text.replace(self._noise, "")):
                if kind == "begin":
                    self._began = True
                elif self._began:
                    yield kind, part
                else:
                    self._before.append(part)

    def exit_code(self) -> int:
        """Wait for the end of the job, and return its exit code.

        Raises:
            ClusterError: the command did not start, or the job was stopped.
        """
        info = self._end()
        if not self._began:
            raise ClusterError(_why_it_did_not_begin(self.id, "".join(self._before), info.message or ""))
        if info.driver_exit_code is None:
            raise ClusterError(f"job {self.id} is {str(info.status).lower()}: {info.message}")
        return int(info.driver_exit_code)

    def stop(self) -> None:
        """Stop the job if it runs."""
        with suppress(RuntimeError, OSError):
            if not self._info().status.is_terminal():
                self._client.stop_job(self.id)

    def _info(self) -> Any:
        return self._client.get_job_info(self.id)

    def _end(self) -> Any:
        for pause in _pauses():
            with _refused(lambda error: f"cannot get the exit code of job {self.id}: {error}"):
                info = self._info()
            if info.status.is_terminal():
                return info
            time.sleep(pause)
        raise AssertionError

    def _poll(self) -> Iterator[str]:
        """Yield new output by polling.

        It arrives sooner than with `_tail`, but the whole output is read each time, so this is for short outputs.
        """
        seen = 0
        for pause in _pauses():
            with _refused(lambda error: f"cannot read the output of job {self.id}: {error}"):
                ended = self._info().status.is_terminal()
                text = self._client.get_job_logs(self.id)
            yield text[seen:]
            seen = len(text)
            if ended:
                return
            time.sleep(pause)

    def _tail(self) -> Iterator[str]:
        """Yield new output from a stream, which works for output of any size."""
        lines = self._client.tail_job_logs(self.id)
        with asyncio.Runner() as runner:
            try:
                while True:
                    with _refused(lambda error: f"lost the output of job {self.id}: {error}"):
                        text = runner.run(anext(lines, None))
                    if text is None:
                        return
                    yield text
            finally:
                runner.run(lines.aclose())


def connect(url: str) -> Any:
    """Return Ray's client for the jobs of a cluster.

    Args:
        url: URL of the cluster's dashboard.

    Raises:
        ConfigError: this is not such a URL.
        ClusterError: no dashboard answers there, or Ray is not installed here.
    """
    place = urlsplit(url)
    if place.scheme not in ("http", "https") or not place.hostname:
        raise ConfigError([Problem("", f"{url!r} is not the URL of a dashboard: http://HOST:8265", "--on or --submit")])
    try:
        import requests
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise ClusterError(
            f"--on and --submit need a package that is not installed ({error}): pip install 'ashwood[ray]'"
        ) from error
    url = url.rstrip("/")
    try:
        answer = requests.get(f"{url}/api/version", timeout=_REACH_SECONDS)
    except requests.RequestException as error:
        raise ClusterError(
            f"no Ray dashboard answers at {url} ({_root(error)}): it runs on the head, at port 8265, if Ray "
            "is installed there with pip install 'ray[default]'; ray start --dashboard-host sets the address that it "
            "listens on"
        ) from error
    if answer.status_code == requests.codes.not_found:
        raise ClusterError(f"the server at {url} is not a Ray dashboard")
    _hush()
    with _refused(lambda error: f"cannot use the Ray cluster at {url}: {error}"), _at(url):
        return JobSubmissionClient(url)


def entrypoint(arguments: Sequence[str], variables: Mapping[str, str]) -> str:
    """Return the shell command of a job that runs the command line."""
    pairs = [f"{name}={value}" for name, value in variables.items()]
    return "exec " + shlex.join(["env", *pairs, "python", "-m", "ashwood.cli.job", *arguments])


def _command_for(url: str) -> str:
    return f"ashwood --on {shlex.quote(url)}"


def terminal() -> dict[str, str]:
    """Return environment variables that adapt the output of a job to this terminal and time zone."""
    variables = {name: os.environ[name] for name in ("NO_COLOR", "TERM", "COLORTERM") if name in os.environ}
    if (zone := os.environ.get("TZ") or _zone(Path("/etc/localtime"))) is not None:
        variables["TZ"] = zone
    if sys.stdout.isatty():
        variables["COLUMNS"] = str(shutil.get_terminal_size().columns)
        if "NO_COLOR" not in variables:
            variables["FORCE_COLOR"] = "1"
    return variables


def _zone(localtime: Path) -> str | None:
    _, found, zone = str(localtime.resolve()).partition("/zoneinfo/")
    return zone if found else None


def _refuse_passwords(home: str | None) -> None:
    if home is not None and "://" in home and urlsplit(home).password is not None:
        raise ConfigError(
            [
                Problem(
                    "",
                    "contains a password, which all users of the cluster's dashboard could read: put it into ~/.pgpass "
                    "on the head",
                    "--home",
                )
            ]
        )


def _why_it_did_not_begin(job: str, before: str, message: str) -> str:
    last = "\n".join((before.strip() or message.strip() or "no output").splitlines()[-_LAST_LINES:])
    if "No module named" in last or "python: not found" in last:
        return (
            "the head of the cluster cannot run Ashwood, because its Python lacks packages: pip install "
            "'ashwood[ray]' there, in the environment of Ray, and on the other nodes. Output of the job:\n" + last
        )
    return f"job {job} did not start:\n{last}"


def _pauses() -> Iterator[float]:
    pause, longest = _LOOK_SECONDS
    while True:
        yield pause
        pause = min(pause * 1.2, longest)


def _hush() -> None:
    """Silence Ray's messages about uploads and about the files that we exclude from them."""
    for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
    logging.getLogger("ray._private.runtime_env.working_dir").setLevel(logging.ERROR)


@contextmanager
def _at(url: str) -> Iterator[None]:
    """Set the variables of Ray's address to ``url`` in the body, because they take precedence over an argument."""
    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, url))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def _refused(why: Callable[[Exception], str]) -> Iterator[None]:
    """Turn the errors of Ray's client, which are of many types, into ClusterError with a message."""
    try:
        yield
    except AshwoodError:
        raise
    except Exception as error:
        raise ClusterError(why(error)) from error


def _root(error: BaseException) -> BaseException:
    """Return the first cause of an error."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
