"""Reads ``checkpoint_storage``: where checkpoints are saved, and how many are kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path as FilePath
from typing import Any
from urllib.parse import quote, urlsplit

from ashwood.config.checking import must_be
from ashwood.config.report import Report
from ashwood.config.runtime import absolute
from ashwood.config.shape import MOST_WHOLE
from ashwood.config.wording import Path, all_of, any_of, nearest, not_one_of, shorten, shown
from ashwood.experiment.spec import CheckpointPolicy

STORAGE: Path = ("checkpoint_storage",)

_POLICY = tuple(field.name for field in fields(CheckpointPolicy))
_TYPES = {
    "shared_fs": ("host_path", "storage_path"),
    "directory": ("container_path",),
    "s3": ("bucket", "prefix", "endpoint_url"),
    "gcs": ("bucket", "prefix"),
    "azure": ("container", "prefix", "account_url"),
}
"""The keys of each type of storage; the first is required."""

_MEANINGS = {
    "host_path": "the directory for checkpoints",
    "container_path": "the directory for checkpoints",
    "bucket": "the bucket for checkpoints",
    "container": "the container for checkpoints",
}
_SCHEMES = {"s3": "s3", "gcs": "gs", "azure": "az"}
_OFFERED = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hdfs", "webhdfs", "sftp", "ssh", "smb", "oss", "oci")
"""Schemes that are accepted without a check by fsspec, which may be installed only on the workers' machines."""

_REFUSED = {
    "memory": "each process has a memory of its own",
    "http": "nothing can be saved there",
    "https": "nothing can be saved there; for a server that speaks S3 write s3://bucket?endpoint_url=https://…",
}
_SECRETS = {
    "access_key": "AWS_ACCESS_KEY_ID",
    "secret_key": "AWS_SECRET_ACCESS_KEY",
    "connection_string": "AZURE_STORAGE_CONNECTION_STRING",
    "credential": "AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_SAS_TOKEN)",
}
"""Secrets that Determined's files can contain, and the environment variables that Ashwood uses instead."""

_SECRET_WORDS = ("key", "secret", "token", "password", "credential", "connection_string")
_WITHOUT_EFFECT = {
    "propagation": "nothing is mounted",
    "tensorboard_path": "Ashwood stores no TensorBoard files",
    "checkpoint_path": "storage_path is its later name",
    "container_path": "host_path is the directory, as there are no containers",
}


def read_policy(value: Any, report: Report) -> CheckpointPolicy:
    """Return which checkpoints are kept; problems are reported."""
    if not isinstance(value, Mapping):
        return CheckpointPolicy()
    counts = {key: value[key] for key in _POLICY if value.get(key) is not None}
    for key, count in list(counts.items()):
        if isinstance(count, bool) or not isinstance(count, int):
            report.error((*STORAGE, key), must_be("a whole number", counts.pop(key)))
        elif count < 0:
            report.error((*STORAGE, key), f"must be at least 0, not {shown(counts.pop(key))}")
        elif count > MOST_WHOLE:
            report.error((*STORAGE, key), f"must be at most {MOST_WHOLE}, not {shown(counts.pop(key))}")
    policy = CheckpointPolicy(**counts)
    if policy == CheckpointPolicy(0, 0, 0):
        report.warn(
            (*STORAGE, "save_trial_latest"),
            f"{all_of(_POLICY)} are all 0, so no checkpoint of a trial is kept once it has ended",
        )
    return policy


