#!/bin/sh
# Runs every test and says how many ran. MARTLET_PEERS makes the tests that start
# real programs run too; without it they are skipped, as in a plain `go test`. They all run
# one server, which is built here: a dozen packages would each link it again.
set -u
cd "$(dirname "$0")/.." || exit 1
export MARTLET_PEERS=1
go build -o bin/martlet ./cmd/martlet || exit 1
export MARTLET_BINARY="$PWD/bin/martlet"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The packages that take longest begin first, so that none runs alone at the end. Vet is
# a part of make check, where it looks at more.
long="./test/crash ./internal/engine/postgres ./test/peers ./test/limits ./cmd/martlet ./test/world ./test/cluster ./internal/serve/imapd ./test/sim ./test/peers/importimap"
# shellcheck disable=SC2086
go test -p 2 -vet=off -timeout 18m -json $long ./... >"$log" 2>&1
code=$?
go run ./test/summary <"$log"
sum=$?
./test/fuzz.sh rotate 2 30s # those whose day it is
fuzz=$?
./test/vuln.sh
vuln=$?
[ $code -eq 0 ] && [ $sum -eq 0 ] && [ $fuzz -eq 0 ] && [ $vuln -eq 0 ]
