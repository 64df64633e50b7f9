#!/bin/sh
# Installs the real programs that the tests talk to, from Debian's packages. Does
# nothing where they are all there.
set -eu
packages="isync neomutt offlineimap3 curl openssl swaks libnet-ssleay-perl libio-socket-ssl-perl libsasl2-modules bsdutils fetchmail getmail6 msmtp postfix dovecot-core dovecot-imapd dovecot-lmtpd dovecot-pop3d python3 libpython3.11-testsuite aerc alpine libmail-imapclient-perl php-cli php-cgi roundcube-sqlite3 roundcube-core"
# About 150 MB to fetch and 400 MB on disk: where they cannot be had, the test that
# needs them is skipped, and says so.
large="thunderbird xvfb"

missing() {
	for p in "$@"; do
		dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q "install ok installed" || printf ' %s' "$p"
	done
}

updated=""
install() {
	echo "installing: $*"
	[ -n "$updated" ] || $sudo apt-get update -qq
	updated=yes
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Acquire::Retries=3 "$@"
}

sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
# shellcheck disable=SC2086
need=$(missing $packages)
# shellcheck disable=SC2086
[ -z "$need" ] || install $need
# shellcheck disable=SC2086
need=$(missing $large)
# shellcheck disable=SC2086
[ -z "$need" ] || install $need || echo "not installed:$need; the tests with them will be skipped"
