package receive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
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

// fakeQueue remembers what it was given.
type fakeQueue struct {
	mu      sync.Mutex
	entries []queue.Entry
	keys    map[string]bool
	err     error
}

func (q *fakeQueue) Enqueue(_ context.Context, entries ...queue.Entry) ([]queue.ID, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return nil, q.err
	}
	if q.keys == nil {
		q.keys = map[string]bool{}
	}
	for _, e := range entries {
		there := e.Key != "" && q.keys[e.Key]
		for _, k := range e.Earlier {
			there = there || q.keys[k] && !q.keys["took "+k]
			q.keys["took "+k] = true
		}
		if !there {
			q.entries = append(q.entries, e)
		}
		q.keys[e.Key] = true
	}
	return make([]queue.ID, len(entries)), nil
}

// job makes the queue's job of its i-th entry.
func (q *fakeQueue) job(i int) queue.Job {
	e := q.entries[i]
	e.Envelope.Sent = [32]byte{} // as the queue keeps it
	return queue.Job{Envelope: e.Envelope, Parcel: func(context.Context) (*store.Parcel, error) { return e.Parcel, nil }}
}

// queued returns the recipients in the queue, "address" or "address (original)".
func (q *fakeQueue) queued() string {
	var all []string
	for _, e := range q.entries {
		for _, to := range e.Envelope.To {
			s := to.Address.String()
			if e.Road == queue.Local {
				s = "local " + s
			}
			if to.ORcpt != "" {
				s += " (" + to.ORcpt + ")"
			}
			all = append(all, s)
		}
	}
	return strings.Join(all, ", ")
}

// doubtful is an engine that loses the outcome of one commit.
type doubtful struct {
	engine.Engine
	shard engine.Shard
	doubt bool
	away  bool

	bad           engine.Shard // whose commits fail
	before, after error        // they are made, or not; nil: they do not
}

func (d *doubtful) Update(ctx context.Context, shard engine.Shard, fn func(engine.Writer) error) error {
	if shard == d.bad && d.before != nil {
		return d.before
	}
	err := d.Engine.Update(ctx, shard, fn)
	if err == nil && shard == d.bad && d.after != nil {
		return d.after
	}
	if err == nil && d.doubt && shard >= d.shard {
		d.doubt = false
		return fault.New(fault.Unknown, "nobody knows")
	}
	return err
}

// View fails on the shard of the directory while it is away.
func (d *doubtful) View(ctx context.Context, shard engine.Shard, fn func(engine.Reader) error) error {
	if d.away && shard == store.DirectoryShard {
		return fault.New(fault.Unavailable, "the directory is away")
	}
	return d.Engine.View(ctx, shard, fn)
}

type world struct {
	*Receiver
	t        testing.TB
	store    *store.Store
	dir      *directory.Directory
	queue    *fakeQueue
	eng      *doubtful
	accounts map[string]directory.Account
}

