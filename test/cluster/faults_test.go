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

// named returns the fault whose name begins so, held no longer than that.
func named(name string, hold time.Duration) Fault {
	for _, f := range Faults() {
		if strings.HasPrefix(f.Name, name) {
			f.Hold = min(f.Hold, hold)
			return f
		}
	}
	panic("there is no fault " + name)
}

// try runs a fault, which must come out as was promised.
func try(t *testing.T, c *Crowd, f Fault) Row {
	t.Helper()
	row := c.Run(f, t.Logf)
	if !row.OK() {
		t.Errorf("%s: not as was promised", f.Name)
	}
	if row.Acked < 20 {
		t.Errorf("%s: %d messages are too few to prove anything", f.Name, row.Acked)
	}
	return row
}

// The clients and the checker, on one node with an embedded engine: nothing is noticed where
// nothing is wrong.
func TestClients(t *testing.T) {
	long(t)
	c := crowd(t, build(t, Options{Nodes: 1, Embedded: true, Accounts: people}))
	try(t, c, Fault{Name: "nothing", Hold: 5 * time.Second, Smooth: true, Begin: func(*Lab) (func() error, error) { return nil, nil }})
	try(t, c, named("kill -9: a node", 8*time.Second))
	try(t, c, named("frozen: a node", 8*time.Second))
	rolling := named("rolling", 0)
	rolling.Smooth = false // nobody else is there
	try(t, c, rolling)
}

// The short form: the machine of the primary is lost, and then a node.
func TestShort(t *testing.T) {
	if os.Getenv("MARTLET_CLUSTER") != "" {
		t.Skip("the long form is run")
	}
	c := crowd(t, build(t, Options{Nodes: 2, Accounts: people[:2]}))
	try(t, c, Fault{Name: "the machine of the primary is lost, and then a node", Hold: 3 * time.Second, Node: "node1", Begin: func(l *Lab) (func() error, error) {
		p, n := l.Primary(), l.Nodes[0].Program
		if err := p.Kill(); err != nil {
			return nil, err
		}
		err := await("another primary", time.Minute, func() bool { return l.Primary() != nil })
		n.Kill()
		return func() error { return together(p.Revive, n.Start) }, err
	}})
}

// answered is how long the answer to a commit may take on its way when the database is gone.
const answered = 2 * time.Second

// TestFaults is the table, with its control. MARTLET_FAULTS chooses by a regular expression.
func TestFaults(t *testing.T) {
	long(t)
	which := regexp.MustCompile(os.Getenv("MARTLET_FAULTS"))
	note := func(r Row) {
		if err := WritePage(r); err != nil {
			t.Error(err)
		}
	}
	if which.MatchString(Control().Name) {
		t.Run("control", func(t *testing.T) {
			c := crowd(t, build(t, Options{Nodes: 2, Accounts: people, Asynchronous: true}))
			fault, killed := Control(), time.Time{}
			begin := fault.Begin
			fault.Begin = func(l *Lab) (func() error, error) {
				end, err := begin(l)
				killed = time.Now()
				return end, err
			}
			row := c.Run(fault, t.Logf)
			if note(row); len(row.Lost) == 0 {
				t.Error("nothing was lost: then the table proves nothing")
			}
			// What nodes remember of it must not harm what came since.
			if late := c.Book.After(row.Lost, killed.Add(answered)); len(late) > 0 {
				t.Errorf("of the lost messages these were taken after the primary was gone: %s", some(late))
			}
		})
	}
	l := build(t, Options{Nodes: 3, Accounts: people})
	c := crowd(t, l)
	for _, f := range Faults() {
		if !which.MatchString(f.Name) {
			continue
		}
		row := try(t, c, f)
		if note(row); row.Err != nil && l.AwaitWhole(time.Minute) != nil {
			t.Fatalf("%s: %v", f.Name, row.Err)
		}
	}
}
