# Each target does its own set-up: a .venv made with the standard library's venv, and the exact versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench docs axe
demo: .stamps/run
	$(BIN)/convscope train mnist --name demo
	@echo 'Next: source .venv/bin/activate, then convscope diagnose runs/demo, or convscope lab runs/demo to look inside in the browser.'
test: .stamps/dev ; OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal  # two processes of one thread each do not wait for each other
check: .stamps/dev ; $(BIN)/python tools/check.py
bench: .stamps/dev ; $(BIN)/python benchmarks/run_all.py
docs: .stamps/dev ; $(BIN)/python -m sphinx -b html -q -W --keep-going docs site
axe: .stamps/axe/node_modules/axe-core/axe.min.js

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "convscope needs Python 3.11 or newer; this is " + sys.version)'
	@echo 'Setting up .venv, once: one to three minutes, most of them for PyTorch.'
	$(PYTHON) -m venv .venv
.stamps/run: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	mkdir -p .stamps && touch $@
.stamps/dev: .stamps/run requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt -e '.[pandas]'
	touch $@
# The accessibility checks of the lab's page (tests/lab) are skipped without it, except in CI; only tests use it, so it is not shipped.
.stamps/axe/node_modules/axe-core/axe.min.js:
	npm install --silent --no-save --no-package-lock --prefix .stamps/axe axe-core@4.14.1
