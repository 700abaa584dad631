import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from ashwood.backends.local.backend import LocalBackend
from ashwood.backends.local.children import CommandRunner as Runner
from ashwood.backends.local.logs import trial_log
from ashwood.backends.local.setup import file_settings
from ashwood.backends.port import Command, ContinueAttempt, Finish, Suspend
from ashwood.errors import BackendError
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptStarted,
    Event,
    HparamsInvalid,
    TrialStopped,
    ValidationReported,
)
from ashwood.experiment.spec import EntrypointKind
from ashwood.search.space import Const, Space
from ashwood.testing.backend import drive, events_of, finish, job
from ashwood.testing.process_backend import wait_for_end, wait_for_number
from ashwood.trial.channel import Channel
from ashwood.trial.job import WorkerJob
from tests.backends.helpers import Make, error, losses, write

# -- workers --------------------------------------------------------------------------------


def test_worker_imports_training_code_once(tmp_path: Path, make: Make) -> None:
    write(tmp_path, "code_once.py", "loss = len(calls)")
    backend = make("code_once:train")
    assert losses(drive(backend, [job(trial=0)])) == [1]
    assert losses(drive(backend, [job(trial=1)])) == [2]


def test_process_per_attempt_keeps_no_state(tmp_path: Path, make: Make) -> None:
    write(tmp_path, "code_fresh.py", "loss = len(calls)")
    backend = make("code_fresh:train", process_per_attempt=True)
    assert losses(drive(backend, [job(trial=0)])) == [1]
    assert losses(drive(backend, [job(trial=1)])) == [1]


def test_children_of_process_per_attempt_are_killed_when_it_ends(tmp_path: Path, make: Make) -> None:
    backend = make("ashwood.testing.training:train", process_per_attempt=True)
    drive(backend, [job(hparams={"do": "fork", "pid_file": str(tmp_path / "pid")})])
    wait_for_end(int((tmp_path / "pid").read_text()), patience=1)


