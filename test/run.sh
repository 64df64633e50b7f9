#!/bin/sh
# Runs every test and says how many ran. MARTLET_PEERS makes the tests that start
# real programs run too; without it they are skipped, as in a plain `go test`.
set -u
export MARTLET_PEERS=1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
go test -p 2 -timeout 18m -json ./... >"$log" 2>&1
code=$?
go run ./test/summary <"$log"
sum=$?
./test/fuzz.sh rotate 5 15s # those whose day it is
fuzz=$?
./test/vuln.sh
vuln=$?
[ $code -eq 0 ] && [ $sum -eq 0 ] && [ $fuzz -eq 0 ] && [ $vuln -eq 0 ]
