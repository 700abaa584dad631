"""Placeholders in commands: ``{lr}``, ``{optimizer.lr}``, ``{args}``, ``{trial.id}``."""

from __future__ import annotations

import re

PLACEHOLDER = re.compile(r"(?<![${])\{([A-Za-z_][\w.-]*)\}(?!\})")
"""``{lr}`` in a command, but neither the shell's ``${LR}`` and ``{a,b}`` nor the escaped ``{{lr}}``."""
ESCAPED = re.compile(r"\{(\{[A-Za-z_][\w.-]*\})\}")
"""``{{lr}}``, which stands for a literal ``{lr}``."""
ARGS = "args"
"""The placeholder for all hyperparameters as command-line options."""
OTHERS = (ARGS, "trial.id", "trial.seed", "trial.directory", "experiment.id", "experiment.name")
"""Placeholders for other values; a hyperparameter with such a name takes precedence."""
