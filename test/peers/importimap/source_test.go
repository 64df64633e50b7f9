package importimap

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/imapsource"
	"github.com/martlet-mail/martlet/test/peers/dovecot"
)

// ledger is a visitor that takes what it has not yet.
type ledger struct {
	have  map[string][32]byte // by key
	items map[string]move.Item
	order []string
	gone  []string
	skips []string
	told  int
	state []byte
	want  func(move.Item) bool
}

func newLedger() *ledger { return &ledger{have: map[string][32]byte{}, items: map[string]move.Item{}} }

func (l *ledger) Want(_ context.Context, items []move.Item) ([]bool, error) {
	out := make([]bool, len(items))
	for i, it := range items {
		_, have := l.have[it.Key]
		out[i] = !have && (l.want == nil || l.want(it))
		it.Keywords, it.Places = slices.Clone(it.Keywords), slices.Clone(it.Places)
		l.items[it.Key] = it
	}
	l.told += len(items)
	return out, nil
}

func (l *ledger) Put(_ context.Context, it move.Item, r io.Reader) error {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return err
	}
	if _, twice := l.have[it.Key]; twice {
		return fmt.Errorf("%s is put twice", it.Key)
	}
	if it.Size >= 0 && n != it.Size {
		return fmt.Errorf("%s has %d bytes, said were %d", it.Key, n, it.Size)
	}
	l.have[it.Key] = [32]byte(h.Sum(nil))
	l.order = append(l.order, it.Key)
	return nil
}

func (l *ledger) Skip(_ context.Context, it move.Item, why error) error {
	l.skips = append(l.skips, it.Key+": "+why.Error())
	return nil
}
func (l *ledger) Gone(_ context.Context, keys []string) error {
	l.gone = append(l.gone, keys...)
	return nil
}
func (l *ledger) State(_ context.Context, s []byte) error { l.state = s; return nil }

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
	l := newLedger()
	must(t, s.Read(ctx, m, move.Reading{Order: move.NewestFirst}, l))
	if len(l.have) != 2500 || l.told != 2500 || len(l.skips) > 0 {
		t.Fatalf("%d of 2500, told of %d, skipped %v", len(l.have), l.told, l.skips)
	}
	if !strings.HasSuffix(l.order[0], ".1501") || !strings.HasSuffix(l.order[2499], ".500") {
		t.Errorf("order: %s ... %s", l.order[0], l.order[2499])
	}
	_, err := c.Select(ctx, "INBOX", imapc.Select{})
	must(t, err)
	must(t, c.Store(ctx, mail.SetOf(7), imapc.SetFlags, mail.Answered, nil))
	_, err = c.Expunge(ctx, mail.SetOf(9, 2000))
	must(t, err)
	fill(t, c, "INBOX", 2500, 3)
	before := l.told
	must(t, s.Read(ctx, m, move.Reading{Since: l.state}, l))
	if l.told-before != 4 || len(l.have) != 2503 || len(l.gone) != 2 || !strings.HasSuffix(l.gone[0], ".9") {
		t.Errorf("told of %d, have %d, gone %v", l.told-before, len(l.have), l.gone)
	}
	before = l.told
	must(t, s.Read(ctx, m, move.Reading{Since: l.state}, l))
	if l.told != before {
		t.Errorf("told of %d though nothing had changed", l.told-before)
	}
}
