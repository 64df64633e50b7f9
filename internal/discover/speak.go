package discover

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// talk is what a mail server told a stranger. Nobody signs in.
type talk struct {
	tls      string
	leaf     *x509.Certificate
	greeting string
	offers   []string
}

const (
	maxLine  = 4 << 10
	maxLines = 200
)

// line is a conversation of lines with bounds.
type line struct {
	conn net.Conn
	in   *bufio.Reader
	left int
}

func newLine(conn net.Conn) *line {
	return &line{conn: conn, in: bufio.NewReaderSize(conn, maxLine), left: maxLines}
}

func (l *line) read() (string, error) {
	if l.left--; l.left < 0 {
		return "", errors.New("says more than is listened to")
	}
	text, err := l.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", errors.New("says a line that is too long")
	}
	return strings.TrimRight(string(text), "\r\n"), err
}

func (l *line) say(text string) error {
	_, err := io.WriteString(l.conn, text+"\r\n")
	return err
}

// dialect is how one protocol greets, begins TLS and tells what it offers.
type dialect struct {
	greeting func(*line) (string, error)
	begin    func(*line) error
	offers   func(*line) ([]string, error)
	bye      string
}

var dialects = map[string]dialect{
	"imap": {
		greeting: func(l *line) (string, error) { return l.first("* OK", "* PREAUTH") },
		begin:    func(l *line) error { return l.tagged("a STARTTLS", nil) },
		offers: func(l *line) (all []string, err error) {
			err = l.tagged("b CAPABILITY", func(text string) {
				if rest, ok := cutFold(text, "* CAPABILITY "); ok {
					all = strings.Fields(rest)
				}
			})
			return all, err
		},
		bye: "c LOGOUT",
	},
	"pop3": {
		greeting: func(l *line) (string, error) { return l.first("+OK") },
		begin: func(l *line) error {
			if err := l.say("STLS"); err != nil {
				return err
			}
			_, err := l.first("+OK")
			return err
		},
		offers: popOffers,
		bye:    "QUIT",
	},
	"smtp": {
		greeting: func(l *line) (string, error) { return l.reply("220") },
		begin: func(l *line) error {
			if _, err := smtpOffers(l); err != nil {
				return err
			}
			if err := l.say("STARTTLS"); err != nil {
				return err
			}
			_, err := l.reply("220")
			return err
		},
		offers: smtpOffers,
		bye:    "QUIT",
	},
}

// first reads one line that begins in one of the ways.
func (l *line) first(ways ...string) (string, error) {
	text, err := l.read()
	if err != nil {
		return "", err
	}
	for _, w := range ways {
		if _, ok := cutFold(text, w); ok {
			return text, nil
		}
	}
	return "", fmt.Errorf("says %q", clip(text))
}

func cutFold(text, prefix string) (string, bool) {
	if len(text) < len(prefix) || !strings.EqualFold(text[:len(prefix)], prefix) {
		return "", false
	}
	return text[len(prefix):], true
}

// tagged sends a command of IMAP and reads to its end (RFC 9051, 2.2.2).
func (l *line) tagged(command string, each func(string)) error {
	if err := l.say(command); err != nil {
		return err
	}
	tag, _, _ := strings.Cut(command, " ")
	for {
		text, err := l.read()
		if err != nil {
			return err
		}
		if rest, ok := cutFold(text, tag+" "); ok {
			if _, good := cutFold(rest, "OK"); !good {
				return fmt.Errorf("says %q", clip(rest))
			}
			return nil
		}
		if each != nil {
			each(text)
		}
	}
}

// popOffers asks for capabilities (RFC 2449, 5); a server without them is one all the same.
func popOffers(l *line) (all []string, err error) {
	if err := l.say("CAPA"); err != nil {
		return nil, err
	}
	text, err := l.read()
	if _, ok := cutFold(text, "+OK"); err != nil || !ok {
		return nil, err
	}
	for {
		text, err := l.read()
		if err != nil || text == "." {
			return all, err
		}
		all = append(all, text)
	}
}

// reply reads a reply of SMTP, and returns its last line (RFC 5321, 4.2.1).
func (l *line) reply(code string) (last string, err error) {
	for {
		text, err := l.read()
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(text, code) || len(text) > 3 && text[3] != ' ' && text[3] != '-' {
			return "", fmt.Errorf("says %q", clip(text))
		}
		if len(text) == 3 || text[3] == ' ' {
			return text, nil
		}
	}
}