def read_storage(value: Any, workdir: FilePath, report: Report) -> str | None:
    """Return the directory or URL for checkpoints, or None to keep them in the home.

    A mistake is reported.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        return _from_map(value, workdir, report)
    if not isinstance(value, str):
        report.error(STORAGE, must_be("a directory or a URL", value))
        return None
    scheme, colon, rest = value.partition("://")
    if not value.strip():
        report.error(STORAGE, "must not be empty")
        return None
    if not colon or scheme == "file":
        return absolute(rest if colon else value, workdir)
    problem = _wrong_with_url(scheme, rest, value)
    if problem is not None:
        report.error(STORAGE, problem)
    return value.rstrip("/")


def _wrong_with_url(scheme: str, rest: str, url: str) -> str | None:
    if scheme in _REFUSED:
        return f"{shown(url)} can't hold checkpoints: {_REFUSED[scheme]}"
    if not _is_known(scheme):
        return not_one_of(scheme, ("file", *_OFFERED), "a scheme of storage that is known")
    place, _, options = rest.partition("?")
    if not place.strip("/"):
        return f"must name a bucket or directory: {scheme}://NAME/prefix, not {shown(url)}"
    if "@" in place and ":" in place.partition("@")[0]:
        return "must hold no password, as the file is recorded: give it to Ashwood by the environment"
    for option in filter(None, options.split("&")):
        name = option.partition("=")[0]
        if any(word in name.lower() for word in _SECRET_WORDS):
            return f"must not hold {shorten(name)}, as the file is recorded: {_by_environment(scheme)}"
    return None


def _is_known(scheme: str) -> bool:
    if scheme in _OFFERED:
        return True
    try:
        from fsspec.registry import available_protocols
    except ImportError:
        return False
    return scheme in available_protocols()


def _by_environment(scheme: str) -> str:
    if scheme.startswith("s3"):
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
    return "give it to Ashwood by the environment"


def _from_map(value: Mapping[str, Any], workdir: FilePath, report: Report) -> str | None:
    kind = value.get("type")
    if kind is None and not any(keys[0] in value for keys in _TYPES.values()):
        _read_texts(None, value, report)
        return None
    if kind is None:
        report.error(
            (*STORAGE, "type"),
            "is missing: write checkpoint_storage: /path or s3://bucket/prefix, or type: shared_fs with host_path",
        )
        return None
    if kind == "hdfs":
        report.error((*STORAGE, "type"), "hdfs is written as a URL here: checkpoint_storage: hdfs://host:port/path")
        return None
    if not isinstance(kind, str) or kind not in _TYPES:
        report.error((*STORAGE, "type"), not_one_of(kind, tuple(_TYPES), "a type of storage that is offered"))
        return None
    texts = _read_texts(kind, value, report)
    main = texts.get(_TYPES[kind][0])
    if main is None:
        return None
    return _url(kind, main, texts, report) if kind in _SCHEMES else _directory(main, texts, workdir, report)


def _directory(main: str, texts: Mapping[str, str], workdir: FilePath, report: Report) -> str | None:
    inner = texts.get("storage_path")
    if inner is None:
        return absolute(main, workdir)
    if not FilePath(os.path.normpath(FilePath(main) / inner)).is_relative_to(os.path.normpath(main)):
        message = f"must be relative to host_path, or inside {shorten(main, 100)}, not {shown(inner)}"
        report.error((*STORAGE, "storage_path"), message)
        return None
    return absolute(inner, FilePath(absolute(main, workdir)))


def _url(kind: str, main: str, texts: Mapping[str, str], report: Report) -> str | None:
    prefix = texts.get("prefix", "").strip("/")
    if ".." in prefix.split("/"):
        report.error((*STORAGE, "prefix"), f"must not hold .., but is {shown(prefix)}")
    options = {}
    if endpoint := texts.get("endpoint_url"):
        options["endpoint_url"] = endpoint
    if account := texts.get("account_url"):
        options["account_name"] = (urlsplit(account).hostname or account).partition(".")[0]
    query = "&".join(f"{name}={quote(text, safe=':/')}" for name, text in options.items())
    return f"{_SCHEMES[kind]}://{main.strip('/')}{prefix and '/'}{prefix}{query and '?'}{query}"


def _read_texts(kind: str | None, value: Mapping[str, Any], report: Report) -> dict[str, str]:
    """Return the paths and names in a map; unknown keys are reported."""
    known = _TYPES[kind] if kind else ()
    texts: dict[str, str] = {}
    misspelt: set[str] = set()
    for key, each in value.items():
        path = (*STORAGE, key)
        if key == "type" or key in _POLICY or each is None:
            continue
        if key in known and isinstance(each, str) and each:
            texts[key] = each
        elif key in known:
            report.error(path, must_be("a directory" if kind in ("shared_fs", "directory") else "text", each))
            misspelt.add(key)
        elif key in _SECRETS:
            report.error(
                path, f"must not be in the file, which is recorded: set {_SECRETS[key]} in the environment instead"
            )
        elif key in _WITHOUT_EFFECT:
            report.warn(path, f"has no effect; {_WITHOUT_EFFECT[key]}")
        else:
            close = nearest(key, ("type", *known, *_POLICY))
            misspelt.add(close or "")
            hint = (
                f"did you mean {close}?" if close else f"{kind} takes {any_of(known)}" if kind else "here may be type"
            )
            report.error(path, f"unknown key; {hint}")
    if known and known[0] not in texts and known[0] not in misspelt:
        report.error((*STORAGE, known[0]), f"is missing: {kind} needs it, {_MEANINGS[known[0]]}")
    return texts
