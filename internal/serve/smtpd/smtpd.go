// Package smtpd is the server side of SMTP: mail from other hosts (port 25), from
// people (submission, ports 587 and 465), and over LMTP. The three are one state
// machine; Options.Kind says what differs.
//
// A file per stage, in the order mail meets them: session.go (the command loop),
// cmd_hello.go, cmd_starttls.go, cmd_auth.go, cmd_mail.go, cmd_data.go,
// cmd_bdat.go and cmd_burl.go, submit.go (what a submitted message lacks), received.go, accept.go
// (the way to the mailboxes and the answer).
//
// The package parses nothing itself (syntax/smtp does), holds no message in memory,
// decides no route and knows no mailbox: package receive does. A positive answer to
// a message means that it is durable.
//
// RFC 5321 (SMTP), 6409 (submission), 2033 (LMTP), 1870 (SIZE), 2920 (PIPELINING),
// 2034 (enhanced codes), 3030 (CHUNKING, BINARYMIME), 3207 (STARTTLS), 3461 (DSN),
// 2852 (DELIVERBY), 3848 (names of protocols), 4468 (BURL), 4865 (FUTURERELEASE), 4954 (AUTH),
// 6152 (8BITMIME), 6531 (SMTPUTF8), 6710 (MT-PRIORITY), 9422 (LIMITS).
package smtpd

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/guard"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/receive"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
	"github.com/martlet-mail/martlet/internal/trace"
)

// Kind says whom a listener serves.
type Kind uint8

const (
	Relay      Kind = 1 << iota // other hosts: local recipients only, no login
	Submission                  // people: any recipient, login needed
	LMTP                        // other programs here: local recipients, an answer for each
)

// Options of a listener. Hostname, Store, Directory, Receiver and Now must be given.
type Options struct {
	Kind      Kind   // zero is Relay
	Hostname  string // our name in the greeting and in Received fields
	Store     *store.Store
	Directory *directory.Directory
	Receiver  *receive.Receiver

	MaxRecipients int // of one message; 0: 1000
	MaxErrors     int // wrong commands before the connection is closed; 0: 10
	MaxFailures   int // failed logins before the connection is closed; 0: 3

	// Normalise turns a bare CR or LF in a message into CRLF; otherwise such a
	// message is refused.
	Normalise bool

	// CheckFrom refuses a submitted message whose From field, or Sender field, names
	// an address that the login may not use. The envelope's sender is always checked.
	CheckFrom bool

	// CheckTrusted has mail from trusted networks checked, too.
	CheckTrusted bool

	// Allowance counts what accounts send: *queue.Allowance; nil: they send what they like.
	// Only for Submission.
	Allowance interface {
		Check(ctx context.Context, login string, recipients int, trusted bool) error
		Spend(ctx context.Context, login string, recipients int, trusted bool) error
	}

	// Suppressed returns a fault of kind NotFound for a recipient that an account's mail has
	// come back from; list tells that the message is one of a list (XVERP). nil: nobody is.
	Suppressed func(ctx context.Context, login string, to mail.Address, list bool) error

	// Backup tells whether this host keeps mail for a foreign recipient's domain while that
	// domain's own host is down, and with a fault why not for this one. nil: for none.
	Backup func(ctx context.Context, to mail.Address) (bool, error)

	// Queueing is what is offered of time and order.
	Queueing Queueing

	// URLs reads what BURL names; nil: there is no BURL.
	URLs URLs

	Trace *trace.Book // keeps who was refused; may be nil

	Guard  *guard.Guard  // of a Relay against hosts that nobody knows; may be nil
	Tarpit time.Duration // by which answers to refused commands of such hosts are late

	// Patience is how long a command waits for a store that cannot be reached before it is
	// answered with 451; 0: as long as the store itself does.
	Patience time.Duration

	Now func() time.Time
}

// Service returns the listener's service, complete but for Name, TLS and Idle.
func Service(o Options) netsrv.Service {
	if o.Kind == 0 {
		o.Kind = Relay
	}
	if o.MaxRecipients <= 0 {
		o.MaxRecipients = 1000
	}
	if o.MaxErrors <= 0 {
		o.MaxErrors = 10
	}
	if o.MaxFailures <= 0 {
		o.MaxFailures = 3
	}
	return netsrv.Service{
		Refuse: "421 4.7.0 " + o.Hostname + " too many connections, try again later",
		Handle: func(ctx context.Context, c *netsrv.Conn) {
			if o.Patience > 0 {
				ctx = o.Store.Patient(ctx, o.Patience)
			}
			s := &session{Options: &o, conn: c, ctx: ctx}
			s.send(smtp.NewReply(220, "", s.Hostname+" "+s.dialect()+" Martlet"))
			c.Park(s, false)
		},
	}
}
