"""Commands that start other processes: launchers, shells, several processes per trial."""

import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ashwood.backends.local import server, sockets
from ashwood.backends.local.backend import LocalBackend
from ashwood.backends.local.children import CommandRunner as Runner
from ashwood.backends.port import Abort, Command, ContinueAttempt, Suspend
from ashwood.experiment.events import (
    ABORTED,
    AttemptEnded,
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    TrialStopped,
    ValidationReported,
)
from ashwood.experiment.spec import EntrypointKind
from ashwood.testing.backend import drive, events_of, finish, job
from ashwood.testing.process_backend import wait_for_end, wait_for_number
from ashwood.trial.channel import Channel
from ashwood.trial.job import WorkerJob
from tests.backends.helpers import Make, error, losses

LAUNCH = """
import os, subprocess, sys

count = int(sys.argv[1])
processes = [
    subprocess.Popen(
        [sys.executable, *sys.argv[2:]],
        env=os.environ | ({} if count == 1 else {"RANK": str(rank), "WORLD_SIZE": str(count)}),
        start_new_session=True,
    )
    for rank in range(count)
]
sys.exit(max(abs(process.wait()) for process in processes))
"""
"""Closes inherited descriptors and gives each process a session, as torchrun does."""

TRAIN = """
import os, sys
from pathlib import Path
from ashwood.trial import get_trial

trial = get_trial()
steps = open(f"steps-{trial.rank}", "a", buffering=1)
Path(f"pid-{trial.rank}").write_text(str(os.getpid()))

def save(directory):
    print("save", trial.length, file=steps)
    (directory / "x").touch()

def train(before_report=lambda epoch: None):
    for epoch in trial.epochs():
        print("step", epoch, file=steps)
        before_report(epoch)
        trial.report(loss=1.0 + epoch, checkpoint=save)
    print("left", trial.length, file=steps)
"""


@pytest.fixture
def launch(tmp_path: Path, make: Make) -> Callable[..., LocalBackend]:
    """Makes a backend whose command launches ``count`` processes that run ``TRAIN`` and then ``body``."""

    def launch(body: str = "train()", count: int = 2, **changes: Any) -> LocalBackend:
        (tmp_path / "launch.py").write_text(LAUNCH)
        (tmp_path / "train.py").write_text(TRAIN + body)
        return make(f"{sys.executable} launch.py {count} train.py", EntrypointKind.COMMAND, **changes)

    return launch


def go_on(length: int, target: int) -> Callable[[ValidationReported], Command]:
    return lambda report: ContinueAttempt(0, 1, target) if report.length == length else finish(report)


def steps(directory: Path, rank: int) -> list[str]:
    return (directory / f"steps-{rank}").read_text().splitlines()


def test_get_trial_works_under_a_launcher_that_closes_descriptors(launch: Callable[..., LocalBackend]) -> None:
    events = drive(launch(count=1), [job(target=3)])
    assert losses(events) == [1, 2, 3]
    assert events[-1] == AttemptEnded(0, 1, 3)


def test_rank_0_reports_and_saves_and_others_follow(tmp_path: Path, launch: Callable[..., LocalBackend]) -> None:
    events = drive(launch("assert trial.world_size == 3\ntrain()", count=3), [job(target=2)], go_on(2, 4))
    assert losses(events) == [1, 2, 3, 4]
    assert [type(event) for event in events].count(AttemptStarted) == 1
    assert [event.length for event in events if isinstance(event, CheckpointSaved)] == [4]
    assert events[-1] == AttemptEnded(0, 1, 4)
    assert steps(tmp_path, 0) == ["step 0", "step 1", "step 2", "step 3", "save 4", "left 4"]
    assert steps(tmp_path, 0) == steps(tmp_path, 1) == steps(tmp_path, 2)


def test_all_ranks_leave_at_the_same_step_when_suspended(tmp_path: Path, launch: Callable[..., LocalBackend]) -> None:
    backend = launch()

    def suspend(report: ValidationReported) -> Command | None:
        return Suspend(0, 1) if report.length == 50 else None

    events = drive(backend, [job(target=10**6)], on_the_way=suspend)
    assert isinstance(events[-1], AttemptEnded)
    [saved] = [event.length for event in events if isinstance(event, CheckpointSaved)]
    assert saved >= 50
    assert steps(tmp_path, 0) == steps(tmp_path, 1)
    assert steps(tmp_path, 0)[-2:] == [f"save {saved}", f"left {saved}"]


