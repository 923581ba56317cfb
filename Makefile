# `make` lists what there is. Each target installs what it needs where `apt-get` exists.
.DEFAULT_GOAL := help
.PHONY: test-field test-hostile test-postgres-18 smoke-postgres-18 test-citus
.PHONY: test-python bench-python test-otel test-mcp test-go test-php test-guides test-exports test-spark
.PHONY: test-clients bench-typescript deb test-deploy kill-applications
.PHONY: fuzz golden snapshots model bench-forecast
.PHONY: packages try-packages test-packages
.PHONY: book page test-page measure-page test-typescript screenshots images
.PHONY: check help run build test test-prices test-monitoring faults lint bench bench-quick bench-micro

# What a test needs of the daemon. `make test` has built it by then, and tells the targets that it calls so.
BUILD ?= cargo build

# What is installed and measured: target/dist/tallyd, slower to build than `make build` and faster to run.
DIST = cargo build --profile dist

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: build ## Run the daemon in the foreground, with a PostgreSQL of its own, until Ctrl-C
	@scripts/need-postgresql
	target/release/tallyd

build: ## Build target/release/tallyd, with the admin page where Node.js 20 can be had
	@scripts/need-page || echo "tallyd is built without its admin page; everything else is there" >&2
	cargo build --release

page: ## Build the admin page, which the next build of tallyd puts in
	@scripts/need-page

book: ## Build the documentation as a site with search: target/book, which the next build of tallyd serves at /docs/
	@scripts/need-mdbook
	scripts/book

test: ## Run every test, against real private PostgreSQL clusters
	@scripts/need-postgresql
	@scripts/need-strace
	@scripts/need-pgbouncer
	@scripts/need-smtp >/dev/null
	@scripts/need-page
	@scripts/need-chromium
	@scripts/need-prometheus
	@scripts/need-go || true
	@scripts/need-php || true
	scripts/test-rust
# Each of these waits for a browser, a server or a download half of the time. What installs packages of the system has run
# by now: two at once would be in each other's way.
	COUNT=20000 LOOM_MAX_PREEMPTIONS=2 $(MAKE) --jobs=2 --output-sync=target BUILD=true \
	test-typescript test-page test-python test-go test-php smoke-postgres-18 test-prices test-otel test-mcp test-exports model test-monitoring test-deploy

test-hostile: ## Attack the daemon by every door: bytes, names, listeners, SQL roles, the page
	@scripts/need-postgresql
	cargo test --test hostile

test-field: ## Send what vendors, SDKs, gateways and people really send, and hold the call log to what is right
	@scripts/need-postgresql
	cargo test --test field

test-page: page ## Use the admin page in headless Chromium, on a daemon with three months of calls
	@scripts/need-chromium
	$(BUILD)
	cd page && npm test --silent

measure-page: page ## Measure the page's weight and first paint on a year of 20 models and 5,000 users
	@scripts/need-chromium
	$(DIST)
	cd page && TALLYD_BIN=$(CURDIR)/target/dist/tallyd node tests/measure.mjs

test-typescript: ## Test the Node client: vectors, a real daemon, kills, the vendors' SDKs
	@scripts/need-typescript
	$(BUILD)
	cd clients/typescript && npm test --silent

test-clients: ## Try the clients on every runtime that can be had (Node, Bun, Deno, workerd, Pythons), with the SDKs in two versions
	@scripts/need-typescript
	$(BUILD)
	cd clients/typescript && npm run --silent build && node ../matrix/run.mjs

bench-typescript: ## The p99 of an Express route that records ÷ without; record() and its memory, BEFORE=DIR beside an older client
	@scripts/need-typescript
	$(DIST)
	cd clients/typescript && npm run --silent build && export TALLYD_BIN=$(CURDIR)/target/dist/tallyd && node bench/route.mjs && node bench/record.mjs $(if $(BEFORE),--before $(BEFORE))

test-deploy: ## Lint and check the Dockerfiles, the workflows, the compose file, the chart, the unit and the package's scripts, and hold their settings to the daemon
	$(BUILD)
	python=$$(scripts/need-hadolint) && $$python tests/deploy/check.py target/debug/tallyd

deb: ## Build the Debian package: target/debian/tallyd_*.deb
	@scripts/need-page || echo "tallyd is packaged without its admin page; everything else is there" >&2
	@scripts/need-mdbook && scripts/book || echo "tallyd is packaged without /docs/; everything else is there" >&2
	@scripts/need-cargo-deb
	$(DIST)
	scripts/shell-files target/dist/tallyd target/shell
	cargo deb --no-build --profile dist

