package imapd

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// newNodes returns a world of several nodes. Mail arrives at the first, and clients are at
// the others, one after another.
func newNodes(t testing.TB, n int, keep store.Keep) (*world, []*enginetest.Node) {
	t.Helper()
	eng, err := pebble.Open("db", pebble.Options{Now: time.Now, FS: vfs.NewMem(), MemTableBytes: 1 << 20, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	nodes := enginetest.Nodes(eng, n)
	engines := make([]engine.Engine, n)
	for i := range nodes {
		engines[i] = nodes[i]
	}
	return worldOf(t, engines, keep), nodes
}

// worldOf returns a world whose nodes have these handles of one engine.
func worldOf(t testing.TB, engines []engine.Engine, keep store.Keep) *world {
	t.Helper()
	w := newWorldOver(t, engines[0], keep)
	if err := w.imap.opt.Directory.AddDomain(w.ctx, "example.org"); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"alice", "bob"} {
		if err := w.account(who); err != nil {
			t.Fatal(err)
		}
	}
	w.findAlice()
	for _, eng := range engines[1:] {
		other := newWorldOver(t, eng, keep)
		other.findAlice()
		w.others = append(w.others, other)
	}
	return w
}

// hints are the ways in which a node may hear of what others do.
var hints = map[string]func(t testing.TB, n *enginetest.Node){
	"told": func(testing.TB, *enginetest.Node) {},
	"late": func(t testing.TB, n *enginetest.Node) { // out of order, and after others have looked
		var under sync.WaitGroup
		t.Cleanup(under.Wait)
		n.Hints(func(_ engine.Shard, deliver func()) {
			under.Go(func() {
				time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
				deliver()
			})
		})
	},
	"lost": func(t testing.TB, n *enginetest.Node) { // what is polled now and then is the truth
		n.Lose()
		end, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-end:
					return
				case <-time.After(5 * time.Millisecond):
					n.Poll()
				}
			}
		}()
		t.Cleanup(func() { close(end); <-ended })
	},
}

// recentElsewhere are transcripts in which a client is told that something is not \Recent
// since another has been told of it. On another node it is: which session is the first to
// be told of a message is not known there, and then it should be (RFC 3501, 2.3.2).
var recentElsewhere = map[string]bool{
	"client_neomutt": true, "elsewhere": true, "idle": true, "notify": true, "qresync": true, "select": true, "three_clients": true,
}

var recentLine = regexp.MustCompile(`^\* \d+ RECENT$`)

func withoutRecent(line string) string {
	return strings.NewReplacer(` \Recent`, "", `\Recent `, "", `\Recent`, "").Replace(line)
}

// Every transcript is one of clients on nodes of their own, too: who delivers, who changes
// and who is told are on three.
func TestTranscriptsOverNodes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts:", err)
	}
	for how, set := range hints {
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".txt")
			t.Run(how+"/"+name, func(t *testing.T) {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				keep := store.Keep{}
				if strings.Contains(string(text), "\nkeep\n") {
					keep.For = 30 * 24 * time.Hour
				}
				w, nodes := newNodes(t, 3, keep)
				w.recents = recentElsewhere[name]
				w.known = func() {
					for _, n := range nodes {
						n.Poll()
					}
				}
				for _, n := range nodes {
					set(t, n)
				}
				w.run(file)
			})
		}
	}
}

// The sessions of a story agree wherever each of them is.
func TestSessionsAgreeOverNodes(t *testing.T) {
	for i := range uint64(*sessionRuns) / 2 {
		seed := *sessionSeed + i
		how := []string{"told", "late", "lost"}[seed%3]
		t.Run(fmt.Sprint(seed, " ", how), func(t *testing.T) {
			keep := store.Keep{}
			if seed%2 == 1 {
				keep.For = 30 * 24 * time.Hour
			}
			w, nodes := newNodes(t, 2+int(seed%2), keep)
			for _, n := range nodes {
				hints[how](t, n)
			}
			s := &story{
				t: t, w: w, rng: rand.New(rand.NewPCG(seed, 2)),
				file: filepath.Join(os.TempDir(), fmt.Sprintf("martlet-nodes-%d.txt", seed)),
			}
			if s.keep = keep.For > 0; s.keep {
				s.script.WriteString("\nkeep\n")
			}
			s.play(2+s.rng.IntN(9), 200)
			if lost := s.lost(); s.keep && lost != 0 {
				s.failf("%d messages are neither in a mailbox nor kept", lost)
			}
		})
	}
}

// deaf is a node whose engine breaks its promise: nobody is told of foreign changes.
type deaf struct{ *enginetest.Node }

func (deaf) Foreign(engine.Shard, func()) func() { return func() {} }

