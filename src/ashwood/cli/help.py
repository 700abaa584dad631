"""The text of ``--help``, and the names of parameters in it and in the reference of commands."""

from __future__ import annotations

import inspect
import os
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, get_args

import typer
from typer.core import TyperArgument, TyperOption

_WIDEST = 100
_INDENT = 2
_WIDEST_NAME = 26
"""Names of options that are wider than this have their text on the next line."""

_FORMER = ("--n", "--best")
"""Former names of ``--limit``, which are still accepted."""

Parameter = TyperArgument | TyperOption


def parameters_of(command: Any) -> list[Parameter]:
    """Return the parameters that help shows, the arguments first."""
    shown = [each for each in command.params if isinstance(each, Parameter) and not each.hidden]
    return sorted(shown, key=lambda each: isinstance(each, TyperOption))


def usage_of(command: Any, name: str) -> str:
    """Return the line that shows how to write a command."""
    shown = parameters_of(command)
    arguments = [name_of(each, command) for each in shown if isinstance(each, TyperArgument)]
    options = ["[OPTIONS]"] if len(arguments) < len(shown) else []
    return " ".join([name, *arguments, *options])


def name_of(parameter: Parameter, command: Any) -> str:
    """Return an argument or an option as a user writes it, with the name of its value."""
    value = parameter.metavar or "|".join(_choices(parameter, command)) or str(parameter.name).upper()
    if isinstance(parameter, TyperArgument):
        value += "..." * (parameter.nargs == -1)
        return value if parameter.required else f"[{value}]"
    opts = [each for each in parameter.opts if each not in _FORMER or len(parameter.opts) == 1]
    names = "/".join([", ".join(opts), *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {value}"


def _choices(parameter: Parameter, command: Any) -> Sequence[str]:
    """Return the values that are allowed for a parameter, or an empty list if there is no fixed set."""
    signature = inspect.signature(command.callback)
    if parameter.name not in signature.parameters:
        return []
    outer = get_args(signature.parameters[str(parameter.name)].annotation)
    kinds = [*outer, *(kind for each in outer for kind in (*get_args(each), *map(_inner, get_args(each))))]
    return [str(value) for kind in kinds if inspect.isclass(kind) and issubclass(kind, StrEnum) for value in kind]


def _inner(kind: Any) -> Any:
    return next(iter(get_args(kind)), None)


def default_of(parameter: Parameter) -> str:
    """Return the default of a parameter, or an empty string if help shows none."""
    if parameter.required:
        return "required"
    shown = parameter.show_default
    if not isinstance(shown, str):
        known = parameter.default and not isinstance(parameter.default, bool) and shown
        shown = f"`{parameter.default}`" if known else ""
    return ", or ".join(filter(None, [f"`{parameter.envvar}`" if parameter.envvar else "", shown]))


def paragraphs(text: str | None) -> list[str]:
    """Return the paragraphs of a docstring, each on one line."""
    return [" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n")]


# -- text ---------------------------------------------------------------------------------------------


def help_of_command(command: Any, examples: Sequence[str], name: str) -> str:
    """Return the help of a command: usage, description, examples, arguments and options."""
    lines = [f"{_bold('Usage:')} {usage_of(command, name)}", ""]
    for paragraph in paragraphs(command.help):
        lines += [*_wrapped(paragraph), ""]
    if examples:
        lines += [_bold("Examples"), *(f"  {example}" for example in examples), ""]
    shown = parameters_of(command)
    arguments = [each for each in shown if isinstance(each, TyperArgument)]
    lines += _section("Arguments", [(name_of(each, command), _described(each)) for each in arguments])
    options = [(name_of(each, command), _described(each)) for each in shown if each not in arguments]
    lines += _section("Options", [*options, ("--help, -h", "Show this text.")])
    return "\n".join(lines)


def help_of_group(group: Any, commands: Sequence[tuple[str, Sequence[tuple[str, str]]]], name: str) -> str:
    """Return the help of all commands; ``commands`` are the groups with the names and descriptions of commands."""
    lines = [f"{_bold('Usage:')} {name} [OPTIONS] COMMAND ...", "", *_wrapped(group.help), ""]
    widest = max(len(each) for _, listed in commands for each, _ in listed)
    for title, listed in commands:
        lines += _section(title, listed, widest)
    options = [(name_of(each, group), _described(each)) for each in parameters_of(group)]
    lines += _section("Options", [*options, ("--help, -h", "Show this text, or that of a command after its name.")])
    return "\n".join([*lines, *(line for each in paragraphs(group.epilog) for line in [*_wrapped(each), ""])])


def _described(parameter: Parameter) -> str:
    default = default_of(parameter).replace("`", "")
    note = f" [default: {default}]" if default and not parameter.required else ""
    return f"{parameter.help or ''}{note}"


def _section(title: str, rows: Sequence[tuple[str, str]], widest: int = 0) -> Iterator[str]:
    """Yield a title, the rows in two columns, and an empty line; nothing if there are no rows."""
    if not rows:
        return
    widest = min(max(widest, *(len(name) for name, _ in rows)), _WIDEST_NAME)
    yield _bold(title)
    for name, text in rows:
        lines = _wrapped(text, _INDENT + widest + 2)
        head = f"{'':{_INDENT}}{name:<{widest}}  "
        if len(name) > widest:
            yield f"{'':{_INDENT}}{name}"
            yield from lines
        else:
            yield head + (lines[0].lstrip() if lines else "")
            yield from lines[1:]
    yield ""


def _wrapped(text: str, indent: int = 0) -> list[str]:
    """Return lines that fit the terminal; words such as options and paths are not broken."""
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    space = " " * indent
    return textwrap.wrap(
        text,
        max(width, indent + 20),
        initial_indent=space,
        subsequent_indent=space,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _bold(text: str) -> str:
    return text if "NO_COLOR" in os.environ else typer.style(text, bold=True)
