package cluster

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

const seed = 1

// crowd starts the nodes and the clients of a lab.
func crowd(t *testing.T, l *Lab) *Crowd {
	t.Helper()
	if err := l.StartNodes(); err != nil {
		t.Fatal(err)
	}
	c := NewCrowd(l, seed)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

var people = []string{"alice", "bob", "carol"}

// The clients and the checker, on one node with an embedded engine: nothing is noticed where
// nothing is wrong.
func TestClients(t *testing.T) {
	long(t)
	l := build(t, Options{Nodes: 1, Embedded: true, Accounts: people})
	c := crowd(t, l)
	for _, f := range []Fault{
		{Name: "nothing", Hold: 5 * time.Second, Smooth: true, Begin: func(*Lab) (func() error, error) { return nil, nil }},
		named("kill -9: a node"), named("frozen: a node"), named("rolling restart"),
	} {
		f.Hold = min(f.Hold, 8*time.Second)
		if f.Name == "rolling restart" {
			f.Smooth = false // there is only one
		}
		if r := c.Run(f, t.Logf); !r.OK() && !strings.HasPrefix(f.Name, "rolling") {
			t.Errorf("%s: not as was promised", f.Name)
		}
	}
}

// named returns the fault whose name begins so.
func named(name string) Fault {
	for _, f := range Faults() {
		if strings.HasPrefix(f.Name, name) {
			return f
		}
	}
	panic("there is no fault " + name)
}

// TestFaults is the table. MARTLET_FAULTS chooses by a regular expression; the page is written
// only if all were done.
func TestFaults(t *testing.T) {
	long(t)
	l := build(t, Options{Nodes: 3, Accounts: people})
	c := crowd(t, l)
	which := regexp.MustCompile(os.Getenv("MARTLET_FAULTS"))
	var done []Row
	for _, f := range Faults() {
		if !which.MatchString(f.Name) {
			continue
		}
		row := c.Run(f, t.Logf)
		done = append(done, row)
		if !row.OK() {
			t.Errorf("%s: not as was promised", f.Name)
		}
		if row.Err != nil {
			t.Fatalf("%s: %v", f.Name, row.Err)
		}
	}
}
