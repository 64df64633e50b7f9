package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// TestKill sends mail to the real server by LMTP, SMTP, submission and IMAP APPEND,
// kills it with SIGKILL again and again, and after each time wants to find whatever
// it said yes to: exactly once, under the UID it told.
func TestKill(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	k := &killer{t: t, sent: map[delivery]*fate{}, rng: rand.New(rand.NewPCG(1, 2))}
	binary := binary(t)
	var err error
	k.server, err = martlet.Start(martlet.Options{
		Binary: binary, Dir: filepath.Join(t.TempDir(), "data"), Accounts: []string{"carol"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.server.Kill)
	for round := range number(t, "MARTLET_CRASH_KILLS", 6) {
		k.load(time.Duration(500+k.rng.IntN(2500)) * time.Millisecond)
		if round%2 == 1 {
			k.killAtStart(binary)
		}
		if err := k.server.Restart(); err != nil {
			t.Fatal(err)
		}
		k.check(round)
		if t.Failed() {
			t.Logf("the log ends\n%s", k.server.LogTail(30))
			return
		}
	}
	k.control()
	yes, maybe := k.counts()
	t.Logf("%d deliveries acknowledged, %d cut off, none lost, none doubled", yes, maybe)
	if yes < 100 || maybe == 0 {
		t.Errorf("%d acknowledged and %d cut off: too little for a proof", yes, maybe)
	}
}

// control puts lies into the ledger, each of which compare must notice.
func (k *killer) control() {
	honest := len(k.sent)
	k.try("never-sent", "alice")
	k.said("never-sent", "alice", "")
	if len(k.compare()) != 1 {
		k.t.Error("a lost message is not noticed")
	}
	delete(k.sent, delivery{"never-sent", "alice"})
	for d, f := range k.sent {
		if f.said {
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

func binary(t *testing.T) string {
	if b := os.Getenv("MARTLET_BINARY"); b != "" {
		return b
	}
	path := filepath.Join(t.TempDir(), "martlet")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/martlet")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the server does not build: %v\n%s", err, out)
	}
	return path
}

// delivery is one message to one account.
type delivery struct{ token, account string }

// fate is what the server said of a delivery.
type fate struct {
	said bool
	uid  string // UIDVALIDITY and UID, if it told (RFC 4315)
}

type killer struct {
	t      *testing.T
	server *martlet.Server
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
		k.sent[delivery{token, a}] = &fate{}
	}
}

// said notes that the server took it.
func (k *killer) said(token, account, uid string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	*k.sent[delivery{token, account}] = fate{said: true, uid: uid}
}

func (k *killer) counts() (yes, maybe int) {
	for _, f := range k.sent {
		if f.said {
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
		"lmtp": k.lmtp, "lmtp2": k.lmtp, "smtp": k.smtp, "submission": k.submission, "append": k.append, "append2": k.append,
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
	time.Sleep(time.Duration(k.rng.IntN(300)) * time.Millisecond)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func (k *killer) base() string { return strconv.Itoa(k.server.Ports["imap"] - 143) }

func (k *killer) letter(rng *rand.Rand, token, from, to string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "From: <%s>\r\nTo: <%s>\r\nSubject: crash\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <%s@crash.example>\r\n%s%s\r\n\r\n",
		from, to, token, tokenField, token)
	lines := rng.IntN(200)
	if rng.IntN(50) == 0 {
		lines += 20_000 // about 700 KB
	}
	for range lines {
		fmt.Fprintf(&b, "%x%x\r\n", rng.Uint64(), rng.Uint64())
	}
	return b.String()
}

func (k *killer) address(name string) string { return k.server.Account(name).Address }

// lmtp delivers to two accounts at a time, which are answered one by one
// (RFC 2033, 4.2).
func (k *killer) lmtp(name string, rng *rand.Rand) error {
	c, err := mailer(k.server.Addr("lmtp"), "LHLO", "", "")
	if err != nil {
		return err
	}
	defer c.close()
	to := []string{"bob", "carol"}
	for i := 0; ; i++ {
		token := fmt.Sprintf("%s-%d", name, i)
		if err := c.ask("250", "MAIL FROM:<someone@crash.example>"); err != nil {
			return err
		}
		for _, a := range to {
			if err := c.ask("250", "RCPT TO:<%s>", k.address(a)); err != nil {
				return err
			}
		}
		if err := k.data(c, rng, token, "someone@crash.example", to, len(to)); err != nil {
			return err
		}
	}
}

// smtp is another host that delivers to one account.
func (k *killer) smtp(name string, rng *rand.Rand) error {
	c, err := mailer(k.server.Addr("smtp"), "EHLO", "", "")
	if err != nil {
		return err
	}
	defer c.close()
	return k.mails(c, name, rng, "someone@crash.example", "alice")
}

// submission is alice's mail program, writing to bob.
func (k *killer) submission(name string, rng *rand.Rand) error {
	a := k.server.Account("alice")
	c, err := mailer(k.server.Addr("submission"), "EHLO", a.Address, a.Password)
	if err != nil {
		return err
	}
	defer c.close()
	return k.mails(c, name, rng, a.Address, "bob")
}

func (k *killer) mails(c *talk, name string, rng *rand.Rand, from, to string) error {
	for i := 0; ; i++ {
		token := fmt.Sprintf("%s-%d", name, i)
		if err := c.ask("250", "MAIL FROM:<%s>", from); err != nil {
			return err
		}
		if err := c.ask("250", "RCPT TO:<%s>", k.address(to)); err != nil {
			return err
		}
		if err := k.data(c, rng, token, from, []string{to}, 1); err != nil {
			return err
		}
	}
}

// data sends a message and notes each reply.
func (k *killer) data(c *talk, rng *rand.Rand, token, from string, to []string, replies int) error {
	if err := c.ask("354", "DATA"); err != nil {
		return err
	}
	k.try(token, to...)
	if err := c.send("%s.\r\n", k.letter(rng, token, from, k.address(to[0]))); err != nil {
		return err
	}
	for i := range replies {
		if err := c.ask("250", ""); err != nil {
			return err
		}
		k.said(token, to[i], "")
	}
	return nil
}

var appendUID = regexp.MustCompile(`\[APPENDUID (\d+) (\d+)\]`)

// append is a mail program that stores messages of its own.
func (k *killer) append(name string, rng *rand.Rand) error {
	a := k.server.Account("alice")
	c, err := reader(k.server.Addr("imap"), a.Address, a.Password)
	if err != nil {
		return err
	}
	defer c.close()
	for i := 0; ; i++ {
		token := fmt.Sprintf("%s-%d", name, i)
		text := k.letter(rng, token, a.Address, a.Address)
		k.try(token, "alice")
		lines, err := c.do("APPEND Archive (\\Seen) {%d+}\r\n%s", len(text), text)
		if err != nil {
			return err
		}
		uid := appendUID.FindStringSubmatch(lines[len(lines)-1])
		if uid == nil {
			return fmt.Errorf("no APPENDUID in %q", lines)
		}
		k.said(token, "alice", uid[1]+" "+uid[2])
	}
}

// check compares the accounts with the ledger.
func (k *killer) check(round int) {
	if out, err := k.server.Command("verify", "--json"); err != nil {
		k.t.Errorf("kill %d: verify: %v\n%s", round, err, out)
	}
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
		time.Sleep(time.Second)
	}
}

func (k *killer) compare() (wrong []string) {
	found := map[delivery][]string{}
	for _, name := range []string{"alice", "bob", "carol"} {
		if err := k.read(name, found); err != nil {
			return []string{fmt.Sprintf("reading %s: %v", name, err)}
		}
	}
	for d, f := range k.sent {
		got := found[d]
		switch {
		case f.said && len(got) == 0:
			wrong = append(wrong, fmt.Sprintf("%v was acknowledged and is lost", d))
		case len(got) > 1:
			wrong = append(wrong, fmt.Sprintf("%v is there %d times", d, len(got)))
		case f.uid != "" && got[0] != f.uid:
			wrong = append(wrong, fmt.Sprintf("%v has UID %q, was told %q", d, got[0], f.uid))
		}
	}
	for d := range found {
		if k.sent[d] == nil {
			wrong = append(wrong, fmt.Sprintf("%v was never sent", d))
		}
	}
	return wrong
}

var (
	listed      = regexp.MustCompile(`^\* LIST \([^)]*\) "/" "?([^"]+)"?$`)
	uidValidity = regexp.MustCompile(`\[UIDVALIDITY (\d+)\]`)
	fetchedUID  = regexp.MustCompile(`^\* \d+ FETCH \(.*UID (\d+)`)
)

// read finds every message of an account by its token.
func (k *killer) read(name string, found map[delivery][]string) error {
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
			if m := fetchedUID.FindStringSubmatch(l); m != nil {
				uid = m[1]
			}
			if token, ok := strings.CutPrefix(l, tokenField); ok {
				d := delivery{token, name}
				found[d] = append(found[d], validity[1]+" "+uid)
			}
		}
	}
	return nil
}
