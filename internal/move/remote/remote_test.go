package remote_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/disk"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/remote"
	"github.com/martlet-mail/martlet/internal/serve/admin"
	"github.com/martlet-mail/martlet/internal/store"
)

var ctx = context.Background()

// server is a store behind an admin socket.
type server struct {
	store  *store.Store
	socket string
	admin  http.Handler
	before func(w http.ResponseWriter, r *http.Request) bool // a test's: tells whether it has answered
}

func newServer(t testing.TB, fs vfs.FS, dir string) *server {
	t.Helper()
	eng, err := pebble.Open(filepath.Join(dir, "store"), pebble.Options{Now: time.Now, FS: fs, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	spool := disk.NewSpool(fs, dir)
	s := &server{socket: filepath.Join(t.TempDir(), "s")}
	if s.store, err = store.Open(eng, store.Options{Now: time.Now, Spool: func() (store.SpoolFile, error) { return spool.File() }}); err != nil {
		t.Fatal(err)
	}
	cheap := directory.Options{Now: time.Now, Rand: rand.Reader, Argon: directory.Argon{MemoryKiB: 8, Passes: 1, Lanes: 1}, ScramIterations: 4096}
	dirs, err := directory.Open(ctx, eng, s.store, cheap)
	if err != nil {
		t.Fatal(err)
	}
	s.admin = admin.New(admin.Options{Now: time.Now, Rand: rand.Reader, Store: s.store, Directory: dirs, Version: "test"})
	ln, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: s}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close(); dirs.Close(); s.store.Close(); eng.Close() })
	for _, call := range []string{`/v1/domains {"domain":"example.org"}`, `/v1/accounts {"address":"carol@example.org","password":"x"}`} {
		path, body, _ := strings.Cut(call, " ")
		resp, err := s.client().Post("http://x"+path, "", strings.NewReader(body))
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(err, resp)
		}
		resp.Body.Close()
	}
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.before == nil || !s.before(w, r) {
		s.admin.ServeHTTP(w, r)
	}
}

func (s *server) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.socket)
		},
		WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
	}}
}

func (s *server) target(account string, tell func(string)) *remote.Target {
	failure := func(status int, b []byte) error {
		var f admin.Failure
		if err := json.Unmarshal(b, &f); err != nil || f.Error == "" {
			return fault.Newf(fault.Internal, "status %d", status)
		}
		return f.Fault()
	}
	return remote.New(remote.Options{
		HTTP: s.client(), Path: "/v1/accounts/" + account, Failure: failure, Tell: tell,
		Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Line: func(b []byte) error {
			if bytes.HasPrefix(b, []byte(`{"error":`)) {
				return failure(200, b)
			}
			return nil
		},
	})
}

