# Two commands do everything on a fresh Debian or Ubuntu machine with Rust: `make demo` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-aws simulate mutants lint bench lambda

help: ## what can be made (this list)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## build backstop and see it back up and rebuild a real MySQL shard (ARGS="--keep" keeps it)
	@testing/install build
	@. testing/lib.sh; step "build backstop" cargo build --release --locked -p backstop-cli
	@target/release/backstop demo $(ARGS)

test: ## check formatting, lint, and run every test against real servers
	@testing/install test
	@testing/test all

test-aws: ## run only the tests of the AWS parts (they are in `make test` too)
	@testing/install test
	@testing/test aws

simulate: ## search with the simulation (HOURS=8; SEED=17 repeats a run; docs/simulation.md)
	@testing/install build
	@testing/simulate "$(or $(HOURS),1)" "$(SEED)"

mutants: ## take out each fix and let the simulation notice it (docs/simulation.md)
	@testing/install build
	@testing/mutants/run

lambda: ## make the zip of the AWS Lambda function (docs/lambda.md)
	@testing/install build
	@testing/lambda-zip

lint: ## check formatting and lint only
	@testing/install test
	@testing/test lint

bench: ## measure against other tools (SIZE=2 gigabytes; ONLY="commits memory" for some); the tables go to bench/RESULTS.md
	@testing/install bench
	@. testing/lib.sh; step "build backstop" cargo build --release --locked -p backstop-cli
	@bench/run --size "$(or $(SIZE),2)" $(ONLY)
