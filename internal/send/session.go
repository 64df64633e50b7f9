package send

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// session is one connection to one host, from greeting to QUIT.
type session struct {
	c    *Courier
	t    target
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	ext  map[string]string // EHLO keywords in upper case, with their parameters
	tls  string            // what protects the line, in words
	line mail.Line         // the same for programs
	helo string            // what the peer calls itself
	stop func() bool       // ends the watch on the context
	dead bool              // nothing more can be said on this connection

	key    string // of the pool
	timer  *time.Timer
	mails  int  // transactions so far
	ready  bool // another may begin
	reused bool // it has served another call of Send
	dotted bool // the end of a message was sent, in this one
}

// errHandshake marks a failed TLS handshake, which a fresh connection without TLS
// may get around; errResumed a session that is no good any more, but a new one may be.
var (
	errHandshake = errors.New("TLS handshake failed")
	errResumed   = errors.New("the TLS session that was resumed does not fulfil the rule any more")
)

// connect opens a session, as well protected as it can be and the rule demands. The error
// is a *refusal.
func (c *Courier) connect(ctx context.Context, j *job, t target, r *rule, key string) (*session, error) {
	s, err := c.open(ctx, j, t, r, key, true)
	if errors.Is(err, errResumed) {
		ticket{&c.tickets, key}.Put("", nil)
		s, err = c.open(ctx, j, t, r, key, true)
	}
	switch {
	case errors.Is(err, errHandshake) && ctx.Err() != nil:
		return nil, ours(421, "4.4.2", t.host+": we stopped while TLS was being set up") // which says nothing of the host
	case errors.Is(err, errHandshake):
		line := mail.Line{Failure: mail.NotValid, Why: short200(err.Error())}
		c.observe(j, t, nil, *r, line)
		if r.wantsTLS() {
			bad := ours(454, "4.7.5", t.host+": TLS, which is required, could not be set up")
			if !errors.Is(err, context.DeadlineExceeded) { // that is a host which cannot be reached now
				bad.Line = line
			}
			return nil, bad
		}
		if s, err = c.open(ctx, j, t, r, key, false); err == nil {
			s.line = line
		}
	}
	return s, err
}

