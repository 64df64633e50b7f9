package postgres

import (
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/fault"
)

// shutting opens a node, and one that may shut the database of both.
func shutting(t *testing.T, name string) (node, copies *Engine, opt Options) {
	t.Helper()
	s := pgtest.SharedServer(t)
	opt = options(s.Database(t, name))
	opt.Node = "mx1"
	node = open(t, opt)
	warm(t, node, 3)
	by := opt
	by.Node, by.Run = "mx2", "first"
	return node, open(t, by), opt
}

// heldUpdate begins a change, and returns what lets it go on, and then returns its error.
func heldUpdate(t *testing.T, e *Engine) (release func() error) {
	t.Helper()
	inside, on, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		first := true
		done <- e.Update(t.Context(), 1, func(w engine.Writer) error {
			if first {
				first = false
				close(inside)
				<-on
			}
			return add(w)
		})
	}()
	<-inside
	return func() error { close(on); return <-done }
}

// A process that was in the midst of a change when the database was shut makes it no more, and
// neither reads nor listens until it is open again.
func TestShut(t *testing.T) {
	node, copies, opt := shutting(t, "shut")
	before := number1(t, copies)
	release := heldUpdate(t, node)
	if err := copies.Shut(t.Context(), "it is copied"); err != nil {
		t.Fatal(err)
	}
	if err := release(); !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Unknown) {
		t.Errorf("a change that had begun: %v", err)
	}
	if now := number1(t, copies); now != before {
		t.Errorf("it was made: %d, not %d", now, before)
	}
	for what, err := range map[string]error{
		"a change":   node.Update(t.Context(), 1, add),
		"a look":     node.View(t.Context(), 1, func(r engine.Reader) error { _, _, err := r.Get([]byte("n")); return err }),
		"its health": node.Healthy(),
	} {
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "it is copied") {
			t.Errorf("%s: %v", what, err)
		}
		if said := fault.Say(err); said != "the database is shut" { // what is to be done is nothing for strangers
			t.Errorf("%s: others are told %q", what, said)
		}
	}
	if c, err := node.member(0).pool.whisper(t.Context()); err == nil {
		_ = c.wire.Close()
		t.Error("it listens")
	}
	if e, err := Open(t.Context(), opt); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "it is copied") {
		t.Errorf("another process comes in: %v", err)
		if err == nil {
			e.Close()
		}
	}
	if err := copies.Update(t.Context(), 1, add); err != nil {
		t.Errorf("who has shut it: %v", err)
	}
	if err := copies.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := node.Update(t.Context(), 1, add); err != nil || number1(t, node) != before+2 {
		t.Errorf("when it is open again: %v, %d", err, number1(t, node))
	}
}

// The control of TestShut: where no connection is ended the change is made.
func TestShutEndsConnections(t *testing.T) {
	node, copies, _ := shutting(t, "shut_control")
	copies.member(0).pool.opt.without.ending = true
	before := number1(t, copies)
	release := heldUpdate(t, node)
	if err := copies.Shut(t.Context(), "it is copied"); err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil || number1(t, copies) != before+1 {
		t.Errorf("the test proves nothing: %v", err)
	}
}

// Of two who shut a database the later has it for himself; one who is to come after a run that
// was cut short is let in.
func TestShutByAnother(t *testing.T) {
	_, first, opt := shutting(t, "shut_twice")
	if err := first.Shut(t.Context(), "it is copied"); err != nil {
		t.Fatal(err)
	}
	opt.Run = "second"
	second := open(t, opt)
	if err := second.Shut(t.Context(), "it is copied again"); err != nil {
		t.Fatal(err)
	}
	if err := second.Update(t.Context(), 1, add); err != nil {
		t.Error(err)
	}
	if err := first.Update(t.Context(), 1, add); err == nil || !fault.Is(err, fault.Unknown) && !strings.Contains(err.Error(), "copied again") {
		t.Errorf("the first goes on: %v", err)
	}
}

// All groups are shut.
func TestShutGroups(t *testing.T) {
	s := pgtest.SharedServer(t)
	_, copies, _ := shutting(t, "shut_home")
	if _, err := copies.AddGroup(t.Context(), "second", s.Database(t, "shut_second")); err != nil {
		t.Fatal(err)
	}
	marked := func() string {
		out, err := s.QueryIn("shut_second", "SELECT convert_from(value, 'UTF8') FROM meta WHERE key = 'shut'")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if err := copies.Shut(t.Context(), "it is copied"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(marked(), "first it is copied") {
		t.Errorf("the mark of the second group is %q", marked())
	}
	if err := copies.Reopen(t.Context()); err != nil || strings.Contains(marked(), "copied") {
		t.Errorf("%v; the mark of the second group is %q", err, marked())
	}
}

// Where connections cannot be ended this is said, and all groups are shut for those who come.
func TestShutWithoutEnding(t *testing.T) {
	s := pgtest.SharedServer(t)
	ask := func(database, sql string) string {
		t.Helper()
		out, err := s.QueryIn(database, sql)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var urls []string
	for _, name := range []string{"shut_plain", "shut_plain_second"} {
		urls = append(urls, strings.Replace(s.Database(t, name), "user=postgres", "user=plain", 1))
		if len(urls) == 1 {
			ask(name, "CREATE ROLE plain LOGIN")
		}
		ask(name, "GRANT CREATE ON SCHEMA public TO plain")
		ask(name, "REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM PUBLIC")
	}
	opt := options(urls[0])
	opt.Run = "first"
	copies := open(t, opt)
	if _, err := copies.AddGroup(t.Context(), "second", urls[1]); err != nil {
		t.Fatal(err)
	}
	if err := copies.Shut(t.Context(), "it is copied"); !fault.Is(err, fault.Unsupported) {
		t.Errorf("the database is shut: %v", err)
	}
	for _, name := range []string{"shut_plain", "shut_plain_second"} {
		if mark := ask(name, "SELECT convert_from(value, 'UTF8') FROM meta WHERE key = 'shut'"); !strings.Contains(mark, "first it is copied") {
			t.Errorf("the mark of %s is %q", name, mark)
		}
	}
}
