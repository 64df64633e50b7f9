package importing

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/traffic"
)

// Another account is read and written while an import goes on, and is as it was after it: what
// is in it, and its UIDs.
func TestOthersAreUntouched(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	s := &scene{t: t, binary: traffic.Binary(t), rng: rand.New(rand.NewPCG(2, 2))}
	s.mbox = filepath.Join(t.TempDir(), "source.mbox")
	writeMbox(t, s.mbox, s.rng)
	var err error
	if s.server, err = martlet.Start(martlet.Options{Binary: s.binary, Dir: filepath.Join(t.TempDir(), "data")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.server.Kill)
	bob := s.server.Account("bob")
	c, err := traffic.Reader(s.server.Addr("imap"), bob.Address, bob.Password)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const state = "STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)"
	before, err := c.Do(state)
	if err != nil {
		t.Fatal(err)
	}
	cmd := s.command("--no-proof")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var took []time.Duration
	for going := true; going; {
		select {
		case err := <-ended:
			if going = false; err != nil {
				t.Error(err)
			}
		default:
			at := time.Now()
			if _, err := c.Do("NOOP"); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(at))
			time.Sleep(2 * time.Millisecond)
		}
	}
	slices.Sort(took)
	after, err := c.Do(state)
	if err != nil || after[0] != before[0] {
		t.Errorf("%s became %s, %v", before, after, err)
	}
	if len(took) < 20 {
		t.Errorf("a session of another account was answered %d times during the import", len(took))
	}
	t.Logf("%d commands of another account beside the import: half of them within %v, 99 %% within %v", len(took), took[len(took)/2], took[len(took)*99/100])
	if n := s.here(); n != messages {
		t.Errorf("%d messages came", n)
	}
}
