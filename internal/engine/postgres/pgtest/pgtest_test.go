package pgtest

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// TestServer: what is committed is there after the server was killed, and on its standby.
func TestServer(t *testing.T) {
	s := Start(t, Options{})
	if err := s.SQL("CREATE TABLE t(n int)", "INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := s.SQL("SELECT 1"); err == nil {
		t.Fatal("the server was killed and answers")
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	b, name := s.Standby(t)
	s.Synchronous(t, name)
	if err := s.SQL("INSERT INTO t VALUES (2)"); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	b.Promote(t)
	if out, err := b.Query("SELECT sum(n) FROM t"); out != "3" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}
