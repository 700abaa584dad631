# Two commands: `make demo` runs the main job, `make test` passes the tests.  Both set up what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check format bench torture torture-ray clean

demo: $(READY)
	cd examples/digits && ../../$(BIN)/ashwood run digits.yaml
	@echo "Look at it from examples/digits, with ../../$(BIN)/ashwood (or: source ../../$(BIN)/activate)."

test: $(READY)
	$(BIN)/pytest -n auto --dist worksteal

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY)
	$(BIN)/python -m benchmarks

torture: $(READY)
	$(BIN)/python -m tests.torture --points
	$(BIN)/python -m tests.torture --kills 1000

torture-ray: $(READY)
	$(BIN)/pytest -m slow
	$(BIN)/python -m tests.torture.on_ray
	$(BIN)/python -m tests.torture.on_ray --shared --seed 1

clean:
	rm -rf $(VENV) build dist

# The stamp is made last, so that a set-up that broke off is done again.
$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ashwood needs Python 3.11 or newer: make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
