# One command per intent. Needs make and Python 3.11 or newer; writes inside this folder only.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MINUTES ?= 15
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
EDITABLE := $(PIP) install --quiet --no-deps --no-build-isolation --editable .
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-faults lint bench bench-long soak profile examples lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

run: $(VENV)/runtime.stamp models/breast_cancer/1/bundle.yaml ## serve the example on 127.0.0.1:8000 (PLUMBLINE__SERVER__PORT)
	@exec $(BIN)/plumbline serve

test: $(VENV)/dev.stamp examples ## run the whole suite, fault tests included
	$(BIN)/python -m pytest -n auto -m "not fault"
	$(BIN)/python -m pytest -m fault

test-faults: $(VENV)/dev.stamp ## kill, restart and starve real processes
	$(BIN)/python -m pytest -m fault -v

lint: $(VENV)/dev.stamp ## check style, types, the Dockerfile and, where promtool is installed, the Prometheus files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	@if command -v promtool > /dev/null; then promtool check config deploy/prometheus.yml; fi

bench: $(VENV)/dev.stamp models/breast_cancer/1/bundle.yaml ## measure against the targets, 6 minutes; rewrites the tables in benchmarks/README.md
	$(BIN)/python -m benchmarks.run

bench-long: $(VENV)/dev.stamp models/breast_cancer/1/bundle.yaml ## measure beside checks and a shadow, over a million predictions, and while old rows go; 20 minutes
	$(BIN)/python -m benchmarks.long

soak: $(VENV)/dev.stamp models/breast_cancer/1/bundle.yaml ## half capacity with scrapes and checks, MINUTES=15
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

profile: $(VENV)/dev.stamp models/breast_cancer/1/bundle.yaml ## where the microseconds of a request go
	$(BIN)/python -m benchmarks.cpu

examples: models/breast_cancer/1/bundle.yaml models/flights/1/bundle.yaml ## build both example bundles

lock: $(VENV)/dev.stamp ## resolve the dependencies again and rewrite both lock files
	$(COMPILE) --extra build pyproject.toml -o requirements.lock
	$(COMPILE) --all-extras -c requirements.lock pyproject.toml -o requirements-dev.lock

clean: ## remove the environment and all caches; bundles and databases stay
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A bundle that is there stays, whatever its age: it may be in use, and its database speaks of it.
models/breast_cancer/1/bundle.yaml: | $(VENV)/runtime.stamp
	$(BIN)/python models/examples.py breast_cancer

models/flights/1/bundle.yaml: | $(VENV)/dev.stamp
	$(BIN)/python models/examples.py flights

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# The development lock holds every pin of the runtime lock, so one environment serves both.
$(VENV)/runtime.stamp: requirements.lock | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r $<
	$(EDITABLE)
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r $<
	$(EDITABLE)
	@touch $@ $(VENV)/runtime.stamp
