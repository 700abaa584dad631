"""The provenance of an experiment: versions of Ashwood, Python and packages, and the git commit of the code."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ashwood import __version__
from ashwood.backends.local.load import code_file
from ashwood.checkpoints.sharing import make_shared, share_tree
from ashwood.checkpoints.trees import remove_tree
from ashwood.errors import AshwoodError, NotFound
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec

_GIT_SECONDS: Final = 2.0
_CHECKOUT_SECONDS: Final = 600.0
_SHORT: Final = 10
_MOST_PACKAGES_SHOWN: Final = 8
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
_OF_A_HOOK: Final = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")
_INSTALLED: Final = re.compile(r"(.+?)-([^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info")


def collect(workdir: Path) -> dict[str, Any]:
    """Return the provenance of training code that runs in ``workdir`` now, as JSON-able data.

    Its keys are ``ashwood``, ``python`` and ``platform`` (versions), ``packages`` (versions by name), and ``git``.
    ``git`` is None if there is no commit.  Otherwise its keys are:

    - ``root``: top directory of the repository.
    - ``commit``: full hash of the commit.
    - ``branch``: name of the branch, or None if HEAD is detached.
    - ``prefix``: path of ``workdir`` inside the repository.
    - ``dirty``: number of files that differ from the commit or are not in it, or None if that is not known.
    """
    return {
        "ashwood": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _packages(sys.path),
        "git": _git_state(workdir),
    }


def dirt(provenance: Mapping[str, Any]) -> str | None:
    """Return a sentence about files that differ from the recorded commit, or None if no such files are known."""
    git = provenance.get("git") or {}
    count = git.get("dirty")
    if not count:
        return None
    files = "1 file differs" if count == 1 else f"{count} files differ"
    return f"{files} from commit {git['commit'][:_SHORT]}; {'its' if count == 1 else 'their'} content is not recorded"


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one line for each difference between two provenances."""
    lines = []
    before, after = then.get("git") or {}, now.get("git") or {}
    if before.get("commit") != after.get("commit"):
        lines.append(f"the commit of the code was {_commit(before)}, now it is {_commit(after)}")
    if before.get("dirty"):
        lines.append(f"at that time, {dirt(then)}")
    lines.extend(
        f"{name} was {then[key]}, now it is {now[key]}"
        for key, name in (("python", "Python"), ("ashwood", "Ashwood"))
        if key in then and then[key] != now[key]
    )
    if "packages" in then:
        changed = list(_changed(then["packages"], now["packages"]))
        lines.extend(changed[:_MOST_PACKAGES_SHOWN])
        if len(changed) > _MOST_PACKAGES_SHOWN:
            lines.append(f"and {len(changed) - _MOST_PACKAGES_SHOWN} more packages have changed")
    return lines


def check_out(provenance: Mapping[str, Any], into: Path) -> tuple[Path, dict[str, Any]]:
    """Check out the files of the recorded commit into a new directory in ``into``.

    The user's index and working tree are not changed.

    Returns:
        The work directory inside the new directory, and its ``git`` provenance.

    Raises:
        NotFound: no commit was recorded, or the repository does not have it.
        AshwoodError: git cannot be run, or the files cannot be written.
    """
    git = provenance.get("git")
    if not git:
        raise NotFound("it was created outside of a git repository, so there is no commit to check out")
    root, commit = Path(git["root"]), git["commit"]
    if not root.is_dir():
        raise NotFound(f"the repository {root} no longer exists")
    if not _COMMIT.fullmatch(commit) or _run(root, ["cat-file", "-e", f"{commit}^{{commit}}"]) is None:
        raise NotFound(
            f"commit {commit[:_SHORT]} is not in the repository {root}. Get it with git fetch, then try again"
        )
    make_shared(into)
    target = Path(tempfile.mkdtemp(prefix=f"{commit[:_SHORT]}-", dir=into))
    # git gets a temporary index, so that files which the user has staged stay staged.
    environment = {"GIT_INDEX_FILE": str(target / ".ashwood-index")}
    for arguments in (["read-tree", commit], ["checkout-index", "--all", f"--prefix={target}/"]):
        if _run(root, arguments, seconds=_CHECKOUT_SECONDS, environment=environment) is None:
            remove_tree(into, target.name, ignore_errors=True)
            raise AshwoodError(f"cannot check out commit {commit[:_SHORT]}: git {arguments[0]} failed in {root}")
    (target / ".ashwood-index").unlink()
    share_tree(target)
    return target / git["prefix"], {**git, "dirty": 0}


# -- packages -------------------------------------------------------------------------------------


def _packages(path: Sequence[str]) -> dict[str, str]:
    """Return versions of installed packages by name.

    They are taken from the names of metadata directories.  That takes a millisecond; `importlib.metadata` opens a
    file for each package.
    """
    found: dict[str, str] = {}
    for directory in path:
        try:
            names = os.listdir(directory or ".")  # noqa: PTH208 - path objects would double the time
        except OSError:
            continue
        for name in names:
            # If a package is installed twice, the first one on the path is imported.
            if name.endswith("-info") and (parts := _INSTALLED.fullmatch(name)):
                found.setdefault(re.sub(r"[-_.]+", "-", parts[1]).lower(), parts[2])
    return dict(sorted(found.items()))


