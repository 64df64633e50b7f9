// Package backup holds the proof of backups on the real program: made while mail comes,
// goes and waits, brought back elsewhere, and compared with a ledger.
//
// It looks at what the store holds by opening the restored folder itself; the form of
// repositories, and what disks do to them, is internal/backup's to prove.
package backup

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/promise"
)

// TestBackupInTraffic makes backups of the real server while it takes mail in by LMTP, lets
// an IMAP client delete some, and takes mail for other hosts that waits; now and then the
// command is killed and run again. Each backup is brought back into another folder, where
// `martlet verify` must find all whole, and every account must be as it was at one moment
// after the backup began.
func TestBackupInTraffic(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	r := newRun(t)
	trials := promise.Times(t, "R16", 1, 100)
	load := r.begin()
	kills := 0
	for n := range trials {
		time.Sleep(time.Duration(200+r.rng.IntN(800)) * time.Millisecond)
		if n%3 == 1 {
			r.killedBackup(time.Duration(5+r.rng.IntN(60)) * time.Millisecond)
			kills++
		}
		began := r.ledger.now()
		r.must(r.server.Command("backup", r.repo, "--json"))
		r.compare(n, began)
		if n%10 == 9 {
			r.must(r.server.Command("backup", "prune", r.repo, "--keep-last", "3"))
		}
		if t.Failed() {
			break
		}
	}
	load()
	r.must(r.server.Command("backup", "verify", r.repo))
	r.control()
	acked := r.ledger.now()
	if acked.total() < 20*trials {
		t.Errorf("%d messages in %d trials: too little for a proof", acked.total(), trials)
	}
	promise.Kept(t, "R16", "backups", trials, "killed before", kills, "messages acknowledged", acked.total(), "lost", 0, "never sent", 0, "torn", 0)
}

// run is one server under load and the folders of its backups.
type run struct {
	t      *testing.T
	rng    *rand.Rand
	binary string
	server *martlet.Server
	repo   string
	ledger *ledger
}

func newRun(t *testing.T) *run {
	r := &run{t: t, rng: rand.New(rand.NewPCG(16, 16)), ledger: newLedger(), repo: filepath.Join(t.TempDir(), "backup")}
	if r.binary = os.Getenv("MARTLET_BINARY"); r.binary == "" {
		r.binary = filepath.Join(t.TempDir(), "martlet")
		cmd := exec.Command("go", "build", "-o", r.binary, "./cmd/martlet")
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("the server does not build: %v\n%s", err, out)
		}
	}
	var err error
	r.server, err = martlet.Start(martlet.Options{
		Binary: r.binary, Dir: filepath.Join(t.TempDir(), "data"), Accounts: []string{"carol"},
		Set: map[string]string{"queue.resolver": `"127.0.0.1:9"`, "deleted.keep": `"0s"`},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.server.Kill)
	return r
}

func (r *run) must(out string, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("%v\n%s\n%s", err, out, r.server.LogTail(10))
	}
}

// begin starts the load and returns what ends it.
func (r *run) begin() (end func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	work := func(what string, fn func(stop <-chan struct{}) error) {
		wg.Go(func() {
			if err := fn(stop); err != nil {
				r.t.Errorf("%s: %v", what, err)
			}
		})
	}
	for i, name := range []string{"alice", "bob", "carol"} {
		rng := rand.New(rand.NewPCG(3, uint64(i)))
		work("lmtp to "+name, func(stop <-chan struct{}) error { return r.deliver(name, rng, stop) })
	}
	work("deleting", func(stop <-chan struct{}) error { return r.remove("bob", stop) })
	work("submission", r.submit)
	return func() { close(stop); wg.Wait() }
}

// killedBackup begins a backup and kills the command.
func (r *run) killedBackup(after time.Duration) {
	cmd := exec.Command(r.binary, "backup", r.repo, "--config", r.server.Config)
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	time.Sleep(after)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	// The server notices that the caller has gone at its next word to him.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, err := r.server.Command("backup", r.repo)
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "is in use") || time.Now().After(deadline) {
			r.t.Fatalf("%v\n%s", err, out)
		}
	}
}

