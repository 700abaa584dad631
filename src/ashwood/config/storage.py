"""``checkpoint_storage`` and ``store``: where checkpoints and experiments are stored."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any
from urllib.parse import quote, urlsplit

from ashwood.checkpoints import is_remote
from ashwood.config.kinds import Kind, choice, parse_size, single, size, text, whole
from ashwood.config.report import Report
from ashwood.config.section import Section, key
from ashwood.config.stop_when import NONE
from ashwood.config.wording import Path, must_be, not_one_of, shorten, shown
from ashwood.experiment.spec import CheckpointPolicy
from ashwood.views.wording import all_of

_OFFERED = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hdfs", "webhdfs", "sftp", "ssh", "smb", "oss", "oci")
"""Schemes that are accepted without a check by fsspec, which may be installed only on the workers' machines."""

_REFUSED = {
    "memory": "processes do not share their memory",
    "http": "HTTP servers cannot save files",
    "https": "HTTP servers cannot save files; for a server with the protocol of S3, write s3://bucket?endpoint_url=https://…",
}
_SECRET_WORDS = ("key", "secret", "token", "password", "credential", "connection_string")
_SCHEMES = {"s3": "s3", "gcs": "gs", "azure": "az"}
_MAIN = {"shared_fs": "host_path", "directory": "container_path", "s3": "bucket", "gcs": "bucket", "azure": "container"}
"""The required key of each type of storage."""

_SECRETS = "set it in an environment variable"
_HDFS = "write the URL instead: checkpoint_storage: hdfs://host:port/path"
_DEFAULT = CheckpointPolicy()


def located(words: str, workdir: FilePath) -> str:
    """Return a URL unchanged, and a path as an absolute one; relative paths start at the file's directory."""
    if is_remote(words):
        return words
    return str((workdir / FilePath(words.removeprefix("file://")).expanduser()).absolute())


def _url(value: Any) -> str:
    """Return a directory or URL that can hold checkpoints."""
    if not isinstance(value, str):
        raise ValueError(must_be("a directory or a URL", value))
    if not value.strip():
        raise ValueError("must not be empty")
    if not is_remote(value):
        return value
    scheme, _, rest = value.partition("://")
    place, _, options = rest.partition("?")
    if scheme in _REFUSED:
        raise ValueError(f"{shown(value)} can't store checkpoints: {_REFUSED[scheme]}")
    if not _is_known(scheme):
        raise ValueError(not_one_of(scheme, ("file", *_OFFERED), "a known storage scheme"))
    if not place.strip("/"):
        raise ValueError(f"must contain the name of a bucket or directory: {scheme}://NAME/prefix, not {shown(value)}")
    if "@" in place and ":" in place.partition("@")[0]:
        raise ValueError(f"must not contain a password, because the file is recorded: {_SECRETS}")
    for option in options.split("&"):
        name = option.partition("=")[0]
        if any(word in name.lower() for word in _SECRET_WORDS):
            instead = _SECRETS
            if scheme.startswith("s3"):
                instead = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
            raise ValueError(f"must not contain {shorten(name)}, because the file is recorded: {instead}")
    return value.rstrip("/")


def _is_known(scheme: str) -> bool:
    if scheme in _OFFERED:
        return True
    try:
        from fsspec.registry import available_protocols
    except ImportError:
        return False
    return scheme in available_protocols()


URL = single({"type": "string", "description": "A directory, or a URL such as s3://bucket/prefix."}, _url)


_MAX_SIZE = "a size such as 200 GB, in bytes"


def parse_max_size(text: str) -> int | None:
    """Return a new ``max_size`` in bytes, or None for ``none``.

    Raises:
        ValueError: the text is neither a size nor ``none``.
    """
    if text.strip().lower() in NONE:
        return None
    if (found := parse_size(text)) is None:
        raise ValueError(f"must be {_MAX_SIZE}, or none for no limit, not {shown(text)}")
    return found