def test_worker_has_environment_of_experiment(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    write(tmp_path, "code_env.py", "print(os.getcwd(), os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'])")
    backend = make("code_env:train", workers=64, environment={"OMP_NUM_THREADS": "5"})
    drive(backend, [job()])
    assert trial_log(tmp_path / "logs", 0).read_text().splitlines()[1] == f"{tmp_path} 5 7"


def test_data_and_seed_reach_the_training_code(tmp_path: Path, make: Make) -> None:
    write(tmp_path, "code_data.py", "loss = trial.data.sizes[1] + trial.seed")
    backend = make("code_data:train", data={"sizes": [1, 20]})
    assert losses(drive(backend, [job(trial=3)])) == [23]


def test_changed_directory_or_output_does_not_affect_next_attempt(tmp_path: Path, make: Make) -> None:
    write(tmp_path, "code_spoil.py", "print('in', os.getcwd()); os.chdir('/'); sys.stdout.close(); sys.stdout = None")
    backend = make("code_spoil:train")
    drive(backend, [job(trial=0)])
    assert drive(backend, [job(trial=1)])[-1] == AttemptEnded(1, 1, 1)
    assert trial_log(tmp_path / "logs", 1).read_text().splitlines()[1] == f"in {tmp_path}"


def test_idle_worker_that_dies_is_replaced(tmp_path: Path, make: Make) -> None:
    write(tmp_path, "code_idle.py", "loss = os.getpid()")
    backend = make("code_idle:train")
    (first,) = losses(drive(backend, [job(trial=0)]))
    os.kill(int(first), 9)
    wait_for_end(int(first))
    assert list(backend.next_events(timeout=0.5)) == []
    (second,) = losses(drive(backend, [job(trial=1)]))
    assert second != first


# -- logs -----------------------------------------------------------------------------------


def test_all_output_of_trial_goes_to_its_log(tmp_path: Path, make: Make) -> None:
    body = "print('python', trial.id)\nos.system('echo child; echo complaint >&2')\nos.write(1, b'raw\\n')"
    write(tmp_path, "code_log.py", body)
    backend = make("code_log:train")
    for start in (job(trial=0), job(trial=1), job(trial=0, attempt=2, target=2, length=1)):
        drive(backend, [start])
    header, *lines = trial_log(tmp_path / "logs", 0).read_text().splitlines()
    assert header.endswith("trial 0, attempt 1, to length 1")
    assert lines[:4] == ["python 0", "child", "complaint", "raw"]
    assert lines[4].endswith("trial 0, attempt 2, from length 1, to length 2")
    assert "python 1" in trial_log(tmp_path / "logs", 1).read_text()


def test_error_of_crash_contains_last_lines_of_log(tmp_path: Path, make: Make) -> None:
    write(tmp_path, "code_crash.py", "print('almost there')\nos.abort()")
    events = drive(make("code_crash:train"), [job()])
    assert error(events).startswith("the worker process was killed by SIGABRT: native code called abort()\n")
    assert "almost there" in error(events)
    assert "Fatal Python error: Aborted" in error(events)  # faulthandler's traceback
    assert "code_crash.py" in error(events)


def test_exception_is_written_to_log(tmp_path: Path, make: Make) -> None:
    write(tmp_path, "code_raises.py", "1 / 0")
    events = drive(make("code_raises:train"), [job()])
    assert error(events).startswith("ZeroDivisionError: division by zero\nTraceback")
    assert "ZeroDivisionError" in trial_log(tmp_path / "logs", 0).read_text()


@pytest.mark.parametrize("per_attempt", [False, True])
def test_error_contains_output_before_failure(tmp_path: Path, make: Make, per_attempt: bool) -> None:
    body = "print('attempt', trial.attempt, end='')\nos.system('echo the true cause >&2')\n1 / 0"
    write(tmp_path, "code_cause.py", body)
    backend = make("code_cause:train", process_per_attempt=per_attempt)
    drive(backend, [job()])
    told = error(drive(backend, [job(attempt=2)]))
    log = trial_log(tmp_path / "logs", 0)
    assert told.startswith("ZeroDivisionError: division by zero\nTraceback")
    assert told.count("Traceback") == 1
    said = told.partition(f"The last lines of {log}:\n")[2]
    assert sorted(said.split()) == ["2", "attempt", "cause", "the", "true"]
    assert log.read_text().count("Traceback") == 2


def test_size_of_error_is_limited(tmp_path: Path, make: Make) -> None:
    write(
        tmp_path, "code_long.py", "print('x' * 10**6)\nprint('y' * 3000 + '\\n' * 100)\nraise ValueError('z' * 10**6)"
    )
    told = error(drive(make("code_long:train"), [job()]))
    assert len(told) < 50_000


# -- entrypoints ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("import nonexistent_library", "code:train", "No module named 'nonexistent_library'"),
        ("def trian(trial): ...", "code:train", r"code has no function 'train' \(did you mean 'trian'\?\)"),
        ("train = 3", "code:train", "code:train is a int, but must be a function"),
        ("", "cod:train", r"there is no module 'cod' in .* or among the installed packages \(did you mean 'code'\?\)"),
        ("", "code", "contains no function name"),
        ("def train(: ...", "code:train", "SyntaxError"),
        ("import sys; sys.exit('no')", "code:train", "SystemExit: no"),
        ("import os; os._exit(4)", "code:train", "exit code 4 while it imported the training code"),
    ],
)
def test_unloadable_training_code_is_backend_error(
    tmp_path: Path, make: Make, source: str, target: str, words: str
) -> None:
    (tmp_path / "code.py").write_text(source)
    backend = make(target, workers=2)
    backend.dispatch([job(trial=0), job(trial=1)])
    with pytest.raises(BackendError, match=words):
        list(events_of(backend))
    with pytest.raises(BackendError, match=words):
        backend.dispatch([])


def test_function_of_script_is_loaded_without_running_main(tmp_path: Path, make: Make) -> None:
    write(tmp_path, "script one.py", "loss = helper.VALUE")
    (tmp_path / "helper.py").write_text("VALUE = 4")
    with (tmp_path / "script one.py").open("a") as script:
        script.write("\nimport helper\nif __name__ == '__main__':\n    raise SystemExit('ran as main')\n")
    assert losses(drive(make("script one.py:train", EntrypointKind.SCRIPT), [job()])) == [4]


