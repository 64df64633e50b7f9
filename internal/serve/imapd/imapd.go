// Package imapd is the IMAP server: IMAP4rev1 and IMAP4rev2 over the record layer.
//
// The shape: conn.go reads commands and writes tagged answers in order; commands.go
// is the table of all commands, a row each with its flags; cmd_*.go carry them out,
// a file each; view*.go hold the selected mailbox as the client has been told of it
// and are the only place that tells of arrivals, expunges and flags. A handler writes
// its own data and returns a reply; whether news may follow is the row's to say.
//
// The package parses no bytes (syntax/imap does), keeps no mail (store does), proves
// no login (directory does) and owns no listener (netsrv does). It holds no lock and
// no Snapshot while it writes to a socket.
//
// RFC 9051 and 3501 (IMAP4rev2, rev1); RFC 1730 and 1176 at a listener for old clients.
// Changes: RFC 7162 (CONDSTORE, QRESYNC), 5161 (ENABLE), 2177 (IDLE), 5465 (NOTIFY),
// 5267 (CONTEXT), 8474 (OBJECTID), 9586 (UIDONLY), 9738 (MESSAGELIMIT), 10022
// (UIDBATCHES). Search: RFC 4731 (ESEARCH), 5182 (SEARCHRES), 5032 (WITHIN), 5256 and
// 5957 (SORT, THREAD), 6203 (FUZZY), 7377 (MULTISEARCH), 5466 (FILTERS), 9394 (PARTIAL).
// Mailboxes: RFC 5258, 5819, 8440, 9590, 6154 (LIST), 8438 (STATUS=SIZE), 2342
// (NAMESPACE), 5464 (METADATA), 4314 (ACL), 9208 (QUOTA), 2193 (referrals). Messages:
// RFC 3516 (BINARY), 3502 (MULTIAPPEND), 4469 (CATENATE), 4467 and 5524 (URLAUTH), 5257
// (ANNOTATE), 6851 (MOVE), 8508 (REPLACE), 4315 (UIDPLUS), 7889 (APPENDLIMIT), 8514
// (SAVEDATE), 8970 (PREVIEW), 9979 (keywords). The line: RFC 2971 (ID), 3691 (UNSELECT),
// 4959 (SASL-IR), 4978 (COMPRESS), 5255 (LANGUAGE), 5530 (response codes), 6855
// (UTF8=ACCEPT), 7888 (LITERAL+), 8437 (UNAUTHENTICATE), 9585 (INPROGRESS).
package imapd

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/store"
)

// Options are what a Server is told. Store, Directory, Random and Now must be given.
type Options struct {
	Store       *store.Store
	Directory   *directory.Directory
	Version     string        // shown by ID; "" shows none
	Idle        time.Duration // how long a signed-in client may be silent; 0: 30 minutes (RFC 9051, 5.4)
	Random      io.Reader     // of the keys that sign URLs
	MaxBad      int           // commands refused as BAD before the connection is closed; 0: 20
	MaxFailures int           // failed logins before the connection is closed; 0: 3
	Legacy      bool          // clients before IMAP4rev1 are served, too (RFC 1176, RFC 1730)

	Now   func() time.Time                     // tells how long a command has taken
	After func(time.Duration) <-chan time.Time // wakes who waits for the store; nil: time.After

	CommandTime time.Duration // that one command may work, waiting apart; 0: 10 minutes

	MessageLimit int // messages that one command may deal with; 0: any number (RFC 9738)
	SaveLimit    int // that COPY and APPEND may save; 0: as many as MessageLimit allows

	ArrangementBytes int64 // memory for what SORT and THREAD make of whole mailboxes; 0: 96 MB

	// Submitter tells whether an account is a submission server, which may fetch what
	// URLs give to submission on behalf of somebody (RFC 4467, 3); nil: none is.
	Submitter func(mail.AccountID) bool

	// Marked tells whether a client that says this of itself (ID, x-martlet-mark) brings the
	// account's mail into the account itself; nil: none does.
	Marked func(account mail.AccountID, mark string) bool

	// Administrator tells whether an account may set the quotas of all (RFC 9208,
	// 4.1.3); nil: none may.
	Administrator func(mail.AccountID) bool
}

// Server answers IMAP connections. It has no state of its own but what can be made again.
type Server struct {
	opt       Options
	arranged  *arrangements
	hands     *hands
	rows      map[string]*row
	languages map[string]*language
	caps      string // what the rows announce
}

// New returns a server.
func New(opt Options) *Server {
	if opt.Idle <= 0 {
		opt.Idle = 30 * time.Minute
	}
	if opt.CommandTime <= 0 {
		opt.CommandTime = 10 * time.Minute
	}
	if opt.MaxBad <= 0 {
		opt.MaxBad = 20
	}
	if opt.MaxFailures <= 0 {
		opt.MaxFailures = 3
	}
	if opt.After == nil {
		opt.After = time.After
	}
	srv := &Server{opt: opt, rows: map[string]*row{}, languages: newLanguages(), arranged: newArrangements(opt.ArrangementBytes, opt.Now), hands: newHands()}
	var caps []string
	table := commands()
	if opt.Legacy {
		table = withLegacy(table)
	}
	for _, r := range table {
		srv.rows[r.name] = &r
		if r.caps != "" {
			caps = append(caps, r.caps)
		}
	}
	srv.caps = strings.Join(caps, " ")
	return srv
}

// Handle speaks IMAP over one connection: it is a netsrv.Handler.
func (srv *Server) Handle(ctx context.Context, c *netsrv.Conn) {
	s := newSession(ctx, srv, c)
	s.greet()
	s.rest(nil)
}
