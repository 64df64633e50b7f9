package link

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/signin"
	"github.com/martlet-mail/martlet/internal/move/signin/signintest"
	"github.com/martlet-mail/martlet/internal/store"
)

const password = "correct horse battery staple"

// world is links to one side.
type world struct {
	*Links
	h      *here
	s      *side
	log    logText
	refuse shared[error] // of Open
	gone   shared[bool]  // the account is
	opens  atomic.Int64
	last   shared[Secret]
}

// shared is a value that a test and a scheduler both use.
type shared[T any] struct {
	mu sync.Mutex
	v  T
}

func (s *shared[T]) set(v T) { s.mu.Lock(); defer s.mu.Unlock(); s.v = v }
func (s *shared[T]) get() T  { s.mu.Lock(); defer s.mu.Unlock(); return s.v }

// logText is a log that can be read while it is written.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *logText) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func newWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	w := &world{h: newHere(t, time.Now), s: newSide("INBOX", "Work", "Trash")}
	o := Options{
		Engine: w.h.engine, Now: time.Now, Chance: func() float64 { return 0.5 }, Random: rand.Reader, Key: bytes.Repeat([]byte{7}, 32),
		Store: w.h.store, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
		Open: func(_ context.Context, _ Rule, s Secret) (move.Source, error) {
			w.opens.Add(1)
			w.last.set(s)
			if err := w.refuse.get(); err != nil {
				return nil, err
			}
			return w.s.open(), nil
		},
		Target: func(_ context.Context, id mail.AccountID) (move.Target, error) {
			if w.gone.get() {
				return nil, NoAccount()
			}
			return move.NewLocal(w.h.store, id), nil
		},
	}
	if change != nil {
		change(&o)
	}
	w.Links = New(o)
	return w
}

func rule() Rule {
	r := *everything()
	r.Account, r.Poll = 1, time.Minute
	return r
}

