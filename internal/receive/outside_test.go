package receive

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/check"
	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/trace"
)

const zone = `
_dmarc.shop.test. TXT "v=DMARC1; p=quarantine"
_dmarc.bank.test. TXT "v=DMARC1; p=reject"
`

// checked makes w check what comes from outside, by a zone.
func (w *world) checked(zone string) (seen *[]Observation) {
	w.t.Helper()
	s, err := dnstest.Start(zone)
	w.must(err)
	w.t.Cleanup(s.Close)
	names, err := dnsx.New(dnsx.Options{
		Servers: []string{s.Addr()}, Rounds: 1, Timeout: time.Minute, CacheEntries: -1, Now: time.Now,
		ID: func() uint16 { return uint16(mathrand.Uint32()) }, Dial: (&net.Dialer{}).DialContext,
	})
	w.must(err)
	seen = new([]Observation)
	w.opt.Checks = check.New(check.Options{Resolver: names, Hostname: "mx.here.test", Now: time.Now})
	w.opt.AuthservID, w.opt.Forged = "mx.here.test", check.PolicyFollow
	w.opt.Observed = func(o Observation) { *seen = append(*seen, o) }
	return seen
}

// in returns the keywords of the messages in a mailbox of an account.
func (w *world) in(name, mailbox string) (all []string) {
	w.t.Helper()
	_, pic := w.picture(name, mailbox)
	for _, m := range pic.Messages(store.All()) {
		all = append(all, fmt.Sprint(pic.Keywords(m)))
	}
	return all
}

const received = "Received: by here.test id 1\r\n"

func outside(to ...string) mail.Envelope {
	env := envelope("ESMTP", to...)
	env.Peer, env.Helo, env.ID = "192.0.2.7", "client.test", "c1-1"
	return env
}

// What is in doubt goes into Junk at once and by way of the queue, and is known for it.
func TestJunk(t *testing.T) {
	w := newWorld(t)
	seen := w.checked(zone)
	ctx := t.Context()
	quota := func(n int64) {
		w.must(w.store.Account(w.accounts["alice"].ID).Update(ctx, func(tx *store.Tx) error {
			tx.SetQuota(store.Quota{Bytes: n})
			return nil
		}))
	}
	quota(1)
	res := w.FromOutside(ctx, outside("alice@here.test", "bob@here.test"), w.parcel("From: a@shop.test\r\n\r\nbody\r\n"), []byte(received))
	if res[0].Err != nil || res[1].Err != nil || w.queue.queued() != "local alice@here.test" || !w.queue.entries[0].Envelope.Junk {
		t.Fatalf("%+v, queued %q", res, w.queue.queued())
	}
	quota(0)
	local := &Local{w.Receiver}
	for range 2 {
		if res := local.Deliver(ctx, w.queue.job(0)); res[0].Code != 250 {
			t.Error(res)
		}
	}
	for _, name := range []string{"alice", "bob"} {
		if in, junk := w.in(name, "INBOX"), w.in(name, "Junk"); len(in) != 0 || fmt.Sprint(junk) != "[[$Junk]]" {
			t.Errorf("%s has %q in INBOX and %q in Junk", name, in, junk)
		}
	}
	if len(*seen) != 1 || (*seen)[0].Disposition != check.Junk {
		t.Errorf("%+v", *seen)
	}
}

// An account may have its junk elsewhere, or no place for it at all.
func TestJunkMailbox(t *testing.T) {
	for name, c := range map[string]struct {
		change func(tx *store.Tx) error
		want   string
	}{
		"renamed": {func(tx *store.Tx) error { return tx.RenameMailbox("Junk", "Spam") }, "Spam"},
		"deleted": {func(tx *store.Tx) error { return tx.DeleteMailbox("Junk") }, "Junk"},
		"for something else": {func(tx *store.Tx) error {
			if err := tx.DeleteMailbox("Junk"); err != nil {
				return err
			}
			_, err := tx.CreateMailbox("Junk", "")
			return err
		}, "Junk"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.checked(zone)
			w.must(w.store.Account(w.accounts["alice"].ID).Update(t.Context(), c.change))
			res := w.FromOutside(t.Context(), outside("alice@here.test"), w.parcel("From: a@shop.test\r\n\r\nbody\r\n"), []byte(received))
			if res[0].Err != nil || len(w.in("alice", c.want)) != 1 || len(w.in("alice", "INBOX")) != 0 {
				t.Errorf("%v, %q in %s", res[0].Err, w.in("alice", c.want), c.want)
			}
		})
	}
}

// The checks see the message as it came, NUL and all; mailboxes get it as they can have it.
func TestChecksSeeWhatCame(t *testing.T) {
	w := newWorld(t)
	key := dkim.Key{Domain: "bank.test", Selector: "k", Signer: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))}
	record, err := dkim.Record(key.Signer)
	w.must(err)
	seen := w.checked(zone + fmt.Sprintf("k._domainkey.bank.test. TXT %q\n", record))
	header := "From: a@bank.test\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
	for name, body := range map[string]string{"short": "a\x00b\r\n", "long": strings.Repeat("much of it \x00\r\n", 10_000)} {
		field, err := dkim.Sign([]byte(header), strings.NewReader(body), []dkim.Key{key}, dkim.SignOptions{Now: time.Now()})
		w.must(err)
		// Below our name, and not signed: it goes, and the signature holds.
		text := "Authentication-Results: mx.here.test; dmarc=pass header.from=other.test\r\n" + string(field) + header + body
		res := w.FromOutside(t.Context(), outside("bob@here.test"), w.parcel(text), []byte(received))
		if o := (*seen)[len(*seen)-1]; res[0].Err != nil || o.Verdict.DMARC.Status != "pass" || o.Disposition != check.None {
			t.Fatalf("%s: %v, %s", name, res[0].Err, o.Verdict)
		}
		got := w.inbox("bob")[len(*seen)-1]
		if strings.Contains(got, "\x00") || strings.Contains(got, "other.test") || !strings.HasPrefix(got, "Return-Path: <sender@far.test>\r\nAuthentication-Results: mx.here.test;\r\n\t") ||
			!strings.Contains(got, "\r\nReceived: by here.test id 1\r\nDKIM-Signature: ") {
			t.Errorf("%s: %.900q", name, got)
		}
	}
	res := w.FromOutside(t.Context(), outside("bob@here.test"), w.parcel(header+"a\x00b\r\n"), []byte(received))
	if !fault.Is(res[0].Err, fault.Denied) || res[0].Status != "5.7.26" {
		t.Errorf("without the signature: %+v", res[0])
	}
}

