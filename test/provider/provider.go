// Package provider is another mail provider, on loopback, for tests: it speaks true IMAP with
// Gmail's X-GM-EXT-1, and misbehaves as providers do, when it is told to.
//
// Behind it is Martlet's own IMAP server over a store in memory (test/house), so mailboxes,
// labels and UIDs are real. In front is a small relay of IMAP lines and literals that signs
// people in by the provider's rules (app passwords, OAuth tokens, so many connections),
// asks to wait after so many bytes, breaks connections at any byte, and lies about sizes.
package provider

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/martlet-mail/martlet/test/house"
)

// Options of New. All may be left out.
type Options struct {
	TLS *tls.Config // of every connection; nil: none

	Password string                        // takes this one; "": that of the house
	Web      string                        // the password for the web, which is refused with advice
	Token    func(user, token string) bool // takes OAuth tokens

	Connections int                   // at once; one more is refused as Gmail does; 0: any
	LieSizes    int64                 // is added to each RFC822.SIZE
	NoEnabled   bool                  // ENABLE is answered OK without ENABLED, as at iCloud
	CountOnly   bool                  // ESEARCH is answered with a count alone, as at iCloud
	Short       func() bool           // SEARCH lists no UID but the first
	Hide        string                // capabilities that are not offered, separated by spaces
	NoBody      func(uid string) bool // FETCH of this UID's body is refused

	// Broken is asked for each connection (from 1) how many bytes it may send before it
	// breaks; 0: any.
	Broken func(conn int) int64
	// Command is asked before a command goes on: "" lets it, "cut" breaks the connection,
	// anything else is the tagged answer to it, without the tag.
	Command func(conn int, line string) string
	// Throttle: after so many bytes the next command of any connection is answered with NO
	// [THROTTLED], or the next response is BYE [THROTTLED],
	// and the next Refused logins too, until so many bytes more; 0: never.
	Throttle int64
	Refused  int
}

// Provider runs until its test ends.
type Provider struct {
	House *house.House
	Addr  string // host:port

	opt      Options
	conns    atomic.Int64 // all there were
	open     atomic.Int64
	mu       sync.Mutex
	left     int64 // bytes until it asks to wait
	refusing int   // logins that are still to be refused
	stats    Stats
}

// Stats counts what happened.
type Stats struct {
	Connections, Logins, Throttled, Cut int
	Bytes                               int64 // sent to clients
}

// New starts a provider whose accounts are those of a new house.
func New(t testing.TB, opt Options) *Provider {
	t.Helper()
	return Over(t, house.New(t, house.Options{}), opt)
}

// Over starts a provider in front of a house.
func Over(t testing.TB, h *house.House, opt Options) *Provider {
	t.Helper()
	if opt.Password == "" {
		opt.Password = house.Password
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if opt.TLS != nil {
		l = tls.NewListener(l, opt.TLS)
	}
	p := &Provider{House: h, Addr: l.Addr().String(), opt: opt, left: opt.Throttle}
	var running sync.WaitGroup
	var mu sync.Mutex
	all := map[net.Conn]bool{}
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			all[c] = true
			mu.Unlock()
			running.Go(func() {
				p.serve(c, int(p.conns.Add(1)))
				c.Close()
				mu.Lock()
				delete(all, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range all {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return p
}

// Stats returns what happened until now.
func (p *Provider) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Connections = int(p.conns.Load())
	return s
}

// errCut is the end of a connection that was to break.
var errCut = errors.New("cut")

// session is a connection of a client.
type session struct {
	p    *Provider
	n    int
	conn net.Conn
	in   *bufio.Reader
	mu   sync.Mutex // of out
	left int64      // bytes until it breaks; below 0: never
	back net.Conn
}

func (p *Provider) serve(conn net.Conn, n int) {
	s := &session{p: p, n: n, conn: conn, in: bufio.NewReaderSize(conn, 32<<10), left: -1}
	if p.opt.Broken != nil {
		if b := p.opt.Broken(n); b > 0 {
			s.left = b
		}
	}
	if open := p.open.Add(1); p.opt.Connections > 0 && int(open) > p.opt.Connections {
		p.open.Add(-1)
		s.write("* BYE [ALERT] Too many simultaneous connections. (Failure)\r\n")
		return
	}
	defer p.open.Add(-1)
	if s.write("* OK Gimap ready for requests from 127.0.0.1\r\n") != nil || !s.login() {
		return
	}
	defer s.back.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.toClient()
		conn.Close()
	}()
	s.toServer()
	s.back.Close()
	<-ended
}

// write sends to the client, as much as may be before the connection breaks.
func (s *session) write(text string) error {
	_, err := s.Write([]byte(text))
	return err
}

func (s *session) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cut := false
	if s.left >= 0 {
		if cut = int64(len(b)) >= s.left; cut {
			b = b[:s.left]
		}
		s.left -= int64(len(b))
	}
	n, err := s.conn.Write(b)
	s.p.count(int64(n))
	if cut {
		s.p.cut()
		s.conn.Close()
		return n, errCut
	}
	return n, err
}

func (p *Provider) count(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Bytes += n
	p.left -= n
}

func (p *Provider) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Cut++
}

// throttles tells whether the provider asks to wait now.
func (p *Provider) throttles() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opt.Throttle == 0 || p.left > 0 {
		return false
	}
	p.left, p.refusing = p.opt.Throttle, p.opt.Refused
	p.stats.Throttled++
	return true
}

