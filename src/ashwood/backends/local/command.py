"""Fill hyperparameters into a shell command that is the training code."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ashwood.errors import TrainingCodeError, did_you_mean
from ashwood.experiment.placeholders import ARGS, ESCAPED, OTHERS, PLACEHOLDER

_SPECIAL_IN_DOUBLE_QUOTES = re.compile(r'[\\"$`]')
_SPECIAL_IN_BACKTICKS = re.compile(r"[\\`]")
_TOKEN = re.compile(
    rf"(?P<escaped>{ESCAPED.pattern})|(?P<placeholder>{PLACEHOLDER.pattern})"
    r"|(?P<pair>\\[\\'\"$`()#\n])|(?P<parenthesis>\$?\()|(?P<one>.)",
    re.DOTALL,
)


def fill_in(command: str, hparams: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    r"""Return the command with values in place of its placeholders, quoted for the shell.

    ``{lr}`` and ``{optimizer.lr}`` stand for hyperparameters, ``{args}`` for all of them as options.  ``{{lr}}``
    stands for a literal ``{lr}``, and the shell's ``${lr}`` is left alone.  The shell sees the same value whether a
    placeholder is bare, inside single quotes or inside double quotes::

        >>> fill_in("echo {text} 'run {text}' \"run {text}\"", {"text": "$HOME"}, {})
        'echo \'$HOME\' \'run $HOME\' "run \\$HOME"'

    Args:
        command: the command.
        hparams: the hyperparameters.
        others: values of the placeholders that stand for no hyperparameter, see `ashwood.experiment.placeholders`.

    Raises:
        TrainingCodeError: a placeholder is neither a hyperparameter nor one of the ``others``.
    """
    values = dict(others) | dict(_flat("", hparams))
    return "".join(_filled(command, values, hparams))


def _filled(command: str, values: Mapping[str, Any], hparams: Mapping[str, Any]) -> Iterator[str]:
    quotes = _Quotes()
    for match in _TOKEN.finditer(command):
        if match["escaped"] is not None and not quotes.in_comment:
            quotes.pass_over("}")
            yield match["escaped"][1:-1]
        elif match["placeholder"] is not None and not quotes.in_comment:
            name = match["placeholder"][1:-1]
            if name == ARGS and ARGS not in values:
                yield quotes.words(_options(hparams))
            elif name in values:
                yield quotes.value(_text(values[name]))
            else:
                raise TrainingCodeError(_unknown(name, values))
        else:
            quotes.pass_over(match[0])
            yield match[0]


def _unknown(name: str, values: Mapping[str, Any]) -> str:
    there = ", ".join(dict.fromkeys((*(name for name in values if name not in OTHERS), *OTHERS)))
    return (
        f"the command contains {{{name}}}, but there is no such hyperparameter{did_you_mean(name, values)}; "
        f"known names: {there}. Write {{{{{name}}}}} for a literal {{{name}}}"
    )


class _Quotes:
    """The quoting state of a shell command, character by character: a stack of open contexts, innermost last.

    A context is a quote, ``(`` of a subshell or ``$(``, or a backtick.
    """

    def __init__(self) -> None:
        self.in_comment = False
        self._open: list[str] = []
        self._begins_word = True

    def pass_over(self, symbol: str) -> None:
        """Pass over a character, an escaped character, or ``$(``."""
        context = self._open[-1] if self._open else ""
        begins_word, self._begins_word = self._begins_word, symbol in " \t\n;&|("
        if self.in_comment:
            self.in_comment = not symbol.endswith("\n")
        elif context == "'":
            if symbol.endswith("'"):  # A backslash escapes nothing inside single quotes.
                self._open.pop()
        elif symbol == (")" if context == "(" else context):
            self._open.pop()
        elif symbol in ('"', "`", "$("):
            self._open.append(symbol.removeprefix("$"))
        elif context != '"':
            if symbol == "#" and begins_word:
                self.in_comment = True
            elif symbol in ("'", "("):
                self._open.append(symbol)

    def value(self, text: str) -> str:
        """Return a text, escaped for this position, so that the shell sees it unchanged."""
        self._begins_word = False
        return self._within_backticks(self._quoted(text, shlex.quote(text)))

    def words(self, words: list[str]) -> str:
        """Return words, escaped for this position.

        The shell sees them as words.  Inside quotes, the program that parses the quoted text sees them.
        """
        self._begins_word = False
        text = shlex.join(words)
        return self._within_backticks(self._quoted(text, text))

    def _quoted(self, text: str, bare: str) -> str:
        match self._open[-1:]:
            case ["'"]:
                return text.replace("'", "'\"'\"'")
            case ['"']:
                return _SPECIAL_IN_DOUBLE_QUOTES.sub(r"\\\g<0>", text)
            case _:
                return bare

    def _within_backticks(self, text: str) -> str:
        for _ in range(self._open.count("`")):
            text = _SPECIAL_IN_BACKTICKS.sub(r"\\\g<0>", text)
        return text


def _options(hparams: Mapping[str, Any]) -> list[str]:
    """Return hyperparameters as words of a command line.

    A value becomes ``--name value``.  True becomes ``--name``, and false and null are left out.  A list becomes
    ``--name`` and one word for each item.
    """
    words = []
    for name, value in _flat("", hparams):
        if value is True or isinstance(value, list | tuple):
            words += [f"--{name}", *(_text(item) for item in (value if value is not True else ()))]
        elif value is False or value is None or isinstance(value, Mapping):
            continue  # Each value of a nested map is a separate option, such as --optimizer.lr.
        elif (text := _text(value)).startswith("-"):
            words.append(f"--{name}={text}")  # argparse would read a separate word -1e-05 as an option.
        else:
            words += [f"--{name}", text]
    return words


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _flat(prefix: str, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    pairs = []
    for name, value in values.items():
        pairs.append((prefix + name, value))
        if isinstance(value, Mapping):
            pairs.extend(_flat(f"{prefix}{name}.", value))
    return pairs
