package cluster

import (
	"fmt"
	"strings"
	"time"
)

// Row is what came of one fault.
type Row struct {
	Name   string
	Held   time.Duration // how long the fault was there
	Whole  time.Duration // from its end until every machine said it was well
	Smooth bool
	Figures
	Result
	Sessions int   // that were open
	Ended    int   // of these, with the node that the fault ended
	Err      error // what kept the row from being whole
}

// Run does one fault with all clients at work, and checks everything afterwards.
func (c *Crowd) Run(f Fault, log func(string, ...any)) (row Row) {
	row = Row{Name: f.Name, Smooth: f.Smooth}
	c.mu.Lock()
	row.Sessions = len(c.sessions)
	c.mu.Unlock()
	time.Sleep(2 * time.Second) // clients at work
	began := time.Now()
	c.Book.Since(began, began)
	end, err := f.Begin(c.Lab)
	if err == nil {
		time.Sleep(f.Hold)
		if end != nil {
			err = end()
		}
	}
	ended := time.Now()
	row.Held = ended.Sub(began)
	if err == nil {
		err = c.Lab.AwaitWhole(2 * time.Minute)
	}
	row.Whole = max(time.Since(ended)-settling, 0)
	if err != nil {
		row.Err = err
	}
	time.Sleep(3 * time.Second)
	if err := c.PauseAll(2 * time.Minute); err != nil && row.Err == nil {
		row.Err = err
	}
	defer c.GoOn()
	row.Figures = c.Book.Since(began, time.Now())
	if row.Result, err = c.Check(); err != nil && row.Err == nil {
		row.Err = err
	}
	for _, d := range row.Drops {
		if f.Node != "" && strings.Contains(d.node, f.Node) {
			row.Ended++
		}
	}
	if err := c.outside(&row.Result); err != nil && row.Err == nil {
		row.Err = err
	}
	log("%s", row)
	return row
}

// outside waits until mail to another host has gone there, and compares.
func (c *Crowd) outside(r *Result) error {
	var v Verdict
	err := await("arrival of all mail elsewhere", 90*time.Second, func() bool {
		v = c.Book.Outside(c.Lab.Sink.Seen())
		return len(v.Lost) == 0
	})
	r.Lost = append(r.Lost, v.Lost...)
	return err
}

// AwaitWhole waits until databases, nodes and object store are well.
func (l *Lab) AwaitWhole(most time.Duration) error {
	if !l.opt.Embedded {
		if err := l.AwaitDatabases(most); err != nil {
			return err
		}
	}
	return await("ready nodes", most, func() bool {
		for _, n := range l.Nodes {
			if !n.Ready() {
				return false
			}
		}
		return true
	})
}

// OK tells whether a row is as was promised.
func (r Row) OK() bool {
	ok := r.Err == nil && r.Verdict.OK() && len(r.Untrue) == 0 && len(r.Late) == 0 && len(r.Refused) == 0
	if r.Smooth {
		ok = ok && r.Later == 0 && r.Cut == 0
	}
	return ok
}

func (r Row) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: held %v, whole after %v, gap %v, acked %d, later %d, cut %d, refused %s, %d sessions, %d dropped, %d NO, lost %s, doubled %s, strange %s, again %d, untrue %s, late %s, err %v",
		r.Name, r.Held.Round(100*time.Millisecond), r.Whole.Round(100*time.Millisecond), r.Gap.Round(100*time.Millisecond), r.Acked, r.Later, r.Cut, some(r.Refused), r.Sessions, len(r.Drops), len(r.Nos),
		some(r.Lost), some(r.Doubled), some(r.Strange), r.Again, some(r.Untrue), some(r.Late), r.Err)
	for _, d := range r.Drops {
		fmt.Fprintf(&b, "\n  dropped at %s: %s: %s", d.node, d.name, d.why)
	}
	for i, n := range r.Nos {
		if i < 8 {
			fmt.Fprintf(&b, "\n  NO: %s", n)
		}
	}
	for i, n := range r.Notes {
		if i < 8 {
			fmt.Fprintf(&b, "\n  %s", n)
		}
	}
	return b.String()
}
