# `make demo` and `make test` set everything up by themselves on a machine with Python 3.11 and pip.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test slow lint format docs clean

demo: .venv/installed
	$(BIN)/manifill inpaint examples/astronaut.png examples/centre.png -n 8 --of 16 --choose likely \
		-o out/demo --seed 0 --overwrite

# two processes of one thread each: most tests are too small for two threads
test: .venv/installed-dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: .venv/installed-docs
	$(BIN)/mkdocs build --strict

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt setup.py $(wildcard native/*)
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

# not after .venv/installed: the library in native/ would be compiled twice
.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt setup.py $(wildcard native/*)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch .venv/installed $@

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf .venv out build dist src/*.egg-info