// line reads a line of the client with its literals.
func (s *session) line() (string, error) {
	var b strings.Builder
	for {
		l, err := s.in.ReadString('\n')
		if err != nil {
			return "", err
		}
		b.WriteString(l)
		n, plus, ok := announced(l)
		if !ok {
			return strings.TrimRight(b.String(), "\r\n"), nil
		}
		if !plus {
			s.write("+ go ahead\r\n")
		}
		if _, err := io.CopyN(&b, s.in, n); err != nil {
			return "", err
		}
	}
}

var literal = regexp.MustCompile(`\{([0-9]{1,18})(\+?)\}\r?\n$`)

func announced(line string) (n int64, plus, ok bool) {
	m := literal.FindStringSubmatch(line)
	if m == nil {
		return 0, false, false
	}
	n, _ = strconv.ParseInt(m[1], 10, 64)
	return n, m[2] == "+", true
}

const capabilities = "IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 SASL-IR AUTH=XOAUTH2 AUTH=PLAIN AUTH=OAUTHBEARER"

// login answers until somebody has signed in; false is the end.
func (s *session) login() bool {
	for {
		line, err := s.line()
		if err != nil {
			return false
		}
		tag, rest, _ := strings.Cut(line, " ")
		verb, args, _ := strings.Cut(rest, " ")
		if s.asked(tag, rest) {
			continue
		}
		user, how := "", ""
		switch strings.ToUpper(verb) {
		case "CAPABILITY":
			s.write("* CAPABILITY " + s.p.visible(capabilities) + "\r\n" + tag + " OK Thats all she wrote!\r\n")
			continue
		case "NOOP":
			s.write(tag + " OK done\r\n")
			continue
		case "LOGOUT":
			s.write("* BYE bye\r\n" + tag + " OK done\r\n")
			return false
		case "LOGIN":
			w := words(args)
			if len(w) != 2 {
				s.write(tag + " BAD LOGIN takes a name and a password\r\n")
				continue
			}
			user, how = w[0], s.p.password(w[1])
		case "AUTHENTICATE":
			if user, how, err = s.authenticate(args); err != nil {
				return false
			}
		default:
			s.write(tag + " BAD not signed in\r\n")
			continue
		}
		if how == "" {
			how = s.p.refuses()
		}
		if how != "" {
			s.write(tag + " " + how + "\r\n")
			continue
		}
		return s.enter(tag, user)
	}
}

// asked lets the test answer a command.
func (s *session) asked(tag, rest string) bool {
	if s.p.opt.Command == nil {
		return false
	}
	switch answer := s.p.opt.Command(s.n, rest); answer {
	case "":
		return false
	case "cut":
		s.p.cut()
		s.conn.Close()
		return true
	default:
		s.write(tag + " " + answer + "\r\n")
		return true
	}
}