def test_pickled_function_trains(tmp_path: Path, make: Make) -> None:
    offset = 5

    def train(trial: Any) -> None:
        for epoch in trial.epochs():
            trial.report(loss=epoch + offset)

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        (tmp_path / "train.pickle").write_bytes(cloudpickle.dumps(train))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    backend = make(str(tmp_path / "train.pickle"), EntrypointKind.PICKLE)
    assert losses(drive(backend, [job(target=2)])) == [5, 6]


# -- commands -------------------------------------------------------------------------------

SCRIPT = """
import sys
from ashwood.trial import get_trial

trial = get_trial(epochs=1000)
assert get_trial() is trial
print("arguments", sys.argv[1:])
match sys.argv[1]:
    case "stop":
        trial.stop()
    case "reject":
        trial.invalid_hparams("no good")
    case "fail":
        sys.exit(5)
    case "quiet":
        sys.exit()
    case "after":
        list(trial.epochs())
        trial.report(loss=trial.length, checkpoint=lambda d: (d / "x").touch())
    case _:
        for epoch in trial.epochs():
            trial.report(loss=trial.hparams.optimizer.lr)
"""

COMMAND = f"{sys.executable} script.py {{mode}} {{optimizer.lr}} $((1 + 1)) ${{HOME}}"


@pytest.fixture
def command(tmp_path: Path, make: Make) -> Callable[[str], LocalBackend]:
    (tmp_path / "script.py").write_text(SCRIPT)

    def command(mode: str) -> LocalBackend:
        space = Space({"mode": Const(mode), "optimizer": {"lr": Const(0.5)}})
        return make(COMMAND, EntrypointKind.COMMAND, space=space, environment={"HOME": "/nowhere"})

    return command


def hparams(mode: str) -> dict[str, Any]:
    return {"mode": mode, "optimizer": {"lr": 0.5}}


def test_command_trains_with_same_api(tmp_path: Path, command: Callable[[str], LocalBackend]) -> None:
    mode = "it's; exit 1"
    events = drive(command(mode), [job(target=3, hparams=hparams(mode))])
    assert isinstance(events[0], AttemptStarted)
    assert losses(events) == [0.5, 0.5, 0.5]
    assert events[-1] == AttemptEnded(0, 1, 3)
    assert f"arguments [\"{mode}\", '0.5', '2', '/nowhere']" in trial_log(tmp_path / "logs", 0).read_text()


@pytest.mark.parametrize(("mode", "last"), [("stop", TrialStopped(0, 1)), ("reject", HparamsInvalid(0, 1, "no good"))])
def test_command_can_end_its_trial(command: Callable[[str], LocalBackend], mode: str, last: Event) -> None:
    assert drive(command(mode), [job(hparams=hparams(mode))])[-1] == last


@pytest.mark.parametrize(
    ("mode", "words"),
    [("fail", "the command ended with exit code 5"), ("quiet", "without reporting 'loss' at 1 epoch")],
)
def test_failed_command_fails_attempt(command: Callable[[str], LocalBackend], mode: str, words: str) -> None:
    assert words in error(drive(command(mode), [job(hparams=hparams(mode))]))


def test_command_that_reports_at_its_end_is_run_again(command: Callable[[str], LocalBackend]) -> None:
    events = drive(
        command("after"),
        [job(target=2, hparams=hparams("after"))],
        lambda report: ContinueAttempt(0, 1, 3) if report.length == 2 else Finish(0, 1, save=False),
    )
    assert losses(events) == [2, 3]
    assert [event.length for event in events if isinstance(event, AttemptStarted)] == [0, 2]


GATED = """
import time
from pathlib import Path
from ashwood.trial import get_trial

trial = get_trial(epochs=1000)
link = trial._attempt._link
answer = link.answer

def answer_after_all_is_sent():
    while not Path("sent").exists():
        time.sleep(0.01)
    return answer()

link.answer = answer_after_all_is_sent
for epoch in trial.epochs():
    pass
trial.report(loss=trial.length, checkpoint=lambda d: (d / "x").touch())
"""


def test_command_that_is_run_again_obeys_suspend_read_together_with_go_on(tmp_path: Path, make: Make) -> None:
    (tmp_path / "gated.py").write_text(GATED)
    backend = make(f"{sys.executable} gated.py", EntrypointKind.COMMAND)

    def answer(report: ValidationReported) -> Command | None:
        if report.length > 1:
            return finish(report)
        backend.dispatch([ContinueAttempt(0, 1, 31), Suspend(0, 1)])
        (tmp_path / "sent").touch()
        return None

    events = drive(backend, [job()], answer)
    assert losses(events) == [1]
    assert events[-1] == AttemptEnded(0, 1, 1)


