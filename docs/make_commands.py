"""Write the reference in commands.md from the command line: ``.venv/bin/python docs/make_commands.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

from ashwood.cli.help import default_of, name_of, paragraphs, parameters_of, usage_of
from ashwood.cli.main import ALIASES, GROUPS, app

PAGE = Path(__file__).with_name("commands.md")
MARK = "<!-- make_commands.py writes everything below from the command line. -->\n"


def with_reference(page: str) -> str:
    """Return the text of the page with the present reference below the mark."""
    written, mark, _ = page.partition(MARK)
    if not mark:
        raise ValueError(f"{PAGE} must contain the line {MARK!r}, below which the reference is written")
    return written + MARK + "\n" + "\n".join(_reference())


def _reference() -> Iterator[str]:
    root = get_command(app)
    if not isinstance(root, TyperGroup):
        raise TypeError(f"the command line must be a group of commands, not {root!r}")
    commands: dict[str, Any] = dict(root.commands)
    shown = {
        group: {name: each for name, each in commands.items() if each.rich_help_panel == group and not each.hidden}
        for group in GROUPS
    }
    yield from ("## All commands", "")
    for group, listed in shown.items():
        yield from (f"| {group} | |", "|---|---|")
        for name, command in listed.items():
            yield f"| [`ashwood {name}`](#{name}) | {_cell(paragraphs(command.help)[0].removesuffix('.'))} |"
        yield ""
    hidden = [f"`{name}`" for name, command in commands.items() if command.hidden]
    yield f"Former names are still accepted: {', '.join(sorted([*hidden, *map(_code, ALIASES)]))}."
    yield ""
    yield from ("## Options of all commands", "", "Write them before the command: `ashwood --on URL list`.", "")
    yield from _table(root)
    yield from ("## Each command", "", "`ashwood COMMAND --help` shows the same.", "")
    for listed in shown.values():
        for name, command in listed.items():
            yield from (f"### {name}", "", "```text", usage_of(command, f"ashwood {name}"), "```", "")
            for paragraph in paragraphs(command.help):
                yield from (paragraph, "")
            yield from _table(command)
            examples = getattr(command.callback, "examples", ())
            if examples:
                yield from ("For example:", "", "```text", *examples, "```", "")


def _table(command: Any) -> Iterator[str]:
    shown = [each for each in parameters_of(command) if each.name not in ("install_completion", "show_completion")]
    if shown:
        yield from ("| | | default |", "|---|---|---|")
        for each in shown:
            yield f"| `{_cell(name_of(each, command))}` | {_cell(each.help or '')} | {_cell(default_of(each))} |"
        yield ""


def _code(name: str) -> str:
    return f"`{name}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text()))
