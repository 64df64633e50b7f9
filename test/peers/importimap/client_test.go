package importimap

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/test/peers/dovecot"
)

func peers(t *testing.T) {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("starts real servers: MARTLET_PEERS=1")
	}
}

func startDovecot(t *testing.T) *dovecot.Server {
	t.Helper()
	peers(t)
	s, err := dovecot.Run(dovecot.Options{Dir: t.TempDir(), Format: dovecot.Maildir, Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// options of a client of a server on loopback.
func options(t *testing.T, addr string) imapc.Options {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(port)
	return imapc.Options{Host: host, Port: uint16(n), Security: imapc.OfferedTLS, Dial: (&net.Dialer{}).DialContext, Now: time.Now, Random: rand.Reader,
		Timeout: 20 * time.Second, Version: "test"}
}

func connect(t *testing.T, opt imapc.Options, cred imapc.Credentials) *imapc.Client {
	t.Helper()
	c, err := imapc.Dial(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(t.Context(), cred); err != nil {
		t.Fatal(err)
	}
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func appending(text string, flags mail.Flags, keywords ...string) imapc.Appending {
	return imapc.Appending{Flags: flags, Keywords: keywords, Date: time.Date(2009, 2, 3, 4, 5, 6, 0, time.FixedZone("", 3600)), Size: int64(len(text)), Body: strings.NewReader(text)}
}

func message(n int) string {
	return fmt.Sprintf("From: a@example.net\r\nSubject: %d\r\nMessage-ID: <m%d@example.net>\r\nDate: Tue, 3 Feb 2009 04:05:06 +0100\r\n\r\nbody %d\r\n", n, n, n)
}

// everything a client does, against a real server.
func TestClientAgainstDovecot(t *testing.T) {
	s := startDovecot(t)
	for _, compress := range []imapc.Compression{imapc.CompressNever, imapc.CompressAlways} {
		opt := options(t, s.IMAP)
		opt.Compress = compress
		client(t, opt, imapc.Credentials{User: fmt.Sprint("carol", compress), Password: dovecot.Password})
	}
}

func client(t *testing.T, opt imapc.Options, cred imapc.Credentials) {
	ctx := t.Context()
	c := connect(t, opt, cred)
	ns, err := c.Namespaces(ctx)
	must(t, err)
	if len(ns.Personal) == 0 {
		t.Errorf("no personal namespace: %+v", ns)
	}
	prefix := ns.Personal[0].Prefix
	box := prefix + "Work &- &ZeVnLIqe-"
	must(t, c.Create(ctx, box, ""))
	must(t, c.Subscribe(ctx, box))
	var list []imapc.Appending
	for i := range 50 {
		list = append(list, appending(message(i), mail.Seen|mail.Flagged, "$Forwarded", "work"))
	}
	done, err := c.Append(ctx, box, list)
	must(t, err)
	for i, d := range done {
		if d.Err != nil || c.Capable("UIDPLUS") && d.UID == 0 {
			t.Fatalf("message %d: %+v", i, d)
		}
	}
	all, err := c.List(ctx)
	must(t, err)
	i := slices.IndexFunc(all, func(m imapc.Mailbox) bool { return m.Wire == box })
	if i < 0 || all[i].Name != prefix+"Work & 日本語" || !all[i].Subscribed {
		t.Fatalf("%+v", all)
	}
	st, err := c.Status(ctx, box, "INBOX", prefix+"none")
	must(t, err)
	if st[0] == nil || st[0].Messages != 50 || st[1] == nil || st[2] != nil {
		t.Fatalf("status %+v", st)
	}
	sel, err := c.Select(ctx, box, imapc.Select{})
	must(t, err)
	if sel.Exists != 50 || sel.UIDValidity == 0 || !sel.Keywords {
		t.Fatalf("%+v", sel)
	}
	fetchAll(t, c, ctx, sel)
	found, err := c.Search(ctx, "UNDELETED UID 2:3")
	must(t, err)
	if found.String() != "2:3" {
		t.Fatalf("found %v", found)
	}
	must(t, c.Store(ctx, mail.SetOf(1), imapc.RemoveFlags, mail.Seen, []string{"work"}))
	to, err := c.Move(ctx, mail.SetOf(1, 2), "INBOX")
	must(t, err)
	if c.Capable("UIDPLUS") && len(to.To) != 2 {
		t.Errorf("moved %+v", to)
	}
	changes(t, c, ctx, box, sel)
	idle(t, c, opt, cred, ctx)
	must(t, c.Logout(ctx))
}

func fetchAll(t *testing.T, c *imapc.Client, ctx context.Context, sel *imapc.Selected) {
	t.Helper()
	var set mail.UIDSet
	set.AddRange(1, 50)
	got, bodies := 0, 0
	p := c.StartFetch(imapc.Query{UIDs: set, Flags: true, Date: true, Size: true, MessageID: true, ModSeq: sel.ModSeq > 0}, func(m *imapc.Message) error {
		n := int(m.UID) - 1
		if m.MessageID != fmt.Sprintf("m%d@example.net", n) || m.Size != int64(len(message(n))) || m.Flags != mail.Seen|mail.Flagged || len(m.Keywords) != 2 || m.Date.UTC().Format(time.RFC3339) != "2009-02-03T03:05:06Z" {
			t.Errorf("message %d: %+v", n, m)
		}
		got++
		return nil
	})
	q := c.StartFetch(imapc.Query{UIDs: set, Body: true}, func(m *imapc.Message) error {
		text, err := io.ReadAll(m.Body)
		if err != nil || string(text) != message(int(m.UID)-1) {
			t.Errorf("message %d: %q, %v", m.UID, text, err)
		}
		bodies++
		return nil
	})
	must(t, c.Wait(ctx, q))
	must(t, c.Wait(ctx, p))
	if got != 50 || bodies != 50 {
		t.Fatalf("%d and %d of 50", got, bodies)
	}
}

// changes looks at what happened since sel, by QRESYNC or not.
func changes(t *testing.T, c *imapc.Client, ctx context.Context, box string, old *imapc.Selected) {
	t.Helper()
	must(t, c.Store(ctx, mail.SetOf(5), imapc.AddFlags, mail.Answered, nil))
	sel, err := c.Select(ctx, box, imapc.Select{ReadOnly: true, Since: &imapc.Resync{UIDValidity: old.UIDValidity, ModSeq: old.ModSeq}})
	must(t, err)
	t.Logf("QRESYNC %v: %v vanished, %+v changed", sel.Resynced, sel.Vanished, sel.Changed)
	if sel.Resynced != c.Capable("QRESYNC") {
		t.Errorf("resynced %v", sel.Resynced)
	}
	if sel.Resynced && (sel.Vanished.String() != "1:2" || len(sel.Changed) != 1 || sel.Changed[0].UID != 5 || !sel.Changed[0].Flags.Has(mail.Answered)) {
		t.Errorf("%+v", sel)
	}
	if sel.Exists != 48 || !sel.ReadOnly {
		t.Errorf("%+v", sel)
	}
}

func idle(t *testing.T, c *imapc.Client, opt imapc.Options, cred imapc.Credentials, ctx context.Context) {
	t.Helper()
	_, err := c.Select(ctx, "INBOX", imapc.Select{})
	must(t, err)
	other := connect(t, opt, cred)
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	must(t, c.Idle(short, func(imapc.News) bool { return false }))
	must(t, c.Noop(ctx))
	go func() {
		time.Sleep(100 * time.Millisecond)
		other.Append(ctx, "INBOX", []imapc.Appending{appending(message(99), 0)})
	}()
	long, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	told := false
	must(t, c.Idle(long, func(n imapc.News) bool { told = n.Exists == 3; return told }))
	if !told {
		t.Error("IDLE told nothing of a new message")
	}
	must(t, c.Noop(ctx))
}

func encode(name string) string { return imap.EncodeUTF7(name) }
