PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PYTHONWARNINGS ?= ignore::FutureWarning

.PHONY: install demo test lint types schema clean

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("metaopt needs Python 3.11 or newer, but this is " + sys.version.split()[0] + "; try: make PYTHON=python3.11 $(MAKECMDGOALS)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)

demo: install
	$(BIN)/metaopt search smoke --out runs/smoke --resume

test: install
	$(BIN)/python -m pytest -n 3 --dist loadfile --durations 12

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check metaopt analysis benchmarks tests cluster search_spaces

types: install
	$(BIN)/mypy

schema: install
	$(BIN)/python -c 'from metaopt.search.study import study_schema; print(study_schema(), end="")' > metaopt/search/study.schema.json

clean:
	rm -rf runs build *.egg-info .mypy_cache .ruff_cache .pytest_cache