func (w *world) add(t testing.TB, r Rule) Rule {
	t.Helper()
	r, err := w.Add(t.Context(), r, Secret{Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *world) show(t testing.TB, id ID) Status {
	t.Helper()
	s, err := w.Show(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs the scheduler in a bubble until the test ends.
func (w *world) run(t testing.TB) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestRules(t *testing.T) {
	w := newWorld(t, nil)
	r := w.add(t, rule())
	got := w.show(t, r.ID)
	if got.State != Waiting || fmt.Sprint(got.Rule) != fmt.Sprint(r) || r.ID != 1 {
		t.Errorf("%+v\n%+v", got.Rule, r)
	}
	if _, err := w.Add(t.Context(), rule(), Secret{}); !fault.Is(err, fault.Exists) {
		t.Errorf("the same twice: %v", err)
	}
	for what, change := range map[string]func(*Rule){
		"protocol": func(r *Rule) { r.Server.Protocol = "nntp" }, "host": func(r *Rule) { r.Server.Host = "a b" }, "port": func(r *Rule) { r.Server.Port = 0 },
		"user": func(r *Rule) { r.User = "a\nb" }, "pattern": func(r *Rule) { r.Mailboxes = []string{"[a"} }, "poll": func(r *Rule) { r.Poll = time.Second },
		"pop3": func(r *Rule) { r.Server.Protocol = "pop3" }, "into": func(r *Rule) { r.Into = "a//b" }, "security": func(r *Rule) { r.Server.Security = "no" },
	} {
		bad := rule()
		bad.User = "another"
		change(&bad)
		if _, err := w.Add(t.Context(), bad, Secret{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := w.Pause(t.Context(), r.ID); err != nil || w.show(t, r.ID).State != Paused {
		t.Error(err)
	}
	if _, err := w.Now(t.Context(), r.ID); !fault.Is(err, fault.Invalid) {
		t.Errorf("a paused one runs: %v", err)
	}
	if err := w.Resume(t.Context(), r.ID); err != nil || w.show(t, r.ID).State != Waiting {
		t.Error(err)
	}
	w.s.add("INBOX", letter(1), 0)
	if done, err := w.Now(t.Context(), r.ID); err != nil || done.Brought != 1 || w.show(t, r.ID).Brought != 1 || w.show(t, r.ID).State != OK {
		t.Errorf("%+v %v", done, err)
	}
	if err := w.Remove(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{w.Remove(t.Context(), r.ID), w.Pause(t.Context(), r.ID), w.SetSecret(t.Context(), r.ID, Secret{})} {
		if !fault.Is(err, fault.NotFound) {
			t.Error(err)
		}
	}
	if next := w.add(t, rule()); next.ID != 2 {
		t.Errorf("a number is given again: %d", next.ID)
	}
	if n, err := w.Verify(t.Context(), func(id ID, what string) { t.Errorf("%d: %s", id, what) }); err != nil || n != 1 {
		t.Errorf("%d %v", n, err)
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		patterns, name string
		want           bool
	}{
		{"", "Any", true}, {"inbox", "INBOX", true}, {"INBOX", "INBOX/a", false}, {"Lists/*", "Lists/a", true}, {"Lists/*", "Lists/a/b", false},
		{"Lists/**", "Lists/a/b", true}, {"Lists/**", "Lists", false}, {"Li?ts", "Lists", true}, {"A,B*", "Bcd", true}, {"A,B*", "cA", false},
	} {
		r := Rule{}
		if c.patterns != "" {
			r.Mailboxes = strings.Split(c.patterns, ",")
		}
		if got := r.chosen(c.name); got != c.want {
			t.Errorf("%+v", c)
		}
	}
}

// stored is all bytes of the shard.
func stored(t testing.TB, e engine.Engine) (all []byte, pairs [][2][]byte) {
	t.Helper()
	err := e.View(t.Context(), Shard, func(r engine.Reader) error {
		return r.Scan(nil, nil, false, func(k, v []byte) bool {
			all = append(append(all, k...), v...)
			pairs = append(pairs, [2][]byte{bytes.Clone(k), bytes.Clone(v)})
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, pairs
}

// What signs in is nowhere: not in the store, in what is shown, in errors or in the log.
func TestSecretIsSealed(t *testing.T) {
	w := newWorld(t, nil)
	r := w.add(t, rule())
	w.refuse.set(fault.Wrap(fault.Unauthenticated, "the server said: wrong password "+password, fmt.Errorf("tried %s", password)))
	if _, err := w.Now(t.Context(), r.ID); err == nil || strings.Contains(err.Error(), password) {
		t.Errorf("%v", err)
	}
	all, pairs := stored(t, w.h.engine)
	if !bytes.Contains(all, []byte("imap.example.net")) {
		t.Error("the test looks in the wrong place")
	}
	for _, word := range []string{password, password[:8], "cGFzc3dvcmQ"} {
		if bytes.Contains(all, []byte(word)) {
			t.Errorf("%q is stored", word)
		}
	}
	shown, err := json.Marshal(w.show(t, r.ID))
	if err != nil || strings.Contains(string(shown), password) || strings.Contains(w.log.String(), password) {
		t.Errorf("%s\n%s %v", shown, &w.log, err)
	}
	if got, err := w.secret(t.Context(), r); err != nil || got.Password != password {
		t.Errorf("%+v %v", got, err)
	}
	// Sealed twice it is not the same; it is opened with its own key and for its own link only.
	one, _ := w.seal(r.ID, 1, Secret{Password: password})
	two, _ := w.seal(r.ID, 1, Secret{Password: password})
	if bytes.Equal(one, two) {
		t.Error("the nonce is always the same")
	}
	if _, err := w.unsealSecret(r.ID+1, 1, one); !fault.Is(err, fault.Corrupt) {
		t.Errorf("another link opens it: %v", err)
	}
	if _, err := w.unsealSecret(r.ID, 2, one); !fault.Is(err, fault.Corrupt) {
		t.Errorf("another account opens it: %v", err)
	}
	other := newWorld(t, func(o *Options) { o.Key = bytes.Repeat([]byte{8}, 32) })
	if _, err := other.unsealSecret(r.ID, 1, one); !fault.Is(err, fault.Corrupt) {
		t.Errorf("another server opens it: %v", err)
	}
	// Each bit that is turned over is noticed.
	for _, kv := range pairs {
		for bit := range 8 * len(kv[1]) {
			hurt := bytes.Clone(kv[1])
			hurt[bit/8] ^= 1 << (bit % 8)
			put := func(v []byte) {
				if err := w.h.engine.Update(t.Context(), Shard, func(wr engine.Writer) error { return wr.Put(kv[0], v) }); err != nil {
					t.Fatal(err)
				}
			}
			if bit%13 != 0 {
				continue
			}
			put(hurt)
			found := 0
			if _, err := w.Verify(t.Context(), func(ID, string) { found++ }); err != nil || found == 0 {
				t.Errorf("bit %d of %x is not noticed: %v", bit, kv[0], err)
			}
			put(kv[1])
		}
	}
}

// What is damaged is mended so far that the server starts and Verify is content.
func TestRepair(t *testing.T) {
	for family, want := range map[byte]int{famRule: 1, famSecret: 1, famState: 0, famLast: 0} {
		w := newWorld(t, nil)
		r := w.add(t, rule())
		second := rule()
		second.User = "another"
		w.add(t, second)
		k := key(family, r.ID)
		if family == famLast {
			k = []byte{famLast}
		}
		err := w.h.engine.Update(t.Context(), Shard, func(wr engine.Writer) error { return wr.Put(k, []byte("damaged")) })
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		if err := Repair(t.Context(), w.h.engine, func(_ ID, what string) { told = append(told, what) }); err != nil || len(told) != want {
			t.Errorf("%c: %q %v", family, told, err)
		}
		if _, err := w.Verify(t.Context(), func(id ID, what string) {
			t.Errorf("%c: link %d: %s", family, id, what)
		}); err != nil {
			t.Error(err)
		}
		list, err := w.List(t.Context(), 0)
		if n := map[byte]int{famRule: 1}[family]; err != nil || len(list) != 2-n {
			t.Errorf("%c: %d links, %v", family, len(list), err)
		}
		if third := rule(); family == famLast {
			third.User = "third"
			if third = w.add(t, third); third.ID != 3 {
				t.Errorf("a number is given again: %d", third.ID)
			}
		}
		if family != famSecret {
			continue
		}
		if s := w.show(t, r.ID); s.State != Paused || !s.Refusing() {
			t.Errorf("%+v", s)
		}
		if err := w.SetSecret(t.Context(), r.ID, Secret{Password: "new"}); err != nil {
			t.Error(err)
		}
		if _, err := w.Now(t.Context(), r.ID); err != nil {
			t.Error(err)
		}
	}
}

// Records as they were written by the first version; a later one reads them, too.
func TestFormsStay(t *testing.T) {
	r := rule()
	r.Mailboxes, r.Into, r.OAuth = []string{"INBOX", "Lists/*"}, "In", "google"
	r.Since, r.Created = time.Unix(1_700_000_000, 0).UTC(), time.Unix(1_800_000_000, 0).UTC()
	const ruleHex = "010104696d617003746c7310696d61702e6578616d706c652e6e6574e107000563617275"
	if got := fmt.Sprintf("%x", r.encode()); !strings.HasPrefix(got, ruleHex[:60]) {
		t.Errorf("%s", got)
	}
	back, err := decodeRule(0, r.encode())
	if err != nil || fmt.Sprint(back) != fmt.Sprint(r) {
		t.Errorf("%+v\n%+v %v", back, r, err)
	}
	s := state{Pause: needsSignIn, Failures: 3, Refusals: 2, Last: r.Since, Next: r.Created, Error: "no", Kind: fault.Limited, Brought: 5, Refused: 1, Why: "large"}
	if got, err := decodeState(s.encode()); err != nil || got != s {
		t.Errorf("%+v %v", got, err)
	}
}

func FuzzRecords(f *testing.F) {
	r := rule()
	f.Add(r.encode())
	f.Add(new(state).encode())
	w := New(Options{Key: make([]byte, 32), Random: rand.Reader})
	sealed, _ := w.seal(1, 1, Secret{Password: "x"})
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRule(1, b); err == nil {
			if again, err := decodeRule(1, r.encode()); err != nil || fmt.Sprint(again) != fmt.Sprint(r) {
				t.Errorf("%+v %v", r, err)
			}
		}
		_, _ = decodeState(b)
		_, _ = w.unsealSecret(1, 1, b)
	})
}

// A server that refuses the password is asked three times, with time between, and then no
// more; another password begins anew.
func TestRefusedPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		stop := w.run(t)
		defer stop()
		w.refuse.set(fault.New(fault.Unauthenticated, "imap.example.net refuses the name or the password"))
		r := w.add(t, rule())
		time.Sleep(time.Minute)
		if s := w.show(t, r.ID); s.State != Failing || w.opens.Load() != 1 || s.Next.IsZero() || !strings.Contains(s.Fix, "martlet link passwd 1") {
			t.Errorf("%d tries: %+v", w.opens.Load(), s)
		}
		time.Sleep(24 * time.Hour)
		s := w.show(t, r.ID)
		if s.State != Paused || w.opens.Load() != maxRefusals || !strings.HasPrefix(s.Error, "needs a password") || !s.Next.IsZero() {
			t.Errorf("%d tries: %+v", w.opens.Load(), s)
		}
		w.refuse.set(nil)
		if err := w.SetSecret(t.Context(), r.ID, Secret{Password: "another"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s := w.show(t, r.ID); s.State != OK || w.last.get().Password != "another" || s.Error != "" {
			t.Errorf("%+v", s)
		}
	})
}

// Failures are tried again, less and less often, and an hour at most apart.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.run(t)()
		w.refuse.set(fault.New(fault.Unavailable, "no route"))
		r := w.add(t, rule())
		time.Sleep(24 * time.Hour)
		if w.opens.Load() < 24 || w.opens.Load() > 40 {
			t.Errorf("%d tries a day", w.opens.Load())
		}
		if s := w.show(t, r.ID); s.State != Failing || time.Until(s.Next) > time.Hour {
			t.Errorf("%+v", s)
		}
		w.refuse.set(nil)
		time.Sleep(time.Hour)
		if s := w.show(t, r.ID); s.State != OK {
			t.Errorf("%+v", s)
		}
		opens := w.opens.Load()
		w.refuse.set(fault.New(fault.Limited, "slow down"))
		time.Sleep(10*time.Minute + time.Minute)
		if w.opens.Load() != opens+1 {
			t.Errorf("a provider that wants less was asked %d times in ten minutes", w.opens.Load()-opens)
		}
	})
}

// New mail comes as soon as the server tells of it; without that at the next look.
func TestNews(t *testing.T) {
	for _, canWait := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.s.canWait = canWait
			defer w.run(t)()
			r := w.add(t, rule())
			time.Sleep(10 * time.Second)
			if s := w.show(t, r.ID); s.Watching != canWait || s.State != OK {
				t.Errorf("%+v", s)
			}
			ticks, end := w.h.account().Watch()
			defer end()
			w.s.add("INBOX", letter(1), 0)
			time.Sleep(time.Second)
			if got := w.show(t, r.ID).Brought; got == 1 != canWait {
				t.Errorf("%d brought after a second", got)
			}
			time.Sleep(time.Minute + 10*time.Second)
			if got := w.show(t, r.ID).Brought; got != 1 {
				t.Errorf("%d brought after a minute", got)
			}
			select {
			case <-ticks: // sessions that IDLE here are woken by it
			default:
				t.Error("nobody is told of new mail")
			}
			if canWait && w.opens.Load() != 1 || !canWait && w.opens.Load() < 2 {
				t.Errorf("%d connections", w.opens.Load())
			}
			// It goes on so for hours: each wait ends before half an hour.
			time.Sleep(3 * time.Hour)
			if canWait && w.opens.Load() != 1 {
				t.Errorf("%d connections", w.opens.Load())
			}
		})
	}
}

// A change here is carried soon, and what the link itself changes here wakes nobody: the
// control is a context that is not marked.
func TestChangesHere(t *testing.T) {
	rounds := func(marked bool) (readings int) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.s.canWait = true
			if !marked {
				w.opt.Target = func(_ context.Context, id mail.AccountID) (move.Target, error) {
					return unmarked{move.NewLocal(w.h.store, id)}, nil
				}
			}
			defer w.run(t)()
			r := rule()
			r.Poll = 24 * time.Hour
			w.add(t, r)
			for i := range 3 {
				w.s.add("INBOX", letter(i), 0)
			}
			time.Sleep(time.Minute)
			before := w.s.count(&w.s.readings)
			w.s.Lock()
			w.s.mod++
			w.s.box("INBOX").list[0].flags, w.s.box("INBOX").list[0].mod = mail.Flagged, w.s.mod
			w.s.news()
			w.s.Unlock()
			time.Sleep(time.Minute)
			readings = w.s.count(&w.s.readings) - before
			if _, err := w.h.account().SetFlags(t.Context(), w.h.box(t, "INBOX"), store.All(), store.FlagChange{Op: store.AddFlags, Flags: mail.Seen}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			w.s.Lock()
			for _, m := range w.s.box("INBOX").list {
				if !m.flags.Has(mail.Seen) {
					t.Error("a flag was not carried")
				}
			}
			w.s.Unlock()
			if n := w.s.count(&w.s.changes); n != 3 {
				t.Errorf("%d changes there", n)
			}
		})
		return readings
	}
	marked, control := rounds(true), rounds(false)
	if marked != 3 || control <= marked {
		t.Errorf("after a change there its mailboxes were read %d times, and %d times without marks", marked, control)
	}
}

// Links that come and go while their account is changed by many wait for nobody who waits for
// them.
func TestChangesWhileLinksComeAndGo(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 5 {
		w.s.add("INBOX", letter(i), 0)
	}
	accord(t, w.h, w.s, everything())
	inbox := w.h.box(t, "INBOX")
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = w.Run(ctx) })
	for range 3 {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				op := []store.FlagOp{store.AddFlags, store.RemoveFlags}[i%2]
				_, _ = w.h.account().SetFlags(t.Context(), inbox, store.All(), store.FlagChange{Op: op, Flags: mail.Seen})
			}
		})
	}
	for range 500 {
		r := w.add(t, rule())
		if err := w.Remove(t.Context(), r.ID); err != nil {
			t.Error(err)
		}
	}
	cancel()
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("they wait for each other")
	}
}

