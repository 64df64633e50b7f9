package admin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

// world is a handler on an engine in memory.
type world struct {
	http.Handler
	engine    *pebble.Engine
	store     *store.Store
	directory *directory.Directory
	queue     *queue.Queue
	options   Options
}

// nowhere is a courier that is never asked: the queue does not run.
type nowhere struct{}

func (nowhere) Deliver(context.Context, queue.Job) []queue.Result { return nil }

func newWorld(t testing.TB) *world {
	t.Helper()
	eng, err := pebble.Open("store", pebble.Options{Now: time.Now, FS: vfs.NewMem(), CacheBytes: 1 << 20, MemTableBytes: 1 << 20, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{engine: eng}
	if w.store, err = store.Open(eng, store.Options{Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	cheap := directory.Options{Now: time.Now, Rand: rand.Reader, Argon: directory.Argon{MemoryKiB: 8, Passes: 1, Lanes: 1}, ScramIterations: 4096}
	if w.directory, err = directory.Open(context.Background(), eng, w.store, cheap); err != nil {
		t.Fatal(err)
	}
	w.queue = queue.New(eng, w.store, queue.Options{
		Hostname: "mail.example.org", Remote: nowhere{}, Local: nowhere{},
		Now: time.Now, Rand: func() float64 { return 0.5 }, Random: rand.Reader,
		Report: func(context.Context, string, mail.Envelope, io.Reader) error { return nil },
	})
	w.options = Options{Now: time.Now, Rand: rand.Reader, Store: w.store, Directory: w.directory, Queue: w.queue, Version: "test"}
	w.Handler = New(w.options)
	t.Cleanup(func() {
		w.directory.Close()
		w.store.Close()
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// call sends a request, "METHOD path body", and returns status and answer.
func (w *world) call(t testing.TB, text string) (int, string) {
	t.Helper()
	f := strings.SplitN(text, " ", 3)
	r := httptest.NewRequest(f[0], f[1], strings.NewReader(strings.Join(f[2:], "")))
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	return rec.Code, rec.Body.String()
}

// populate makes a domain and two accounts.
func (w *world) populate(t testing.TB) {
	t.Helper()
	for _, text := range []string{
		`POST /v1/domains {"domain":"example.org"}`,
		`POST /v1/accounts {"address":"carol@example.org","password":"one"}`,
		`POST /v1/accounts {"address":"dave@example.org"}`,
	} {
		if status, body := w.call(t, text); status != 200 {
			t.Fatalf("%s: %d %s", text, status, body)
		}
	}
}

func TestCalls(t *testing.T) {
	w := newWorld(t)
	w.populate(t)
	for _, c := range []struct {
		call   string
		status int
		answer string // part of it
	}{
		{"GET /v1/status", 200, `"version":"test"`},
		{"GET /v1/nothing", 404, `"kind":"not found"`},
		{"PATCH /v1/domains", 404, `"kind":"not found"`},
		{`POST /v1/domains {"domain":"example.org"}`, 409, `"kind":"exists"`},
		{`POST /v1/domains {"domain":"not a domain"}`, 400, `"kind":"invalid"`},
		{`POST /v1/domains {"domian":"example.net"}`, 400, `unknown field`},
		{`POST /v1/domains not json`, 400, `"kind":"invalid"`},
		{`POST /v1/domains ` + `{"domain":"` + strings.Repeat("x", maxBody) + `"}`, 400, `"kind":"invalid"`},
		{`DELETE /v1/domains/example.org`, 403, `carol@example.org`},
		{`POST /v1/accounts {"address":"erin@example.org","password":""}`, 400, "password is empty"},
		{`POST /v1/accounts {"address":"erin"}`, 400, "name@domain"},
		{`POST /v1/accounts {"address":"e/r%in@example.org"}`, 200, `"password":"`},
		{`GET /v1/accounts/e%2Fr%25in@example.org`, 200, `"address":"e/r%in@example.org"`},
		{`PUT /v1/accounts/carol@example.org/password {"password":"two"}`, 200, `{"address":"carol@example.org"}`},
		{`PUT /v1/accounts/carol@example.org/password {"password":"\u0000"}`, 400, `"kind":"invalid"`},
		{`PUT /v1/accounts/carol@example.org/quota {"quota_bytes":-1}`, 400, "not negative"},
		{`PUT /v1/accounts/carol@example.org/quota {"quota_bytes":7}`, 200, `"quota_bytes":7`},
		{`GET /v1/accounts/carol@example.org`, 200, `"quota_bytes":7`},
		{`GET /v1/accounts/carol@example.org/deleted`, 200, `{"event":"done","messages":0,"bytes":0}`},
		{`POST /v1/accounts/carol@example.org/undelete?mailbox=INBOX&uid=4,7:*`, 200, `{"event":"done","messages":0,"bytes":0}`},
		{`POST /v1/accounts/carol@example.org/undelete?uid=4`, 400, "name it"},
		{`POST /v1/accounts/carol@example.org/undelete?mailbox=INBOX&uid=4:x`, 400, "no set of UIDs"},
		{`POST /v1/accounts/carol@example.org/undelete?mailbox=INBOX&uid=0`, 400, "no set of UIDs"},
		{`POST /v1/accounts/carol@example.org/undelete?since=yesterday`, 400, "no time such as"},
		{`POST /v1/accounts/carol@example.org/undelete?folder=INBOX`, 400, `cannot be asked for by \"folder\"`},
		{`POST /v1/accounts/nobody@example.org/undelete`, 404, `"kind":"not found"`},
		{`POST /v1/aliases {"address":"info@example.org","targets":[]}`, 400, "needs a target"},
		{`POST /v1/aliases {"address":"info@nowhere.example","targets":["carol@example.org"]}`, 404, "nowhere.example"},
		{`DELETE /v1/aliases/@nowhere.example`, 404, "no catch-all"},
		{`POST /v1/queue/retry`, 200, `{"action":"retry","count":0}`},
		{`POST /v1/queue/explode`, 404, "explode"},
		{`POST /v1/queue/zz/retry`, 404, `"kind":"not found"`},
		{`GET /v1/queue/!`, 400, `"kind":"invalid"`},
		{`POST /v1/sweep`, 200, `"removed":0`},
		{`POST /v1/verify`, 200, `{"event":"done","ok":true,"accounts":3,"mailboxes":18,`},
	} {
		status, body := w.call(t, c.call)
		if status != c.status || !strings.Contains(body, c.answer) {
			t.Errorf("%.80s: %d %s; want %d and %s", c.call, status, body, c.status, c.answer)
		}
	}
	if _, err := w.directory.Authenticate(context.Background(), "carol@example.org", "two", netip.Addr{}); err != nil {
		t.Errorf("the new password: %v", err)
	}
}

// TestQueueCalls works on messages that wait.
func TestQueueCalls(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	msg, err := w.store.Receive(ctx, strings.NewReader("Subject: x\r\n\r\nhello\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, to := range []string{"a@far.example", "b@far.example", "c@other.example"} {
		addr, _ := mail.ParseAddress(to)
		id, err := w.queue.Enqueue(ctx, queue.Entry{Parcel: msg, Envelope: mail.Envelope{
			From: mail.Address{Local: "carol", Domain: "example.org"}, To: []mail.Recipient{{Address: addr}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id[0].String())
	}
	for _, c := range []struct {
		call  string
		lines int
		has   string
	}{
		{"GET /v1/queue", 3, `"to":["c@other.example"],"attempts":0,"next_attempt":"`},
		{"GET /v1/queue?domain=far.example", 2, "b@far.example"},
		{"GET /v1/queue?recipient=b@far&sender=carol", 1, "b@far.example"},
		{"GET /v1/queue?held=true", 0, ""},
		{"POST /v1/queue/" + ids[1] + "/hold", 1, `{"action":"hold","id":"` + ids[1] + `"}`},
		{"GET /v1/queue?held=true", 1, `"next_attempt":null`},
		{"POST /v1/queue/" + ids[1] + "/retry", 1, `"kind":"invalid"`},
		{"GET /v1/queue/" + ids[1], 1, `"state":"waiting"`},
		{"POST /v1/queue/retry", 1, `"count":2`},
		{"POST /v1/queue/hold", 1, `"count":3`},
		{"POST /v1/queue/release", 1, `"count":3`},
		{"POST /v1/queue/" + ids[0] + "/drop", 1, `"action":"drop"`},
		{"POST /v1/queue/" + ids[0] + "/drop", 1, `"kind":"not found"`},
		{"POST /v1/queue/drop", 1, `"count":2`},
		{"GET /v1/queue", 0, ""},
	} {
		_, body := w.call(t, c.call)
		if strings.Count(body, "\n") != c.lines || !strings.Contains(body, c.has) {
			t.Errorf("%s: %s; want %d lines with %s", c.call, body, c.lines, c.has)
		}
	}
}

// TestVerifyFinds: a verification that cannot fail is none.
func TestVerifyFinds(t *testing.T) {
	ctx := context.Background()
	for name, damage := range map[string]struct {
		do  func(t *testing.T, w *world, acct directory.Account) error
		has string
	}{
		"lost data": {func(_ *testing.T, w *world, acct directory.Account) error {
			return w.store.DeleteAccount(ctx, acct.ID)
		}, `{"event":"problem","account":"carol@example.org","what":"the account has no data"}`},
		"garbage in the directory": {func(_ *testing.T, w *world, _ directory.Account) error {
			return overwriteFirst(ctx, w.engine, store.DirectoryShard, "")
		}, `{"event":"problem","what":"`},
		"garbage in the queue": {func(t *testing.T, w *world, acct directory.Account) error {
			msg, err := w.store.Receive(ctx, strings.NewReader("Subject: x\r\n\r\nhello\r\n"))
			if err == nil {
				_, err = w.queue.Enqueue(ctx, queue.Entry{Parcel: msg, Envelope: mail.Envelope{To: []mail.Recipient{{Address: acct.Address}}}})
			}
			return errors.Join(err, overwriteFirst(ctx, w.engine, store.QueueShard, "m"))
		}, `"queue_id":"`},
		"the directory has lost an account": {func(t *testing.T, w *world, acct directory.Account) error {
			return w.engine.Update(ctx, store.DirectoryShard, func(wr engine.Writer) error { return wr.Delete(engine.Key('u', uint64(acct.ID))) })
		}, `has data in the store, and the directory does not know it"`},
		"the list of accounts has lost one": {func(t *testing.T, w *world, acct directory.Account) error {
			return w.engine.Update(ctx, store.RegistryShard, func(wr engine.Writer) error { return wr.Delete(engine.Key('A', uint64(acct.ID))) })
		}, `{"event":"problem","account":"carol@example.org","what":"the account has data and is not in the list of accounts"}`},
		"an account has lost its record": {func(t *testing.T, w *world, acct directory.Account) error {
			return w.engine.Update(ctx, store.ShardOf(acct.ID), func(wr engine.Writer) error { return wr.Delete([]byte{'a'}) })
		}, `has records, but not its own`},
		"garbage in a mailbox": {func(t *testing.T, w *world, acct directory.Account) error {
			return damageAccount(ctx, t, w, acct.ID)
		}, `{"event":"problem","account":"carol@example.org"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.populate(t)
			addr, _ := mail.ParseAddress("carol@example.org")
			acct, err := w.directory.Lookup(ctx, addr)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage.do(t, w, acct); err != nil {
				t.Fatal(err)
			}
			_, body := w.call(t, "POST /v1/verify")
			if !strings.Contains(body, damage.has) || !strings.Contains(body, `{"event":"done","ok":false,`) {
				t.Errorf("verify says\n%s", body)
			}
		})
	}
}

// overwriteFirst spoils the first record from a key on.
func overwriteFirst(ctx context.Context, eng engine.Engine, shard engine.Shard, from string) error {
	return eng.Update(ctx, shard, func(w engine.Writer) error {
		var key []byte
		err := w.Scan([]byte(from), nil, false, func(k, _ []byte) bool { key = append(key, k...); return false })
		if err != nil {
			return err
		}
		return w.Put(key, []byte("garbage"))
	})
}

// damageAccount spoils a record in the middle of an account's shard, which
// docs/schema.md places at 1<<32 plus its id. The first record says that there is one.
func damageAccount(ctx context.Context, t *testing.T, w *world, id mail.AccountID) error {
	shard := engine.Shard(1<<32 + uint64(id))
	return w.engine.Update(ctx, shard, func(w engine.Writer) error {
		var keys [][]byte
		err := w.Scan(nil, nil, false, func(k, _ []byte) bool { keys = append(keys, bytes.Clone(k)); return true })
		if err != nil {
			return err
		}
		if len(keys) < 3 {
			t.Fatalf("shard %d has %d records", shard, len(keys))
		}
		return w.Put(keys[len(keys)/2], []byte("garbage"))
	})
}

func TestFailure(t *testing.T) {
	for k := fault.Internal; k <= fault.Closed; k++ {
		want := fault.Wrap(k, "so it is", errors.New("because"))
		line, err := json.Marshal(failureOf(want))
		if err != nil {
			t.Fatal(err)
		}
		var f Failure
		if err := json.Unmarshal(line, &f); err != nil {
			t.Fatal(err)
		}
		got := f.Fault()
		if fault.Of(got) != k || fault.Say(got) != fault.Say(want) || !strings.Contains(got.Error(), "because") {
			t.Errorf("%v became %v", want, got)
		}
		if s := statusOf(k); s < 400 {
			t.Errorf("%v has status %d", k, s)
		}
	}
	if f := failureOf(errors.New("plain")); f.Kind != "internal" && f.Cause != "plain" {
		t.Errorf("a plain error became %+v", f)
	}
}

func TestNewPassword(t *testing.T) {
	if len(passwordLetters) != 32 {
		t.Fatalf("%d letters", len(passwordLetters))
	}
	seen := map[string]bool{}
	for range 100 {
		pw, err := NewPassword(rand.Reader)
		if err != nil || len(pw) != 16 || strings.Trim(pw, passwordLetters) != "" || seen[pw] {
			t.Fatalf("password %q, %v", pw, err)
		}
		seen[pw] = true
	}
	if _, err := NewPassword(strings.NewReader("short")); err == nil {
		t.Error("a source that ends gives a password")
	}
}

// FuzzCalls: whatever is asked, the answer is lines of JSON, no failure is the server's
// own, and the store is whole.
func FuzzCalls(f *testing.F) {
	for _, s := range []string{
		`POST /v1/accounts {"address":"erin@example.org"}`, `PUT /v1/accounts/carol@example.org/quota {"quota_bytes":9}`,
		`DELETE /v1/accounts/dave@example.org`, `POST /v1/aliases {"address":"@example.org","targets":["carol@example.org"]}`,
		`GET /v1/accounts/carol@example.org/export`, `GET /v1/accounts/carol@example.org/export/1?uids=1:*,3&bodies=yes&limit=3`,
		`POST /v1/accounts/carol@example.org/undelete?mailbox=INBOX&uid=1:*,3&since=2026-03-01T12:00:00Z`,
		`DELETE /v1/aliases/a@example.org?target=b@example.net`, `GET /v1/queue?domain=x`, `POST /v1/queue/1/drop?report=true`,
		`GET /v1/accounts/%ff@example.org/mailboxes`, `DELETE /v1/accounts/..%2Fdomains%2Fexample.org`, `POST /v1/domains {"domain":"ü.example"}`,
	} {
		f.Add(s)
	}
	w := newWorld(f)
	w.populate(f)
	f.Fuzz(func(t *testing.T, text string) {
		part := strings.SplitN(text, " ", 3)
		if len(part) < 2 || !strings.HasPrefix(part[1], "/") {
			return
		}
		r, err := http.NewRequest(part[0], "http://martlet"+part[1], strings.NewReader(strings.Join(part[2:], "")))
		if err != nil {
			return
		}
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		if rec.Code/100 == 3 {
			t.Errorf("%q: sent on to %s", text, rec.Header().Get("Location"))
		}
		if rec.Code == 500 {
			t.Errorf("%q: %s", text, rec.Body)
		}
		for d := json.NewDecoder(rec.Body); ; {
			var line json.RawMessage
			if err := d.Decode(&line); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%q: %v in %s", text, err, rec.Body)
			}
		}
	})
}

func TestStreamFailure(t *testing.T) {
	w := newWorld(t)
	w.populate(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cancel()
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, httptest.NewRequest("POST", "/v1/verify", nil).WithContext(ctx))
	if strings.Contains(rec.Body.String(), `"event":"done"`) {
		t.Errorf("a verification that was broken off says it is done: %s", rec.Body)
	}
}
