"""Every command and snippet of the documentation is tried."""

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
from ashwood.config import experiment_schema, read_experiment

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "examples/README.md",
    ROOT / "CONTRIBUTING.md",
]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"`(ashwood [^`]+)`")


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


def is_slow(block: Block) -> bool:
    """Return whether a block starts a cluster, or runs or plans a search as other tests do, too."""
    searches = block.language == "sh" and ("ashwood run " in block.text or "ashwood plan " in block.text)
    return "--ray-address local" in block.text or (searches and block.page.name != "README.md")


def in_blocks(language: str) -> pytest.MarkDecorator:
    cases = [pytest.param(block, marks=[pytest.mark.slow] if is_slow(block) else []) for block in blocks(language)]
    return pytest.mark.parametrize("block", cases, ids=str)


def environment(place: Path) -> dict[str, str]:
    # An unset home: what the page says is what a reader gets.
    keep = {name: value for name, value in os.environ.items() if not name.startswith("ASHWOOD_")}
    return keep | {"PATH": f"{Path(sys.executable).parent}:{keep['PATH']}", "HOME": str(place)}


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


@in_blocks("python")
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "ashwood.run(" in block.text or "ashwood.create(" in block.text:
        (tmp_path / "search.py").write_text(block.text)
        done = subprocess.run(
            [sys.executable, "search.py"], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return
    code = compile(block.text, str(block), "exec")
    if block.page.name == "architecture.md":
        return  # the three lines that are the system, not a program
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


def keys(schema: dict[str, Any], properties: dict[str, Any]) -> Iterator[str]:
    for name, node in properties.items():
        if "Of Determined, no effect" not in node.get("description", ""):
            yield name
            yield from keys(
                schema,
                schema["$defs"][node["$ref"].split("/")[-1]].get("properties", {})
                if "$ref" in node
                else node.get("properties", {}),
            )


def test_every_key_of_an_experiment_file_is_documented() -> None:
    schema = experiment_schema()
    page = (ROOT / "docs/experiment-file.md").read_text()
    missing = [key for key in keys(schema, schema["properties"]) if not re.search(rf"\b{key}\b", page)]
    assert missing == []


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def commands_in_text() -> list[str]:
    found = {command for page in PAGES for command in COMMAND.findall(FENCE.sub("", page.read_text()))}
    return sorted(found)


@pytest.mark.parametrize("command", commands_in_text())
def test_commands_in_the_text_exist_with_their_options(command: str) -> None:
    _, name, *rest = shlex.split(command)
    group = get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    if name.startswith("-"):
        assert name in {"--version", "--help", "--install-completion"}
        return
    if name == "COMMAND":
        return
    known = {option for parameter in group.commands[name].params for option in parameter.opts} | {"--help", "-h"}
    assert {word for word in rest if word.startswith("-")} <= known
