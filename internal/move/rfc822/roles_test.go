package rfc822

import (
	"slices"
	"testing"

	"github.com/martlet-mail/martlet/internal/move"
)

// Names that cannot be had here do not bring two mailboxes into one.
func TestApart(t *testing.T) {
	var list []move.Mailbox
	for _, name := range []string{"A*", "A=2A", "INBOX", "inbox", "x", "x", "A=2A 2", "A*/b", "A=2A/b"} {
		list = append(list, move.Mailbox{Name: name})
	}
	Apart(list)
	var got []string
	for _, m := range list {
		got = append(got, m.Name)
	}
	if want := []string{"A*", "A=2A 3", "INBOX", "inbox", "x", "x", "A=2A 2", "A*/b", "A=2A/b 2"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
