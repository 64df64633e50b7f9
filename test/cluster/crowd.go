package cluster

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Crowd is the clients of a lab.
type Crowd struct {
	Lab   *Lab
	Book  *Book
	Pause time.Duration // of a sender between two messages
	Seed  uint64

	accounts []string
	gate     sync.RWMutex // held for reading by whoever is in the middle of something
	sessions []*session
	running  sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	up      bool // nobody tries again any more
	drops   []drop
	nos     []string
	notes   []string
	story   map[string]string // account, UID and MODSEQ to flags, as sessions were told
	wrong   []string          // two sessions were told what cannot both be true
}

// drop is a session that was thrown out.
type drop struct {
	node, name, why string
}

// NewCrowd returns the clients of a lab whose nodes run.
func NewCrowd(l *Lab, seed uint64) *Crowd {
	return &Crowd{Lab: l, Book: NewBook(), Pause: 150 * time.Millisecond, Seed: seed, accounts: l.opt.Accounts, story: map[string]string{}}
}

// Start opens all sessions and lets everybody work.
func (c *Crowd) Start() error {
	nodes := len(c.Lab.Nodes)
	for i, a := range c.accounts {
		for j, kind := range []string{"resync", "idle", "plain"} {
			s := newSession(c, fmt.Sprintf("%s-%s", kind, a), a, (i+j)%nodes)
			s.idles, s.deletes = kind == "idle", kind == "resync"
			if err := s.open(c.Lab, s.qresync()); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			c.sessions = append(c.sessions, s)
		}
	}
	for _, s := range c.sessions {
		c.running.Go(s.live)
	}
	for i, door := range []string{"lmtp", "smtp", "lmtp", "smtp", "submission"} {
		s := &sender{crowd: c, name: fmt.Sprintf("%s%d", door, i), door: door, account: c.accounts[i%len(c.accounts)]}
		c.running.Go(s.run)
	}
	out := &sender{crowd: c, name: "out", door: "submission", account: outside}
	c.running.Go(out.run)
	return nil
}

// enter begins something that is not to be interrupted by a check; false: it is over.
func (c *Crowd) enter() bool {
	c.gate.RLock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		c.gate.RUnlock()
		return false
	}
	return true
}

func (c *Crowd) leave() { c.gate.RUnlock() }

func (c *Crowd) givenUp() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up
}

// GiveUp has senders leave what is not taken.
func (c *Crowd) GiveUp(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.up = on
}

// Stop ends all.
func (c *Crowd) Stop() {
	c.mu.Lock()
	c.stopped, c.up = true, true
	c.mu.Unlock()
	c.running.Wait()
}

// Pauses has everybody finish what he is at and wait; what was being sent is acknowledged
// then. It fails if that takes too long.
func (c *Crowd) PauseAll(most time.Duration) error {
	timer := time.AfterFunc(most, func() { c.GiveUp(true) })
	c.gate.Lock()
	if !timer.Stop() {
		c.GiveUp(false)
		return fmt.Errorf("senders could not bring their mail within %v", most)
	}
	return nil
}

// GoOn ends the pause.
func (c *Crowd) GoOn() { c.gate.Unlock() }

func (c *Crowd) dropped(s *session, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops = append(c.drops, drop{c.Lab.Nodes[s.node].Name, s.name, err.Error()})
}

func (c *Crowd) refused(s *session, command, answer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nos = append(c.nos, fmt.Sprintf("%s at %s: %.60s: %s", s.name, c.Lab.Nodes[s.node].Name, command, answer))
}

func (c *Crowd) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// Told holds what one session was told of a message against what others were: flags of one
// MODSEQ are the same for all.
func (c *Crowd) Told(s *session, line string) {
	uid, modseq := number(line, "UID "), number(line, "MODSEQ (")
	flags := after(line, "FLAGS (", ")")
	if uid == 0 || modseq == 0 || flags == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := fmt.Sprintf("%s %d %d", s.account, uid, modseq)
	was, known := c.story[key]
	if c.story[key] = sorted(flags); known && was != c.story[key] {
		c.wrong = append(c.wrong, fmt.Sprintf("%s: UID and MODSEQ %s had the flags %q, %s is told %q", s.account, key, was, s.name, c.story[key]))
	}
}

// truths returns what each node shows of an account to somebody new.
func (c *Crowd) truths(account string) (all []*memory, err error) {
	for i, n := range c.Lab.Nodes {
		s := newSession(c, "truth", account, i)
		if err := s.open(c.Lab, true); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", account, n.Name, err)
		}
		s.t.c.Close()
		all = append(all, s.memory)
		if i > 0 {
			if d := all[0].differs(s.memory); d != "" {
				return nil, fmt.Errorf("%s: %s and %s differ: %s", account, c.Lab.Nodes[0].Name, n.Name, d)
			}
		}
		if len(s.wrong) > 0 {
			return nil, fmt.Errorf("%s of %s: %v", account, n.Name, s.wrong)
		}
	}
	return all, nil
}

// Result is what a check has found.
type Result struct {
	Verdict
	Untrue []string // told to sessions, or not what they end with
	Late   []string // acknowledged on one node, and not shown by another that was asked afterwards
	Drops  []drop
	Nos    []string
	Notes  []string
}

// Check compares everything. Everybody has to be paused.
func (c *Crowd) Check() (r Result, err error) {
	for _, account := range c.accounts {
		truths, err := c.truths(account)
		if err != nil {
			r.Untrue = append(r.Untrue, err.Error())
			continue
		}
		truth := truths[0]
		v := c.Book.Compare(account, truth.tokens())
		r.Lost, r.Doubled, r.Strange, r.Again = append(r.Lost, v.Lost...), append(r.Doubled, v.Doubled...), append(r.Strange, v.Strange...), r.Again+v.Again
		for _, s := range c.sessions {
			if s.account == account {
				r.Untrue = append(r.Untrue, s.settle(truth)...)
				r.Late = append(r.Late, s.late...)
				s.late = nil
			}
		}
		c.forget(account, truth)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Untrue = append(r.Untrue, c.wrong...)
	r.Drops, r.Nos, r.Notes = c.drops, c.nos, c.notes
	c.drops, c.nos, c.notes, c.wrong = nil, nil, nil, nil
	return r, nil
}

// settle brings a session up to date and returns what it was told wrongly.
func (s *session) settle(truth *memory) (untrue []string) {
	for range 5 {
		if s.t != nil {
			break
		}
		s.reopen()
	}
	if s.t == nil {
		return []string{s.name + " cannot come back"}
	}
	if err := s.sync(); err != nil {
		s.t.c.Close()
		s.t = nil
		if errors.Is(err, errRefused) {
			return []string{s.name + " is refused"}
		}
		s.crowd.dropped(s, err)
		s.reopen()
		if s.t == nil {
			return []string{s.name + " cannot come back"}
		}
	}
	for _, w := range s.wrong {
		untrue = append(untrue, s.name+": "+w)
	}
	if s.story != "" {
		s.crowd.note("%s", s.story)
		s.story = ""
	}
	s.wrong = nil
	if err := s.check(truth); err != nil {
		untrue = append(untrue, err.Error())
	}
	return untrue
}

// forget drops from the book what is gone.
func (c *Crowd) forget(account string, truth *memory) {
	there := truth.tokens()
	gone := map[string]bool{}
	c.Book.mu.Lock()
	for t, m := range c.Book.mails {
		if m.account == account && m.removed != 0 && there[t] == 0 {
			gone[t] = true
		}
	}
	c.Book.mu.Unlock()
	c.Book.Forget(gone)
}
