"""Two drivers do not train on the same GPU."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ashwood.backends.local.reservation import LOCKS, Reservation, _shared_directory, reserve
from ashwood.errors import MachineError
from ashwood.testing.backend import toy_spec
from ashwood.testing.process_backend import wait_for_end, wait_for_number
from tests.backends.test_local_launchers import LAUNCH
from tests.users import ALICE, BOB, as_user, need_root

SPEC = toy_spec(Path("/w"))
PAIRS = toy_spec(Path("/w"), slots_per_trial=2)


def never(message: str) -> None:
    pytest.fail(f"it waits for {message}")


def take(workers: int | None = None, who: str = "this", **options: Any) -> Reservation:
    return reserve(options.pop("spec", SPEC), workers, who, **{"on_wait": never, **options})


@pytest.mark.usefixtures("gpus")
def test_second_driver_takes_free_gpus_and_says_so() -> None:
    said: list[str] = []
    with take(2, "experiment 3"), take(None, say=said.append) as second:
        assert second.machine.gpus == ("2", "3")
    [message] = said
    assert "uses 2 of the 4 GPUs (2, 3). In use by others: GPUs 0, 1 by experiment 3." in message
    with take(None, say=pytest.fail) as all_:  # released with their drivers
        assert all_.machine.gpus == ("0", "1", "2", "3")


@pytest.mark.usefixtures("gpus")
def test_driver_waits_until_gpu_is_free() -> None:
    waits: list[str] = []
    first = ExitStack()
    first.enter_context(take(None, "experiment 3"))
    with take(1, on_wait=waits.append, sleep=lambda _: first.close()) as second:
        assert second.machine.gpus == ("0",)
    assert waits == ["a free GPU (in use: GPUs 0, 1, 2, 3 by experiment 3)"]


@pytest.mark.usefixtures("gpus")
def test_driver_that_waits_for_two_gpus_keeps_none() -> None:
    first = ExitStack()
    first.enter_context(take(3))

    def another(_: float) -> None:
        with take(1) as third:
            assert third.machine.gpus == ("3",)
        first.close()

    with take(None, spec=PAIRS, on_wait=lambda _: None, sleep=another) as second:
        assert second.machine.gpus == ("0", "1", "2", "3")


@pytest.mark.usefixtures("gpus")
def test_driver_can_give_up_waiting() -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with take(None), pytest.raises(KeyboardInterrupt):
        take(1, on_wait=lambda _: None, sleep=interrupt)


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(("wanted", "workers"), [(8, 4), (6, 4), (5, 3), (4, 2), (1, 1), (None, None)])
def test_gpus_get_no_more_workers_than_if_all_were_free(wanted: int | None, workers: int | None) -> None:
    with take(2), take(wanted) as second:
        assert second.workers == workers


@pytest.mark.usefixtures("gpus")
def test_surplus_gpu_stays_free() -> None:
    with take(1), take(None, spec=PAIRS) as pair, take(None) as third:
        assert (pair.machine.gpus, third.machine.gpus) == (("1", "2"), ("3",))


@pytest.mark.parametrize("names", ["1", "{0}", "GPU-b"])
def test_gpu_is_the_same_by_any_name(gpus: list[str], monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", names.format(gpus[1]))
        first = take(None)
    with first, take(None) as second:
        assert second.machine.gpus == ("0", "2", "3")


def test_gpus_without_a_tool_are_reserved_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,MIG-GPU-a/1/0")
    with take(1), take(None) as second:
        assert second.machine.gpus == ("MIG-GPU-a/1/0",)


@pytest.mark.usefixtures("gpus")
def test_sharing_driver_takes_all_and_others_avoid_it() -> None:
    with take(1), take(None, share=True, say=pytest.fail) as sharing, take(2, share=True) as another:
        assert sharing.machine.gpus == another.machine.gpus == ("0", "1", "2", "3")
        waits: list[str] = []
        with pytest.raises(KeyboardInterrupt):
            take(1, on_wait=waits.append, sleep=lambda _: signal.raise_signal(signal.SIGINT))
        assert len(waits) == 1


def test_trial_that_never_fits_is_error_without_wait(gpus: list[str]) -> None:
    spec = toy_spec(Path("/w"), slots_per_trial=5)
    with take(None), pytest.raises(MachineError, match="is 5, but this machine has 4 GPUs"):
        take(None, spec=spec)


def test_drivers_that_use_cores_warn_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    said: list[str] = []
    first = ExitStack()
    first.enter_context(take(1, "experiment 3", say=pytest.fail))
    with take(1, "experiment 4", say=said.append) as second:
        assert second.machine.gpus == ()
        first.close()
        with take(1, say=said.append), take(1, share=True, say=pytest.fail):
            pass
    with take(1, say=pytest.fail):
        pass
    assert [message.partition(":")[0] for message in said] == [
        "another Ashwood run uses this machine's cores (experiment 3)",
        "another Ashwood run uses this machine's cores (experiment 4)",
    ]


# -- workers hold the locks ---------------------------------------------------------------------------

DRIVER = """
import json, sys
from pathlib import Path
from ashwood.backends.local.backend import LocalBackend
from ashwood.backends.local.reservation import reserve
from ashwood.experiment.spec import Entrypoint, EntrypointKind
from ashwood.testing.backend import job, toy_spec

