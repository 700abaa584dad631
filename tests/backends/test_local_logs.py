"""What the output of a failed command comes down to."""

from pathlib import Path

import pytest

from ashwood.backends.local.logs import summary

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
