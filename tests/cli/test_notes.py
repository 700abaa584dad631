"""``ashwood note`` and notes in the Python API."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

import ashwood
from ashwood.errors import AshwoodError, NotFound

from .conftest import RANDOM, Workplace
from .terminal import on_terminal

NOTE = "# Why\n\nA **larger** batch, see [the issue](https://example.org/7).\n\n- one\n- two\n"


@pytest.fixture(scope="module")
def noted(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace with a completed experiment."""
    workplace = Workplace(tmp_path_factory.mktemp("noted"))
    workplace.write(RANDOM)
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    return workplace


def test_note_is_written_printed_and_removed(noted: Workplace) -> None:
    assert noted.ashwood("note", "1", NOTE) == "the note on experiment 1 is written\n"
    assert noted.ashwood("note", "toy") == f"using experiment 1 (toy)\n{NOTE}\n"
    assert noted.ashwood("note", "1", "--trial", "2", "odd") == "the note on trial 2 of experiment 1 is written\n"
    assert noted.json("note", "1", "--trial", "2") == {"experiment": 1, "trial": 2, "note": "odd"}
    described = noted.json("describe", "1")
    assert (described["note"], described["trial_notes"]) == (NOTE, {"2": "odd"})
    output = noted.ashwood("describe", "1")
    assert "note: Why … (ashwood note 1)\nnotes on trials: 2\n" in output
    assert noted.ashwood("note", "1", "--clear") == "the note on experiment 1 is removed\n"
    assert noted.json("note", "1", "--trial", "2", "--clear")["note"] is None
    output = noted.ashwood("note", "1", "--trial", "2")
    assert output == "trial 2 of experiment 1 has no note; to write one: ashwood note 1 --trial 2 TEXT\n"
    assert noted.json("describe", "1")["note"] is None
    assert "\nnote" not in noted.ashwood("describe", "1")


def test_note_is_read_from_file_or_standard_input(noted: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    (noted.path / "note.md").write_text("\ufefffrom a file\n")
    noted.ashwood("note", "1", "--file", "note.md")
    assert noted.json("note", "1")["note"] == "from a file\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("übrigens".encode())))
    noted.ashwood("note", "1", "--file", "-")
    assert noted.json("note", "1")["note"] == "übrigens"


def test_note_that_cannot_be_stored_is_refused(noted: Workplace) -> None:
    noted.ashwood("note", "1", "before")
    for arguments, message in (
        (("1", " \n"), "the text of the note is empty; to remove the note, use --clear"),
        (("1", "x" * 70_000), "the note has 70,000 bytes, and at most 65,536 are stored: shorten it"),
        (("1", "--trial", "99", "text"), "experiment 1 has no trial 99; it has trials 0 to 5"),
        (("7", "text"), "there is no experiment 7"),
        (("1", "--file", "missing.md"), "cannot read missing.md: No such file or directory"),
        (("1", "--file", "large.md"), "large.md has more than 65,536 bytes"),
        (("1", "--file", "binary.md"), "binary.md isn't text in UTF-8"),
        (("--clear",), "no experiment is running; give the number or name of one: 1 (toy, completed)"),
    ):
        (noted.path / "large.md").write_text("x" * 70_000)
        (noted.path / "binary.md").write_bytes(b"\xff\xfe")
        assert message in noted.ashwood("note", *arguments, code=1)
    for arguments in (("1", "text", "--clear"), ("1", "text", "--file", "note.md")):
        assert "only one of TEXT, --file and --clear" in noted.ashwood("note", *arguments, code=2)
    assert noted.json("note", "1")["note"] == "before"


def test_note_is_rendered_on_terminal(noted: Workplace) -> None:
    noted.ashwood("note", "1", NOTE)
    with on_terminal(noted, "note", "1") as screen:
        shown = screen.left()
    assert "larger" in shown
    assert "**" not in shown
    assert "https://example.org/7" in shown


def test_python_api_reads_and_writes_notes(noted: Workplace) -> None:
    noted.ashwood("note", "1", "--clear")
    experiment = ashwood.open_experiment(1, home=noted.path / ".ashwood")
    assert (experiment.note, experiment.trial_notes) == ("", {})
    experiment.set_note("good")
    experiment.set_note("odd", trial=3)
    assert (experiment.note, experiment.trial_notes) == ("good", {3: "odd"})
    experiment.set_note(" ", trial=3)
    assert experiment.trial_notes == {}
    with pytest.raises(NotFound, match="no trial 6"):
        experiment.set_note("x", trial=6)
    with pytest.raises(AshwoodError, match="65,537 bytes"):
        experiment.set_note("x" * 65_537)
    assert experiment.note == "good"


def test_notes_are_exported_and_imported(noted: Workplace, tmp_path: Path) -> None:
    noted.ashwood("note", "1", NOTE)
    noted.ashwood("note", "1", "--trial", "0", "zero")
    noted.ashwood("export", "1", "--out", str(tmp_path / "toy.ashwood"))
    other = Workplace(tmp_path)
    other.ashwood("import", "toy.ashwood")
    described = other.json("describe", "1")
    assert (described["note"], described["trial_notes"]) == (NOTE, {"0": "zero"})