func incoming(item move.Item, text string) move.Incoming {
	return move.Incoming{Item: item, Size: int64(len(text)), Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

func letter(i int) string {
	return fmt.Sprintf("From: a@example.org\r\nSubject: %d\r\nMessage-ID: <%d@example.org>\r\nDate: Mon, 2 Feb 2026 10:00:00 +0000\r\n\r\nText %d\r\n", i, i, i)
}

// Through the socket everything is as it is in the store: names and keys of any bytes, large
// messages, outcomes, ties.
func TestRemoteIsLocal(t *testing.T) {
	s := newServer(t, vfs.NewMem(), "data")
	to := s.target("carol@example.org", nil)
	local := move.NewLocal(s.store, 1)
	if n, err := to.MaxMessage(ctx); n != s.store.MaxMessage() || err != nil {
		t.Error(n, err)
	}
	box := move.Box{Source: "imap:\xff&=%/carol", Mailbox: "Entw\xfcrfe/\x00?"}
	at, kept, err := to.Open(ctx, box.Source, move.Mailbox{Name: "Entwürfe", Source: box.Mailbox, UIDValidity: 77, Subscribed: true})
	if err != nil || !kept || at.Name != "Entwürfe" || at.UIDValidity != 77 {
		t.Fatal(at, kept, err)
	}
	list := []move.Incoming{
		incoming(move.Item{Key: "k\xff\x00", UID: 5, Flags: mail.Seen, Keywords: []string{"a", "très"}, Date: time.Unix(1e9, 0), Places: []string{"x/y"}}, letter(1)),
		incoming(move.Item{Key: "large"}, "Subject: large\r\n\r\n"+strings.Repeat("large ", 1<<20)),
		incoming(move.Item{Key: "too"}, strings.Repeat("x", 51<<20)),
		incoming(move.Item{Key: "empty"}, ""),
		incoming(move.Item{Key: "last"}, letter(2)),
	}
	for round := range 2 {
		out, err := to.Put(ctx, box, at.ID, list)
		if err != nil || len(out) != len(list) {
			t.Fatal(out, err)
		}
		for i, o := range out {
			if refused := i == 2; refused != (o.Refused != "") || !refused && (o.Before != (round == 1) || o.UID == 0 || o.Content == move.Content{}) {
				t.Errorf("round %d, message %d: %+v", round, i, o)
			}
		}
		if round == 0 && (out[0].UID != 5 || out[0].Changed == "") {
			t.Errorf("%+v", out[0])
		}
	}
	keys := []string{"last", "none", "k\xff\x00", "large", "empty"}
	ties, err := to.Ties(ctx, box, keys)
	ties2, err2 := local.Ties(ctx, box, keys)
	if got, want := text(ties), text(ties2); err != nil || err2 != nil || got != want {
		t.Errorf("%s\n%s %v %v", got, want, err, err2)
	}
	looked, err := to.Look(move.Proving(ctx), box, keys)
	looked2, err2 := local.Look(move.Proving(ctx), box, keys)
	if got, want := text(looked), text(looked2); err != nil || err2 != nil || got != want || looked[3].Now.Content != looked[3].Tie.Content {
		t.Errorf("%s\n%s %v %v", got, want, err, err2)
	}
	var each, each2 []move.Looked
	add := func(list *[]move.Looked) func(move.Tie, *move.Now) error {
		return func(t move.Tie, now *move.Now) error {
			*list = append(*list, move.Looked{Tie: &t, Now: now})
			return nil
		}
	}
	if err := to.EachTie(move.Proving(ctx), box, add(&each)); err != nil {
		t.Error(err)
	}
	if err := local.EachTie(move.Proving(ctx), box, add(&each2)); err != nil || text(each) != text(each2) || len(each) != 4 {
		t.Errorf("%s\n%s %v", text(each), text(each2), err)
	}
	if err := to.Change(ctx, box, []move.Change{{Key: "last", Flags: mail.Flagged, Keywords: []string{"new"}, MoveTo: "moved"}, {Key: "empty", Gone: true}}); err != nil {
		t.Error(err)
	}
	if looked, err = to.Look(ctx, box, keys); err != nil || looked[0].Now.Mailbox != "moved" || looked[0].Now.Flags != mail.Flagged || looked[4].Now.Mailbox != "Trash" {
		t.Errorf("%s %v", text(looked), err)
	}
	inRemote, err := to.Former(ctx, numbered(t, to, at.ID), "9", "1.2")
	inLocal, err2 := local.Former(ctx, numberedBox, "9", "1.2")
	if err != nil || err2 != nil || !slices.Equal(inRemote, inLocal) || len(inRemote) != 2 || inRemote[0].Key != "10.1" || inRemote[1].Key != "91.1" || inRemote[0].Content == (move.Content{}) {
		t.Errorf("%q\n%q %v %v", inRemote, inLocal, err, err2)
	}
	if err := to.Forget(ctx, numberedBox.Source, ""); err != nil {
		t.Error(err)
	}
	if err := to.SetState(ctx, box, []byte{0, 255}); err != nil {
		t.Error(err)
	}
	if st, err := to.State(ctx, box); !bytes.Equal(st, []byte{0, 255}) || err != nil {
		t.Error(st, err)
	}
	brought, err := to.Sources(ctx)
	if want := (move.Brought{Box: box, At: "Entwürfe"}); err != nil || len(brought) != 1 || brought[0] != want {
		t.Errorf("%+v %v", brought, err)
	}
	places, err := to.Mailboxes(ctx)
	places2, err2 := local.Mailboxes(ctx)
	if err != nil || err2 != nil || !slices.Equal(places, places2) {
		t.Errorf("%+v\n%+v %v %v", places, places2, err, err2)
	}
	if err := to.Forget(ctx, box.Source, box.Mailbox); err != nil {
		t.Error(err)
	}
	if err := to.Forget(ctx, box.Source, box.Mailbox); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if _, err := s.target("nobody@example.org", nil).MaxMessage(ctx); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

var numberedBox = move.Box{Source: "numbered", Mailbox: "INBOX"}

// numbered brings messages of several UIDVALIDITYs.
func numbered(t *testing.T, to move.Target, at mail.MailboxID) move.Box {
	t.Helper()
	var list []move.Incoming
	for i, key := range []string{"1.1", "1.2", "10.1", "9.1", "9.10", "9.9", "91.1"} {
		list = append(list, incoming(move.Item{Key: key}, letter(100+i)))
	}
	if _, err := to.Put(ctx, numberedBox, at, list); err != nil {
		t.Fatal(err)
	}
	return numberedBox
}

// A date of which there is no JSON neither keeps a message from coming nor others from being
// told of it, and is no difference between what came and what is there.
func TestRemoteBringsAbsurdDates(t *testing.T) {
	s := newServer(t, vfs.NewMem(), "data")
	to := s.target("carol@example.org", nil)
	box := move.Box{Source: "s", Mailbox: "m"}
	at, _, err := to.Open(ctx, box.Source, move.Mailbox{Name: "INBOX", Role: mail.RoleInbox, Source: box.Mailbox})
	if err != nil {
		t.Fatal(err)
	}
	absurd := []time.Time{
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -14*3600)), time.Date(0, 6, 1, 0, 0, 0, 0, time.UTC),
		time.Date(1, 1, 1, 0, 0, 0, 0, time.FixedZone("", 14*3600)), time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 99*3600)),
		time.Unix(1<<62, 0),
	}
	var list []move.Incoming
	for i, date := range absurd {
		list = append(list, incoming(move.Item{Key: fmt.Sprint(i), Date: date}, letter(i)))
	}
	out, err := to.Put(ctx, box, at.ID, append(list, incoming(move.Item{Key: "field"}, "Date: Fri, 31 Dec 9999 23:59:59 -1400\r\n\r\nx")))
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range out {
		if o.UID == 0 || o.Refused != "" {
			t.Errorf("message %d: %+v", i, o)
		}
	}
	n := 0
	err = to.EachTie(move.Proving(ctx), box, func(tie move.Tie, now *move.Now) error {
		want := mail.LatestDate
		if tie.Key != "field" {
			want = int(mail.BoundDate(absurd[tie.Key[0]-'0']).Unix())
		}
		if n++; now == nil || now.Date.Unix() != int64(want) || tie.Key != "field" && tie.Date.Unix() != int64(want) {
			t.Errorf("%s: %+v, now %+v; wanted %d", tie.Key, tie, now, want)
		}
		return nil
	})
	if err != nil || n != len(out) {
		t.Error(n, err)
	}
}

