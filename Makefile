# One command per intent. Needs make and Python 3.11 to 3.14; writes inside this folder only.
VENV := .venv
BIN := $(VENV)/bin
# The first that runs and is supported; a name alone is no proof, as pyenv has names of versions that are off.
PYTHON ?= $(shell for python in $(BIN)/python python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2> /dev/null && \
	echo $$python && break; done)
ENVIRONMENT = $(or $(PYTHON),$(error Python 3.11 to 3.14 is needed, and none is on the PATH)) -m scripts.environment
EXAMPLE = $(BIN)/python -m scripts.steps .cache/examples.log example $(@D) -- $(BIN)/python models/examples.py
MINUTES ?= 15
EXAMPLES ?= 20000
TESTS ?=
ADVISORIES ?=
UPGRADE ?= --upgrade
COMPILE := $(BIN)/uv pip compile --quiet $(UPGRADE) --universal --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-emit-package colorama --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo test coverage test-faults test-interpreters fuzz lint bench bench-long soak profile examples lock sbom audit \
	clean runtime development

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

run: runtime models/breast_cancer/1/bundle.yaml ## serve the example on 127.0.0.1:8000 (PLUMBLINE__SERVER__PORT)
	@exec $(BIN)/python -m scripts.serve

demo: development models/flights/1/bundle.yaml ## a week of flights in three minutes with a drift, wrong outcomes and recoveries, then the page on it
	@exec $(BIN)/python -m scripts.demo

test: development examples ## run the whole suite, fault tests included (TESTS="tests/store" for a part)
	@exec $(BIN)/python -m scripts.suite $(if $(CI)$(TESTS),$(if $(TESTS),$(TESTS),--coverage))

coverage: development examples ## the same, and measure which branches of app/ the quick tests take; fails below the limit
	@exec $(BIN)/python -m scripts.suite --coverage

test-faults: development ## kill, restart and starve real processes
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "fault and not interpreters" -v

fuzz: development ## the fuzz tests alone, with new and more examples than in the suite, EXAMPLES=20000
	FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -v tests/faults/fuzz

test-interpreters: development ## install and serve a fresh checkout under every supported Python that is here
	$(BIN)/python -m pytest -n 2 -m interpreters -v

lint: development ## check style, types, the Dockerfile and, where promtool is installed, the Prometheus files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	@if command -v promtool > /dev/null; then \
		promtool check config deploy/prometheus.yml deploy/prometheus/prometheus.yml && \
		promtool test rules deploy/prometheus/tests/alerts_test.yml; fi

bench: development models/breast_cancer/1/bundle.yaml ## measure against the targets, 6 minutes; rewrites the tables in benchmarks/README.md
	$(BIN)/python -m benchmarks.run

bench-long: development models/breast_cancer/1/bundle.yaml ## measure beside checks and a shadow, over a million predictions, and while old rows go; 20 minutes
	$(BIN)/python -m benchmarks.long

soak: development models/breast_cancer/1/bundle.yaml ## half capacity with scrapes and checks, MINUTES=15
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

profile: development models/breast_cancer/1/bundle.yaml ## where the microseconds of a request go
	$(BIN)/python -m benchmarks.cpu

examples: models/breast_cancer/1/bundle.yaml models/flights/1/bundle.yaml ## build both example bundles

sbom: development ## write sbom.cdx.json, the bill of materials of the runtime, from its lock
	@$(BIN)/python -m scripts.sbom

audit: development ## compare both locks with security advisories in a file in OSV format, ADVISORIES=all.zip; no network
	@$(BIN)/python -m scripts.audit $(ADVISORIES)

lock: development ## resolve the dependencies again and rewrite both lock files (UPGRADE= keeps the present pins)
	$(COMPILE) --extra build pyproject.toml -o requirements.lock
	$(COMPILE) --all-extras -c requirements.lock pyproject.toml -o requirements-dev.lock
	@$(BIN)/python -m scripts.locks

clean: ## remove the environment and all caches; bundles and databases stay
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A bundle that is there stays, whatever its age: it may be in use, and its database speaks of it.
models/breast_cancer/1/bundle.yaml: | runtime
	@$(EXAMPLE) breast_cancer

models/flights/1/bundle.yaml: | development
	@$(EXAMPLE) flights

# Both do nothing where the environment is complete, and ask no index then.
runtime:
	@$(ENVIRONMENT) requirements.lock

development:
	@$(ENVIRONMENT) requirements-dev.lock
