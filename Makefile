# Everything happens in .venv, which the first target that needs it makes from the hash-locked
# requirements-dev.txt. Only Python 3.11 or newer is needed; another one: make test PYTHON=/…/python

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help venv demo test check e2e controlplane image fmt bench schema docs manifests lock clean python

help: ## Show these targets
	@grep -E '^[a-z0-9]+:.*## ' $(firstword $(MAKEFILE_LIST)) \
		| awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

demo: $(VENV)/.ready ## See Remora at work, without a GPU or Triton
	$(BIN)/remora demo

test: check ## Run every check and test, as CI does

check: $(VENV)/.ready ## The same as test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

e2e: $(VENV)/.ready ## Run the tests with a real Kubernetes control plane alone; they need Go
	$(BIN)/python -m pytest -v tests/controlplane

controlplane: $(VENV)/.ready ## Build that control plane beforehand; otherwise its first test does
	$(BIN)/python -m tests.controlplane.binaries

image: $(VENV)/.ready ## Build the image in chroots and try it; needs root and debootstrap
	$(BIN)/python -m tests.image

fmt: $(VENV)/.ready ## Format the code and apply the safe fixes
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(VENV)/.ready ## Measure what a tick and the front door cost
	$(BIN)/python -m tests.bench

schema: $(VENV)/.ready ## Write policies/policy.schema.json from the policy's models
	$(BIN)/python -m policies.schema

docs: $(VENV)/.ready ## Write the generated tables of the documentation anew
	$(BIN)/python -m daemon.reference
	$(BIN)/python -m daemon.gossip.description

manifests: $(VENV)/.ready ## Write what in deploy is generated anew
	$(BIN)/remora envoy-config --fleet-port 9482 >deploy/components/envoy/envoy.yaml
	$(BIN)/remora gateway-config >deploy/components/gateway/envoy.yaml
	$(BIN)/python -m daemon.dashboards

lock: $(VENV)/.ready ## Lock the dependencies anew; UPGRADE=1 takes the newest allowed
	$(LOCK) $(if $(UPGRADE),--upgrade) --output-file requirements.txt --extra fleet --extra gossip \
		--extra prometheus --extra registry pyproject.toml
	$(LOCK) $(if $(UPGRADE),--upgrade) --output-file requirements-dev.txt \
		--constraint requirements.txt --extra dev --all-build-deps pyproject.toml
	@$(BIN)/python -c 'import pathlib, sys; \
		note = "# Written by `make lock` on CPython %d.%d; the hashes cover newer ones too.\n\n" % sys.version_info[:2]; \
		[p.write_text(note + p.read_text().removeprefix(note)) for p in map(pathlib.Path, sys.argv[1:])]' \
		requirements.txt requirements-dev.txt

venv: $(VENV)/.ready ## Make .venv, or bring it up to date

clean: ## Remove .venv and all that the tools have left
	rm -rf $(VENV) build dist *.egg-info .coverage .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	find daemon policies simulations tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# A changed lock makes the environment from nothing, so that nothing unlocked stays behind.
$(VENV)/.locked: requirements-dev.txt
	@test -n "$(PYTHON)" || { \
		echo "Remora needs Python 3.11 or newer, and none is on PATH. Name one: make PYTHON=/…/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Remora needs Python 3.11 or newer; $(PYTHON) is not."; exit 1; }
	@echo "Making $(VENV) (once, and again when the lock changes) …"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

$(VENV)/.ready: $(VENV)/.locked pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

python: # Names the interpreter that .venv is made with, for .ci/run
	@echo $(PYTHON)
