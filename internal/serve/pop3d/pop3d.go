// Package pop3d is the POP3 server: the INBOX of an account as a numbered list that
// stands still while a client collects it.
//
// session.go reads commands and holds the table of all of them; cmd_login.go,
// cmd_list.go, cmd_fetch.go and cmd_quit.go carry them out; dot.go writes a message
// behind a multi-line answer. What a session shows is the picture of the INBOX at
// login; the only thing a session changes is what QUIT removes.
//
// The package keeps no mail (store does), proves no login (directory does) and owns
// no listener (netsrv does). A message is sent byte for byte as it is stored, with a
// line end added if its last line has none, whether or not the client asked for
// UTF8: what 8-bit a message has, its sender put there.
//
// RFC 1939 (POP3), RFC 2449 (CAPA and response codes), RFC 2595 (STLS), RFC 3206
// (SYS and AUTH codes), RFC 5034 (SASL), RFC 6856 (UTF8 and LANG).
package pop3d

import (
	"context"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/store"
)

// Refuse is what netsrv is to tell a client that is over the limits.
const Refuse = "-ERR [SYS/TEMP] too many connections"

// Options are what a Server is told. Store and Directory must be given.
type Options struct {
	Store     *store.Store
	Directory *directory.Directory

	Idle        time.Duration // how long a client may be silent; 0: 10 minutes (RFC 1939, 3)
	MaxErrors   int           // wrong commands before the connection is closed; 0: 10
	MaxFailures int           // failed logins before the connection is closed; 0: 3
}

// Server answers POP3 connections. There must be one in a process, however many
// listeners: it holds the locks on the INBOXes.
type Server struct {
	opt Options

	mu     sync.Mutex
	locked map[mail.AccountID]bool
}

// New returns a server.
func New(opt Options) *Server {
	if opt.Idle <= 0 {
		opt.Idle = 10 * time.Minute
	}
	if opt.MaxErrors <= 0 {
		opt.MaxErrors = 10
	}
	if opt.MaxFailures <= 0 {
		opt.MaxFailures = 3
	}
	return &Server{opt: opt, locked: map[mail.AccountID]bool{}}
}

// Handle speaks POP3 over one connection: it is a netsrv.Handler.
func (srv *Server) Handle(ctx context.Context, c *netsrv.Conn) {
	s := &session{srv: srv, conn: c, ctx: ctx}
	c.SetIdle(srv.opt.Idle)
	s.ok("Martlet POP3 ready")
	c.Park(s, false)
}

// lock takes the lock on an account's INBOX (RFC 1939, 4), and tells whether it was
// free.
func (srv *Server) lock(id mail.AccountID) bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.locked[id] {
		return false
	}
	srv.locked[id] = true
	return true
}

func (srv *Server) release(id mail.AccountID) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	delete(srv.locked, id)
}
