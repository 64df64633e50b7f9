package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"
)

// Fault is one thing that goes wrong, and how it comes right again. What the machines do
// about it in between is theirs.
type Fault struct {
	Name string
	Hold time.Duration // how long it lasts

	// Begin makes it happen. It returns what ends it, nil if it ends by itself.
	Begin func(l *Lab) (end func() error, err error)

	Smooth bool   // nothing of it may be noticed: no 4xx, no delivery without an answer
	Node   string // whose sessions end with it, a part of the name
}

// freeze is how long what is frozen, or parted, is.
const freeze = 30 * time.Second

// Faults is the table.
func Faults() []Fault {
	f := killings()
	f = append(f, freezings()...)
	f = append(f, partings()...)
	f = append(f, storages()...)
	f = append(f, Fault{Name: "a node drained, and brought back", Hold: 12 * time.Second, Smooth: true, Node: "node1", Begin: func(l *Lab) (func() error, error) {
		other := l.Nodes[1]
		_, err := other.Do("cluster", "drain", l.Nodes[0].Name)
		return func() error {
			_, err := other.Do("cluster", "drain", l.Nodes[0].Name, "--undo")
			return err
		}, err
	}})
	return append(f, Fault{Name: "rolling restart of all nodes, one after the other", Smooth: true, Node: "node", Begin: rolling})
}

func killings() []Fault {
	return []Fault{
		{Name: "kill -9: PostgreSQL of the primary; its Patroni starts it again", Hold: 15 * time.Second, Begin: func(l *Lab) (func() error, error) {
			return nil, l.Primary().KillPostgres()
		}},
		{Name: "kill -9: everything on the primary's machine", Hold: 40 * time.Second, Begin: func(l *Lab) (func() error, error) {
			p := l.Primary()
			return p.Revive, p.Kill()
		}},
		{Name: "kill -9: Patroni of the primary; PostgreSQL goes on", Hold: 40 * time.Second, Begin: func(l *Lab) (func() error, error) {
			p := l.Primary()
			p.Patroni.Kill()
			return p.Patroni.Start, nil
		}},
		{Name: "kill -9: everything on the synchronous replica's machine", Hold: 30 * time.Second, Begin: func(l *Lab) (func() error, error) {
			s := l.Standby()
			return s.Revive, s.Kill()
		}},
		{Name: "kill -9: a node", Node: "node1", Hold: 15 * time.Second, Begin: func(l *Lab) (func() error, error) {
			l.Nodes[0].Program.Kill()
			return l.Nodes[0].Program.Start, nil
		}},
		{Name: "kill -9: the S3 server", Hold: 15 * time.Second, Begin: func(l *Lab) (func() error, error) {
			l.S3.Program.Kill()
			return l.S3.Program.Start, nil
		}},
		{Name: "synchronous replica frozen, then kill -9 of all on the primary's machine", Hold: freeze, Begin: func(l *Lab) (func() error, error) {
			s, p := l.Standby(), l.Primary()
			if err := s.SignalPostgres(syscall.SIGSTOP); err != nil {
				return nil, err
			}
			time.Sleep(2 * time.Second) // commits wait for it now
			return func() error {
				return errors.Join(s.SignalPostgres(syscall.SIGCONT), p.Revive())
			}, p.Kill()
		}},
	}
}

func freezings() []Fault {
	stop := func(name string, who func(l *Lab) func(syscall.Signal) error) Fault {
		return Fault{Name: "frozen: " + name, Hold: freeze, Begin: func(l *Lab) (func() error, error) {
			tell := who(l)
			return func() error { return tell(syscall.SIGCONT) }, tell(syscall.SIGSTOP)
		}}
	}
	program := func(p *Program) func(syscall.Signal) error {
		return func(s syscall.Signal) error { p.Signal(s); return nil }
	}
	return []Fault{
		stop("PostgreSQL of the primary", func(l *Lab) func(syscall.Signal) error { return l.Primary().SignalPostgres }),
		stop("Patroni of the primary", func(l *Lab) func(syscall.Signal) error { return program(l.Primary().Patroni) }),
		stop("everything on the primary's machine", func(l *Lab) func(syscall.Signal) error { return l.Primary().Signal }),
		stop("PostgreSQL of the synchronous replica", func(l *Lab) func(syscall.Signal) error { return l.Standby().SignalPostgres }),
		stop("a node", func(l *Lab) func(syscall.Signal) error { return program(l.Nodes[0].Program) }),
		stop("the S3 server", func(l *Lab) func(syscall.Signal) error { return program(l.S3.Program) }),
	}
}

