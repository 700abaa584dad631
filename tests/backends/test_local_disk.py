"""A full disk costs output, and pauses trials that can't write; it costs no result and no worker."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ashwood.backends.local.backend import LocalBackend
from ashwood.backends.local.logs import trial_log
from ashwood.experiment.events import AttemptEnded, CheckpointSaved, Event, StorageFailed
from ashwood.experiment.spec import Entrypoint, EntrypointKind
from ashwood.testing.backend import drive, job, toy_spec
from ashwood.trial.run import lacks_space
from tests.backends.helpers import losses, write


class SmallDisk:
    """A disk of 256 kB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        assert os.statvfs(self.path).f_bavail == 0

    def empty(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    path = tmp_path / "disk"
    path.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk can't be mounted here")
    yield SmallDisk(path)
    subprocess.run(["umount", "-l", path], check=True)


def backend(tmp_path: Path, target: str, *, per_attempt: bool = False, **places: Path) -> LocalBackend:
    kind = EntrypointKind.FUNCTION if ":" in target else EntrypointKind.COMMAND
    return LocalBackend(
        toy_spec(tmp_path, entrypoint=Entrypoint(kind, target)),
        checkpoints=places.get("checkpoints", tmp_path / "checkpoints"),
        logs=places.get("logs", tmp_path / "logs"),
        workers=1,
        process_per_attempt=per_attempt,
    )


def filled(event: Event) -> str:
    assert isinstance(event, StorageFailed), event
    return event.error


TOY = "ashwood.testing.training:train"
COMMAND = f"{sys.executable} -m ashwood.testing.training"


@pytest.mark.parametrize(("target", "per_attempt"), [(TOY, False), (TOY, True), (COMMAND, False)])
def test_results_arrive_if_logs_cannot_be_written(
    tmp_path: Path, disk: SmallDisk, target: str, per_attempt: bool
) -> None:
    with backend(tmp_path, target, per_attempt=per_attempt, logs=disk.path / "logs") as local:
        disk.fill()
        events = drive(local, [job(target=2)])
        assert losses(events) == [1, 1 / 2]
        assert events[-1] == AttemptEnded(0, 1, 2)


@pytest.mark.parametrize("per_attempt", [False, True])
def test_print_on_full_disk_fails_nothing_and_is_not_in_later_log(
    tmp_path: Path, disk: SmallDisk, per_attempt: bool
) -> None:
    write(tmp_path, "code_prints.py", "print('x' * 70_000)")
    with backend(tmp_path, "code_prints:train", per_attempt=per_attempt, logs=disk.path / "logs") as local:
        disk.fill()
        error = filled(drive(local, [job(trial=0)])[-1])
        assert error.startswith("OSError: [Errno 28] No space left on device\nTraceback")
        worker = local._slot_states[0].worker
        disk.empty()
        assert drive(local, [job(trial=1)])[-1] == AttemptEnded(1, 1, 1)
        assert local._slot_states[0].worker is worker
    header, line = trial_log(disk.path / "logs", 1).read_text().splitlines()
    assert header.endswith("trial 1, attempt 1, to length 1")
    assert line == "x" * 70_000


def test_command_that_cannot_write_output_at_exit_loses_only_output(tmp_path: Path, disk: SmallDisk) -> None:
    script = "from ashwood.trial import get_trial\nfrom ashwood.testing import training\nprint('x')\n"
    (tmp_path / "script.py").write_text(f"{script}training.train(get_trial())")
    target = f"PYTHONUNBUFFERED= {sys.executable} script.py"
    with backend(tmp_path, target, logs=disk.path / "logs") as local:
        disk.fill()
        assert drive(local, [job()])[-1] == AttemptEnded(0, 1, 1)


@pytest.mark.parametrize(("target", "per_attempt"), [(TOY, False), (TOY, True), (COMMAND, False)])
def test_checkpoint_on_full_disk_is_storage_failure(
    tmp_path: Path, disk: SmallDisk, target: str, per_attempt: bool
) -> None:
    with backend(tmp_path, target, per_attempt=per_attempt, checkpoints=disk.path / "checkpoints") as local:
        disk.fill()
        events = drive(local, [job()])
        assert filled(events[-1]).startswith("OSError: [Errno 28] No space left on device")
        assert losses(events) == [1]
        assert not any(isinstance(event, CheckpointSaved) for event in events)
        disk.empty()
        assert isinstance(drive(local, [job(attempt=2)])[-2], CheckpointSaved)


def caused(error: BaseException, by: BaseException, *, explicitly: bool) -> BaseException:
    setattr(error, "__cause__" if explicitly else "__context__", by)
    return error


FULL = OSError(errno.ENOSPC, "whatever a library says")


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (FULL, True),
        (OSError(errno.EDQUOT, "x"), True),
        (RuntimeError(f"the writer said: {os.strerror(errno.ENOSPC)} (28)"), True),
        (caused(ValueError(), FULL, explicitly=True), True),
        (caused(SystemExit(1), caused(ValueError(), FULL, explicitly=False), explicitly=False), True),
        (ExceptionGroup("several", [ValueError(), FULL]), True),
        (OSError(errno.EIO, "x"), False),
        (caused(ValueError("x"), OSError(errno.ENOENT, "x"), explicitly=True), False),
    ],
)
def test_full_disk_is_recognized_in_chain_of_exceptions(error: BaseException, lacks: bool) -> None:
    assert lacks_space(error) == lacks


def test_exception_that_is_its_own_context_is_examined_once() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__context__, second.__context__ = second, first
    assert not lacks_space(first)


def test_log_directory_that_cannot_be_created_is_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(Exception, match=f"Cannot create {tmp_path}/logs"):
        backend(tmp_path, TOY)