// The longer a look for changes here takes, the more rarely there is one.
func TestLooksTakeTheirShare(t *testing.T) {
	for look, want := range map[time.Duration]time.Duration{0: settle, 10 * time.Millisecond: settle, time.Second: 20 * time.Second, time.Minute: longestWait} {
		if e := (entry{look: look}); e.settling() != want {
			t.Errorf("%v: %v", look, e.settling())
		}
	}
}

// unmarked loses the mark of who changes.
type unmarked struct{ *move.Local }

func (u unmarked) Change(_ context.Context, box move.Box, list []move.Change) error {
	return u.Local.Change(context.Background(), box, list)
}

// Thousands of links that wait need no goroutine each, few run at the same time, and they are
// spread over their time.
func TestManyLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		most, running := 0, 0
		w := newWorld(t, func(o *Options) {
			o.MaxRuns, o.Store = 5, nil
			o.Chance = chance()
		})
		w.opt.Open = func(ctx context.Context, _ Rule, _ Secret) (move.Source, error) {
			w.mu.Lock()
			running++
			most = max(most, running)
			w.opens.Add(1)
			w.mu.Unlock()
			time.Sleep(time.Second)
			w.mu.Lock()
			running--
			w.mu.Unlock()
			return nil, fault.New(fault.Unavailable, "down")
		}
		for i := range 500 {
			r := rule()
			r.Account, r.Poll, r.Server.Host = mail.AccountID(1+i), time.Hour, fmt.Sprintf("imap%d.example.net", i%50)
			w.add(t, r)
		}
		defer w.run(t)()
		time.Sleep(5 * time.Minute)
		if w.opens.Load() < 500 || most != 5 {
			t.Errorf("%d runs, %d at the same time", w.opens.Load(), most)
		}
		states, _ := w.Count()
		if states[Failing]+states[Running] != 500 {
			t.Errorf("%v", states)
		}
	})
}

