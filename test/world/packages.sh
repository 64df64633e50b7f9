#!/bin/sh
# Fetches the programs of the small internet (docs/world.md) and unpacks them, with the
# libraries that this machine lacks, into bin/peers/world. Nothing of it is installed:
# Debian lets only one mail server be, and none is to start. The lab lays the folder
# over /usr and /etc of its own hosts. Does nothing where it has been done.
set -eu
programs="knot knot-dnsutils unbound exim4-daemon-heavy opensmtpd opensmtpd-filter-dkimsign opendkim opendmarc dbconfig-no-thanks publicsuffix rspamd python3-dkim pebble"
into="$(cd "$(dirname "$0")/../.." && pwd)/bin/peers/world"
want="$programs 1" # a number that grows when the way of unpacking changes
[ "$(cat "$into/.unpacked" 2>/dev/null)" != "$want" ] || exit 0

sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
fetched=$(mktemp -d)
trap 'rm -rf "$fetched"' EXIT
mkdir -p "$fetched/partial" "$into"
$sudo apt-get update -qq
for p in $programs; do # one by one: some conflict
	echo "fetching: $p"
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -d --no-install-recommends -o Acquire::Retries=3 \
		-o APT::Sandbox::User=root -o Dir::Cache::archives="$fetched" "$p" >/dev/null
done
rm -rf "$into"
mkdir -p "$into"
for deb in "$fetched"/*.deb; do
	[ ! -e "$deb" ] || dpkg -x "$deb" "$into"
done
mkdir -p "$into/usr/lib" "$into/etc"
if [ -d "$into/lib" ]; then # /lib is a link to /usr/lib
	cp -a "$into/lib/." "$into/usr/lib/"
	rm -rf "$into/lib"
fi
echo "$want" >"$into/.unpacked"
