# A fresh Debian with Go, git and make is enough: `make demo`, `make test`. What else is needed, .ci/setup installs.

SHELL := /bin/bash
in = . .ci/env &&

SEEDS ?= 100
FUZZTIME ?= 30s
HISTORIES ?= 2000

.DEFAULT_GOAL := build
.PHONY: build demo test lint sim torture histories escapes bench bench-book bench-ledger bench-idle bench-start fuzz clean help

build: ## bin/souk
	@.ci/setup build
	$(in) go build -o bin/souk ./cmd/souk

demo: ## a market on this machine, from nothing to a paid bill
	@.ci/setup demo
	$(in) go build -o bin/souk ./cmd/souk
	bin/souk demo

test: ## all tests; prepares the machine first
	@.ci/setup test
	@.ci/test

lint: ## gofmt, vet, the rules of cmd/tidy, and the linters that go.mod names
	@$(in) test -z "$$(find . -name '*.go' -not -path './.*/*' -not -path '*/testdata/*' -print0 | xargs -0 gofmt -l | tee /dev/stderr)"
	$(in) go vet ./...
	$(in) go run ./cmd/tidy
	@$(in) for tool in staticcheck govulncheck; do \
		if go tool -n $$tool >/dev/null 2>&1; then echo "go tool $$tool ./..."; go tool $$tool ./... || exit 1; fi; \
	done

sim: ## simulated markets, with cheats and without: make sim SEEDS=1000
	$(in) go test ./simnet -run '^(TestSeeds|TestCheatsOneByOne|TestCheatsTogether|TestBankGoneForThirtyHours|TestSilenceUnderAMandate|TestMandateEndsAfterADay)$$' -count=1 -timeout 0 -v -seeds=$(SEEDS)

torture: ## crash points, power cuts, flipped bits, full disks, old backups: long campaigns, a line of figures each
	@.ci/setup test
	@.ci/torture long

histories: ## the bank's answers under crashes and lost replies, held against a naive bank: make histories HISTORIES=10000
	$(in) go test ./node -run '^TestHistoriesOfTheBank$$' -count=1 -timeout 0 -v -histories=$(HISTORIES)

escapes: ## what hostile pods try, and what they may reach: none gets through, a line of figures
	@.ci/setup test
	@.ci/escapes

bench: ## every benchmark that needs no node
	$(in) go test -run '^$$' -bench . -benchmem -timeout 60m $$(go list ./... | grep -v /cmd/)

bench-book: ## order book and searches beside a plain B-tree and SQLite: ends in a line of figures
	$(in) set -o pipefail; go test -tags peers -count=1 -timeout 20m -v -run Beside ./market/book ./market | \
		awk '/^(book|search): /{all=all sep $$0; sep="; "; next} !/^(=== RUN|PASS|ok )/{print} END{print all}'

bench-ledger: ## the money engine against the limits of the machine, in one line of figures
	@.ci/bench-ledger long

bench-idle: ## what an idle host costs in CPU and memory, against the least that such a process can be
	$(in) go test ./cmd/souk -run '^$$' -bench '^BenchmarkIdle' -benchtime 1x -timeout 30m -v

bench-start: ## from 'souk run' to the first line of a pod's output, against 'docker run'
	$(in) go test ./cmd/souk -run '^$$' -bench '^BenchmarkStart' -benchtime 5x -timeout 30m -v

fuzz: ## every decoder: make fuzz FUZZTIME=5m
	@.ci/fuzz $(FUZZTIME)

clean: ## what was built here
	rm -rf bin p2p/wire/testdata/ethers/node_modules

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1:\2/p' $(MAKEFILE_LIST) | while IFS=: read -r name text; do printf 'make %-12s %s\n' "$$name" "$$text"; done
