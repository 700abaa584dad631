"""``--on`` and ``--submit``: commands that run on the head of a Ray cluster, as jobs of it."""

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import typer

from ashwood.cli.job import CALLED, SUBMISSION, Frames
from ashwood.cli.output import print_json
from ashwood.errors import AshwoodError, ClusterError, ConfigError, Problem

_REACH_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = (0.1, 1.0)
_LAST_LINES: Final = 20

_LOOKS: Final = frozenset(
    ("list", "describe", "trials", "best", "logs", "events", "watch", "replay", "checkpoints", "verify")
)
_STEERS: Final = frozenset(
    ("pause", "cancel", "kill", "kill-trial", "stop-trial", "set", "rename", "label", "archive", "delete", "gc")
)
_DRIVES: Final = frozenset(("resume", "activate"))
_HERE: Final = frozenset(("init", "schema", "check", "preview-search", "plan", "animate"))
"""Unless they are to look at an experiment."""


def elsewhere(url: str, command: str, arguments: Sequence[str], given: Mapping[str, Any]) -> int | None:
    """Run a command on the head of a cluster; returns its exit code, or None: it has nothing to do there.

    Args:
        url: of the cluster's dashboard.
        command: its name.
        arguments: what follows the name.
        given: the same, parsed.

    Raises:
        AshwoodError: it can't be run there.
    """
    looks = given.get("like") is not None or given.get("experiment") is not None
    if command == "run" or (command in _HERE and not looks):
        return None
    if command not in _LOOKS | _STEERS | _DRIVES:
        raise AshwoodError(
            f"ashwood {command} reads or writes files of the machine that it runs on, so --on can't have it run on the "
            "cluster: run it on the head itself; or keep experiments in PostgreSQL and checkpoints at a URL, and run "
            "it here without --on (and ASHWOOD_ON), with --home"
        )
    _refuse_passwords(given.get("home"))
    if command in _DRIVES:
        attached = command == "resume"
        return Driver(url, [command, *arguments], follow=attached, json=bool(given.get("json"))).run()
    return look(url, [command, *arguments], follow=bool(given.get("follow")))


# -- looking and steering -----------------------------------------------------------------------------


def look(url: str, arguments: Sequence[str], *, follow: bool) -> int:
    """Have a command run to its end, and print what it prints; returns its exit code."""
    job = Job.submit(url, arguments, terminal())
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What ``ashwood run`` says that a driver on the cluster is to be told.

    Attributes:
        home: where experiments live there.
        workers: how many slots to use at most.
        set_: values that go over those of the file.
        stop_when: bounds that go over those of the file.
        json: whether to print for programs.
        follow: whether to stay and print what the driver prints.
    """

    home: str | None = None
    workers: int | None = None
    set_: Sequence[str] = ()
    stop_when: Sequence[str] = ()
    json: bool = False
    follow: bool = False

    def arguments(self, file: str) -> list[str]:
        """The driver's command."""
        arguments = ["run", file, "--backend", "ray"]
        if self.home is not None:
            arguments += ["--home", self.home]
        if self.workers is not None:
            arguments += ["--workers", str(self.workers)]
        arguments += [word for value in self.set_ for word in ("--set", value)]
        arguments += [word for value in self.stop_when for word in ("--stop-when", value)]
        # Followed, the driver's lines are what is printed here.
        return [*arguments, "--json"] if self.json and self.follow else arguments


