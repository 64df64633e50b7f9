package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/promise"
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
	binary := binary(t)
	var yes, maybe, out, again int
	for first := 0; first < n && !t.Failed(); first += killsPerFolder {
		k := startKiller(t, binary, uint64(first))
		for round := range min(n-first, killsPerFolder) {
			if !k.round(binary, first+round) {
				t.Fatalf("the log ends\n%s", k.server.LogTail(8))
			}
		}
		k.verify()
		k.control()
		y, m := k.counts()
		o, a := k.sink.counts()
		yes, maybe, out, again = yes+y, maybe+m, out+o, again+a
		k.server.Kill()
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
	k := &killer{t: t, sink: startSink(t), sent: map[delivery]*fate{}, rng: rand.New(rand.NewPCG(1, seed))}
	var err error
	k.server, err = martlet.Start(martlet.Options{
		Binary: binary, Dir: filepath.Join(t.TempDir(), "data"), Accounts: []string{"carol", "dave"}, Set: k.sink.smarthost(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.server.Kill)
	return k
}

// round is one kill under load, every second time with another while the server comes up
// again. It returns false if it is no use to go on.
func (k *killer) round(binary string, number int) bool {
	k.load(time.Duration(30+k.rng.IntN(300)) * time.Millisecond)
	if number%2 == 1 {
		k.killAtStart(binary)
	}
	if err := k.server.Restart(); err != nil {
		k.t.Errorf("kill %d: %v", number, err)
		return false
	}
	if number%10 == 9 {
		k.verify()
	}
	k.check(number)
	return !k.t.Failed()
}

// control puts lies into the ledger, each of which compare must notice.
func (k *killer) control() {
	honest := len(k.sent)
	k.sink.takes("never-sent")
	if len(k.compare()) != 1 {
		k.t.Error("a message from nowhere at the other host is not noticed")
	}
	k.sink.forget("never-sent")
	k.try("never-sent", "alice")
	k.said("never-sent", "alice", "")
	if len(k.compare()) != 1 {
		k.t.Error("a lost message is not noticed")
	}
	delete(k.sent, delivery{"never-sent", "alice"})
	for d, f := range k.sent {
		if f.least == 1 {
			delete(k.sent, d)
			if len(k.compare()) != 1 {
				k.t.Error("a message from nowhere is not noticed")
			}
			k.sent[d] = f
			break
		}
	}
	if len(k.sent) != honest {
		k.t.Error("the control broke the ledger")
	}
}

func binary(t *testing.T) string { return program(t, t.TempDir()) }

// program builds the server into a folder, unless one is given.
func program(t *testing.T, dir string) string {
	if b := os.Getenv("MARTLET_BINARY"); b != "" {
		return b
	}
	path := filepath.Join(dir, "martlet")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/martlet")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the server does not build: %v\n%s", err, out)
	}
	return path
}

// delivery is one message to one account.
type delivery struct{ token, account string }

// fate is what the server said of a delivery: how often it must and may be there.
type fate struct {
	least, most int
	uid         string   // UIDVALIDITY and UID, if it told (RFC 4315)
	boxes       []string // where it may be; nil is anywhere
}

// spot is where a message was found.
type spot struct{ box, uid string }

type killer struct {
	t      *testing.T
	server *martlet.Server
	sink   *sink
	rng    *rand.Rand
	next   int

	mu   sync.Mutex
	sent map[delivery]*fate
}

// try notes that a delivery is about to begin.
func (k *killer) try(token string, accounts ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range accounts {
		k.sent[delivery{token, a}] = &fate{most: 1}
	}
}

// said notes that the server took it.
func (k *killer) said(token, account, uid string, boxes ...string) {
	k.sets(token, account, fate{1, 1, uid, boxes})
}

func (k *killer) sets(token, account string, f fate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	*k.sent[delivery{token, account}] = f
}

func (k *killer) counts() (yes, maybe int) {
	for _, f := range k.sent {
		if f.least == f.most {
			yes++
		} else {
			maybe++
		}
	}
	return yes, maybe
}

