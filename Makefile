# Everything a developer does here. Works on a fresh clone; ARGS="..." passes arguments on.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo rabbitmq test test-faults soak conform check bench bench-peers figures openapi client readme metrics chart lock clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Left empty, the newest Python from 3.13 down to 3.11 that works is taken.
PYTHON ?=
# The test modules go to two processes, in the order of their names. More would only share the cores.
TEST_PROCESSES := --numprocesses 2 --dist loadfile --no-loadscope-reorder
# The build backend is locked as well: an isolated build would fetch one without a hash.
INSTALL_PROJECT := $(PIP) install --no-deps --no-build-isolation --editable .

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.server ## Start a server with a demo page; needs Python and nothing else
	@exec $(BIN)/notifier demo $(ARGS)

rabbitmq: $(VENV)/.dev ## Run a private RabbitMQ to try things on, until Ctrl-C; ARGS="--port 5673" elsewhere
	@NOTIFIER_TEST_RABBITMQ=$$(scripts/find_rabbitmq.sh) exec $(BIN)/python -m scripts.run_rabbitmq $(ARGS)

test: $(VENV)/.dev ## Run all tests; ARGS="-k word" for some
	@NOTIFIER_TEST_CHROMIUM=$$(scripts/find_chromium.sh) NOTIFIER_TEST_RABBITMQ=$$(scripts/find_rabbitmq.sh) \
	  NOTIFIER_TEST_REDIS=$$(scripts/find_redis.sh) NOTIFIER_TEST_BUILDAH=$$(scripts/find_buildah.sh) \
	  NOTIFIER_TEST_HELM=$$(scripts/find_helm.sh) NOTIFIER_TEST_PROMTOOL=$$(scripts/find_promtool.sh) \
	  NOTIFIER_TEST_NGINX=$$(scripts/find_nginx.sh) NOTIFIER_TEST_NPM=$$(scripts/find_npm.sh) \
	  $(BIN)/python -m pytest $(TEST_PROCESSES) $(ARGS)

test-faults: $(VENV)/.dev ## Run the fault tests at full size, about half an hour
	@NOTIFIER_TEST_FULL=1 NOTIFIER_TEST_RABBITMQ=$$(scripts/find_rabbitmq.sh) \
	  $(BIN)/python -m pytest tests/faults tests/test_isolation.py tests/access/test_remote_keys.py \
	    tests/service/test_admission.py \
	    tests/service/test_rfc6455.py tests/service/test_hostile_requests.py tests/service/test_slow_clients.py $(ARGS)

conform: $(VENV)/.dev ## Run Autobahn's suite of WebSocket against both ways to keep a session; WSTEST=path/to/wstest
	@$(BIN)/python -m tests.conform $(WSTEST) $(ARGS)

soak: $(VENV)/.dev ## An hour of load, churn and broker restarts: nothing grows or is lost; ARGS="--minutes 20" less
	@NOTIFIER_TEST_RABBITMQ=$$(scripts/find_rabbitmq.sh) $(BIN)/python -m tests.faults.soak $(ARGS)

check: $(VENV)/.dev ## Check format, lint, types and import walls
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_imports.py

bench: $(VENV)/.dev ## Measure the figures the README claims, in a quarter of an hour; ARGS=--full more, --help less
	@NOTIFIER_TEST_RABBITMQ=$$(scripts/find_rabbitmq.sh) NOTIFIER_TEST_CHROMIUM=$$(scripts/find_chromium.sh) \
	  $(BIN)/python -m tests.benchmarks $(ARGS)

bench-peers: $(VENV)/.dev ## Compare with nchan, NATS and Mosquitto, in half an hour; ARGS="--rounds 1" less
	@scripts/install_peers.sh
	@NOTIFIER_TEST_RABBITMQ=$$(scripts/find_rabbitmq.sh) $(BIN)/python -m tests.benchmarks.comparison $(ARGS)

figures: $(VENV)/.dev ## Draw docs/figures anew from what bench-peers measured last
	@$(BIN)/python -m tests.benchmarks.chart build/bench-peers.json docs/figures/cpu-per-delivery.svg

openapi: $(VENV)/.dev ## Write openapi/openapi.json and asyncapi.yaml anew from the code
	@mkdir -p openapi
	@$(BIN)/notifier openapi > openapi/openapi.json.new || { rm -f openapi/openapi.json.new; exit 1; }
	@mv openapi/openapi.json.new openapi/openapi.json
	@$(BIN)/python -m scripts.write_asyncapi

client: ## Build what is served of the JavaScript client anew; needs npm
	@cd tests/web && npm=$$(../../scripts/find_npm.sh) && "$$npm" ci --no-audit --no-fund && "$$npm" run build

readme: $(VENV)/.server ## Write docs/settings.md and the README's table of settings anew from the code
	@$(BIN)/python scripts/write_settings_table.py

metrics: $(VENV)/.server ## Write docs/metrics.md anew from the code
	@$(BIN)/python -m scripts.write_metrics_page

chart: $(VENV)/.dev ## Write the README table and the schema of settings of the Helm chart anew
	@$(BIN)/python -m scripts.write_chart_table

# dev.txt first: it holds everything, and the others take their versions from it, so what is tested is what runs.
COMPILE := build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock"

lock: build/uv/bin/uv ## Resolve the locks anew; ARGS=--upgrade takes newer versions
	$(COMPILE) pyproject.toml --extra server --extra otel --extra redis --group dev --group build -o requirements/dev.txt $(ARGS)
	$(COMPILE) pyproject.toml --extra server -c requirements/dev.txt -o requirements/server.txt
	$(COMPILE) pyproject.toml --extra server --extra otel --extra redis -c requirements/dev.txt -o requirements/image.txt
	$(COMPILE) --group build -c requirements/dev.txt -o requirements/build.txt

clean: ## Remove the environment, caches and build output
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find notifier tests -name __pycache__ -prune -exec rm -rf {} +

# pip is the last thing venv writes, so an interrupted attempt is taken up again.
$(BIN)/pip:
	@python="$(PYTHON)"; python=$${python:-$$(scripts/find_python.sh)} && \
	  echo "Creating $(VENV) with $$("$$python" --version) ..." && "$$python" -m venv $(VENV)

# The stamps: an environment is brought up to date when its lock or the project's metadata changed.
$(VENV)/.server: requirements/server.txt requirements/build.txt pyproject.toml | $(BIN)/pip
	@echo "Installing the service's dependencies, about a minute the first time ..."
	@$(PIP) install --require-hashes -r requirements/server.txt -r requirements/build.txt
	@$(INSTALL_PROJECT)
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/pip
	@echo "Installing the dependencies of the service and its tests, a minute or two the first time ..."
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(INSTALL_PROJECT)
	@touch $@ $(VENV)/.server  # dev.txt holds all of server.txt, at the same versions

build/uv/bin/uv:
	@python="$(PYTHON)"; python=$${python:-$$(scripts/find_python.sh)} && "$$python" -m venv build/uv
	@build/uv/bin/python -m pip --disable-pip-version-check --quiet install 'uv>=0.8'
