#!/bin/sh
# Installs the real programs that the tests talk to, from Debian's packages. Does
# nothing where they are all there.
set -eu
packages="isync neomutt offlineimap3 curl swaks libnet-ssleay-perl libio-socket-ssl-perl libsasl2-modules bsdutils fetchmail getmail6 msmtp postfix dovecot-core dovecot-imapd dovecot-lmtpd dovecot-pop3d python3 libpython3.11-testsuite"
missing=""
for p in $packages; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q "install ok installed" || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
echo "installing:$missing"
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
