// Package integrity plants damage in a data folder, one flipped bit, one cut or one
// zeroed block at a time, in any file that lies there, and looks what becomes of it:
// whether the store refuses to open and names the file, whether verify finds it, or
// whether it does no harm. It never may give wrong mail, or lose any without a word.
//
// It also repairs what can be repaired, and opens what earlier versions wrote.
package integrity

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

const folder = "data"

// floors are a data folder in memory and what works on it.
type floors struct {
	engine    *pebble.Engine
	store     *store.Store
	directory *directory.Directory
	queue     *queue.Queue
}

// open opens the house; a fault of any floor ends it.
func open(fs vfs.FS) (h *floors, err error) {
	h = &floors{}
	if h.engine, err = pebble.Open(folder, pebble.Options{FS: fs, Now: time.Now, MemTableBytes: 256 << 10, CacheBytes: 1 << 20, ReserveBytes: -1}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	if h.store, err = store.Open(h.engine, store.Options{Now: time.Now, Keep: store.Keep{For: 24 * time.Hour}}); err != nil {
		return h, err
	}
	h.directory, err = directory.Open(context.Background(), h.engine, h.store, directory.Options{
		Argon: directory.Argon{MemoryKiB: 8, Passes: 1, Lanes: 1}, ScramIterations: 4096, Now: time.Now, Rand: crand.Reader,
	})
	if err != nil {
		return h, err
	}
	h.queue = queue.New(h.engine, h.store, queue.Options{Hostname: "mx.test.example", Remote: closed{}, Local: closed{}, Now: time.Now, Rand: rand.Float64, Random: crand.Reader,
		Report: func(context.Context, string, mail.Envelope, io.Reader) error { return nil }})
	return h, nil
}

func (h *floors) close() error {
	if h.directory != nil {
		h.directory.Close()
	}
	if h.store != nil {
		h.store.Close()
	}
	return h.engine.Close()
}

// closed is a courier that never gets anywhere.
type closed struct{}

func (closed) Deliver(_ context.Context, job queue.Job) []queue.Result {
	all := make([]queue.Result, len(job.Envelope.To))
	for i := range all {
		all[i] = queue.Result{Code: 450, Text: "later"}
	}
	return all
}

// builder fills a house with every kind of record that docs/schema.md names.
type builder struct {
	t    testing.TB
	h    *floors
	rng  *rand.Rand
	ctx  context.Context
	n    int
	file string // an attachment that several messages have
}

func (b *builder) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *builder) words(n int) string {
	var s strings.Builder
	for s.Len() < n {
		fmt.Fprintf(&s, "w%x", b.rng.Uint32N(5000))
		if b.rng.IntN(9) == 0 {
			s.WriteString("\r\n")
		} else {
			s.WriteByte(' ')
		}
	}
	return s.String()
}

