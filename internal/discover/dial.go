package discover

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// lookup is a host whose addresses are asked for once in a hunt: what was checked is what is
// connected to, however often its owner changes his mind.
type lookup struct {
	done  chan struct{}
	addrs []netip.Addr // all of them may be connected to
	err   error
}

const (
	maxAddresses = 4                      // of a host that are tried
	stagger      = 250 * time.Millisecond // between tries (RFC 8305, 5), and for the other family (3)
)

var errPrivate = errors.New("leads to an address that is not public; it was not connected to")

// addresses returns those of a host that may be connected to.
func (h *hunt) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	h.mu.Lock()
	l := h.hosts[host]
	if l == nil {
		l = &lookup{done: make(chan struct{})}
		h.hosts[host] = l
		h.running.Go(func() { // for all steps, so not under the limit of one
			l.addrs, l.err = h.resolve(host)
			close(l.done)
		})
	}
	h.mu.Unlock()
	select {
	case <-l.done:
		return l.addrs, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// resolve asks for both families at once: a name server that does not answer for one of them
// must not hide the other.
func (h *hunt) resolve(host string) ([]netip.Addr, error) {
	type half struct {
		addrs []netip.Addr
		err   error
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.f.opt.Deadline/4)
	defer cancel()
	halves := make(chan half, 2)
	for _, six := range [2]bool{false, true} {
		go func() {
			addrs, _, err := h.dns.LookupIP(ctx, host, six)
			halves <- half{addrs, err}
		}()
	}
	var all []netip.Addr
	var failure error
	var patience <-chan time.Time
	for range 2 {
		select {
		case got := <-halves:
			all = append(all, got.addrs...)
			if got.err != nil && (failure == nil || !fault.Is(got.err, fault.NotFound)) {
				failure = got.err
			}
		case <-patience:
			return h.permitted(host, all)
		}
		if len(all) > 0 && patience == nil {
			t := time.NewTimer(stagger)
			defer t.Stop()
			patience = t.C
		}
	}
	if len(all) == 0 {
		return nil, failure
	}
	return h.permitted(host, all)
}

// permitted leaves out what nobody else may point us at.
func (h *hunt) permitted(host string, all []netip.Addr) (ok []netip.Addr, err error) {
	for _, a := range all {
		if a = a.Unmap(); h.f.opt.AllowPrivate || dnsx.Public(a) {
			ok = append(ok, a)
		}
	}
	if len(ok) == 0 {
		return nil, fmt.Errorf("%s %w", host, errPrivate)
	}
	return ok[:min(len(ok), maxAddresses)], nil
}

// dial connects to the first address of a host that answers.
func (h *hunt) dial(ctx context.Context, host string, port int) (conn net.Conn, err error) {
	defer func() { h.quietly(host, err) }()
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		if addrs, err = h.permitted(host, []netip.Addr{a}); err != nil {
			return nil, err
		}
	} else if addrs, err = h.addresses(ctx, host); err != nil {
		return nil, err
	}
	type try struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithTimeout(ctx, h.f.opt.Deadline/4)
	defer cancel()
	tries := make(chan try, len(addrs))
	for n, a := range addrs {
		go func() {
			if n > 0 {
				t := time.NewTimer(time.Duration(n) * stagger)
				defer t.Stop()
				select {
				case <-t.C:
				case <-ctx.Done():
					tries <- try{err: ctx.Err()}
					return
				}
			}
			conn, err := h.f.opt.Dial(ctx, "tcp", net.JoinHostPort(a.String(), strconv.Itoa(port)))
			tries <- try{conn, err}
		}()
	}
	var last error
	for n := range addrs {
		got := <-tries
		if got.err == nil {
			go func() { // the losers
				for range len(addrs) - n - 1 {
					if late := <-tries; late.conn != nil {
						late.conn.Close()
					}
				}
			}()
			return got.conn, nil
		}
		if last == nil || errors.Is(last, context.Canceled) {
			last = got.err
		}
	}
	return nil, last
}

// secure begins TLS, and checks the certificate against the name.
func (h *hunt) secure(ctx context.Context, conn net.Conn, host string) (*tls.Conn, error) {
	secured := tls.Client(conn, &tls.Config{ServerName: host, RootCAs: h.f.opt.Roots, Time: h.f.opt.Now, MinVersion: tls.VersionTLS12})
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return secured, nil
}
