"""Collects the problems of an experiment file while it is read, each with its file and line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ashwood.config.wording import Path, dotted, shorten
from ashwood.errors import ConfigError, Problem

OVERRIDE = "--set"
"""Replaces the file name in problems of values from the command line."""

_MOST_PROBLEMS = 100
_LONGEST_MESSAGE = 1_000


@dataclass(frozen=True, slots=True)
class Source:
    """The origin of an experiment's values.

    Attributes:
        file: the file as the user named it, or None if the experiment was built in Python.
        lines: the line of every key and list item.
        overridden: the paths whose values come from the command line.
    """

    file: str | None = None
    lines: Mapping[Path, int] = field(default_factory=dict)
    overridden: frozenset[Path] = frozenset()

    def place(self, path: Path) -> tuple[str | None, int | None]:
        """Return the file and line of a path, or of the innermost value around it that is in the file."""
        if path and path not in self.lines and any(path == each[: len(path)] for each in self.overridden):
            return OVERRIDE, None  # The command line also created the maps around its values.
        for end in range(len(path), -1, -1):
            if path[:end] in self.overridden:
                return OVERRIDE, None
            if path[:end] in self.lines:
                return self.file, self.lines[path[:end]]
        return self.file, None


class Report:
    """The problems and warnings of an experiment file, collected so that a user sees all of them at once.

    Attributes:
        source: origin of the values.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []
        self._paths: set[Path] = set()
        self._around: set[Path] = set()  # The paths and all that are around them.

    def error(self, path: Path, message: str, *, line: int | None = None) -> None:
        """Add the problem that the value at ``path`` is wrong or missing."""
        self.excuse(path)
        self.add(self._placed(path, message, line))

    def missing(self, path: Path, what: str) -> None:
        """Add the problem that a value is missing, unless another message covers that; ``what`` says what it is for."""
        if not self.known_bad_within(path):
            self.error(path, f"is missing: {what}")

    def add(self, problem: Problem) -> None:
        """Add a problem that has its file and line already."""
        if not self.is_full:
            self._problems.append(problem)

    def warn(self, path: Path, message: str) -> None:
        """Add a warning about an accepted value at ``path``."""
        if len(self._warnings) < _MOST_PROBLEMS:
            self._warnings.append(self._placed(path, message, None))

    @property
    def is_python(self) -> bool:
        """Whether the experiment is described in Python, and not in a file."""
        return self.source.file is None

    @property
    def is_full(self) -> bool:
        """Whether the limit of reported problems is reached, so that further ones are dropped."""
        return len(self._problems) == _MOST_PROBLEMS

    def excuse(self, path: Path) -> None:
        """Suppress problems of ``path``, because another message covers them: for example, its key is misspelt."""
        self._paths.add(path)
        self._around.update(path[:end] for end in range(len(path) + 1))

    def known_bad(self, path: Path) -> bool:
        """Return whether a problem at this path or around it was reported, so that no further message is needed."""
        return any(path[:end] in self._paths for end in range(len(path) + 1))

    def known_bad_within(self, path: Path) -> bool:
        """Return whether a problem at, around or below this path was reported."""
        return self.known_bad(path) or path in self._around

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings, one line each, in the order of the file."""
        return tuple(str(warning) for warning in sorted(self._warnings, key=_by_line))

    def check(self) -> None:
        """Raise an error if there are problems.

        Raises:
            ConfigError: lists the problems in the order of the file, at most 100.
        """
        if self._problems:
            more = [Problem("", f"there may be more problems; the first {_MOST_PROBLEMS} are shown")] * self.is_full
            raise ConfigError([*sorted(self._problems, key=_by_line), *more])

    def _placed(self, path: Path, message: str, line: int | None) -> Problem:
        file, nearest_line = self.source.place(path)
        return Problem(dotted(path), shorten(message, _LONGEST_MESSAGE), file, line or nearest_line)


def _by_line(problem: Problem) -> tuple[bool, int]:
    return problem.file == OVERRIDE, problem.line or 0