OWN_LOOP = """
length = trial.length
while not trial.should_stop:
    length += 1
    print("step", length, file=steps)
    trial.report(loss=length, length=length, checkpoint=save)
print("left", trial.length, file=steps)
"""


def test_ranks_of_code_that_owns_its_loop_stop_at_the_same_step(
    tmp_path: Path, launch: Callable[..., LocalBackend]
) -> None:
    events = drive(launch(OWN_LOOP), [job(target=2)], go_on(2, 4))
    assert losses(events) == [1, 2, 3, 4]
    assert events[-1] == AttemptEnded(0, 1, 4)
    assert steps(tmp_path, 0) == ["step 1", "step 2", "step 3", "step 4", "save 4", "left 4"]
    assert steps(tmp_path, 0) == steps(tmp_path, 1)


def test_ranks_of_code_that_owns_its_loop_stop_at_the_same_step_when_suspended(
    tmp_path: Path, launch: Callable[..., LocalBackend]
) -> None:
    def suspend(report: ValidationReported) -> Command | None:
        return Suspend(0, 1) if report.length == 20 else None

    events = drive(launch(OWN_LOOP), [job(target=10**6)], on_the_way=suspend)
    assert isinstance(events[-1], AttemptEnded)
    [saved] = [event.length for event in events if isinstance(event, CheckpointSaved)]
    assert saved > 20
    assert steps(tmp_path, 0) == steps(tmp_path, 1)
    assert steps(tmp_path, 0)[-2:] == [f"save {saved}", f"left {saved}"]


def test_follower_that_never_reports_follows(tmp_path: Path, launch: Callable[..., LocalBackend]) -> None:
    body = "for epoch in trial.epochs():\n    print(epoch, file=steps)\n    if trial.rank == 0: trial.report(loss=1)\n"
    events = drive(launch(body), [job(target=3)], go_on(3, 5))
    assert events[-1] == AttemptEnded(0, 1, 5)
    assert steps(tmp_path, 1) == ["0", "1", "2", "3", "4"]


def test_ranks_need_not_call_get_trial(launch: Callable[..., LocalBackend], tmp_path: Path) -> None:
    backend = launch()
    (tmp_path / "train.py").write_text(
        "import os\nif os.environ['RANK'] == '1': raise SystemExit\n" + TRAIN + "train()"
    )
    assert drive(backend, [job(target=2)])[-1] == AttemptEnded(0, 1, 2)


@pytest.mark.parametrize("variable", ["RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK"])
def test_rank_of_a_launcher_around_ashwood_does_not_reach_the_command(
    launch: Callable[..., LocalBackend], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "3")
    assert drive(launch(count=1), [job(target=2)])[-1] == AttemptEnded(0, 1, 2)


def test_launcher_may_read_hyperparameters_itself(tmp_path: Path, make: Make) -> None:
    (tmp_path / "launch.py").write_text(
        "from ashwood.trial import get_trial\nassert get_trial().hparams.x == 7\n" + LAUNCH
    )
    (tmp_path / "train.py").write_text(TRAIN + "train()")
    backend = make(f"{sys.executable} launch.py 2 train.py", EntrypointKind.COMMAND)
    assert drive(backend, [job(target=2, hparams={"x": 7})])[-1] == AttemptEnded(0, 1, 2)


def test_second_process_without_a_rank_is_refused(launch: Callable[..., LocalBackend]) -> None:
    body = "train()\nimport subprocess\nif 'CHILD' not in os.environ:\n    os.environ['CHILD'] = '1'\n"
    body += "    sys.exit(subprocess.run([sys.executable, *sys.argv]).returncode)"
    assert "already trains the trial as rank 0. If several processes" in error(drive(launch(body, count=1), [job()]))


def test_children_of_multiprocessing_train_as_ranks(tmp_path: Path, make: Make) -> None:
    # They end without the exit handlers of Python.
    spawn = "import multiprocessing, os, runpy\n\ndef run(rank):\n    os.environ['RANK'] = str(rank)\n"
    spawn += "    runpy.run_path('train.py')\n\nif __name__ == '__main__':\n"
    spawn += "    context = multiprocessing.get_context('spawn')\n"
    spawn += "    ranks = [context.Process(target=run, args=[rank]) for rank in range(2)]\n"
    spawn += "    for rank in ranks: rank.start()\n    for rank in ranks: rank.join()\n"
    (tmp_path / "spawn.py").write_text(spawn)
    (tmp_path / "train.py").write_text(TRAIN + "train()\nif trial.rank and trial.id: raise ValueError('no luck')")
    backend = make(f"{sys.executable} spawn.py", EntrypointKind.COMMAND)
    assert drive(backend, [job(target=2)])[-1] == AttemptEnded(0, 1, 2)
    assert error(drive(backend, [job(trial=1, target=2)])).startswith("rank 1: ValueError: no luck\n")


