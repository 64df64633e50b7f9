// Package former asks the servers where accounts were before whether a password is right, and
// has their mail fetched after that. It is a directory.Former.
//
// A password is sent to a server whose certificate is right, or over loopback, and nowhere
// else. How many questions are under way is bounded; a server that does not answer is left
// alone for a while, so that logins fail at once and not one after the other in its time.
// Nothing is remembered of a password, of a yes or of a no: whoever asks again is asked for
// again.
//
// How mail is fetched is handed in. RFC 9051, 6.2 (LOGIN, AUTHENTICATE); RFC 5530 (codes).
package former

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move/imapc"
)

// Options of New. All but Roots, Fetching and Log must be given.
type Options struct {
	Roots    *x509.CertPool // nil: the system's
	Parallel int            // questions under way
	Timeout  time.Duration  // for one of them
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	Now      func() time.Time
	// Deadline bounds a context in time.
	Deadline func(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc)
	Random   io.Reader
	// Fetching fetches the mail of accounts that have arrived; nil: nobody does.
	Fetching *Fetching
	Log      *slog.Logger
}

// waitingPerPlace is how many questions may wait for each that is under way.
const waitingPerPlace = 8

// coolDown is for how long a server is left alone that could not be reached.
const coolDown = 3 * time.Second

// Servers are the former servers of all domains. All methods may be called at the same time.
type Servers struct {
	opt    Options
	places chan struct{}
	fetch  *fetcher // nil: no mail is fetched

	mu      sync.Mutex
	waiting int
	down    map[string]outage // by server
}

// outage is a server that could not be reached.
type outage struct {
	until time.Time
	why   error
}

var _ directory.Former = (*Servers)(nil)

// New returns them. What they fetch ends with ctx.
func New(ctx context.Context, opt Options) *Servers {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := &Servers{opt: opt, places: make(chan struct{}, max(1, opt.Parallel)), down: map[string]outage{}}
	if opt.Fetching != nil {
		s.fetch = newFetcher(ctx, s, *opt.Fetching)
	}
	return s
}

// Close ends what is being fetched, and waits for it.
func (s *Servers) Close() {
	if s.fetch != nil {
		s.fetch.close()
	}
}

// Check asks a server. See directory.Former.
func (s *Servers) Check(ctx context.Context, at directory.Origin, user, password string) error {
	if user == "" || password == "" {
		return fault.New(fault.Unauthenticated, "a name and a password are needed")
	}
	if err := s.up(at.Server); err != nil {
		return err
	}
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	within, cancel := s.opt.Deadline(ctx, s.opt.Timeout)
	defer cancel()
	err = s.ask(within, at.Server, user, password)
	if ctx.Err() == nil { // else it is the client who went away, and not the server
		s.note(at.Server, err)
	}
	return err
}

// Arrived has the mail fetched. See directory.Former.
func (s *Servers) Arrived(account directory.Account, at directory.Origin, user string, with directory.Typed) {
	if at.Mail && s.fetch != nil {
		s.fetch.start(job{account, at, user, with, true})
	}
}

// Present has it gone on with. See directory.Former.
func (s *Servers) Present(account directory.Account, at directory.Origin, user string, with directory.Typed) {
	if at.Mail && s.fetch != nil {
		s.fetch.start(job{account, at, user, with, false})
	}
}

// enter waits for its turn.
func (s *Servers) enter(ctx context.Context) (leave func(), err error) {
	s.mu.Lock()
	if s.waiting >= waitingPerPlace*cap(s.places) {
		s.mu.Unlock()
		return nil, fault.New(fault.Limited, "too many first logins at the same time, try again")
	}
	s.waiting++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.waiting--
		s.mu.Unlock()
	}()
	select {
	case s.places <- struct{}{}:
		return func() { <-s.places }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// up tells whether a server may be asked.
func (s *Servers) up(server string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, was := s.down[server]
	if now := s.opt.Now(); was && now.Before(o.until) && o.until.Sub(now) <= coolDown {
		return fault.Wrap(fault.Unavailable, "the former server could not be reached a moment ago", o.why)
	}
	delete(s.down, server)
	return nil
}

// note remembers that a server cannot be reached.
func (s *Servers) note(server string, err error) {
	switch imapc.ProblemOf(err) {
	case imapc.NoHost, imapc.Refused, imapc.Timeout, imapc.BadTLS, imapc.NoTLS, imapc.Lost, imapc.Wrong:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.down[server] = outage{s.opt.Now().Add(coolDown), err}
	}
}

// Server is where a former server is.
type Server struct {
	Host     string
	Port     uint16 // never 0
	Security imapc.Security
}

// ParseServer reads imaps://HOST[:PORT] or imap://HOST[:PORT]. Faults: Invalid.
func ParseServer(text string) (Server, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "imaps" && u.Scheme != "imap" || u.User != nil {
		return Server{}, fault.Newf(fault.Invalid, "%q is not a server such as imaps://old.example:993", text)
	}
	s := Server{Host: u.Hostname(), Port: 993, Security: imapc.TLS}
	if u.Scheme == "imap" {
		s.Port, s.Security = 143, imapc.OfferedTLS
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Server{}, fault.Newf(fault.Invalid, "%q has no port of TCP", text)
		}
		s.Port = uint16(n)
	}
	return s, nil
}

// imap are the options of a connection to a server.
func (s *Servers) imap(server string) (imapc.Options, error) {
	at, err := ParseServer(server)
	return imapc.Options{
		Host: at.Host, Port: at.Port, Security: at.Security, Roots: s.opt.Roots, Dial: s.opt.Dial, Now: s.opt.Now, Random: s.opt.Random,
		Timeout: s.opt.Timeout, Compress: imapc.CompressNever,
	}, err
}

// ask logs in and out again.
func (s *Servers) ask(ctx context.Context, server, user, password string) error {
	o, err := s.imap(server)
	if err != nil {
		return err
	}
	host := o.Host
	c, err := imapc.Dial(ctx, o)
	if err != nil {
		return err
	}
	defer c.Close()
	if c.PreAuth() { // whoever connects is somebody there: it proves nothing
		return fault.New(fault.Unavailable, host+" asks nobody for a password on that port (PREAUTH)")
	}
	if err := c.Login(ctx, imapc.Credentials{User: user, Password: password}); err != nil {
		return verdict(host, err)
	}
	_ = c.Logout(ctx) // the answer is known
	return nil
}

// noes are the response codes with which a server says that name or password are wrong (RFC
// 5530, 3). Many have none.
var noes = []string{"", "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "NOPERM", "ALERT"}

// verdict tells a no from an answer that says nothing about the password.
func verdict(host string, err error) error {
	var e *imapc.Error
	if !errors.As(err, &e) {
		return directory.Shown(err)
	}
	if unsent(e) {
		return fault.Wrap(fault.Unavailable, host+" was not told the password", err)
	}
	if e.Problem == imapc.BadLogin && slices.Contains(noes, e.Code) && (e.Status == "NO" || e.Status == "" && e.Cause != nil) {
		return fault.Wrap(fault.Unauthenticated, host+" refuses the name or the password", err)
	}
	return directory.Shown(fault.Wrap(fault.Unavailable, host+" does not say whether the password is right", err))
}

// unsent tells whether no way to sign in was tried: it is not the server that says no.
func unsent(e *imapc.Error) bool {
	return e.Problem == imapc.NoTLS || (e.Problem == imapc.BadLogin || e.Problem == imapc.AppPassword) && e.Status == "" && e.Cause == nil
}
