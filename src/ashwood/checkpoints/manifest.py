"""The manifest of a checkpoint: its contents, with sizes and digests by which it can be verified.

The file ``ashwood-checkpoint.json`` is beside the files that training code wrote::

    {"format": 3, "trial": 3, "length": 4, "attempt": 1,
     "metrics": {"loss": 0.5}, "size": 1024, "files": {"step/model.pt": [1024, "5b3c…"]}, "folders": ["step"],
     "experiment": "0c9be1…", "draw": "77ad…", "reports": [[3, {"loss": 0.6}]], "links": {"last": "step"},
     "digest": "91d0…"}

Each file has its size in bytes and its blake2b digest of 16 bytes.  The last digest is that of the manifest without
this digest, as Python's json writes it.  Each link has its target, a path in the checkpoint.  Format 1 did not have
``experiment``, ``draw`` and ``reports``.  Formats 1 and 2 did not have ``links``: links to files were listed as files.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ashwood.checkpoints.links import contents, inner_target, link_text
from ashwood.checkpoints.regular import open_to_read
from ashwood.errors import CheckpointError, StorageUnreachable, TrainingCodeError

MANIFEST = "ashwood-checkpoint.json"
FORMAT = 3

_DIGEST_BYTES = 16
_DIGEST_KEY = b', "digest": "'
_MOST = 1 << 63
_DAMAGE = (errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)  # EINVAL: it is not a regular file.


class CheckpointInfo(NamedTuple):
    """The facts about a checkpoint in its manifest, apart from its files.

    Attributes:
        metrics: metrics that were reported at its length.  If the driver dies before it records the report, they are
            recovered from here.
        experiment: identity of the experiment that saved it, or an empty text if that is unknown.
        draw: digest of the trial's hyperparameters and seed, see `digest_of_draw`, or an empty text if it is unknown.
        reports: earlier reports of the attempt since its previous checkpoint, as pairs of length and metrics.
    """

    metrics: Mapping[str, float] = {}
    experiment: str = ""
    draw: str = ""
    reports: Sequence[tuple[int, Mapping[str, float]]] = ()

    def check_fits(self, wanted: CheckpointInfo, where: str) -> None:
        """Check that a checkpoint belongs to the wanted experiment and trial.  Unknown values match any other.

        Raises:
            CheckpointError: the checkpoint belongs to another experiment or trial.
        """
        if self.experiment and wanted.experiment and self.experiment != wanted.experiment:
            raise CheckpointError(
                f"the checkpoint {where} belongs to the experiment with identity {self.experiment}, not to that with "
                f"identity {wanted.experiment}, so it is not used"
            )
        if self.draw and wanted.draw and self.draw != wanted.draw:
            raise CheckpointError(
                f"the checkpoint {where} belongs to a trial with other hyperparameters or another seed, so it is not "
                "used"
            )


class Manifest(NamedTuple):
    """The contents of a checkpoint.

    Attributes:
        trial: number of its trial.
        length: total length at which it was saved.
        attempt: number of the attempt that saved it.
        metrics: as in `CheckpointInfo`, like ``experiment``, ``draw`` and ``reports``.
        size: total size of all files in bytes.
        files: size and digest of each file, by its path in the checkpoint.
        folders: paths of all folders in the checkpoint, including empty ones.
        links: target of each link, by the path of the link; both are paths in the checkpoint.
    """

    trial: int
    length: int
    attempt: int
    metrics: Mapping[str, float]
    size: int
    files: Mapping[str, tuple[int, str]]
    folders: Sequence[str]
    experiment: str = ""
    draw: str = ""
    reports: Sequence[tuple[int, Mapping[str, float]]] = ()
    links: Mapping[str, str] = {}

    @property
    def about(self) -> CheckpointInfo:
        """The facts in the manifest apart from the files."""
        return CheckpointInfo(self.metrics, self.experiment, self.draw, self.reports)

    def encode(self) -> bytes:
        """Return the content of the manifest's file."""
        text = json.dumps({"format": FORMAT, **self._asdict()}).encode()
        return text[:-1] + _DIGEST_KEY + _digest_of(text) + b'"}'


