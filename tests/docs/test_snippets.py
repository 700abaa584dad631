"""Every command and snippet of the documentation is tried."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import typer
from typer.main import get_command

from ashwood.cli.main import app
from ashwood.config import read_experiment

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/frameworks").glob("*.md")),
    ROOT / "examples/README.md",
    ROOT / "CONTRIBUTING.md",
]
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"`(ashwood [^`]+)`")
FRAMEWORKS = {
    "ConfigSpace",
    "catboost",
    "datasets",
    "determined",
    "keras",
    "lightgbm",
    "lightning",
    "torch",
    "transformers",
    "xgboost",
}
"""Libraries whose snippets run only if they are installed."""
os.environ.setdefault("KERAS_BACKEND", "torch")  # Keras' default is TensorFlow, which not every environment has.
MAIN_GUARD = 'if __name__ == "__main__":'


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            indent, found, body = match.groups()
            if found == language:
                line = text.count("\n", 0, match.start()) + 1
                yield Block(page, line, found, re.sub(f"^{indent}", "", body, flags=re.MULTILINE))


FIRST_EXPERIMENT = next(block for block in blocks("sh") if block.page.name == "guide.md")


def is_slow(block: Block) -> bool:
    """Return whether a block starts a cluster, or runs or plans a search as other tests do, too."""
    searches = block.language == "sh" and ("ashwood run " in block.text or "ashwood plan " in block.text)
    return (
        "--ray-address local" in block.text
        or "from ray import tune" in block.text
        or (searches and block != FIRST_EXPERIMENT)
    )


def in_blocks(language: str) -> pytest.MarkDecorator:
    cases = []
    for block in blocks(language):
        marks = [pytest.mark.slow] if is_slow(block) else []
        if block.page.parent.name == "frameworks":  # Several processes import frameworks, for seconds each.
            marks.append(pytest.mark.timeout(600))
        cases.append(pytest.param(block, marks=marks))
    return pytest.mark.parametrize("block", cases, ids=str)


def environment(place: Path) -> dict[str, str]:
    # An unset home: what the page says is what a reader gets.
    keep = {name: value for name, value in os.environ.items() if not name.startswith("ASHWOOD_")}
    return keep | {"PATH": f"{Path(sys.executable).parent}:{keep['PATH']}", "HOME": str(place)}


def run_script(text: str, directory: Path) -> str:
    (directory / "search.py").write_text(text)
    # Otherwise Ray Tune would join the cluster of another test on this machine, and wait for its cores.
    variables = environment(directory) | {"RAY_ADDRESS": "local"}
    done = subprocess.run([sys.executable, "search.py"], cwd=directory, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@in_blocks("sh")
def test_commands_of_a_block_work_one_after_the_other(block: Block, tmp_path: Path) -> None:
    script = []
    for line in block.text.splitlines():
        command = line.split("  #")[0].strip()
        if command.startswith("make "):
            # Its recipe is what runs this test; that there is one is what can be tried here.
            assert subprocess.run(["make", "-n", *command.split()[1:]], cwd=ROOT, capture_output=True).returncode == 0
        elif command and not command.startswith("pip install"):
            script.append(command)
    done = subprocess.run(
        ["bash", "-euc", "\n".join(script)], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@in_blocks("yaml")
def test_experiment_files_load_without_a_warning(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(block.text)
    assert read_experiment(file).warnings == ()


def libraries(block: Block) -> set[str]:
    return set(re.findall(r"^(?:import|from) (\w+)", block.text, re.MULTILINE))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with PyTorch and NumPy 2
@in_blocks("python")
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile(block.text, str(block), "exec")
    if block.page.name == "architecture.md":
        return  # the three lines that are the system, not a program
    if not all(importlib.util.find_spec(library) for library in libraries(block)):
        assert libraries(block) & FRAMEWORKS
        pytest.skip("the framework is not installed")
    if MAIN_GUARD in block.text:
        run_script(block.text, tmp_path)
        return
    monkeypatch.chdir(tmp_path)
    import ashwood

    model = SimpleNamespace(load=lambda path: None, save=lambda path: path.write_text("weights"))
    names = {
        "ashwood": ashwood,
        "build": lambda **hparams: model,
        "model": model,
        "fit_one_epoch": lambda model: None,
        "step": lambda model, batch: None,
        "train_some_batches": lambda model, batches: None,
        "evaluate": lambda model: 0.5,
        "save": lambda directory: (directory / "model").write_text("weights"),
        "trial": ashwood.get_trial(batches=10),
    }
    exec(code, names)
    if "def train(" in block.text:
        names["train"](ashwood.get_trial(hparams={"lr": 0.1}, epochs=2))  # type: ignore[operator]


def test_output_in_readme_is_that_of_its_search(tmp_path: Path) -> None:
    search = next(block for block in blocks("python") if block.page.name == "README.md")
    shown = next(block for block in blocks("text") if block.page.name == "README.md")
    # The number of a trial depends on the order in which its bracket and the others create trials.
    printed = re.sub(r"trial \d+", "trial N", run_script(search.text, tmp_path)).splitlines()
    assert set(re.sub(r"trial \d+", "trial N", shown.text).splitlines()) <= set(printed)


def test_determined_file_and_its_training_code_run_together(tmp_path: Path) -> None:
    page = ROOT / "docs/from-determined.md"
    (file,) = (block.text for block in blocks("yaml") if block.page == page)
    _, after = (block.text for block in blocks("python") if block.page == page)
    (tmp_path / "experiment.yaml").write_text(file)
    (tmp_path / "train.py").write_text(after)
    command = ["ashwood", "run", "experiment.yaml", "--set", "searcher.max_trials=4"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "experiment 1 completed" in done.stdout


def anchors(page: Path) -> set[str]:
    """Return the names of the places in a page that links can lead to, as a view of the repository makes them."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    named = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return named | set(re.findall(r'<a id="([^"]+)">', text))


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^):]+)\)", FENCE.sub("", page.read_text())):
            path, _, anchor = target.partition("#")
            linked = page.parent / path if path else page
            assert linked.exists(), f"{page.relative_to(ROOT)} links to {target}"
            if anchor:
                assert anchor in anchors(linked), f"{page.relative_to(ROOT)} links to {target}"


def test_every_page_is_listed() -> None:
    page = ROOT / "docs/README.md"
    linked = {(page.parent / target).resolve() for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())}
    assert set(PAGES) - {ROOT / "README.md", page} <= linked


def test_files_that_contributors_read_about_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:src|tests|docs|examples|benchmarks|\.ci)/[\w/.-]*|[\w.-]+\.(?:md|toml))`", text)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def commands_in_text() -> list[str]:
    found = {command for page in PAGES for command in COMMAND.findall(FENCE.sub("", page.read_text()))}
    return sorted(found)


@pytest.mark.parametrize("command", commands_in_text())
def test_commands_in_the_text_exist_with_their_options(command: str) -> None:
    _, *words = shlex.split(command)
    group = get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    known = options(group) | {"--install-completion"}
    if words[0] == "--on":
        del words[:2]
    name, *rest = words
    if name.startswith("-"):
        assert name in known
    elif name != "COMMAND":
        assert {word for word in rest if word.startswith("-")} <= options(group.commands[name])


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
