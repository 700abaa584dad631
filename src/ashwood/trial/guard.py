"""Find names that a script sets under ``if __name__ == "__main__"``, the main guard, which workers do not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def hint_of_guard(name: str, file: str | None) -> str:
    """Return a hint if a Python file binds a name only under its main guard, otherwise an empty text."""
    if file is None or name not in guarded_names(read_source(file)):
        return ""
    return (
        f': {name} is set under if __name__ == "__main__" in {Path(file).name}, which worker processes do not run. '
        "Pass it as data= and read trial.data, or set it above"
    )


def read_source(file: str | Path) -> str:
    """Return the source of a Python file, or an empty text if it cannot be read."""
    with suppress(OSError, UnicodeDecodeError):
        return Path(file).read_text(encoding="utf-8")
    return ""


def guarded_names(source: str) -> frozenset[str]:
    """Return the names that a module binds under its main guard, and nowhere else at its top level."""
    guarded, others = _split(source)
    return frozenset(_bound(guarded)) - frozenset(_bound(others))


def changed_names(source: str) -> frozenset[str]:
    """Return the names that a module binds at its top level, and binds again or changes under its main guard."""
    guarded, others = _split(source)
    known = frozenset(_bound(others))
    changed = {root for node in guarded for target in _targets(node) if (root := _root(target)) is not None}
    return known & changed


def _split(source: str) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """Return the statements under the main guard, and the others at the top level."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError):
        return [], []
    guarded: list[ast.stmt] = []
    others: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, ast.If) and _is_guard(statement.test):
            guarded += statement.body
            others += statement.orelse
        else:
            others.append(statement)
    return guarded, others


def _is_guard(test: ast.expr) -> bool:
    if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(test.ops[0], ast.Eq):
        return False
    sides = (test.left, test.comparators[0])
    return any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides) and any(
        isinstance(side, ast.Constant) and side.value == "__main__" for side in sides
    )


def _bound(statements: list[ast.stmt]) -> Iterator[str]:
    """Yield the names that statements bind in their own scope."""
    pending: list[ast.AST] = list(statements)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler) and node.name is not None:
            yield node.name
        pending += ast.iter_child_nodes(node)


def _targets(statement: ast.stmt) -> Iterator[ast.expr]:
    """Yield the targets of assignments in a statement and in the statements inside it."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            yield node


def _root(target: ast.expr) -> str | None:
    """Return the name at the beginning of ``name.attribute[item]``, or None if there is no name."""
    while isinstance(target, ast.Attribute | ast.Subscript | ast.Starred):
        target = target.value
    return target.id if isinstance(target, ast.Name) else None
