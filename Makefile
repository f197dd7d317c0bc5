# Nothing is needed but Python 3.11, make and pip; the virtual environment is made here.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test check unit docs clean

demo: $(READY)  ## hello-worlds of the Kafka tutorials, then a real log through a SIGKILL
	$(BIN)/python -m demo

test: $(READY)  ## every test; ends with pytest's summary
	$(BIN)/pytest -n 2 --dist loadgroup

check: $(READY)  ## format, lint, types, layers, unit and memory rings: under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/unit tests/memory

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
