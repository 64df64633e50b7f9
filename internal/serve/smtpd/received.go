package smtpd

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
)

// dateFormat is that of RFC 5322, 3.3.
const dateFormat = "Mon, 02 Jan 2006 15:04:05 -0700"

// messageID names the message under way in logs, replies and its Received field. No
// two messages have the same.
func (s *session) messageID() string { return fmt.Sprintf("%s-%d", s.conn.ID(), s.accepted+1) }

// received is the field that says how the message came (RFC 5321, 4.4). All that
// comes from the client in it has been through a parser that lets no white space,
// parenthesis or control character pass.
func (s *session) received() []byte {
	env := &s.tx.env
	var b strings.Builder
	fmt.Fprintf(&b, "Received: from %s\r\n\tby %s with %s", s.from(), s.Hostname, env.Protocol)
	fmt.Fprintf(&b, "\r\n\tid %s", s.messageID())
	if words := s.tlsWords(); words != "" {
		fmt.Fprintf(&b, "\r\n\t(%s)", words)
	}
	if len(env.To) == 1 { // with more it would give away one to the other
		fmt.Fprintf(&b, "\r\n\tfor <%s>", env.To[0].Address)
	}
	if env.Priority != 0 {
		fmt.Fprintf(&b, "\r\n\tPRIORITY %d", env.Priority) // RFC 6710, 4.1
	}
	fmt.Fprintf(&b, ";\r\n\t%s\r\n", s.Now().Format(dateFormat))
	return []byte(b.String())
}

// tlsWords say what protects the connection, "" if nothing does.
func (s *session) tlsWords() string {
	st, ok := s.conn.TLS()
	if !ok {
		return ""
	}
	return strings.ReplaceAll(tls.VersionName(st.Version), " ", "") + " " + tls.CipherSuiteName(st.CipherSuite)
}

// from is the client: the name it gave, where that is one, and its address.
func (s *session) from() string {
	literal := "[127.0.0.1]" // a unix socket or a pipe
	if peer := s.conn.Peer(); peer.IsValid() {
		literal = literalOf(peer)
	}
	name := s.helo
	if _, err := mail.ParseDomain(name); err != nil || len(name) > 200 {
		name = literal
	}
	return fmt.Sprintf("%s (%s)", name, literal)
}

func literalOf(a netip.Addr) string {
	if a.Is6() {
		return "[IPv6:" + a.String() + "]"
	}
	return "[" + a.String() + "]"
}
