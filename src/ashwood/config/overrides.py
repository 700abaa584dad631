"""Applies values of the command line to a file: ``--set searcher.max_trials=50``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ashwood.config.document import Document, parse
from ashwood.config.report import OVERRIDE
from ashwood.config.section import in_its_section
from ashwood.config.wording import Path, dotted, shown
from ashwood.errors import ConfigError, Problem
from ashwood.views.plain import put

_SHORT_FOR: dict[str, str] = {"backend": "type"}
"""Keys whose value can be a text, which stands for a map with the given key."""


def parse_hparams(texts: Sequence[str]) -> dict[str, Any]:
    """Return the hyperparameters of texts such as ``optimizer.lr=0.1``, as nested maps.

    Raises:
        ConfigError: some texts are wrong; the error lists all problems.
    """
    document = Document({})
    _, problems = apply(texts, document, option="add-trial", example="lr=0.1", placed=lambda path: path)
    for name, times in Counter(text.partition("=")[0].strip() for text in texts).items():
        if times > 1 and not problems:
            problems.append(Problem(name, f"is given {times} times: remove all but one", "add-trial"))
    if problems:
        raise ConfigError(problems)
    hparams: dict[str, Any] = document.data
    return hparams


def apply(
    overrides: Sequence[str],
    document: Document,
    *,
    option: str = OVERRIDE,
    example: str = "searcher.max_trials=50",
    placed: Callable[[Path], Path] = in_its_section,
) -> tuple[frozenset[Path], list[Problem]]:
    """Set values in the document.

    Args:
        overrides: texts such as ``searcher.max_trials=50``.
        document: the document.
        option: name of the option, for messages.
        example: such a text, for messages.
        placed: function that returns the full path of a key.

    Returns:
        The paths that were set, and the problems of the overrides that could not be applied.
    """
    done: set[Path] = set()
    problems: list[Problem] = []
    for override in overrides:
        keys, equals, text = override.partition("=")
        path: Path = placed(tuple(part.strip() for part in keys.split(".")))
        value = parse(text)
        if not equals or not all(path):
            message = f"{shown(override)} must read KEY=VALUE, for example {example}"
            problems.append(Problem("", message, option))
        elif value.flaws:
            problems.append(Problem(dotted(path), f"{shown(text)}: {value.flaws[0].message}", option))
        elif (obstacle := _put(document.data, path, value.data)) is not None:
            problems.append(Problem(dotted(path), obstacle, option))
        else:
            for line in [line for line in document.lines if line[: len(path)] == path]:
                del document.lines[line]
            done.add(path)
    return frozenset(done), problems


def _put(tree: dict[str, Any], path: Path, value: Any) -> str | None:
    """Set a value and create missing maps around it; return a message if a value on the way is not a map, or None."""
    names = [str(name) for name in path]
    first = names[0]
    if len(names) > 1 and first in _SHORT_FOR and isinstance(tree.get(first), str):
        tree[first] = {_SHORT_FOR[first]: tree[first]}
    obstacle = put(tree, names, value)
    if obstacle is None:
        return None
    around = dotted(tuple(obstacle))
    return f"{around} isn't a map, so nothing can be set inside it: set {around} as a whole"


def with_overrides(text: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the data of an experiment file in which values of the command line replace others."""
    document = parse(text)
    apply(overrides, document)
    return dict(document.data)
