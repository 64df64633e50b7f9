package dnsx_test

import (
	"net/netip"
	"testing"

	"github.com/martlet-mail/martlet/internal/dnsx"
)

// No spelling of an address of our own network passes for one of the Internet.
func TestAttack31PublicAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"192.0.2.1": true, "8.8.8.8": true, "198.17.255.255": true, "198.20.0.1": true, "2001:200::1": true, "2a00::1": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true,
		"64:ff9b::8.8.8.8": true, "2002:808:808::1": true, "172.15.0.1": true, "100.128.0.1": true,

		"127.0.0.1": false, "127.255.0.3": false, "::1": false, "0.0.0.0": false, "::": false, "0.1.2.3": false,
		"10.1.2.3": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.0.1": false, "fd00::1": false, "fc00::1": false,
		"169.254.169.254": false, "fe80::1": false, "fe80::1%eth0": false, "100.64.0.1": false, "100.127.255.255": false,
		"224.0.0.1": false, "ff02::1": false, "255.255.255.255": false, "240.0.0.1": false, "192.0.0.8": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::127.0.0.1": false, "64:ff9b::10.0.0.1": false, "64:ff9b::7f00:1": false,
		"64:ff9b:1::1": false, "2002:7f00:1::": false, "2002:c0a8:1::1": false, "fec0::1": false, "100::1": false,
		"198.18.0.1": false, "198.19.255.255": false, "192.88.99.1": false, "2001:0:7f00:1::": false, "2001:2::1": false, "2001:1ff::1": false, "2001:db8::1": false,
		"3fff::1": false, "3fff:fff::1": false, "3fff:1000::1": true, "5f00::1": false, "::ffff:0:127.0.0.1": false, "::ffff:0:8.8.8.8": false, "100:0:0:1::1": false, "4000::1": false,
	} {
		if got := dnsx.Public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}