def submit(url: str, file: Path, wanted: Wanted) -> int:
    """Have an experiment driven by a job on the cluster; returns the exit code.

    Raises:
        ConfigError: with all problems of the file.
        ClusterError: the cluster can't be used, or the driver didn't start.
    """
    from ashwood.backends.ray.cluster import code_environment
    from ashwood.cli.run import Run
    from ashwood.cli.where import Where
    from ashwood.config import read_experiment
    from ashwood.engine.provenance import collect
    from ashwood.experiment.spec import RayCluster

    _refuse_passwords(wanted.home)
    run = Run(home=None, where=Where("ray"), overrides=wanted.set_, stop_when=wanted.stop_when)
    spec = read_experiment(file, overrides=run.all_overrides).spec
    cluster = spec.ray or RayCluster()
    if not cluster.ship_code:
        return Driver(url, wanted.arguments(str(file.absolute())), follow=wanted.follow, json=wanted.json).run()
    return Driver(
        url,
        wanted.arguments(file.name),
        follow=wanted.follow,
        json=wanted.json,
        environment=code_environment(cluster, spec.workdir),
        told={"git": collect(Path(spec.workdir))["git"], "workdir": spec.workdir},
    ).run()


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver on the cluster, which goes on without whoever started it.

    Attributes:
        url: of the cluster's dashboard.
        arguments: its command.
        follow: whether to print what it prints, until it ends or Ctrl-C.
        json: whether to print for programs.
        environment: Ray's runtime environment that brings its work directory; None: it is there.
        told: what is told of that directory.
    """

    url: str
    arguments: Sequence[str]
    follow: bool
    json: bool = False
    environment: dict[str, Any] | None = None
    told: dict[str, Any] = field(default_factory=dict)

    def run(self) -> int:
        """Start it; returns its exit code, or 0 as soon as it drives or Ctrl-C leaves it alone."""
        import json

        # Plain lines: a live display is not for a log.
        variables = {name: value for name, value in terminal().items() if name == "TZ"}
        if self.environment is not None:
            variables[SUBMISSION] = json.dumps(self.told)
        job = Job.submit(self.url, self.arguments, variables, self.environment)
        number, said = None, list[str]()
        try:
            for kind, text in job.output(follow=self.follow):
                if kind == "experiment":
                    number = int(text)
                    self._started(job, number)
                    if not self.follow:
                        return 0
                elif self.follow or kind == "err":
                    _print(kind, text)
                else:
                    said.append(text)
        except KeyboardInterrupt:
            which = f"job {job.id}" if number is None else f"experiment {number}"
            typer.echo(f"{which} goes on on the cluster", err=True)
            return 0
        code = job.exit_code()
        _print("out", "".join(said))  # it ended before it drove anything, and says why
        return code

    def _started(self, job: Job, number: int) -> None:
        again = _called(self.url)
        if not self.follow and self.json:
            print_json({"experiment": number, "job": job.id, "on": self.url})
            return
        typer.echo(f"experiment {number} runs on the cluster, driven by job {job.id}", err=self.follow)
        if self.follow:
            typer.echo("Ctrl-C leaves it alone", err=True)
        else:
            typer.echo(f"look at it with: {again} describe {number} (or events {number} --follow)")


# -- jobs ---------------------------------------------------------------------------------------------


class Job:
    """A command line that runs as a job.

    Attributes:
        id: its number on the cluster.
    """

    def __init__(self, client: Any, id_: str, command: str) -> None:
        self._client = client
        self.id = id_
        self._noise = f"Running entrypoint for job {id_}: {command}\n"
        self._frames = Frames()
        self._before: list[str] = []
        self._began = False

    @classmethod
    def submit(
        cls,
        url: str,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        environment: dict[str, Any] | None = None,
    ) -> Job:
        """Have the command line run on a cluster.

        Raises:
            ClusterError: the cluster can't be used.
        """
        client = connect(url)
        from ashwood.backends.ray.cluster import own_package, why_not

        command = entrypoint(arguments, {**variables, CALLED: _called(url)})
        with _refused(lambda error: why_not(error, url, (environment or {}).get("working_dir", ""))):
            id_ = client.submit_job(
                entrypoint=command,
                submission_id=f"ashwood-{arguments[0]}-{secrets.token_hex(4)}",
                runtime_env=environment or {"py_modules": [own_package()]},
                entrypoint_num_cpus=0,
            )
        return cls(client, id_, command)

    def output(self, *, follow: bool) -> Iterator[tuple[str, str]]:
        """What it prints and tells, until it ends."""
        for text in self._tail() if follow else self._poll():
            for kind, part in self._frames.feed(text.replace(self._noise, "")):
                if kind == "begin":
                    self._began = True
                elif self._began:
                    yield kind, part
                else:
                    self._before.append(part)

    def exit_code(self) -> int:
        """Its exit code.

        Raises:
            ClusterError: it could not begin, or was ended.
        """
        info = self._end()
        if not self._began:
            raise ClusterError(_why_it_did_not_begin(self.id, "".join(self._before), info.message or ""))
        if info.driver_exit_code is None:
            raise ClusterError(f"job {self.id} is {str(info.status).lower()}: {info.message}")
        return int(info.driver_exit_code)

    def stop(self) -> None:
        """End it, if it runs."""
        with suppress(RuntimeError, OSError):
            if not self._info().status.is_terminal():
                self._client.stop_job(self.id)

    def _info(self) -> Any:
        return self._client.get_job_info(self.id)

    def _end(self) -> Any:
        for pause in _pauses():
            with _refused(lambda error: f"job {self.id} can't be asked how it ended: {error}"):
                info = self._info()
            if info.status.is_terminal():
                return info
            time.sleep(pause)
        raise AssertionError

    def _poll(self) -> Iterator[str]:
        """Soon after it is written, but all of it is read each time."""
        seen = 0
        for pause in _pauses():
            with _refused(lambda error: f"job {self.id} can't be followed: {error}"):
                ended = self._info().status.is_terminal()
                text = self._client.get_job_logs(self.id)
            yield text[seen:]
            seen = len(text)
            if ended:
                return
            time.sleep(pause)

    def _tail(self) -> Iterator[str]:
        """As it is written, however much."""
        lines = self._client.tail_job_logs(self.id)
        with asyncio.Runner() as runner:
            try:
                while True:
                    with _refused(lambda error: f"job {self.id} can't be followed any more: {error}"):
                        text = runner.run(anext(lines, None))
                    if text is None:
                        return
                    yield text
            finally:
                runner.run(lines.aclose())


def connect(url: str) -> Any:
    """Ray's client for the jobs of the cluster whose dashboard is at a URL.

    Raises:
        ConfigError: that is no such URL.
        ClusterError: nobody answers there, or Ray isn't installed here.
    """
    place = urlsplit(url)
    if place.scheme not in ("http", "https") or not place.hostname:
        raise ConfigError([Problem("", f"{url!r} is not the URL of a dashboard: http://HOST:8265", "--on or --submit")])
    try:
        import requests
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise ClusterError(
            f"this needs a package that isn't installed ({error}): pip install 'ashwood[ray]'"
        ) from error
    url = url.rstrip("/")
    try:
        answer = requests.get(f"{url}/api/version", timeout=_REACH_SECONDS)
    except requests.RequestException as error:
        raise ClusterError(
            f"no Ray dashboard answers at {url} ({_root(error)}): it runs on the head, at port 8265, if Ray "
            "is installed there with pip install 'ray[default]'; ray start --dashboard-host … says who reaches it"
        ) from error
    if answer.status_code == requests.codes.not_found:
        raise ClusterError(f"what answers at {url} is no Ray dashboard")
    _hush()
    with _refused(lambda error: f"can't use the Ray cluster at {url}: {error}"), _at(url):
        return JobSubmissionClient(url)


def entrypoint(arguments: Sequence[str], variables: Mapping[str, str]) -> str:
    """The shell command of a job that runs the command line."""
    pairs = [f"{name}={value}" for name, value in variables.items()]
    return "exec " + shlex.join(["env", *pairs, "python", "-m", "ashwood.cli.job", *arguments])


def _called(url: str) -> str:
    return f"ashwood --on {shlex.quote(url)}"


def terminal() -> dict[str, str]:
    """The variables by which what is printed there fits who reads it here."""
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
                    "holds a password, which all who see the cluster's dashboard could read: leave it to ~/.pgpass "
                    "on the head",
                    "--home",
                )
            ]
        )


def _why_it_did_not_begin(job: str, before: str, message: str) -> str:
    last = "\n".join((before.strip() or message.strip() or "it said nothing").splitlines()[-_LAST_LINES:])
    if "No module named" in last or "python: not found" in last:
        return (
            "the head of the cluster can't run Ashwood: its python lacks what that needs; pip install 'ashwood[ray]' "
            f"there, where Ray itself is installed, and on the other nodes. What it said:\n{last}"
        )
    return f"job {job} did not begin:\n{last}"


def _pauses() -> Iterator[float]:
    pause, longest = _LOOK_SECONDS
    while True:
        yield pause
        pause = min(pause * 1.2, longest)


def _hush() -> None:
    """Keep to ourselves what Ray's client tells of uploads, and that it leaves out what we have it leave out."""
    for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
    logging.getLogger("ray._private.runtime_env.working_dir").setLevel(logging.ERROR)


@contextmanager
def _at(url: str) -> Iterator[None]:
    """While Ray looks for its address: variables that name another cluster would go over it."""
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
    """Ray's client says by errors of many kinds that it has been refused."""
    try:
        yield
    except AshwoodError:
        raise
    except Exception as error:
        raise ClusterError(why(error)) from error


def _root(error: BaseException) -> BaseException:
    """What was the matter in the first place."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
