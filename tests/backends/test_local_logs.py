"""The logs of trials: what the output of a failed command comes down to, and their limit."""

from pathlib import Path

import pytest

from ashwood.backends.local import trimmer
from ashwood.backends.local.logs import logged_experiment, summary, trial_log
from ashwood.backends.local.trimmer import LogTrimmer
from ashwood.checkpoints.limited import trim
from ashwood.experiment.spec import EntrypointKind
from ashwood.testing.backend import drive, job
from tests.backends.helpers import Make, error, write

TRACEBACK = 'Traceback (most recent call last):\n  File "t.py", line 2, in <module>\n    boom()\n    ^^^^^^\n'

TORCHRUN = """\
E1130 08:29:18 torch/distributed/elastic/api.py:1002] failed (exitcode: -9) local_rank: 1 (pid: 21249)
Traceback (most recent call last):
  File "/bin/torchrun", line 8, in <module>
    sys.exit(main())
             ^^^^^^
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
=======================================================
boom.py FAILED
-------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-30_08:29:18
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 21249)
  error_file: <N/A>
  traceback : {traceback}
=======================================================
"""
SIGNAL = TORCHRUN.format(code="-9", traceback="Signal 9 (SIGKILL) received by PID 21249")
EXIT = TORCHRUN.format(
    code="3", traceback="To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html"
)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", ""),
        ("====\n----\n\n", ""),
        ("loading\nno such file: x\n", "no such file: x"),
        ("it broke\n=====\n***\n\n", "it broke"),
        (TRACEBACK + "ValueError: no luck\nand more output\n", "ValueError: no luck"),
        (TRACEBACK + "ValueError\n", "ValueError"),
        (TRACEBACK + "my.pkg.Odd: no\n  luck\n", "my.pkg.Odd: no"),
        (
            TRACEBACK + "KeyError: 1\n\nDuring handling of the above exception, another exception occurred:\n\n"
            f"{TRACEBACK}RuntimeError: 2\n",
            "RuntimeError: 2",
        ),
        (
            "".join(f"[rank1]: {line}\n" for line in (TRACEBACK + "ValueError: no luck").splitlines()) + EXIT,
            "ValueError: no luck",
        ),
        (TRACEBACK + "ValueError: no luck\n" + SIGNAL, "ValueError: no luck"),
        (SIGNAL, "Signal 9 (SIGKILL) received by PID 21249"),
        (EXIT, "exitcode  : 3 (pid: 21249)"),
        (
            TRACEBACK
            + "ValueError: no luck\n"
            + TRACEBACK
            + "subprocess.CalledProcessError: Command '[x]' returned 1.\n",
            "ValueError: no luck",
        ),
        ("usage: t.py [-h]\nt.py: error: unrecognized arguments: --x\n", "t.py: error: unrecognized arguments: --x"),
        ("Error in f() : no luck\nExecution halted\n", "Error in f() : no luck"),
        ("\x1b[31mfatal: no luck\x1b[0m\n\x1b[2m────\x1b[0m\n", "fatal: no luck"),
        ("no luck\nThe package determined is not installed; it takes its place.\n", "no luck"),
        ("10%|#  | 1/10\r100%|###| 10/10\nbad loss\n", "bad loss"),
        (f"--- 2026-01-01 00:00:00 trial 0\n{TRACEBACK}ValueError: old\n--- 2026-01-01 00:00:01 trial 0\nnew\n", "new"),
    ],
)
def test_failed_command_is_summed_up_by_its_exception_or_last_line(tmp_path: Path, output: str, expected: str) -> None:
    (tmp_path / "log").write_text(output)
    assert summary(tmp_path / "log") == expected


def test_exception_far_from_the_end_is_found(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(TRACEBACK + "ValueError: no luck\n" + "shutting down …\n" * 500)
    assert summary(tmp_path / "log") == "ValueError: no luck"


def test_handled_exception_is_not_the_summary(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(TRACEBACK + "OSError: retrying\ncannot load the data\n")
    assert summary(tmp_path / "log", raised=False) == "cannot load the data"


FLOOD = """
import subprocess, time
from pathlib import Path
log = Path({logs!r}, f'trial-{{trial.id}}.log')
child = subprocess.Popen([sys.executable, '-c', "for n in range(200000): print('child', n)"])
for line in range(100000): os.write(1, b'parent %d\\n' % line)
child.wait()
deadline = time.monotonic() + 10
while log.stat().st_size > 200_000 and time.monotonic() < deadline: time.sleep(0.01)
assert log.stat().st_size <= 200_000, 'it is trimmed while the trial runs'
print('the last line')
raise ValueError('no luck')
"""


@pytest.mark.parametrize("process_per_attempt", [False, True])
def test_log_of_a_running_trial_is_limited_and_keeps_its_end(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, process_per_attempt: bool
) -> None:
    monkeypatch.setattr(trimmer, "_LOOK_SECONDS", 0.02)
    write(tmp_path, "code_flood.py", FLOOD.format(logs=str(tmp_path / "logs")))
    backend = make(
        "code_flood:train", process_per_attempt=process_per_attempt, max_log_size=200_000, identity="0123abcd"
    )
    failed = error(drive(backend, [job(trial=3)]))
    assert failed.startswith("ValueError: no luck")
    assert "\nthe last line" in failed
    backend.close()
    log = trial_log(tmp_path / "logs", 3)
    text = log.read_text()
    assert len(text) <= 200_000
    assert logged_experiment(log) == "0123abcd"
    assert "\nparent 0\n" in text
    assert text.count("bytes are left out here") == 1
    assert "\nthe last line\n" in text[-2000:]


def test_output_of_a_command_and_of_later_attempts_counts_in_the_limit(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trimmer, "_LOOK_SECONDS", 0.02)
    backend = make("seq 1 100000; echo the end >&2; exit 3", EntrypointKind.COMMAND, max_log_size=200_000)
    for attempt in (1, 2, 3):
        failed = error(drive(backend, [job(attempt=attempt)]))
        assert failed.startswith("the command ended with exit code 3: the end")
    backend.close()
    text = trial_log(tmp_path / "logs", 0).read_text()
    assert len(text) <= 200_000
    assert text.startswith("--- ")
    assert text.endswith("99999\n100000\nthe end\n")


def test_log_that_a_process_left_behind_writes_to_is_trimmed_when_the_backend_closes(tmp_path: Path) -> None:
    log, limit = tmp_path / "trial-0.log", 100_000
    log.touch()
    trimming = LogTrimmer(limit)
    trimming.keep(log)
    trimming.release(log)
    log.write_bytes(b"0123456789\n" * 20_000)
    trimming.close()
    assert not trim(log, limit)
    assert log.stat().st_size <= limit
