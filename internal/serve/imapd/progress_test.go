package imapd

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/store"
)

// slowClock makes the time pass by looking at the clock.
func (w *world) slowClock(milliseconds string) error {
	var passed atomic.Int64
	var n int64
	if _, err := fmt.Sscan(milliseconds, &n); err != nil {
		return err
	}
	w.imap.opt.Now = func() time.Time {
		return start.Add(time.Duration(passed.Add(n)) * time.Millisecond)
	}
	return nil
}

// While the store takes its time the client hears of it, with the number of messages
// that are done (RFC 9585, 4).
func TestProgressOfTheStore(t *testing.T) {
	for name, commands := range map[string][]string{
		"COPY": {"COPY 1:250 Archive"}, "MOVE": {"UID MOVE 1:250 Archive"}, "STORE": {`STORE 1:250 +FLAGS.SILENT (\Seen)`},
		"EXPUNGE": {`STORE 1:250 +FLAGS.SILENT (\Deleted)`, "EXPUNGE"}, "CLOSE": {`STORE 1:250 +FLAGS.SILENT (\Deleted)`, "CLOSE"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ticks := make(chan time.Time)
			w.imap.opt.After = func(d time.Duration) <-chan time.Time {
				if d != progressEvery {
					t.Error("waits for", d)
				}
				return ticks
			}
			w.fillBox("INBOX", "250")
			c := w.login("A", "")
			c.command(t, "SELECT INBOX")
			last := len(commands) - 1
			for _, command := range commands[:last] {
				c.command(t, command)
			}
			held, release := make(chan bool), make(chan bool)
			go w.alice.Update(w.ctx, func(*store.Tx) error { held <- true; <-release; return nil })
			<-held
			c.send(t, "A003 "+commands[last]+"\r\n")
			for range 3 {
				ticks <- start
				if line, _ := c.read(t); line != `* OK [INPROGRESS ("A003" 0 250)] still at work` {
					t.Fatal(line)
				}
			}
			close(release)
			for {
				line, _ := c.read(t)
				if strings.HasPrefix(line, "A003 OK ") {
					break
				}
				if strings.Contains(line, "INPROGRESS") || strings.HasPrefix(line, "A003") {
					t.Fatal(line)
				}
			}
		})
	}
}

// A command that is over soon says nothing, and few messages are not waited for.
func TestProgressIsQuiet(t *testing.T) {
	w := newWorld(t)
	w.imap.opt.After = func(time.Duration) <-chan time.Time {
		t.Error("a small change is waited for")
		return nil
	}
	w.imap.hands.portion = readAtOnce
	w.fillBox("INBOX", "99")
	c := w.login("A", "")
	c.command(t, "SELECT INBOX")
	for _, command := range []string{"COPY 1:* Archive", `STORE 1:* +FLAGS (\Deleted)`, "SEARCH TEXT filling", "SORT (SUBJECT) UTF-8 ALL", "EXPUNGE"} {
		lines, tagged := c.command(t, command)
		if got := strings.Join(lines, "\n"); strings.Contains(got, "INPROGRESS") || !strings.HasPrefix(tagged, "zz OK") {
			t.Error(got, tagged)
		}
	}
}

// A panic below a command that is waited for ends the session, not the server.
func TestAwaitHandsOnPanics(t *testing.T) {
	w := newWorld(t)
	w.fillBox("INBOX", "100")
	s := &session{srv: w.imap, ctx: w.ctx}
	defer func() {
		if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "broken\n") || !strings.Contains(got, ".breaks(") {
			t.Errorf("the panic is %.200q", got)
		}
	}()
	s.await(w.picture("INBOX"), store.All(), func(context.Context) error { breaks(); return nil })
}