// visible returns capabilities without those that are hidden.
func (p *Provider) visible(caps string) string {
	var out []string
	for _, c := range strings.Fields(caps) {
		hidden := c == "COMPRESS=DEFLATE"
		for _, h := range strings.Fields(p.opt.Hide) {
			hidden = hidden || strings.EqualFold(c, h)
		}
		if !hidden {
			out = append(out, c)
		}
	}
	return strings.Join(out, " ")
}

// password returns what is answered to a password, "" if it is right.
func (p *Provider) password(given string) string {
	switch given {
	case p.opt.Password:
		return ""
	case p.opt.Web:
		return "NO [ALERT] Application-specific password required: https://support.example.com/accounts/answer/185833 (Failure)"
	}
	return "NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)"
}

func (p *Provider) refuses() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusing > 0 {
		p.refusing--
		return "NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)"
	}
	p.stats.Logins++
	return ""
}

// authenticate reads an exchange and returns who signs in, or what is answered.
func (s *session) authenticate(args string) (user, refusal string, err error) {
	mech, first, ok := strings.Cut(args, " ")
	if !ok {
		s.write("+ \r\n")
		if first, err = s.line(); err != nil {
			return "", "", err
		}
	}
	text, bad := base64.StdEncoding.DecodeString(first)
	if bad != nil {
		return "", "BAD not base64", nil
	}
	switch strings.ToUpper(mech) {
	case "PLAIN":
		f := strings.Split(string(text), "\x00")
		if len(f) != 3 {
			return "", "BAD not PLAIN", nil
		}
		if user = f[0]; user == "" {
			user = f[1]
		}
		return user, s.p.password(f[2]), nil
	case "XOAUTH2", "OAUTHBEARER":
		return s.token(mech, string(text))
	}
	return "", "NO unknown mechanism", nil
}

var (
	xoauth2     = regexp.MustCompile("^user=([^\x01]*)\x01auth=Bearer ([^\x01]*)\x01\x01$")
	oauthbearer = regexp.MustCompile("^n,a=([^,]*),\x01(?:host=[^\x01]*\x01|port=[^\x01]*\x01)*auth=Bearer ([^\x01]*)\x01\x01$")
)

func (s *session) token(mech, text string) (user, refusal string, err error) {
	form := xoauth2
	if strings.EqualFold(mech, "OAUTHBEARER") {
		form = oauthbearer
	}
	if m := form.FindStringSubmatch(text); m != nil && s.p.opt.Token != nil {
		if user = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(m[1]); s.p.opt.Token(user, m[2]) {
			return user, "", nil
		}
	}
	s.write("+ " + base64.StdEncoding.EncodeToString([]byte(`{"status":"400","schemes":"Bearer","scope":"https://mail.example.com/"}`)) + "\r\n")
	if _, err := s.line(); err != nil { // the client's empty answer, or \x01
		return "", "", err
	}
	return "", "NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)", nil
}

// enter signs in at the house for the client.
func (s *session) enter(tag, user string) bool {
	back, err := net.Dial("tcp", s.p.House.Addr("imap"))
	if err != nil {
		return false
	}
	s.back = back
	r := bufio.NewReader(back)
	fmt.Fprintf(back, "x LOGIN %q %q\r\n", user, house.Password)
	for {
		l, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if rest, ok := strings.CutPrefix(l, "x "); ok {
			if !strings.HasPrefix(rest, "OK") {
				s.write(tag + " NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)\r\n")
				back.Close()
				return false
			}
			break
		}
	}
	if r.Buffered() > 0 {
		return false
	}
	return s.write(tag+" OK "+user+" authenticated (Success)\r\n") == nil
}

var word = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"|\{[0-9]+\+?\}\r\n|[^ ]+`)

// words splits the arguments of LOGIN.
func words(args string) (out []string) {
	for args = strings.TrimSpace(args); args != ""; args = strings.TrimLeft(args, " ") {
		if n, _, ok := announced(firstLine(args)); ok && args[0] == '{' {
			args = args[len(firstLine(args)):]
			out, args = append(out, args[:n]), args[n:]
			continue
		}
		m := word.FindStringSubmatch(args)
		if args[0] == '"' {
			out = append(out, strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(m[1]))
		} else {
			out = append(out, m[0])
		}
		args = args[len(m[0]):]
	}
	return out
}

func firstLine(s string) string {
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		return s[:i+1]
	}
	return s
}