// compare brings the newest snapshot back elsewhere and holds it against the ledger.
func (r *run) compare(n int, began moment) {
	dir := filepath.Join(r.t.TempDir(), "elsewhere")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	config := filepath.Join(dir, "martlet.toml")
	if err := os.WriteFile(config, []byte("hostname = \"elsewhere.example\"\ndata = \"data\"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.must(r.command(config, "restore", r.repo, "--whole"))
	r.must(r.command(config, "verify", "--json"))
	found, err := holds(filepath.Join(dir, "data", "store"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, wrong := range r.ledger.wrong(found, began) {
		r.t.Errorf("backup %d: %s", n, wrong)
	}
}

func (r *run) command(config string, args ...string) (string, error) {
	out, err := exec.Command(r.binary, append(args, "--config", config)...).CombinedOutput()
	return string(out), err
}

// control puts lies into the ledger, each of which it must notice.
func (r *run) control() {
	began := r.ledger.now()
	found := r.ledger.all()
	for _, lie := range []func(f map[string]map[string]int, l *ledger){
		func(f map[string]map[string]int, _ *ledger) { delete(f["alice"], tokenOf("alice", 3)) },
		func(f map[string]map[string]int, _ *ledger) { f["alice"]["alice-1000000"] = 1 },
		func(f map[string]map[string]int, _ *ledger) { f["alice"][tokenOf("alice", 3)] = 2 },
		func(f map[string]map[string]int, _ *ledger) { delete(f["queue"], tokenOf("queue", 0)) },
	} {
		now := map[string]map[string]int{}
		for stream := range found {
			now[stream] = maps.Clone(found[stream])
		}
		if wrong := r.ledger.wrong(now, began); len(wrong) != 0 {
			r.t.Errorf("the control begins with %v", wrong)
		}
		if lie(now, r.ledger); len(r.ledger.wrong(now, began)) == 0 {
			r.t.Error("a lie is not noticed")
		}
	}
}

// holds returns how often a data folder has each token, by stream.
func holds(dir string) (found map[string]map[string]int, err error) {
	ctx := context.Background()
	eng, err := pebble.Open(dir, pebble.Options{FS: vfs.Default, Now: time.Now})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, eng.Close()) }()
	st, err := store.Open(eng, store.Options{Now: time.Now})
	if err != nil {
		return nil, err
	}
	defer st.Close()
	d, err := directory.Open(ctx, eng, st, directory.Options{Now: time.Now, Rand: crand.Reader})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	found = map[string]map[string]int{}
	for a, err := range d.Accounts(ctx, "") {
		if err != nil {
			return nil, err
		}
		if found[a.Address.Local], err = tokens(ctx, st.Account(a.ID)); err != nil {
			return nil, err
		}
	}
	found["queue"] = map[string]int{}
	q := queue.New(eng, st, queue.Options{
		Hostname: "elsewhere.example", Now: time.Now, Rand: rand.Float64, Random: crand.Reader,
		Report: func(context.Context, string, mail.Envelope, io.Reader) error { return nil },
	})
	err = q.List(ctx, queue.Filter{}, func(i queue.Info) bool {
		for _, to := range i.To {
			found["queue"][to.Local]++
		}
		return true
	})
	return found, err
}

// tokens reads the subjects of an account's messages.
func tokens(ctx context.Context, a *store.Account) (map[string]int, error) {
	n := map[string]int{}
	return n, a.View(ctx, func(s *store.Snapshot) error {
		boxes, err := s.Mailboxes()
		if err != nil {
			return err
		}
		for _, b := range boxes {
			pic, err := a.Picture(ctx, b.ID)
			if err != nil {
				return err
			}
			for _, m := range pic.Messages(store.All()) {
				head, err := s.Head(nil, m.ID)
				if err != nil {
					return err
				}
				if _, rest, ok := strings.Cut(string(head), tokenField); ok {
					token, _, _ := strings.Cut(rest, "\r\n")
					n[token]++
				}
			}
		}
		return nil
	})
}

const tokenField = "X-Ledger: "

func tokenOf(stream string, n int) string { return fmt.Sprintf("%s-%d", stream, n) }

// ledger is what was tried and what was said yes to. Each stream sends one message after
// the other, so what is there of it at any moment is what was sent up to some message,
// without what somebody has begun to delete.
type ledger struct {
	mu      sync.Mutex
	tried   map[string]int  // messages begun, by stream
	acked   map[string]int  // messages said yes to
	deleted map[string]bool // tokens that somebody has begun to delete
}

// moment is how many messages of each stream had been said yes to.
type moment map[string]int

func (m moment) total() (n int) {
	for _, k := range m {
		n += k
	}
	return n
}

func newLedger() *ledger {
	return &ledger{tried: map[string]int{}, acked: map[string]int{}, deleted: map[string]bool{}}
}

func (l *ledger) now() moment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.acked)
}

func (l *ledger) try(stream string) (token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	token = tokenOf(stream, l.tried[stream])
	l.tried[stream]++
	return token
}

func (l *ledger) said(stream string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[stream]++
}

func (l *ledger) deletes(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deleted[token] = true
}

// all is what there would be now if all was well.
func (l *ledger) all() map[string]map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]map[string]int{}
	for stream, n := range l.acked {
		out[stream] = map[string]int{}
		for i := range n {
			if token := tokenOf(stream, i); !l.deleted[token] {
				out[stream][token] = 1
			}
		}
	}
	return out
}

// wrong tells how what was found is not one moment of each stream after the backup began.
func (l *ledger) wrong(found map[string]map[string]int, began moment) (wrong []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for stream, tried := range l.tried {
		got := found[stream]
		last := began[stream] - 1 // everything up to here must be there, or be deleted
		known := map[string]int{}
		for i := range tried {
			known[tokenOf(stream, i)] = i
		}
		for token, n := range got {
			i, ok := known[token]
			if !ok {
				wrong = append(wrong, token+" was never sent")
			}
			if n != 1 {
				wrong = append(wrong, fmt.Sprintf("%s is there %d times", token, n))
			}
			last = max(last, i)
		}
		for i := range last + 1 {
			if token := tokenOf(stream, i); got[token] == 0 && !l.deleted[token] {
				wrong = append(wrong, fmt.Sprintf("%s is not there; %d had been said yes to, and %s is there", token, began[stream], tokenOf(stream, last)))
			}
		}
	}
	slices.Sort(wrong)
	return wrong[:min(len(wrong), 10)]
}
