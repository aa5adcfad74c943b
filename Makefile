# `make demo` and `make test` need python3 (3.10 or newer) and make, and bring all else themselves.

# A pool's execute nodes run the system's python3, and functions do not travel between minor
# versions of Python, so the tests on HTCondor want the same minor version here.
PYTHON ?= python3
PYTEST_ARGS ?=
# More processes than processors: tests on a pool mostly wait, some 4 s for each node of a DAG.
# `PYTEST_WORKERS=0` is one after another, which plain pytest does too.
PYTEST_WORKERS ?= 10

venv := .venv
python := $(venv)/bin/python
pytest := tools/as-user $(python) -m pytest -n $(PYTEST_WORKERS) --dist loadgroup \
	--no-loadscope-reorder
# Twice quiet: warnings about a machine's own pip configuration are left out, errors are shown.
pip_install := $(python) -m pip install -qq --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-local test-pool soak bench lint format docs dist test-dist clean \
	distclean

help: ## List what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | \
		while IFS='|' read -r name text; do printf '%-18s %s\n' "$$name" "$$text"; done

# The stamps are redone when what is to be installed changes. The development environment holds
# everything that the demo's does.
$(venv)/.stamp-demo: pyproject.toml tools/make-venv
	@echo "Setting up $(venv) for the demo"
	@$(PYTHON) tools/make-venv $(venv)
	@$(pip_install) --editable '.[demo]'
	@touch $@

$(venv)/.stamp-dev: pyproject.toml tools/make-venv tests/support/subprocess_coverage.py
	@echo "Setting up $(venv) for development"
	@$(PYTHON) tools/make-venv $(venv)
	@$(pip_install) --editable '.[dev]'
	@$(python) tests/support/subprocess_coverage.py
	@touch $(venv)/.stamp-demo $@

demo: $(venv)/.stamp-demo ## Run the book analysis on this machine, without HTCondor
	$(python) examples/book_analysis/book_analysis.py --on local

# The tests' own HTCondor; the tool leaves a machine alone that has one. Its state decides what
# there is to do, so it is asked each time. `SUITE=trixie` is the HTCondor of that suite of Debian,
# in a folder of its own.
SUITE ?=
prefix := .htcondor$(addprefix -,$(SUITE))
ifneq ($(SUITE),)
export HTDAG_TEST_HTCONDOR := $(CURDIR)/$(prefix)
endif
.PHONY: htcondor
htcondor: $(venv)/.stamp-dev
	@$(python) tools/get-htcondor $(addprefix --suite ,$(SUITE)) $(prefix) || { \
		echo "make: no HTCondor, so the tests on a pool cannot run;" \
			"\`make test-local\` runs the others" >&2; exit 1; }

# Apptainer, for the test that runs containers on the pool.
.apptainer/.get-apptainer.json: tools/get-apptainer | $(venv)/.stamp-dev
	@$(python) tools/get-apptainer .apptainer || \
		echo "make: no Apptainer, so the test of containers will fail" >&2

# Tests start hundreds of processes that import htdag, on many machines without leave to write this.
.PHONY: bytecode
bytecode: $(venv)/.stamp-dev
	@$(python) -m compileall -q htdag tests

test: htcondor bytecode .apptainer/.get-apptainer.json ## Run all tests, with a real HTCondor and the coverage of the code
	$(pytest) --cov --cov-report=term $(PYTEST_ARGS)

test-local: bytecode ## Run the tests that need no HTCondor
	$(pytest) -m 'not pool' $(PYTEST_ARGS)

test-pool: htcondor bytecode .apptainer/.get-apptainer.json ## Run the tests on a real HTCondor; SUITE=trixie: on Debian 13's, 23.9.6
	$(pytest) -m pool $(PYTEST_ARGS)

# Long ones, one after another; the faults three times. TIMES=1 is once. Whatever fails, all parts run.
TIMES ?= 3
soak: htcondor ## Run what takes long: 10,000 items killed ten times, and the faults three times
	failed=; \
	tools/as-user $(python) -m pytest -n 0 -m soak tests/faults/test_soak.py $(PYTEST_ARGS) || \
		failed="test_soak.py"; \
	HYPOTHESIS_PROFILE=soak tools/as-user $(python) -m pytest -n 2 -m soak \
		tests/whole/test_lives.py tests/whole/test_objects.py tests/whole/test_scripts.py \
		$(PYTEST_ARGS) || \
		failed="$$failed lives,-objects-or-scripts"; \
	HTDAG_EXAMPLES=400 tools/as-user $(python) -m pytest -n 2 --dist loadgroup -m 'not pool' \
		--timeout 7200 -k 'plain_python or earlier_one or of_a_pipeline or let_go' \
		tests/whole/test_random_pipelines.py tests/reuse/test_random_edits.py \
		tests/plan/test_lanes.py \
		$(PYTEST_ARGS) || failed="$$failed random-pipelines"; \
	for time in $$(seq $(TIMES)); do \
		HYPOTHESIS_PROFILE=soak tools/as-user $(python) -m pytest -n 2 --dist loadgroup \
			tests/faults/test_faults.py tests/faults/test_faults_of_data.py \
			tests/faults/test_bad_input.py \
			$(PYTEST_ARGS) || failed="$$failed the-faults-$$time"; done; \
	[ -z "$$failed" ] || { echo "make: failed: $$failed" >&2; exit 1; }

PARTS ?=
BENCH_ARGS ?=
bench: htcondor ## Run the benchmarks, or PARTS of them (make bench PARTS="local items")
	tools/as-user $(python) benchmarks/run.py $(PARTS) $(BENCH_ARGS)

lint: $(venv)/.stamp-dev ## Check style and types
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

format: $(venv)/.stamp-dev ## Put the code into its form
	$(python) -m ruff check --fix-only .
	$(python) -m ruff format .

docs: $(venv)/.stamp-dev ## Build the documentation into docs/_build/html, warnings are errors
	$(python) -m sphinx --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build/html
	@echo "docs/_build/html/index.html"

dist: $(venv)/.stamp-dev ## Build the wheel and the source distribution into dist/
	rm -rf dist
	$(python) -m build --outdir dist

# PYTHONS="python3.10 python3.13" are the Pythons to try it on; by default all from 3.10 on.
PYTHONS ?=
test-dist: dist ## Install what was built on each Python, and run the tests that need no HTCondor
	$(python) tools/test-dist $(PYTHONS) $(addprefix -- ,$(PYTEST_ARGS))

clean: ## Remove what was built, but not the environment and HTCondor
	rm -rf build dist docs/_build docs/generated .mypy_cache .pytest_cache .ruff_cache \
		.hypothesis .coverage .coverage.* htmlcov
	find htdag tests examples benchmarks docs tools -name __pycache__ -prune -exec rm -rf {} + \
		2>/dev/null || true

distclean: clean ## Remove the environment and HTCondor too
	rm -rf $(venv) .htcondor .htcondor-* .apptainer
