"""Settings of Sphinx, which builds the site: ``make docs``.

The sources are the Markdown files of the repository, at their paths there, so a link works in the same way on the site
and in a view of the repository.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sphinx.application import Sphinx

import ashwood

project = "Ashwood"
release = ashwood.__version__
root_doc = "README"
include_patterns = ["*.md", "docs/**.md", "examples/README.md", "benchmarks/README.md"]
exclude_patterns = [".*", "build", "dist", "src", "tests"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]

# Links to a heading name it as repository views do, e.g. guide.md#brackets-and-modes.
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # the benchmarks' page skips a level of headings

# In docstrings, `run` is a link to the description of ashwood.run.  A name that cannot be found fails the build, except
# for types in signatures: many of them are internal or of other libraries.
default_role = "any"
nitpicky = True
nitpick_ignore = [("any", "warnings.warn")]
nitpick_ignore_regex = [("py:(class|exc)", ".*")]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"exclude-members": "__init__, __new__"}
napoleon_use_ivar = True
python_use_unqualified_type_names = True
add_module_names = False

MADE_BY_ASHWOOD = {"Experiment", "BestCheckpoint", "Trial", "ExperimentInfo", "CheckResult", "Figures"}
"""Classes whose objects users get and do not create, so their signatures are left out."""

html_theme = "furo"
html_title = "Ashwood"
html_show_sourcelink = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"

NAVIGATION = """
```{toctree}
:hidden:
:caption: Use

docs/README
docs/guide
docs/experiment-file
docs/commands
docs/api
docs/glossary
```

```{toctree}
:hidden:
:caption: Frameworks

docs/frameworks
docs/frameworks/torch
docs/frameworks/lightning
docs/frameworks/transformers
docs/frameworks/keras
docs/frameworks/sklearn
docs/frameworks/xgboost
docs/frameworks/lightgbm
docs/frameworks/catboost
```

```{toctree}
:hidden:
:caption: Run

docs/operating
docs/dashboard
docs/cluster
examples/README
```

```{toctree}
:hidden:
:caption: Coming from

docs/from-determined
docs/determined-commands
docs/from-optuna
docs/from-ray-tune
```

```{toctree}
:hidden:
:caption: The project

CHANGELOG
CONTRIBUTING
docs/architecture
benchmarks/README
```
"""


def add_navigation(_app: Sphinx, page: str, source: list[str]) -> None:
    """Add the site's table of contents to its first page."""
    if page == root_doc:
        source[0] += NAVIGATION


def hide_signature(_app: Sphinx, what: str, name: str, *_others: object) -> tuple[str, None] | None:
    """Return an empty signature for a class whose objects users do not create."""
    return ("", None) if what == "class" and name.split(".")[-1] in MADE_BY_ASHWOOD else None


def add_index(app: Sphinx, error: Exception | None) -> None:
    """Copy the first page to the name that web servers look for."""
    if error is None:
        shutil.copyfile(Path(app.outdir) / f"{root_doc}.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-signature", hide_signature)
    app.connect("build-finished", add_index)
