# Needs make and Python 3.11 or newer, and on first use a package index. Everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WHEEL_VENV := .venv-wheel
LOWEST_AIRFLOW_VENV := .venv-airflow-lowest
MIDDLE_AIRFLOW_VENV := .venv-airflow-3.2
NEXT_AIRFLOW_VENV := .venv-airflow-next
LOWEST_DAGSTER_VENV := .venv-dagster-lowest

# Settings of other projects must not leak into this one, and bytecode makes the hosts start in half the time.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV
# pyright is in the lock: it must not look for a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

# As many processes as cores share the tests, or twice as many where they wait a lot; what takes longest begins first.
# `make test WORKERS=0` runs them in one.
WORKERS ?= logical
PARALLEL := --numprocesses=$(WORKERS) --maxprocesses=8 --dist=loadgroup --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup test test-airflow-page test-unit test-fast test-packaging test-wheel test-airflow test-airflow-required test-airflow-lowest test-airflow-next official-clients airflow-versions test-dagster-lowest test-matrix test-dagster test-airflow-outcomes test-all mutants check format generated lock docs docs-links three-ways build bench bench-hosts bench-triggerer bench-import bench-parse screenshots ui ui-check test-page demo demo-ui clean

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-22s %s\n", $$1, $$2 }'

setup: $(READY) ## Make .venv from the lock; instant when nothing has changed.

$(READY): requirements/dev.lock requirements/uv.lock pyproject.toml scripts/setup_environment.py
	@$(PYTHON) scripts/setup_environment.py $(VENV)
	@touch $@

# Here many tests wait: for real clocks, for answers, for the processes of whole hosts.
test: export PYTEST_XDIST_AUTO_NUM_WORKERS = $(shell $(BIN)/python -c 'import os; print(2 * os.cpu_count())')
test: $(READY) ## Run all tests but those that need a whole host of their own.
	@# Each host reads its settings when it is imported: they must be those of the tests that run.
	@$(BIN)/python -m pytest $(PARALLEL) --ignore=tests/airflow_host --ignore=tests/dagster_host --ignore=tests/page_browser

test-airflow: $(READY) ## Run the tests in a real Airflow on PostgreSQL; without PostgreSQL those that need it are skipped.
	@$(BIN)/python -m pytest tests/airflow_host -m "not slow"

test-airflow-required: $(READY) ## The same, and fail where there is no PostgreSQL.
	@RUNOPS_REQUIRE_POSTGRES=1 $(BIN)/python -m pytest tests/airflow_host -m "not slow"

test-airflow-page: $(READY) ## The page "External runs" in a real Airflow and Chromium, 300 runs; 6 minutes; skipped where there is none.
	@$(BIN)/python -m pytest tests/airflow_host/test_host_page.py tests/airflow_host/test_host_page_guards.py

test-dagster: $(READY) ## Run all tests of the Dagster side, those with its own processes included.
	@$(BIN)/python -m pytest tests/dagster_side tests/dagster_host

test-airflow-outcomes: $(READY) ## Every outcome in every mode in a real Airflow on sqlite.
	@$(BIN)/python -m pytest tests/airflow_host/test_host_matrix.py tests/airflow_host/test_host_matrix_discovery.py \
	  tests/airflow_host/test_host_good_ends.py

test-all: $(READY) ## Run every test there is, the load tests too.
	@$(MAKE) --no-print-directory ui-check test test-page test-wheel test-airflow-lowest test-airflow-next test-dagster-lowest
	@$(BIN)/python -m pytest tests/dagster_host
	@RUNOPS_REQUIRE_POSTGRES=1 $(BIN)/python -m pytest tests/airflow_host

test-unit: $(READY) ## Run the pure and short tests of the core; the long ones are in test-fast.
	@$(BIN)/python -m pytest $(PARALLEL) tests/core -m "not http and not long and not packaging and not slow"

test-fast: $(READY) ## Run the tests of the core, the command line and the emulator.
	@$(BIN)/python -m pytest $(PARALLEL) tests/core tests/emulator -m "not packaging and not slow"

