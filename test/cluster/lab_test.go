package cluster

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// build builds the machines for a test, or skips it with a sentence.
func build(t *testing.T, o Options) *Lab {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" && os.Getenv("MARTLET_CLUSTER") == "" {
		t.Skip("starts real programs; set MARTLET_PEERS=1, or MARTLET_CLUSTER=1 for all faults")
	}
	if err := Unable(); err != nil {
		t.Skip("no cluster here: " + err.Error())
	}
	began := time.Now()
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("databases, object store and proxy after %v", time.Since(began).Round(100*time.Millisecond))
	t.Cleanup(func() {
		if t.Failed() {
			if os.Getenv("MARTLET_WORLD_KEEP") == "" {
				t.Log(l.logs(25))
			}
		}
		l.Close()
	})
	return l
}

// long skips what only `make test-cluster` runs.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("MARTLET_CLUSTER") == "" {
		t.Skip("takes minutes; make test-cluster runs it")
	}
}

// rows writes rows of numbers with a plain SQL client, for as long as it is let, and returns
// those that were acknowledged.
func rows(ctx context.Context, l *Lab) (acked []int, err error) {
	conf, err := pgx.ParseConfig(l.URL())
	if err != nil {
		return nil, err
	}
	conf.DialFunc = l.Client.DialContext
	var c *pgx.Conn
	for n := 0; ctx.Err() == nil; n++ {
		if c == nil {
			if c, err = pgx.ConnectConfig(ctx, conf); err != nil {
				c = nil
				time.Sleep(100 * time.Millisecond)
				continue
			}
		}
		one, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, err := c.Exec(one, "insert into proof values ($1)", n)
		cancel()
		if err == nil {
			acked = append(acked, n)
		} else {
			go c.Close(context.Background())
			c = nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return acked, nil
}

// lostRows kills the primary's machine after its replicas have been out of its reach for two
// seconds, and returns how many rows were acknowledged, and which of them are not there.
func lostRows(t *testing.T, l *Lab) (acked int, lost []int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	ask := func(do func(*pgx.Conn) error) {
		t.Helper()
		conf, err := pgx.ParseConfig(l.URL())
		if err != nil {
			t.Fatal(err)
		}
		conf.DialFunc = l.Client.DialContext
		c, err := pgx.ConnectConfig(ctx, conf)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(ctx)
		if err := do(c); err != nil {
			t.Fatal(err)
		}
	}
	ask(func(c *pgx.Conn) error { _, err := c.Exec(ctx, "create table proof (n int primary key)"); return err })
	writing, stop := context.WithCancel(ctx)
	all := make(chan []int, 1)
	go func() {
		acked, err := rows(writing, l)
		if err != nil {
			t.Error(err)
		}
		all <- acked
	}()
	time.Sleep(2 * time.Second)
	p := l.Primary()
	heal, err := delay(l, p)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := await("another primary", time.Minute, func() bool { return l.Primary() != nil }); err != nil {
		t.Fatal(err, l.members())
	}
	time.Sleep(3 * time.Second)
	stop()
	if err := heal(); err != nil { // not before: the kernel may still have something to send for the dead
		t.Fatal(err)
	}
	numbers := <-all
	there := map[int]bool{}
	ask(func(c *pgx.Conn) error {
		r, err := c.Query(ctx, "select n from proof")
		if err != nil {
			return err
		}
		for r.Next() {
			var n int
			if err := r.Scan(&n); err != nil {
				return err
			}
			there[n] = true
		}
		return r.Err()
	})
	for _, n := range numbers {
		if !there[n] {
			lost = append(lost, n)
		}
	}
	return len(numbers), lost
}

// The databases alone, without anything of ours: with synchronous replication nothing that a
// plain SQL client was told is done is lost with the primary. The control without it loses.
func TestDatabases(t *testing.T) {
	long(t)
	for _, asynchronous := range []bool{false, true} {
		t.Run(fmt.Sprintf("asynchronous=%v", asynchronous), func(t *testing.T) {
			acked, lost := lostRows(t, build(t, Options{Nodes: 1, Asynchronous: asynchronous}))
			t.Logf("%d rows acknowledged, %d lost", acked, len(lost))
			if acked < 50 {
				t.Error("that is too few to prove anything")
			}
			if asynchronous != (len(lost) > 0) {
				t.Errorf("lost: %v", lost)
			}
		})
	}
}
