package importimap

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/imapsource"
	"github.com/martlet-mail/martlet/test/peers/dovecot"
	"github.com/martlet-mail/martlet/test/provider/ledger"
)

func source(t *testing.T, addr, user, password string) *imapsource.Source {
	s := imapsource.New(imapsource.Options{IMAP: options(t, addr), User: user,
		Credentials: func(context.Context) (imapc.Credentials, error) {
			return imapc.Credentials{User: user, Password: password}, nil
		}})
	t.Cleanup(func() { s.Close() })
	return s
}

func fill(t *testing.T, c *imapc.Client, box string, from, n int) {
	t.Helper()
	for n > 0 {
		var list []imapc.Appending
		for i := range min(n, 100) {
			list = append(list, appending(message(from+i), mail.Flags(1<<(i%5)), "$Forwarded", fmt.Sprint("k", i%7)))
		}
		done, err := c.Append(t.Context(), box, list)
		must(t, err)
		for _, d := range done {
			must(t, d.Err)
		}
		from, n = from+len(list), n-len(list)
	}
}

func mailbox(t *testing.T, s *imapsource.Source, name string) move.Mailbox {
	t.Helper()
	all, err := s.Mailboxes(t.Context())
	must(t, err)
	i := slices.IndexFunc(all, func(m move.Mailbox) bool { return m.Name == name })
	if i < 0 {
		t.Fatalf("no mailbox %q: %+v", name, all)
	}
	return all[i]
}

func TestSourceReadsAndFollows(t *testing.T) {
	d := startDovecot(t)
	ctx := t.Context()
	c := connect(t, options(t, d.IMAP), imapc.Credentials{User: "carol", Password: dovecot.Password})
	fill(t, c, "INBOX", 0, 2500)
	s := source(t, d.IMAP, "carol", dovecot.Password)
	m := mailbox(t, s, "INBOX")
	if m.Messages != 2500 || m.Role != mail.RoleInbox {
		t.Fatalf("%+v", m)
	}
	l := ledger.New()
	l.Exact = true
	must(t, s.Read(ctx, m, move.Reading{Order: move.NewestFirst}, l))
	if len(l.Have) != 2500 || l.Told != 2500 || len(l.Skips) > 0 {
		t.Fatalf("%d of 2500, told of %d, skipped %v", len(l.Have), l.Told, l.Skips)
	}
	if !strings.HasSuffix(l.Order[0], ".1501") || !strings.HasSuffix(l.Order[2499], ".500") {
		t.Errorf("order: %s ... %s", l.Order[0], l.Order[2499])
	}
	_, err := c.Select(ctx, "INBOX", imapc.Select{})
	must(t, err)
	must(t, c.Store(ctx, mail.SetOf(7), imapc.SetFlags, mail.Answered, nil))
	_, err = c.Expunge(ctx, mail.SetOf(9, 2000))
	must(t, err)
	fill(t, c, "INBOX", 2500, 3)
	before := l.Told
	must(t, s.Read(ctx, m, move.Reading{Since: l.Since}, l))
	if l.Told-before != 4 || len(l.Have) != 2503 || len(l.Missing) != 2 || !strings.HasSuffix(l.Missing[0], ".9") {
		t.Errorf("told of %d, have %d, gone %v", l.Told-before, len(l.Have), l.Missing)
	}
	before = l.Told
	must(t, s.Read(ctx, m, move.Reading{Since: l.Since}, l))
	if l.Told != before {
		t.Errorf("told of %d though nothing had changed", l.Told-before)
	}
}