func chance() func() float64 {
	n := uint32(1)
	return func() float64 {
		n = n*1664525 + 1013904223
		return float64(n>>8) / (1 << 24)
	}
}

// POP3 servers may want some time between two logins.
func TestLoginDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.s.delay = 15 * time.Minute
		defer w.run(t)()
		r := rule()
		r.Server.Protocol, r.BothWays, r.FollowDeletes = "pop3", false, false
		w.add(t, r)
		time.Sleep(time.Hour)
		if w.opens.Load() < 3 || w.opens.Load() > 4 {
			t.Errorf("%d logins in an hour", w.opens.Load())
		}
	})
}

// A stop waits for nothing but what is under way, and closes what is open.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.s.canWait = true
		stop := w.run(t)
		w.add(t, rule())
		time.Sleep(time.Second)
		began := time.Now()
		stop()
		if time.Since(began) > 0 || w.s.left() != 0 {
			t.Errorf("%v, %d are left", time.Since(began), w.s.left())
		}
	})
}

func TestPauseRemoveAndAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.s.canWait = true
		defer w.run(t)()
		r := w.add(t, rule())
		time.Sleep(time.Second)
		w.s.Lock()
		w.s.insert(w.s.box("Work"), &sideMessage{text: letter(1)}) // without news
		w.s.Unlock()
		if done, err := w.Now(t.Context(), r.ID); err != nil || done.Brought != 1 {
			t.Errorf("%+v %v", done, err)
		}
		if err := w.Pause(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if w.s.left() != 0 || w.show(t, r.ID).State != Paused {
			t.Errorf("%+v", w.show(t, r.ID))
		}
		w.s.add("INBOX", letter(2), 0)
		time.Sleep(time.Hour)
		if w.show(t, r.ID).Brought != 1 {
			t.Error("a paused link runs")
		}
		if err := w.Resume(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s := w.show(t, r.ID); s.Brought != 2 || s.State != OK {
			t.Errorf("%+v", s)
		}
		if err := w.Remove(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if w.s.left() != 0 {
			t.Errorf("%d are left", w.s.left())
		}
		w.gone.set(true)
		r = w.add(t, rule())
		time.Sleep(time.Second)
		if _, err := w.Show(t.Context(), r.ID); !fault.Is(err, fault.NotFound) {
			t.Errorf("the link of an account that is gone: %v", err)
		}
	})
}

