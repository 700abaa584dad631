"""Which home, experiment and file a command uses if they are left out."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ashwood.cli import where
from ashwood.cli.where import find_file, find_home
from ashwood.engine import open_home
from ashwood.errors import AshwoodError, ConfigError
from ashwood.testing.records import full_spec

from .conftest import Workplace


@pytest.fixture
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory of the user, which has a subdirectory project/deep that is the current directory."""
    deep = tmp_path / "user" / "project" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.chdir(deep)
    return tmp_path / "user"


def make_home(directory: Path) -> Path:
    home = directory / ".ashwood"
    home.mkdir()
    (home / "ashwood.db").touch()
    return home


def test_home_is_found_in_the_nearest_parent_directory(user_home: Path) -> None:
    assert find_home() is None
    assert make_home(user_home / "project") == find_home()


def test_home_in_the_current_directory_is_used_as_it_is(user_home: Path) -> None:
    make_home(user_home / "project")
    (user_home / "project" / "deep" / ".ashwood").mkdir()
    assert find_home() is None


def test_search_for_a_home_ends_below_the_home_directory_of_the_user(
    user_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_home(user_home)
    make_home(user_home.parent)
    assert find_home() is None
    monkeypatch.setenv("HOME", str(user_home / "project" / "deep"))
    assert find_home() is None


def test_directory_without_a_database_is_no_home(user_home: Path) -> None:
    (user_home / "project" / ".ashwood").mkdir()
    assert find_home() is None


def test_home_of_another_user_is_refused(user_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(user_home / "project")
    monkeypatch.setattr(where, "_is_own", lambda path: path != home)
    with pytest.raises(AshwoodError, match=f"belongs to another user.*--home {re.escape(str(home))}"):
        find_home()


def test_database_of_another_user_is_refused(user_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(user_home / "project")
    monkeypatch.setattr(where, "_is_own", lambda path: path.name != "ashwood.db")
    with pytest.raises(AshwoodError, match="belongs to another user"):
        find_home()
    assert home.is_dir()


def test_search_ends_at_a_directory_of_another_user(user_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_home(user_home / "project")
    monkeypatch.setattr(os, "geteuid", lambda: user_home.stat().st_uid + 1)
    assert find_home() is None


def test_command_says_which_home_and_experiment_it_uses(
    workplace: Workplace, user_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_home(user_home / "project" / ".ashwood", create=True) as home:
        home.create(full_spec(), at=0.0)
    workplace.path = user_home / "project" / "deep"
    name = full_spec().name
    assert workplace.ashwood("trials").startswith(f"using experiment 1 ({name}) in ../.ashwood\n")
    assert workplace.ashwood("list").startswith("using ../.ashwood\n")
    assert workplace.json("trials") == []
    assert workplace.json("list")[0]["id"] == 1
    assert (
        where.note_on_new_home() == "making a new home, .ashwood; to use that of a parent directory: --home ../.ashwood"
    )


def test_experiments_are_named_by_number_name_or_not_at_all(workplace: Workplace) -> None:
    with open_home(workplace.path / ".ashwood", create=True) as home:
        for name in ("digits", "mnist", "mnist", "old"):
            home.create(replace(full_spec(), name=name), at=0.0)
    workplace.ashwood("archive", "old")
    assert workplace.json("describe", "digits")["id"] == 1
    assert workplace.json("describe")["id"] == 3
    ambiguous = workplace.ashwood("describe", "mnist", code=1)
    assert "2 experiments are called 'mnist'; give the number of one: 3 (mnist, created), 2 (mnist, " in ambiguous
    assert "there is no experiment 'digit'" in (missing := workplace.ashwood("best", "digit", code=1))
    assert "(did you mean 'digits'?)" in missing
    assert workplace.json("describe", "old")["id"] == 4
    assert "missing argument" in workplace.ashwood("kill", code=2)
    assert "missing argument" in workplace.ashwood("delete", code=2)
    assert "no experiment is running" in workplace.ashwood("pause", code=1)


def test_run_finds_the_experiment_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="there is none here"):
        find_file()
    (tmp_path / "other.yaml").write_text("a: 1\n# searcher: none\n")
    (tmp_path / "search.yml").write_text("name: x\nsearcher:\n  name: random\n")
    assert find_file() == Path("search.yml")
    (tmp_path / "second.yaml").write_text("searcher: {}\n")
    with pytest.raises(
        ConfigError, match=r"there are 2 here: search\.yml, second\.yaml|there are 2 here: second\.yaml, search\.yml"
    ):
        find_file()
    (tmp_path / "experiment.yaml").touch()
    assert find_file() == Path("experiment.yaml")
