# Nothing is needed but Python 3.11 or later, make and pip; the virtual environment is made here.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
SITE   := $(VENV)/site

# Hundreds of brokers and clients are started: none should compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-all test-versions check format lint types quick docs site dist picture bench bench-kafka bench-streams test-kafka test-foreign chaos toxiproxy clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 14

demo: $(READY)  ## hello-worlds of the Kafka tutorials, then a real log through killed brokers; DEMO_INPUT=FILE
	@$(BIN)/python -m demo

# Per cent at the end of each line, and at the end the tests that took longest.
SLOWEST := --durations=12 --durations-min=5
# In the order of tests/conftest.py; what shares brokers stays together.
TOGETHER := -n auto --dist loadgroup --no-loadscope-reorder

test: $(READY)  ## every test but the long ones, in six minutes; ARGS='-k word' chooses among all
	$(BIN)/pytest $(TOGETHER) $(if $(ARGS),,-m 'not alone and not long') $(SLOWEST) $(ARGS)

test-all: $(READY)  ## all tests: also the long ones, scenarios of chaos, lowest versions, each Python; half an hour
	@echo "1 of 3: every test but those that want the machine for themselves"
	RAFTLOG_TEST_SIM_SEEDS=300 $(BIN)/pytest $(TOGETHER) -m 'not alone' $(SLOWEST)
	@echo "2 of 3: scenarios of chaos, one after the other"
	$(BIN)/pytest -m alone chaos/tests tests/docker $(SLOWEST)
	@echo "3 of 3: the fast tests with the lowest versions, and with each Python that is here"
	@$(MAKE) --no-print-directory test-versions

test-versions: $(READY)  ## fast tests with the lowest versions allowed, and with each Python that is here
	$(BIN)/python -m tests.versions --folder $(VENV)/versions

check: $(READY)  ## format, lint, types, layers, fast tests: under a minute
	@$(MAKE) --no-print-directory --output-sync=target -j 2 quick types lint

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

quick: $(READY)
	$(BIN)/pytest -q -n 2 --dist worksteal -m 'not slow' tests/unit tests/memory $(ARGS)

format: $(READY)  ## make the code look as `check` wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)  ## the reference in docs/reference, from the code
	$(BIN)/python docs/generate.py

# Pinned. It is to be followed by Zensical, which builds the same mkdocs.yml.
$(SITE)/.ready: Makefile
	@echo "installing mkdocs-material into $(SITE) (once) …"
	@$(PYTHON) -m venv $(SITE)
	@$(SITE)/bin/pip install --quiet --disable-pip-version-check 'mkdocs-material==9.8.2'
	@touch $@

site: $(SITE)/.ready  ## docs/ as a site with search, in build/site; a dead link stops it
	@NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --quiet --strict && echo "build/site/index.html"

dist: $(READY)  ## a wheel and a source archive in dist/, with the commit in them
	@$(BIN)/pip install --quiet --disable-pip-version-check build
	$(BIN)/python -m build

picture: $(READY)  ## docs/pictures/first-minutes.svg, drawn from what the commands print
	@$(BIN)/python -m demo.picture

bench: $(READY)  ## throughput and latency of a broker started for it; ARGS='--size 100'
	@$(BIN)/python -m demo.bench $(ARGS)

bench-kafka: $(READY)  ## the same loads on raftlog and Apache Kafka in turn, three brokers each; needs Java, Maven
	@$(BIN)/python -m tests.side_by_side $(ARGS)

bench-streams: $(READY)  ## the CPU time a record of raftlog.streams, Kafka Streams and Quix Streams in turn; needs Java, Maven
	@$(BIN)/python -m tests.streams_bench $(ARGS)

test-kafka: $(READY)  ## the tests of the client and of `raftlog console` against Apache Kafka from Maven Central; needs Java and Maven
	$(BIN)/python -m tests.kafka_peer run -- $(BIN)/pytest tests/client tests/http/test_http_outside.py tests/console/test_console_outside.py $(ARGS)

chaos: $(READY)  ## real faults on real brokers, and a verdict: ARGS='--scenario part-kill --time 300'; or list
	@$(BIN)/python -m chaos $(if $(ARGS),run $(ARGS),list)

toxiproxy:  ## what some of chaos needs: Toxiproxy's server, built with Go, into ~/.cache/raftlog
	CGO_ENABLED=0 GOBIN=$(HOME)/.cache/raftlog go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0
	mv $(HOME)/.cache/raftlog/server $(HOME)/.cache/raftlog/toxiproxy-server

test-foreign: $(READY)  ## Kafka's own Java client and tools, kafkajs, Flink, Spark and Debezium, against brokers; needs Java, Maven, Go, npm, Postgres
	$(BIN)/pytest tests/foreign $(ARGS)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "raftlog needs Python 3.11 or later: make PYTHON=python3.11 …"; exit 1; }
	@echo "installing raftlog and what its tests need into $(VENV) (once, a minute or two) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:  ## remove the virtual environment
	rm -rf $(VENV)