// smtpOffers says EHLO. The name is one that nobody has (RFC 2606, 2).
func smtpOffers(l *line) (all []string, err error) {
	if err := l.say("EHLO client.invalid"); err != nil {
		return nil, err
	}
	for first := true; ; first = false {
		text, err := l.read()
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(text, "250") || len(text) < 4 {
			return nil, fmt.Errorf("says %q", clip(text))
		}
		if !first {
			all = append(all, text[4:])
		}
		if text[3] == ' ' {
			return all, nil
		}
	}
}

// converse connects to a server, checks its certificate against its name, and asks what it offers.
func (h *hunt) converse(ctx context.Context, s Service) (t talk, err error) {
	d, ok := dialects[s.Protocol]
	if !ok {
		return t, errors.New("is not spoken to")
	}
	conn, err := h.dial(ctx, s.Host, s.Port)
	if err != nil {
		return t, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = ctx.Err()
		}
		h.quietly(s.Host, err)
	}()
	l := newLine(conn)
	if s.Security != TLS {
		if t.greeting, err = d.greeting(l); err != nil {
			return t, err
		}
		if s.Security == StartTLS {
			if err = d.begin(l); err != nil {
				return t, err
			}
			if l.in.Buffered() > 0 { // nothing said in the clear counts afterwards (RFC 9051, 6.2.1)
				return t, errors.New("says more than its answer to STARTTLS")
			}
		}
	}
	if s.Security != "none" {
		secured, err := h.secure(ctx, conn, s.Host)
		if err != nil {
			return t, err
		}
		state := secured.ConnectionState()
		t.tls, t.leaf = strings.TrimPrefix(tls.VersionName(state.Version), "TLS "), state.PeerCertificates[0]
		t.tls = "TLS " + t.tls
		l = newLine(secured)
		if s.Security == TLS {
			if t.greeting, err = d.greeting(l); err != nil {
				return t, err
			}
		}
	}
	if t.offers, err = d.offers(l); err != nil {
		return t, err
	}
	t.greeting = clip(t.greeting)
	for i, o := range t.offers {
		t.offers[i] = clip(o)
	}
	_ = l.say(d.bye) // only courtesy
	return t, nil
}

// mechanisms are the ways to sign in that a server names, in SASL's words; LOGIN stands for the
// commands with a password (RFC 9051, 6.2.3; RFC 1939, 7; RFC 4954, 3).
func (t talk) mechanisms(protocol string) (all []string) {
	add := func(names ...string) {
		for _, n := range names {
			if n = strings.ToUpper(n); !slices.Contains(all, n) {
				all = append(all, n)
			}
		}
	}
	disabled := false
	for _, o := range t.offers {
		words := strings.Fields(strings.ToUpper(o))
		switch {
		case len(words) == 0:
		case protocol == "imap" && words[0] == "LOGINDISABLED":
			disabled = true
		case protocol == "imap" && strings.HasPrefix(words[0], "AUTH="):
			add(words[0][5:])
		case protocol == "pop3" && words[0] == "SASL", protocol == "smtp" && words[0] == "AUTH":
			add(words[1:]...)
		case protocol == "smtp" && strings.HasPrefix(words[0], "AUTH="): // an old way to write it
			add(append([]string{words[0][5:]}, words[1:]...)...)
		case protocol == "pop3" && words[0] == "USER":
			add("LOGIN")
		}
	}
	if protocol == "imap" && !disabled {
		add("LOGIN")
	}
	return all
}

// signInsOf are mechanisms in the words of Service.Auth.
func signInsOf(mechanisms []string) (all []string) {
	names := [...][2]string{
		{"OAUTHBEARER", "oauth2"}, {"XOAUTH2", "oauth2"}, {"PLAIN", "password"}, {"LOGIN", "password"}, {"SCRAM-", "password"},
		{"CRAM-MD5", "cram-md5"}, {"DIGEST-MD5", "digest-md5"}, {"GSSAPI", "gssapi"}, {"NTLM", "ntlm"}, {"EXTERNAL", "client-certificate"},
	}
	for _, n := range names {
		has := slices.ContainsFunc(mechanisms, func(m string) bool { return m == n[0] || strings.HasSuffix(n[0], "-") && strings.HasPrefix(m, n[0]) })
		if has && !slices.Contains(all, n[1]) {
			all = append(all, n[1])
		}
	}
	return all
}

// expires is the certificate's end.
func (t talk) expires() string {
	if t.leaf == nil {
		return ""
	}
	return t.leaf.NotAfter.UTC().Format(time.RFC3339)
}
