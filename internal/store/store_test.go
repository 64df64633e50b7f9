package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/disk"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

var ctx = context.Background()

// clock is a time that tests move.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// world is a store on an engine in memory, with one account.
type world struct {
	*Store
	a     *Account
	clock *clock
}

func newWorld(t interface {
	Fatal(...any)
	Cleanup(func())
}) *world {
	c := &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	return worldOn(t, memoryEngine(t, c), c)
}

func memoryEngine(t interface {
	Fatal(...any)
	Cleanup(func())
}, c *clock) engine.Engine {
	eng, err := pebble.Open("data", pebble.Options{FS: vfs.NewMem(), MemTableBytes: 1 << 20, Now: c.now, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return eng
}

func worldOn(t interface {
	Fatal(...any)
	Cleanup(func())
}, eng engine.Engine, c *clock) *world {
	spool := disk.NewSpool(vfs.NewMem(), "")
	s, err := Open(eng, Options{Now: c.now, Rand: rand.Reader, MaxMessage: 64 << 20, Spool: func() (SpoolFile, error) { return spool.File() }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateAccount(ctx, 1, Quota{}); err != nil {
		t.Fatal(err)
	}
	return &world{Store: s, a: s.Account(1), clock: c}
}

// letPass lets time pass as it does when nobody sets the clock.
func (w *world) letPass(t testing.TB, d time.Duration) {
	t.Helper()
	for day := 24 * time.Hour; d > 0; d -= day {
		w.clock.t = w.clock.t.Add(min(d, day))
		if _, err := w.sweepTime(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) receive(t testing.TB, text string) *Parcel {
	t.Helper()
	p, err := w.Receive(ctx, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (w *world) box(t testing.TB, name string) Mailbox {
	t.Helper()
	var m Mailbox
	err := w.a.View(ctx, func(s *Snapshot) (err error) {
		m, err = s.Mailbox(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (w *world) update(t testing.TB, fn func(*Tx) error) {
	t.Helper()
	if err := w.a.Update(ctx, fn); err != nil {
		t.Fatal(err)
	}
}

func (w *world) deliver(t testing.TB, box, text string) mail.UID {
	t.Helper()
	p, id := w.receive(t, text), w.box(t, box).ID
	var uid mail.UID
	w.update(t, func(tx *Tx) (err error) {
		uid, err = tx.Append(id, NewMessage{Parcel: p})
		return err
	})
	return uid
}

func (w *world) picture(t testing.TB, box mail.MailboxID) *Picture {
	t.Helper()
	p, err := w.a.Picture(ctx, box)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (w *world) whole(t testing.TB, id mail.MessageID) string {
	t.Helper()
	r, err := w.a.Open(ctx, id, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (w *world) verify(t interface {
	Helper()
	Errorf(string, ...any)
}) Verified {
	t.Helper()
	v, err := w.Verify(ctx, func(p Problem) { t.Errorf("verify: %+v", p) }, nil)
	if err != nil {
		t.Errorf("verify: %v", err)
	}
	return v
}

const hello = "From: Ann <ann@example.org>\r\nTo: bob@example.org\r\nSubject: Re: hello\r\nMessage-ID: <1@example.org>\r\nDate: Sun, 1 Mar 2026 10:00:00 +0100\r\n\r\nHow are you?\r\n"

func TestDeliverAndRead(t *testing.T) {
	w := newWorld(t)
	uid := w.deliver(t, "inbox", hello)
	p := w.picture(t, w.box(t, "INBOX").ID)
	m, ok := p.Message(uid)
	if !ok || m.Size != int64(len(hello)) || m.Internal != w.clock.t.Unix() || p.Len() != 1 {
		t.Fatalf("%+v", m)
	}
	if got := w.whole(t, m.ID); got != hello {
		t.Errorf("%q", got)
	}
	err := w.a.View(ctx, func(s *Snapshot) error {
		f, err := s.Facts(m.ID)
		if err != nil {
			return err
		}
		if !strings.Contains(string(f.Envelope), `"Re: hello"`) || !strings.Contains(string(f.BodyStructure), `"text" "plain"`) {
			t.Errorf("%s %s", f.Envelope, f.BodyStructure)
		}
		k, err := s.Keys(m.ID)
		if !strings.EqualFold(string(k.Base), "hello") || string(k.From) != "ann" || string(k.DisplayFrom) != "Ann" ||
			k.ID != HashMessageID("1@example.org") || k.Date != 1772355600 {
			t.Errorf("%+v", k)
		}
		head, err2 := s.Head(nil, m.ID)
		if want := hello[:len(hello)-len("How are you?\r\n")]; string(head) != want || f.HeaderSize != int64(len(want)) {
			t.Errorf("%q %v", head, err2)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	w.verify(t)
}

// Whatever its shape and however it is cut on its way in, a message comes back byte
// for byte, whole and in ranges.
func TestEveryByteComesBack(t *testing.T) {
	w := newWorld(t)
	big := strings.Repeat("0123456789abcdef\r\n", 20_000)
	for name, text := range map[string]string{
		"empty":          "",
		"only newline":   "\r\n",
		"no header":      "\r\nbody",
		"no body":        "Subject: x\r\n\r\n",
		"no empty line":  "Subject: x",
		"bare LF":        "Subject: x\n\nbody\nmore",
		"NUL":            "Subject: x\r\n\r\na\x00b\r\n",
		"8-bit":          "Subject: \xff\xfe\r\n\r\n\x80\x81",
		"big":            "Subject: big\r\n\r\n" + big,
		"chunk edge":     "A: b\r\n\r\n" + strings.Repeat("x", chunkSize),
		"two chunks":     "A: b\r\n\r\n" + strings.Repeat("x", 2*chunkSize),
		"huge header":    "Subject: x\r\nX: " + strings.Repeat("y ", maxHead) + "\r\n\r\nbody\r\n",
		"incompressible": "A: b\r\n\r\n" + noise(200_000),
		"long facts":     "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\nContent-Type: text/plain; name=abc\r\n\r\n\r\n", 3000),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := w.Receive(ctx, &cut{text, 0})
			if err != nil {
				t.Fatal(err)
			}
			var m Message
			w.update(t, func(tx *Tx) error {
				inbox, err := tx.Mailbox("INBOX")
				if err != nil {
					return err
				}
				uid, err := tx.Append(inbox.ID, NewMessage{Parcel: p})
				if err == nil {
					m, err = tx.Message(inbox.ID, uid)
				}
				return err
			})
			if got := w.whole(t, m.ID); got != text {
				t.Fatalf("got %d bytes of %d", len(got), len(text))
			}
			for _, r := range [][2]int{{0, 10}, {5, 100_000}, {len(text) / 2, 70_000}, {max(0, len(text)-3), 9}, {len(text), 5}} {
				rd, err := w.a.Open(ctx, m.ID, int64(r[0]), int64(r[1]))
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(rd)
				if want := text[min(r[0], len(text)):min(r[0]+r[1], len(text))]; err != nil || string(got) != want {
					t.Errorf("range %v: %d bytes, want %d, %v", r, len(got), len(want), err)
				}
				rd.Close()
			}
		})
	}
	w.verify(t)
}

// noise returns bytes that do not compress.
func noise(n int) string {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x >> 24)
	}
	return string(b)
}

// cut reads in pieces of changing length.
type cut struct {
	left string
	n    int
}

func (c *cut) Read(b []byte) (int, error) {
	if c.left == "" {
		return 0, io.EOF
	}
	c.n = c.n*7%1009 + 1
	n := copy(b[:min(len(b), c.n)], c.left)
	c.left = c.left[n:]
	return n, nil
}

func TestTooLargeIsRefused(t *testing.T) {
	w := newWorld(t)
	w.opt.MaxMessage = 100
	if _, err := w.Receive(ctx, strings.NewReader(strings.Repeat("x", 101))); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
}

func TestPrependShiftsEverything(t *testing.T) {
	w := newWorld(t)
	text := "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>two\r\n--b--\r\n"
	const line = "Return-Path: <ann@example.org>\r\n"
	p := w.receive(t, text).Prepend([]byte(line))
	var id mail.MessageID
	w.update(t, func(tx *Tx) error {
		inbox, _ := tx.Mailbox("INBOX")
		uid, err := tx.Append(inbox.ID, NewMessage{Parcel: p})
		m, _ := tx.Message(inbox.ID, uid)
		id = m.ID
		return err
	})
	if got := w.whole(t, id); got != line+text {
		t.Fatalf("%q", got)
	}
	err := w.a.View(ctx, func(s *Snapshot) error {
		f, err := s.Facts(id)
		if err != nil {
			return err
		}
		root, err := f.Parts()
		if err != nil {
			return err
		}
		two := root.Find([]int{2})
		if got := (line + text)[two.Body:two.End]; got != "<p>two" {
			t.Errorf("part 2 is %q", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	w.verify(t)
}

func TestParcelSurvivesItsRecord(t *testing.T) {
	for name, length := range map[string]int{"blob": 50_000, "small": 500, "none": 0} {
		t.Run(name, func(t *testing.T) { testParcelRecord(t, "Subject: x\r\n\r\n"+strings.Repeat("body ", length)) })
	}
}

func testParcelRecord(t *testing.T, text string) {
	w := newWorld(t)
	p := w.receive(t, text)
	q, err := w.DecodeParcel(ctx, p.Encode())
	if err != nil {
		t.Fatal(err)
	}
	r, err := q.Open(ctx, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(r)
	if string(got) != text || !reflect.DeepEqual(p.records(), q.records()) {
		t.Errorf("%d bytes; records %+v and %+v", len(got), p.records(), q.records())
	}
	if ref, err := ParcelBlob(p.Encode()); err != nil || ref != p.Blob() || p.Digest() != q.Digest() {
		t.Error(ref, err)
	}
}

// A small body lies with its message and goes with it; shared, it is a blob like others.
func TestSmallBody(t *testing.T) {
	w := newWorld(t)
	blobs := func() (n int) {
		w.eng.Blobs().List(ctx, func(mail.BlobRef, time.Time, int64) bool { n++; return true })
		return n
	}
	records := func() (n int) {
		w.a.View(ctx, func(s *Snapshot) error {
			return s.r.Scan([]byte{famBody}, []byte{famBody + 1}, false, func(_, _ []byte) bool { n++; return true })
		})
		return n
	}
	uid := w.deliver(t, "INBOX", hello)
	inbox, trash := w.box(t, "INBOX").ID, w.box(t, "Trash").ID
	if _, err := w.a.Copy(ctx, inbox, mail.SetOf(uid), trash); err != nil {
		t.Fatal(err)
	}
	if b, r := blobs(), records(); b != 0 || r != 1 {
		t.Errorf("%d blobs and %d records of a small body in two mailboxes", b, r)
	}
	if _, err := w.a.Expunge(ctx, inbox, mail.SetOf(uid), false); err != nil {
		t.Fatal(err)
	}
	w.verify(t)
	if _, err := w.a.Expunge(ctx, trash, mail.SetOf(1), false); err != nil {
		t.Fatal(err)
	}
	if r := records(); r != 0 {
		t.Errorf("%d records without a message", r)
	}
	small := w.receive(t, hello)
	shared, err := small.Shared(ctx)
	if err != nil || small.Digest() != shared.Digest() || !small.Blob().IsZero() || blobs() != 1 {
		t.Errorf("%d blobs, %v", blobs(), err)
	}
	for _, p := range []*Parcel{small, shared, small.Prepend([]byte("X-First: 1\r\n"))} {
		r, err := p.Open(ctx, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(r); !strings.HasSuffix(string(got), hello) {
			t.Errorf("%q", got)
		}
	}
}

func TestOneBodyForManyCopies(t *testing.T) {
	w := newWorld(t)
	text := hello + strings.Repeat("long body ", 10_000)
	for range 5 {
		w.deliver(t, "INBOX", text)
	}
	w.deliver(t, "Sent", strings.Replace(text, "Ann", "Bea", 1))
	n := 0
	err := w.eng.Blobs().List(ctx, func(mail.BlobRef, time.Time, int64) bool { n++; return true })
	if err != nil || n != 1 {
		t.Errorf("%d blobs, %v", n, err)
	}
}

func TestQuotaStopsWhatComesIn(t *testing.T) {
	w := newWorld(t)
	w.update(t, func(tx *Tx) error { tx.SetQuota(Quota{Bytes: 3 * int64(len(hello)), Messages: 2}); return nil })
	w.deliver(t, "INBOX", hello)
	uid := w.deliver(t, "INBOX", hello)
	inbox, archive := w.box(t, "INBOX").ID, w.box(t, "Archive").ID
	p := w.receive(t, hello)
	err := w.a.Update(ctx, func(tx *Tx) error {
		_, err := tx.Append(inbox, NewMessage{Parcel: p})
		return err
	})
	if !fault.Is(err, fault.OverQuota) {
		t.Errorf("append: %v", err)
	}
	if _, err := w.a.Copy(ctx, inbox, mail.SetOf(uid), archive); !fault.Is(err, fault.OverQuota) {
		t.Errorf("copy: %v", err)
	}
	if _, err := w.a.Move(ctx, inbox, mail.SetOf(uid), archive); err != nil {
		t.Errorf("move: %v", err)
	}
	w.verify(t)
}

func TestThreadsByReferences(t *testing.T) {
	w := newWorld(t)
	msg := func(id, refs string) string {
		return fmt.Sprintf("Message-ID: <%s>\r\nReferences: %s\r\nSubject: s\r\n\r\n%s\r\n", id, refs, id)
	}
	// The middle comes first, then the reply, then the root; another one stands alone.
	uids := []mail.UID{
		w.deliver(t, "INBOX", msg("b@x", "<a@x>")), w.deliver(t, "INBOX", msg("c@x", "<a@x> <b@x>")),
		w.deliver(t, "INBOX", msg("a@x", "")), w.deliver(t, "INBOX", msg("z@x", "")),
	}
	p := w.picture(t, w.box(t, "INBOX").ID)
	threads := make([]mail.ThreadID, len(uids))
	for i, u := range uids {
		m, _ := p.Message(u)
		threads[i] = m.Thread
	}
	if threads[0] != threads[1] || threads[0] != threads[2] || threads[0] == threads[3] {
		t.Errorf("threads %v", threads)
	}
}

func TestOnceIsOnce(t *testing.T) {
	w := newWorld(t)
	once := func() (first bool) {
		w.update(t, func(tx *Tx) (err error) { first, err = tx.Once("delivery-1"); return err })
		return first
	}
	if !once() || once() {
		t.Error("not once")
	}
	w.letPass(t, onceAge+time.Hour)
	if _, err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if !once() {
		t.Error("the key was never forgotten")
	}
}

func TestSweepTakesOnlyWhatNobodyHolds(t *testing.T) {
	w := newWorld(t)
	large := hello + strings.Repeat("more than a small body\r\n", 2000)
	keep, drop := large+"keep", large+"drop"
	w.deliver(t, "INBOX", keep)
	uid := w.deliver(t, "INBOX", drop)
	queued := w.receive(t, large+"queued")
	w.receive(t, large+"never committed")
	w.AddReferrer(func(_ context.Context, yield func(mail.BlobRef)) error { yield(queued.Blob()); return nil })
	inbox := w.box(t, "INBOX").ID
	if _, err := w.a.Expunge(ctx, inbox, mail.SetOf(uid), false); err != nil {
		t.Fatal(err)
	}
	if s, err := w.Sweep(ctx); err != nil || s.Removed != 0 {
		t.Errorf("young ones: %+v %v", s, err)
	}
	for range 2 {
		w.clock.t = w.clock.t.Add(SweepAge / 2)
		if s, err := w.Sweep(ctx); err != nil || s.Removed != 0 {
			t.Errorf("not old enough: %+v %v", s, err)
		}
	}
	w.clock.t = w.clock.t.Add(time.Hour)
	young := w.receive(t, drop+"!") // under way right now
	s, err := w.Sweep(ctx)
	if err != nil || s.Removed != 2 || s.Blobs != 5 {
		t.Errorf("%+v %v", s, err)
	}
	for _, p := range []*Parcel{queued, young} {
		if r, err := p.Open(ctx, 0, -1); err != nil {
			t.Error(err)
		} else if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
	}
	w.verify(t)
}

func TestWatchTicksAfterItCanBeSeen(t *testing.T) {
	w := newWorld(t)
	inbox := w.box(t, "INBOX").ID
	before := w.picture(t, inbox)
	ticks, stop := w.a.Watch()
	defer stop()
	w.deliver(t, "INBOX", hello)
	<-ticks
	d := Diff(before, w.picture(t, inbox))
	if d.Arrived.String() != "1" || !d.Changed.IsEmpty() || !d.Expunged.IsEmpty() {
		t.Errorf("%+v", d)
	}
	select {
	case <-ticks:
		t.Error("a tick for nothing")
	default:
	}
}

func TestRecentIsClaimedOnce(t *testing.T) {
	w := newWorld(t)
	w.deliver(t, "INBOX", hello)
	w.deliver(t, "INBOX", hello)
	id := w.box(t, "INBOX").ID
	p := w.picture(t, id)
	if n, err := w.a.Recent(ctx, id); n != 2 || err != nil || w.a.RecentFrom(p) != 1 {
		t.Errorf("%d recent, %v", n, err)
	}
	if from := w.a.ClaimRecent(p); from != 1 {
		t.Errorf("claimed from %d", from)
	}
	if n, _ := w.a.Recent(ctx, id); n != 0 || w.a.ClaimRecent(p) != 3 {
		t.Errorf("%d recent after the claim", n)
	}
}

func TestEachReadsWhatFactsAndHeadRead(t *testing.T) {
	w := newWorld(t)
	long := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\nContent-Type: text/plain; name=abc\r\n\r\n\r\n", 3000)
	for i := range 60 {
		text := fmt.Sprintf("Subject: %d\r\n\r\n%d\r\n", i, i)
		if i == 30 {
			text = long
		}
		w.deliver(t, "INBOX", text)
	}
	inbox := w.box(t, "INBOX").ID
	if _, err := w.a.Expunge(ctx, inbox, mail.UIDSet{{From: 3, To: 5}, {From: 32, To: 50}}, false); err != nil {
		t.Fatal(err)
	}
	// All ids there ever were, in order; then some out of order, twice and never given.
	var ids []mail.MessageID
	for id := range mail.MessageID(61) {
		ids = append(ids, id+1)
	}
	ids = append(ids, 40, 2, 2, 1, 7, 9, 500)
	err := w.a.View(ctx, func(s *Snapshot) error {
		calls := 0
		err := s.EachFacts(ids, func(i int, f Facts, ok bool) error {
			if i != calls {
				t.Errorf("call %d is for place %d", calls, i)
			}
			calls++
			want, err := s.Facts(ids[i])
			if ok != (err == nil) || !bytes.Equal(f.Envelope, want.Envelope) || f.Size != want.Size {
				t.Errorf("id %d: %v %v", ids[i], ok, err)
			}
			return nil
		})
		if err != nil || calls != len(ids) {
			t.Errorf("%d calls, %v", calls, err)
		}
		calls = 0
		err = s.EachHead(ids, func(i int, head []byte, ok bool) error {
			calls++
			want, err := s.Head(nil, ids[i])
			if ok != (err == nil) || !bytes.Equal(head, want) {
				t.Errorf("id %d: %q, want %q", ids[i], head, want)
			}
			return nil
		})
		if calls != len(ids) {
			t.Errorf("%d calls", calls)
		}
		stop := fault.New(fault.Busy, "enough")
		if got := s.EachFacts(ids, func(i int, _ Facts, _ bool) error { return stop }); got != error(stop) {
			t.Errorf("%v", got)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	w.verify(t)
}
