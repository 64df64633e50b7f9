//go:build linux

package machine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/promise"
	"github.com/martlet-mail/martlet/test/traffic"
)

// refusals are what clients heard instead of yes.
type refusals struct {
	mu                sync.Mutex
	smtp, imap, other int
	first             string
}

// take counts one. On a full disk a message is refused with 452, an IMAP command with NO;
// what the disk could not be asked any more is unknown, 451.
func (r *refusals) take(client string, no *traffic.Refusal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case strings.HasPrefix(no.Text, "452"), strings.HasPrefix(no.Text, "451"):
		r.smtp++
	case strings.HasPrefix(no.Text, "NO [OVERQUOTA]"), strings.HasPrefix(no.Text, "NO [UNAVAILABLE]"):
		r.imap++
	default:
		if r.other++; r.other == 1 {
			r.first = fmt.Sprintf("%s: %v", client, no)
		}
	}
	return no.Temporary()
}

func (r *refusals) counts() (smtp, imap int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.smtp, r.imap
}

// TestFullDiskR7 fills the disk under clients at work, by their mail and by a file of
// somebody else's that leaves less and less: below 48 MB no larger mail is taken in, below
// 24 none, and nothing is changed but for deleting; in the end there is nothing at all. Meanwhile people log in, read, and
// delete; with room again mail is taken without a restart.
//
// A disk of 8 MB would be full from the start, for the server leaves 48 free.
func TestFullDiskR7(t *testing.T) {
	needsPeers(t)
	folder := filepath.Join(t.TempDir(), "disk")
	must(t, os.Mkdir(folder, 0o755))
	trials := promise.Times(t, "R7", 1, 50)
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%dm", 128+8*trials)); err != nil {
		t.Skipf("no small file system can be mounted here, so the full disk is NOT tested: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(folder, syscall.MNT_DETACH) })
	s := start(t, martlet.Options{Accounts: []string{"carol", "person"}, Set: map[string]string{"data": strconv.Quote(filepath.Join(folder, "data"))}})
	rng := rand.New(rand.NewPCG(7, 1))
	var heard refusals
	crowd := &traffic.Crowd{Server: s, Ledger: traffic.NewLedger(), Seed: 7, Big: 8, Pause: 5 * time.Millisecond, Refused: heard.take}
	var log journal
	wait := work(t, crowd, &log, clients(map[string]int{"smtp": 2, "lmtp": 2, "submission": 1, "append": 2, "move": 1}))
	letters(t, s, 4*trials)
	spare := filepath.Join(folder, "spare")
	for i := range trials {
		busy := crowd.Done() + 50
		within(t, fmt.Sprintf("trial %d: mail is taken", i), func() bool { return crowd.Done() >= busy })
		for _, left := range []int64{52 << 20, (24 + rng.Int64N(20)) << 20, (12 + rng.Int64N(10)) << 20, 0} {
			must(t, fill(folder, spare, left))
			smtp, imap := heard.counts()
			within(t, fmt.Sprintf("trial %d: with %d bytes left mail is refused", i, left), func() bool {
				s, i := heard.counts()
				return s >= smtp+5 && i >= imap+5
			})
			readAndDelete(t, s, left > 0)
		}
		must(t, os.Remove(spare))
	}
	busy := crowd.Done() + 50
	within(t, "mail is taken again", func() bool { return crowd.Done() >= busy })
	crowd.Stop()
	wait()
	if log.ends > 0 || heard.other > 0 {
		t.Errorf("%d sessions were ended, first: %s; %d answers that do not say what is wrong, first: %s",
			log.ends, strings.Join(log.first, "; "), heard.other, heard.first)
	}
	sound(t, s, crowd.Ledger)
	must(t, s.Stop())
	must(t, s.Restart())
	sound(t, s, crowd.Ledger)
	smtp, imap := heard.counts()
	promise.Kept(t, "R7", "times full", 4*trials, "refused by SMTP", smtp, "by IMAP", imap, "lost", 0, "dup", 0)
}

// fill makes a file that leaves so many bytes free.
func fill(folder, path string, left int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		var fs syscall.Statfs_t
		if err := syscall.Fstatfs(int(f.Fd()), &fs); err != nil {
			return err
		}
		more := int64(fs.Bavail)*int64(fs.Bsize) - left
		if more <= 0 {
			return nil
		}
		// The server takes from it at the same time, so that it may fail once or twice.
		err = syscall.Fallocate(int(f.Fd()), 0, info.Size(), more)
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			return err
		}
	}
}

// letters delivers messages to a person whose mail is in no ledger.
func letters(t *testing.T, s *martlet.Server, n int) {
	t.Helper()
	c, err := traffic.Mailer(s.Addr("lmtp"), "LHLO", "", "")
	must(t, err)
	defer c.Close()
	for range n {
		for _, step := range [][2]string{{"250", "MAIL FROM:<>"}, {"250", "RCPT TO:<" + s.Account("person").Address + ">"}, {"354", "DATA"}, {"250", "Subject: letter\r\n\r\ntext\r\n."}} {
			err := c.Ask(step[0], "%s", step[1])
			must(t, err)
		}
	}
}

// readAndDelete is a person at a server without room: he logs in, by IMAP and POP3, reads a
// message and deletes it. With nothing left at all the server may say that it cannot delete.
func readAndDelete(t *testing.T, s *martlet.Server, can bool) {
	t.Helper()
	a := s.Account("person")
	c, err := traffic.Reader(s.Addr("imap"), a.Address, a.Password)
	must(t, err)
	defer c.Close()
	ask := func(command string) string {
		t.Helper()
		lines, err := c.Do("%s", command)
		must(t, err)
		return strings.Join(lines, "\n")
	}
	ask("SELECT INBOX")
	if text := ask("FETCH 1 BODY.PEEK[]"); !strings.Contains(text, "Subject:") {
		t.Errorf("FETCH on a full disk: %.300s", text)
	}
	ask("SEARCH ALL")
	_, err = c.Do("STORE 1 +FLAGS.SILENT (\\Deleted)")
	_, err2 := c.Do("EXPUNGE")
	for _, err := range []error{err, err2} {
		var no *traffic.Refusal
		if err != nil && (can || !errors.As(err, &no) || !no.Temporary()) {
			t.Errorf("deleting on a full disk: %v", err)
		}
	}
	p, err := traffic.Popper(s.Addr("pop3"), a.Address, a.Password)
	must(t, err)
	defer p.Close()
	if err := p.Ask("+OK", "STAT"); err != nil {
		t.Error(err)
	}
}
