// Package imapsource reads an account at another IMAP server as a move.Source, and changes
// it for those who keep both sides in step or bring mail out.
//
// Mail is read in windows of a thousand messages: what they are is asked ahead, their bodies
// are asked in several commands at once and streamed on, so the line is never idle and
// memory does not grow with the mailbox. A connection that breaks is made again and reading
// goes on with the message it was at; a server that asks to wait is waited for. At Gmail all
// mail is read once, and its labels become mailboxes or keywords.
//
// It signs in with what it is given, keeps no state of its own, and does not know the
// account the mail goes to.
//
// RFC 9051 and 3501, 6154 (roles), 7162 (what has changed); X-GM-EXT-1 of Gmail.
package imapsource

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
)

// Labels says what Gmail's labels become.
type Labels uint8

const (
	LabelMailboxes Labels = iota // mailboxes: Item.Places
	LabelKeywords                // keywords, but for Inbox, Sent and Draft
)

// Options sets up a Source.
type Options struct {
	IMAP imapc.Options
	// Credentials are asked for each connection anew: tokens expire.
	Credentials func(ctx context.Context) (imapc.Credentials, error)
	User        string // whose mail it is, for the ID: the name of the login, or Authz
	Labels      Labels
	// KeepUIDs: messages here get the UIDs they have there, so that clients which move with
	// the server's name need not download again.
	KeepUIDs bool
	// BytesPerDay is how much may be read in 24 hours; 0: what the provider is known to
	// allow, -1: no limit.
	BytesPerDay int64
	// Patience is how long to go on trying without any progress; 0: a day.
	Patience time.Duration
	// Tell is told in a sentence what is waited for, "" when it goes on; nil: nobody.
	Tell func(state string)
	// Wait waits; nil: by a timer.
	Wait func(ctx context.Context, d time.Duration) error
}

// Source is an account at an IMAP server. It is used by one goroutine at a time.
type Source struct {
	opt     Options
	c       *imapc.Client
	gmail   bool
	reached bool                     // somebody was signed in there before
	boxes   map[string]imapc.Mailbox // by Mailbox.Source
	places  map[string]string        // Gmail's label to a mailbox's name here
	seen    map[string]state         // how mailboxes were when they were last read
	sep     byte
	prefix  string
	limit   meter
	state   string
}

var _ move.Source = (*Source)(nil)

// New returns a source. It connects when it is first asked for something.
func New(opt Options) *Source {
	if opt.Patience == 0 {
		opt.Patience = 24 * time.Hour
	}
	if opt.Wait == nil {
		opt.Wait = wait
	}
	if opt.Tell == nil {
		opt.Tell = func(string) {}
	}
	return &Source{opt: opt, seen: map[string]state{}}
}

// Fork returns another source of the same account with a connection of its own.
func (s *Source) Fork() move.Source {
	f := New(s.opt)
	f.boxes, f.places, f.gmail, f.sep, f.prefix = s.boxes, s.places, s.gmail, s.sep, s.prefix
	return f
}

// ID names the account: "imap:carol@imap.example.net:993".
func (s *Source) ID() string {
	port := s.opt.IMAP.Port
	if port == 0 {
		if port = 143; s.opt.IMAP.Security == imapc.TLS {
			port = 993
		}
	}
	id := fmt.Sprintf("imap:%s@%s:%d", s.opt.User, strings.ToLower(s.opt.IMAP.Host), port)
	return shorten(id)
}

// Close ends the connection.
func (s *Source) Close() error {
	if s.c == nil {
		return nil
	}
	c := s.c
	s.c = nil
	return c.Close()
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
