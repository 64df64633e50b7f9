// Package pop3source reads a mailbox at a POP3 server as a move.Source.
//
// Messages are known by their UIDLs; where a server has none, by a hash of their header. RETR
// goes ahead of the answers where the server allows it. Nothing is removed there but by
// Remove, and only what was read and is in the account.
//
// What the server says is bounded: lines, lists and messages. It is not connected again when
// the connection breaks: who reads opens the source anew, and wants what is missing.
//
// POP3 has no flags, no internal dates and one mailbox.
//
// RFC 1939, 2449 (CAPA, response codes), 2595 (STLS), 3206 (AUTH, SYS), 5034 (AUTH), 7628.
package pop3source

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

// Security says how the line is protected.
type Security uint8

const (
	TLS        Security = iota // from the first byte (RFC 8314, 3.3)
	StartTLS                   // by STLS, or nothing is done
	OfferedTLS                 // by STLS if the server offers it
)

// Options sets up a Source. Host, User, Dial, Now, Random and Credentials must be set.
type Options struct {
	Host     string // a name, or an address; certificates must bear it
	Port     uint16 // 0: 995 with TLS, else 110
	Security Security
	Roots    *x509.CertPool // nil: the system's
	// Insecure: any certificate will do, and a password may go over a line in the clear. Else
	// it goes in the clear to this machine only.
	Insecure bool
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	Now      func() time.Time // for certificates
	Random   io.Reader
	Timeout  time.Duration // without a byte; 0: a minute
	User     string
	// Credentials are asked for at each login: tokens expire.
	Credentials func(ctx context.Context) (Credentials, error)
	// Ties is what was brought before; nil: nothing is known, and nothing can be removed.
	Ties Ties
}

// Credentials prove who somebody is: by a password, or by an OAuth access token.
type Credentials struct {
	Password string
	Token    string
	// Mechanism is the one to use, of SASL or "APOP" or "USER"; "": the best both sides know.
	Mechanism string
}

// Source is a mailbox at a POP3 server. It is used by one goroutine at a time.
type Source struct {
	opt  Options
	c    *client
	list []entry
	nth  int // session

	doubts int // see doubt

	delay time.Duration // see LoginDelay
}

// entry is a message of the session.
type entry struct {
	number int
	size   int64
	key    string
	uidl   string
	got    int64 // bytes that were read of it in this session
}

// New returns a source. It connects when it is first asked for something.
func New(opt Options) *Source {
	if opt.Timeout == 0 {
		opt.Timeout = time.Minute
	}
	if opt.Port == 0 {
		if opt.Port = 110; opt.Security == TLS {
			opt.Port = 995
		}
	}
	return &Source{opt: opt}
}

// ID names the mailbox: "pop3:carol@pop.example.net:995".
func (s *Source) ID() string {
	id := fmt.Sprintf("pop3:%s@%s:%d", s.opt.User, strings.ToLower(s.opt.Host), s.opt.Port)
	if len(id) > 400 {
		return "pop3:" + rfc822.KeyOfName(id)
	}
	return id
}

// Close ends the session. Nothing was marked for removal in it.
func (s *Source) Close() error {
	if s.c == nil {
		return nil
	}
	c := s.c
	s.c, s.list = nil, nil
	return c.quit()
}

// open returns a session that is signed in, with its list.
func (s *Source) open(ctx context.Context) error {
	if s.c != nil && s.c.dead == nil {
		s.c.ctx = ctx
		return nil
	}
	if s.c != nil {
		_ = s.c.conn.Close()
		s.c = nil
	}
	c, err := dial(ctx, s.opt)
	if err != nil {
		return err
	}
	if err := c.login(ctx, s.opt); err != nil {
		_ = c.conn.Close()
		return err
	}
	list, err := c.listing()
	if err != nil {
		_ = c.conn.Close()
		return err
	}
	s.c, s.list, s.delay = c, list, c.loginDelay()
	s.nth++
	return nil
}

// Mailboxes returns the one there is.
func (s *Source) Mailboxes(ctx context.Context) ([]move.Mailbox, error) {
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	m := move.Mailbox{Name: "INBOX", Source: "INBOX", Role: mail.RoleInbox, Subscribed: true, Messages: int64(len(s.list))}
	for _, e := range s.list {
		m.Bytes += e.size
	}
	return []move.Mailbox{m}, nil
}

// mostTops is how many headers are asked for, for a plan.
const mostTops = 5000

// Read goes through the mailbox as the session has it.
func (s *Source) Read(ctx context.Context, _ move.Mailbox, how move.Reading, v move.Visitor) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	all, nth := s.list, s.nth
	for list := all; len(list) > 0; {
		n := min(len(list), move.MaxItems)
		block := list[:n]
		if how.Order == move.NewestFirst {
			block, list = list[len(list)-n:], list[:len(list)-n]
		} else {
			list = list[n:]
		}
		if err := s.block(ctx, block, nth, how, v); err != nil {
			return err
		}
	}
	return nil
}

// block tells of some messages of the nth session, and hands over those that are wanted.
func (s *Source) block(ctx context.Context, block []entry, nth int, how move.Reading, v move.Visitor) error {
	if !how.Plan && nth == s.nth { // of a session of before the numbers are others
		if err := s.doubt(ctx, block); err != nil {
			return err
		}
	}
	items := make([]move.Item, len(block))
	for i, e := range block {
		items[i] = move.Item{Key: e.key, Size: e.size}
	}
	if how.Plan && s.c.has("TOP") && len(s.list) <= mostTops {
		if err := s.c.tops(block, items); err != nil {
			return err
		}
	}
	wanted, err := v.Want(ctx, items)
	if err != nil || how.Plan {
		return err
	}
	var get []int
	for i, w := range wanted {
		if w {
			get = append(get, i)
		}
	}
	for len(get) > 0 {
		if get, err = s.present(ctx, block, nth, items, get, v); err != nil {
			return err
		}
		done, err := s.c.retrieve(ctx, block, items, get, v)
		if err == nil || !errors.Is(err, errEnd) {
			return err
		}
		// A message without end: the session is over, and goes on behind it.
		if err := v.Skip(ctx, items[get[done]], err); err != nil {
			return err
		}
		get = get[done+1:]
		if err := s.open(ctx); err != nil {
			return err
		}
	}
	return nil
}

// present gives messages the numbers that they have in the session of now, and leaves out
// those that are not there any more.
func (s *Source) present(ctx context.Context, block []entry, nth int, items []move.Item, get []int, v move.Visitor) ([]int, error) {
	if nth == s.nth {
		return get, nil
	}
	numbers := make(map[string]int, len(s.list))
	for _, e := range s.list {
		numbers[e.key] = e.number
	}
	var there []int
	for _, i := range get {
		if n, ok := numbers[block[i].key]; ok {
			block[i].number = n
			there = append(there, i)
		} else if err := v.Skip(ctx, items[i], fault.New(fault.NotFound, "it was removed at the server meanwhile")); err != nil {
			return nil, err
		}
	}
	// Numbers of blocks to come are put right by their own call.
	return there, nil
}

var _ move.Source = (*Source)(nil)
