# Each target does its own set-up: a .venv made with the standard library's venv, and the exact versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench docs
demo: .stamps/run ; $(BIN)/convscope train mnist --name demo
test: .stamps/dev ; $(BIN)/python -m pytest -n 2 --dist worksteal
check: .stamps/dev ; $(BIN)/python tools/check.py
bench: .stamps/dev ; $(BIN)/python benchmarks/run_all.py

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "convscope needs Python 3.11 or newer; this is " + sys.version)'
	$(PYTHON) -m venv .venv
.stamps/run: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	mkdir -p .stamps && touch $@
.stamps/dev: .stamps/run requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt -e '.[pandas]'
	touch $@
