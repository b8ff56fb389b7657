# Two commands do all: `make dev` and `make test`. Everything they need goes into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Test processes: more than cores, because many tests wait for a deadline or for a server to start.
JOBS   ?= 4
# Hundreds of servers are started: each would compile the program again.
unexport PYTHONDONTWRITEBYTECODE
PYTEST  = $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup
CODE   := src tests bench tools

# The files that the program makes, and the command that prints each; `make docs` writes them.
GENERATED := docs/configuration.md
print-docs/configuration.md = $(BIN)/python -m pgshapes.cli docs configuration

.NOTPARALLEL:
.PHONY: dev test test-pg test-python coverage check gate format-check lint types generated format requirements release-check bench docs pg-catalog clean

$(READY): requirements/dev.txt pyproject.toml
	@echo "setting up $(VENV) (once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pgshapes needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

NODE_READY := tests/conformance/node/node_modules/.ready
$(NODE_READY): tests/conformance/node/package-lock.json | $(READY)
	@echo "setting up the real client (once)"
	@$(BIN)/python -m tests.conformance.node_program
	@touch $(NODE_READY)

POOLER_READY := tests/support/pooler/installed/.ready
$(POOLER_READY): tests/support/pooler/installation.py | $(READY)
	@echo "setting up PgBouncer (once)"
	@$(BIN)/python -m tests.support.pooler.installation
	@touch $(POOLER_READY)

# Postgres 14, 15 and 17 for the tests; 16 and 18 are in $(VENV).
POSTGRES := tests/support/postgres/versions
INSTALLED = $(addsuffix /node_modules/.ready,$(wildcard $(POSTGRES)/$(1)))
$(call INSTALLED,*): $(POSTGRES)/%/node_modules/.ready: $(POSTGRES)/%/package-lock.json | $(READY)
	@echo "setting up Postgres $* (once)"
	@$(BIN)/python -m tests.support.postgres.installations $*
	@touch $@

dev: $(READY) $(NODE_READY)
	@$(BIN)/pgshapes dev

test: gate $(NODE_READY) $(POOLER_READY) $(call INSTALLED,*)
	@$(PYTEST) $(ARGS)

check: gate
	@$(PYTEST) tests/unit tests/architecture $(ARGS)

# `make test-pg PG=14`: all tests on one version, 14 to 18.
PG ?= 18
test-pg: $(READY) $(NODE_READY) $(POOLER_READY) $(call INSTALLED,$(PG))
	@PGSHAPES_TEST_PG=$(PG) $(PYTEST) $(ARGS)

# `make test-python PYTHON=python3.13`: in an environment of its own.
test-python:
	@$(MAKE) --no-print-directory PYTHON=$(PYTHON) VENV=.venv-$(notdir $(PYTHON)) test

# Servers that tests start are measured too, except those that a test kills.
COVERED ?= tests/unit tests/contract tests/integration
coverage: $(READY)
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m coverage run -m pytest -n $(JOBS) --dist loadgroup $(COVERED) $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report

# What must hold before a test runs, the quickest first; the first that fails ends `make`.
gate: format-check lint types generated

format-check: $(READY)
	@echo "gate: format"
	@$(BIN)/ruff format --quiet --diff $(CODE)

lint: $(READY)
	@echo "gate: lint"
	@$(BIN)/ruff check --quiet $(CODE)

types: $(READY)
	@echo "gate: types"
	@$(BIN)/mypy --no-error-summary

generated: $(GENERATED:%=generated/%)

.PHONY: $(GENERATED:%=generated/%) $(GENERATED:%=made/%)
$(GENERATED:%=generated/%): generated/%: $(READY)
	@echo "gate: generated $*"
	@$(print-$*) | diff -u $* - || { echo "$* is not what the program prints: run make docs" >&2; exit 1; }

docs: $(GENERATED:%=made/%)

$(GENERATED:%=made/%): made/%: $(READY)
	@$(print-$*) > $*.new
	@mv $*.new $*

format: $(READY)
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

# uv is needed for this alone, so it has an environment of its own.
requirements:
	@$(PYTHON) -m venv .venv-uv
	@.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@.venv-uv/bin/uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes \
		--no-annotate --custom-compile-command "make requirements" $(ARGS) \
		requirements/dev.in --output-file requirements/dev.txt

release-check: $(READY)
	@$(BIN)/python -m tools.release_check

bench: $(READY)
	@$(BIN)/python -m bench.first_numbers

# Makes src/pgshapes/where/pg_catalog.tsv from the system catalogs of an embedded server.
pg-catalog: $(READY)
	@$(BIN)/python -m tools.update_pg_catalog

clean:
	rm -rf $(VENV) .venv-* tests/conformance/node/node_modules $(dir $(POOLER_READY)) $(POSTGRES)/*/node_modules
