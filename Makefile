# Every target creates or reuses .venv by itself, and re-installs when the project's files changed:
# `demo` what the package needs, the others the tools of development and documentation too.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGE := $(VENV)/.package
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all mutants check format bench docs clean

$(PACKAGE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $(PACKAGE)

$(STAMP): $(PACKAGE)
	$(PIP) --editable ".[dev,docs]"
	touch $(STAMP)

demo: $(PACKAGE) ## audit the shipped models on the shipped data
	@out=audits/demo-$$(date +%Y%m%d-%H%M%S); $(BIN)/conjoin audit --out $$out && \
	test -f $$out/report.html && echo "Open $$out/report.html in a browser."

test: $(STAMP) ## the test suite, without the slow tests
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2

test-all: $(STAMP) ## the whole test suite
	$(BIN)/python -m pytest --numprocesses 2

mutants: $(STAMP) ## deliberate defects: do the tests find them? (slow)
	$(BIN)/python tests/mutants.py

check: $(STAMP) ## format, lint, types, layering, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) docs

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## build the documentation; warnings are errors
	$(BIN)/sphinx-build --jobs auto --quiet --fail-on-warning --keep-going docs docs/_build/html

bench: $(STAMP) ## speed and memory against peers, in one run
	$(PIP) --no-deps torchattacks==3.5.1
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) docs/_build
