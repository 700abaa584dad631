"""Lines that a search adds to a training program, for each framework and search library."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path

from benchmarks.tables import Options, Table

PROGRAMS = Path(__file__).parent
LIBRARIES = {"Ashwood": "ashwood_search.py", "Optuna": "optuna_search.py", "Ray Tune": "ray_tune.py"}
"""Programs of each framework, beside ``plain.py``, which trains one model without any search."""

_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def tables(_options: Options) -> Iterator[Table]:
    """Yield the table of added lines."""
    rows = []
    for directory in sorted(path.parent for path in PROGRAMS.glob("*/plain.py")):
        plain = code_lines(directory / "plain.py")
        added = [added_lines(plain, code_lines(directory / program)) for program in LIBRARIES.values()]
        rows.append((f"`{directory.name}`", len(plain), *added))
    yield Table(
        "Lines of user code",
        "Lines of code that a search adds to a program that trains one model (lines that differ from it; comments and "
        "blank lines do not count). Ashwood and Ray Tune continue paused trials from checkpoints; Optuna ends them.",
        ["", "one training", *LIBRARIES],
        rows,
    )


def code_lines(path: Path) -> list[str]:
    """Return the lines of a program that contain code, without indentation, docstrings and comments."""
    text = path.read_text()
    numbers = set()
    at_start = True  # A string at the start of a logical line is a docstring.
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _NO_CODE:
            at_start = at_start or token.type == tokenize.NEWLINE
        elif not (at_start and token.type == tokenize.STRING):
            numbers.update(range(token.start[0], token.end[0] + 1))
            at_start = False
    lines = text.splitlines()
    return [lines[number - 1].strip() for number in sorted(numbers)]


def added_lines(before: list[str], after: list[str]) -> int:
    """Return the number of lines of ``after`` that are not in ``before``."""
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    return len(after) - sum(block.size for block in blocks)