@pytest.mark.parametrize(("first", "second"), [("RANK=1", "RANK="), ("RANK=", "RANK=1")])
def test_rank_beside_a_process_without_a_number_is_refused(tmp_path: Path, make: Make, first: str, second: str) -> None:
    os.mkfifo(tmp_path / "joined")
    # The second joins when the first has: that waits in its first step, or for rank 0.
    body = "number = int(os.environ['RANK'] or 0)\nif sys.argv[1] == '2': open('joined').read()\n"
    body += "elif number: trial._attempt._announcements._part.join(); open('joined', 'w').close()\n"
    body += "train(lambda epoch: epoch or sys.argv[1] == '2' or open('joined', 'w').close())"
    (tmp_path / "train.py").write_text(TRAIN + body)
    python = f"{sys.executable} train.py"
    backend = make(f"{first} {python} 1 & {second} {python} 2; kill $!; exit 1", EntrypointKind.COMMAND)
    assert "set RANK in each, from 0" in error(drive(backend, [job(target=3)]))


# -- processes that die -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("raise ValueError('no luck')", "the command ended with exit code 1: rank 1: ValueError: no luck"),
        ("os.kill(os.getpid(), 9)", "the command ended with exit code 9"),
    ],
)
def test_rank_that_dies_fails_the_attempt(launch: Callable[..., LocalBackend], deed: str, words: str) -> None:
    body = f"def die(epoch):\n    if trial.rank == 1 and epoch == 1: {deed}\n\ntrain(die)"
    backend = launch(body)

    assert words in error(drive(backend, [job(target=3)]))


def test_command_whose_launcher_hides_a_dead_rank_fails(tmp_path: Path, make: Make) -> None:
    os.mkfifo(tmp_path / "lives")
    # Rank 0 reads the pipe until rank 1, which has opened it, is dead.
    body = "if trial.rank == 1:\n    next(trial.epochs())\n    held = open('lives', 'w')\n    os._exit(0)\n"
    (tmp_path / "train.py").write_text(TRAIN + body + "train(lambda epoch: epoch or open('lives').read())")
    command = f"RANK=1 {sys.executable} train.py & RANK=0 {sys.executable} train.py; wait"
    said = error(drive(make(command, EntrypointKind.COMMAND), [job(target=3)]))
    assert said.startswith("the process of rank 1 (process ")


class Local:
    """A command run in this process, so that a test can shorten its grace."""

    def __init__(self, directory: Path, body: str, command: str) -> None:
        (directory / "train.py").write_text(TRAIN + body)
        self.directory = directory
        self.runner = Runner(command.format(python=f"{sys.executable} train.py"), str(directory))

    def run(self, *answers: bytes, **changes: Any) -> list[Any]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(b"".join(answer + b"\n" for answer in answers))
            task = WorkerJob(0, 1, 2, {}, 0, str(self.directory / "checkpoints"), metric="loss", unit="epochs")
            task = task._replace(**changes)
            return self.runner(task, Channel(theirs), self.directory / "log")


def test_command_that_hangs_after_a_rank_died_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_GRACE", 0.1)
    body = "def die(epoch):\n    import time\n    if trial.rank == 1: os._exit(0)\n    time.sleep(600)\n\ntrain(die)"
    local = Local(tmp_path, body, "RANK=1 {python} & RANK=0 {python}; wait")
    kind, text = local.run()
    assert kind == "AttemptFailed"
    assert text.startswith("the process of rank 1 (process ")


def test_rank_that_hangs_after_rank_0_has_ended_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_GRACE", 0.1)
    body = "train()\nif trial.rank == 1:\n    import time\n    time.sleep(600)"
    local = Local(tmp_path, body, "RANK=1 {python} & RANK=0 {python}; wait")
    assert local.run(b'["finish",true]') == ["AttemptEnded", 2]


def test_first_process_of_another_machine_leads_those_beside_it(tmp_path: Path) -> None:
    local = Local(tmp_path, "train()", "RANK=3 LOCAL_RANK=1 {python} & RANK=2 LOCAL_RANK=0 {python}; wait")
    assert local.run(b'["continue",3]', b'["finish",true]', rank=1, world_size=2) == ["AttemptEnded", 3]
    assert steps(tmp_path, 2) == steps(tmp_path, 3) == ["step 0", "step 1", "step 2", "save 3", "left 3"]


