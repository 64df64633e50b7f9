#!/bin/sh
# Runs fuzz targets, one after another. docs/fuzzing.md has what each looks for.
#
#   test/fuzz.sh [FUZZTIME]              every target (default 10s each)
#   test/fuzz.sh rotate N [FUZZTIME]     N targets (default 30s each), other ones every day
#   test/fuzz.sh list                    their names: folder, target
#   test/fuzz.sh turn N [DAY]            those of a day (days since 1970; default today)
#
# All of them run, even if one finds something; then the exit status is 1. The go tool writes what was found to testdata/fuzz: mend it, give the file
# a name that says what it is, and keep it. How often what is found is made smaller is limited (it is done to
# what reaches new code, too, and sessions would do nothing else), and so is each run.
set -eu
cd "$(dirname "$0")/.."

targets() {
	grep -r --include='*_test.go' '^func Fuzz' internal cmd test |
		sed -n 's|^\(.*\)/[^/]*_test.go:func \(Fuzz[A-Za-z0-9_]*\)(.*|\1 \2|p' | LC_ALL=C sort -u
}

# Seconds of a time as the go tool has it: 90, 90s, 30m, 1h.
seconds() {
	case $1 in
	*h) echo $((${1%h} * 3600)) ;;
	*m) echo $((${1%m} * 60)) ;;
	*) echo "${1%s}" ;;
	esac
}

all=$(targets)

# Which targets have their turn follows from the day alone, and each has it before any has
# its second.
turn() {
	number=$(echo "$all" | wc -l)
	printf '%s\n%s\n' "$all" "$all" | tail -n +$(($2 * $1 % number + 1)) | head -n "$1"
}

today=$(($(date +%s) / 86400))
case ${1:-} in
list)
	echo "$all"
	exit ;;
turn)
	turn "$2" "${3:-$today}"
	exit ;;
rotate)
	time=${3:-${FUZZTIME:-30s}}
	chosen=$(turn "$2" "$today")
	echo "fuzzing the targets of day $today:" $(echo "$chosen" | tr ' ' :) ;;
*)
	time=${1:-10s}
	chosen=$all ;;
esac

limit=$(($(seconds "$time") + 300)) # to build it, and to make a finding smaller
found=
while read -r dir target; do
	echo "== $dir $target"
	timeout -k 10 "$limit" go test "./$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime "${FUZZMINIMIZE:-50x}" \
		-parallel "${FUZZPARALLEL:-2}" </dev/null || found="$found $dir:$target"
done <<END
$chosen
END
if [ -n "$found" ]; then
	echo "found something:$found" >&2
	exit 1
fi
