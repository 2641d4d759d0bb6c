# `make demo` and `make test` do all the set-up themselves: a virtual environment from the newest Python that works.
#   make PYTHON=python3.11 VENV=.venv311 test     another Python, in a folder of its own
#   make docs, make docs-serve                    the documentation, every page of it executed, in build/site

SHELL := bash
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test suite test-slow lint style types format install docs docs-serve docs-pages clean
.DEFAULT_GOAL := test

demo: $(INSTALLED)
	$(BIN)/python experiments/demo.py

# Types are checked beside the tests: alone they would leave a core idle for a minute.
test: style
	@$(MAKE) --no-print-directory --jobs=2 types suite

# In the order of tests/conftest.py: pytest-xdist would keep the files of few tests, the slowest among them, for the end.
suite: $(INSTALLED)
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder --durations=10

test-slow: $(INSTALLED)
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -q -m slow --durations=10

lint: style types

style: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(INSTALLED)

# Notebooks are executed where they or the package have changed, the blocks of the other pages always; the built site is
# then read by a link checker and in a browser.
docs: docs-pages
	$(BIN)/zensical build --clean --strict
	$(BIN)/python -m pytest -q -m "slow or not slow" tests/test_site.py

docs-serve: docs-pages
	$(BIN)/zensical serve

NOTEBOOKS := docs/start.py $(wildcard docs/course/*.py)
docs-pages: $(INSTALLED) $(NOTEBOOKS:.py=.md)
	$(BIN)/python docs/generate.py

docs/%.md: docs/%.py docs/execute.py $(wildcard isr_jax/*.py isr_jax/*/*.py) | $(INSTALLED)
	$(BIN)/python docs/execute.py $<

# Runs again only when pyproject.toml has changed; a virtual environment whose Python has gone is made anew.
$(INSTALLED): pyproject.toml
	@python="$(PYTHON)"; $(BIN)/python -c "import pip" 2>/dev/null \
	  || { python="$${python:-$$(.ci/find-python)}" && echo "$(VENV): made with $$python" && "$$python" -m venv --clear $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache build dist
