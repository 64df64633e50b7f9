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

// A host that does not want to talk to us, or takes no null sender, has said nothing of the
// recipient: only what is about the address counts for good.
func TestProbeIsOfTheRecipient(t *testing.T) {
	for answer, want := range map[string]int{
		"MAIL 550 5.7.1 your address is on a block list": 450,
		"MAIL 550 5.1.0 sender rejected":                 450,
		"MAIL 553 5.1.8 no such domain":                  450,
		"MAIL 451 4.7.1 later":                           451,
		"RCPT 554 5.7.1 client host blocked":             450,
		"RCPT 550 5.7.26 not authenticated":              450,
		"RCPT 550 5.1.8 sender's domain does not exist":  450,
		"RCPT 550 5.1.7 what a sender":                   450,
		"RCPT 552 5.2.2 full":                            450,
		"RCPT 503 wrong order":                           450,
		"RCPT 550 who?":                                  550,
		"RCPT 550 5.1.1 who?":                            550,
		"RCPT 551 5.1.6 he has moved":                    551,
		"RCPT 553 5.1.3 what an address":                 553,
	} {
		verb, words, _ := strings.Cut(answer, " ")
		p := &peer{answers: map[string]func(int, string) string{verb: answering(words)}}
		c := courier(t, peers(t, p), oneHost, nil)
		if r := c.Probe(t.Context(), mail.Address{Local: "bob", Domain: "example.org"}); r.Code != want || r.Host == "" {
			t.Errorf("%s: %+v", answer, r)
		}
	}
}
