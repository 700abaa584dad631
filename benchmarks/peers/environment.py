"""The peers' environments, one each, and calls into them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ours import Ended
from benchmarks.workload import Workload

if TYPE_CHECKING:  # it imports numpy, which the other benchmarks do without
    from benchmarks.peers.quality import Request

PEERS = ("optuna", "ray", "syne_tune")

_BENCHMARKS = Path(__file__).parents[1]
_HOME = _BENCHMARKS / ".peers"


def prepare(peers: Sequence[str] = PEERS) -> None:
    """Make the environments that are missing or out of date."""
    for peer in peers:
        wanted = _BENCHMARKS / "peers" / f"{peer}.txt"
        ready = _HOME / peer / wanted.name
        if ready.exists() and ready.read_text() == wanted.read_text():
            continue
        print(f"installing {peer} into {ready.parent}", file=sys.stderr)
        venv.create(ready.parent, with_pip=True, clear=True)
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", str(wanted)]
        subprocess.run([_python(peer), *pip], check=True)
        # Written last, so that a set-up that broke off is done again.
        ready.write_text(wanted.read_text())


def schedule(peer: str, variant: str, trials: int, repeats: int) -> float:
    """Reports/s of a peer's scheduler alone; the best of some repeats."""
    return float(_call(peer, "schedule", variant, str(trials), str(repeats))["reports_per_second"])


def search(peer: str, variant: str, workload: Workload, log: Path, *, limit: float | None = None) -> Ended:
    """Run a whole search with a peer, steps written to ``log``.

    Raises:
        TimeoutError: it took more than ``limit`` seconds.
    """
    began = time.monotonic()
    answer = _call(peer, "search", variant, *map(str, workload), str(log), limit=limit)
    return Ended(began, answer["ended"], answer["peak_mb"])


def quality(peer: str, request: Request) -> Iterator[list[Any]]:
    """Search with a peer in virtual time: the task, the seed and the trace of each search, and the seconds it took."""
    return _answers(peer, f"benchmarks.peers.quality_on_{peer}", request)


def trust_on_ray(directory: Path, tasks: Sequence[str], seeds: int) -> Iterator[list[Any]]:
    """Search tasks of ARLBench with Ray Tune's ASHA: the task, the seed and the recommended setting of each search."""
    return _answers("ray", "benchmarks.peers.trust_on_ray", [str(directory.absolute()), list(tasks), seeds])


def _answers(peer: str, module: str, request: Any) -> Iterator[list[Any]]:
    """Yield the lines of JSON that a script of a peer prints for a request."""
    script = [_python(peer), "-W", "ignore", "-m", module, json.dumps(request)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            script, cwd=_HOME, env=_environment(), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        # Answers come one by one, so that what was found outlives what is broken off.
        yield from map(json.loads, process.stdout)
        if process.wait():
            errors.seek(0)
            raise RuntimeError(f"{peer} failed with exit status {process.returncode}:\n{errors.read()[-2000:]}")


def build_study(path: Path, trials: int, values: int) -> None:
    """A study of so many trials with intermediate values, in a file."""
    _call("optuna_dashboard", "build", str(path), str(trials), str(values))


def script(peer: str, name: str) -> str:
    """A command that a peer has installed."""
    return str(Path(_python(peer)).with_name(name))


def _call(peer: str, *arguments: str, limit: float | None = None) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [_python(peer), "-W", "ignore", "-m", f"benchmarks.peers.on_{peer}", *arguments],
            cwd=_HOME,  # where what a peer leaves lying about is ignored
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=limit,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{peer} took more than {limit:.0f} s") from error
    if done.returncode:
        raise RuntimeError(f"{peer} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_BENCHMARKS.parent)}


def _python(peer: str) -> str:
    return str(_HOME / peer / "bin" / "python")
