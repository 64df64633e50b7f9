package netsrv

import (
	"context"

	"github.com/martlet-mail/martlet/internal/turn"
)

// A session shares the processors with others as one of its account's. Before it has
// signed in, it is one of its address's; peers that are exempt from the limits of
// addresses, such as the mail server in front of LMTP, speak for many and need not ask.

// party is whom the session works for.
func (c *Conn) party() string {
	switch {
	case c.signedIn:
		return c.account
	case c.onBehalf != "":
		return c.onBehalf
	}
	return c.block
}

// WorkFor makes what follows the work of an account that has not signed in, but gets
// mail from here; "" ends that. Once somebody has signed in, all work is his.
func (c *Conn) WorkFor(account string) {
	if account == c.onBehalf {
		return
	}
	c.onBehalf = account
	c.work.Give()
	c.work.Take(c.party())
}

// Presence is what can be known of a client that is not being read from.
type Presence uint8

const (
	Here   Presence = iota
	Silent          // it will send nothing more: it may have gone, or just have said all
	Gone            // it cannot be reached
)

// Presence tells whether the client is still there, for whoever works for it for long.
// One that has closed its end is Silent until something is written to it: only then its
// system says that nobody listens.
func (c *Conn) Presence() Presence { return presence(c.raw.Conn) }

// Work takes a turn for an account that is worked for without a session, as its sessions take
// theirs. The context carries it, and the function gives it back.
func (s *Server) Work(ctx context.Context, account string) (context.Context, func()) {
	t := s.gate.Turn()
	t.Take(account)
	return turn.With(ctx, &t), t.Give
}
