import subprocess
import sys


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_ashwood_imports_nothing_heavy() -> None:
    loaded = set(run("import sys, ashwood; print(*sys.modules)").split())
    assert not loaded & {"typer", "rich", "pydantic", "yaml", "numpy", "pandas", "sqlite3", "ashwood.api.experiment"}


def test_drawing_libraries_are_imported_when_something_is_drawn() -> None:
    loaded = set(run("import sys, ashwood.api.experiment, ashwood.cli.main; print(*sys.modules)").split())
    assert not loaded & {"matplotlib", "numpy", "PIL", "plotly"}


def test_commands_that_show_experiments_do_not_import_what_runs_them() -> None:
    loaded = set(run("import sys, ashwood.cli.show, ashwood.terminal.watch; print(*sys.modules)").split())
    assert not loaded & {"ashwood.engine", "ashwood.backends", "ashwood.config"}


def test_dashboard_starts_without_what_few_pages_need() -> None:
    loaded = set(run("import sys, ashwood.cli.ui, ashwood.dashboard.app; print(*sys.modules)").split())
    assert not loaded & {"ashwood.engine", "ashwood.backends", "ashwood.config", "ashwood.figures.report", "numpy"}


def test_ray_is_imported_when_trials_run_on_a_cluster() -> None:
    loaded = set(run("import sys, ashwood.api.experiment, ashwood.backends.ray; print(*sys.modules)").split())
    assert "ray" not in loaded


def test_training_code_gets_by_with_the_standard_library() -> None:
    loaded = set(run("import sys, ashwood; ashwood.Trial, ashwood.get_trial; print(*sys.modules)").split())
    ours = {name for name in loaded if name.startswith("ashwood.")}
    assert {name.split(".")[1] for name in ours} == {"trial", "checkpoints", "errors"}
    assert not loaded & {"typer", "rich", "pydantic", "yaml", "numpy", "sortedcontainers", "cloudpickle", "asyncio"}


def test_every_public_name_is_there() -> None:
    import ashwood

    assert all(hasattr(ashwood, name) for name in ashwood.__all__)
    frameworks = {"catboost", "keras", "lightgbm", "lightning", "sklearn", "torch", "transformers", "xgboost"}
    assert set(dir(ashwood)) == {*ashwood.__all__, *frameworks}
