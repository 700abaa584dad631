"""Names that a script sets under its main guard."""

from __future__ import annotations

import pytest

from ashwood.trial.guard import changed_names, guarded_names

SOURCE = """
import json, os.path as path
CONFIG = {"epochs": 5}
MODEL, unused = None, 1
with open(path.devnull) as file:
    pass

def train(trial):
    local = 1

if __name__ == "__main__":
    args = json.loads("{}")
    for number in range(3):
        CONFIG["epochs"] = number
    CONFIG.depth.width = 1
    MODEL = object()
    def helper():
        inner = 2
else:
    elsewhere = 1
if "__main__" == __name__:
    late = 1
"""


def test_guarded_names_are_those_bound_nowhere_else() -> None:
    assert guarded_names(SOURCE) == {"args", "number", "helper", "late"}


def test_changed_names_are_bound_above_and_changed_under_the_guard() -> None:
    assert changed_names(SOURCE) == {"CONFIG", "MODEL"}


@pytest.mark.parametrize("source", ["", "def f(:\n", "\0", "x = 1", "if __name__ != '__main__':\n    x = 1"])
def test_source_without_guard_has_no_guarded_names(source: str) -> None:
    assert guarded_names(source) == changed_names(source) == frozenset()