test-packaging: $(READY) ## Build, and install the wheel with each extra into fresh environments.
	@$(BIN)/python -m pytest -m packaging

test-wheel: $(READY) ## Run the fast tests from the sdist against the installed wheel, without the source tree.
	@rm -rf build/wheel
	@mkdir -p build/wheel/tree
	@$(BIN)/python -m build --no-isolation --outdir build/wheel . > build/wheel/log || { cat build/wheel/log; exit 1; }
	@$(PYTHON) scripts/setup_environment.py $(WHEEL_VENV) --wheel build/wheel/runops-*.whl
	@tar -xzf build/wheel/runops-*.tar.gz -C build/wheel/tree --strip-components=1
	@rm -r build/wheel/tree/src
	@cd build/wheel/tree && ../../../$(WHEEL_VENV)/bin/python -P -m pytest $(PARALLEL) tests/core tests/emulator \
	  -m "not packaging and not slow" -p no:cacheprovider

test-airflow-lowest: $(READY) ## Run the fast Airflow tests on the oldest supported Airflow, httpx and pydantic.
	@$(BIN)/python scripts/setup_environment.py $(LOWEST_AIRFLOW_VENV) --lock requirements/airflow-lowest.lock --without-project
	@# Airflow 3.1 itself warns of what it deprecates while it is imported.
	@PYTHONPATH=src $(LOWEST_AIRFLOW_VENV)/bin/python -P -m pytest $(PARALLEL) tests/airflow_side -m "not slow" -W default -p no:cacheprovider

test-airflow-next: $(READY) ## Run the fast Airflow tests on the newest pre-release of the next Airflow.
	@$(BIN)/python scripts/setup_environment.py $(NEXT_AIRFLOW_VENV) --lock requirements/airflow-next.lock --without-project
	@# A pre-release may warn of what it is about to change.
	@PYTHONPATH=src $(NEXT_AIRFLOW_VENV)/bin/python -P -m pytest $(PARALLEL) tests/airflow_side -m "not slow" -W default -p no:cacheprovider

official-clients: $(READY) ## Run the providers' own clients against the emulator; needs a package index; see docs/project/official_clients.md.
	@$(BIN)/python -m scripts.official_clients

airflow-versions: $(READY) ## Write docs/project/airflow_versions.md: what holds on each Airflow, by tests there; 25 minutes.
	@$(BIN)/python scripts/setup_environment.py $(LOWEST_AIRFLOW_VENV) --lock requirements/airflow-lowest.lock --without-project
	@$(BIN)/python scripts/setup_environment.py $(MIDDLE_AIRFLOW_VENV) --lock requirements/airflow-3.2.lock --without-project
	@$(BIN)/python scripts/setup_environment.py $(NEXT_AIRFLOW_VENV) --lock requirements/airflow-next.lock --without-project
	@$(BIN)/python -m scripts.airflow_versions $(VERSIONS)

test-dagster-lowest: $(READY) ## Run the fast Dagster tests on the oldest supported Dagster, httpx and pydantic.
	@$(BIN)/python scripts/setup_environment.py $(LOWEST_DAGSTER_VENV) --lock requirements/dagster-lowest.lock --without-project
	@# Dagster 1.12 warns of how it makes a component itself, and of how it loads a folder of them.
	@PYTHONPATH=src $(LOWEST_DAGSTER_VENV)/bin/python -P -m pytest $(PARALLEL) tests/dagster_side -m "not slow" -p no:cacheprovider \
	  -W 'ignore:Support for class-based:DeprecationWarning' \
	  -W 'ignore:Function `ComponentLoadContext.build_defs_at_path`:DeprecationWarning'

test-matrix: $(READY) ## Run the fast tests on each Python, Airflow, Dagster, httpx and pydantic; MATRIX="python=3.13" runs a part.
	@$(BIN)/python -m scripts.matrix $(MATRIX)

mutants: $(READY) ## Change src in 120 small ways, one at a time, and list those no test notices; see CONTRIBUTING.md.
	@$(BIN)/python -m scripts.mutants $(MUTANTS)