// What checks found and what was done is in the story of the message.
func TestStoryOfChecks(t *testing.T) {
	w := newWorld(t)
	w.checked(zone)
	book, err := trace.Open(trace.Options{FS: vfs.NewMem(), Dir: "trace", Keep: time.Hour, Bytes: 1 << 20, Now: time.Now})
	w.must(err)
	w.opt.Trace = book
	for i, c := range []struct{ from, want string }{
		{"shop.test", "received junk: the message says it is from shop.test, but * dmarc=fail (p=quarantine) * delivered Junk"},
		{"bank.test", "refused reject: the message says it is from bank.test, but * dmarc=fail (p=reject) * failed "},
		{"none.test", "received  * dmarc=none * delivered INBOX"},
	} {
		env := outside("alice@here.test")
		env.ID = fmt.Sprint("c1-", i)
		w.FromOutside(t.Context(), env, w.parcel("From: a@"+c.from+"\r\n\r\nbody\r\n"), []byte(received))
		found, err := book.Find(t.Context(), trace.Query{Name: env.ID})
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		e := found[0].Events[0]
		got := fmt.Sprint(e.What, " ", e.Action, " ", e.Verdict, " ", e.To[0].State, " ", e.To[0].Mailbox)
		for _, part := range strings.Split(c.want, "*") {
			_, rest, ok := strings.Cut(got, part)
			if !ok {
				t.Errorf("%q lacks %q", got, part)
			}
			got = rest
		}
	}
}

// A message that cannot be taken now comes again: it is counted then.
func TestObservedOnce(t *testing.T) {
	w := newWorld(t)
	seen := w.checked(zone)
	w.must(w.store.Account(w.accounts["alice"].ID).Update(t.Context(), func(tx *store.Tx) error {
		tx.SetQuota(store.Quota{Bytes: 1})
		return nil
	}))
	send := func(to string) error {
		return w.FromOutside(t.Context(), outside(to), w.parcel("From: a@shop.test\r\n\r\nbody\r\n"), []byte(received))[0].Err
	}
	if err := send("alice@here.test"); !fault.Is(err, fault.OverQuota) || len(*seen) != 0 {
		t.Errorf("%v, seen %d", err, len(*seen))
	}
	if err := send("bob@here.test"); err != nil || len(*seen) != 1 {
		t.Errorf("%v, seen %d", err, len(*seen))
	}
}

// With no checks, or for a message that runs in a circle, nobody is asked.
func TestNothingToCheck(t *testing.T) {
	w := newWorld(t)
	res := w.FromOutside(t.Context(), outside("bob@here.test"), w.parcel("Authentication-Results: here.test; none\r\nFrom: a@bank.test\r\n\r\nx\r\n"), []byte(received))
	if got := w.inbox("bob"); res[0].Err != nil || len(got) != 1 || got[0] != "Return-Path: <sender@far.test>\r\n"+received+"Authentication-Results: here.test; none\r\nFrom: a@bank.test\r\n\r\nx\r\n" {
		t.Errorf("%v, %q", res, got)
	}
	seen := w.checked(zone)
	res = w.FromOutside(t.Context(), outside("bob@here.test"), w.parcel(strings.Repeat(received, 101)+"From: a@bank.test\r\n\r\nx\r\n"), []byte(received))
	if !fault.Is(res[0].Err, fault.Invalid) || len(*seen) != 0 {
		t.Errorf("%v, %v", res, *seen)
	}
}

// What somebody else has taken over goes into no mailbox, and is told of; what he has not
// taken, or what is refused, is nobody's but ours.
func TestKept(t *testing.T) {
	w := newWorld(t)
	seen := w.checked(zone)
	take, asked := true, 0
	w.opt.Kept = func(_ context.Context, o Observation) bool {
		asked++
		return take && o.Message.Size() > 0
	}
	send := func(from string) []Result {
		return w.FromOutside(t.Context(), outside("bob@here.test"), w.parcel("From: a@"+from+"\r\n\r\nbody\r\n"), []byte(received))
	}
	if res := send("else.test"); len(res) != 1 || res[0].Err != nil || len(w.in("bob", "INBOX")) != 0 || len(*seen) != 1 {
		t.Errorf("%+v, %q, %d seen", res, w.in("bob", "INBOX"), len(*seen))
	}
	if res := send("bank.test"); !fault.Is(res[0].Err, fault.Denied) || asked != 1 {
		t.Errorf("%+v, asked %d times", res, asked)
	}
	take = false
	if res := send("else.test"); res[0].Err != nil || len(w.in("bob", "INBOX")) != 1 {
		t.Errorf("%+v, %q", res, w.in("bob", "INBOX"))
	}
}