// load lets the senders work for a while, then kills the server under them.
func (k *killer) load(d time.Duration) {
	var wg sync.WaitGroup
	senders := map[string]func(name string, rng *rand.Rand) error{
		"lmtp": k.lmtp, "lmtp2": k.lmtp, "smtp": k.smtp, "submission": k.submission, "append": k.append, "move": k.move,
		"dave": k.todave, "pop3": k.pop3, "out": k.out,
	}
	for name, send := range senders {
		k.next++
		id, rng := fmt.Sprintf("%s-%d", name, k.next), rand.New(rand.NewPCG(3, uint64(k.next)))
		wg.Go(func() {
			if err := send(id, rng); !errors.Is(err, errKilled) {
				k.t.Errorf("%s: %v", id, err)
			}
		})
	}
	time.Sleep(d)
	k.server.Kill()
	wg.Wait()
}

// killAtStart starts the server and kills it while it comes up.
func (k *killer) killAtStart(binary string) {
	cmd := exec.Command(binary, "try", "--json", "--dir", k.server.Dir, "--port-base", k.base())
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	time.Sleep(time.Duration(k.rng.IntN(120)) * time.Millisecond)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func (k *killer) base() string { return strconv.Itoa(k.server.Ports["imap"] - 143) }

// verify wants every checksum, count and reference in the store to be right.
func (k *killer) verify() {
	if out, err := k.server.Command("verify", "--json"); err != nil {
		k.t.Errorf("verify: %v\n%s", err, out)
	}
}

// check compares the accounts with the ledger.
func (k *killer) check(round int) {
	// Yes may also mean that the mail waits in the queue for its next try.
	deadline := time.Now().Add(patience)
	for {
		wrong := k.compare()
		if len(wrong) == 0 {
			return
		}
		if time.Now().After(deadline) {
			k.t.Errorf("kill %d: %d wrong, the first: %s", round, len(wrong), strings.Join(wrong[:min(len(wrong), 10)], "; "))
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (k *killer) compare() (wrong []string) {
	found := map[delivery][]spot{}
	for _, name := range []string{"alice", "bob", "carol", "dave"} {
		if err := k.read(name, found); err != nil {
			return []string{fmt.Sprintf("reading %s: %v", name, err)}
		}
	}
	for d, f := range k.sent {
		if d.account == elsewhere {
			continue
		}
		got := found[d]
		if len(got) < f.least || len(got) > f.most {
			wrong = append(wrong, fmt.Sprintf("%v is there %d times, should be %d to %d: %v", d, len(got), f.least, f.most, got))
			continue
		}
		for _, s := range got {
			if f.uid != "" && s.uid != f.uid || f.boxes != nil && !slices.Contains(f.boxes, s.box) {
				wrong = append(wrong, fmt.Sprintf("%v is at %v, was told %q in %q", d, s, f.uid, f.boxes))
			}
		}
	}
	for d := range found {
		if k.sent[d] == nil {
			wrong = append(wrong, fmt.Sprintf("%v was never sent", d))
		}
	}
	return append(wrong, k.compareOut()...)
}

var (
	listed      = regexp.MustCompile(`^\* LIST \([^)]*\) "/" "?([^"]+)"?$`)
	uidValidity = regexp.MustCompile(`\[UIDVALIDITY (\d+)\]`)
	fetchedUID  = regexp.MustCompile(`^\* \d+ FETCH \(.*UID (\d+)`)
)

// read finds every message of an account by its token.
func (k *killer) read(name string, found map[delivery][]spot) error {
	a := k.server.Account(name)
	c, err := reader(k.server.Addr("imap"), a.Address, a.Password)
	if err != nil {
		return err
	}
	defer c.close()
	lines, err := c.do(`LIST "" *`)
	if err != nil {
		return err
	}
	for _, l := range lines {
		m := listed.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		opened, err := c.do(`EXAMINE "%s"`, m[1])
		if err != nil {
			return err
		}
		validity := uidValidity.FindStringSubmatch(strings.Join(opened, "\n"))
		rows, err := c.do("UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (X-Ledger)])")
		if err != nil || validity == nil {
			return errors.Join(err, fmt.Errorf("%q", opened))
		}
		uid := ""
		for _, l := range rows {
			if row := fetchedUID.FindStringSubmatch(l); row != nil {
				uid = row[1]
			}
			if token, ok := strings.CutPrefix(l, tokenField); ok {
				d := delivery{token, name}
				found[d] = append(found[d], spot{m[1], validity[1] + " " + uid})
			}
		}
	}
	return nil
}
