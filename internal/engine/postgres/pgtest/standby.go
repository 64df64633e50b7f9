package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Standby starts a server that follows this one. Nobody waits for it until Synchronous
// says so.
func (s *Server) Standby(t testing.TB) (*Server, string) {
	t.Helper()
	s.standbys++
	name := "standby" + strconv.Itoa(s.standbys)
	b, err := newServer(s.settings)
	if err == nil {
		t.Cleanup(b.Remove)
		err = run(tool("pg_basebackup"), "-D", b.data, "-h", s.dir, "-p", strconv.Itoa(s.port), "-U", "postgres", "-X", "stream", "-c", "fast", "-N")
	}
	if err == nil {
		conf := fmt.Sprintf("primary_conninfo = 'host=%s port=%d user=postgres application_name=%s'\n", s.dir, s.port, name)
		err = appendFile(filepath.Join(b.data, "postgresql.auto.conf"), conf)
	}
	if err == nil {
		err = appendFile(filepath.Join(b.data, "standby.signal"), "")
	}
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b, name
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if c := credential(); err == nil && c != nil {
		err = os.Chown(path, int(c.Uid), int(c.Gid))
	}
	return err
}

// Synchronous makes each commit wait for a standby, "" for none.
func (s *Server) Synchronous(t testing.TB, name string) {
	t.Helper()
	err := s.SQL("ALTER SYSTEM SET synchronous_standby_names = '"+name+"'", "SELECT pg_reload_conf()")
	for range 600 {
		if err != nil {
			break
		}
		if name == "" {
			return
		}
		var state string
		state, err = s.Query("SELECT sync_state FROM pg_stat_replication WHERE application_name = '" + name + "'")
		if state == "sync" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not become synchronous: %v", name, err)
}

// Promote makes a primary of a standby.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	// What the old primary was to wait for came along with its settings. A query that waits
	// for the promotion may be in the way of what is still to be done before it.
	if err := s.SQL("SELECT pg_promote(false)"); err != nil {
		t.Fatal(err)
	}
	for range 600 {
		if out, err := s.Query("SELECT pg_is_in_recovery()"); err == nil && out == "f" {
			s.Synchronous(t, "")
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the standby does not become a primary")
}
