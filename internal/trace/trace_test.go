package trace

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// desk is a book on a disk in memory with a clock that is wound by hand.
type desk struct {
	*Book
	fs  vfs.FS
	now time.Time
}

func newDesk(t *testing.T, fs vfs.FS) *desk {
	t.Helper()
	d := &desk{fs: fs, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	d.open(t)
	return d
}

func (d *desk) open(t *testing.T) {
	t.Helper()
	var err error
	d.Book, err = Open(Options{FS: d.fs, Dir: "trace", Keep: 30 * 24 * time.Hour, Bytes: 1 << 20, Now: func() time.Time { return d.now }})
	if err != nil {
		t.Fatal(err)
	}
}

// tell returns the stories of a name, each as the kinds and places of its events.
func (d *desk) tell(t *testing.T, q Query) []string {
	t.Helper()
	found, err := d.Find(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range found {
		var words []string
		for _, e := range s.Events {
			words = append(words, strings.TrimSpace(string(e.What)+" "+e.ID+e.Queue))
		}
		all = append(all, strings.Join(words, ", "))
	}
	return all
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) || len(got) != len(want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// write tells of a message to two hosts, one of which asks to try again, and of another.
func (d *desk) write() {
	d.Note(Event{What: Received, ID: "c1-1", MessageID: "One@Example.ORG", From: "alice@martlet.test", Author: "Alice@martlet.test", To: []Recipient{
		{Address: "bob@example.org", State: Queued, Queue: "q1"},
		{Address: "carol@example.net", For: "friends@martlet.test", State: Queued, Queue: "q2"},
	}})
	d.Note(Event{What: Received, ID: "c2-1", MessageID: "two@example.org", From: "mallory@example.com", To: []Recipient{{Address: "alice@martlet.test", State: Delivered, Mailbox: "Junk"}}})
	d.Note(Event{What: Attempt, Queue: "q1", To: []Recipient{{Address: "bob@example.org", State: Waiting, Code: 451, Host: "mx.example.org", Text: "greylisted"}}})
	d.Note(Event{What: Attempt, Queue: "q2", To: []Recipient{{Address: "carol@example.net", State: Sent, Code: 250}}})
	d.Note(Event{What: Attempt, Queue: "q1", To: []Recipient{{Address: "bob@example.org", State: Sent, Code: 250}}})
	d.Note(Event{What: Refused, From: "mallory@example.com", Code: 550, To: []Recipient{{Address: "nobody@martlet.test", State: Failed}}})
}

const (
	storyOne = "received c1-1, attempt q1, attempt q2, attempt q1"
	storyTwo = "received c2-1"
)

func TestStories(t *testing.T) {
	d := newDesk(t, vfs.NewMem())
	d.write()
	for name, want := range map[string][]string{
		"bob@example.org":       {storyOne},
		"BOB@Example.org":       {storyOne},
		"carol@example.net":     {storyOne},
		"friends@martlet.test":  {storyOne},
		"<one@example.org>":     {storyOne},
		"one@example.org":       {storyOne},
		"c1-1":                  {storyOne},
		"q2":                    {storyOne},
		"alice@martlet.test":    {storyOne, storyTwo},
		"@martlet.test":         {storyOne, storyTwo, "refused"},
		"mallory@example.com":   {storyTwo, "refused"},
		"nobody@martlet.test":   {"refused"},
		"ob@example.org":        {},
		"martlet.test":          {},
		"nobody@elsewhere.test": {},
	} {
		t.Run(name, func(t *testing.T) { same(t, d.tell(t, Query{Name: name}), want...) })
	}
	if _, err := d.Find(context.Background(), Query{Name: " <> "}); err == nil {
		t.Error("a query without a name was answered")
	}
	same(t, d.tell(t, Query{Name: "alice@martlet.test", Limit: 1}), storyTwo)
}

// A story goes on over segments, packed or not, and over a restart.
func TestSegments(t *testing.T) {
	d := newDesk(t, vfs.NewMem())
	d.Note(Event{What: Received, ID: "c1-1", From: "alice@martlet.test", To: []Recipient{{Address: "bob@example.org", State: Queued, Queue: "q1"}}})
	d.Close()
	d.Tidy(context.Background())
	d.now = d.now.Add(25 * time.Hour)
	d.open(t)
	d.Note(Event{What: Attempt, Queue: "q1", To: []Recipient{{Address: "bob@example.org", State: Waiting}}})
	d.Flush()
	d.now = d.now.Add(25 * time.Hour)
	d.Note(Event{What: GivenUp, Queue: "q1"})
	d.Flush()
	names, _ := d.fs.List("trace")
	if len(names) != 3 {
		t.Fatalf("the book has the files %q, want three segments", names)
	}
	same(t, d.tell(t, Query{Name: "alice@martlet.test"}), "received c1-1, attempt q1, given up q1")
	d.Tidy(context.Background())
	same(t, d.tell(t, Query{Name: "alice@martlet.test"}), "received c1-1, attempt q1, given up q1")
	if n := packed(d.fs); n != 2 {
		t.Errorf("%d segments are packed, want the two that are done", n)
	}

	d.now = d.now.Add(29 * 24 * time.Hour)
	d.Tidy(context.Background())
	same(t, d.tell(t, Query{Name: "q1"}), "attempt q1, given up q1")
}

func packed(fs vfs.FS) (n int) {
	names, _ := fs.List("trace")
	for _, name := range names {
		if strings.HasSuffix(name, ".zst") {
			n++
		}
	}
	return n
}

// The oldest events go when there are too many.
func TestSize(t *testing.T) {
	d := newDesk(t, vfs.NewMem())
	for n := range 40 {
		for i := range 2000 {
			d.Note(Event{What: Received, ID: fmt.Sprintf("%d-%d-%x", n, i, uint64(n*2000+i)*0x9E3779B97F4A7C15), From: "alice@martlet.test"})
		}
		d.now = d.now.Add(25 * time.Hour)
		d.Flush()
	}
	before, _ := d.fs.List("trace")
	d.Tidy(context.Background())
	after, _ := d.fs.List("trace")
	var total int64
	for _, name := range after {
		info, err := d.fs.Stat("trace/" + name)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if len(after) >= len(before) || len(after) < 2 || total > 2<<20 {
		t.Errorf("of %d segments %d are left with %d bytes; want at most the size and the one that is open", len(before), len(after), total)
	}
}

// A crash in the middle of a line or of packing loses nothing that was written.
func TestCutShort(t *testing.T) {
	d := newDesk(t, vfs.NewMem())
	d.write()
	d.Flush()
	f, err := d.fs.OpenReadWrite(d.path(d.name), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := f.Stat()
	if _, err := f.WriteAt([]byte(`{"at":"2026-05-01T12:00:00Z","event":"att`), info.Size()); err != nil {
		t.Fatal(err)
	}
	half, _ := d.fs.Create(d.path(d.name+".zst"), vfs.WriteCategoryUnspecified)
	half.Write([]byte("half"))
	half.Close()
	d.open(t)
	d.Note(Event{What: GivenUp, Queue: "q1"})
	same(t, d.tell(t, Query{Name: "bob@example.org"}), storyOne+", given up q1")
	d.Tidy(context.Background())
	same(t, d.tell(t, Query{Name: "bob@example.org"}), storyOne+", given up q1")
}

// A disk that is full costs events, not mail, and is told of once.
func TestFullDisk(t *testing.T) {
	fs := &full{FS: vfs.NewMem()}
	d := newDesk(t, fs)
	d.write()
	d.Flush()
	fs.full = true
	for range 5 {
		d.Note(Event{What: GivenUp, Queue: "q1"})
		d.Flush()
	}
	if d.lost != 5 {
		t.Errorf("%d events are known to be lost, want 5", d.lost)
	}
	fs.full = false
	d.Note(Event{What: GivenUp, Queue: "q2"})
	same(t, d.tell(t, Query{Name: "bob@example.org"}), storyOne+", given up q2")
}

type full struct {
	vfs.FS
	full bool
}

func (f *full) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return &fullFile{file, f}, err
}

type fullFile struct {
	vfs.File
	fs *full
}

func (f *fullFile) Write(p []byte) (int, error) {
	if f.fs.full {
		return 0, fmt.Errorf("no space left")
	}
	return f.File.Write(p)
}

func TestNoBook(t *testing.T) {
	var b *Book
	b.Note(Event{What: Received})
	b.Flush()
	b.Close()
	if s, err := b.Find(context.Background(), Query{Name: "x"}); s != nil || err != nil {
		t.Error("no book told a story")
	}
}

// A message with very many recipients is one line all the same.
func TestManyRecipients(t *testing.T) {
	d := newDesk(t, vfs.NewMem())
	e := Event{What: Received, ID: "c1-1"}
	for i := range 1000 {
		e.To = append(e.To, Recipient{Address: fmt.Sprintf("r%d@example.org", i)})
	}
	d.Note(e)
	found, err := d.Find(context.Background(), Query{Name: "r0@example.org"})
	if err != nil || len(found) != 1 || len(found[0].Events[0].To) != 100 || found[0].Events[0].More != 900 {
		t.Errorf("found %+v, %v", found, err)
	}
}

func BenchmarkNote(b *testing.B) {
	d := &desk{now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	book, _ := Open(Options{FS: vfs.NewMem(), Dir: "trace", Keep: time.Hour, Bytes: 1 << 20, Now: func() time.Time { return d.now }})
	e := Event{What: Received, ID: "8d6f2a-12", MessageID: "20260501120000.12345@example.org", From: "alice@example.org", Author: "alice@example.org",
		Peer: "192.0.2.1", Helo: "mx.example.org", Protocol: "ESMTPS", TLS: "TLS 1.3", Size: 4000, Verdict: "spf=pass dkim=pass dmarc=pass",
		To: []Recipient{{Address: "bob@martlet.test", State: Delivered, Mailbox: "INBOX", Code: 250}}}
	b.ReportAllocs()
	for b.Loop() {
		book.Note(e)
	}
}
