# `make` lists what there is. Each target installs what it needs where `apt-get` exists.
.DEFAULT_GOAL := help
.PHONY: help run build test lint bench-quick bench-forecast bench-client

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: build ## Run the daemon in the foreground, with a PostgreSQL of its own, until Ctrl-C
	@scripts/need-postgresql
	target/release/tallyd

build: ## Build target/release/tallyd
	cargo build --release

test: ## Run every test, against real private PostgreSQL clusters
	@scripts/need-postgresql
	cargo test --workspace

lint: ## Check the format, clippy, licences and sources
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@scripts/need-cargo-deny
	cargo deny --log-level error check bans licenses sources

bench-quick: ## Records a second from the socket to committed rows, as a share of a bare \copy; 500 and 10,000 users
	@scripts/need-postgresql
	cargo bench --bench end_to_end -- --rounds 3 --users 500 --json target/bench/quick-500.json
	cargo bench --bench end_to_end -- --rounds 3 --users 10000 --json target/bench/quick-10000.json

bench-forecast: ## Backtest the forecast against naive ones, with its interval's coverage
	cargo bench --bench forecast

bench-client: ## What Recorder::record() costs the caller, with the daemon healthy, dead and stuck
	cargo bench -p tallyd-client