func partings() []Fault {
	part := func(name string, who func(l *Lab) (end, []end)) Fault {
		return Fault{Name: "parted: " + name, Hold: freeze, Begin: func(l *Lab) (func() error, error) {
			one, others := who(l)
			return PartAll(one, others...)
		}}
	}
	return []Fault{
		part("primary from synchronous replica", func(l *Lab) (end, []end) { return whole(l.Primary()), ends(l.Standby()) }),
		part("primary from the other replica", func(l *Lab) (end, []end) {
			return whole(l.Primary()), ends(l.Other(l.Primary(), l.Standby()))
		}),
		part("the two replicas", func(l *Lab) (end, []end) { return whole(l.Standby()), ends(l.Other(l.Primary(), l.Standby())) }),
		part("primary from both replicas", func(l *Lab) (end, []end) {
			p := l.Primary()
			s := l.Other(p)
			return whole(p), ends(s, l.Other(p, s))
		}),
		part("primary from etcd on the other machines", func(l *Lab) (end, []end) {
			p := l.Primary()
			s := l.Other(p)
			return etcdOf(p), each([]*Database{s, l.Other(p, s)}, etcdOf)
		}),
		part("a node from the primary", func(l *Lab) (end, []end) { return l.Nodes[0].end(), ends(l.Primary()) }),
		part("a node from all databases", func(l *Lab) (end, []end) { return l.Nodes[0].end(), ends(l.Databases...) }),
		part("a node from the S3 server", func(l *Lab) (end, []end) { return l.Nodes[0].end(), []end{l.S3.end()} }),
		part("a node from HAProxy", func(l *Lab) (end, []end) { return l.Nodes[0].end(), []end{all(l.Proxy.Host)} }),
	}
}

func storages() []Fault {
	ill := func(name string, how illness) Fault {
		return Fault{Name: "S3 " + name, Hold: 15 * time.Second, Begin: func(l *Lab) (func() error, error) {
			l.S3.Ill(&how)
			return func() error { l.S3.Ill(nil); return nil }, nil
		}}
	}
	return []Fault{
		{Name: "disk full on the primary's machine", Hold: freeze, Begin: func(l *Lab) (func() error, error) {
			p := l.Primary()
			fill := filepath.Join(p.fast(), "fill")
			_, err := p.Output("sh", "-c", "dd if=/dev/zero of="+fill+" bs=64k 2>/dev/null; dd if=/dev/zero of="+fill+".rest bs=1k 2>/dev/null; true")
			return func() error { _, err := p.Output("rm", "-f", fill, fill+".rest"); return err }, err
		}},
		ill("answers 500", illness{status: 500}),
		ill("answers 503", illness{status: 503}),
		ill("takes three seconds for each request", illness{delay: 3 * time.Second}),
		ill("breaks off in the middle of each answer", illness{truncate: true}),
	}
}

// rolling restarts each node: drained, stopped, started, ready, and then the next one.
func rolling(l *Lab) (func() error, error) {
	for _, n := range l.Nodes {
		if err := n.Stop(40 * time.Second); err != nil {
			return nil, err
		}
		if err := n.Program.Start(); err != nil {
			return nil, fmt.Errorf("%s: %w", n.Name, err)
		}
		time.Sleep(3 * time.Second) // until HAProxy has seen it
	}
	return nil, nil
}