func text(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// A server that goes away in the middle, before or after it did what it was told, costs
// nothing and makes nothing twice.
func TestRemoteSurvivesARestart(t *testing.T) {
	s := newServer(t, vfs.NewMem(), "data")
	var n atomic.Int64
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		switch n.Add(1) % 4 {
		case 0: // it ends before it begins
			panic(http.ErrAbortHandler)
		case 1: // it ends before it answers
			s.admin.ServeHTTP(&unheard{header: http.Header{}}, r)
			panic(http.ErrAbortHandler)
		case 2: // it ends in the middle of reading
			io.CopyN(io.Discard, r.Body, 1000)
			panic(http.ErrAbortHandler)
		}
		return false
	}
	told := 0
	to := s.target("carol@example.org", func(string) { told++ })
	box := move.Box{Source: "s", Mailbox: "m"}
	at, _, err := to.Open(ctx, "s", move.Mailbox{Name: "m", Source: "m"})
	if err != nil {
		t.Fatal(err)
	}
	for part := range 5 {
		var list []move.Incoming
		for i := range 20 {
			list = append(list, incoming(move.Item{Key: fmt.Sprint(part, ".", i)}, letter(i)))
		}
		out, err := to.Put(ctx, box, at.ID, list)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range out {
			if o.UID != mail.UID(part*20+i+1) {
				t.Errorf("message %d: %+v", i, o)
			}
		}
	}
	places, err := to.Mailboxes(ctx)
	if i := slices.IndexFunc(places, func(p move.Place) bool { return p.ID == at.ID }); err != nil || places[i].Messages != 100 || told < 10 {
		t.Errorf("%+v %v %d", places, err, told)
	}
	// It does not go on for ever.
	s.before = func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
	if _, err := to.Mailboxes(ctx); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
}

