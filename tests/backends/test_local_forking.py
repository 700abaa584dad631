"""Training code that does where it is imported what no fork survives; /dev/zero is the GPU here."""

from pathlib import Path

import pytest

from ashwood.backends.local import forking
from ashwood.backends.local.forking import holds_gpu
from ashwood.backends.local.logs import trial_log, worker_log
from ashwood.experiment.events import AttemptFailed
from ashwood.testing.backend import drive, job
from tests.backends.helpers import Make, losses

_EAGER = """
import os
from ashwood.backends.local import forking

forking.DEVICES = ("/dev/zero",)
device, imported_by = open("/dev/zero"), os.getpid()
"""
_TRAIN = """
def train(trial):
    for epoch in trial.epochs():
        trial.report(loss=float(imported_by == os.getpid()), parent=os.getppid())
"""


def test_code_that_uses_gpu_during_import_is_imported_in_each_attempt(tmp_path: Path, make: Make) -> None:
    (tmp_path / "code_eager.py").write_text(_EAGER + _TRAIN)
    backend = make("code_eager:train", process_per_attempt=True)
    assert losses(drive(backend, [job(trial=0)])) == [1]
    assert losses(drive(backend, [job(trial=1)])) == [1]
    assert "code_eager:train uses the GPU when it is imported" in worker_log(tmp_path / "logs", 0).read_text()


def test_worker_releases_gpu_after_import(tmp_path: Path, make: Make) -> None:
    held = "[os.readlink(link) for link in pathlib.Path(f'/proc/{os.getppid()}/fd').iterdir()]"
    code = _EAGER.replace("import os", "import os, pathlib") + _TRAIN.replace(
        "float(imported_by == os.getpid())", f"float('/dev/zero' in {held})"
    )
    (tmp_path / "code_held.py").write_text(code)
    assert losses(drive(make("code_held:train", process_per_attempt=True), [job()])) == [0]


def test_code_that_can_be_imported_only_once_fails_with_reason(tmp_path: Path, make: Make) -> None:
    once = "import pathlib\nif pathlib.Path('there').exists(): raise OSError('no GPU is free')\nopen('there', 'w')\n"
    (tmp_path / "code_twice.py").write_text(once + _EAGER + _TRAIN)
    failed = drive(make("code_twice:train", process_per_attempt=True), [job()])[-1]
    assert isinstance(failed, AttemptFailed)
    assert failed.error.startswith("the training code can't be imported: OSError: no GPU is free")


def test_worker_without_process_per_attempt_keeps_gpu(tmp_path: Path, make: Make) -> None:
    (tmp_path / "code_inline.py").write_text(_EAGER + _TRAIN)
    assert losses(drive(make("code_inline:train"), [job()])) == [1]
    assert "imports the training code again" not in trial_log(tmp_path / "logs", 0).read_text()


@pytest.mark.slow
def test_code_that_computes_in_threads_during_import_trains(tmp_path: Path, make: Make) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    # PyTorch and scikit-learn contain GNU's OpenMP.  A fork of a process with a team of threads waits for it for ever.
    fit = "HistGradientBoostingClassifier(max_iter=2, max_depth=2).fit(X, y)"
    (tmp_path / "code_threads.py").write_text(
        "import numpy as np\nfrom sklearn.ensemble import HistGradientBoostingClassifier\n"
        f"X, y = np.arange(400.0).reshape(200, 2), np.arange(200) % 2\n{fit}\n"
        f"def train(trial):\n    for epoch in trial.epochs():\n        {fit}\n        trial.report(loss=0.5)\n"
    )
    backend = make("code_threads:train", process_per_attempt=True, environment={"OMP_NUM_THREADS": "2"})
    assert losses(drive(backend, [job()])) == [0.5]
    assert "code_threads:train computes in threads (OpenMP)" in worker_log(tmp_path / "logs", 0).read_text()


def test_code_that_has_only_loaded_openmp_is_forked(tmp_path: Path, make: Make) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    code = "import os\nimport sklearn.ensemble\nimported_by = os.getpid()\n" + _TRAIN
    (tmp_path / "code_loaded.py").write_text(code)
    backend = make("code_loaded:train", process_per_attempt=True, environment={"OMP_NUM_THREADS": "2"})
    assert losses(drive(backend, [job()])) == [0], "it was imported by its parent"


class Cuda:
    """NVIDIA's library, as far as it's asked."""

    def __init__(self, answer: int) -> None:
        self._answer = answer

    def cuDeviceGetCount(self, _count: object) -> int:  # noqa: N802
        return self._answer


def test_initialized_cuda_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not holds_gpu(), "there is no such library in this process"
    for answer, held in ((3, False), (0, True)):
        monkeypatch.setattr(forking, "_loaded", lambda _library, answer=answer: Cuda(answer))
        assert holds_gpu() == held


def test_rocm_is_detected_by_its_open_device(tmp_path: Path) -> None:
    for number, target in enumerate(("/dev/null", "/dev/nvidiactl", "/dev/nvidia-uvm", "socket:[1]")):
        (tmp_path / str(number)).symlink_to(target)
    assert not holds_gpu(tmp_path), "asking which GPUs there are opens some of these, too"
    (tmp_path / "9").symlink_to("/dev/kfd")
    assert holds_gpu(tmp_path)
    assert not holds_gpu(tmp_path / "elsewhere")


def test_loaded_library_is_found() -> None:
    assert forking._loaded("libno-such-thing.so.1") is None
    loaded = {Path(line.split()[-1]).name for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    assert forking._loaded(next(name for name in loaded if name.startswith("libc.so"))) is not None
