# Two commands do all: `make dev` and `make test`. Everything they need goes into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Test workers: each has a Postgres and servers beside it, so more than cores only get into each other's way.
JOBS   ?= 2

.PHONY: dev test check bench docs clean format pg-catalog

$(READY): requirements/dev.txt pyproject.toml
	@echo "setting up $(VENV) (once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pgshapes needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

NODE_READY := tests/conformance/node/node_modules/.ready
$(NODE_READY): tests/conformance/node/package-lock.json $(READY)
	@echo "setting up the real client (once)"
	@$(BIN)/python -m tests.conformance.node_program
	@touch $(NODE_READY)

dev: $(READY) $(NODE_READY)
	@$(BIN)/pgshapes dev

test: $(READY) $(NODE_READY)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

check: $(READY)
	@$(BIN)/ruff format --check src tests bench tools
	@$(BIN)/ruff check src tests bench tools
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/unit tests/architecture -n $(JOBS)

format: $(READY)
	@$(BIN)/ruff format src tests bench tools
	@$(BIN)/ruff check --fix src tests bench tools

bench: $(READY)
	@$(BIN)/python -m bench.first_numbers

docs: $(READY)
	@$(BIN)/python -m pgshapes.cli docs configuration > docs/configuration.md

# Makes src/pgshapes/where/pg_catalog.tsv from the system catalogs of an embedded server.
pg-catalog: $(READY)
	@$(BIN)/python -m tools.update_pg_catalog

clean:
	rm -rf $(VENV) tests/conformance/node/node_modules
