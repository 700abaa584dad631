"""What all integrations have in common: missing packages and units."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import ashwood
from ashwood.errors import AshwoodError, MissingPackage, TrainingCodeError
from ashwood.integrations.common import check_metric, check_unit
from ashwood.trial import Trial
from tests.trial.links import ScriptedLink, make_job

PACKAGES = {
    "catboost": "catboost",
    "keras": "keras",
    "lightgbm": "lightgbm",
    "lightning": "lightning",
    "sklearn": "sklearn",
    "torch": "torch",
    "transformers": "transformers",
    "xgboost": "xgboost",
}
"""Package that each integration needs."""


@pytest.mark.parametrize("name", PACKAGES)
def test_missing_framework_names_the_extra_that_installs_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "lightning":
        pytest.importorskip("torch")  # Without it, the message names the extra of PyTorch.
        monkeypatch.setitem(sys.modules, "lightning.pytorch", None)  # An earlier test may have imported it.
    monkeypatch.delitem(vars(ashwood), name, raising=False)
    monkeypatch.delitem(sys.modules, f"ashwood.integrations.{name}", raising=False)
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)  # makes its import fail
    with pytest.raises(MissingPackage, match=rf"ashwood\.{name} needs .*: pip install 'ashwood\[{name}\]'") as caught:
        getattr(ashwood, name)
    assert isinstance(caught.value, (AshwoodError, ImportError))


@pytest.mark.parametrize("name", PACKAGES)
def test_integration_can_be_imported_by_name_and_imports_nothing_of_the_driver(name: str) -> None:
    if find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{name} is not installed")
    public = {"sklearn": "partial_fit", "torch": "state", "lightning": "fit", "keras": "fit", "catboost": "fit"}
    code = f"import sys; from ashwood.{name} import {public.get(name, 'train')}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {module.split(".")[1] for module in done.stdout.split() if module.startswith("ashwood.")}
    # The hp_space of Transformers is made of hyperparameters, which are a small part of `search` and `spaces`.
    more = {"search", "spaces"} if name == "transformers" else set()
    assert ours - {name} - more <= {"checkpoints", "errors", "integrations", "trial"}


@pytest.mark.parametrize("name", PACKAGES)
def test_module_has_at_most_150_lines(name: str) -> None:
    directory = Path(ashwood.__file__).parent / "integrations"
    sources = [*directory.glob(f"{name}.py"), *directory.glob(f"{name}/*.py")]
    assert sources
    for source in sources:
        assert len(source.read_text().splitlines()) <= 150, source


def test_unit_that_a_framework_cannot_count_is_refused() -> None:
    trial = ashwood.get_trial(records=100)
    with pytest.raises(TrainingCodeError, match=r"Keras cannot count records: write max_length: {epochs: N}"):
        check_unit(trial, "Keras", "epochs")
    check_unit(ashwood.get_trial(epochs=1), "Keras", "epochs")


def test_metric_that_is_not_reported_is_refused_with_the_reported_names() -> None:
    trial = Trial(make_job(Path(), metric="val_acuracy"), ScriptedLink())
    with pytest.raises(TrainingCodeError, match=r"'val_acuracy', which is not reported .did you mean 'val_accuracy'"):
        check_metric(trial, ["loss", "val_accuracy"])
    with pytest.raises(TrainingCodeError, match="Reported metrics: none"):
        check_metric(trial, [])
    check_metric(trial, ["val_acuracy"])
    check_metric(ashwood.get_trial(epochs=1), ["loss"])