// unheard is an answer that nobody gets.
type unheard struct{ header http.Header }

func (u *unheard) Header() http.Header         { return u.header }
func (u *unheard) Write(b []byte) (int, error) { return len(b), nil }
func (u *unheard) WriteHeader(int)             {}

// What is no frame is refused, and what came before it in another group stays.
func TestFramesThatAreNone(t *testing.T) {
	s := newServer(t, vfs.NewMem(), "data")
	to := s.target("carol@example.org", nil)
	at, _, err := to.Open(ctx, "s", move.Mailbox{Name: "m", Source: "m"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		body   string
		status int
	}{
		{"", 200},
		{`{"key":"aw==","size":3}` + "\nabc", 200},
		{`{"key":"bA==","size":3}` + "\nab", 503},
		{`{"key":"bQ==","size":2000000}` + "\nab", 503},
		{`{"key":"bQ==","size":-1}` + "\n", 400},
		{`{"size":1}` + "\nx", 400},
		{`no JSON` + "\n", 400},
		{`{"key":"bQ==","size":0}`, 503},
		{strings.Repeat(" ", 300<<10) + "\n", 400},
		{strings.Repeat(`{"key":"bQ==","size":0}`+"\n", remote.MaxFrames+1), 413},
	} {
		resp, err := s.client().Post("http://x/v1/accounts/carol@example.org/move/put?source=s&mailbox=m&at="+fmt.Sprint(at.ID), "", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || resp.StatusCode != 200 && !strings.Contains(string(answer), `"error":`) {
			t.Errorf("%.60q: %d %s", c.body, resp.StatusCode, answer)
		}
	}
	for _, at := range []string{"", "0", "x", "999"} {
		resp, err := s.client().Post("http://x/v1/accounts/carol@example.org/move/put?source=s&mailbox=m&at="+at, "", strings.NewReader(`{"key":"eA==","size":1}`+"\nx"))
		if err != nil || resp.StatusCode < 400 || resp.StatusCode == 500 {
			t.Error(at, resp, err)
		}
	}
}

// FuzzFrames: whatever comes is refused or is messages of the sizes that were told, and costs
// no more memory than a group may.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(`{"key":"aw==","size":3}` + "\nabc" + `{"key":"bA==","size":0}` + "\n"))
	f.Add([]byte(`{"key":"bQ==","size":2000000}` + "\nab"))
	f.Add([]byte(`{"key":"","size":9223372036854775807,"flags":255,"keywords":["a"],"date":"2026-01-01T00:00:00Z","places":["x"]}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		err := remote.ReadFrames(bytes.NewReader(b), func(list []move.Incoming) error {
			for _, in := range list {
				r, err := in.Open()
				if err != nil {
					return err
				}
				n, err := io.Copy(io.Discard, r)
				if err != nil {
					return err
				}
				if n != in.Size || in.Item.Key == "" {
					t.Fatalf("%+v has %d bytes", in, n)
				}
				total += int(n)
			}
			return nil
		})
		if total > len(b) || err == nil && len(b) > 0 && total == 0 && !bytes.Contains(b, []byte("\n")) {
			t.Fatalf("%d bytes out of %d, %v", total, len(b), err)
		}
	})
}

// synthetic is a source that makes its messages up.
type synthetic struct {
	n    int
	size int
}

func (s *synthetic) ID() string          { return "synthetic" }
func (s *synthetic) Close() error        { return nil }
func (s *synthetic) Advice() move.Advice { return move.Advice{Files: true} }
func (s *synthetic) Mailboxes(context.Context) ([]move.Mailbox, error) {
	return []move.Mailbox{{Name: "INBOX", Source: "INBOX", Role: mail.RoleInbox, UIDValidity: 77, Messages: int64(s.n)}}, nil
}

func (s *synthetic) Read(ctx context.Context, m move.Mailbox, how move.Reading, v move.Visitor) error {
	words := strings.Repeat("The quick brown fox jumps over the lazy dog, and Lorem ipsum dolor.\r\n", s.size/69+2)
	items := make([]move.Item, 0, move.MaxItems)
	for from := 0; from < s.n; from += len(items) {
		items = items[:0]
		for i := from; i < min(s.n, from+move.MaxItems); i++ {
			items = append(items, move.Item{Key: fmt.Sprint("77.", i+1), UID: mail.UID(i + 1), Size: int64(s.size), Flags: mail.Flags(i & 7), Date: time.Unix(int64(1e9+i), 0)})
		}
		want, err := v.Want(ctx, items)
		if err != nil {
			return err
		}
		for i, w := range want {
			if !w {
				continue
			}
			n := from + i
			text := fmt.Sprintf("From: Somebody %d <s%d@example.org>\r\nTo: carol@example.org\r\nSubject: A letter, number %d\r\nMessage-ID: <%d@example.org>\r\n"+
				"Date: Mon, 2 Feb 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n", n%100, n%100, n, n) + words[:s.size]
			if err := v.Put(ctx, items[i], strings.NewReader(text)); err != nil {
				return err
			}
		}
	}
	return nil
}

// The whole path: source, batches, socket, parser, commits on a disk.
func BenchmarkImport(b *testing.B) {
	for _, size := range []int{2 << 10, 40 << 10} {
		for _, way := range []string{"socket", "local"} {
			b.Run(fmt.Sprintf("%dKB/%s", size>>10, way), func(b *testing.B) {
				s := newServer(b, vfs.Default, b.TempDir())
				var to move.Target = s.target("carol@example.org", nil)
				if way == "local" {
					to = move.NewLocal(s.store, 1)
				}
				src := &synthetic{n: b.N, size: size}
				b.SetBytes(int64(size))
				b.ResetTimer()
				r, err := move.Import(ctx, move.Options{
					Open: func(context.Context) (move.Source, error) { return src, nil }, Target: to, Now: time.Now,
					Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
				})
				if err != nil || r.Mailboxes[0].Brought != int64(b.N) {
					b.Fatal(r, err)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}

// What it costs to find out that all is here already.
func BenchmarkImportAgain(b *testing.B) {
	s := newServer(b, vfs.Default, b.TempDir())
	src := &synthetic{n: b.N, size: 1 << 10}
	o := move.Options{
		Open: func(context.Context) (move.Source, error) { return src, nil }, Target: s.target("carol@example.org", nil), Now: time.Now,
		Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
	if _, err := move.Import(ctx, o); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	r, err := move.Import(ctx, o)
	if err != nil || r.Mailboxes[0].Before != int64(b.N) {
		b.Fatal(r, err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}
