package peers

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// TestFullDisk fills the disk while mail comes in. What was acknowledged must be
// there, the rest must be refused for the time being, reading must go on, and when
// there is room again the server must take mail without a restart.
func TestFullDisk(t *testing.T) {
	if against() != "" {
		t.Skip("only for Martlet")
	}
	disk := filepath.Join(t.TempDir(), "disk")
	must(t, os.Mkdir(disk, 0o755))
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=480m"); err != nil {
		t.Skipf("no small file system, so the full disk is NOT tested: mounting needs root and a system that allows it: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	m, err := martlet.Start(martlet.Options{Binary: built, Dir: filepath.Join(disk, "data")})
	must(t, err)
	programs.add("martlet")
	t.Cleanup(func() {
		m.Stop()
		if t.Failed() {
			t.Logf("the server's log ends\n%s", m.LogTail(15))
		}
	})
	s := &subject{Server: m, addrs: map[string]string{}, pid: m.PID, log: m.Log}
	for name := range m.Ports {
		s.addrs[name] = m.Addr(name)
	}
	spare := filepath.Join(disk, "spare")
	must(t, os.WriteFile(spare, make([]byte, 200<<20), 0o600))
	kept := fillDisk(t, s)
	s.allThere(t, kept)
	if _, err := s.Command("verify"); err != nil {
		t.Logf("verify on the full disk: %v", err)
	}
	must(t, os.Remove(spare))
	within(t, 60*time.Second, "mail is taken again after there is room", func() bool {
		code, _ := s.tryDeliver(t, note("after", "there is room"))
		return code == 250
	})
	s.allThere(t, append(kept, "after"))
	must(t, m.Stop())
	must(t, m.Restart())
	s.pid = m.PID
	s.allThere(t, append(kept, "after"))
	_, err = s.Command("verify")
	must(t, err)
}

// fillDisk delivers over LMTP and by APPEND in turn until both are refused, and
// returns what was acknowledged.
func fillDisk(t *testing.T, s *subject) []string {
	t.Helper()
	var kept []string
	refusals := map[string]int{}
	for i := 0; i < 2_000 && (refusals["lmtp"] < 3 || refusals["append"] < 3); i++ {
		id := fmt.Sprintf("disk-%d", i)
		msg := append(note(id, "no other is equal to "+id), noise(i, 300_000)...)
		msg = bytes.ReplaceAll(bytes.ReplaceAll(msg, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		if i%2 == 0 {
			code, text := s.tryDeliver(t, append(msg, "\r\n"...))
			switch {
			case code == 250:
				kept = append(kept, id)
			case code/100 == 4:
				if refusals["lmtp"]++; code != 452 {
					t.Errorf("LMTP on a full disk says %s, not 452", text)
				}
			default:
				t.Fatalf("LMTP on a full disk says %s", text)
			}
			continue
		}
		w := dialIMAP(t, s, "alice")
		switch status := w.append("INBOX", "", "", msg); {
		case strings.HasPrefix(status, "OK"):
			kept = append(kept, id)
		case strings.HasPrefix(status, "NO [OVERQUOTA]"), strings.HasPrefix(status, "NO [UNAVAILABLE]"):
			refusals["append"]++
		default:
			t.Fatalf("APPEND on a full disk says %s", status)
		}
		w.Close()
	}
	if refusals["lmtp"] < 3 || refusals["append"] < 3 {
		t.Fatalf("the disk did not become full: %d messages kept", len(kept))
	}
	t.Logf("%d messages were acknowledged before the disk was full", len(kept))
	return kept
}

// noise returns size bytes of base64 that are like those of no other seed, so that
// nothing of them is kept already.
func noise(seed, size int) []byte {
	rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	var out []byte
	line := make([]byte, 57)
	for len(out) < size {
		rnd.Read(line)
		out = append(base64.StdEncoding.AppendEncode(out, line), '\n')
	}
	return out
}

// tryDeliver delivers to alice and returns the first reply that is not success, or
// the last.
func (s *subject) tryDeliver(t *testing.T, msg []byte) (int, string) {
	t.Helper()
	w := dialSMTP(t, s.addr("lmtp"), true)
	defer w.Close()
	for _, cmd := range []string{"MAIL FROM:<x@example.org>", "RCPT TO:<" + s.account(t, "alice").Address + ">", "DATA"} {
		if code, text := w.cmd("%s", cmd); code/100 > 3 {
			return code, text
		}
	}
	w.Write(stuffed(msg))
	return w.reply()
}

// allThere reads INBOX and misses nothing that was acknowledged, twice nothing.
func (s *subject) allThere(t *testing.T, kept []string) {
	t.Helper()
	w := dialIMAP(t, s, "alice")
	defer w.Close()
	w.ok("SELECT INBOX")
	_, all := w.bodies("BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]")
	times := map[string]int{}
	for _, b := range all {
		if m := messageID.FindSubmatch(b); m != nil {
			times[string(m[1])]++
		}
	}
	for _, id := range kept {
		if n := times[id+"@peers.example"]; n != 1 {
			t.Errorf("message %s was acknowledged and is there %d times", id, n)
		}
	}
}