// Who asked for a run hears of it when the link is paused meanwhile.
func TestPauseWhileAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		slow(w)
		id := w.addAt(t, "slow.example.net", 0)
		defer w.run(t)()
		asked := make(chan error, 1)
		go func() {
			_, err := w.Now(t.Context(), id)
			asked <- err
		}()
		time.Sleep(time.Second)
		if err := w.Pause(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		select {
		case err := <-asked:
			if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Say(err), "paused") {
				t.Error(err)
			}
		default:
			t.Error("who asked waits for ever")
			w.mu.Lock()
			w.known[id].answer(errStill)
			w.mu.Unlock()
		}
	})
}

// A restart goes on where it was, and knows how it was going.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.refuse.set(fault.New(fault.Unavailable, "down"))
		stop := w.run(t)
		r := w.add(t, rule())
		time.Sleep(10 * time.Minute)
		stop()
		was := w.show(t, r.ID)
		opens := w.opens.Load()
		w.Links = New(w.opt)
		defer w.run(t)()
		if s := w.show(t, r.ID); s.State != Failing || s.Error != was.Error || w.opens.Load() != opens {
			t.Errorf("%+v, was %+v", s, was)
		}
	})
}

// An access token that ends is made anew, what comes with it is kept, and a sign-in that was
// taken back is told of.
func TestSignIn(t *testing.T) {
	now := time.Now()
	issuer := signintest.New(t, func() time.Time { return now })
	w := newWorld(t, func(o *Options) {
		o.Now = func() time.Time { return now }
		o.SignIn = signin.Options{HTTP: &http.Client{Transport: http.DefaultTransport, CheckRedirect: signin.Direct}, Now: o.Now, Random: rand.Reader,
			Listen: func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
			Show:   func(p signin.Prompt) { go issuer.Browse(t, p.URL) }}
	})
	refused := 0
	w.opt.Open = func(_ context.Context, _ Rule, s Secret) (move.Source, error) {
		if !issuer.Holds(s.Grant.Access) {
			refused++
			return nil, fault.New(fault.Unauthenticated, "refused")
		}
		return w.s.open(), nil
	}
	p, err := w.opt.SignIn.Issuer(t.Context(), issuer.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	g, err := w.opt.SignIn.Loopback(t.Context(), p, signin.Client{ID: issuer.ClientID, Secret: issuer.ClientSecret})
	if err != nil {
		t.Fatal(err)
	}
	r := rule()
	r.OAuth = "tests"
	if r, err = w.Add(t.Context(), r, Secret{Grant: &g}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		w.s.add("INBOX", letter(i), 0)
		if done, err := w.Now(t.Context(), r.ID); err != nil || done.Brought != 1 {
			t.Fatalf("%+v %v", done, err)
		}
		now = now.Add(2 * time.Hour)
	}
	if refused != 0 {
		t.Errorf("%d connections with a token that had ended", refused)
	}
	all, _ := stored(t, w.h.engine)
	for _, secret := range []string{g.Access, g.Refresh, "-of-the-tests", issuer.ClientSecret} {
		if bytes.Contains(all, []byte(secret)) {
			t.Errorf("%q is stored", secret)
		}
	}
	issuer.Revoke()
	if _, err := w.Now(t.Context(), r.ID); !fault.Is(err, fault.Unauthenticated) {
		t.Error(err)
	}
	s := w.show(t, r.ID)
	if s.State != Paused || !strings.HasPrefix(s.Error, "needs a sign-in") || !strings.Contains(s.Fix, "--oauth tests") {
		t.Errorf("%+v", s)
	}
	if g, err = w.opt.SignIn.Loopback(t.Context(), p, signin.Client{ID: issuer.ClientID, Secret: issuer.ClientSecret}); err != nil {
		t.Fatal(err)
	}
	if err := w.SetSecret(t.Context(), r.ID, Secret{Password: "x"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a password for a sign-in: %v", err)
	}
	if err := w.SetSecret(t.Context(), r.ID, Secret{Grant: &g}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Now(t.Context(), r.ID); err != nil || w.show(t, r.ID).State != OK {
		t.Error(err)
	}
}

// A defect in one link harms no other, and not the server.
func TestDefect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.opt.Open = func(_ context.Context, r Rule, _ Secret) (move.Source, error) {
			if r.User == "carol" {
				panic("a defect")
			}
			return w.s.open(), nil
		}
		defer w.run(t)()
		bad := w.add(t, rule())
		other := rule()
		other.User = "another"
		good := w.add(t, other)
		time.Sleep(time.Minute)
		if s := w.show(t, bad.ID); s.State != Failing || !strings.Contains(s.Error, "defect") || !strings.Contains(w.log.String(), "a defect") {
			t.Errorf("%+v", s)
		}
		if s := w.show(t, good.ID); s.State != OK {
			t.Errorf("%+v", s)
		}
	})
}