def test_followers_end_when_rank_0_stops_the_trial(tmp_path: Path, launch: Callable[..., LocalBackend]) -> None:
    body = "def stop(epoch):\n    if trial.rank == 0 and epoch == 1: trial.stop()\n\ntrain(stop)"
    assert drive(launch(body), [job(target=5)])[-1] == TrialStopped(0, 1)


def test_aborted_attempt_leaves_no_process_in_a_session_of_its_own(
    tmp_path: Path, launch: Callable[..., LocalBackend]
) -> None:
    body = "import time\ntrain(lambda epoch: time.sleep(600))"
    backend = launch(body)
    backend.dispatch([job(target=5)])
    ranks = [wait_for_number(tmp_path / f"pid-{rank}") for rank in range(2)]
    backend.dispatch([Abort(0, 1)])
    assert drive(backend, [job(target=5)])[-1] == AttemptFailed(0, 1, ABORTED)
    for process in ranks:
        wait_for_end(process)


def test_aborted_attempt_leaves_no_rank_that_never_called_get_trial(
    tmp_path: Path, launch: Callable[..., LocalBackend]
) -> None:
    backend = launch()
    body = "import os, time\nfrom pathlib import Path\nif os.environ['RANK'] == '1':\n"
    body += "    Path('pid-1').write_text(str(os.getpid()))\n    time.sleep(600)\n"
    (tmp_path / "train.py").write_text(body + TRAIN + "train(lambda epoch: time.sleep(600))")
    backend.dispatch([job(target=5)])
    for event in events_of(backend):
        if isinstance(event, AttemptStarted):  # so the driver knows the group, and ends that alone
            break
    ranks = [wait_for_number(tmp_path / f"pid-{rank}") for rank in range(2)]
    backend.dispatch([Abort(0, 1)])
    assert drive(backend, [job(target=5)])[-1] == AttemptFailed(0, 1, ABORTED)
    for process in ranks:
        wait_for_end(process)


def test_ranks_die_with_their_killed_worker(tmp_path: Path, launch: Callable[..., LocalBackend]) -> None:
    backend = launch("import time\ntrain(lambda epoch: epoch and time.sleep(600))")
    start = job(target=5)

    def kill(_: ValidationReported) -> None:
        worker = backend._slot_states[0].worker
        assert worker is not None
        wait_for_number(tmp_path / "pid-1")
        os.kill(worker.pid, signal.SIGKILL)

    assert "the worker process was killed by SIGKILL" in error(drive(backend, [start], on_the_way=kill))
    for rank in range(2):
        wait_for_end(wait_for_number(tmp_path / f"pid-{rank}"))


# -- the socket -------------------------------------------------------------------------------


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # as a path of pytest may be too long for a socket
        monkeypatch.setenv("TMPDIR", short)
        yield Path(short, f"ashwood-commands-{os.getuid()}")


def test_socket_is_in_a_directory_of_this_user_alone(directory: Path) -> None:
    listener, path = sockets.listen()
    listener.close()
    assert Path(path).parent == directory
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("trouble", ["open to others", "a link", "too long"])
def test_socket_goes_elsewhere_if_its_directory_cannot_be_used(
    directory: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    if trouble == "open to others":
        directory.mkdir()
        directory.chmod(0o755)
    elif trouble == "a link":
        directory.symlink_to("/tmp")
    else:
        long = directory.parent / ("x" * 100)
        long.mkdir()
        monkeypatch.setenv("TMPDIR", str(long))
    listener, path = sockets.listen()
    listener.close()
    Path(path).unlink()
    assert not Path(path).is_relative_to(directory.parent)


def test_sweep_deletes_only_sockets_of_dead_workers(directory: Path) -> None:
    listener, path = sockets.listen()
    dead, stale = sockets.listen()
    starting, young = sockets.listen()  # may not listen yet
    dead.close()
    starting.close()
    old = time.time() - 2 * sockets._STALE_SECONDS
    for name in (path, stale):
        os.utime(name, (old, old))
    sockets.sweep()
    assert sorted(map(str, directory.iterdir())) == sorted([path, young])
    listener.close()


def test_attempts_leave_no_socket_behind(directory: Path, tmp_path: Path) -> None:
    assert Local(tmp_path, "train()", "{python}").run(b'["finish",true]') == ["AttemptEnded", 2]
    assert list(directory.iterdir()) == []
