"""Text for a terminal, a file or a pipe: without control characters, in any locale.

Names, labels, metrics and errors come from users and training code. They can contain anything, even sequences that
change the title of a terminal or hide lines. All output of commands passes `printable`, either in `say` or in the
console of `ashwood.terminal.output`.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import shutil
import sys
import textwrap
from contextlib import suppress
from typing import Any, TextIO

import typer

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # all control characters except tab and line feed
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # text direction and invisible characters
    "\ud800-\udfff\U000e0000-\U000e007f]"  # surrogates and tag characters
)
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
"""An escape sequence that colors text, moves the cursor or sets the title."""
_PATH = re.compile(r"[ #]*[\w.~-]*:?/")
"""The beginning of a line whose first word is a path or a URL."""
_PLAIN = {"…": ".", "–": "-", "—": "-", "·": "-", "→": ">", "×": "x", "≤": "<", "≥": ">", "✓": "v", "✗": "x", "▸": ">"}
_PLAIN |= {"◇": "a", "◆": "k"}
_PLAIN |= {"↑": "^", "━": "=", "╸": "=", "╺": "-", "─": "-", "│": "|", "“": '"', "”": '"', "‘": "'", "’": "'"}
_ERRORS = "ashwood.plain"
_STDERR = 2
_NARROWEST = 20


def printable(text: str) -> str:
    """Return a text with ``?`` in place of control characters; tabs and line feeds stay."""
    return text if text.isprintable() else _CONTROL.sub("?", text)


def on_one_line(text: str) -> str:
    """Return a text without control characters and line breaks."""
    return printable(" ".join(text.split()))


def brief(text: str, columns: int) -> str:
    """Return a text on one line, cut to columns of a terminal, with … in place of what is left out."""
    longest = 4 * columns  # The rest is cut, and processing megabytes would be slow.
    return cut(on_one_line(text[:longest]) + text[longest:][:1], columns)


def cut(line: str, columns: int) -> str:
    """Return a line without control characters, cut to columns of a terminal."""
    line = printable(line)
    if line.isascii() and len(line) <= columns:
        return line
    from rich.cells import cell_len, set_cell_size

    return line if cell_len(line) <= columns else set_cell_size(line, columns - 1).rstrip() + "…"


def without_sequences(text: str) -> str:
    """Return the output of a program as plain lines, without its colors; each state of a progress bar is a line."""
    return printable(_SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def from_argument(text: str) -> str:
    """Return an argument of the command line decoded as UTF-8, in any locale."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def say(
    text: str = "",
    *,
    err: bool = False,
    nl: bool = True,
    file: TextIO | None = None,
    fg: str | None = None,
    bold: bool = False,
    wrap: bool = False,
) -> None:
    """Print a text of one or more lines without control characters.

    On a terminal, messages on standard error and texts with ``wrap`` are wrapped at words.
    """
    shown = printable(text)
    if wrap or err:
        shown = "\n".join(part for line in shown.split("\n") for part in fitted(line, err=err))
    # The stream is passed explicitly.  Otherwise click would write UTF-8 even to a terminal with another encoding.
    out = file if file is not None else sys.stderr if err else sys.stdout
    typer.echo(typer.style(shown, fg=fg, bold=bold or None) if fg or bold else shown, out, nl=nl)


def warn(message: str) -> None:
    """Print a warning to standard error."""
    say(f"warning: {message}", fg="yellow", err=True)


def fitted(line: str, *, indent: int = 0, err: bool = False) -> list[str]:
    """Return a line in lines that fit the terminal beside an indent, without breaking words.

    All lines begin with the spaces and the ``#`` of the first.  A word that is longer than a line is broken, unless it
    is a path or a URL, which users copy.  If the output is not a terminal, the line stays whole.
    """
    if not (sys.stderr if err else sys.stdout).isatty():
        return [line]
    width = max(shutil.get_terminal_size().columns - indent, _NARROWEST)
    margin = line[: len(line) - len(line.lstrip(" #"))]
    wrapped = textwrap.wrap(line, width, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)
    parts = (
        [part] if len(part) <= width or _PATH.match(part) else textwrap.wrap(part, width, subsequent_indent=margin)
        for part in wrapped
    )
    return [each for part in parts for each in part] or [""]


class OutputLost(Exception):
    """Standard output cannot be written; the text is the reason, or empty if a reader such as ``head`` has exited."""


class _Descriptor(io.FileIO):
    """Standard output or standard error.  If standard error cannot be written, its text is dropped."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if self.fileno() == _STDERR:
                return len(data)
            raise OutputLost("" if isinstance(error, BrokenPipeError) else error.strerror) from error


def prepare_streams() -> None:
    """Make standard output and error accept any text in any locale, and replace closed standard streams.

    If a standard descriptor is closed, the next file that is opened gets it. That could be the database, and a print
    would then write into it.
    """
    codecs.register_error(_ERRORS, _plain)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The new file gets the lowest free number, which is this one.
        stream = getattr(sys, name)
        if stream is None and number == 0:
            sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
        elif number and stream is getattr(sys, f"__{name}__"):  # The caller has not replaced the stream.
            buffer = io.BufferedWriter(_Descriptor(number, "w", closefd=False))
            encoding = "utf-8" if stream is None else stream.encoding
            by_line = number == _STDERR if stream is None else stream.line_buffering or stream.write_through
            if stream is not None:
                stream.flush()
            setattr(sys, name, io.TextIOWrapper(buffer, encoding, _ERRORS, line_buffering=by_line))


def abandon(stream: TextIO) -> None:
    """Redirect a stream to the null device, so that Python can flush its buffer at exit without an error."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks, if possible by similar characters of the same width."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(each, "?") for each in error.object[error.start : error.end]), error.end