// open connects and gets as far as MAIL could follow. The error is a *refusal, or
// wraps errHandshake or errResumed.
func (c *Courier) open(ctx context.Context, j *job, t target, r *rule, key string, useTLS bool) (*session, error) {
	conn, err := c.dial(ctx, j, t)
	if err != nil {
		return nil, err
	}
	s := &session{c: c, t: t, key: key, stop: context.AfterFunc(ctx, func() { conn.Close() })}
	s.use(conn)
	if err := s.hello(ctx, j, r, useTLS); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// use makes conn the session's connection. What the old buffers held is dropped.
func (s *session) use(conn net.Conn) {
	s.conn = conn
	s.r, s.w = bufio.NewReaderSize(conn, 4<<10), bufio.NewWriterSize(conn, 4<<10)
}

// hello reads the greeting, introduces us, and takes the line into TLS.
func (s *session) hello(ctx context.Context, j *job, r *rule, useTLS bool) error {
	smart := s.c.opt.Smarthost
	if smart != nil && smart.TLS == SmarthostTLS {
		if err := s.handshake(ctx, j, r); err != nil {
			return err
		}
	}
	if err := s.greeting(); err != nil {
		return err
	}
	if err := s.ehlo(); err != nil {
		return err
	}
	if useTLS && s.tls == "" {
		if err := s.startTLS(ctx, j, r); err != nil {
			return err
		}
		if s.tls == "" {
			s.line = mail.Line{Failure: mail.NoSTARTTLS}
			s.c.observe(j, s.t, s, *r, s.line)
		}
	}
	if s.tls == "" && r.wantsTLS() {
		bad := ours(454, "4.7.0", s.t.host+" does not offer TLS, which is required for it")
		bad.Line = s.line
		return bad
	}
	if smart != nil && smart.Login != "" {
		return s.auth(smart)
	}
	return nil
}

// greeting waits for the first line. Anything but 220 sends us to the next host, a
// 5xx too: it speaks of the host, not of the mail (RFC 5321, 3.1).
func (s *session) greeting() error {
	rep, err := s.reply(s.c.opt.Timeouts.Greeting)
	if err != nil {
		return err
	}
	if rep.Code == 220 {
		s.helo, _, _ = strings.Cut(clean(rep.Text()), " ")
		return nil
	}
	return s.softened(rep)
}

// softened is a peer's answer as a refusal that is never permanent.
func (s *session) softened(rep *smtp.Reply) *refusal {
	r := s.result(rep)
	if r.Code/100 != 4 {
		r.Text = clean(fmt.Sprintf("%d %s", rep.Code, r.Text))
		r.Code, r.Enhanced = 450, "4.3.0"
	}
	return &refusal{r}
}

// ehlo says EHLO, or HELO to a host that does not know it (RFC 5321, 3.2).
func (s *session) ehlo() error {
	rep, err := s.cmd("EHLO " + s.c.opt.Hostname)
	if err != nil {
		return err
	}
	s.ext = map[string]string{}
	if rep.Code == 250 {
		s.ext = rep.Extensions()
		return nil
	}
	if rep.Code/100 == 5 {
		if rep, err = s.cmd("HELO " + s.c.opt.Hostname); err != nil {
			return err
		}
		if rep.Code == 250 {
			return nil
		}
	}
	return s.softened(rep)
}

func (s *session) has(ext string) bool {
	_, ok := s.ext[ext]
	return ok
}

// cmd sends a command and returns the answer. The error is a *refusal.
func (s *session) cmd(line string) (*smtp.Reply, error) {
	if err := s.write(line); err != nil {
		return nil, err
	}
	return s.reply(s.c.opt.Timeouts.Command)
}

// write sends one command line without waiting for its answer.
func (s *session) write(line string) error {
	s.w.WriteString(line)
	s.w.WriteString("\r\n")
	return s.flush()
}

func (s *session) flush() error {
	s.conn.SetWriteDeadline(time.Now().Add(s.c.opt.Timeouts.Block))
	if err := s.w.Flush(); err != nil {
		return s.lost(err)
	}
	return nil
}

// reply reads one answer; all of it must come within the time. The error is a
// *refusal. Answer 421 ends the session (RFC 5321, 3.8).
func (s *session) reply(limit time.Duration) (*smtp.Reply, error) {
	s.conn.SetReadDeadline(time.Now().Add(limit))
	rep, err := smtp.ReadReply(s.r)
	if err != nil {
		return nil, s.lost(err)
	}
	if rep.Code == 421 {
		s.dead = true
		return rep, &refusal{s.result(rep)}
	}
	return rep, nil
}

// lost says that the connection cannot be used any more, and why.
func (s *session) lost(err error) *refusal {
	s.dead = true
	why := "the connection was lost"
	var ne net.Error
	switch {
	case fault.Is(err, fault.Invalid), fault.Is(err, fault.Limited):
		why = "it answered something that is not SMTP"
	case errors.As(err, &ne) && ne.Timeout():
		why = "it did not answer in time"
	}
	return ours(421, "4.4.2", s.t.host+": "+why)
}

// result is a peer's answer as a Result.
func (s *session) result(rep *smtp.Reply) Result {
	return Result{
		Code: rep.Code, Enhanced: rep.Enhanced, Text: clean(rep.Text()),
		Host: s.t.host, Address: s.t.addr.String(), TLS: s.tls, DSN: s.has("DSN"), InTime: s.has("DELIVERBY"), Line: s.line,
	}
}

// refused is a peer's answer that is not the hoped-for one. What is neither 4xx nor
// 5xx has no business there, and is temporary.
func (s *session) refused(rep *smtp.Reply) *refusal {
	if c := rep.Code / 100; c == 4 || c == 5 {
		return &refusal{s.result(rep)}
	}
	s.dead = true // we no longer agree on where we are
	return s.softened(rep)
}

// startTLS takes the line into TLS if the peer offers it (RFC 3207).
func (s *session) startTLS(ctx context.Context, j *job, r *rule) error {
	if !s.has("STARTTLS") {
		return nil
	}
	rep, err := s.cmd("STARTTLS")
	if err != nil {
		return err
	}
	if rep.Code != 220 {
		return nil // it changed its mind; the rule decides whether that will do
	}
	// Whatever came in the clear after the 220 could have been put there by anybody
	// and would be taken for answers inside TLS.
	if s.r.Buffered() > 0 {
		s.dead = true
		return ours(421, "4.7.0", s.t.host+" sent more than its answer before TLS began")
	}
	if err := s.handshake(ctx, j, r); err != nil {
		return err
	}
	return s.ehlo()
}

// handshake wraps the connection into TLS and notes what it is worth.
func (s *session) handshake(ctx context.Context, j *job, r *rule) error {
	base := s.c.opt.TLS
	if base == nil {
		base = new(tls.Config)
	}
	conf := base.Clone()
	conf.ServerName, conf.InsecureSkipVerify = r.sni, true // verified below, by our own rule
	conf.Time = s.c.opt.Now
	conf.ClientSessionCache = ticket{&s.c.tickets, s.key}
	if conf.MinVersion == 0 {
		conf.MinVersion = tls.VersionTLS12
	}
	conn := tls.Client(s.conn, conf)
	ctx, cancel := context.WithTimeout(ctx, s.c.opt.Timeouts.TLS)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		s.dead = true
		return fmt.Errorf("%w: %w", errHandshake, err)
	}
	state := conn.ConnectionState()
	proof, bad := r.judge(state, conf)
	if bad != nil && state.DidResume {
		return errResumed
	}
	s.line = mail.Line{Version: tls.VersionName(state.Version), Cipher: tls.CipherSuiteName(state.CipherSuite), Verified: proof}
	s.assess(r, bad)
	s.c.observe(j, s.t, s, *r, s.line)
	if bad != nil && r.mode >= TLSVerified && !r.soft {
		s.dead = true
		refused := ours(454, "4.7.5", s.t.host+": "+bad.why)
		refused.Line = s.line
		return refused
	}
	s.use(conn)
	return nil
}

