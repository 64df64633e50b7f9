package send

import (
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
)

// A probe asks RCPT and sends nothing, over one connection for many.
func TestProbe(t *testing.T) {
	p := &peer{ext: []string{"PIPELINING"}, answers: map[string]func(int, string) string{"RCPT": func(_ int, arg string) string {
		switch {
		case strings.Contains(arg, "gone"):
			return "550 5.1.1 who?"
		case strings.Contains(arg, "later"):
			return "451 4.7.1 later"
		}
		return ""
	}}}
	c := courier(t, peers(t, p), oneHost, nil)
	for local, want := range map[string]int{"bob": 250, "gone": 550, "later": 451} {
		if r := c.Probe(t.Context(), mail.Address{Local: local, Domain: "example.org"}); r.Code != want || r.Host == "" {
			t.Errorf("%s: %+v", local, r)
		}
	}
	if n, conns := p.got(); n != 0 || conns != 1 || p.count("DATA") != 0 || p.count("RSET") != 3 {
		t.Errorf("%d messages over %d connections: %q", n, conns, p.commands(""))
	}
	c.Close()
	if r := c.Probe(t.Context(), mail.Address{Local: "bob", Domain: "nowhere.test"}); r.Host != "" {
		t.Errorf("%+v", r)
	}
}