def test_command_gets_answer_that_its_worker_read_together_with_the_job(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = Channel(theirs)
        # As for a process of rank 1, when that of rank 0 has asked before.
        ours.sendall(b'["job"]\n["continue",3]\n')
        assert channel.receive() == ["job"]
        ours.sendall(b'["finish",false]\n')
        run_command = Runner(f"{sys.executable} script.py train", str(tmp_path))
        first = WorkerJob(
            0, 1, 1, {"optimizer": {"lr": 0.5}}, 0, str(tmp_path / "checkpoints"), metric="loss", unit="epochs"
        )
        assert run_command(first, channel, tmp_path / "log") == ["AttemptEnded", 3]


def test_command_that_never_calls_get_trial_fails(make: Make) -> None:
    backend = make("echo nothing to see", EntrypointKind.COMMAND)
    events = drive(backend, [job()])
    assert "ashwood.get_trial()" in error(events)
    assert "nothing to see" in error(events)


@pytest.mark.parametrize(
    ("shell", "words"),
    [("exit 255", "exit code 255"), ("kill -9 $$", "killed by SIGKILL"), ("sh -c 'kill -11 $$'; exit $?", "SIGSEGV")],
)
def test_error_describes_exit_of_command(make: Make, shell: str, words: str) -> None:
    assert words in error(drive(make(shell, EntrypointKind.COMMAND), [job()]))


def test_python_in_a_command_is_the_one_that_runs_ashwood(tmp_path: Path, make: Make) -> None:
    space = Space({"data": Const({"a b": [1]})})
    command = (
        "python -c 'import ashwood, os, sys; print(sys.prefix, os.environ[\"ASHWOOD_HPARAMS\"])'; echo {{data}} {data}"
    )
    drive(make(command, EntrypointKind.COMMAND, space=space), [job(hparams={"data": {"a b": [1]}})])
    lines = trial_log(tmp_path / "logs", 0).read_text().splitlines()
    assert lines[1:] == [f'{sys.prefix} {{"data": {{"a b": [1]}}}}', '{data} {"a b": [1]}']


def test_placeholders_of_trial_and_experiment(tmp_path: Path, make: Make) -> None:
    command = "echo {trial.id} {trial.seed} {experiment.id} {experiment.name} {args}"
    backend = make(command, EntrypointKind.COMMAND, space=Space({"x": Const(1)}), name="it's mine")
    drive(backend, [job(trial=7, seed=12, hparams={"x": 1})])
    assert trial_log(tmp_path / "logs", 7).read_text().splitlines()[1:] == ["7 12 0 it's mine --x 1"]


def test_command_with_unknown_hyperparameter_is_refused(make: Make) -> None:
    with pytest.raises(BackendError, match=r"\{learning_rat\}.*did you mean 'learning_rate'\?"):
        make("train {learning_rat}", EntrypointKind.COMMAND, space=Space({"learning_rate": Const(1)}))


def test_close_kills_busy_worker_that_ignores_signals(tmp_path: Path, make: Make) -> None:
    body = (
        "import pathlib, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path('pid').write_text(str(os.getpid()))\nwhile True: time.sleep(60)"
    )
    write(tmp_path, "code_hangs.py", body)
    backend = make("code_hangs:train")
    backend.dispatch([job()])
    worker = wait_for_number(tmp_path / "pid")
    backend.close()
    wait_for_end(worker, patience=1)
    with pytest.raises(BackendError, match="closed"):
        backend.dispatch([])


def test_settings_of_the_file_contain_the_values_of_the_command_line() -> None:
    text = "hyperparameters: {lr: 1e-4, n: {type: int}}\nbackend: local\n"
    overrides = ["hyperparameters.n.minval=2", "data.path=1e-3", "backend.type=ray", "searcher.metric=a=b"]
    assert file_settings(text, overrides) == {
        "hyperparameters": {"lr": 1e-4, "n": {"type": "int", "minval": 2}},
        "backend": "local",
        "data": {"path": 1e-3},
        "searcher": {"metric": "a=b"},
    }
    assert file_settings("", overrides) == {}