// assess puts what a handshake is worth into words, and notes in what it falls short of
// the rule.
func (s *session) assess(r *rule, bad *certFault) {
	s.tls = s.line.Version + ", certificate verified"
	switch {
	case bad != nil:
		s.tls = s.line.Version + ", certificate not verified"
	case s.line.Verified == mail.ProofDANE:
		s.tls = s.line.Version + ", certificate verified by DANE"
	case s.line.Verified == mail.ProofSTS:
		s.tls += " as the MTA-STS policy asks"
	}
	switch {
	case bad != nil && r.mode >= TLSVerified:
		s.line.Failure, s.line.Why = bad.kind, bad.why
	case r.known != "":
		s.line.Failure, s.line.Why = mail.TLSAInvalid, r.known
	}
}

// quit says goodbye without keeping anybody waiting: the results are known.
func (s *session) quit() {
	if s.dead {
		s.close()
		return
	}
	s.c.ends.Go(func() {
		defer s.close()
		s.conn.SetDeadline(time.Now().Add(min(5*time.Second, s.c.opt.Timeouts.Command)))
		s.w.WriteString("QUIT\r\n")
		if s.w.Flush() == nil {
			smtp.ReadReply(s.r)
		}
	})
}

// farewell says goodbye without waiting for an answer.
func (s *session) farewell() {
	s.conn.SetDeadline(time.Now().Add(time.Second))
	s.w.WriteString("QUIT\r\n")
	s.w.Flush()
	s.close()
}

func (s *session) close() {
	s.stop()
	s.conn.Close()
}

// mailMax is how many transactions this connection may have (RFC 9422, 4).
func (s *session) mailMax() int { return min(s.limit("MAILMAX"), s.c.opt.Reuse.Messages) }

// limit reads a limit that the peer has told; a large number if it has not.
func (s *session) limit(name string) int {
	for word := range strings.FieldsSeq(s.ext["LIMITS"]) {
		key, value, _ := strings.Cut(word, "=")
		if n, err := strconv.Atoi(value); err == nil && n > 0 && strings.EqualFold(key, name) {
			return n
		}
	}
	return 1 << 30
}

// number reads the parameter of an EHLO keyword such as SIZE; 0 if there is none.
func (s *session) number(ext string) int64 {
	n, err := strconv.ParseInt(s.ext[ext], 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
