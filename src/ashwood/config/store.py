"""Reads ``store``: the database in which an experiment is recorded, instead of a directory of this machine."""

from __future__ import annotations

from urllib.parse import urlsplit

from ashwood.config.report import Report
from ashwood.config.wording import Path, shorten, shown

_STORE: Path = ("store",)
_SCHEMES = ("postgresql", "postgres")


def read_store(value: str | None, report: Report) -> str | None:
    """Return the URL of the database, or None if there is none or it is wrong, which is reported."""
    if value is None:
        return None
    # Messages must not contain the password of the URL, so they show its scheme only.
    try:
        url = urlsplit(value)
        password = url.password
    except ValueError as error:
        report.error(_STORE, f"is no URL ({shorten(str(error))}): write postgresql://HOST/DATABASE")
        return None
    if url.scheme not in _SCHEMES:
        instead = f"{shorten(url.scheme)}://…" if "://" in value else shown(value)
        report.error(
            _STORE,
            f"must be the URL of a database, postgresql://HOST/DATABASE, not {instead}; "
            "a directory is named with --home or ASHWOOD_HOME",
        )
        return None
    if password is not None:
        report.warn(_STORE, "holds a password, for all who read the file: leave it to ~/.pgpass or PGPASSWORD")
    return value
