"""Tests of the static files: they can be loaded, and contain nothing that the security policy forbids."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import ashwood

STATIC = Path(ashwood.__file__).parent / "dashboard" / "static"
MODULES = sorted(STATIC.rglob("*.js"))
FILES = sorted(path for path in STATIC.rglob("*") if path.is_file())
IMPORT = re.compile(r"""^(?:import|export)\b[^'";]*?\bfrom\s+["']([^"']+)["']|^import\s+["']([^"']+)["']""", re.M)
EXPORT = re.compile(r"^export\s+(?:default\s+)?(?:async\s+)?(?:function|class|const|let)\s+(\w+)", re.M)
NAMED = re.compile(r"""^import\s+(?:(\w+)\s*,?\s*)?(?:\{([^}]*)\})?\s*from\s+["']([^"']+)["']""", re.M)
SVG = "http://www.w3.org/2000/svg"


def name(path: Path) -> str:
    return str(path.relative_to(STATIC))


def imported(module: Path) -> set[Path]:
    found = {first or second for first, second in IMPORT.findall(module.read_text())}
    assert all(each.startswith(".") for each in found), "modules are found beside each other, and nowhere else"
    return {(module.parent / each).resolve() for each in found}


def test_static_files_exist() -> None:
    assert {"index.html", "style.css", "main.js", "pages/experiment.js"} <= set(map(name, FILES))


def test_every_module_parses(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        if "CI" in os.environ:
            pytest.fail("node is needed to check the pages' modules")
        pytest.skip("node isn't installed")
    # One process for all of them; early.js is a script, and reads as a module, too.
    check = (
        "const {SourceTextModule} = require('node:vm'); const {readFileSync} = require('node:fs');"
        "for (const identifier of process.argv.slice(1))"
        " new SourceTextModule(readFileSync(identifier, 'utf8'), {identifier});"
    )
    command = [node, "--no-warnings", "--experimental-vm-modules", "-e", check, "--", *map(str, MODULES)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_every_import_exists(module: Path) -> None:
    assert {path for path in imported(module) if not path.is_file()} == set()
    for default, names, where in NAMED.findall(module.read_text()):
        text = (module.parent / where).read_text()
        exported = set(EXPORT.findall(text))
        wanted = {each.split(" as ")[0].strip() for each in names.split(",") if each.strip()}
        assert wanted <= exported, f"{where} has no {wanted - exported}"
        assert not default or "export default" in text


def test_every_module_is_used() -> None:
    page = (STATIC / "index.html").read_text()
    used = {STATIC / each for each in re.findall(r'(?:src|href)="/static/([^"]+\.js)"', page)}
    todo = list(used)
    while todo:
        for path in imported(todo.pop()) - used:
            used.add(path)
            todo.append(path)
    assert used == set(MODULES)


def test_page_names_existing_files() -> None:
    page = (STATIC / "index.html").read_text()
    for path in re.findall(r'(?:src|href)="/static/([^"]+)"', page):
        assert (STATIC / path).is_file(), path


FORBIDDEN = {
    "text becomes markup": r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|setHTML",
    "text becomes code": r"\beval\(|new Function|\bFunction\(|setTimeout\(\s*[\"'`]|setInterval\(\s*[\"'`]|javascript:",
    "a string becomes a listener": r"setAttribute\(\s*[\"'`]on",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_module_turns_data_into_markup_or_code(what: str) -> None:
    found = [name(path) for path in MODULES if re.search(FORBIDDEN[what], path.read_text())]
    assert found == [], what


def test_the_page_has_no_inline_code() -> None:
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"\son\w+\s*=", page)
    assert all('src="' in tag for tag in re.findall(r"<script[^>]*>", page))
    assert "<style" not in page


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_is_fetched_from_elsewhere(path: Path) -> None:
    text = path.read_text().replace(SVG, "")
    assert not re.search(r"https?://|wss?://|[\"'(=]\s*//\w", text)
    assert path.suffix != ".css" or "@import" not in text


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_modules_have_short_lines_without_tabs(module: Path) -> None:
    text = module.read_text()
    assert not re.search(r"\t|[ ]+$", text, re.M)
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("path", ["/plotly.js", "/static/main.js", "/experiments/1"])
def test_unchanged_files_are_not_sent_again(client: TestClient, path: str) -> None:
    first = client.get(path)
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
    again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert client.get(path, headers={"If-None-Match": '"of another version"'}).content == first.content
