"""Directories on this machine for the files of a PostgreSQL database."""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
import pytest

from ashwood.engine import open_home
from ashwood.engine.removal import remove_directory
from ashwood.errors import EventLogError
from ashwood.eventlog.files import claim_directory
from ashwood.testing.records import full_spec
from tests.eventlog.test_postgres import a_reader, make_old_schema
from tests.postgres import PostgresServer


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that holds the directories of all databases."""
    monkeypatch.setenv("ASHWOOD_FILES", str(tmp_path / "files"))
    return tmp_path / "files"


def names_of(postgres: PostgresServer, directory: Path) -> dict[str, str]:
    """Return URLs of one database that name its server in different ways."""
    (directory / "services").write_text(
        f"[ours]\nhost=127.0.0.1\nport={postgres.port}\ndbname=postgres\nuser=ashwood\n"
    )
    return {
        "address": postgres.url(),
        "name": postgres.url().replace("127.0.0.1", "localhost"),
        "hosts": postgres.url().replace(f"127.0.0.1:{postgres.port}", f"127.0.0.1:{postgres.port},127.0.0.1:1"),
        "hostaddr": f"postgresql://ashwood@elsewhere/postgres?hostaddr=127.0.0.1&port={postgres.port}",
        "service": "postgresql:///?service=ours",
    }


def test_database_has_one_directory_for_all_its_urls(
    postgres: PostgresServer, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.fresh_database()
    urls = names_of(postgres, tmp_path)
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    found, identities = set(), set()
    for url in urls.values():
        with open_home(url, create=True) as home:
            found.add(home.directory(1))
            identities.add(home.identity)
    assert len(found) == len(identities) == 1
    assert [path.name for path in files.iterdir()] == [f"postgresql-{identities.pop()}"]


def test_recreated_database_has_another_directory(postgres: PostgresServer, files: Path) -> None:
    directories = []
    for _ in range(2):
        with open_home(postgres.fresh_database(), create=True) as home:
            directories.append(home.directory(home.create(full_spec(), at=1.0)))
    assert directories[0] != directories[1]


def test_directory_of_another_database_is_refused(postgres: PostgresServer, files: Path) -> None:
    with open_home(postgres.fresh_database(), create=True) as home:
        home.directory(1)
        former = home.path
    with open_home(postgres.fresh_database(), create=True) as home:
        former.rename(home.path)
        with pytest.raises(EventLogError, match=r"holds the files of the database with identity .* ASHWOOD_FILES"):
            home.directory(1)
        (home.path / "database").write_text("{")
        with pytest.raises(EventLogError, match=r"/database is damaged, .* delete"):
            open_home(postgres.url())


def test_database_of_version_0_1_0_keeps_its_directory(postgres: PostgresServer, files: Path) -> None:
    old = old_directory(files, f"127.0.0.1-{postgres.port}-postgres", 1)
    make_old_schema(postgres.fresh_database(), 2)
    for url in (postgres.url(), postgres.url().replace("127.0.0.1", "localhost")):
        with open_home(url) as home:
            assert home.path == old
            assert home.directory(1) == old / "experiments" / "1"
    with open_home(postgres.fresh_database(), create=True) as home:
        assert home.path != old, "the directory belongs to a database that was deleted"


def test_database_of_version_0_1_0_keeps_all_of_its_directories(postgres: PostgresServer, files: Path) -> None:
    """Version 0.1.0 used a different directory for each name of the server."""
    make_old_schema(postgres.fresh_database(), 2)
    with psycopg.connect(postgres.url(), autocommit=True) as admin:
        admin.execute(
            "INSERT INTO ashwood.experiments (created_at, name, version, spec, digest, state, summary, labels)"
            " SELECT created_at, name, version, spec, digest, state, summary, labels FROM ashwood.experiments"
        )
        admin.execute("INSERT INTO ashwood.logs (experiment) VALUES (2)")
    first = old_directory(files, f"127.0.0.1-{postgres.port}-postgres", 1)
    second = old_directory(files, f"localhost-{postgres.port}-postgres", 1, 2)
    by_name = postgres.url().replace("127.0.0.1", "localhost")
    for url in (postgres.url(), by_name, postgres.url()):
        open_home(url).close()
    with open_home(postgres.url()) as home:
        assert home.directories == (first, second)
        assert home.directory(1) == first / "experiments" / "1"
        assert home.directory(2) == second / "experiments" / "2"
        assert home.directory(3) == first / "experiments" / "3"
        remove_directory(home, 2)
        assert not (second / "experiments" / "2").exists()


@pytest.mark.parametrize("why", ["made anew", "number", "identity", "claimed"])
def test_directory_that_may_be_of_another_database_is_not_claimed(
    postgres: PostgresServer, files: Path, why: str
) -> None:
    url = postgres.fresh_database()
    if why == "made anew":
        with open_home(url, create=True) as home:
            home.create(full_spec(), at=1.0)
    else:
        make_old_schema(url, 2)
    old = old_directory(files, f"127.0.0.1-{postgres.port}-postgres", 7 if why == "number" else 1)
    if why == "identity":
        (old / "experiments" / "1" / "workers.lock").write_text("another")
    elif why == "claimed":
        claim_directory(old, "another", "postgresql://elsewhere/db")
    before = sorted(old.rglob("*"))
    with open_home(url) as home:
        assert home.directories == (files / f"postgresql-{home.identity}",)
    assert sorted(old.rglob("*")) == before


def test_role_without_privilege_to_upgrade_uses_directory_of_version_0_1_0(
    postgres: PostgresServer, files: Path
) -> None:
    url = postgres.fresh_database()
    make_old_schema(url, 2)
    old = old_directory(files, f"127.0.0.1-{postgres.port}-postgres", 1)
    with open_home(a_reader(url)) as home:
        assert home.logs(1) == old / "experiments" / "1" / "logs"
    assert not (old / "database").exists()


def test_only_one_of_concurrent_claims_succeeds(tmp_path: Path) -> None:
    barrier, outcomes = threading.Barrier(4, timeout=60), list[str]()

    def claim(identity: str) -> None:
        barrier.wait()
        try:
            claim_directory(tmp_path / "directory", identity, "db")
        except EventLogError:
            outcomes.append("refused")
        else:
            outcomes.append(identity)

    threads = [threading.Thread(target=claim, args=[identity]) for identity in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[1:] == ["refused"] * 3
    assert [path.name for path in (tmp_path / "directory").iterdir()] == ["database"]


def old_directory(files: Path, name: str, *numbers: int) -> Path:
    """Make a directory as in version 0.1.0, with the directories of experiments ``numbers``."""
    for number in numbers:
        (files / name / "experiments" / str(number)).mkdir(parents=True)
    return files / name
