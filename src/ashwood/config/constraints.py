"""``constraints``: expressions that hold for the hyperparameters of every trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ashwood.config.hyperparameters import HYPERPARAMETERS, can_be
from ashwood.config.kinds import list_of, text
from ashwood.config.report import Report
from ashwood.config.wording import Path, shorten
from ashwood.errors import nearest
from ashwood.search.constraints import NUMBER, Kinds, Names, check_constraint, kinds_of_value
from ashwood.search.settings import Method
from ashwood.search.space import Categorical, Const, Space, Tree

CONSTRAINTS: Path = ("constraints",)
CONSTRAINTS_KIND = list_of(text("an expression in quotes"))

_DRAWS, _LEAST = 10_000, 10
"""Of so many draws at least this number must break no constraint; otherwise most time is spent with drawing again."""
_WORDS = {"true": "True", "false": "False", "null": "None"}
"""Constants of YAML, with their spelling in an expression."""


def read_space(tree: Tree, constraints: Sequence[str], report: Report) -> Space:
    """Return the space of an experiment.  Constraints that are wrong are reported and left out."""
    if report.known_bad_within(HYPERPARAMETERS):  # Messages about names and types would mislead.
        return Space(tree)
    leaves = {".".join(path): leaf for path, leaf in Space(tree).leaves()}

    def kinds_of(name: str) -> Kinds:
        if name not in leaves:
            raise ValueError(_unknown(name, leaves))
        leaf = leaves[name]
        values = leaf.vals if isinstance(leaf, Categorical) else [leaf.val] if isinstance(leaf, Const) else ()
        return frozenset().union(*map(kinds_of_value, values)) if values else frozenset((NUMBER,))

    about = Names(kinds_of, lambda name, value: name not in leaves or can_be(leaves[name], value))
    sound = []
    for number, constraint in enumerate(constraints):
        try:
            check_constraint(constraint, about)
        except ValueError as error:
            report.error((*CONSTRAINTS, number), str(error))
        else:
            sound.append(constraint)
    return Space(tree, tuple(sound))


def _unknown(name: str, leaves: Iterable[str]) -> str:
    if name in _WORDS:
        return f"{name} is written {_WORDS[name]} in an expression"
    inner = next((each for each in leaves if each.startswith(f"{name}.")), None)
    close = inner or nearest(name, list(leaves))
    hint = 'text needs quotes, and a name such as top-k is written hparams["top-k"]'
    if close:
        spelled = shorten(close) if all(map(str.isidentifier, close.split("."))) else f'hparams["{shorten(close)}"]'
        hint = f"did you mean {spelled}?"
    return f"{shorten(name)} is not the name of a hyperparameter; {hint}"


def check_possible(space: Space, method: Method, report: Report) -> None:
    """Report the constraint to blame if hardly any values, or no points of a grid, satisfy the constraints."""
    if not space.constraints or report.known_bad_within(HYPERPARAMETERS) or report.known_bad_within(CONSTRAINTS):
        return
    if method is Method.GRID:
        if space.grid_size() == 0:
            _blame([list(space.broken(values)) for _, values in space.combinations()], "points of the grid", report)
        return
    draws: list[list[int]] = []
    valid = 0
    while len(draws) < _DRAWS and valid < _LEAST:
        draws.append(list(space.broken(space.resolve(space.attempt(0, 0, len(draws), 0)))))
        valid += not draws[-1]
    if valid < _LEAST:
        _blame(draws, "draws of the hyperparameters", report)


def _blame(draws: Sequence[Sequence[int]], what: str, report: Report) -> None:
    """Report the constraint that most draws break, each of which is the list of the constraints that it breaks."""
    [(worst, times)] = Counter(number for broken in draws for number in broken).most_common(1)
    holds, valid = len(draws) - times, sum(not broken for broken in draws)
    together = f", and all constraints together for {valid:,}" if holds > valid else ""
    message = f"holds for {holds:,} of {len(draws):,} {what}{together}: relax it, or change the ranges"
    report.error((*CONSTRAINTS, worst), message)
