package lab

import (
	"os"
	"testing"

	"github.com/miekg/dns"
)

func world(t *testing.T) *World {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("starts real programs; set MARTLET_PEERS=1")
	}
	if err := Unable(); err != nil {
		t.Skip("no small internet here: ", err)
	}
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.Logs(30))
		}
		w.Close()
	})
	return w
}

// The chain of trust holds from the root to a name, and breaks where it is broken.
func TestTrust(t *testing.T) {
	w := world(t)
	if err := w.DNS.AddZones(Zone{Name: "good.example"}, Zone{Name: "plain.example", Trust: Insecure}, Zone{Name: "bad.example", Trust: Bogus}); err != nil {
		t.Fatal(err)
	}
	for _, zone := range []string{"good", "plain", "bad"} {
		if err := w.DNS.Set("mx."+zone+".example", "A", "198.20.9.9"); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]struct {
		rcode int
		ad    bool
	}{
		"mx.good.example":           {dns.RcodeSuccess, true},
		"none.good.example":         {dns.RcodeNameError, true},
		"mx.plain.example":          {dns.RcodeSuccess, false},
		"mx.bad.example":            {dns.RcodeServerFailure, false},
		"ns.example":                {dns.RcodeSuccess, true},
		"10.1.20.198.in-addr.arpa.": {dns.RcodeSuccess, true},
	} {
		qtype := dns.TypeA
		if name[0] == '1' {
			qtype = dns.TypePTR
		}
		r, err := w.DNS.Ask(name, qtype)
		if err != nil {
			t.Fatal(err)
		}
		if r.Rcode != want.rcode || r.AuthenticatedData != want.ad {
			t.Errorf("%s: %s, AD %t", name, dns.RcodeToString[r.Rcode], r.AuthenticatedData)
		}
	}
	// What is changed is seen soon.
	if err := w.DNS.Set("mx.good.example", "A", "198.20.9.10"); err != nil {
		t.Fatal(err)
	}
	err := wait("the change", func() bool {
		r, err := w.DNS.Ask("mx.good.example", dns.TypeA)
		return err == nil && len(r.Answer) == 1 && r.Answer[0].(*dns.A).A.String() == "198.20.9.10"
	})
	if err != nil {
		t.Error(err)
	}
}
