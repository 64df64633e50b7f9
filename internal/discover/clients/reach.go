package clients

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/fault"
)

// reach connects to a server as a program does before it signs in: TLS with a certificate of
// the server's name.
func (p *player) reach(ctx context.Context, s discover.Service) error {
	key := fmt.Sprintf("reach %s %s %d %s", s.Protocol, s.Host, s.Port, s.Security)
	return p.ask(key, func() result {
		err := p.connect(ctx, s)
		if err != nil {
			err = fault.Wrap(fault.Unavailable, fmt.Sprintf("%s port %d (%s): %s", s.Host, s.Port, strings.ToUpper(s.Protocol), fault.Say(unreached(ctx, err))), err)
		}
		return result{err: err}
	}).err
}

func (p *player) connect(ctx context.Context, s discover.Service) error {
	raw, err := p.dialName(ctx, net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	if err != nil {
		return err
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	conn := raw
	secure := func() error {
		t := tls.Client(raw, &tls.Config{ServerName: s.Host, RootCAs: p.Roots, Time: p.Now, MinVersion: tls.VersionTLS12})
		conn = t
		return t.HandshakeContext(ctx)
	}
	if s.Security == discover.TLS {
		if err := secure(); err != nil {
			return err
		}
	}
	r := bufio.NewReaderSize(conn, 4096)
	if err := greeted(r, s.Protocol); err != nil || s.Security != discover.StartTLS {
		return err
	}
	if err := startTLS(conn, r, s.Protocol); err != nil {
		return err
	}
	return secure()
}

// greeted reads the first words of a server.
func greeted(r *bufio.Reader, protocol string) error {
	want := map[string]string{"imap": "* OK", "pop3": "+OK", "smtp": "220"}[protocol]
	line, err := reply(r, protocol)
	if err == nil && !strings.HasPrefix(line, want) {
		err = fault.Newf(fault.Invalid, "it greets with %q", line)
	}
	return err
}

// startTLS asks for TLS (RFC 9051, 6.2.1; RFC 2595, 4; RFC 3207, 4).
func startTLS(conn net.Conn, r *bufio.Reader, protocol string) error {
	for _, step := range map[string][][2]string{
		"imap": {{"a STARTTLS", "a OK"}}, "pop3": {{"STLS", "+OK"}}, "smtp": {{"EHLO localhost", "250"}, {"STARTTLS", "220"}},
	}[protocol] {
		if _, err := fmt.Fprintf(conn, "%s\r\n", step[0]); err != nil {
			return err
		}
		line, err := reply(r, protocol)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, step[1]) {
			return fault.Newf(fault.Unsupported, "it answers %s with %q", step[0], line)
		}
	}
	return nil
}

// reply reads the last line of a reply: in SMTP the one without a hyphen, in IMAP one that is
// tagged or the greeting.
func reply(r *bufio.Reader, protocol string) (string, error) {
	for range 100 {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		text := strings.TrimRight(string(line), "\r\n")
		if protocol == "smtp" && len(text) > 3 && text[3] == '-' || protocol == "imap" && strings.HasPrefix(text, "* ") && !strings.HasPrefix(text, "* OK") && !strings.HasPrefix(text, "* BYE") {
			continue
		}
		return text, nil
	}
	return "", fault.New(fault.TooLarge, "its answer does not end")
}
