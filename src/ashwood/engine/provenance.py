"""What an experiment was started with: versions of Ashwood, Python and packages, and the commit of the code."""

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
from ashwood.errors import AshwoodError, NotFound
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec
from ashwood.trial.sharing import make_shared, share_tree
from ashwood.trial.storage.trees import remove_tree

_GIT_SECONDS: Final = 2.0
_CHECKOUT_SECONDS: Final = 600.0
_SHORT: Final = 10
_MOST_PACKAGES_TOLD: Final = 8
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
_OF_A_HOOK: Final = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")
_INSTALLED: Final = re.compile(r"(.+?)-([^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info")


def collect(workdir: Path) -> dict[str, Any]:
    """What training code that runs in ``workdir`` would meet now, as JSON-able data.

    Keys: ``ashwood``, ``python``, ``platform``; ``packages`` (version by name); ``git``: ``root``, ``commit``,
    ``branch`` (None: detached), ``prefix`` (of the work directory inside the repository), ``dirty`` (how many files
    differ from the commit or aren't in it); or None where there is no commit to name.
    """
    return {
        "ashwood": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _packages(sys.path),
        "git": _git_state(workdir),
    }


def dirt(provenance: Mapping[str, Any]) -> str | None:
    """What the recorded commit doesn't tell of the code; None: it tells all, or there is none."""
    git = provenance.get("git") or {}
    count = git.get("dirty")
    if not count:
        return None
    files = "1 file differs" if count == 1 else f"{count} files differ"
    return (
        f"{files} from commit {git['commit'][:_SHORT]}: what {'it holds' if count == 1 else 'they hold'} isn't recorded"
    )


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is no longer as it was, a line each."""
    lines = []
    before, after = then.get("git") or {}, now.get("git") or {}
    if before.get("commit") != after.get("commit"):
        lines.append(f"the code's commit was {_commit(before)}, now it is {_commit(after)}")
    if before.get("dirty"):
        lines.append(f"then, {dirt(then)}")
    lines.extend(
        f"{name} was {then[key]}, now it is {now[key]}"
        for key, name in (("python", "Python"), ("ashwood", "Ashwood"))
        if key in then and then[key] != now[key]
    )
    if "packages" in then:
        changed = list(_changed(then["packages"], now["packages"]))
        lines.extend(changed[:_MOST_PACKAGES_TOLD])
        if len(changed) > _MOST_PACKAGES_TOLD:
            lines.append(f"and {len(changed) - _MOST_PACKAGES_TOLD} more packages have changed")
    return lines


def check_out(provenance: Mapping[str, Any], into: Path) -> tuple[Path, dict[str, Any]]:
    """Lay the files of the recorded commit out, in a new directory of ``into``.

    The repository itself is left as it is.

    Returns:
        the work directory inside, and the provenance's ``git`` that it has.

    Raises:
        NotFound: no commit was recorded, or the repository doesn't have it.
        AshwoodError: git can't be run, or the files can't be written.
    """
    git = provenance.get("git")
    if not git:
        raise NotFound("it was started outside of a git repository, so there is no commit to lay out")
    root, commit = Path(git["root"]), git["commit"]
    if not root.is_dir():
        raise NotFound(f"the repository {root} isn't there any more")
    if not _COMMIT.fullmatch(commit) or _run(root, ["cat-file", "-e", f"{commit}^{{commit}}"]) is None:
        raise NotFound(
            f"commit {commit[:_SHORT]} isn't in the repository {root}; get it with git fetch, then try again"
        )
    make_shared(into)
    target = Path(tempfile.mkdtemp(prefix=f"{commit[:_SHORT]}-", dir=into))
    # An index of its own: the user's is not touched.
    environment = {"GIT_INDEX_FILE": str(target / ".ashwood-index")}
    for arguments in (["read-tree", commit], ["checkout-index", "--all", f"--prefix={target}/"]):
        if _run(root, arguments, seconds=_CHECKOUT_SECONDS, environment=environment) is None:
            remove_tree(into, target.name, ignore_errors=True)
            raise AshwoodError(f"git {arguments[0]} failed in {root}: the files of {commit[:_SHORT]} aren't laid out")
    (target / ".ashwood-index").unlink()
    share_tree(target)
    return target / git["prefix"], {**git, "dirty": 0}


# -- packages -------------------------------------------------------------------------------------


def _packages(path: Sequence[str]) -> dict[str, str]:
    """Installed packages: the names of their directories say all, and reading those costs a millisecond."""
    found: dict[str, str] = {}
    for directory in path:
        try:
            names = os.listdir(directory or ".")  # noqa: PTH208 a path object a package would double the time
        except OSError:
            continue
        for name in names:
            # What comes first on the path is what is imported.
            if name.endswith("-info") and (parts := _INSTALLED.fullmatch(name)):
                found.setdefault(re.sub(r"[-_.]+", "-", parts[1]).lower(), parts[2])
    return dict(sorted(found.items()))


def _changed(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(then.keys() | now.keys()):
        before, after = then.get(name), now.get(name)
        if before is None:
            yield f"{name} {after} is installed now, then it was not"
        elif after is None:
            yield f"{name} was {before}, now it isn't installed"
        elif before != after:
            yield f"{name} was {before}, now it is {after}"


# -- git --------------------------------------------------------------------------------------------


def _git_state(workdir: Path) -> dict[str, Any] | None:
    place = _start(workdir, ["rev-parse", "--show-toplevel", "--show-prefix"])
    status = _start(workdir, ["status", "--porcelain=v2", "--branch", "--untracked-files=normal"])
    place_text, status_text = _finish(place, _GIT_SECONDS), _finish(status, _GIT_SECONDS)
    if place_text is None:
        return None
    root, prefix, *_ = [*place_text.splitlines(), ""]
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
    """Return whether a line of git's status is about a directory that Python made, which holds no code of its own."""
    return line.startswith("? ") and line.rstrip("/").endswith("__pycache__")


