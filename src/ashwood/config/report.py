"""Everything that is wrong with a file, gathered while it is read, each with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ashwood.config.wording import Path, dotted, shorten
from ashwood.errors import ConfigError, Problem

OVERRIDE = "--set"
"""Stands for the file in problems of values that the command line gave."""

_MOST_PROBLEMS = 100
_LONGEST_MESSAGE = 1_000


@dataclass(frozen=True, slots=True)
class Source:
    """Where the values of an experiment come from.

    Attributes:
        file: the file as the user named it; None where the experiment was built in Python.
        lines: the line of every key and list item.
        overridden: the paths whose values the command line gave.
    """

    file: str | None = None
    lines: Mapping[Path, int] = field(default_factory=dict)
    overridden: frozenset[Path] = frozenset()

    def place(self, path: Path) -> tuple[str | None, int | None]:
        """File and line of a path, or of the nearest thing around it that the file has."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.overridden:
                return OVERRIDE, None
            if path[:end] in self.lines:
                return self.file, self.lines[path[:end]]
        return self.file, None


class Report:
    """Collects problems and warnings, so that a user learns all of them at once.

    Attributes:
        source: where the values come from.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []
        self._paths: set[Path] = set()

    def error(self, path: Path, message: str, *, line: int | None = None) -> None:
        """The value at ``path``, or that there is none, is wrong."""
        self._paths.add(path)
        self.add(self._placed(path, message, line))

    def add(self, problem: Problem) -> None:
        """A problem that has its place already."""
        if not self.is_full:
            self._problems.append(problem)

    def warn(self, path: Path, message: str) -> None:
        """Something at ``path`` is accepted, but the user should know."""
        if len(self._warnings) < _MOST_PROBLEMS:
            self._warnings.append(self._placed(path, message, None))

    @property
    def is_python(self) -> bool:
        """Whether the experiment is described in Python, and not in a file."""
        return self.source.file is None

    @property
    def is_full(self) -> bool:
        """Return whether the limit of reported problems is reached, so that further ones are dropped."""
        return self.room == 0

    @property
    def room(self) -> int:
        """How many more problems are kept."""
        return _MOST_PROBLEMS - len(self._problems)

    def excuse(self, path: Path) -> None:
        """What is wrong with ``path`` was said elsewhere, as with the misspelling of its key."""
        self._paths.add(path)

    def known_bad(self, path: Path) -> bool:
        """A problem at this path or around it was reported, so nothing more need be said."""
        return any(path[:end] in self._paths for end in range(len(path) + 1))

    def known_bad_within(self, path: Path) -> bool:
        """A problem at, around or below this path was reported."""
        return self.known_bad(path) or any(bad[: len(path)] == path for bad in self._paths)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line each, in the order of the file."""
        return tuple(str(warning) for warning in sorted(self._warnings, key=_by_line))

    def check(self) -> None:
        """Go on only if nothing is wrong.

        Raises:
            ConfigError: with every problem, in the order of the file.
        """
        if self._problems:
            more = [Problem("", f"there may be more problems; the first {_MOST_PROBLEMS} are shown")] * self.is_full
            raise ConfigError([*sorted(self._problems, key=_by_line), *more])

    def _placed(self, path: Path, message: str, line: int | None) -> Problem:
        file, nearest_line = self.source.place(path)
        return Problem(dotted(path), shorten(message, _LONGEST_MESSAGE), file, line or nearest_line)


def _by_line(problem: Problem) -> tuple[bool, int]:
    return problem.file == OVERRIDE, problem.line or 0
