"""The package ``determined`` for processes of an experiment.

The parent directory is at the end of their module search path.  If Determined AI's package is installed, this imports
it.  Otherwise, `ashwood.integrations.determined` is imported under this name.
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

_HERE = Path(__file__).resolve().parent.parent


def _import() -> None:
    # PYTHONPATH comes before the directories of installed packages, so this package can hide an installed one.
    others = [path for path in sys.path if Path(path).resolve() != _HERE]
    spec = PathFinder.find_spec("determined", others)
    if spec is not None and spec.origin is not None and spec.loader is not None:
        sys.modules["determined"] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules["determined"])
        return
    try:
        from ashwood.integrations.determined.alias import install
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "ashwood":
            raise
        raise ModuleNotFoundError(
            f"determined is not installed for {sys.executable}, and neither is Ashwood, whose replacement of it would "
            "be used: install Ashwood there, or use the Python that runs ashwood",
            name="determined",
        ) from None
    install()


_import()
