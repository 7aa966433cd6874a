# Two commands do everything on a machine with nothing but Python (3.10 or newer) and make:
#
#   make demo    train four problems with several methods, and show them on one page (minutes)
#   make test    formatter check, linter, type check and all tests
#
# `make PYTHON=python3.12 ...` picks another interpreter for the environment.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
DEMO_OUT ?= runs/demo
BENCH_OUT ?= runs/bench
DOCS_OUT ?= build/docs

BIN := $(VENV)/bin
CHECKED := src tests scripts examples docs/conf.py docs/extension hatch_build.py
EXTRAS := all,test,dev,docs
# One thread per test process: small tensors gain nothing from more, and processes would queue.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help environment demo test quick check format bench prices choices picture evidence docs
.PHONY: test-torch workflows build release-check clean

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
	$(BIN)/equipoise demo --workers $(WORKERS) --out $(DEMO_OUT)
	@echo "The page: $(CURDIR)/$(DEMO_OUT)/demo.html"

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

# README's picture, from what `make demo` found on digits.
picture: demo
	$(BIN)/python scripts/picture.py $(DEMO_OUT)/digits docs/images/digits

# The table of choices, from the rules that a diagnosis's advice comes from.
choices: environment
	$(BIN)/python scripts/choices.py docs/which.md

# The prices on the pages of methods, from what `make bench` measured.
prices: environment
	$(BIN)/python scripts/price.py $(BENCH_OUT)/bench.json docs/prices.json

# Claims of the field put to the test: hours. Finished runs are kept, so it can be stopped; one claim
# is run by `python -m scripts.evidence NAME`, a version of a minute by `--small`.
evidence: environment
	$(BIN)/python -m scripts.evidence

# The site. Every page is read anew, for a page that is not read again repeats none of its warnings.
docs: environment
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env -q docs $(DOCS_OUT)
	@echo "The site: $(CURDIR)/$(DOCS_OUT)/index.html"

# The suite with another release of torch, in an environment of its own that is made once. The index
# may serve builds with CUDA libraries, gigabytes; so this is for your own machine and the hosted CI.
#   make test-torch TORCH=2.6.0 ALSO='numpy==1.26.*' SUITE='tests/aggregation tests/gradients'
TORCH ?= 2.6.0
ALSO ?= numpy
SUITE ?= tests
OTHER ?= .venv-torch-$(TORCH)
test-torch:
	@test -x $(OTHER)/bin/pip || $(PYTHON) -m venv $(OTHER)
	@test -e $(OTHER)/.installed || { \
		$(OTHER)/bin/pip install --quiet 'torch==$(TORCH)' $(foreach one,$(ALSO),'$(one)') scipy \
			pytest pytest-xdist hypothesis cvxpy quadprog hatchling editables && \
		$(OTHER)/bin/pip install --quiet --no-build-isolation --no-deps -e . && \
		touch $(OTHER)/.installed; }
	OMP_NUM_THREADS=1 $(OTHER)/bin/python -m pytest -n $(WORKERS) --dist loadgroup \
		-m "not slow" $(SUITE)

# What releases take beside `make test`; tools that the library itself has no use for.
TOOLS := .venv-tools
$(TOOLS)/.installed: constraints.txt
	@test -x $(TOOLS)/bin/pip || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet -c constraints.txt build twine check-jsonschema zizmor hatchling
	@touch $@

workflows: $(TOOLS)/.installed
	$(TOOLS)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(TOOLS)/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(TOOLS)/bin/zizmor --offline --quiet .github

build: $(TOOLS)/.installed
	rm -rf dist
	$(TOOLS)/bin/python -m build --no-isolation --outdir dist .

# Whether what was built can be published, and works where it is installed beside a torch.
release-check: build environment
	$(TOOLS)/bin/twine check --strict dist/*
	$(BIN)/python scripts/release_check.py dist

clean:
	rm -rf $(VENV) $(TOOLS) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
