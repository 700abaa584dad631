# `make demo` runs an example search, `make test` runs the tests, `make docs` builds the documentation.  Each target first
# installs what it needs into $(VENV).

# Let Python cache bytecode, also if the shell forbids it: a search starts many processes, and each of them would compile
# every module that it imports.
export PYTHONDONTWRITEBYTECODE :=

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/.dev
# One worker more than there are cores, as many tests wait for processes.
PYTEST := $(BIN)/pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal

# Tests of the search, the engine, local trials and the main commands: they need only the extra "test".
QUICK := $(addprefix tests/,backends checkpoints config engine eventlog experiment forecast search trial views test_api.py) \
	$(addprefix tests/cli/test_,commands.py control.py output.py quantities.py) \
	--ignore-glob '*/test_ray_*' --ignore-glob '*/test_postgres*'

.PHONY: demo docs pictures test test-all test-quick check format bench torture clean

# The extra "dev" contains "examples", so after `make test` there is nothing left to install.
demo: $(or $(wildcard $(DEV)),$(VENV)/.examples)
	cd examples/digits && ../../$(BIN)/ashwood run digits.yaml
	@echo "Look at it from examples/digits, with ../../$(BIN)/ashwood (or: source ../../$(BIN)/activate)."

# Warnings are errors: a broken link or a docstring that cannot be shown fails the build.
docs: $(or $(wildcard $(DEV)),$(VENV)/.docs)
	$(BIN)/sphinx-build -q -W --keep-going -c docs . build/site
	@echo "Open build/site/index.html in a browser."

pictures: $(DEV)
	$(BIN)/python docs/make_picture.py
	$(BIN)/python docs/make_dashboard_picture.py

test: $(DEV)
	$(PYTEST)

# Also installs all frameworks that Ashwood integrates, several GB.
test-all: $(DEV) $(VENV)/.frameworks
	HYPOTHESIS_PROFILE=all $(PYTEST) -m '' --timeout 1200

# With another Python: make test-quick PYTHON=python3.13 VENV=.venv-3.13
test-quick: $(VENV)/.test
	$(PYTEST) $(QUICK)

check: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(DEV)
	$(BIN)/python -m benchmarks

torture: $(DEV)
	$(BIN)/python -m tests.torture --points
	$(BIN)/python -m tests.torture --kills 1000
	$(BIN)/python -m tests.torture.mutations --count 5000
	$(BIN)/python -m tests.torture.restores --count 100
	$(BIN)/python -m tests.torture.restores --count 50 --store postgresql
	$(BIN)/python -m tests.torture.outages --count 10
	for n in 1 2 3 4 5 6 7 8 9 10; do $(PYTEST) -q tests/eventlog/test_sharing.py tests/eventlog/test_postgres_files.py || exit 1; done
	$(BIN)/python -m tests.torture.on_ray
	$(BIN)/python -m tests.torture.on_ray --shared --seed 1

clean:
	rm -rf $(VENV) .venv-* build dist

# $(VENV)/.EXTRA is a stamp: it says that an extra of pyproject.toml is installed in the environment.  It is written
# last, so that an interrupted installation is repeated.
$(VENV)/.%: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ashwood needs Python 3.11 or newer: make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(COMPILE) --editable '.[$*]'
	touch $@

# Compiling all of SciPy takes longer than installing it.  Python compiles what the example imports when it imports it.
$(VENV)/.examples: COMPILE := --no-compile
