package netsrv

import (
	"net/netip"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// enter counts a connection in, unless it would be over a limit.
func (s *Server) enter(peer netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns >= s.opt.MaxConns {
		return false
	}
	if block, limited := s.counted(peer); limited {
		if s.byAddr[block] >= s.opt.MaxPerAddress {
			return false
		}
		s.byAddr[block]++
	}
	s.conns++
	return true
}

// SignIn counts the connection under an account, by any name that is the account's
// alone, until it ends or signs in to another. Call it when a login has succeeded and
// before anything is done for the account. Over Options.MaxPerAccount it is Limited
// and changes nothing: the login must be refused.
//
// From here on the connection counts no more under its address. So any number of
// people may work from behind one address, and one of them with too many connections
// stands in nobody's way but their own.
func (c *Conn) SignIn(account string) error {
	s := c.srv
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.signedIn && c.account == account {
		return nil
	}
	if s.byAccount[account] >= s.opt.MaxPerAccount {
		return fault.New(fault.Limited, "too many connections of this account at the same time")
	}
	s.uncount(c)
	s.byAccount[account]++
	c.account, c.signedIn, c.raw.by = account, true, time.Time{}
	return nil
}

// SignOut undoes SignIn: the connection is one of an unknown client again, with the
// service's idle time.
func (c *Conn) SignOut() {
	s := c.srv
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.signedIn {
		return
	}
	s.uncount(c)
	c.account, c.signedIn = "", false
	if block, limited := s.counted(c.peer); limited {
		s.byAddr[block]++
	}
	c.idle = c.usualIdle()
	c.raw.by = c.signInBy()
}

// leave takes back what enter and SignIn have counted.
func (s *Server) leave(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns--
	s.uncount(c)
}

// uncount takes a connection out of the count of its account or its address. It needs
// the lock.
func (s *Server) uncount(c *Conn) {
	if c.signedIn {
		if s.byAccount[c.account]--; s.byAccount[c.account] == 0 {
			delete(s.byAccount, c.account)
		}
		return
	}
	block, limited := s.counted(c.peer)
	if !limited {
		return
	}
	if s.byAddr[block]--; s.byAddr[block] == 0 {
		delete(s.byAddr, block)
	}
}
