package check_test

import (
	"testing"

	"github.com/martlet-mail/martlet/internal/check"
)

// Who stands behind a message, and behind its sender.
func TestProven(t *testing.T) {
	o := options(resolver(t, world+keyRecords(t, "bank.test", "none.test", "list.test", "evil.test")))
	o.Trusted = []string{"list.test"}
	c := check.New(o)
	bank, none := message("a@bank.test"), message("a@none.test")
	for name, one := range map[string]struct {
		peer, from, text string
		author, sender   bool
	}{
		"as it should be":                 {"198.51.100.1", "a@bank.test", bank, true, true},
		"signed alone":                    {"198.51.100.7", "a@bank.test", signed(t, "bank.test", bank), true, true},
		"signed, with another sender":     {"198.51.100.7", "a@none.test", signed(t, "bank.test", bank), true, false},
		"forged":                          {"198.51.100.7", "a@bank.test", bank, false, false},
		"another's name":                  {"198.51.100.7", "a@evil.test", signed(t, "evil.test", bank), false, true},
		"no policy":                       {"198.51.100.1", "a@none.test", none, true, true},
		"no policy, signed":               {"198.51.100.7", "a@evil.test", signed(t, "none.test", none), true, true},
		"no policy, forged":               {"198.51.100.7", "a@none.test", none, false, false},
		"no policy, another's name":       {"198.51.100.7", "a@evil.test", signed(t, "evil.test", none), false, true},
		"a trusted forwarder":             {"198.51.100.2", "a@list.test", bank, true, true},
		"two authors, trusted forwarder":  {"198.51.100.2", "a@list.test", message("a@bank.test, b@none.test"), false, true},
		"no author":                       {"198.51.100.1", "a@bank.test", message("root"), false, true},
		"HELO proves nothing of a sender": {"198.51.100.1", "", bank, false, false},
	} {
		v := ask(t, c, one.peer, "mail.bank.test", one.from, one.text)
		if v.AuthorProven() != one.author || v.SenderProven() != one.sender {
			t.Errorf("%s: author %v, sender %v: %s", name, v.AuthorProven(), v.SenderProven(), v)
		}
	}
}
