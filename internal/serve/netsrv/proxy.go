package netsrv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The PROXY protocol, versions 1 and 2, as its authors at HAProxy describe it
// (proxy-protocol.txt): a proxy in front of the server says first whom it speaks for.

// headerTime is how long a proxy may take for its header.
const headerTime = 5 * time.Second

const (
	signature2 = "\r\n\r\n\x00\r\nQUIT\n" // begins version 2
	signature1 = "PROXY "
	longest1   = 107  // bytes of a header of version 1
	longest2   = 2048 // bytes after the fixed part of one of version 2; what a proxy may add is ignored
)

var errProxy = errors.New("the proxy's header is malformed")

// isProxy tells whether a peer of a listener is one of its proxies.
func (svc *Service) isProxy(peer netip.Addr) bool {
	return peer.IsValid() && slices.ContainsFunc(svc.Proxies, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// client returns for whom a proxy speaks: not a byte more than its header is read. A
// proxy that speaks for itself, to see whether the server lives, is its own client.
func client(nc net.Conn, proxy netip.Addr) (netip.Addr, error) {
	nc.SetReadDeadline(time.Now().Add(headerTime))
	defer nc.SetReadDeadline(time.Time{})
	first := make([]byte, len(signature2), 16+longest2)
	if _, err := io.ReadFull(nc, first[:len(signature1)]); err != nil {
		return proxy, err
	}
	if string(first[:len(signature1)]) == signature1 {
		return client1(nc, proxy)
	}
	if _, err := io.ReadFull(nc, first[len(signature1):]); err != nil {
		return proxy, err
	}
	if string(first) != signature2 {
		return proxy, errProxy
	}
	return client2(nc, proxy)
}

// client1 reads the line of version 1 behind its first word: "TCP4 from to port port".
func client1(nc net.Conn, proxy netip.Addr) (netip.Addr, error) {
	var line []byte
	for one := make([]byte, 1); !bytes.HasSuffix(line, []byte("\r\n")); line = append(line, one[0]) {
		if len(signature1)+len(line) >= longest1 {
			return proxy, errProxy
		}
		if _, err := io.ReadFull(nc, one); err != nil {
			return proxy, err
		}
	}
	words := strings.Split(strings.TrimSuffix(string(line), "\r\n"), " ")
	if words[0] == "UNKNOWN" {
		return proxy, nil
	}
	if len(words) != 5 || words[0] != "TCP4" && words[0] != "TCP6" {
		return proxy, errProxy
	}
	from, err := netip.ParseAddr(words[1])
	if err != nil || from.Is4() != (words[0] == "TCP4") || from.Zone() != "" {
		return proxy, errProxy
	}
	return from.Unmap(), nil
}

// client2 reads version 2 behind its signature: a byte of version and command, one of
// families, the length of what follows, and the addresses.
func client2(nc net.Conn, proxy netip.Addr) (netip.Addr, error) {
	var fixed [4]byte
	if _, err := io.ReadFull(nc, fixed[:]); err != nil {
		return proxy, err
	}
	size := binary.BigEndian.Uint16(fixed[2:])
	if fixed[0]>>4 != 2 || size > longest2 {
		return proxy, errProxy
	}
	rest := make([]byte, size)
	if _, err := io.ReadFull(nc, rest); err != nil {
		return proxy, err
	}
	const local, proxied = 0, 1
	const tcp4, tcp6, unspecified = 0x11, 0x21, 0
	switch command := fixed[0] & 0xF; {
	case command == local, command == proxied && fixed[1] == unspecified:
		return proxy, nil
	case command == proxied && fixed[1] == tcp4 && size >= 12:
		return netip.AddrFrom4([4]byte(rest[:4])), nil
	case command == proxied && fixed[1] == tcp6 && size >= 36:
		return netip.AddrFrom16([16]byte(rest[:16])).Unmap(), nil
	}
	return proxy, errProxy
}
