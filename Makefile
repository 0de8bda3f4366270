# Two commands for a fresh machine: `make demo` and `make test`. Both set up .venv from the lock file first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help setup demo test lint lock clean

help:
	@echo "make demo   set up, then run the whole path on the demo collection (audio -> SQL -> studies -> network)"
	@echo "make test   set up, then run the test suite"
	@echo "make setup  make the environment alone (.venv/bin/python)"
	@echo "make lint   ruff and a type check of the public functions"
	@echo "make lock   resolve pyproject.toml into requirements.lock again (needs uv)"
	@echo "make clean  remove what the demo made (data/ reports/ models/)"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; ok = (3, 11) <= v <= (3, 13); ok or sys.exit("Python 3.11 to 3.13 is needed, found %d.%d: run make PYTHON=python3.11 (or 3.12, 3.13)" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/demo.sh

test: $(STAMP)
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock:
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --extra training --extra demo --extra cluster --extra s3 --extra gs --extra dev \
	  pyproject.toml -o requirements.lock

clean:
	rm -rf data reports models
