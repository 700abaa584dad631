"""Training code that is a shell command."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from ashwood.errors import TrainingCodeError
from ashwood.trial.values import nearest

# {name} and {outer.inner}, but neither the shell's ${name} nor the escaped {{name}}.
_PLACEHOLDER = re.compile(r"(?<![${])\{([A-Za-z_][\w.-]*)\}(?!\})")
_ESCAPED = re.compile(r"\{(\{[A-Za-z_][\w.-]*\})\}")


def fill_in(command: str, hparams: Mapping[str, Any]) -> str:
    """The command with hyperparameters in place of ``{lr}`` and ``{optimizer.lr}``, quoted for the shell.

    ``{{lr}}`` stands for a literal ``{lr}``, and the shell's ``${lr}`` is left alone.

    Raises:
        TrainingCodeError: a placeholder names no hyperparameter.
    """
    values = dict(_flat("", hparams))

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            raise TrainingCodeError(
                f"the command names {match[0]}, but there is no such hyperparameter{nearest(name, values)}; "
                f"there is: {', '.join(values) or 'none'} (write {{{match[0]}}} for a literal {match[0]})"
            )
        found = values[name]
        return shlex.quote(found if isinstance(found, str) else json.dumps(found))

    return _ESCAPED.sub(r"\1", _PLACEHOLDER.sub(value, command))


def _flat(prefix: str, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    pairs = []
    for name, value in values.items():
        pairs.append((prefix + name, value))
        if isinstance(value, Mapping):
            pairs.extend(_flat(f"{prefix}{name}.", value))
    return pairs