check: $(READY) ## Lint, formatting, types and import rules; all four, whichever fails.
	@failed=; \
	  $(BIN)/ruff check . || failed="$$failed lint"; \
	  $(BIN)/ruff format --check . || failed="$$failed formatting"; \
	  $(BIN)/pyright || failed="$$failed types"; \
	  $(BIN)/lint-imports --no-logo || failed="$$failed imports"; \
	  if [ -n "$$failed" ]; then echo "make check failed:$$failed"; exit 1; fi

format: $(READY) ## Format the code and fix what ruff can fix.
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

generated: $(READY) ## Write anew what is made from declarations: tables, pages, completion, llms.txt, Airflow's registry entry.
	@$(BIN)/python -m scripts.argument_tables
	@$(BIN)/python -m scripts.readme_tables
	@$(BIN)/python -m scripts.error_index
	@$(BIN)/python -m scripts.generated

lock: $(READY) ## Renew requirements/*.lock within the bounds of pyproject.toml.
	@$(BIN)/python scripts/renew_locks.py

# Strict: a warning, a name that leads nowhere and a broken link fail. The same sources give the same bytes.
docs: $(READY) ## Build the documentation site into build/docs; strict, and without a network.
	@rm -rf build/docs build/doctrees
	@PYTHONHASHSEED=0 $(BIN)/python -m sphinx -q -W --keep-going -n -b html -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

docs-links: $(READY) ## Try every address outside that the documentation names; needs a network, so CI does not.
	@$(BIN)/python -m sphinx -q -b linkcheck -d build/doctrees docs build/docs-links

three-ways: $(READY) ## Follow the tutorials word for word in clean environments, and time them; 10 minutes, needs a package index.
	@$(BIN)/python -m scripts.three_ways $(WAYS)

build: $(READY) ## Build the sdist and the wheel into dist/.
	@$(BIN)/python -m build --no-isolation --outdir dist .

bench: $(READY) ## Measure what waiting costs, beside official triggers of Airflow; under 15 minutes.
	@$(BIN)/python -m benchmarks

bench-hosts: $(READY) ## What a waited run costs a whole Airflow and Dagster, in every mode; 25 minutes.
	@$(BIN)/python -m benchmarks.whole_airflow
	@$(BIN)/python -m benchmarks.whole_dagster

bench-triggerer: $(READY) ## The same inside Airflow's own trigger runner and supervisor.
	@$(BIN)/python -m benchmarks.triggerer

bench-import: $(READY) ## Measure what importing the core costs.
	@$(BIN)/python benchmarks/import_cost.py

bench-parse: $(READY) ## Measure what parsing a DAG file with everything of ours costs.
	@$(BIN)/python benchmarks/parse_time.py

ui: $(READY) ## Build the front end of the page "External runs" from ui/ into the package.
	@$(BIN)/python -m scripts.front_end build

ui-check: $(READY) ## Its types and unit tests, and that what is committed is what ui/ gives.
	@$(BIN)/python -m scripts.front_end check

test-page: $(READY) ## Try that page in a real Chromium, against a stand-in of its server; skipped where there is none.
	@$(BIN)/python -m scripts.front_end install
	@$(BIN)/python -m pytest tests/page_browser

screenshots: $(READY) ## Take the pictures of docs/what_you_see.md anew; needs a Chromium.
	@$(BIN)/python -m scripts.screenshots

demo: $(READY) ## Run every provider and outcome through a real Airflow and Dagster, against the emulator.
	@$(BIN)/python -m demo

demo-ui: $(READY) ## The same, and keep both web interfaces up.
	@$(BIN)/python -m demo --ui

clean: ## Remove everything that make has made.
	@rm -rf $(VENV) $(WHEEL_VENV) $(LOWEST_AIRFLOW_VENV) $(MIDDLE_AIRFLOW_VENV) $(NEXT_AIRFLOW_VENV) $(LOWEST_DAGSTER_VENV) .venv-matrix .venv-bench .venv-screenshots ui/node_modules build dist .demo .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find src tests example_dags demo benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
