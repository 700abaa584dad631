"""The reference of commands is that of the command line."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_reference_of_commands_is_up_to_date() -> None:
    maker = runpy.run_path(str(ROOT / "docs/make_commands.py"))
    page = (ROOT / "docs/commands.md").read_text()
    assert page == maker["with_reference"](page), "run: .venv/bin/python docs/make_commands.py"