// newWorld has the domains here.test and too.test, accounts alice and bob in the
// first, and some aliases.
func newWorld(t testing.TB) *world {
	t.Helper()
	ctx := context.Background()
	base, err := pebble.Open("data", pebble.Options{Now: time.Now, FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { base.Close() })
	eng := &doubtful{Engine: base, shard: store.QueueShard + 1}
	st, err := store.Open(eng, store.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := directory.Open(ctx, eng, st, directory.Options{
		Now: time.Now, Rand: rand.Reader,
		DetailSeparator: "+", Argon: directory.Argon{MemoryKiB: 8, Passes: 1, Lanes: 1}, ScramIterations: 4096,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dir.Close)
	w := &world{t: t, store: st, dir: dir, queue: &fakeQueue{}, eng: eng, accounts: map[string]directory.Account{}}
	for _, d := range []string{"here.test", "too.test"} {
		w.must(dir.AddDomain(ctx, d))
	}
	for _, name := range []string{"alice", "bob"} {
		a, err := dir.AddAccount(ctx, addr(name+"@here.test"), "", store.Quota{})
		w.must(err)
		w.accounts[name] = a
	}
	w.must(dir.AddAlias(ctx, addr("all@too.test"), addr("alice@here.test"), addr("bob@here.test"), addr("carol@far.test")))
	w.must(dir.AddAlias(ctx, addr("both@too.test"), addr("alice@here.test"), addr("bob@here.test")))
	w.Receiver = New(Options{Now: time.Now, Store: st, Directory: dir, Queue: w.queue})
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func addr(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func envelope(protocol string, to ...string) mail.Envelope {
	env := mail.Envelope{From: addr("sender@far.test"), Protocol: protocol}
	for _, s := range to {
		env.To = append(env.To, mail.Recipient{Address: addr(s)})
	}
	return env
}

func (w *world) parcel(text string) *store.Parcel {
	w.t.Helper()
	p, err := w.store.Receive(context.Background(), strings.NewReader(text))
	w.must(err)
	return p
}

// inbox returns the messages in an account's INBOX.
func (w *world) inbox(name string) []string {
	w.t.Helper()
	return w.mailbox(name, "INBOX")
}

// picture opens a mailbox of an account.
func (w *world) picture(name, mailbox string) (*store.Account, *store.Picture) {
	w.t.Helper()
	ctx := context.Background()
	acct := w.store.Account(w.accounts[name].ID)
	var box store.Mailbox
	w.must(acct.View(ctx, func(s *store.Snapshot) (err error) {
		box, err = s.Mailbox(mailbox)
		return err
	}))
	pic, err := acct.Picture(ctx, box.ID)
	w.must(err)
	return acct, pic
}

// mailbox returns the messages in a mailbox of an account.
func (w *world) mailbox(name, mailbox string) []string {
	w.t.Helper()
	ctx := context.Background()
	acct, pic := w.picture(name, mailbox)
	var all []string
	for _, m := range pic.Messages(store.All()) {
		r, err := acct.Open(ctx, m.ID, 0, -1)
		w.must(err)
		text, err := io.ReadAll(r)
		w.must(err)
		r.Close()
		all = append(all, string(text))
	}
	return all
}

const plainMessage = "Received: by here.test id 1\r\nSubject: hi\r\n\r\nbody\r\n"

func TestDeliver(t *testing.T) {
	tests := []struct {
		name       string
		protocol   string
		to         []string
		results    []fault.Kind // Internal stands for no error
		alice, bob int          // messages in INBOX
		queued     string
	}{
		{"one", "ESMTP", []string{"alice@here.test"}, []fault.Kind{0}, 1, 0, ""},
		{"detail", "ESMTP", []string{"Alice+lists@here.test"}, []fault.Kind{0}, 1, 0, ""},
		{"two", "ESMTP", []string{"alice@here.test", "bob@here.test"}, []fault.Kind{0, 0}, 1, 1, ""},
		{"twice the same", "LMTP", []string{"alice@here.test", "alice+a@here.test", "both@too.test"}, []fault.Kind{0, 0, 0}, 1, 1, ""},
		{"far", "ESMTPSA", []string{"x@far.test", "X@far.test", "y@far.test"}, []fault.Kind{0, 0, 0}, 0, 0, "x@far.test, y@far.test"},
		{"alias across domains", "ESMTP", []string{"all@too.test"}, []fault.Kind{0}, 1, 1, "carol@far.test (rfc822;all@too.test)"},
		{"nobody", "ESMTP", []string{"nobody@here.test"}, []fault.Kind{fault.NotFound}, 0, 0, ""},
		{"one of two is nobody", "ESMTP", []string{"nobody@here.test", "bob@here.test"}, []fault.Kind{0, 0}, 0, 1, "local nobody@here.test"},
		{"the same over LMTP", "LMTP", []string{"nobody@here.test", "bob@here.test"}, []fault.Kind{fault.NotFound, 0}, 0, 1, ""},
		{"postmaster", "ESMTP", []string{"postmaster@too.test"}, []fault.Kind{0}, 1, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			for i, res := range w.Deliver(context.Background(), envelope(tt.protocol, tt.to...), w.parcel(plainMessage)) {
				if want := tt.results[i]; want == 0 && res.Err != nil || want != 0 && !fault.Is(res.Err, want) {
					t.Errorf("%s: %v", tt.to[i], res.Err)
				}
			}
			if a, b := len(w.inbox("alice")), len(w.inbox("bob")); a != tt.alice || b != tt.bob {
				t.Errorf("alice has %d messages, bob %d", a, b)
			}
			if got := w.queue.queued(); got != tt.queued {
				t.Errorf("queued: %q, want %q", got, tt.queued)
			}
		})
	}
}

func TestReturnPath(t *testing.T) {
	w := newWorld(t)
	env := envelope("ESMTP", "alice@here.test")
	w.Deliver(context.Background(), env, w.parcel(plainMessage))
	env.From = mail.Address{}
	w.Deliver(context.Background(), env, w.parcel("Received: id 2\r\n\r\n"))
	want := []string{"Return-Path: <sender@far.test>\r\n" + plainMessage, "Return-Path: <>\r\nReceived: id 2\r\n\r\n"}
	if got := w.inbox("alice"); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %q", got)
	}
}

func TestLoop(t *testing.T) {
	w := newWorld(t)
	for n, stopped := range map[int]bool{100: false, 101: true} {
		msg := w.parcel(strings.Repeat("Received: by x\r\n", n) + "\r\n")
		res := w.Deliver(context.Background(), envelope("ESMTP", "bob@here.test"), msg)
		if (res[0].Status == "5.4.6") != stopped || (res[0].Err != nil) != stopped {
			t.Errorf("%d Received fields: %+v", n, res)
		}
	}
	if n := len(w.inbox("bob")); n != 1 {
		t.Errorf("%d messages", n)
	}
}

func TestQuota(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	quota := func(n int64) {
		w.must(w.store.Account(w.accounts["alice"].ID).Update(ctx, func(tx *store.Tx) error {
			tx.SetQuota(store.Quota{Bytes: n})
			return nil
		}))
	}
	quota(1)
	if _, _, err := w.Check(ctx, mail.Address{}, addr("alice@here.test")); err != nil {
		t.Errorf("at first: %v", err)
	}
	res := w.Deliver(ctx, envelope("ESMTP", "alice@here.test"), w.parcel(plainMessage))
	if !fault.Is(res[0].Err, fault.OverQuota) || w.queue.queued() != "" {
		t.Errorf("alone: %v, queued %q", res[0].Err, w.queue.queued())
	}
	if _, _, err := w.Check(ctx, mail.Address{}, addr("alice@here.test")); !fault.Is(err, fault.OverQuota) {
		t.Errorf("then: %v", err)
	}
	res = w.Deliver(ctx, envelope("ESMTP", "alice@here.test", "bob@here.test"), w.parcel(plainMessage))
	if res[0].Err != nil || res[1].Err != nil || w.queue.queued() != "local alice@here.test" {
		t.Errorf("beside another: %+v, queued %q", res, w.queue.queued())
	}
	quota(0)
	if _, _, err := w.Check(ctx, mail.Address{}, addr("alice@here.test")); err != nil {
		t.Errorf("with room again: %v", err)
	}
	local := &Local{w.Receiver}
	for range 2 {
		if res := local.Deliver(ctx, w.queue.job(0)); res[0].Code != 250 {
			t.Error(res)
		}
	}
	if n := len(w.inbox("alice")); n != 1 {
		t.Errorf("after the queue tried twice: %d messages", n)
	}
}

// TestQueueKnowsParcel delivers, and again after the queue has kept the parcel.
func TestQueueKnowsParcel(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	first := w.parcel(plainMessage)
	second, err := w.store.DecodeParcel(ctx, first.Encode())
	w.must(err)
	other := w.parcel("Received: by here.test id 2\r\nSubject: hi\r\n\r\nbody\r\n")
	for i, msg := range []*store.Parcel{first, second, other} {
		if res := w.Deliver(ctx, envelope("ESMTP", "bob@here.test"), msg); res[0].Err != nil {
			t.Fatal(res[0].Err)
		}
		if n, want := len(w.inbox("bob")), []int{1, 1, 2}[i]; n != want {
			t.Errorf("after delivery %d: %d messages, want %d", i, n, want)
		}
	}
}

func TestLocalReportsFailures(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.Deliver(ctx, envelope("ESMTP", "nobody@here.test", "bob@here.test"), w.parcel(plainMessage))
	local := &Local{w.Receiver}
	if res := local.Deliver(ctx, w.queue.job(0)); len(res) != 1 || res[0].Code != 550 || res[0].Enhanced != "5.1.1" {
		t.Errorf("got %+v", res)
	}
	broken := w.queue.job(0)
	broken.Parcel = func(context.Context) (*store.Parcel, error) { return nil, fault.New(fault.Corrupt, "unreadable") }
	if res := local.Deliver(ctx, broken); len(res) != 1 || res[0].Code != 451 {
		t.Errorf("unreadable: %+v", res)
	}
}

// TestLocalFindsNewRoad lets an address that waited become an alias to another host;
// being cut short and tried again it must send one copy on.
func TestLocalFindsNewRoad(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.Deliver(ctx, envelope("ESMTP", "nobody@here.test", "bob@here.test"), w.parcel(plainMessage))
	w.must(w.dir.AddAlias(ctx, addr("nobody@here.test"), addr("x@far.test")))
	local := &Local{w.Receiver}
	for range 2 {
		if res := local.Deliver(ctx, w.queue.job(0)); res[0].Code != 250 {
			t.Error(res)
		}
	}
	if got := w.queue.queued(); got != "local nobody@here.test, x@far.test (rfc822;nobody@here.test)" {
		t.Errorf("queued: %s", got)
	}
}

func TestReport(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	local := &Local{w.Receiver}
	env := envelope("", "bob@here.test")
	env.From = mail.Address{}
	for range 2 {
		w.must(local.Report(ctx, "report of 7", env, strings.NewReader("Subject: undelivered\r\n\r\n")))
	}
	w.must(local.Report(ctx, "report of 8", env, strings.NewReader("Subject: undelivered\r\n\r\n")))
	if n := len(w.inbox("bob")); n != 2 {
		t.Errorf("%d reports", n)
	}
	if err := local.Report(ctx, "report of 9", envelope("", "nobody@here.test"), strings.NewReader("\r\n")); !fault.Is(err, fault.NotFound) {
		t.Errorf("to nobody: %v", err)
	}
}

// TestNotifySuccess has the queue deliver again what is stored, and so report it.
func TestNotifySuccess(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	env := envelope("ESMTP", "alice@here.test", "bob@here.test", "x@far.test", "nobody@here.test")
	for i := range env.To {
		env.To[i].Notify = mail.NotifySuccess
	}
	env.To[1].Notify = mail.NotifyFailure
	w.Deliver(ctx, env, w.parcel(plainMessage))
	if got := w.queue.queued(); got != "x@far.test, local nobody@here.test, local alice@here.test" {
		t.Fatalf("queued: %s", got)
	}
	if res := (&Local{w.Receiver}).Deliver(ctx, w.queue.job(2)); res[0].Code != 250 {
		t.Error(res)
	}
	if n := len(w.inbox("alice")); n != 1 {
		t.Errorf("%d messages", n)
	}
	env.From = mail.Address{}
	w.Deliver(ctx, env, w.parcel(plainMessage+"other"))
	if got := w.queue.queued(); strings.Count(got, "alice") != 1 {
		t.Errorf("a report to nobody: %s", got)
	}
}

func TestReply(t *testing.T) {
	for kind, want := range map[fault.Kind]string{
		fault.NotFound: "550 5.1.1", fault.OverQuota: "452 4.2.2", fault.Unavailable: "452 4.3.1", fault.Internal: "451 4.3.0",
		fault.Unknown: "451 4.3.0", fault.Corrupt: "451 4.3.0", fault.TooLarge: "552 5.3.4",
	} {
		code, status, _ := Result{Err: fault.New(kind, "x")}.Reply()
		if got := fmt.Sprint(code, " ", status); got != want {
			t.Errorf("%v: %s, want %s", kind, got, want)
		}
	}
	if code, status, _ := (Result{errLoop, "5.4.6"}).Reply(); code != 554 || status != "5.4.6" {
		t.Errorf("loop: %d %s", code, status)
	}
}

// TestUnknownOutcome loses the answer to a commit that did come to be.
func TestUnknownOutcome(t *testing.T) {
	w := newWorld(t)
	w.eng.doubt = true
	res := w.Deliver(context.Background(), envelope("ESMTP", "bob@here.test"), w.parcel(plainMessage))
	if res[0].Err != nil || w.eng.doubt {
		t.Errorf("%v, still in doubt: %v", res[0].Err, w.eng.doubt)
	}
	if n := len(w.inbox("bob")); n != 1 {
		t.Errorf("%d messages", n)
	}
}

func TestQueueDown(t *testing.T) {
	w := newWorld(t)
	w.queue.err = fault.Wrap(fault.Unavailable, "no room", errors.New("disk"))
	res := w.Deliver(context.Background(), envelope("ESMTP", "x@far.test"), w.parcel(plainMessage))
	if !fault.Is(res[0].Err, fault.Unavailable) {
		t.Errorf("far recipient: %v", res[0].Err)
	}
	res = w.Deliver(context.Background(), envelope("ESMTP", "nobody@here.test", "bob@here.test"), w.parcel(plainMessage))
	if !fault.Is(res[0].Err, fault.NotFound) || res[1].Err != nil {
		t.Errorf("local recipients: %+v", res)
	}
}

func TestCheck(t *testing.T) {
	w := newWorld(t)
	for in, want := range map[string]struct {
		local bool
		err   fault.Kind
	}{
		"alice@here.test": {true, 0}, "ALICE+x@HERE.test": {true, 0}, "all@too.test": {true, 0}, "postmaster@here.test": {true, 0},
		"nobody@here.test": {true, fault.NotFound}, "alice@too.test": {true, fault.NotFound}, "a%far.test@here.test": {true, fault.NotFound},
		"x@far.test": {false, 0}, "alice@[127.0.0.1]": {false, 0}, "alice@sub.here.test": {false, 0},
	} {
		local, account, err := w.Check(context.Background(), mail.Address{}, addr(in))
		if local != want.local || want.err == 0 && err != nil || want.err != 0 && !fault.Is(err, want.err) {
			t.Errorf("%s: %v, %v", in, local, err)
		}
		if account != (mail.Address{}) != (want.local && want.err == 0) {
			t.Errorf("%s: account %s", in, account)
		}
	}
	if local, _, err := w.Check(context.Background(), mail.Address{}, mail.Address{Local: "Postmaster"}); !local || err != nil {
		t.Errorf("postmaster without a domain: %v, %v", local, err)
	}
}

// TestManyRecipients stores into more mailboxes than run at the same time.
func TestManyRecipients(t *testing.T) {
	w := newWorld(t)
	w.opt.Parallel = 3
	ctx := context.Background()
	var to []string
	for i := range 20 {
		name := fmt.Sprintf("user%d", i)
		a, err := w.dir.AddAccount(ctx, addr(name+"@here.test"), "", store.Quota{})
		w.must(err)
		w.accounts[name] = a
		to = append(to, name+"@here.test")
	}
	for _, res := range w.Deliver(ctx, envelope("ESMTP", to...), w.parcel(plainMessage)) {
		w.must(res.Err)
	}
	for i := range 20 {
		if n := len(w.inbox(fmt.Sprintf("user%d", i))); n != 1 {
			t.Errorf("user%d has %d messages", i, n)
		}
	}
}

func TestFullAccountsForget(t *testing.T) {
	var f fullAccounts
	now := time.Unix(1000, 0)
	f.note(1, now)
	for after, want := range map[time.Duration]bool{0: true, 59 * time.Minute: true, 61 * time.Minute: false} {
		if got := f.suspects(1, now.Add(after)); got != want {
			t.Errorf("after %v: %v", after, got)
		}
	}
	for i := range 3 * maxFull {
		f.note(mail.AccountID(i), now)
	}
	if len(f.at) > maxFull {
		t.Errorf("%d accounts remembered", len(f.at))
	}
}

// Where it is wanted each delivery says whether there is an attachment (RFC 9979, 4).
func TestMarkAttachments(t *testing.T) {
	const attached = "Subject: b\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" +
		"--x\r\n\r\ntext\r\n--x\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment\r\n\r\npdf\r\n--x--\r\n"
	for mark, want := range map[bool]string{true: "[$hasnoattachment] [$hasattachment] ", false: "[] [] "} {
		w := newWorld(t)
		w.opt.MarkAttachments = mark
		for _, text := range []string{plainMessage, attached} {
			for _, res := range w.Deliver(t.Context(), envelope("ESMTP", "alice@here.test"), w.parcel(text)) {
				w.must(res.Err)
			}
		}
		acct := w.store.Account(w.accounts["alice"].ID)
		var box store.Mailbox
		w.must(acct.View(t.Context(), func(s *store.Snapshot) (err error) {
			box, err = s.Mailbox("INBOX")
			return err
		}))
		pic, err := acct.Picture(t.Context(), box.ID)
		w.must(err)
		got := ""
		for _, m := range pic.Messages(store.All()) {
			got += fmt.Sprint(pic.Keywords(m), " ")
		}
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
