# Every target sets up what it needs: an environment in .venv, made once and made anew when its versions change.

NAME =
PIP_INSTALL = -m pip install -qq --disable-pip-version-check --no-deps

# Most of a test is tracing, which keeps one core busy. Tests of a file stay together, for what they share.
ON_BOTH_CORES = --numprocesses 2 --dist loadfile

# Prints the first interpreter that works and has a version that was tested; a name on the path may be an empty shim.
FIND_PYTHON = \
	for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
		if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
		then echo $$python; exit; fi; \
	done; \
	echo 'Python 3.11, 3.12 or 3.13 is needed, and none of python3, python3.13, python3.12, python3.11 is one.' >&2; \
	echo 'Install one, or name one: make PYTHON=/path/to/python3.11 ...' >&2; exit 1

.PHONY: help run test test-all lint docs bench clean

help:
	@echo 'make run        train a learned optimizer on handwritten digits and compare it with tuned ones'
	@echo 'make test       all tests but the slow ones, and the examples in docstrings'
	@echo 'make test-all   all tests'
	@echo 'make lint       ruff and mypy'
	@echo 'make docs       the documentation, into build/docs'
	@echo 'make bench      time against peers; make bench NAME=l2l_inner_step for one'
	@echo 'make clean      remove environments, caches and builds; results in runs/ and comparisons/ stay'

run: .venv/installed
	@.venv/bin/python tools/run.py

test: .venv/installed
	@.venv/bin/python -m pytest $(ON_BOTH_CORES) -m 'not slow'

test-all: .venv/installed
	@.venv/bin/python -m pytest $(ON_BOTH_CORES)

lint: .venv/installed
	@.venv/bin/python -m ruff check --quiet .
	@.venv/bin/python -m ruff format --quiet --check .
	@.venv/bin/python -m mypy

docs: .venv-docs/installed
	@.venv-docs/bin/python -m sphinx -b html -c docs --fail-on-warning --keep-going --quiet . build/docs
	@echo 'build/docs/index.html'

# The other benchmarks have peers of other packages.
bench: .venv/installed $(if $(filter learned_vs_adam_% serve_% embedded_evaluation tensorboard_cost episodes,$(NAME)),,.venv-peers/installed)
	@.venv/bin/python tools/benchmark.py $(NAME)

.venv/installed: requirements.txt setup.py
	@python=$$($(FIND_PYTHON)) && echo "Installing into .venv ($$python; once, about two minutes)" && \
		$$python -m venv --clear .venv
	@.venv/bin/python $(PIP_INSTALL) -r requirements.txt
	@.venv/bin/python $(PIP_INSTALL) --no-build-isolation -e .
	@touch $@

.venv-peers/installed: requirements-peers.txt
	@python=$$($(FIND_PYTHON)) && echo "Installing the peers into .venv-peers (once)" && $$python -m venv --clear .venv-peers
	@.venv-peers/bin/python $(PIP_INSTALL) -r requirements-peers.txt
	@touch $@

# Sphinx imports the package, so that its environment is laid over the main one.
PRINT_SITE = import sysconfig; print(sysconfig.get_path("purelib"))
.venv-docs/installed: requirements-docs.txt .venv/installed
	@echo 'Installing Sphinx into .venv-docs (once)' && .venv/bin/python -m venv --clear .venv-docs
	@.venv-docs/bin/python $(PIP_INSTALL) -r requirements-docs.txt
	@.venv/bin/python -c '$(PRINT_SITE)' >"$$(.venv-docs/bin/python -c '$(PRINT_SITE)')/main.pth"
	@touch $@

clean:
	@rm -rf .venv .venv-peers .venv-docs .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
