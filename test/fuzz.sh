#!/bin/sh
# Runs every fuzz target of the tree for a while each. Findings are written to the
# package's testdata/fuzz by the go tool: fix, then keep them as seeds.
set -eu
time=${1:-10s}
for dir in $(grep -rl --include='*_test.go' '^func Fuzz' internal cmd test | xargs -n1 dirname | sort -u); do
	for target in $(grep -h -o '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | cut -c6- | sort -u); do
		echo "== $dir $target"
		go test "./$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -parallel 2
	done
done
