# Each directory with a go.mod is a module of its own; go.work ties them together.
MODULES  := . bench example otelgate redislimit
FUZZTIME ?= 5m
SUDO     := $(if $(filter 0,$(shell id -u)),,sudo)
LINT     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: test redis lint bench zoo fuzz realservers

# Everything, with the race detector on. What shares a quota is tested with a real
# Redis, which is installed where apt is.
test: redis
	@echo "This takes about three minutes, and a minute more where nothing is built yet."
	@set -e; for m in $(MODULES); do (cd $$m && go test -race -shuffle=on ./...); done

redis:
	@command -v redis-server >/dev/null || { \
		command -v apt-get >/dev/null || { echo "redis-server is missing: install it, and make sure it is on the PATH"; exit 1; }; \
		$(SUDO) apt-get update -q && RUNLEVEL=1 $(SUDO) apt-get install -qy redis-server; }

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	@set -e; for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy -diff && go vet ./... && go run $(LINT) run ./...); done

# The figures that the README claims, measured side by side, and what it costs to
# estimate a prompt and to read a response.
bench:
	cd bench && go test -count=1 -run TestSchedules -v -bench . .
	go test -run '^$$' -bench . ./provider
	cd redislimit && go test -run '^$$' -bench .

# Servers made at random, others each time, and what the peers make of a fixed set.
SEED ?= $(shell date +%s)
zoo:
	go test -count=1 ./internal/zoo -run TestZoo -v -zoo.seed=$(SEED) -zoo.servers=1000
	cd bench && go test -count=1 -run 'TestZoo$$' -v .

# Every parser of what a server sends, for FUZZTIME each.
fuzz:
	@set -e; for p in . ./provider ./internal/stream; do for f in $$(grep -oh '^func Fuzz[A-Za-z0-9]*' $$p/*_test.go | cut -c6-); do \
		go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p; done; done

# Real servers that limit in ways of their own, installed where apt is.
realservers:
	@for p in haproxy nginx; do PATH="$$PATH:/usr/sbin" command -v $$p >/dev/null || $(SUDO) apt-get install -y $$p || exit 1; done
	cd bench && go test -count=1 -tags realservers -run TestRealServers -v .
