"""Text on its way to a terminal, a file or a pipe: without control characters, in any locale.

Names, labels, metrics and errors are texts of users and of training code. They can hold anything, also what changes a
terminal's title or hides the lines above. All output of commands passes `printable`, either in `say` or in the console
of `ashwood.cli.output`.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from contextlib import suppress
from typing import Any, TextIO

import typer

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # all control characters but tab and line feed
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # direction of writing, and invisible ones
    "\ud800-\udfff\U000e0000-\U000e007f]"  # halves of characters, and tags
)
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
"""What colors text, moves the cursor or sets the title."""
_PLAIN = {"…": ".", "–": "-", "—": "-", "·": "-", "→": ">", "×": "x", "≤": "<", "≥": ">", "✓": "v", "✗": "x", "▸": ">"}
_PLAIN |= {"↑": "^", "━": "=", "╸": "=", "╺": "-", "─": "-", "│": "|", "“": '"', "”": '"', "‘": "'", "’": "'"}
_ERRORS = "ashwood.plain"
_STDERR = 2


def printable(text: str) -> str:
    """Return a text with ``?`` in place of control characters; tabs and line feeds stay."""
    return text if text.isprintable() else _CONTROL.sub("?", text)


def on_one_line(text: str) -> str:
    """Return a text without control characters and line breaks."""
    return printable(" ".join(text.split()))


def brief(text: str, columns: int) -> str:
    """Return a text on one line, cut to columns of a terminal, with … in place of what is left out."""
    longest = 4 * columns  # more is cut anyway, and may be megabytes
    return cut(on_one_line(text[:longest]) + text[longest:][:1], columns)


def cut(line: str, columns: int) -> str:
    """Return a line without control characters, cut to columns of a terminal."""
    line = printable(line)
    if line.isascii() and len(line) <= columns:
        return line
    from rich.cells import cell_len, set_cell_size

    return line if cell_len(line) <= columns else set_cell_size(line, columns - 1).rstrip() + "…"


def without_sequences(text: str) -> str:
    """Return what a program printed with its colors and progress bars as plain lines."""
    return printable(_SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def from_argument(text: str) -> str:
    """Return a text of the command line as UTF-8, whatever the locale."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def say(
    text: str = "",
    *,
    err: bool = False,
    nl: bool = True,
    file: TextIO | None = None,
    fg: str | None = None,
    bold: bool = False,
) -> None:
    """Print a text of one or more lines without control characters."""
    shown = printable(text)
    # Not left to click, which writes UTF-8 to a terminal of another encoding.
    out = file if file is not None else sys.stderr if err else sys.stdout
    typer.echo(typer.style(shown, fg=fg, bold=bold or None) if fg or bold else shown, out, nl=nl)


def warn(message: str) -> None:
    """Print a warning to standard error."""
    say(f"warning: {message}", fg="yellow", err=True)


class OutputLost(Exception):
    """Standard output can't be written. The text says why, and is empty if its reader, such as ``head``, is gone."""


class _Descriptor(io.FileIO):
    """Standard output or error. What standard error can't take is dropped."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if self.fileno() == _STDERR:
                return len(data)
            raise OutputLost("" if isinstance(error, BrokenPipeError) else error.strerror) from error


def prepare_streams() -> None:
    """Let standard output and error take any text in any locale, and be there although they were closed.

    A descriptor that is closed would be given to the next file that is opened, such as the database.
    """
    codecs.register_error(_ERRORS, _plain)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
        stream = getattr(sys, name)
        if stream is None and number == 0:
            sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
        elif number and stream is getattr(sys, f"__{name}__"):  # and the caller has not replaced it
            buffer = io.BufferedWriter(_Descriptor(number, "w", closefd=False))
            encoding = "utf-8" if stream is None else stream.encoding
            by_line = number == _STDERR if stream is None else stream.line_buffering or stream.write_through
            if stream is not None:
                stream.flush()
            setattr(sys, name, io.TextIOWrapper(buffer, encoding, _ERRORS, line_buffering=by_line))


def abandon(stream: TextIO) -> None:
    """Lead a stream to nowhere, so that Python can end without an error about what is left in its buffer."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Stand in for characters that an encoding does not have, by one of the same width where there is one."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(each, "?") for each in error.object[error.start : error.end]), error.end
