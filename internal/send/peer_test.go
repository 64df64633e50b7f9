package send

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/xdg-go/scram"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/internal/mail"
)

// peer is a scripted mail host. The zero script is a host that takes everything.
type peer struct {
	ext      []string // EHLO keywords
	greeting string
	answers  map[string]func(n int, arg string) string // by verb ("." is the end of the data); "" = default
	dropAt   string                                    // verb before whose answer the line is cut
	tls      *tls.Config                               // for STARTTLS
	implicit bool
	after220 string // sent in the clear after the answer to STARTTLS
	raw      func(net.Conn)
	impostor bool // does not know the password in SCRAM
	proof235 bool // gives its SCRAM proof in the 235

	mu    sync.Mutex
	conns int
	verbs map[string]int
	lines []string // commands, all connections
	mails [][]byte // data that got a 250, dot-stuffing undone
}

const drop = "drop"

// peers listens on 127.0.0.1, 127.0.0.2, ... with one port for all.
func peers(t *testing.T, ps ...*peer) (port uint16) {
	t.Helper()
	for range 20 {
		var lns []net.Listener
		port = 0
		for i := range ps {
			ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:%d", i+1, port))
			if err != nil {
				break
			}
			lns = append(lns, ln)
			port = uint16(ln.Addr().(*net.TCPAddr).Port)
		}
		if len(lns) == len(ps) {
			for i, p := range ps {
				go p.serve(lns[i])
				t.Cleanup(func() { lns[i].Close() })
			}
			return port
		}
		for _, ln := range lns {
			ln.Close()
		}
	}
	t.Fatal("no port is free on every address")
	return 0
}

func (p *peer) serve(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns++
		p.mu.Unlock()
		go func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(time.Minute))
			if p.raw != nil {
				p.raw(conn)
				return
			}
			p.talk(conn)
		}()
	}
}

// answer counts a verb and returns what to say to it.
func (p *peer) answer(verb, arg, normal string) string {
	p.mu.Lock()
	if p.verbs == nil {
		p.verbs = map[string]int{}
	}
	p.verbs[verb]++
	n := p.verbs[verb]
	p.mu.Unlock()
	if p.dropAt == verb {
		return drop
	}
	if f := p.answers[verb]; f != nil {
		if s := f(n, arg); s != "" {
			return s
		}
	}
	return normal
}

func (p *peer) talk(conn net.Conn) {
	if p.implicit {
		conn = tls.Server(conn, p.tls)
	}
	r := bufio.NewReader(conn)
	say := func(s string) bool {
		if s == drop {
			conn.Close()
			return false
		}
		_, err := io.WriteString(conn, s+"\r\n")
		return err == nil
	}
	greeting := p.greeting
	if greeting == "" {
		greeting = "220 peer.test ESMTP"
	}
	if !say(p.answer("CONNECT", "", greeting)) {
		return
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		p.mu.Lock()
		p.lines = append(p.lines, line)
		p.mu.Unlock()
		verb, arg, _ := strings.Cut(line, " ")
		switch verb {
		case "EHLO":
			ext := strings.Join(p.ext, "\r\n250-")
			if ext != "" {
				ext = "250-" + ext + "\r\n"
			}
			if !say(p.answer(verb, arg, "250-peer.test\r\n"+ext+"250 HELP")) {
				return
			}
		case "STARTTLS":
			a := p.answer(verb, arg, "220 go ahead")
			if !say(a + p.after220) {
				return
			}
			if a[:3] != "220" {
				continue
			}
			tc := tls.Server(conn, p.tls)
			if tc.Handshake() != nil {
				return
			}
			conn, r = tc, bufio.NewReader(tc)
		case "DATA":
			a := p.answer(verb, arg, "354 go ahead")
			if !say(a) {
				return
			}
			if strings.HasPrefix(a, "354") && !p.data(r, say) {
				return
			}
		case "BDAT":
			var n int
			fmt.Sscanf(arg, "%d", &n)
			body := make([]byte, n)
			if _, err := io.ReadFull(r, body); err != nil {
				return
			}
			if !p.end(body, say) {
				return
			}
		case "AUTH":
			if !say(p.auth(arg, func(challenge string) string {
				say("334 " + b64(challenge))
				line, _ := r.ReadString('\n')
				answer, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
				return string(answer)
			})) {
				return
			}
		case "QUIT":
			say("221 bye")
			return
		default:
			if !say(p.answer(verb, arg, "250 2.0.0 fine")) {
				return
			}
		}
	}
}

// data reads up to CRLF . CRLF, and nothing else counts as the end.
func (p *peer) data(r *bufio.Reader, say func(string) bool) bool {
	if p.dropAt == "MIDDLE" {
		io.CopyN(io.Discard, r, 10)
		return say(drop)
	}
	var body []byte
	for {
		b, err := r.ReadByte()
		if err != nil {
			return false
		}
		body = append(body, b)
		if bytes.HasSuffix(body, []byte("\r\n.\r\n")) || len(body) == 3 && string(body) == ".\r\n" {
			body = body[:len(body)-3]
			break
		}
	}
	if len(body) > 0 && body[0] == '.' {
		body = body[1:]
	}
	return p.end(bytes.ReplaceAll(body, []byte("\r\n."), []byte("\r\n")), say)
}

// auth knows alice with the password "secret".
func (p *peer) auth(arg string, ask func(challenge string) string) string {
	mech, first, _ := strings.Cut(arg, " ")
	initial, _ := base64.StdEncoding.DecodeString(first)
	ok := false
	switch mech {
	case "PLAIN":
		ok = string(initial) == "\x00alice\x00secret"
	case "LOGIN":
		name := ask("Username:")
		ok = ask("Password:") == "secret" && name == "alice"
	case "SCRAM-SHA-1", "SCRAM-SHA-256":
		hash := scram.SHA1
		if mech == "SCRAM-SHA-256" {
			hash = scram.SHA256
		}
		password := "secret"
		if p.impostor {
			password = "guess"
		}
		client, _ := hash.NewClient("alice", password, "")
		keys, _ := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "salt", Iters: 4096})
		server, _ := hash.NewServer(func(string) (scram.StoredCredentials, error) { return keys, nil })
		conv := server.NewConversation()
		challenge, _ := conv.Step(string(initial))
		if proof, err := conv.Step(ask(challenge)); err == nil {
			ok = true
			if p.proof235 {
				return "235 " + b64(proof)
			}
			ask(proof)
		}
		if p.impostor {
			ask("v=" + b64("an impostor knows no keys"))
			ok = true
		}
	}
	if !ok {
		return "535 5.7.8 no"
	}
	return "235 2.7.0 welcome"
}

func (p *peer) end(body []byte, say func(string) bool) bool {
	a := p.answer(".", "", "250 2.0.0 queued as 1")
	if strings.HasPrefix(a, "250") || p.dropAt == "." {
		p.mu.Lock()
		p.mails = append(p.mails, body)
		p.mu.Unlock()
	}
	return say(a)
}

func (p *peer) count(verb string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.verbs[verb]
}

func (p *peer) got() (mails int, conns int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mails), p.conns
}

// commands returns what was said with a verb.
func (p *peer) commands(verb string) (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lines {
		if strings.HasPrefix(l, verb) {
			out = append(out, l)
		}
	}
	return out
}

// answering returns a script of one fixed answer.
func answering(s string) func(int, string) string {
	return func(int, string) string { return s }
}

// courier returns a courier that sends to the peers' port and looks names up in a
// zone.
func courier(t *testing.T, port uint16, zone string, change func(*Options)) *Courier {
	t.Helper()
	s, err := dnstest.Start(zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	res, err := dnsx.New(dnsx.Options{Servers: []string{s.Addr()}, Timeout: 2 * time.Second, Rounds: 1, Now: time.Now, ID: dns.Id, Dial: new(net.Dialer).DialContext})
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{
		Hostname: "mx.martlet.test", Resolver: res, Port: port, AllowPrivate: true,
		Shuffle: func(int, func(i, j int)) {}, Random: rand.Reader, Now: time.Now, Dial: new(net.Dialer).DialContext,
	}
	if change != nil {
		change(&opt)
	}
	c, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// text returns a message of the given bytes.
func text(s string) Message {
	return Message{Size: int64(len(s)), Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(s)), nil
	}}
}

func envelope(from string, to ...string) mail.Envelope {
	env := mail.Envelope{}
	if from != "" {
		env.From = address(from)
	}
	for _, a := range to {
		env.To = append(env.To, mail.Recipient{Address: address(a)})
	}
	return env
}

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// certificate makes a self-signed certificate for a name and the pool that trusts it.
func certificate(t *testing.T, name string) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

var errDisk = errors.New("disk")

// broken returns a message that fails after some bytes.
func broken(s string) Message {
	return Message{Size: 1000, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(s), failing{})), nil
	}}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errDisk }
