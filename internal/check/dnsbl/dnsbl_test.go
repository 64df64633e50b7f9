package dnsbl_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/check/dnsbl"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
)

func names(t *testing.T, zone string) (*dnsx.Client, *dnstest.Server) {
	t.Helper()
	s, err := dnstest.Start(zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c, err := dnsx.New(dnsx.Options{
		Servers: []string{s.Addr()}, Rounds: 1, Timeout: time.Minute, Now: time.Now,
		ID: func() uint16 { return uint16(rand.Uint32()) }, Dial: (&net.Dialer{}).DialContext,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

const lists = `
9.100.51.198.bl.test.      A 127.0.0.2
9.100.51.198.bl.test.      A 127.0.0.10
9.100.51.198.bl.test.      TXT "listed, see https://bl.test/\010\007"
9.100.51.198.spam.test.    A 127.255.255.254
9.100.51.198.mixed.test.   A 127.0.0.2
9.100.51.198.mixed.test.   A 127.255.255.252
9.100.51.198.sold.test.    A 203.0.113.80
7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.test. A 127.0.0.3
! servfail 9.100.51.198.down.test
`

func TestLists(t *testing.T) {
	r, s := names(t, lists)
	host := netip.MustParseAddr("198.51.100.9")
	for _, c := range []struct {
		addr  netip.Addr
		zone  string
		codes string
		want  string
		err   bool
	}{
		{host, "bl.test", "", "[127.0.0.2 127.0.0.10]", false},
		{host, "bl.test", "127.0.0.10/32", "[127.0.0.10]", false},
		{host, "bl.test", "127.0.1.0/24", "[]", false},
		{netip.MustParseAddr("::ffff:198.51.100.9"), "bl.test", "", "[127.0.0.2 127.0.0.10]", false},
		{netip.MustParseAddr("198.51.100.10"), "bl.test", "", "[]", false},
		{netip.MustParseAddr("2001:db8::7"), "bl.test", "", "[127.0.0.3]", false},
		{host, "spam.test", "", "[]", true},
		{host, "mixed.test", "", "[]", true},
		{host, "sold.test", "", "[]", true},
		{host, "down.test", "", "[]", true},
		{host, "none.test", "", "[]", false},
	} {
		z := dnsbl.Zone{Name: c.zone}
		if c.codes != "" {
			z.Codes = []netip.Prefix{netip.MustParsePrefix(c.codes)}
		}
		got := dnsbl.Ask(t.Context(), r, c.addr, []dnsbl.Zone{z})[0]
		if fmt.Sprint(got.Codes) != c.want || (got.Err != nil) != c.err || got.Listed() != (len(got.Codes) > 0) {
			t.Errorf("%s in %s: %+v", c.addr, c.zone, got)
		}
		if got.Listed() && c.addr.Is4() && got.Text != "listed, see https://bl.test/??" {
			t.Errorf("%q", got.Text)
		}
	}
	before := s.Queries()
	for _, addr := range []string{"127.0.0.1", "10.0.0.1", "192.168.1.1", "fd00::1", "fe80::1%eth0", "::1", "::ffff:10.0.0.1", "0.0.0.0"} {
		dnsbl.Ask(t.Context(), r, netip.MustParseAddr(addr), []dnsbl.Zone{{Name: "bl.test"}})
	}
	dnsbl.Ask(t.Context(), r, netip.Addr{}, []dnsbl.Zone{{Name: "bl.test"}})
	if n := s.Queries() - before; n != 0 {
		t.Errorf("%d questions about addresses that no list has", n)
	}
}

// One list that is silent keeps no other from answering, and nobody longer than allowed.
func TestSilentList(t *testing.T) {
	r, s := names(t, lists+"! silent 9.100.51.198.silent.test\n")
	ctx, cancel := context.WithCancel(t.Context())
	zones := []dnsbl.Zone{{Name: "silent.test"}, {Name: "bl.test", Weight: 3}, {Name: "silent.test"}}
	done := make(chan []dnsbl.Hit)
	go func() { done <- dnsbl.Ask(ctx, r, netip.MustParseAddr("198.51.100.9"), zones) }()
	for s.Queries() < 3 { // both zones, and the text of the one
		time.Sleep(time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond)
	cancel()
	hits := <-done
	if hits[0].Listed() || hits[0].Err == nil || !hits[1].Listed() || hits[1].Zone.Weight != 3 || hits[2].Err == nil {
		t.Errorf("%+v", hits)
	}
}

func TestName(t *testing.T) {
	if got := dnsbl.Name(netip.MustParseAddr("192.0.2.99"), "bad.example.com"); got != "99.2.0.192.bad.example.com" { // RFC 5782, 2.1
		t.Error(got)
	}
	if got := dnsbl.Name(netip.MustParseAddr("2001:db8:1:2:3:4:567:89ab"), "ugly.example.com"); got != strings.ReplaceAll(
		"b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ugly.example.com", " ", "") { // 2.4
		t.Error(got)
	}
}
