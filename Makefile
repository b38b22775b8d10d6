# Each directory with a go.mod is a module of its own. go.work ties them together,
# save those in clients: their dependencies are many, and would choose versions for
# all others.
MODULES  := . bench example otelgate redislimit clients clients/genkit
ENTER     = cd $$m && case $$m in clients*) export GOWORK=off;; esac
FUZZTIME ?= 5m
SUDO     := $(if $(filter 0,$(shell id -u)),,sudo)
LINT     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

VULN     := golang.org/x/vuln/cmd/govulncheck@v1.9.0
RELEASE  := golang.org/x/exp/cmd/gorelease@v0.0.0-20261113113407-e3970619a1a4

.PHONY: test redis lint verify vuln outdated release cross bench zoo fuzz realservers nethttp

# Everything, with the race detector on. What shares a quota is tested with a real
# Redis, which is installed where apt is.
test: redis
	@echo "This takes about six minutes, and six minutes more where nothing is built yet."
	@set -e; for m in $(MODULES); do ($(ENTER) && go test -race -shuffle=on ./...); done

redis:
	@command -v redis-server >/dev/null || { \
		command -v apt-get >/dev/null || { echo "redis-server is missing: install it, and make sure it is on the PATH"; exit 1; }; \
		$(SUDO) apt-get update -q && RUNLEVEL=1 $(SUDO) apt-get install -qy redis-server; }

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	@set -e; for m in $(MODULES); do ($(ENTER) && GOWORK=off go mod tidy -diff && go vet ./... && go run $(LINT) run ./...); done

# What was downloaded is what go.sum says.
verify:
	@set -e; for m in $(MODULES); do (cd $$m && GOWORK=off go mod verify); done

# Known vulnerabilities that the modules reach. Asks a database on the Internet.
vuln:
	@set -e; for m in $(MODULES); do (cd $$m && GOWORK=off go run $(VULN) ./...); done

# Newer versions of direct dependencies, each with the Go version that it needs.
outdated:
	@set -e; for m in $(MODULES); do (cd $$m && export GOWORK=off && \
		go list -e -m -u -f '{{if and .Update (not .Indirect)}}{{.Path}} {{.Version}} {{.Update.Version}}{{end}}' all | grep . | \
		while read -r path old new; do echo "$$m: $$path $$old -> $$new, go $$(go list -m -f '{{.GoVersion}}' $$path@$$new)"; done); done

# What a release of module M would change in its API, and which version it should
# have. BASE is the version before; none: there is none.
M    ?= .
BASE ?= none
release:
	cd $(M) && GOWORK=off go run $(RELEASE) -base=$(BASE)

# All modules, for the systems that users have.
cross:
	@set -e; for m in $(MODULES); do for os in linux darwin windows; do \
		echo "$$os: $$m"; ($(ENTER) && GOOS=$$os go vet ./...); done; done

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

# net/http's own tests, with its Transport as it is and wrapped.
nethttp:
	internal/nethttp/run.sh
