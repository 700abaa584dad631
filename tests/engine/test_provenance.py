"""Provenance of experiments, in real repositories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ashwood.engine.provenance import check_out, collect, differences, dirt
from ashwood.errors import NotFound
from tests.repositories import git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit and the training code in ``code/``."""
    root = tmp_path / "repository"
    (root / "code").mkdir(parents=True)
    (root / "code" / "train.py").write_text("first\n")
    (root / ".gitattributes").write_text("train.py export-ignore\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "first")
    return root


def test_provenance_of_clean_repository(repository: Path) -> None:
    provenance = collect(repository / "code")
    assert provenance["git"] == {
        "root": str(repository),
        "commit": git(repository, "rev-parse", "HEAD"),
        "branch": "trunk",
        "prefix": "code/",
        "dirty": 0,
    }
    assert dirt(provenance) is None
    assert provenance["packages"]["pytest"] == pytest.__version__
    assert json.loads(json.dumps(provenance)) == provenance


def test_files_that_are_not_committed_are_counted(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "code" / "train.py").write_text("changed\n")
    assert dirt(collect(repository)) == f"1 file differs from commit {commit[:10]}; its content is not recorded"
    (repository / "code" / "more.py").write_text("new\n")
    assert dirt(collect(repository)) == f"2 files differ from commit {commit[:10]}; their content is not recorded"


def test_bytecode_caches_do_not_count_as_changes(repository: Path) -> None:
    (repository / "code" / "__pycache__").mkdir()
    (repository / "code" / "__pycache__" / "train.cpython-311.pyc").write_bytes(b"compiled")
    assert dirt(collect(repository)) is None


def test_provenance_without_commit(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert collect(tmp_path)["git"] is None
    git(tmp_path, "init", "--quiet")
    assert collect(tmp_path)["git"] is None
    git(repository, "checkout", "--quiet", "--detach")
    assert collect(repository)["git"]["branch"] is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert collect(repository)["git"] is None


def test_differences_lists_each_change() -> None:
    then: dict[str, Any] = {
        "ashwood": "0.1.0",
        "python": "3.11.2",
        "packages": {"numpy": "1.26", "old": "1", "same": "2"},
        "git": {"commit": "a" * 40, "dirty": 2},
    }
    now = {
        "ashwood": "0.1.0",
        "python": "3.12.0",
        "packages": {"new": "3", "numpy": "2.0", "same": "2"},
        "git": {"commit": "b" * 40, "dirty": 0},
    }
    assert differences(then, now) == [
        "the commit of the code was aaaaaaaaaa, now it is bbbbbbbbbb",
        "at that time, 2 files differ from commit aaaaaaaaaa; their content is not recorded",
        "Python was 3.11.2, now it is 3.12.0",
        "new was not installed, now it is 3",
        "numpy was 1.26, now it is 2.0",
        "old was 1, now it is not installed",
    ]
    assert differences(now, now) == []
    assert differences({}, now) == ["the commit of the code was unknown, now it is bbbbbbbbbb"]
    many = {**now, "packages": {f"p{n}": "1" for n in range(10, 30)}}
    assert differences({**many, "packages": {}}, many)[-1] == "and 12 more packages have changed"


def test_check_out_restores_files_of_commit(repository: Path, tmp_path: Path) -> None:
    then = collect(repository / "code")
    (repository / "code" / "train.py").write_text("second\n")
    (repository / "code" / "later.py").write_text("later\n")
    git(repository, "add", ".")
    before = git(repository, "status", "--porcelain")

    workdir, state = check_out(then, tmp_path / "laid-out")
    assert (workdir / "train.py").read_text() == "first\n"
    assert not (workdir / "later.py").exists()
    assert sorted(path.name for path in workdir.parent.iterdir()) == [".gitattributes", "code"]
    assert state == then["git"]
    assert git(repository, "status", "--porcelain") == before

    again, _ = check_out(then, tmp_path / "laid-out")
    assert again != workdir


def test_check_out_reports_missing_commit(repository: Path, tmp_path: Path) -> None:
    then = collect(repository)
    lost = {**then, "git": {**then["git"], "commit": "0123456789" * 4}}
    with pytest.raises(NotFound, match=r"commit 0123456789 is not in the repository .*git fetch"):
        check_out(lost, tmp_path / "laid-out")
    with pytest.raises(NotFound, match="no longer exists"):
        check_out({"git": {**then["git"], "root": str(tmp_path / "moved")}}, tmp_path / "laid-out")
    with pytest.raises(NotFound, match="outside of a git repository"):
        check_out({"git": None}, tmp_path / "laid-out")
    assert not (tmp_path / "laid-out").exists()
