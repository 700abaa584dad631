"""Output is plain text without control characters, in any locale and on any stream."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from ashwood.terminal.output import print_json, print_table
from ashwood.terminal.text import brief, cut, on_one_line, printable, without_sequences

from .conftest import RANDOM, Workplace
from .terminal import on_terminal

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]")
NASTY = "a\x1b]0;title\x07b\x1b[2J\x9bc\r\u202ed[bold]e[/nothing]☃"
METRIC = "loss\x1b[31m"
TRAIN = f"""
def train(trial):
    for epoch in trial.epochs():
        if trial.hparams.x < 0.2:
            raise ValueError("half \\ud800 a character" + {NASTY!r} + "x" * 5_000)
        trial.report({{{METRIC!r}: trial.hparams.x, "big": 1.0}})
"""
EXPERIMENT = RANDOM.replace("name: toy", f"name: {json.dumps(NASTY)}\ndescription: {json.dumps(NASTY)}").replace(
    "metric: loss", f"metric: {json.dumps(METRIC)}"
)
COMMANDS = [
    ["list"],
    ["describe", "1"],
    ["trials", "1"],
    ["best", "1", "-n", "5"],
    ["events", "1"],
    ["events", "1", "--json"],
    ["watch", "1", "--once"],
    ["checkpoints", "1"],
    ["label", "1", "x"],
    ["note", "1"],
    ["list", "--json"],
    ["describe", "1", "--json"],
    ["trials", "1", "--json"],
    ["preview-search", "toy.yaml"],
]
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    workplace = Workplace(tmp_path_factory.mktemp("nasty"))
    workplace.write(EXPERIMENT + "max_restarts: 0\n", TRAIN)
    printed = workplace.ashwood("run", "toy.yaml", "--workers", "2")
    assert not CONTROL.search(printed)
    assert "[bold]e[/nothing]" in printed
    workplace.ashwood("label", "1", NASTY, "wide" * 500)
    workplace.ashwood("note", "1", f"# {NASTY}\n\n[link](javascript:{NASTY})\n\n    {NASTY}\n")
    return workplace


def ashwood(workplace: Workplace, *arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-P", "-c", "from ashwood.cli.main import main; main()", *arguments],
        cwd=workplace.path,
        env={**os.environ, **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )


@pytest.mark.parametrize("command", COMMANDS, ids=map(" ".join, COMMANDS))
def test_no_control_character_is_printed(nasty: Workplace, command: list[str]) -> None:
    printed = nasty.ashwood(*command)
    assert printed
    assert not CONTROL.search(printed)


@pytest.mark.parametrize("command", COMMANDS, ids=map(" ".join, COMMANDS))
@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_output_works_in_any_locale(nasty: Workplace, command: list[str], encoding: str) -> None:
    ended = ashwood(nasty, *command, **C_LOCALE, PYTHONIOENCODING=encoding)
    assert ended.returncode == 0, ended.stderr
    assert not CONTROL.search(ended.stdout.decode(encoding))
    if "--json" in command:
        for line in ended.stdout.splitlines() if command[0] == "events" else [ended.stdout]:
            json.loads(line)


def test_a_run_works_in_the_c_locale(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)
    workplace.write(EXPERIMENT + "max_restarts: 0\n", TRAIN)
    ended = ashwood(workplace, "run", "toy.yaml", "--workers", "2", **C_LOCALE)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.isascii()


def test_a_name_given_in_the_c_locale_is_the_same_name(nasty: Workplace) -> None:
    assert ashwood(nasty, "label", "1", "größer", **C_LOCALE).returncode == 0
    assert "größer" in nasty.json("list")[0]["labels"]


_OTHERS = (["events", "1"], ["list", "--json"])


@pytest.mark.parametrize("command", [["list"], *(pytest.param(x, marks=pytest.mark.slow) for x in _OTHERS)])
def test_a_full_or_closed_output_ends_a_command_without_a_traceback(nasty: Workplace, command: list[str]) -> None:
    run = f"{sys.executable} -P -m ashwood {' '.join(command)}"
    for redirection, code, printed in [
        ("> /dev/full", 1, "error: cannot write to standard output: No space left on device\n"),
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        ("2> /dev/full > /dev/null", 0, ""),
        ("| true; exit ${PIPESTATUS[0]}", 0, ""),
    ]:
        ended = subprocess.run(
            ["bash", "-c", f"{run} {redirection}"], cwd=nasty.path, stderr=subprocess.PIPE, text=True, check=False
        )
        assert (ended.returncode, ended.stderr) == (code, printed), redirection


@pytest.mark.parametrize("command", [["list"], ["describe", "1"], ["watch", "1"], ["events", "1"]])
def test_lines_are_cut_to_the_width_of_a_terminal(nasty: Workplace, command: list[str]) -> None:
    with on_terminal(nasty, *command, columns=90) as screen:
        lines = screen.left().splitlines()
    assert lines
    assert max(map(cell_len, lines)) <= 90
    assert not any(CONTROL.search(line) for line in lines)


def test_a_log_reaches_a_terminal_without_control_characters(nasty: Workplace) -> None:
    log = nasty.path / ".ashwood" / "experiments" / "1" / "logs" / "trial-0.log"
    text = "\x1b[31mred\x1b[0m 10 %\r 20 %\n\x1b]0;title\x07more\x9b\n"
    log.write_text(text)
    with on_terminal(nasty, "logs", "1", "0") as screen:
        assert screen.left().splitlines() == ["red 10 %", " 20 %", "more?"]
    assert nasty.ashwood("logs", "1", "0") == text


# -- pieces -------------------------------------------------------------------------------------------


def test_printable_keeps_harmless_characters() -> None:
    harmless = "größer ☃ 世界 \N{NO-BREAK SPACE}\t👩\u200d👩\u200d👧\n"
    assert printable(harmless) == harmless
    assert printable("\x00\x1b\x7f\x9b\ud800\u202e") == "??????"


def test_texts_are_cut_to_columns() -> None:
    assert brief("short", 5) == "short"
    assert brief("longer", 5) == "long…"
    assert brief("a\nb  c", 60) == "a b c"
    assert brief("世" * 50, 11) == "世" * 5 + "…"
    assert cell_len(brief("世" * 50_000, 10)) <= 10
    assert cut("a  b", 4) == "a  b"
    assert on_one_line("a\x1b\nb") == "a? b"


def test_sequences_of_control_characters_are_left_out() -> None:
    assert without_sequences("\x1b[1;31mred\x1b[0m\r\n\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ \x1bZ") == "red\nlink "


def test_table_cells_are_plain_text_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["[red]a", "b"], [["[bold]x[/nothing]", "c\nd\x1b"]])
    assert capsys.readouterr().out.splitlines()[1].split() == ["[bold]x[/nothing]", "c", "d?"]


def test_json_escapes_unprintable_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": NASTY + "\ud800"})
    printed = capsys.readouterr().out
    assert not CONTROL.search(printed)
    assert json.loads(printed) == {"a": NASTY + "\ud800"}
