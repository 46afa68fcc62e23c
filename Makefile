# make demo: a trained toy, restored photographs and a report; QUICK=1 is shorter, REALESRGAN=1 adds Real-ESRGAN to it.
# make test: the unit suite. Both build .venv first.
# make test-whole: the tests that train, or run commands and processes from end to end.
# make docs: the documents as a site in outputs/site. make gpu: all that a graphics card is to show, in ten minutes.
# make mutants: single faults of src that the tests must notice. make figures: the size of the house, and hops.
# The newest of the Pythons that are tested; make venv PYTHON=python3.11 takes another.
PYTHON ?= $(shell for v in 3.13 3.12 3.11; do python$$v -c "" 2>/dev/null && echo python$$v && break; done)
BIN := .venv/bin

.PHONY: demo realesrgan docs test test-whole venv check mutants figures gpu clean

demo: venv $(if $(REALESRGAN),realesrgan,)
	$(BIN)/python scripts/demo.py $(if $(QUICK),--quick,) $(if $(REALESRGAN),--realesrgan,)

realesrgan: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[realesrgan]'

test: venv
	$(BIN)/python -m pytest

test-whole: venv
	$(BIN)/python -m pytest -m "whole and not slow"

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build

mutants: venv
	$(BIN)/python scripts/mutants.py

figures: venv
	$(BIN)/python scripts/figures.py

gpu: venv
	$(BIN)/python benchmarks/gpu.py $(GPU)

venv: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no python3.11, python3.12 or python3.13 found; make venv PYTHON=PATH"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv outputs shards
