"""``store``: the database that an experiment is recorded in, instead of a directory of this machine."""

from __future__ import annotations

from urllib.parse import urlsplit

from ashwood.config.report import Report
from ashwood.config.wording import Path, shorten, shown

_STORE: Path = ("store",)
_SCHEMES = ("postgresql", "postgres")


def read_store(value: str | None, report: Report) -> str | None:
    """The URL; None where there is none, or a wrong one, which is reported."""
    if value is None:
        return None
    # A password must not stand in a message.
    try:
        url = urlsplit(value)
        password = url.password
    except ValueError as error:
        report.error(_STORE, f"is no URL ({shorten(str(error))}): write postgresql://HOST/DATABASE")
        return None
    if url.scheme not in _SCHEMES:
        told = f"{shorten(url.scheme)}://…" if "://" in value else shown(value)
        report.error(
            _STORE,
            f"must be the URL of a database, postgresql://HOST/DATABASE, not {told}; a directory is named with --home "
            "or ASHWOOD_HOME",
        )
        return None
    if password is not None:
        report.warn(_STORE, "holds a password, for all who read the file: leave it to ~/.pgpass or PGPASSWORD")
    return value
