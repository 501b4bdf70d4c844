# Condau: `make run` serves a development instance, `make test` runs every test; `make help` lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin
WORKERS ?= 3
ARGS ?=
LOCK ?=
LOCKING := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-config --custom-compile-command "make lock" $(LOCK)
# The instance's folder, as the program itself understands CONDAU_HOME.
INSTANCE := $(or $(CONDAU_HOME),var)
# Python compiles each file once, also where the machine says otherwise: the tests start hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=
# And some fifty short-lived Java programs, for which the optimising compiler and a second thread of the collector only cost.
export JAVA_TOOL_OPTIONS ?= -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
# Everything in shell, for shellcheck.
SHELL_SCRIPTS := scripts/setup.sh scripts/fresh.sh .ci/run

.PHONY: help run fresh setup setup-development test test-sqlite test-postgresql interop lint format bench torture stamps fuzz fuzz-pdf fuzz-http lock

##@ Use

run: setup  ## install what is missing, make a development instance once, and serve it (CONDAU_PORT, CONDAU_HOME)
	@$(PY)/condau init --development
	@$(PY)/condau serve

fresh:  ## throw the development instance away, keys and all
	@scripts/fresh.sh "$(INSTANCE)"

##@ Develop

test: setup-development  ## set up and run the whole suite, all that keeps data on SQLite and on PostgreSQL (ARGS="-k crl")
	$(PY)/pytest -n $(WORKERS) --database=both $(ARGS)

test-sqlite: setup-development  ## the suite on SQLite only
	$(PY)/pytest -n $(WORKERS) --database=sqlite $(ARGS)

test-postgresql: setup-development  ## what keeps data, on a temporary PostgreSQL
	$(PY)/pytest -n $(WORKERS) --database=postgresql $(ARGS)

interop: setup-development  ## EU DSS, iText, MuPDF and poppler judge every level and profile (Java, Maven); reports in out/interop/
	$(PY)/pytest --interop tests/interop $(ARGS)

lint: setup-development  ## ruff, mypy --strict and shellcheck
	$(PY)/ruff check .
	$(PY)/ruff format --check .
	$(PY)/mypy .
	shellcheck $(SHELL_SCRIPTS)

format: setup-development  ## let ruff put the source in its shape
	$(PY)/ruff check --fix .
	$(PY)/ruff format .

lock: setup-development  ## resolve the dependencies of pyproject.toml anew into requirements/ (LOCK=--upgrade for newer ones)
	$(PY)/uv pip compile pyproject.toml --group build --output-file requirements/runtime.txt $(LOCKING)
	$(PY)/uv pip compile pyproject.toml --group development --constraints requirements/runtime.txt \
		--output-file requirements/development.txt $(LOCKING)

##@ Measure

bench: setup-development  ## the benchmark: every figure a ratio against a bare baseline of the same run
	$(PY)/python -m bench $(ARGS)

torture: setup-development  ## kill -9 the service at random instants and check that nothing acknowledged is lost
	$(PY)/python -m bench.torture $(ARGS)

stamps: setup-development  ## 100,000 time-stamps from four processes while workers are killed (ARGS="--database postgresql")
	$(PY)/python -m bench.stamps $(ARGS)

fuzz: setup-development  ## a million mutated requests against the reader of time-stamp requests
	$(PY)/python -m bench.fuzz_tsa $(ARGS)

fuzz-pdf: setup-development  ## five minutes of mutated PDFs against the signer (ARGS="--seconds 3600 --seed 2")
	$(PY)/python -m bench.fuzz_pdf $(ARGS)

fuzz-http: setup-development  ## ten minutes of damaged uploads of every kind against a running service (ARGS="--clients 4 --seed 2")
	$(PY)/python -m bench.fuzz_http $(ARGS)

##@ Other

setup:  ## install what running needs: system packages and .venv
	@scripts/setup.sh runtime

setup-development:  ## the same, with what the tests and linters need
	@scripts/setup.sh development

help:  ## this list
	@awk 'BEGIN {FS = ":[^#]*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' Makefile
