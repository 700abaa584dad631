"""Write the reference in commands.md from the command line: ``.venv/bin/python docs/make_commands.py``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

from typer.core import TyperArgument, TyperGroup, TyperOption
from typer.main import get_command

from ashwood.cli.main import app

PAGE = Path(__file__).with_name("commands.md")
MARK = "<!-- make_commands.py writes everything below from the command line. -->\n"


def with_reference(page: str) -> str:
    """Return the text of the page with the present reference below the mark."""
    written, mark, _ = page.partition(MARK)
    if not mark:
        raise ValueError(f"{PAGE} must contain the line {MARK!r}, below which the reference is written")
    return written + MARK + "\n" + "\n".join(_reference())


def _reference() -> Iterator[str]:
    group = get_command(app)
    if not isinstance(group, TyperGroup):
        raise TypeError(f"the command line must be a group of commands, not {group!r}")
    yield from ("## All commands", "", "| command | |", "|---|---|")
    for name, command in group.commands.items():
        yield f"| [`ashwood {name}`](#{name}) | {_cell(_paragraphs(command.help)[0].removesuffix('.'))} |"
    yield from ("", "## Options of all commands", "", "Write them before the command: `ashwood --on URL list`.", "")
    yield from _table(group)
    yield from ("## Each command", "", "`ashwood COMMAND --help` shows the same.", "")
    for name, command in group.commands.items():
        arguments = [_name(each, command) for each in command.params if isinstance(each, TyperArgument)]
        options = ["[OPTIONS]"] if len(arguments) < len(command.params) else []
        yield from (f"### {name}", "", "```text", " ".join(["ashwood", name, *arguments, *options]), "```", "")
        for paragraph in _paragraphs(command.help):
            yield from (paragraph, "")
        yield from _table(command)


def _table(command: Any) -> Iterator[str]:
    shown = [each for each in command.params if isinstance(each, TyperArgument | TyperOption) and not each.hidden]
    shown = [each for each in shown if each.name not in ("install_completion", "show_completion")]
    shown.sort(key=lambda each: isinstance(each, TyperOption))
    if shown:
        yield from ("| | | default |", "|---|---|---|")
        for each in shown:
            yield f"| `{_cell(_name(each, command))}` | {_cell(each.help or '')} | {_cell(_default(each))} |"
        yield ""


def _name(parameter: TyperArgument | TyperOption, command: Any) -> str:
    """Return an argument or an option as a user writes it, with the name of its value."""
    value = parameter.metavar or "|".join(_choices(parameter, command)) or str(parameter.name).upper()
    if isinstance(parameter, TyperArgument):
        value += "..." * (parameter.nargs == -1)
        return value if parameter.required else f"[{value}]"
    names = "/".join([", ".join(parameter.opts), *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {value}"


def _choices(parameter: TyperArgument | TyperOption, command: Any) -> Sequence[str]:
    """Return the values that are allowed for a parameter, or an empty list if there is no fixed set."""
    signature = inspect.signature(command.callback)
    outer = get_args(signature.parameters[str(parameter.name)].annotation)
    kinds = [*outer, *(kind for each in outer for kind in get_args(each))]
    return [str(value) for kind in kinds if inspect.isclass(kind) and issubclass(kind, StrEnum) for value in kind]


def _default(parameter: TyperArgument | TyperOption) -> str:
    """Return the default as the help shows it, or an empty string if the help shows none."""
    if parameter.required:
        return "required"
    shown = parameter.show_default
    if not isinstance(shown, str):
        shown = f"`{parameter.default}`" if parameter.default and not isinstance(parameter.default, bool) else ""
    return ", or ".join(filter(None, [f"`{parameter.envvar}`" if parameter.envvar else "", shown]))


def _paragraphs(text: str | None) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n")]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text()))
