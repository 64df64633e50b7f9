#!/bin/sh
# Installs the real programs that the tests talk to, from Debian's packages. Does
# nothing where they are all there. With the word "bench", only those of the benchmarks.
set -eu
packages="isync neomutt offlineimap3 curl openssl swaks libnet-ssleay-perl libio-socket-ssl-perl libsasl2-modules bsdutils fetchmail getmail6 msmtp postfix dovecot-core dovecot-imapd dovecot-lmtpd dovecot-pop3d python3 libpython3.11-testsuite aerc alpine libmail-imapclient-perl php-cli php-cgi roundcube-sqlite3 roundcube-core pebble knot knot-dnsutils rspamd clamav-daemon clamav-milter strace python3-spf python3-authres python3-dkim python3-nacl opendkim whois apache2-utils python3-passlib zbar-tools procmail librsvg2-bin gamin postgresql patroni etcd-server etcd-client haproxy"
# About 150 MB to fetch and 400 MB on disk: where they cannot be had, the test that
# needs them is skipped, and says so.
large="thunderbird xvfb"

# The rivals of the benchmarks. Debian lets only one IMAP server be installed, so
# cyrus-imapd itself is unpacked, not installed.
bench="postfix dovecot-core dovecot-imapd dovecot-lmtpd cyrus-common sasl2-bin libsasl2-modules-db eatmydata"
unpacked="$(dirname "$0")/../bin/peers/cyrus"

missing() {
	for p in "$@"; do
		dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q "install ok installed" || printf ' %s' "$p"
	done
}

updated=""
quiet=""
# install leaves no server running: the tests start their own, and clamd with all its
# signatures takes a gigabyte of memory.
install() {
	echo "installing: $*"
	[ -n "$updated" ] || $sudo apt-get update -qq
	updated=yes
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		printf '#!/bin/sh\nexit 101\n' | $sudo tee /usr/sbin/policy-rc.d >/dev/null
		$sudo chmod +x /usr/sbin/policy-rc.d
		quiet=yes
		trap '$sudo rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Acquire::Retries=3 "$@"
}

sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
if [ "${1:-}" = bench ]; then
	# shellcheck disable=SC2086
	need=$(missing $bench)
	# shellcheck disable=SC2086
	[ -z "$need" ] || install $need
	[ -z "$quiet" ] || $sudo systemctl disable cyrus-imapd dovecot postfix >/dev/null 2>&1 || true
	if [ ! -x "$unpacked/usr/lib/cyrus/bin/imapd" ]; then
		mkdir -p "$unpacked"
		version=$(dpkg-query -W -f '${Version}' cyrus-common)
		(cd "$unpacked" && apt-get download -qq -o APT::Sandbox::User=root "cyrus-imapd=$version" && dpkg -x cyrus-imapd_*.deb . && rm -f cyrus-imapd_*.deb)
	fi
	exit 0
fi
# shellcheck disable=SC2086
need=$(missing $packages)
# shellcheck disable=SC2086
[ -z "$need" ] || install $need
# shellcheck disable=SC2086
need=$(missing $large)
# shellcheck disable=SC2086
[ -z "$need" ] || install $need || echo "not installed:$need; the tests with them will be skipped"
# An S3 server, which Debian has not; it is built from sources that test/tools/go.mod pins.
tools="$(dirname "$0")/tools"
[ -x "$tools/../../bin/peers/versitygw" ] || (cd "$tools" && mkdir -p ../../bin/peers && go build -o ../../bin/peers/versitygw github.com/versity/versitygw/cmd/versitygw) ||
	echo "not built: versitygw; its tests will be skipped"
# What only the benchmarks need has a test of its own.
"$0" bench || echo "not installed: Cyrus; its test will be skipped"
# Courier's imapd, as a source of imports; it may not be installed beside Dovecot either.
courier="$(dirname "$0")/../bin/peers/courier"
if [ ! -x "$courier/usr/bin/imapd" ]; then
	mkdir -p "$courier"
	(cd "$courier" && apt-get download -qq -o APT::Sandbox::User=root courier-imap courier-authlib courier-base libcourier-unicode4 && for deb in *.deb; do dpkg -x "$deb" .; done; rm -f ./*.deb) ||
		echo "not unpacked: Courier; its test will be skipped"
fi
# The small internet of docs/world.md: unpacked too, nothing of it installed.
"$(dirname "$0")/world/packages.sh" || echo "not unpacked: the small internet; its tests will be skipped"
