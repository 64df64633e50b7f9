package netsrv

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const (
	v2    = "\r\n\r\n\x00\r\nQUIT\n"
	four  = "\xc0\x00\x02\x07\xc6\x33\x64\x01\x30\x39\x00\x19"                                                                                                 // 192.0.2.7 to 198.51.100.1
	six   = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x30\x39\x00\x19" // 2001:db8::7
	four6 = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x07\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x30\x39\x00\x19" // ::ffff:192.0.2.7
	tlvs  = "\x04\x00\x03abc"                                                                                                                                  // a NOOP
)

// headers are those of proxies; "" is refused.
var headers = map[string]string{
	"PROXY TCP4 192.0.2.7 198.51.100.1 12345 25\r\n":  "192.0.2.7",
	"PROXY TCP6 2001:db8::7 2001:db8::1 12345 25\r\n": "2001:db8::7",
	"PROXY UNKNOWN\r\n":                     "10.0.0.1",
	"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n": "10.0.0.1",
	v2 + "\x21\x11\x00\x0c" + four:          "192.0.2.7",
	v2 + "\x21\x11\x00\x12" + four + tlvs:   "192.0.2.7",
	v2 + "\x21\x21\x00\x24" + six:           "2001:db8::7",
	v2 + "\x21\x21\x00\x24" + four6:         "192.0.2.7",
	v2 + "\x20\x00\x00\x00":                 "10.0.0.1", // its own health check
	v2 + "\x21\x00\x00\x03abc":              "10.0.0.1", // unspecified

	"PROXY TCP4 2001:db8::7 198.51.100.1 12345 25\r\n":                       "",
	"PROXY TCP4 192.0.2.7\r\n":                                               "",
	"PROXY TCP4 192.0.2.7 198.51.100.1 12345 25\n\n\n\n\n\n\n\n\n\n\n\n\n\n": "",
	"PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n":                            "",
	"PROXY " + strings.Repeat("x", 200) + "\r\n":                             "",
	v2 + "\x11\x11\x00\x0c" + four:                                           "", // no such version
	v2 + "\x22\x11\x00\x0c" + four:                                           "", // no such command
	v2 + "\x21\x11\x00\x04" + four:                                           "", // too short
	v2 + "\x21\x12\x00\x0c" + four:                                           "", // datagrams
	v2 + "\x21\x11\xff\xff" + four + strings.Repeat("x", 70_000):             "", // too long
	"EHLO there\r\nQUIT\r\n":                                                 "",
	"\r\n\r\n\x00\r\nQUIX\nxxxxxxxxxxxxxxx":                                  "",
}

// from is a connection from an address.
type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.addr))
}

// meet sends what a proxy sends, and returns who the client is taken for and what of it the
// session was given.
func meet(t *testing.T, addr, sent string) (peer, rest string) {
	t.Helper()
	s := New(Options{Trusted: []netip.Prefix{}})
	there, here := net.Pipe()
	go func() {
		there.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(there, sent+"and the rest\r\n")
		io.Copy(io.Discard, there)
	}()
	s.ServeConn(context.Background(), from{here, addr}, Service{
		Name: "smtp", Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Handle: func(_ context.Context, c *Conn) {
			peer = c.Peer().String()
			rest, _ = c.R.ReadString('\n')
		},
	})
	there.Close()
	return peer, rest
}

func TestProxy(t *testing.T) {
	for header, want := range headers {
		peer, rest := meet(t, "10.0.0.1:4000", header)
		if peer != want {
			t.Errorf("%.60q: the client is taken for %q, want %q", header, peer, want)
		}
		if want != "" && rest != "and the rest\r\n" {
			t.Errorf("%.60q: the session begins with %q", header, rest)
		}
	}
}

// A header of somebody who is no proxy is what a stranger says, and no more.
func TestProxyOfStranger(t *testing.T) {
	peer, rest := meet(t, "203.0.113.9:4000", "PROXY TCP4 192.0.2.7 198.51.100.1 12345 25\r\n")
	if peer != "203.0.113.9" || !strings.HasPrefix(rest, "PROXY") {
		t.Errorf("a stranger is taken for %s; the session begins with %q", peer, rest)
	}
}

func FuzzProxy(f *testing.F) {
	for header := range headers {
		f.Add([]byte(header))
	}
	proxy := netip.MustParseAddr("10.0.0.1")
	f.Fuzz(func(t *testing.T, b []byte) {
		there, here := net.Pipe()
		go func() { there.Write(b); there.Close() }()
		addr, err := client(here, proxy)
		here.Close()
		if err == nil && (!addr.IsValid() || addr.Is4In6() || addr.Zone() != "") {
			t.Errorf("%q gives %v", b, addr)
		}
	})
}
