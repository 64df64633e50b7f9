package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// scenario is all that happens to a server in one run but for what its own goroutines
// choose. It is drawn from a seed, or read from a file of testdata.
type scenario struct {
	Why      string `json:",omitempty"` // in files: what it once found
	Seed     uint64 // of what is drawn while it runs: delays, blocks that survive a cut
	Keep     bool   `json:",omitempty"` // deleted mail, for a time
	MemTable int    // KB of a write buffer of the database
	Domains  []domainPlan
	Lives    []life // of the server; the last one ends by itself
}

// domainPlan says how the hosts of a foreign domain behave.
type domainPlan struct {
	Name string
	// Plan is what happens to one connection after the other; after it all goes well.
	Plan []string `json:",omitempty"`
	Dead bool     `json:",omitempty"` // nobody ever answers
	Slow int      `json:",omitempty"` // ms before each reply
}

// life is what happens between a start of the server and a cut of its power.
type life struct {
	Cut    cut
	Faults []trouble `json:",omitempty"`
	Actors []actor   `json:",omitempty"`
}

// cut is a power cut: before the n-th call that changes the file system, or the n-th sync,
// or at a time.
type cut struct {
	Call  int `json:",omitempty"`
	Sync  int `json:",omitempty"`
	After int `json:",omitempty"` // ms; at the latest
	Keep  int // percent of what was not synced that survives
	Told  int // percent of the peers that hear of it
	Dark  int `json:",omitempty"` // seconds until the server is back
}

// trouble is a fault for a while. Times are milliseconds since the server's start.
type trouble struct {
	Kind     string // eio, full, slow, clock, dns
	From, To int    `json:",omitempty"`
	What     string `json:",omitempty"` // kind of call, of lie, of domain
	File     string `json:",omitempty"` // part of the name of a file, or a domain
	Skip     int    `json:",omitempty"` // calls let through first
	Once     bool   `json:",omitempty"`
	By       int    `json:",omitempty"` // ms: of a slow call; of a step of the clock
}

// actor is a client. Each of its Ops is a line of words.
type actor struct {
	Kind string // smtp, lmtp, submit, imap, pop, sweep
	User string `json:",omitempty"`
	At   int    // ms
	Gap  int    // ms between two ops
	// After so many bytes the connection breaks, or falls silent.
	BreakOut, BreakIn int  `json:",omitempty"`
	Silent            bool `json:",omitempty"`
	TLS               bool `json:",omitempty"` // from the first byte on
	Window            int  `json:",omitempty"`
	Ops               []string
}

func (s *scenario) String() string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(s); err != nil {
		return err.Error()
	}
	return b.String()
}

// The world outside, and who lives here.
const (
	home   = "martlet.test"
	secret = "secret"
)

var (
	users   = []string{"alice", "bob"}
	domains = []string{"a.test", "b.test", "c.test"}
)

// draw makes the scenario of a seed.
func draw(seed uint64) *scenario {
	d := dice{rand.New(rand.NewPCG(seed, 7))}
	s := &scenario{Seed: seed, Keep: d.chance(30), MemTable: d.of(16, 64, 256, 1024)}
	for _, name := range domains {
		s.Domains = append(s.Domains, d.domain(name))
	}
	lives := d.of(1, 1, 2, 2, 3)
	for n := range lives + 1 {
		s.Lives = append(s.Lives, d.life(s, n, lives))
	}
	return s
}

type dice struct{ *rand.Rand }

func (d dice) of(choices ...int) int         { return choices[d.IntN(len(choices))] }
func (d dice) word(choices ...string) string { return choices[d.IntN(len(choices))] }
func (d dice) chance(percent int) bool       { return d.IntN(100) < percent }
func (d dice) between(low, high int) int     { return low + d.IntN(high-low+1) }
func (d dice) user() string                  { return users[d.IntN(len(users))] }

// Behaviours of a foreign host on one connection.
var behaviours = []string{
	"ok", "refuse", "greet-4", "greet-5", "silent", "reset", "mail-4", "rcpt-4", "rcpt-5", "data-4",
	"drop-in-data", "drop-before", "drop-after", "final-4", "final-5", "final-421", "late", "very-late", "mute-after",
}

func (d dice) domain(name string) domainPlan {
	p := domainPlan{Name: name}
	switch {
	case d.chance(10):
		p.Dead = true
	case d.chance(70):
		for range d.between(1, 5) {
			p.Plan = append(p.Plan, behaviours[d.IntN(len(behaviours))])
		}
	}
	if d.chance(20) {
		p.Slow = d.between(1, 4000)
	}
	return p
}

func (d dice) life(s *scenario, n, last int) life {
	var l life
	if n < last {
		l.Cut = cut{After: d.between(2_000, 40_000), Keep: 25 * d.IntN(5), Told: d.of(0, 50, 100), Dark: d.of(0, 1, 30, 600)}
		switch n := d.IntN(10); {
		case n < 4:
			l.Cut.Call = d.between(1, 150)
		case n < 8:
			l.Cut.Sync = d.between(1, 50)
		}
	}
	for range d.between(3, 6) {
		l.Actors = append(l.Actors, d.actor(n))
	}
	if d.chance(50) {
		l.Faults = append(l.Faults, d.trouble(s, n == last))
	}
	if d.chance(20) {
		l.Faults = append(l.Faults, d.trouble(s, n == last))
	}
	return l
}

