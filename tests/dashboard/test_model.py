"""Tests of the page's model of an experiment: its module runs in Node.js with a fake server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import ashwood

STATIC = Path(ashwood.__file__).parent / "dashboard" / "static"
BEFORE = """
const streams = [], said = [], texts = [];
const append = (...nodes) => texts.push(...nodes.filter((each) => typeof each === "string"));
const element = new Proxy({ dataset: {}, append }, { get: (own, name) => own[name] ?? (() => null) });
let answer = { seq: 10, best: { trial: 1 }, best_trial: { trial: 1, state: "running" } };
globalThis.document = new Proxy({ hidden: false }, {
  get: (own, name) => own[name] ?? (name.startsWith("query") ? () => null : () => element),
});
globalThis.fetch = async () => ({ ok: true, json: async () => answer });
globalThis.setTimeout = (work) => queueMicrotask(work);
globalThis.EventSource = class {
  constructor(url) { Object.assign(this, { url, heard: {} }); streams.push(this); }
  addEventListener(name, heard) { this.heard[name] = heard; }
  close() {}
  tell(data, event = "changed") { this.heard[event]({ data: JSON.stringify(data) }); }
};
const turn = () => new Promise((resolve) => setImmediate(resolve));
const { Model } = await import("./model.js");
const model = new Model(1, new AbortController().signal);
await model.load();
model.follow();
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("node") is None:
        if "CI" in os.environ:
            pytest.fail("node is needed to try the pages' modules")
        pytest.skip("node isn't installed")
    copy = tmp_path_factory.mktemp("modules") / "static"
    shutil.copytree(STATIC, copy)
    (copy / "package.json").write_text('{"type": "module"}')
    return copy


def played(modules: Path, script: str) -> Any:
    """What a script pushes to ``said``."""
    (modules / "played.js").write_text(f"{BEFORE}{script}\nconsole.log(JSON.stringify(said));\nprocess.exit(0);\n")
    done = subprocess.run(["node", "played.js"], capture_output=True, text=True, cwd=modules)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_stream_resumes_after_the_last_change_that_was_received(modules: Path) -> None:
    script = """
    streams[0].tell({ seq: 12, experiment: {} });
    answer = { ...answer, seq: 20 };
    await model.load();  // what happened from 12 to 20 was told to nobody yet
    streams[0].onerror();
    await turn();
    said.push(...streams.map((stream) => stream.url), model.data.seq);
    """
    path = "/api/v1/experiments/1/live?since="
    assert played(modules, script) == [f"{path}10", f"{path}12", 20]


@pytest.mark.parametrize(("delta", "state"), [({"many": 400}, "completed"), ({"trials": [{"trial": 2}]}, "running")])
def test_best_trial_is_loaded_again_after_many_changes(modules: Path, delta: dict[str, Any], state: str) -> None:
    script = f"""
    answer = {{ ...answer, seq: 12, best_trial: {{ trial: 1, state: "completed" }} }};
    streams[0].tell({{ seq: 12, experiment: {{}}, ...{json.dumps(delta)} }});
    await turn();
    said.push(model.data.best_trial.state);
    """
    assert played(modules, script) == [state]


def test_error_that_ended_a_stream_is_shown_until_it_is_restored(modules: Path) -> None:
    script = """
    streams[0].onopen();
    streams[0].tell({ error: { what: "there is no experiment 1", hint: "see: ashwood list" } }, "failed");
    streams[0].onerror();
    said.push(texts.includes("there is no experiment 1"));
    await turn();
    streams[1].onopen();
    texts.length = 0;
    streams[1].onerror();
    said.push(texts.includes("there is no experiment 1"), texts.includes("The connection to the server is lost."));
    """
    assert played(modules, script) == [True, False, True]
