package crash

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/promise"
	"github.com/martlet-mail/martlet/test/traffic"
)

// The servers of TestKill live for so many kills each: what they hold grows, and with it
// the time to look at all of it.
const killsPerFolder = 50

// TestR1Kill sends mail to the real server by LMTP, SMTP, submission and IMAP APPEND, has
// it send some on to another host, moves mail and deletes some over IMAP and POP3, kills
// the server with SIGKILL again and again, and after each time wants to find whatever it
// said yes to: exactly once, under the UID it told.
//
// A message for the other host is there once, too, but for those that were under way when
// the server was killed: it cannot know of an answer that came when it was dead.
func TestR1Kill(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	n := promise.Times(t, "R1", 50, 1000)
	binary := traffic.Binary(t)
	var yes, maybe, out, again int
	for first := 0; first < n && !t.Failed(); first += killsPerFolder {
		k := startKiller(t, binary, uint64(first))
		for round := range min(n-first, killsPerFolder) {
			if !k.round(binary, first+round) {
				t.Fatalf("the log ends\n%s", k.Server.LogTail(8))
			}
		}
		k.verify()
		if err := k.Ledger.Control(k.Server); err != nil {
			t.Error(err)
		}
		y, m := k.Ledger.Counts()
		yes, maybe = yes+y, maybe+m
		for _, times := range k.Ledger.Sink.Seen() {
			out, again = out+1, again+times-1
		}
		k.Server.Kill()
	}
	// At most so many sessions with one domain are under way at a time, also while the
	// server comes up and is killed once more.
	if most := 5 * (n + n/2); again > most {
		t.Errorf("%d messages went out again after %d kills, more than the %d that can have been under way", again, n, most)
	}
	if yes < 5*n || maybe < n/2 || out < n/2 {
		t.Errorf("%d acknowledged, %d cut off, %d sent on: too little for a proof", yes, maybe, out)
	}
	promise.Kept(t, "R1", "kills", n, "acknowledged", yes, "cut off", maybe, "sent on", out, "lost", 0, "dup", 0, "sent again after a kill", again)
}

// startKiller starts a server in a folder of its own.
func startKiller(t *testing.T, binary string, seed uint64) *killer {
	sink := traffic.StartSink(t)
	server, err := martlet.Start(martlet.Options{
		Binary: binary, Dir: filepath.Join(t.TempDir(), "data"), Accounts: []string{"carol", "dave"}, Set: sink.Smarthost(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	return newKiller(t, server, sink, seed)
}

func newKiller(t *testing.T, server *martlet.Server, sink *traffic.Sink, seed uint64) *killer {
	l := traffic.NewLedger()
	l.Sink = sink
	return &killer{&traffic.Crowd{Server: server, Ledger: l, Big: 50, Seed: seed}, t, rand.New(rand.NewPCG(1, seed))}
}

// round is one kill under load, every second time with another while the server comes up
// again. It returns false if it is no use to go on.
func (k *killer) round(binary string, number int) bool {
	k.load(time.Duration(30+k.rng.IntN(300)) * time.Millisecond)
	if number%2 == 1 {
		k.killAtStart(binary)
	}
	if err := k.Server.Restart(); err != nil {
		k.t.Errorf("kill %d: %v", number, err)
		return false
	}
	if number%10 == 9 {
		k.verify()
	}
	k.check(number)
	return !k.t.Failed()
}

// killer kills the server of a crowd.
type killer struct {
	*traffic.Crowd
	t   *testing.T
	rng *rand.Rand
}

// load lets the senders work for a while, then kills the server under them.
func (k *killer) load(d time.Duration) {
	var wg sync.WaitGroup
	k.Shift++
	for _, client := range []string{"lmtp", "lmtp2", "smtp", "submission", "append", "move", "dave", "collect", "out"} {
		wg.Go(func() {
			if err := k.Run(client, 0); !traffic.Gone(err) {
				k.t.Errorf("%s: %v", client, err)
			}
		})
	}
	time.Sleep(d)
	k.Server.Kill()
	wg.Wait()
}

// killAtStart starts the server and kills it while it comes up.
func (k *killer) killAtStart(binary string) {
	cmd := exec.Command(binary, "try", "--json", "--dir", k.Server.Dir, "--port-base", k.base())
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	time.Sleep(time.Duration(k.rng.IntN(120)) * time.Millisecond)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func (k *killer) base() string { return strconv.Itoa(k.Server.Ports["imap"] - 143) }

// verify wants every checksum, count and reference in the store to be right.
func (k *killer) verify() {
	if out, err := k.Server.Command("verify", "--json"); err != nil {
		k.t.Errorf("verify: %v\n%s", err, out)
	}
}

// check compares the accounts with the ledger.
func (k *killer) check(round int) {
	if v, err := k.Ledger.Check(k.Server); err != nil || !v.OK() {
		k.t.Errorf("kill %d: %v, %v", round, v, err)
	}
}
