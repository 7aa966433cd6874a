# Two commands do everything on a machine with nothing but Python (3.10 or newer) and make:
#
#   make demo    train handwritten digits with several balancers and write a report
#   make test    formatter check, linter, type check and all tests
#
# `make PYTHON=python3.12 ...` picks another interpreter for the environment.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
DEMO_OUT ?= runs/digits
BENCH_OUT ?= runs/bench
DOCS_OUT ?= build/docs

BIN := $(VENV)/bin
CHECKED := src tests scripts examples docs/conf.py docs/extension
EXTRAS := all,test,dev,docs
# One thread per test process: small tensors gain nothing from more, and processes would queue.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help environment demo test quick check format bench prices choices picture docs clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

environment: $(VENV)/.installed

# The stamp makes this run once, and again whenever what is to be installed has changed.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "equipoise needs Python 3.10 or newer, $(PYTHON) is older; write make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) || \
		{ rm -rf $(VENV); echo "$(PYTHON) cannot make environments; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet -c constraints.txt hatchling editables
	$(BIN)/pip install --quiet -c constraints.txt --no-build-isolation -e '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.peers: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt --no-build-isolation -e '.[$(EXTRAS),peers]'
	@touch $@

demo: environment
	$(BIN)/equipoise compare digits --out $(DEMO_OUT)
	@echo "The report: $(CURDIR)/$(DEMO_OUT)/report.html"

check: environment
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/mypy

test: check
	EQUIPOISE_HYPOTHESIS=full $(PYTEST)

quick: environment
	$(PYTEST) -m "not slow"

format: environment
	$(BIN)/ruff check --fix-only --quiet $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

# Best on an idle machine: every step is timed beside a plain sum, but noise widens the quartiles.
bench: $(VENV)/.peers
	$(BIN)/equipoise bench --peers --every 1,10 --out $(BENCH_OUT)

# README's picture, from what `make demo` found.
picture: demo
	$(BIN)/python scripts/picture.py $(DEMO_OUT) docs/images/digits

# The table of choices, from the rules that a diagnosis's advice comes from.
choices: environment
	$(BIN)/python scripts/choices.py docs/which.md

# The prices on the pages of methods, from what `make bench` measured.
prices: environment
	$(BIN)/python scripts/price.py $(BENCH_OUT)/bench.json docs/prices.json

# The site. Every page is read anew, for a page that is not read again repeats none of its warnings.
docs: environment
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env -q docs $(DOCS_OUT)
	@echo "The site: $(CURDIR)/$(DOCS_OUT)/index.html"

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