def _without_status(workdir: Path, root: str, prefix: str) -> dict[str, Any] | None:
    """Of a repository so large that its status takes too long: whether it is dirty isn't known."""
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
    # A git hook that runs Ashwood names its own repository; and a look at one must not lock it for others.
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
    except OSError:  # there is no git
        return None


def _finish(process: subprocess.Popen[bytes] | None, seconds: float) -> str | None:
    """What git printed; None where it failed, or took too long."""
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
    return str(git["commit"])[:_SHORT] if git.get("commit") else "not known"


def code_elsewhere(spec: ExperimentSpec, directory: Path) -> str | None:
    """Return a warning if a directory has the same code file as the work directory, or None if it has none.

    A copy of a project has a copy of its home, whose experiments still name the original.
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
    return f"the training code is {file}, where the experiment was created, and not {here}; for that, add --workdir ."


def with_workdir(spec: ExperimentSpec, workdir: Path, *, root: Path | None = None, prefix: str = "") -> ExperimentSpec:
    """Return a spec whose code was moved; the absolute path of a script moves along if it is in the moved directory.

    Args:
        spec: the spec.
        workdir: the new work directory.
        root: the directory that was moved, if that was not the work directory itself but one above it.
        prefix: path of the work directory inside ``root``.
    """
    entrypoint, workdir = spec.entrypoint, workdir.absolute()
    place, _, function = entrypoint.target.rpartition(":")
    script, moved = Path(spec.workdir, place).resolve(), Path(spec.workdir).resolve() if root is None else root
    if entrypoint.kind is EntrypointKind.SCRIPT and Path(place).is_absolute() and script.is_relative_to(moved):
        top = workdir.parents[len(Path(prefix).parts) - 1] if prefix else workdir
        entrypoint = Entrypoint(entrypoint.kind, f"{top / script.relative_to(moved)}:{function}")
    return replace(spec, workdir=str(workdir), entrypoint=entrypoint)
