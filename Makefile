# make run    a try-out server on loopback, from a bare clone with nothing but Go
# make test   installs what the tests need (Debian packages) and runs them all
# make check  format, vet, static analysis, and the tests with the race detector
# make bench  beside Dovecot, Cyrus and Postfix, into docs/benchmarks.md (half an hour;
#             BENCH=-quick shows in a few minutes that all of it works)
# make bench-growth  at growing sizes, into docs/benchmarks-growth.md
# make bench-outbound  how fast mail goes out, beside Postfix (root; BENCH='-sign both' signs)
# make world  a small internet around the server, to look at (docs/world.md; as root)
# make sim    the whole server, simulated with faults (SEEDS=100000)
# make reliability  every promise of docs/reliability.md, and its figures into the page
#             (ONLY=R4 one of them, LONG=1 the long forms, which take hours)
# make test-cluster  a cluster of machines, and what it does when something breaks, into
#             docs/cluster-faults.md (root; forty minutes)
# make bench-cluster  on PostgreSQL and on two nodes, into docs/benchmarks-cluster.md (root)
# make bench-import  imports beside mbsync and imapsync (root)
# make queue-million   a queue of a million messages: its start and its memory (ten minutes)
# make vuln   known vulnerabilities of what is called, from the Go database
# make fuzz   every fuzz target in turn (FUZZTIME=10s each)

GO       ?= go
FUZZTIME ?= 10s
SEEDS    ?= 1000
ONLY     ?=
LONG     ?=

.PHONY: world build compiled run test check bench bench-peers bench-growth bench-outbound bench-import bench-cluster queue-million bench-deps fuzz vuln sim reliability crash test-cluster deps clean

build:
	$(GO) build -o bin/martlet ./cmd/martlet

run: build
	./bin/martlet try

deps:
	./test/deps.sh

# What is fetched and what is compiled do not wait for each other.
test:
	+$(MAKE) -j2 deps compiled
	./test/run.sh

compiled: build
	$(GO) list -test -export ./... >/dev/null

check:
	@test -z "$$(gofmt -l cmd internal test *.go)" || { echo "gofmt would change:"; gofmt -l cmd internal test *.go; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test -race -p 1 -timeout 20m ./...

bench-deps:
	./test/deps.sh bench

bench: bench-peers

bench-peers: bench-deps build
	$(GO) run ./test/peers/benchpeers $(BENCH)

bench-growth: bench-deps build
	$(GO) run ./test/peers/benchpeers -growth $(BENCH)

bench-outbound: bench-deps build
	$(GO) run ./test/peers/benchoutbound $(BENCH)

bench-import: bench-deps build
	$(GO) run ./test/peers/benchimport $(BENCH)

bench-cluster: deps bench-deps build
	$(GO) run ./test/peers/benchcluster $(BENCH)

queue-million: deps build
	MARTLET_PEERS=1 MARTLET_QUEUE=1000000 $(GO) test ./test/peers -count=1 -timeout 60m -v -run TestQueueSize

world: deps
	$(GO) run ./test/world -up

vuln:
	./test/vuln.sh

fuzz:
	./test/fuzz.sh $(FUZZTIME)

sim:
	$(GO) test ./test/sim -count=1 -timeout 48h -v -run '^TestSim$$' -sim.seeds=$(SEEDS)

reliability: deps build
	$(GO) run ./test/reliability $(if $(ONLY),-only $(ONLY)) $(if $(LONG),-long)

# The long form of the crash suites: thousands of cuts, hundreds of kills.
crash: deps build
	MARTLET_CRASH_SEEDS=10000 MARTLET_R1=200 MARTLET_PEERS=1 $(GO) test -p 1 -timeout 120m -count=1 ./internal/engine/pebble ./test/crash

test-cluster: deps build
	MARTLET_CLUSTER=1 $(GO) test ./test/cluster -count=1 -timeout 120m -v

clean:
	rm -rf bin martlet-data martlet-cluster