@dataclass(frozen=True, kw_only=True)
class StorageSection(Section, at=("checkpoint_storage",), selector="type"):
    """Where checkpoints are saved, and how many are kept."""

    url: str | None = None
    """The directory or URL, if it is written instead of the map."""
    type: str | None = key(
        choice(_MAIN, "a type of storage", {"hdfs": _HDFS}), "The type of storage.", otherwise="in the home"
    )
    host_path: str | None = key(text("a directory"), "The directory.", only=("shared_fs",))
    storage_path: str | None = key(text("a directory"), "A directory inside host_path.", only=("shared_fs",))
    container_path: str | None = key(
        text("a directory"), "The directory; no effect for shared_fs.", only=("directory", "shared_fs")
    )
    bucket: str | None = key(text(), "The bucket.", only=("s3", "gcs"))
    container: str | None = key(text(), "The container.", only=("azure",))
    prefix: str | None = key(text(), "A folder in the bucket or container.", only=("s3", "gcs", "azure"))
    endpoint_url: str | None = key(text(), "The server, for s3 that isn't Amazon's.", only=("s3",))
    account_url: str | None = key(text(), "The storage account.", only=("azure",))
    save_experiment_best: int = key(
        whole(),
        "How many of all checkpoints of the experiment to keep, those with the best metric.",
        _DEFAULT.save_experiment_best,
    )
    save_trial_best: int = key(
        whole(),
        "How many of each trial's checkpoints to keep, those with the best metric.",
        _DEFAULT.save_trial_best,
    )
    save_trial_latest: int = key(
        whole(), "How many of each trial's checkpoints to keep, the latest ones.", _DEFAULT.save_trial_latest
    )
    max_size: int | None = key(
        size(_MAX_SIZE),
        "Largest size of all checkpoints of the experiment together, in bytes or as text such as 200 GB. Those of "
        "trials that are least likely to be promoted are deleted first.",
        otherwise="no limit",
    )

    def policy(self, report: Report) -> CheckpointPolicy:
        """Return which checkpoints are kept, with a warning if none are."""
        policy = CheckpointPolicy(self.save_experiment_best, self.save_trial_best, self.save_trial_latest)
        if policy == CheckpointPolicy(0, 0, 0):
            keys = all_of(name for name in self.declared() if name.startswith("save_"))
            message = f"{keys} are all 0, so no checkpoint of a trial is kept once it has ended"
            report.warn((*self.at, "save_trial_latest"), message)
        return policy

    def location(self, report: Report) -> str | None:
        """Return the directory or URL, or None to keep checkpoints in the home; problems are reported."""
        if self.type is None:
            if self.given & set(_MAIN.values()) and not report.known_bad((*self.at, "type")):
                report.error(
                    (*self.at, "type"),
                    "is missing: write checkpoint_storage: /path or s3://bucket/prefix, or type: shared_fs with "
                    "host_path",
                )
            return self.url
        name = _MAIN[self.type]
        main: str | None = getattr(self, name)
        if self.type == "shared_fs" and self.container_path is not None:
            message = "has no effect: without containers, host_path is the directory"
            report.warn((*self.at, "container_path"), message)
        if main is not None:
            return self._url(main, report) if self.type in _SCHEMES else self._directory(main, report)
        if not report.known_bad((*self.at, name)):
            meaning = name if name in ("bucket", "container") else "directory"
            report.error((*self.at, name), f"is missing: {self.type} needs the {meaning} for checkpoints")
        return None

    def _directory(self, main: str, report: Report) -> str:
        place = str(FilePath(main) / (self.storage_path or ""))
        if not FilePath(os.path.normpath(place)).is_relative_to(os.path.normpath(main)):
            message = f"must be relative to host_path, or inside {shorten(main, 100)}, not {shown(self.storage_path)}"
            report.error((*self.at, "storage_path"), message)
        return place

    def _url(self, main: str, report: Report) -> str:
        prefix = (self.prefix or "").strip("/")
        if ".." in prefix.split("/"):
            report.error((*self.at, "prefix"), f"must not contain .., but is {shown(prefix)}")
        options = {}
        if self.endpoint_url:
            options["endpoint_url"] = self.endpoint_url
        if self.account_url:
            options["account_name"] = (urlsplit(self.account_url).hostname or self.account_url).partition(".")[0]
        query = "&".join(f"{name}={quote(words, safe=':/')}" for name, words in options.items())
        return f"{_SCHEMES[self.type or '']}://{main.strip('/')}{prefix and '/'}{prefix}{query and '?'}{query}"


def _store(value: Any, path: Path, report: Report) -> str:
    words: str = text().parse(value, path, report)
    # Messages must not contain the password of the URL, so they show its scheme only.
    try:
        url = urlsplit(words)
        password = url.password
    except ValueError as error:
        raise ValueError(f"is not a URL ({shorten(str(error))}): write postgresql://HOST/DATABASE") from None
    if url.scheme not in ("postgresql", "postgres"):
        instead = f"{shorten(url.scheme)}://…" if "://" in words else shown(words)
        expected = f"must be the URL of a database, postgresql://HOST/DATABASE, not {instead}"
        raise ValueError(f"{expected}; a directory is named with --home or ASHWOOD_HOME")
    if password is not None:
        report.warn(path, "contains a password, which everyone who reads the file can see: use ~/.pgpass or PGPASSWORD")
    return words


STORE = Kind(text().schema, _store)
"""The kind of the URL of a database in which an experiment is recorded."""
