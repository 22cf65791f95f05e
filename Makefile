# make demo   trains the default run and shows its result
# make test   runs every check there is: style, types, tests
# make pages  writes what is generated; make fuzz looks for what breaks
# make evidence  measures again what docs/choosing.md advises
# Both need only Python 3.11 and make; both create .venv and install into it what they need.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: integration demo test pages evidence fuzz clean

demo: .venv/demo
	$(BIN)/python examples/train.py --output runs/demo --overwrite

test: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal

pages: .venv/dev
	$(BIN)/python -m tools.pages
	$(BIN)/ruff format losses/__init__.py

evidence: .venv/dev
	$(BIN)/python examples/choosing.py
	$(MAKE) pages

# torch and what needs it go into one pip command, so that the pinned build is the one that is taken
.venv/demo: pyproject.toml constraints.txt | .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[examples]'
	touch $@

.venv/dev: pyproject.toml constraints.txt | .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@ .venv/demo

.venv:
	$(PYTHON) -m venv .venv

# the fuzzer, for as long as there is time: make fuzz EXAMPLES=100000
EXAMPLES ?= 20000
fuzz: .venv/dev
	FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/fuzzing -n 2 --timeout 0

# launchers and trainers of others, which take long to start
integration: .venv/dev
	$(BIN)/python -m pytest -m integration

clean:
	rm -rf .venv runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