directory, kind, target, per_attempt, hparams = json.loads(sys.argv[1])
directory = Path(directory)
spec = toy_spec(directory, entrypoint=Entrypoint(EntrypointKind(kind), target))
with (
    reserve(spec, 4, "experiment 3") as got,
    LocalBackend(spec, checkpoints=directory / "checkpoints", logs=directory / "logs", workers=got.workers,
                 machine=got.machine, locks=got.inherited, process_per_attempt=per_attempt) as backend,
):
    backend.dispatch([job(target=100, hparams=hparams)])
    (directory / "worker").write_text(str(backend._slot_states[0].worker.pid))
    (directory / "reaper").write_text(str(backend._reaper.pid))
    while True:
        backend.next_events(None)
"""


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(("function", "ashwood.testing.training:train", False), id="inline"),
        pytest.param(("function", "ashwood.testing.training:train", True), id="forked"),
        pytest.param(("command", f"exec {sys.executable} launch.py 2 -m ashwood.testing.training", False), id="ranks"),
    ],
)
def test_gpu_stays_reserved_while_a_worker_of_a_killed_driver_trains(
    tmp_path: Path, mode: tuple[str, str, bool]
) -> None:
    (tmp_path / "launch.py").write_text(LAUNCH)
    hparams = {"do": "tell", "pid_file": str(tmp_path / "pid"), "until": str(tmp_path / "go")}
    arguments = json.dumps([str(tmp_path), *mode, hparams])
    with subprocess.Popen([sys.executable, "-c", DRIVER, arguments]) as driver:
        trial = wait_for_number(tmp_path / "pid")
        numbers = [wait_for_number(tmp_path / name) for name in ("reaper", "worker")]
        driver.send_signal(signal.SIGSTOP)
        # A worker that runs the trial itself must live. Without one, processes of a command hold the lock themselves.
        for number in (numbers[0], driver.pid, *(numbers[1:] if mode[0] == "command" else [])):
            os.kill(number, signal.SIGKILL)
    try:
        # Only the GPU of the worker is still reserved: of those on which none had started, nothing is left.
        with take(None) as others:
            assert others.machine.gpus == ("1", "2", "3")
            waits: list[str] = []

            def wait(what: str) -> None:
                waits.append(what)
                (tmp_path / "go").touch()

            with take(1, on_wait=wait) as mine:
                assert mine.machine.gpus == ("0",)
            assert waits == ["a free GPU (in use: GPU 0 by experiment 3; GPUs 1, 2, 3 by this)"]
    finally:
        (tmp_path / "go").touch()
        wait_for_end(trial)


# -- other users --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("gpus")
def test_lock_of_another_user_counts(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_root()
    (open_directory / "locks").mkdir()
    (open_directory / "locks").chmod(0o1777)
    monkeypatch.setenv(LOCKS, str(open_directory / "locks"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-abc,GPU-def")

    def gpus_of(who: str) -> Callable[[], tuple[str, ...]]:
        return lambda: take(None, who).machine.gpus

    assert as_user(ALICE, gpus_of("Alice"), umask=0o077) == ("GPU-abc", "GPU-def")  # and its process ends
    with take(1, "root"):
        assert as_user(BOB, gpus_of("Bob"), umask=0o077) == ("GPU-def",)
    assert (open_directory / "locks/ashwood-gpu-GPU-def.lock").read_text() == "Bob"
    assert (open_directory / "locks/ashwood-gpu-GPU-abc.lock").stat().st_uid == ALICE


def test_lock_files_are_where_all_users_find_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = _shared_directory()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert _shared_directory() == before in ("/run/lock", "/tmp")


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "mine")


def _hard_link(path: Path) -> None:
    path.hardlink_to(path.parent / "mine")


@pytest.mark.parametrize("make", [_link, _hard_link, os.mkfifo, Path.mkdir])
def test_lock_file_that_is_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-abc")
    directory = Path(os.environ[LOCKS])
    directory.mkdir(parents=True)
    (directory / "mine").write_text("precious")
    make(directory / "ashwood-gpu-GPU-abc.lock")
    with pytest.raises(MachineError, match=r"Cannot lock .*ashwood-gpu-GPU-abc\.lock.*Remove the file, or set ASHWOOD"):
        take(None)
    assert (directory / "mine").read_text() == "precious"


def test_what_another_process_wrote_into_a_lock_file_is_shown_without_control_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-abc")
    path = Path(os.environ[LOCKS]) / "ashwood-gpu-GPU-abc.lock"
    path.parent.mkdir(parents=True)
    waits: list[str] = []
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for text in ("\x1b[2Jme\nand\xff you" + "u" * 1_000, ""):
            path.write_text(text, encoding="latin-1")
            with pytest.raises(KeyboardInterrupt):
                take(None, on_wait=waits.append, sleep=lambda _: signal.raise_signal(signal.SIGINT))
    assert waits[0].startswith("a free GPU (in use: GPU-abc by [2Jmeand� youu")
    assert len(waits[0]) < 500
    assert waits[1] == "a free GPU (in use: GPU-abc by another process)"