def _changed(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(then.keys() | now.keys()):
        before, after = then.get(name), now.get(name)
        if before is None:
            yield f"{name} was not installed, now it is {after}"
        elif after is None:
            yield f"{name} was {before}, now it is not installed"
        elif before != after:
            yield f"{name} was {before}, now it is {after}"


# -- git --------------------------------------------------------------------------------------------


def _git_state(workdir: Path) -> dict[str, Any] | None:
    # Both processes are started before either is waited for, so that they run at the same time.
    location = _start(workdir, ["rev-parse", "--show-toplevel", "--show-prefix"])
    status = _start(workdir, ["status", "--porcelain=v2", "--branch", "--untracked-files=normal"])
    location_text, status_text = _finish(location, _GIT_SECONDS), _finish(status, _GIT_SECONDS)
    if location_text is None:
        return None
    root, prefix, *_ = [*location_text.splitlines(), ""]
    if status_text is None:
        return _without_status(workdir, root, prefix)
    lines = status_text.splitlines()
    facts = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    commit, branch = facts.get("branch.oid", "(initial)"), facts.get("branch.head")
    if commit == "(initial)":
        return None
    return {
        "root": root,
        "commit": commit,
        "branch": None if branch == "(detached)" else branch,
        "prefix": prefix,
        "dirty": sum(not line.startswith("# ") and not _is_bytecode(line) for line in lines),
    }


def _is_bytecode(line: str) -> bool:
    """Return whether a line of git's status is about a directory of bytecode that Python created."""
    return line.startswith("? ") and line.rstrip("/").endswith("__pycache__")


def _without_status(workdir: Path, root: str, prefix: str) -> dict[str, Any] | None:
    """Return git's part of the provenance without ``dirty``, for a repository whose status takes too long, or None."""
    commit = _run(workdir, ["rev-parse", "--verify", "HEAD"])
    if commit is None:
        return None
    return {"root": root, "commit": commit.strip(), "branch": None, "prefix": prefix, "dirty": None}


def _run(
    directory: Path,
    arguments: list[str],
    *,
    seconds: float = _GIT_SECONDS,
    environment: Mapping[str, str] | None = None,
) -> str | None:
    return _finish(_start(directory, arguments, environment), seconds)


def _start(
    directory: Path, arguments: list[str], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes] | None:
    # If Ashwood runs in a git hook, these variables name the repository of the hook.  Optional locks are off because
    # a status must not make a git command of the user fail.
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
    quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        return subprocess.Popen(  # noqa: S603
            ["git", "-C", os.fspath(directory), *arguments],  # noqa: S607
            env={**inherited, **quiet, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:  # git is not installed.
        return None


def _finish(process: subprocess.Popen[bytes] | None, seconds: float) -> str | None:
    """Return the output of a git command, or None if it failed or took too long."""
    if process is None:
        return None
    try:
        out, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    return out.decode(errors="replace") if process.returncode == 0 else None


def _commit(git: Mapping[str, Any]) -> str:
    return str(git["commit"])[:_SHORT] if git.get("commit") else "unknown"


def code_elsewhere(spec: ExperimentSpec, directory: Path) -> str | None:
    """Return a warning if a directory has another copy of an experiment's code file, or None if it has none.

    If a project directory is copied with its home, experiments in the copied home still use the original code.
    """
    kind, target = spec.entrypoint.kind, spec.entrypoint.target
    if kind not in {EntrypointKind.FUNCTION, EntrypointKind.SCRIPT}:
        return None
    workdir, file = Path(spec.workdir), Path(spec.workdir, code_file(kind, target))
    if not file.is_relative_to(workdir) or directory.resolve() == workdir.resolve():
        return None
    here = directory / file.relative_to(workdir)
    if not here.is_file() or (file.exists() and here.samefile(file)):
        return None
    return (
        f"the training code is {file}, where the experiment was created, and not {here}. To use the latter, add "
        "--workdir ."
    )


def with_workdir(spec: ExperimentSpec, workdir: Path, *, root: Path | None = None, prefix: str = "") -> ExperimentSpec:
    """Return the spec of an experiment whose code was moved to another work directory.

    If the entrypoint is the absolute path of a script in the moved directory, that path is changed, too.

    Args:
        spec: the spec.
        workdir: the new work directory.
        root: the directory that was moved, if it is one above the work directory; by default, the work directory.
        prefix: path of the work directory inside ``root``.
    """
    entrypoint, workdir = spec.entrypoint, workdir.absolute()
    file, _, function = entrypoint.target.rpartition(":")
    script, moved = Path(spec.workdir, file).resolve(), Path(spec.workdir).resolve() if root is None else root
    if entrypoint.kind is EntrypointKind.SCRIPT and Path(file).is_absolute() and script.is_relative_to(moved):
        top = workdir.parents[len(Path(prefix).parts) - 1] if prefix else workdir
        entrypoint = Entrypoint(entrypoint.kind, f"{top / script.relative_to(moved)}:{function}")
    return replace(spec, workdir=str(workdir), entrypoint=entrypoint)