def describe(directory: Path, trial: int, length: int, attempt: int, about: CheckpointInfo) -> Manifest:
    """Return the manifest of the files that training code wrote into a directory; call `settle_links` before.

    Raises:
        TrainingCodeError: the directory contains something that a checkpoint cannot contain.
    """
    files, folders, links = {}, [], {}
    for path, entry in contents(directory):
        if not _is_utf8(path):
            raise TrainingCodeError(f"the checkpoint callable wrote {path!a}, a name that is not UTF-8: use another")
        if path == MANIFEST:
            raise TrainingCodeError(f"the checkpoint callable wrote {MANIFEST}, a name that Ashwood needs: use another")
        if entry.is_symlink() and (target := inner_target(directory, path)) is not None:
            links[path] = target
        elif entry.is_dir(follow_symlinks=False):
            folders.append(path)
        elif entry.is_file():
            files[path] = (entry.stat().st_size, _digest(entry.path))
        else:
            raise TrainingCodeError(
                f"the checkpoint callable wrote {path}, which is neither a file nor a folder nor a link: a "
                "checkpoint can contain nothing else"
            )
    size = sum(size for size, _ in files.values())
    return Manifest(trial, length, attempt, size=size, files=files, folders=folders, links=links, **about._asdict())


def decode(data: bytes, where: str) -> Manifest:
    """Return the manifest with a file content of ``data``; ``where`` is the checkpoint's path, for messages.

    Raises:
        CheckpointError: the manifest is damaged, or a newer version of Ashwood wrote it.
    """
    try:
        content: dict[str, Any] = json.loads(data)
        if content["format"] > FORMAT:
            raise CheckpointError(f"the checkpoint {where} was saved by a newer Ashwood: upgrade this one")
        head, key, _ = data.rpartition(_DIGEST_KEY)
        if data != head + key + _digest_of(head + b"}") + b'"}':
            raise ValueError("digest")
        del content["digest"]
        if not _is_count(content.pop("format"), least=1):
            raise ValueError("format")
        return _checked(Manifest(**content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CheckpointError(f"the checkpoint {where} is damaged: its {MANIFEST} cannot be read") from None


def read_manifest(directory: Path | str) -> bytes | None:
    """Return the content of a directory's manifest file, or None if the directory has none."""
    try:
        with open_to_read(f"{directory}/{MANIFEST}") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def verify(directory: Path, *, manifest_optional: bool = False) -> None:
    """Check that a checkpoint's directory contains exactly what was saved, byte for byte.

    Args:
        directory: directory of the checkpoint.
        manifest_optional: whether to accept a directory without a manifest, which cannot be checked.

    Raises:
        CheckpointError: the contents differ; the message names the file.
        StorageUnreachable: the directory cannot be read, for example because of missing permissions.
    """
    if not directory.is_dir():
        raise CheckpointError(f"there is no checkpoint {directory}")
    try:
        data = read_manifest(directory)
        if data is not None:
            check(directory, decode(data, str(directory)))
        elif not manifest_optional:
            raise CheckpointError(f"the checkpoint {directory} is incomplete or damaged: it has no {MANIFEST}")
    except OSError as error:
        where = error.filename or directory
        if error.errno in _DAMAGE:
            raise CheckpointError(f"the checkpoint {directory} is damaged: {where}: {error.strerror}") from error
        raise StorageUnreachable(f"cannot read the checkpoint {directory}: {where}: {error.strerror}") from error


def check(directory: Path, manifest: Manifest, where: str | None = None) -> None:
    """Compare a directory with a manifest.

    Args:
        directory: the directory.
        manifest: the manifest.
        where: path or URL of the checkpoint for messages, if ``directory`` is a temporary copy of it.

    Raises:
        CheckpointError: the directory differs from the manifest; the message names the file.
    """
    where = where or str(directory)
    there = {path: entry for path, entry in contents(directory) if path != MANIFEST}
    for path, (size, digest) in manifest.files.items():
        entry = there.pop(path, None)
        if entry is None or not entry.is_file():
            raise CheckpointError(f"the checkpoint {where} is damaged: {path} is missing")
        actual = entry.stat().st_size
        if actual != size:
            raise CheckpointError(f"the checkpoint {where} is damaged: {path} has {actual} bytes instead of {size}")
        if _digest(entry.path) != digest:
            raise CheckpointError(f"the checkpoint {where} is damaged: the content of {path} has changed")
    for path in manifest.folders:
        if there.pop(path, None) is None:
            raise CheckpointError(f"the checkpoint {where} is damaged: the folder {path} is missing")
    for path, target in manifest.links.items():
        entry = there.pop(path, None)
        if entry is None or not entry.is_symlink() or str(Path(entry).readlink()) != link_text(path, target):
            raise CheckpointError(f"the checkpoint {where} is damaged: the link {path} to {target} is missing")
    for path in there:
        raise CheckpointError(
            f"the checkpoint {where} has changed: {path} was not saved with it. Move that file out of the checkpoint"
        )


def _checked(manifest: Manifest) -> Manifest:
    """Check the fields of a manifest, and return it with pairs as tuples.

    The digest protects against damage, but not against manipulation, because a new digest can be computed.
    So the fields of a manifest can have any value, and paths could lead out of the checkpoint.

    Raises:
        ValueError, TypeError, AttributeError: a field has an invalid type or value.
    """
    files = {path: (size, digest) for path, (size, digest) in manifest.files.items()}
    reports = [(length, metrics) for length, metrics in manifest.reports]
    counts = (manifest.trial, manifest.length, manifest.attempt, manifest.size, *(size for size, _ in files.values()))
    texts = (manifest.experiment, manifest.draw, *(digest for _, digest in files.values()))
    if not (
        all(map(_is_count, (*counts, *(length for length, _ in reports))))
        and all(isinstance(text, str) for text in texts)
        and all(map(_is_inside, (*files, *manifest.folders, *manifest.links)))
        # A link must be in a real folder, not in a linked one: its relative text would start from the linked folder,
        # and could lead out of the checkpoint.
        and {os.path.dirname(path) for path in manifest.links} <= {"", *manifest.folders}  # noqa: PTH120
        and set(manifest.links.values()) <= {*files, *manifest.folders, *manifest.links}
        and not manifest.links.keys() & {*files, *manifest.folders}
        and all(map(_are_metrics, (manifest.metrics, *(metrics for _, metrics in reports))))
    ):
        raise ValueError("fields")
    return manifest._replace(files=files, reports=reports)


def _is_count(value: object, *, least: int = 0) -> bool:
    return type(value) is int and least <= value < _MOST


def _are_metrics(value: object) -> bool:
    return isinstance(value, dict) and all(type(number) in (int, float) for number in value.values())


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path)
    return (
        bool(parts.parts)
        and not parts.is_absolute()
        and ".." not in parts.parts
        and path != MANIFEST
        and "\0" not in path
        and _is_utf8(path)
    )


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:  # Names in a file system can contain bytes that are not valid UTF-8.
        return False
    return True


def digest_of_draw(hparams: Mapping[str, Any], seed: int) -> str:
    """Return a digest of a trial's hyperparameters and seed, which distinguishes trials with the same number."""
    import hashlib

    text = json.dumps([hparams, seed], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def _digest_of(text: bytes) -> bytes:
    import hashlib

    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest().encode()


def _digest(path: str) -> str:
    import hashlib  # imported here, because it is slow to import and many workers save nothing

    with open(path, "rb") as file:  # noqa: PTH123 - pathlib is slow, and trials can save hundreds of checkpoints a second
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_DIGEST_BYTES)).hexdigest()