# The packages' programs are linked against an older C library than this system's.
MACHINES ?= x86_64 aarch64
PACKAGES ?= target/packages

packages: ## Build every package into PACKAGES (target/packages), for MACHINES or of PROGRAM; KINDS names some; SOURCE_DATE_EPOCH dates them
	@scripts/need-page
	@scripts/need-typescript
	$(if $(PROGRAM),,scripts/need-mdbook && scripts/book)
	programs=$(or $(PROGRAM),$$(for machine in $(MACHINES); do scripts/dist-program $$machine || exit; done)) && \
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} \
	deploy/packages/build.py "$$(echo $$programs | tr ' ' ,)" $(PACKAGES) $(KINDS)

test-packages: ## Build the npm and PyPI packages and the chart of the debug build twice, compare them byte for byte, and try them
	$(BUILD)
	$(MAKE) packages PROGRAM=target/debug/tallyd KINDS="npm pypi helm"
	umask 077 && TZ=Asia/Tokyo $(MAKE) packages PROGRAM=target/debug/tallyd KINDS="npm pypi helm" PACKAGES=target/packages-again
	for each in npm pypi helm tallyd.cdx.json THIRD-PARTY.txt; do diff -r target/packages/$$each target/packages-again/$$each || exit; done
	$(MAKE) try-packages KINDS="npm pip"

try-packages: ## Install each package as a new user, start, record, stop, start again: seconds and megabytes
	tests/packages/try.py $(PACKAGES) $(KINDS)

screenshots: page ## Take pictures of each view, light and dark, wide and narrow: target/screenshots/
	@scripts/need-chromium
	$(BUILD)
	cd page && node tests/screenshots.mjs

images: page ## Draw the pictures of README and the guides anew: docs/images/page-*.png, story-*.png
	@scripts/need-chromium
	$(BUILD)
	cd page && node tests/images.mjs

test-prices: ## Compare 100,000 costs a vendor with those of LiteLLM and genai-prices; COUNT and SEED change that
	$(BUILD)
	$$(scripts/need-price-peers) tests/prices/compare.py --tallyd target/debug/tallyd $(if $(SEED),--seed $(SEED))

test-monitoring: ## Make each alert fire and resolve, lint the metrics, ask all that the dashboards ask of real sources
	@scripts/need-prometheus
	promtool check config grafana/prometheus/prometheus.yml
	promtool test rules grafana/prometheus/alerts_test.yml
	$(BUILD)
	scripts/check-metrics target/debug/tallyd
	tests/monitoring/dashboards.py target/debug/tallyd

test-python: ## Test the Python client with the real SDKs against a daemon, killed and restarted
	$(BUILD)
	cd clients/python && python=$$(../../scripts/need-python-client) && $$python -m pytest -q && \
	$$python ../../tests/guides/run.py fastapi django flask

test-go: ## Vet the Go client and test it with the race detector: vectors, a real daemon that is killed
	$(BUILD)
	@if ! scripts/need-go; then echo "NOT RUN: the tests of the Go client, for want of Go" >&2; exit 0; fi; \
	cd clients/go && test -z "$$(gofmt -l . | tee /dev/stderr)" && go vet ./... && go test -race -count=1 ./...

test-php: ## Test the PHP client: vectors, a real daemon that is killed between requests
	$(BUILD)
	@if ! scripts/need-php; then echo "NOT RUN: the tests of the PHP client, for want of PHP" >&2; exit 0; fi; \
	php clients/php/tests/run.php

test-exports: ## Read the exports and the archive, in a folder and in S3, with DuckDB, and compare each sum with PostgreSQL's
	$(BUILD)
	$$(scripts/need-duckdb) tests/exports/check.py target/debug/tallyd

test-spark: ## Read a year of daily files of the archive with Spark, and compare with DuckDB and PostgreSQL; needs Java 17
	$(BUILD)
	$$(scripts/need-duckdb pyspark) tests/exports/spark.py target/debug/tallyd

test-guides: ## Run the programs of docs/guide/frameworks/ with the vendors' SDKs, as the pages show them; PAGES names some of them
	$(BUILD)
	python=$$(scripts/need-guides) && (cd clients/typescript && npm run --silent build) && $$python tests/guides/run.py $(PAGES)

test-otel: ## Export by OpenTelemetry's official SDKs and by real instrumentations into a daemon, each request sent again
	$(BUILD)
	python=$$(scripts/need-otel) && $$python tests/otel/sdks.py && $$python tests/otel/instrumentations.py

test-mcp: ## Ask `tallyd mcp` with the official client of the Model Context Protocol
	$(BUILD)
	python=$$(scripts/need-mcp) && $$python tests/mcp/check.py