// A command tells of what another node did before it began, by the look at the account that
// it took anyhow. The control, which is not told what that look has found, knows nothing.
func TestNextCommandTellsOfOtherNodes(t *testing.T) {
	for _, control := range []bool{false, true} {
		_, nodes := newNodes(t, 2, store.Keep{})
		engines := []engine.Engine{nodes[0], nodes[1]}
		if nodes[1].Lose(); control {
			engines[1] = deaf{nodes[1]}
		}
		w := worldAgain(t, engines)
		w.deliver("INBOX", message("first"), 0)
		c := w.login("A", "")
		c.command(t, "SELECT INBOX")
		c.command(t, "NOOP") // the first look after one attends is a full one anyhow
		for i := range 3 {
			w.deliver("INBOX", message("news"), 0)
			lines, _ := c.command(t, "FETCH 1 BODY.PEEK[HEADER]")
			if told := slices.Contains(lines, fmt.Sprintf("* %d EXISTS", i+2)); told == control {
				t.Errorf("control %v, told: %q", control, lines)
			}
		}
	}
}

// worldAgain is worldOf for an engine that has its accounts.
func worldAgain(t testing.TB, engines []engine.Engine) *world {
	t.Helper()
	w := newWorldOver(t, engines[0], store.Keep{})
	w.findAlice()
	for _, eng := range engines[1:] {
		other := newWorldOver(t, eng, store.Keep{})
		other.findAlice()
		w.others = append(w.others, other)
	}
	return w
}

// Sessions that know what the database has lost end, at once if they idle, and change nothing of
// what has come in its place; others go on.
func TestSetBackEndsSessions(t *testing.T) {
	w, nodes := newNodes(t, 2, store.Keep{})
	shard := engine.Shard(1<<32 + uint64(w.alice.ID()))
	w.deliver("INBOX", message("first"), 0)
	before, err := enginetest.RecordsOf(w.ctx, nodes[0], shard)
	if err != nil {
		t.Fatal(err)
	}
	early := w.login("early", "") // knows nothing that will be lost
	early.command(t, "SELECT INBOX")
	w.deliver("INBOX", message("lost"), 0)
	sessions := map[string]*client{}
	for _, asks := range []string{"NOOP", "FETCH 2 FLAGS", "FETCH 2 BODY.PEEK[]", "STORE 2 +FLAGS (\\Deleted)", "UID STORE 2 +FLAGS.SILENT (\\Deleted)",
		"EXPUNGE", "UID EXPUNGE 2", "UID MOVE 2 Archive", "COPY 2 Archive", "CLOSE", "SEARCH BODY first",
		"UID REPLACE 2 INBOX {24+}\r\nSubject: new\r\n\r\nbody\r\n\r\n", "IDLE"} {
		c := w.login(asks, "")
		c.command(t, "SELECT INBOX")
		if sessions[asks] = c; asks == "IDLE" {
			c.send(t, "zz IDLE\r\n")
			c.read(t)
		}
	}
	if err := before.SetBack(w.ctx, nodes[0], shard); err != nil {
		t.Fatal(err)
	}
	w.deliver("INBOX", message("other"), mail.Deleted)
	for asks, c := range sessions {
		if asks != "IDLE" {
			c.send(t, "zz "+asks+"\r\n")
		}
		bye := false
		for line, ok := c.read(t); ok; line, ok = c.read(t) {
			bye = bye || strings.HasPrefix(line, "* BYE ")
			if strings.HasPrefix(line, "zz ") || strings.Contains(line, "other") {
				t.Errorf("%s: %s", asks, line)
			}
			if strings.HasPrefix(line, "zz ") {
				break
			}
		}
		if !bye {
			t.Errorf("%s: the session goes on", asks)
		}
	}
	if lines, tagged := early.command(t, "NOOP"); !slices.Contains(lines, "* 2 EXISTS") {
		t.Errorf("a session that knew nothing of it: %q, %s", lines, tagged)
	}
	again := w.login("again", "")
	lines, _ := again.command(t, "SELECT INBOX")
	more, _ := again.command(t, "FETCH 2 (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
	if all := strings.Join(append(lines, more...), "\n"); !strings.Contains(all, "* 2 EXISTS") || !strings.Contains(all, "other") || !strings.Contains(all, `FLAGS (\Deleted)`) {
		t.Errorf("what came in the place of what was lost is not as it came: %s", all)
	}
}

// What is kept of the messages of a mailbox is not taken for that of others which have come in
// their place, under the same UIDs.
func TestSetBackArrangesAnew(t *testing.T) {
	w, nodes := newNodes(t, 2, store.Keep{})
	shard := engine.Shard(1<<32 + uint64(w.alice.ID()))
	before, err := enginetest.RecordsOf(w.ctx, nodes[0], shard)
	if err != nil {
		t.Fatal(err)
	}
	w.deliver("INBOX", message("lost"), 0)
	lost := w.picture("INBOX")
	if err := before.SetBack(w.ctx, nodes[1], shard); err != nil {
		t.Fatal(err)
	}
	w.deliver("INBOX", message("other"), 0)
	now := w.picture("INBOX")
	if lost.Len() != now.Len() || lost.UID(1) != now.UID(1) {
		t.Fatal("they differ: nothing is tried")
	}
	if kept := membersOf(lost); kept.fits(now) || !kept.fits(lost) {
		t.Error("an order of what was lost fits")
	}
}
