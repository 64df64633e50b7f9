// Package traffic is clients of every protocol that keep a ledger of what the server has
// acknowledged, for tests that do something to the server meanwhile: kill it, restart it,
// fill its disk.
//
// A session of a client runs until it is told to stop, or until the server ends it; what
// that means is for the test to say. It knows the protocols and nothing of the server's
// inside.
package traffic

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// Crowd is clients of one server.
type Crowd struct {
	Server *martlet.Server
	Ledger *Ledger
	Big    int           // one message in so many is of about 700 KB; 0: none
	Pause  time.Duration // between two transactions of a client
	Most   int           // transactions of a session, after which it ends by itself; 0: no end
	Seed   uint64
	Shift  int // of the work; a new one makes its sessions differ from those of before

	// Refused is told of each reply that is no success. It returns whether the client is
	// to go on; nil never lets it.
	Refused func(client string, r *Refusal) bool

	mu     sync.Mutex
	stop   chan struct{}
	done   int // transactions
	idlers int // clients in IDLE now
	byes   int // told to clients in IDLE
}

// Session is one connection of a client at a time.
type Session struct {
	*Crowd
	*Talk
	name string // no other session has it
	rng  *rand.Rand
}

// kinds are the clients there are.
var kinds = map[string]func(s *Session) error{
	"out": (*Session).out, "dave": (*Session).dave, "collect": (*Session).collecting,
	"lmtp": (*Session).lmtp, "smtp": (*Session).smtp, "submission": (*Session).submission,
	"append": (*Session).appending, "move": (*Session).moving, "pop": (*Session).popping, "idle": (*Session).idling,
	"churn": (*Session).churning, "search": (*Session).searching, "nap": (*Session).napping,
	"abort": (*Session).aborting, "cut": (*Session).cutting, "wrong": (*Session).guessing,
}

// Kind returns the kind of a client from its name, which is the kind and a number.
func Kind(client string) string { return strings.TrimRight(client, "0123456789") }

// Begin lets sessions go on until Stop.
func (c *Crowd) Begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop = make(chan struct{})
}

// Stop has every session end once its transaction is over.
func (c *Crowd) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.stop:
	default:
		close(c.stop)
	}
}

func (c *Crowd) stopped() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stop
}

// Stopped tells whether sessions are to end.
func (c *Crowd) Stopped() bool {
	select {
	case <-c.stopped():
		return true
	default:
		return false
	}
}

// Done returns how many transactions the server has answered with yes.
func (c *Crowd) Done() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// Idle returns how many clients are in IDLE.
func (c *Crowd) Idle() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.idlers
}

// Byes returns how many clients in IDLE were told BYE.
func (c *Crowd) Byes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byes
}

func (c *Crowd) count(n *int, by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n += by
}

// Run runs one session of a client. round tells its sessions apart. It returns nil after
// Stop, else an *End, or a *Refusal that the crowd does not bear with.
func (c *Crowd) Run(client string, round int) error {
	run := kinds[Kind(client)]
	if run == nil {
		return fmt.Errorf("there is no client of the kind of %s", client)
	}
	err := run(c.Session(fmt.Sprintf("%s-%d-%d", client, c.Shift, round)))
	var end *End
	if errors.As(err, &end) && end.Refused {
		c.pause(20 * time.Millisecond) // nobody is there; whoever calls us tries again
	}
	return err
}

// Session returns one of this name, for a test that says itself what it does.
func (c *Crowd) Session(name string) *Session {
	seed := c.Seed
	for _, b := range []byte(name) {
		seed = seed*31 + uint64(b)
	}
	return &Session{Crowd: c, name: name, rng: rand.New(rand.NewPCG(c.Seed, seed))}
}

// each runs a transaction again and again. After a refusal that is borne with, recover
// brings the session back to where the next can begin.
func (s *Session) each(transaction func(token string) error, recover func() error) error {
	for i := 0; !s.enough(i); i++ {
		err := transaction(fmt.Sprintf("%s-%d", s.name, i))
		var no *Refusal
		switch {
		case err == nil:
			s.count(&s.done, 1)
		case errors.As(err, &no) && s.Refused != nil && s.Refused(s.name, no):
			err = recover()
			s.pause(50 * time.Millisecond)
		}
		if err != nil {
			return err
		}
		s.pause(s.Pause)
	}
	return nil
}

// enough tells whether a session ends after so many transactions.
func (c *Crowd) enough(n int) bool { return c.Stopped() || c.Most > 0 && n >= c.Most }

func (c *Crowd) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-c.stopped():
	}
}

func (c *Crowd) address(name string) string {
	if name == Elsewhere {
		return "somebody@" + Elsewhere
	}
	return c.Server.Account(name).Address
}

// TokenField carries the name under which the ledger knows a message.
const TokenField = "X-Ledger: "

func (s *Session) letter(token, from, to string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "From: <%s>\r\nTo: <%s>\r\nSubject: traffic\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <%s@traffic.example>\r\n%s%s\r\n\r\n",
		from, to, token, TokenField, token)
	lines := s.rng.IntN(200)
	if s.Big > 0 && s.rng.IntN(s.Big) == 0 {
		lines += 20_000
	}
	for range lines {
		fmt.Fprintf(&b, "%x%x\r\n", s.rng.Uint64(), s.rng.Uint64())
	}
	return b.String()
}