# The package's server is built without OpenSSL, so the test of encryption has nothing to talk to.
test-postgres-18: ## Run the tests of the database, the API and the daemon against PostgreSQL 18
	@scripts/need-postgresql
	@scripts/need-pgbouncer
	bin=$$(scripts/need-postgres-18) && PATH="$$bin:$$PATH" cargo test --no-fail-fast --test database --test http --test it --test hostile -- \
	--skip tls::a_server_that_cannot_prove_itself_gets_no_record

test-citus: ## Run every command, route and panel on a real Citus, kill its nodes; CITUS_PG_CONFIG names the pg_config of one
	$(BUILD)
	tests/citus/run.py target/debug/tallyd $(PARTS)

# As a workspace: a build of one package alone is another one, as its dependencies have fewer features.
smoke-postgres-18: ## Migrate, load, roll up, reprice and drop partitions on PostgreSQL 18; attack it as each SQL role
	bin=$$(scripts/need-postgres-18) && PATH="$$bin:$$PATH" cargo test --workspace --test it --test hostile -- \
	one_record:: rollups:: reprice:: retention:: embedded:: sql::

bench-python: ## The Python client's record(): p50, p99 and memory, BEFORE=DIR beside an older client
	$(DIST)
	TALLYD_BIN=$(CURDIR)/target/dist/tallyd $$(scripts/need-python-client) clients/python/bench.py $(if $(BEFORE),--before $(BEFORE))

faults: ## Break the daemon in every way that it must survive, deep; writes target/faults/report.json
	@scripts/need-postgresql
	@scripts/need-strace
	@rm -f target/faults/report.json
	TALLYD_FAULTS=deep cargo test --test faults -- --test-threads=1 --nocapture
	TALLYD_FAULTS=deep $(MAKE) test-citus PARTS="killed rebalanced"
	$(MAKE) kill-applications
	scripts/faults-table

kill-applications: ## Kill Node and Python applications that have a spool, ROUNDS (1000) times each: what record() took is there once
	@scripts/need-typescript
	$(BUILD)
	cd clients/typescript && npm run --silent build && ROUNDS=$(or $(ROUNDS),1000) node --test --test-name-pattern="killed again" tests/spool.test.mjs
	cd clients/python && ROUNDS=$(or $(ROUNDS),1000) $$(../../scripts/need-python-client) -m pytest -qs tests/test_spool.py -k application_is_killed

check: ## What is worth knowing while a change is made: the format, clippy, the tests of the pure crates
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --quiet -p tallyd-model -p tallyd-config -p tallyd-protocol -p tallyd-intake --lib

lint: ## Check the format, types, clippy, licences, sources and prose
	scripts/check-prose --self-test
	scripts/check-prose
	cargo fmt --all --check
	cd clients/python && python=$$(../../scripts/need-python-client) && $$python -m ruff check . && \
	$$python -m ruff format --check . && $$python -m mypy
	cargo clippy --workspace --all-targets -- -D warnings
	@scripts/need-cargo-deny
	cargo deny --log-level error check bans licenses sources

bench: ## Every figure beside its goal, about half an hour: target/bench/report.json and sides.svg; BENCH="--only ack" for one
	@scripts/need-postgresql
	@scripts/need-rsyslog
	cargo bench --bench goals -- $(BENCH)

bench-quick: ## End to end alone: records a second from the socket to committed rows, beside COPY and what else there is
	@scripts/need-postgresql
	@scripts/need-rsyslog
	cargo bench --bench goals -- --only end-to-end

bench-micro: ## Each step that a record takes through the daemon, on one core, by criterion
	cargo bench --bench micro

bench-forecast: ## Backtest the forecast against naive ones, with its interval's coverage
	cargo bench --bench forecast

fuzz: ## Fuzz every reader of foreign bytes for FUZZ_SECONDS (60) each; exits 1 if anything is found
	@scripts/need-cargo-fuzz
	scripts/fuzz

snapshots: ## Write tests/snapshots/, docs/reference/, config.toml and the lists of the record anew, after a change of settings, commands, API, metrics or fields: review the diff
	TALLYD_WRITE_DOCS=1 INSTA_UPDATE=always INSTA_FORCE_PASS=1 cargo test --test house -- snapshots:: reference::

golden: ## Write tests/golden/ anew, after a change of what is on disk: keep the older folders
	TALLYD_WRITE_GOLDEN=1 cargo test --test faults fault_32

model: ## Run the code where threads meet in every order that they can run in (make test: with two preemptions)
	cargo test -p tallyd-client --features model --lib model::
	cargo test -p tallyd-pipeline --features model --lib channel_model::
