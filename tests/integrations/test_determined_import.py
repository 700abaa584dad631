"""``import determined`` in processes of an experiment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ashwood.backends.local.load import IMPORT_PATH
from ashwood.integrations.determined.alias import not_offered

SOURCES = str(Path(IMPORT_PATH).parents[3])


def run(code: str, *path: str, options: tuple[str, ...] = ("-c",), python: tuple[str, ...] = ()) -> tuple[str, str]:
    """Run Python with a module search path, and return the last line of its output and of its errors."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, *python, *options, *([code] if code else [])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.stdout.strip().rpartition("\n")[2], done.stderr.strip().rpartition("\n")[2]


def replaced(code: str, *path: str, options: tuple[str, ...] = ("-c",)) -> tuple[str, str]:
    return run(code, *path, SOURCES, IMPORT_PATH, options=options)


def test_directory_on_the_search_path_contains_nothing_else() -> None:
    assert [path.name for path in Path(IMPORT_PATH).iterdir()] == ["determined"]


@pytest.mark.parametrize(
    "code",
    [
        "import determined as det; print(det.__name__)",
        "import determined as det; print(det.core.init.__module__)",
        "from determined import core; print(core.__name__)",
        "import determined.core as core; print(core.__name__)",
        "from determined.core._searcher import SearcherOperation as op; print(op.__module__)",
        "import determined.core._context; import determined; print(determined.core._context.__name__)",
    ],
)
def test_every_form_of_import_finds_the_package_of_ashwood(code: str) -> None:
    printed, error = replaced(code)
    assert printed.startswith("ashwood.integrations.determined"), error


def test_each_module_exists_once() -> None:
    code = (
        "import ashwood.integrations.determined.core as own; import determined.core as alias; "
        "from determined.core import DistributedContext; "
        "print(own is alias, alias.__spec__.name, own.DistributedContext is DistributedContext)"
    )
    assert replaced(code)[0] == "True ashwood.integrations.determined.core True"


def test_import_is_cheap_and_lazy() -> None:
    code = "import sys; import determined; print([m for m in sys.modules if m.split('.')[-1] in ('core', 'trial')])"
    assert replaced(code)[0] == "[]"


def test_installed_package_wins(tmp_path: Path) -> None:
    package = tmp_path / "determined"
    package.mkdir()
    (package / "__init__.py").write_text("name = 'the real one'\n")
    (package / "core.py").write_text("from determined import name\n")
    code = "import determined.core; print(determined.core.name, determined.core.__name__)"
    # Directories of PYTHONPATH come before those of installed packages.
    assert run(code, SOURCES, IMPORT_PATH, str(tmp_path)) == ("the real one determined.core", "")


def test_module_of_the_user_wins(tmp_path: Path) -> None:
    (tmp_path / "determined.py").write_text("mine = True\n")
    assert replaced("import determined; print(determined.mine)", str(tmp_path))[0] == "True"


def test_folder_of_data_does_not_hide_the_package(tmp_path: Path) -> None:
    (tmp_path / "determined").mkdir()
    assert replaced("import determined; print(determined.LOG_FORMAT)", str(tmp_path))[0].startswith("%(levelname)s")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import determined.estimator", "Ashwood has no Estimator"),
        ("import determined.launch.deepspeed", "write a command with the launcher itself"),
        ("from determined.experimental import client", "use ashwood.open_experiment(ID)"),
        ("from determined.experimental import core_v2", "for training code det.core"),
        ("import determined as det; det.util.json_encode({})", "determined.util is not available"),
        ("import determined as det; det.Determined()", "determined.Determined is not available"),
        ("import determined.nonsense", "Ashwood has no replacement for it"),
    ],
)
def test_what_is_not_offered_has_a_message(code: str, message: str) -> None:
    error = replaced(code)[1]
    assert message in error
    assert error.startswith(("ModuleNotFoundError: ", "AttributeError: "))
    assert "is not available: determined is not installed, Ashwood takes its place" in error


def test_most_specific_message_is_used() -> None:
    assert "call ashwood.lightning.fit(trial, …)" in not_offered("determined.pytorch.lightning.LightningAdapter")
    assert "start it with the launcher deepspeed" in not_offered("determined.pytorch.deepspeed")


def test_optional_import_can_be_caught() -> None:
    code = "try:\n    import determined.experimental\nexcept ImportError:\n    print('without')"
    assert replaced(code)[0] == "without"


def test_python_without_ashwood_says_so() -> None:
    error = run("import determined", IMPORT_PATH, python=("-S",))[1]
    assert error.startswith("ModuleNotFoundError: determined is not installed for ")
    assert error.endswith("install Ashwood there, or use the Python that runs ashwood")


def test_import_from_path_prefers_a_directory_and_forgets_its_modules(tmp_path: Path) -> None:
    for name in ("trained", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_def.py").write_text(f"import helper\nname = helper.name = {name!r}\n")
        (tmp_path / name / "helper.py").write_text("")
    code = (
        "import determined as det, model_def\n"
        f"with det.import_from_path({str(tmp_path / 'trained')!r}):\n"
        "    import model_def as trained\n"
        "import model_def as again, helper\n"
        "print(trained.name, model_def.name, again is model_def, helper.name)"
    )
    assert replaced(code, str(tmp_path / "new"))[0] == "trained new True new"


def test_launcher_is_a_program() -> None:
    printed, _ = replaced("", options=("-m", "determined.launch.torch_distributed", "--help"))
    assert printed.startswith("usage: python3 -m determined.launch.torch_distributed")
    error = replaced("", options=("-m", "determined.launch.torch_distributed", "train.py"))[1]
    assert error.endswith("run it in an experiment")


@pytest.mark.parametrize("name", ["deepspeed", "autohorovod"])
def test_other_launchers_have_a_message(name: str) -> None:
    error = replaced("", options=("-m", f"determined.launch.{name}", "train.py"))[1]
    assert f"determined.launch.{name} is not available" in error


@pytest.mark.parametrize("name", ["horovod", "tensorflow"])
def test_launcher_runs_a_script_in_one_process(name: str) -> None:
    options = ["--autohorovod"] if name == "horovod" else []
    command = ("-m", f"determined.launch.{name}", *options, sys.executable, "-c", "print('trained')")
    assert replaced("", options=command)[0] == "trained"


def test_launcher_of_horovod_refuses_a_script_with_several_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASHWOOD_SLOTS_PER_TRIAL", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    error = replaced("", options=("-m", "determined.launch.horovod", "python3", "train.py"))[1]
    assert "horovodrun -np 2 python3 train.py" in error


def test_wrap_rank_puts_the_rank_before_each_line() -> None:
    command = ("-m", "determined.launch.wrap_rank", "3", "--", sys.executable, "-c", "print('a\\rb')")
    assert replaced("", options=command)[0] == "[rank=3] b"