// message makes a message: short, long, with a file, with a huge header, without a body.
func (b *builder) message() []byte {
	b.n++
	var m strings.Builder
	fmt.Fprintf(&m, "From: sender%d@far.example\r\nTo: ann@test.example\r\nSubject: Re: number %d\r\nDate: Mon, 2 Mar 2026 10:%02d:00 +0100\r\nMessage-ID: <%d@far.example>\r\n", b.n%7, b.n, b.n%60, b.n)
	if b.n > 3 {
		fmt.Fprintf(&m, "References: <%d@far.example> <%d@far.example>\r\n", b.n-3, b.n-1)
	}
	switch b.n % 9 {
	case 2: // long text
		m.WriteString("\r\n" + b.words(20_000))
	case 4: // a file
		if b.file == "" || b.rng.IntN(3) == 0 {
			raw := make([]byte, 24_000)
			for i := range raw {
				raw[i] = byte(b.rng.Uint32())
			}
			b.file = lines(base64.StdEncoding.EncodeToString(raw))
		}
		m.WriteString("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=zz\r\n\r\n--zz\r\nContent-Type: text/plain\r\n\r\n" + b.words(200) +
			"\r\n--zz\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b.file + "\r\n--zz--\r\n")
	case 6:
		if b.n < 20 { // a header of several pieces
			for i := range 2400 {
				fmt.Fprintf(&m, "X-Long-%d: %s\r\n", i, base64.StdEncoding.EncodeToString([]byte(fmt.Sprint(b.rng.Uint64(), b.rng.Uint64(), b.rng.Uint64()))))
			}
		}
		m.WriteString("\r\nbody\r\n")
	case 7:
	default:
		m.WriteString("\r\n" + b.words(100+b.rng.IntN(900)))
	}
	return []byte(m.String())
}

func lines(s string) string {
	var b strings.Builder
	for len(s) > 76 {
		b.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return b.String() + s
}

func (b *builder) deliver(a *store.Account, box mail.MailboxID) {
	p, err := b.h.store.Receive(b.ctx, bytes.NewReader(b.message()))
	b.must(err)
	m := store.NewMessage{Parcel: p}
	if b.n%3 == 0 {
		m.Flags, m.Keywords = mail.Flagged, []string{"$Forwarded", "work"}
	}
	if b.n%11 == 0 {
		m.Notes = []store.NoteChange{{Name: "/comment", Value: []byte("noted")}}
	}
	b.must(a.Update(b.ctx, func(tx *store.Tx) error {
		if _, err := tx.Once(fmt.Sprint("key ", b.n)); err != nil {
			return err
		}
		_, err := tx.Append(box, m)
		return err
	}))
}

func (b *builder) box(a *store.Account, name string) (id mail.MailboxID) {
	b.must(a.View(b.ctx, func(s *store.Snapshot) error {
		m, err := s.Mailbox(name)
		id = m.ID
		return err
	}))
	return id
}

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// build fills the house with about so many messages.
func (b *builder) build(messages int) {
	d, ctx := b.h.directory, b.ctx
	b.must(d.AddDomain(ctx, "test.example"))
	b.must(d.AddDomain(ctx, "grün.example"))
	var accounts []*store.Account
	for _, name := range []string{"ann", "ben", "cleo"} {
		acct, err := d.AddAccount(ctx, address(name+"@test.example"), "secret "+name, store.Quota{Bytes: 1 << 30})
		b.must(err)
		accounts = append(accounts, b.h.store.Account(acct.ID))
	}
	b.must(d.AddAlias(ctx, address("all@test.example"), address("ann@test.example"), address("far@elsewhere.example")))
	b.must(d.SetCatchAll(ctx, "grün.example", address("ben@test.example")))
	b.must(d.RemoveAccount(ctx, address("cleo@test.example")))

	ann, ben := accounts[0], accounts[1]
	inbox := b.box(ann, "INBOX")
	for range messages {
		b.deliver(ann, inbox)
		if b.rng.IntN(5) == 0 {
			b.deliver(ben, b.box(ben, "INBOX"))
		}
	}
	b.change(ann, ben, inbox)
	b.enqueue()
	for range 3 {
		b.deliver(ann, inbox)
	}
}

// change does what users do with their mail.
func (b *builder) change(ann, ben *store.Account, inbox mail.MailboxID) {
	ctx := b.ctx
	b.must(ann.Update(ctx, func(tx *store.Tx) error {
		if _, err := tx.CreateMailbox("Work/2026", ""); err != nil {
			return err
		}
		if err := tx.Subscribe("Work/2026", true); err != nil {
			return err
		}
		_, err := tx.CreateMailbox("Gone", "")
		return err
	}))
	work, gone := b.box(ann, "Work/2026"), b.box(ann, "Gone")
	flags := func(from, to mail.UID, f mail.Flags) {
		set := mail.UIDSet{{From: from, To: to}}
		_, err := ann.SetFlags(ctx, inbox, set, store.FlagChange{Op: store.AddFlags, Flags: f})
		b.must(err)
	}
	flags(1, 30, mail.Seen)
	flags(5, 9, mail.Deleted)
	_, err := ann.Copy(ctx, inbox, mail.UIDSet{{From: 10, To: 20}}, work)
	b.must(err)
	_, err = ann.Move(ctx, inbox, mail.UIDSet{{From: 21, To: 22}}, work)
	b.must(err)
	_, err = ann.Copy(ctx, inbox, mail.UIDSet{{From: 30, To: 31}}, gone)
	b.must(err)
	_, err = ann.Expunge(ctx, inbox, store.All(), true)
	b.must(err)
	_, err = ann.SetNotes(ctx, inbox, mail.SetOf(12, 13), []store.NoteChange{{Name: "/altsubject", Private: true, Value: []byte("mine")}}, nil)
	b.must(err)
	b.must(ann.Grant(ctx, inbox, ben.ID(), false, func(mail.Rights) mail.Rights { return mail.AllRights }))
	_, err = ann.As(ben.ID()).SetFlags(ctx, inbox, mail.UIDSet{{From: 1, To: 40}}, store.FlagChange{Op: store.AddFlags, Flags: mail.Seen})
	b.must(err)
	b.must(ann.Grant(ctx, work, 0, false, func(mail.Rights) mail.Rights { return mail.RightLookup }))
	b.must(ann.Update(ctx, func(tx *store.Tx) error {
		if err := tx.SetEntry(inbox, 0, "/shared/comment", []byte("annotated")); err != nil {
			return err
		}
		if err := tx.SetURLKey(inbox, ann.ID(), bytes.Repeat([]byte{7}, 32)); err != nil {
			return err
		}
		return tx.DeleteMailbox("Gone") // and nobody reaps it
	}))
	p, err := ann.Picture(ctx, inbox)
	b.must(err)
	var grams []store.Grams
	for _, m := range p.Messages(mail.UIDSet{{From: 10, To: 15}}) {
		grams = append(grams, store.Grams{UID: m.UID, ID: m.ID, Bytes: []byte{255, 255}})
	}
	b.draft(ann)
	b.must(ann.KeepGrams(ctx, inbox, grams))
	ann.MakeBriefs(inbox, []store.BriefKind{store.BriefEnvelope, store.BriefStructure, store.BriefHeader}, []mail.UID{1, 64})
	time.Sleep(50 * time.Millisecond) // they come in the background; without them the test says so
}

// draft writes a draft and throws it away, as is done with each that is written anew.
func (b *builder) draft(a *store.Account) {
	box := b.box(a, "Drafts")
	for range 2 {
		b.deliver(a, box)
	}
	_, err := a.SetFlags(b.ctx, box, store.All(), store.FlagChange{Op: store.AddFlags, Flags: mail.Draft | mail.Deleted})
	b.must(err)
	_, err = a.Expunge(b.ctx, box, store.All(), true)
	b.must(err)
}

func (b *builder) enqueue() {
	for i := range 3 {
		p, err := b.h.store.Receive(b.ctx, bytes.NewReader(b.message()))
		b.must(err)
		_, err = b.h.queue.Enqueue(b.ctx, queue.Entry{Key: fmt.Sprint("entry ", i), Reason: "tried already", Parcel: p, Envelope: mail.Envelope{
			From: address("ann@test.example"), To: []mail.Recipient{{Address: address("x@far.example")}, {Address: address("y@other.example")}},
		}})
		b.must(err)
	}
}

// image is a data folder at rest: each file's bytes.
type image map[string][]byte

func imageOf(t testing.TB, fs vfs.FS) image { return imageIn(t, fs, folder) }

func imageIn(t testing.TB, fs vfs.FS, folder string) image {
	names, err := fs.List(folder)
	if err != nil {
		t.Fatal(err)
	}
	img := image{}
	for _, name := range names {
		f, err := fs.Open(fs.PathJoin(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if img[name], err = io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return img
}

// disk writes an image to a new file system.
func (img image) disk() (*vfs.MemFS, error) {
	fs := vfs.NewMem()
	if err := fs.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	for name, b := range img {
		f, err := fs.Create(fs.PathJoin(folder, name), vfs.WriteCategoryUnspecified)
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(bytes.Clone(b)); err != nil {
			return nil, err
		}
		f.Close()
	}
	return fs, nil
}

// images builds a store and returns it as a crash, a clean stop and a start with all
// written to tables leave it.
func images(t testing.TB, seed uint64, messages int) map[string]image {
	t.Helper()
	fs := vfs.NewCrashableMem()
	h, err := open(fs)
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{t: t, h: h, rng: rand.New(rand.NewPCG(seed, 5)), ctx: context.Background()}
	b.build(messages)
	all := map[string]image{"killed": imageOf(t, fs)}
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
	all["stopped"] = imageOf(t, fs)
	if h, err = open(fs); err != nil { // brings the logs into tables
		t.Fatal(err)
	}
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
	all["started again"] = imageOf(t, fs)
	return all
}