func (d dice) trouble(s *scenario, last bool) trouble {
	from := d.between(0, 8_000)
	t := trouble{From: from, To: from + d.between(500, 20_000)}
	switch n := d.IntN(11) - 1; {
	case n <= 0 && !last: // the last life must be able to end well
		t.Kind, t.What = "eio", d.word("create", "write", "write", "sync", "sync", "remove", "rename")
		t.File, t.Once, t.Skip = d.word(".log", ".log", ".sst", "MANIFEST", ""), d.chance(50), d.of(0, 0, 1, 5, 20)
	case n < 3:
		t.Kind, t.File = "full", d.word(".log", ".sst", ".blob", "MANIFEST")
	case n < 5:
		t.Kind, t.By = "slow", d.between(5, 2_000)
	case n < 7:
		t.Kind, t.By, t.To = "clock", d.of(-1, 1, -2_000, 60_000, -3_600_000, 3_600_000, -86_400_000, 90_000_000), 0
	default:
		t.Kind, t.What, t.File = "dns", d.word("servfail", "servfail", "silent", "silent", "refused", "nxdomain"), domains[d.IntN(len(domains))]
		t.To += d.of(0, 0, 200_000)
	}
	if t.Kind == "slow" || t.Kind == "full" {
		// A call that takes its time while others wait for a lock would stop the clock
		// of the bubble: the log must not be exchanged for a new one meanwhile.
		s.MemTable = 1024
	}
	return t
}

func (d dice) actor(life int) actor {
	a := actor{At: d.between(0, 6_000), Gap: d.of(0, 1, 50, 400, 2_000)}
	if d.chance(25) {
		a.Silent = d.chance(40)
		if d.chance(50) {
			a.BreakIn = d.between(1, 3_000)
		} else {
			a.BreakOut = d.between(1, 6_000)
		}
	}
	if d.chance(10) {
		a.Window = d.between(1, 600)
	}
	a.TLS = d.chance(4)
	switch n := d.IntN(100); {
	case n < 22:
		a.Kind = "smtp"
		d.mails(&a, d.between(1, 5), d.foreign, d.local)
	case n < 30:
		a.Kind = "lmtp"
		d.mails(&a, d.between(1, 4), d.foreign, d.local)
	case n < 55:
		a.Kind, a.User = "submit", d.user()
		d.mails(&a, d.between(1, 4), func() string { return d.word(a.User, a.User, a.User, "<>") }, d.anybody)
	case n < 90:
		a.Kind, a.User = "imap", d.user()
		d.reads(&a)
	case n < 97:
		a.Kind, a.User = "pop", d.user()
		for range d.between(1, 3) {
			a.Ops = append(a.Ops, fmt.Sprintf("take %d", d.between(1, 4)))
		}
		a.Ops = append(a.Ops, d.word("quit", "quit", "drop"))
	default:
		a.Kind, a.Ops = "sweep", []string{"sweep"}
	}
	a.TLS = a.TLS && (a.Kind == "imap" || a.Kind == "pop")
	return a
}

func (d dice) foreign() string {
	return d.word("ann@a.test", "ann@a.test", "ben@b.test", "cy@nowhere.test", "<>")
}

func (d dice) local() string { return d.word("alice", "alice", "bob", "both", "away", "nobody") }

func (d dice) anybody() string {
	if d.chance(35) {
		return d.word("alice", "bob", "both")
	}
	return d.word("ann", "ann", "amy", "bad") + "@" + domains[d.IntN(len(domains))]
}

func (d dice) mails(a *actor, n int, from, to func() string) {
	for range n {
		var rcpts []string
		for range d.of(1, 1, 1, 2, 3) {
			if r := to(); !strings.Contains(strings.Join(rcpts, ",")+",", r+",") {
				rcpts = append(rcpts, r)
			}
		}
		how := d.word("data", "data", "data", "bdat", "piped")
		a.Ops = append(a.Ops, fmt.Sprintf("mail %s %s %d %s", from(), strings.Join(rcpts, ","), d.size(), how))
	}
}

func (d dice) size() int { return d.of(100, 300, 1_000, 5_000, 9_000, 40_000) }

func (d dice) reads(a *actor) {
	box := func() string { return d.word("INBOX", "INBOX", "Archive", "Work") }
	a.Ops = append(a.Ops, "select "+box())
	for range d.between(2, 8) {
		switch n := d.IntN(20); {
		case n < 5:
			a.Ops = append(a.Ops, fmt.Sprintf("append %s %d", box(), d.size()))
		case n < 9:
			a.Ops = append(a.Ops, fmt.Sprintf("flag %d %s", d.IntN(10), d.word(`+ \Seen`, `+ \Flagged`, `- \Seen`, `+ $Later`)))
		case n < 11:
			a.Ops = append(a.Ops, fmt.Sprintf("copy %d %s", d.IntN(10), box()))
		case n < 13:
			a.Ops = append(a.Ops, fmt.Sprintf("move %d %s", d.IntN(10), box()))
		case n < 15:
			a.Ops = append(a.Ops, fmt.Sprintf("expunge %d", d.IntN(10)))
		case n < 17:
			a.Ops = append(a.Ops, fmt.Sprintf("idle %d", d.between(100, 8_000)))
		case n < 19:
			a.Ops = append(a.Ops, "select "+box())
		default:
			a.Ops = append(a.Ops, "status "+box())
		}
	}
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }
