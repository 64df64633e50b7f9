package lab

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Peer is a mail server that is not ours, with one domain and two mailboxes.
type Peer struct {
	*Host
	Domain string
	Cert   Issued // of the host's name
	Log    string // file that the server logs to
	Sign   string // selector of its DKIM key, "" if it signs nothing

	boxes string // folder with a maildir of each mailbox
}

// People have a mailbox at every peer. All other recipients are unknown there.
var People = []string{"alice", "bob", "postmaster"}

// newPeer makes the host of a peer and the records of its domain: MX and SPF, and DKIM
// and DMARC if it signs.
func (w *World) newPeer(domain string, at Place, signs bool) (*Peer, error) {
	h, err := w.Host("mx."+domain, at)
	if err != nil {
		return nil, err
	}
	p := &Peer{Host: h, Domain: domain, boxes: filepath.Join(h.Dir, "boxes")}
	if err := own(p.boxes, boxUser); err != nil {
		return nil, err
	}
	if p.Cert, err = w.CA.Issue(90*24*time.Hour, append([]string{h.Name}, at.Alias...)...); err != nil {
		return nil, err
	}
	records := fmt.Sprintf("%[1]s. 3600 IN MX 10 mx.%[1]s.\n%[1]s. 3600 IN TXT \"v=spf1 mx -all\"\nmx.%[1]s. 3600 IN TXT \"v=spf1 a -all\"\n", domain)
	if signs {
		p.Sign = "lab"
		public, err := newKey(p.signingKey())
		if err != nil {
			return nil, err
		}
		records += fmt.Sprintf("%s._domainkey.%s. 3600 IN TXT %s\n_dmarc.%s. 3600 IN TXT \"v=DMARC1; p=reject; adkim=s; aspf=s\"\n", p.Sign, domain, pieces("v=DKIM1; k=rsa; p="+public), domain)
	}
	return p, w.DNS.AddAll(records)
}

func (p *Peer) signingKey() string { return filepath.Join(p.Dir, "dkim.key") }

// own makes a folder of a user's own.
func own(dir string, user int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chown(dir, user, boxGroup)
}

// newKey writes an RSA key and returns its public half as DKIM publishes it.
func newKey(file string) (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return "", err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	return base64.StdEncoding.EncodeToString(public), err
}

// pieces cuts a text into the strings of a TXT record (RFC 1035, 3.3.14).
func pieces(text string) string {
	var b strings.Builder
	for part := range slices.Chunk([]byte(text), 250) {
		fmt.Fprintf(&b, "%q ", part)
	}
	return b.String()
}

// Send hands the peer a message as from one of its own people.
func (p *Peer) Send(from, to, message string) error {
	return p.Host.Send("127.0.0.1:25", from, to, message)
}

// Mail returns what lies in a mailbox.
func (p *Peer) Mail(user string) (all []string) {
	files, _ := filepath.Glob(filepath.Join(p.boxes, user, "new", "*"))
	slices.Sort(files)
	for _, f := range files {
		all = append(all, read(f))
	}
	return all
}

// Await waits for a message that contains something, and returns it.
func (p *Peer) Await(user, what string) (message string, err error) {
	err = wait(fmt.Sprintf("a message with %q for %s@%s", what, user, p.Domain), func() bool {
		message = find(p.Mail(user), what)
		return message != ""
	})
	return message, err
}

func find(all []string, what string) string {
	if i := slices.IndexFunc(all, func(m string) bool { return strings.Contains(m, what) }); i >= 0 {
		return all[i]
	}
	return ""
}

// Said is how much the peer has logged, for AwaitLog.
func (p *Peer) Said() int { return len(read(p.Log)) }

// HasSaid tells whether the log says something, after so much that it had said.
func (p *Peer) HasSaid(said int, what string) bool { return strings.Contains(read(p.Log)[said:], what) }

// AwaitLog waits until the peer's log says something, after so much that it had said.
func (p *Peer) AwaitLog(said int, what string) error {
	return wait(fmt.Sprintf("%q in the log of %s", what, p.Name), func() bool { return p.HasSaid(said, what) })
}

// Refused is an SMTP reply that is not the one hoped for.
type Refused struct {
	After string // the command
	Code  int
	Text  string
}

func (r *Refused) Error() string { return fmt.Sprintf("after %s: %d %s", r.After, r.Code, r.Text) }

// Send hands a message to a server over SMTP in the clear, with nothing but what is
// asked for. A reply that refuses it is a *Refused.
func (h *Host) Send(server, from, to, message string) error {
	c, err := h.Dial(server)
	if err != nil {
		return err
	}
	defer c.Close()
	return Talk(c, "EHLO "+h.Name, "MAIL FROM:<"+from+">", "RCPT TO:<"+to+">", "DATA", message)
}

// Talk says SMTP commands after the greeting, the last one being a message if the one
// before is DATA, and stops at the first reply that refuses.
func Talk(c net.Conn, say ...string) error {
	c.SetDeadline(time.Now().Add(2 * patience))
	text := textproto.NewConn(c)
	if _, _, err := text.ReadResponse(220); err != nil {
		return refused("connecting", err)
	}
	for i, line := range say {
		want := 2
		switch {
		case i > 0 && say[i-1] == "DATA":
			w := text.DotWriter()
			io.WriteString(w, line)
			w.Close()
			line = "the message"
		case line == "DATA":
			want = 3
			fallthrough
		default:
			if err := text.PrintfLine("%s", line); err != nil {
				return err
			}
		}
		if _, _, err := text.ReadResponse(want); err != nil {
			return refused(line, err)
		}
	}
	text.PrintfLine("QUIT")
	return nil
}

func refused(after string, err error) error {
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return &Refused{after, reply.Code, reply.Msg}
	}
	return fmt.Errorf("after %s: %w", after, err)
}

// Letter is a plain message whose subject and Message-ID have a token, so that it can be
// found.
func Letter(from, to, token string) string {
	return fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: %s\r\n\r\nA few words.\r\n",
		from, to, token, time.Now().Format(time.RFC1123Z), messageID(token, from))
}

func messageID(token, from string) string {
	_, domain, _ := strings.Cut(from, "@")
	return "<" + token + "@" + domain + ">"
}
