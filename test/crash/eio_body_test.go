package crash

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/martlet-mail/martlet/test/crash/inject"
	"github.com/martlet-mail/martlet/test/promise"
	"github.com/martlet-mail/martlet/test/traffic"
)

const largeBytes = 1 << 20

// setUpLarge makes a folder with a large message, which lies in files of its own.
func (st *stage) setUpLarge() error {
	dir := filepath.Join(st.dir, "large")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(st.dir, "mail"))); err != nil {
		return err
	}
	st.logins["large"] = st.logins["mail"]
	s, err := st.serve(dir, nil)
	if err != nil {
		return err
	}
	defer s.Kill()
	c, err := traffic.Reader(s.Addr("imap"), of(s, "alice").address, of(s, "alice").password)
	if err != nil {
		return err
	}
	defer c.Close()
	text := note("large", largeBytes)
	if _, err := c.Do("APPEND Sent {%d+}\r\n%s", len(text), text); err != nil {
		return err
	}
	for range 2 { // the next start brings it from the log to a file
		if err := s.Stop(); err != nil {
			return err
		}
		if err := s.Restart(); err != nil {
			return err
		}
	}
	return s.Stop()
}

// TestR6Body has reads fail in the middle of a large message: the client that fetches it
// is told so, or its connection ends with the literal short; it never gets a wrong byte or
// an OK. Nobody else notices anything, mail still comes in, the log and a counter tell of
// it, and when the disk reads again so does the client.
func TestR6Body(t *testing.T) {
	st := theStage(t, "large")
	torn, told := 0, 0
	most := promise.Times(t, "R6", 4, 20)
	for n := range most {
		err := st.fetchTorn(breakage{"pread64", 1 + n*20/most, n%2 == 1})
		var no *traffic.Refusal
		switch {
		case errors.As(err, &no) && strings.HasPrefix(no.Text, "NO "):
			told++
		case traffic.Gone(err):
			torn++
		case err != nil:
			t.Errorf("call %d: %v", n, err)
		}
	}
	if torn == 0 || told+torn < most/2 {
		t.Errorf("%d fetches were cut short, %d refused: too little for a proof", torn, told)
	}
	promise.Kept(t, "R6", "reads of a body that failed", torn+told, "wrong bytes", 0, "others harmed", 0)
}

// fetchTorn fetches the large message while the disk fails, and returns how that ended. An
// error of another kind is a defect.
func (st *stage) fetchTorn(b breakage) error {
	var reads, broken atomic.Int64
	rule := func(c inject.Call) inject.Answer {
		if c.Kind != b.kind || !strings.HasSuffix(c.Path, ".blob") {
			return inject.Answer{}
		}
		if n := int(reads.Add(1)); n < b.nth || n > b.nth && !b.ever {
			return inject.Answer{}
		}
		broken.Add(1)
		return inject.Answer{Errno: syscall.EIO}
	}
	sc, err := st.play(scenario{name: "body", base: "large", kinds: inject.Reads, rule: rule, open: imap("alice", "Sent")}, 0)
	if sc != nil {
		defer sc.close()
	}
	if err != nil {
		return err
	}
	ended := sc.whole(sc.c)
	if ended == nil && broken.Load() > 0 {
		return errors.New("a read of the body failed, and the client was told OK")
	}
	if err := sc.othersWork(); err != nil {
		return fmt.Errorf("another session: %w", err)
	}
	if err := sc.tells(broken.Load()); err != nil {
		return err
	}
	sc.tap.Set(nil)
	sc.c.Close()
	if err := errors.Join(imap("alice", "Sent")(sc), sc.whole(sc.c)); err != nil {
		return fmt.Errorf("with the disk whole again: %w", err)
	}
	return ended
}

// whole fetches the large message and compares each of its lines.
func (sc *scene) whole(c *traffic.Talk) error {
	lines, err := c.Do("FETCH 1 BODY.PEEK[]")
	want := strings.Split(note("large", largeBytes), "\r\n")
	for i, l := range lines[min(1, len(lines)):] {
		if i < len(want)-1 && l != want[i] && (err == nil || i < len(lines)-2) {
			return fmt.Errorf("line %d is %q", i, l)
		}
	}
	if err == nil && len(lines) < len(want) {
		return fmt.Errorf("%d lines of %d, and OK", len(lines), len(want))
	}
	return err
}

// othersWork has other sessions read and mail come in.
func (sc *scene) othersWork() error {
	b := of(sc.server, "bob")
	c, err := traffic.Reader(sc.server.Addr("imap"), b.address, b.password)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, ask := range []string{"SELECT INBOX", "FETCH 1:* (FLAGS ENVELOPE)", `STORE 1 +FLAGS (\Flagged)`, "NOOP"} {
		if _, err := c.Do("%s", ask); err != nil {
			return err
		}
	}
	old := sc.c
	err = errors.Join(letterTo("smtp", "EHLO", someone, bob)(sc), data("meanwhile", 9000)(sc))
	sc.c.Close()
	sc.c = old
	return err
}

var readFailures = regexp.MustCompile(`(?m)^martlet_store_read_failures_total (\S+)$`)

// tells wants the process to be well, and to have counted and logged what went wrong.
func (sc *scene) tells(broken int64) error {
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "martlet_store_healthy 1"} {
		resp, err := http.Get("http://" + sc.server.Addr("http") + path)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			return fmt.Errorf("%s says %s %.200s", path, resp.Status, body)
		}
		if m := readFailures.FindStringSubmatch(string(body)); path == "/metrics" && (m == nil || (broken > 0) != (m[1] != "0")) {
			return fmt.Errorf("%d reads failed, the count is %q", broken, m)
		}
	}
	log, err := os.ReadFile(sc.server.Log)
	if broken > 0 && !strings.Contains(string(log), "the disk cannot be read") {
		return fmt.Errorf("nothing in the log\n%s", log)
	}
	return err
}
