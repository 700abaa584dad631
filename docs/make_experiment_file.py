"""Write the tables of keys in experiment-file.md: ``.venv/bin/python docs/make_experiment_file.py``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ashwood.config.backend import BackendSection
from ashwood.config.file import Environment, ExperimentFile, Reproducibility
from ashwood.config.resources import Resources
from ashwood.config.searcher import SearcherSection, StopWhen
from ashwood.config.section import Key, Section
from ashwood.config.storage import StorageSection
from ashwood.search.settings import Method

PAGE = Path(__file__).with_name("experiment-file.md")
SECTIONS: dict[str, list[type[Section]]] = {
    "top level": [ExperimentFile],
    "searcher": [SearcherSection, StopWhen],
    "backend": [BackendSection],
    "checkpoint_storage": [StorageSection],
    "resources": [Resources],
    "other sections": [Reproducibility, Environment],
}
ANCHORS = {
    "hyperparameters": "Hyperparameters",
    "constraints": "Constraints",
    "searcher": "Searcher",
    "backend": "Backend",
    "checkpoint_storage": "Checkpoint storage",
    "resources": "Resources",
    "reproducibility": "Seed and environment variables",
    "environment": "Seed and environment variables",
}
END = "<!-- end of table -->\n"
CODE = re.compile(r"\{[^}]*\}|--[a-z]+|\w+://[\w/]+|\w+(_\w+)+(\.\w+)*(\(\))?|\w+\.\w+\(\)|(mode|backend|type): \w+")


def with_tables(page: str) -> str:
    """Return the text of the page with the present keys in its tables."""
    for name, models in SECTIONS.items():
        begin = f"<!-- make_experiment_file.py writes this table: {name} -->\n"
        before, mark, rest = page.partition(begin)
        _, end, after = rest.partition(END)
        if not mark or not end:
            raise ValueError(f"{PAGE} must contain {begin!r} and then {END!r}, between which the table is written")
        page = f"{before}{begin}\n" + "".join(f"{line}\n" for line in _table(models)) + f"\n{END}{after}"
    return page


def _table(models: list[type[Section]]) -> Iterator[str]:
    rows = [(model, name, key) for model in models for name, key in model.declared().items()]
    has_for = any(key.only for _, _, key in rows)
    yield "| key | for | default | |" if has_for else "| key | default | |"
    yield "|---|---|---|---|" if has_for else "|---|---|---|"
    for model, name, key in rows:
        path = ".".join(map(str, (*model.at, name)))
        use = f" {_use(model, key)} |" if has_for else ""
        yield f"| `{path.removeprefix('searcher.')}` |{use} {_default(key)} | {_description(path, key)} |"


def _use(model: type[Section], key: Key) -> str:
    everything = set(Method) if model is SearcherSection else None
    if not key.only:
        return "all"
    missing = sorted(everything - set(key.only)) if everything else []
    if 0 < len(missing) < len(key.only):
        return "all but " + ", ".join(f"`{each}`" for each in missing)
    return ", ".join(f"`{each}`" for each in key.only)


def _default(key: Key) -> str:
    if key.required:
        return "required"
    if key.otherwise != "none" or key.default in (None, "", ()):
        return _code(key.otherwise)
    return f"{key.default}".lower() if isinstance(key.default, bool | int) else f"`{key.default}`"


def _description(path: str, key: Key) -> str:
    words = key.kind.schema.get("enum", ())
    listed = "" if all(word in key.description for word in words) else f" One of {', '.join(words)}."
    link = f" See [{ANCHORS[path]}](#{ANCHORS[path].lower().replace(' ', '-')})." if path in ANCHORS else ""
    return _code(key.description + listed) + link


def _code(text: str) -> str:
    return CODE.sub(lambda match: f"`{match[0]}`", " ".join(text.split())).replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
