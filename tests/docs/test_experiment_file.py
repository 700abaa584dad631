"""The tables of keys are those of the experiment file's declarations."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_tables_of_keys_are_up_to_date() -> None:
    maker = runpy.run_path(str(ROOT / "docs/make_experiment_file.py"))
    page = (ROOT / "docs/experiment-file.md").read_text()
    assert page == maker["with_tables"](page), "run: .venv/bin/python docs/make_experiment_file.py"
