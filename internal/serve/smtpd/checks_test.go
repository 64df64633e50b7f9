package smtpd

import (
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/check"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/internal/receive"
)

// check has mail from strangers checked by what a zone says.
func (w *world) check(zone string) {
	w.t.Helper()
	if w.names == nil {
		w.names = nameServer(w.t)
		o := receive.Options{
			Store: w.store, Directory: w.dir, Queue: w.queue, Now: w.options.Now, AuthservID: "mx.here.test", Forged: check.PolicyFollow,
			Checks:   check.New(check.Options{Resolver: resolver(w.t, w.names.Addr()), Hostname: "mx.here.test", Now: w.options.Now, Trusted: []string{"list.test"}}),
			Observed: func(o receive.Observation) { w.observed = append(w.observed, o) },
		}
		w.options.Receiver = receive.New(o)
	}
	w.must(w.names.SetZone(zone))
}

func nameServer(t testing.TB) *dnstest.Server {
	t.Helper()
	s, err := dnstest.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func resolver(t testing.TB, addr string) *dnsx.Client {
	t.Helper()
	c, err := dnsx.New(dnsx.Options{
		Servers: []string{addr}, Rounds: 1, Timeout: time.Minute, CacheEntries: -1, Now: time.Now,
		ID: func() uint16 { return uint16(rand.Uint32()) }, Dial: (&net.Dialer{}).DialContext,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
