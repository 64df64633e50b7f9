package peers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/peers/postfix"
)

// neighbours starts Martlet and, not yet running, a Postfix that has the domain
// peer.test, each of which finds the other.
func neighbours(t *testing.T) (*subject, *postfix.Server) {
	t.Helper()
	if against() != "" {
		t.Skip("Dovecot sends no mail")
	}
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755)) // Postfix's daemons run as another user
	dns, err := dnstest.Start("")
	must(t, err)
	t.Cleanup(dns.Close)
	cert, key := certificate(t, dir)
	opt := postfix.Options{Dir: filepath.Join(dir, "postfix"), Domain: "peer.test", Users: []string{"pia", "p\u00eda"},
		RelayDomain: "martlet.test", RelayTo: "127.0.0.1:1", Certificate: cert, Key: key}
	p, err := postfix.New(opt)
	must(t, err)
	_, port, _ := strings.Cut(p.Addr, ":")
	must(t, dns.SetZone(`peer.test. 300 IN MX 10 down.peer.test.
peer.test. 300 IN MX 20 mail.peer.test.
down.peer.test. 300 IN A 127.0.0.99
mail.peer.test. 300 IN A 127.0.0.1
nothing.test. 300 IN MX 0 .
`))
	s := start(t, martlet.Options{Set: outward(dns.Addr(), port)})
	opt.RelayTo = s.addr("smtp")
	must(t, p.Configure(opt))
	t.Cleanup(func() {
		p.Stop()
		if log, _ := os.ReadFile(p.Log); t.Failed() {
			t.Logf("Postfix's log ends\n%s", log[max(len(log)-3_000, 0):])
		}
	})
	return s, p
}

// certificate makes a certificate that nobody has signed, as most mail servers have.
func certificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.peer.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"mail.peer.test"}}
	der, err := x509.CreateCertificate(rand.Reader, &c, &c, &k.PublicKey, k)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	must(t, err)
	return write(t, dir, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		write(t, dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
}

// submit sends a message as alice; the reply must be 250.
func submit(t *testing.T, s *subject, to string, data []byte) {
	t.Helper()
	a := s.account(t, "alice")
	w := dialSMTP(t, s.addr("submission"), false)
	w.login(a.Address, a.Password)
	if code, text := w.deliver(a.Address, to, data); code != 250 {
		t.Fatalf("submission: %s", text)
	}
}

// got tells whether a user at Postfix has a message that ends in body.
func got(t *testing.T, p *postfix.Server, user string, body []byte) bool {
	t.Helper()
	all, err := p.Mail(user)
	must(t, err)
	for _, m := range all {
		if bytes.HasSuffix(m, bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))) {
			return true
		}
	}
	return false
}

// queued is a line of `martlet queue list --json`.
type queued struct {
	ID       json.RawMessage `json:"id"`
	From     string          `json:"from"`
	To       json.RawMessage `json:"to"`
	Attempts int             `json:"attempts"`
	Reason   string          `json:"reason"`
}

func (s *subject) queue(t *testing.T) []queued {
	t.Helper()
	out, err := s.Command("queue", "list", "--json")
	must(t, err)
	programs.add("martlet")
	var all []queued
	for line := range strings.Lines(out) {
		var q queued
		if err := json.Unmarshal([]byte(line), &q); err != nil {
			t.Fatalf("queue list printed %q: %v", line, err)
		}
		all = append(all, q)
	}
	return all
}

// TestPostfixReceives sends to Postfix: at once, and after Postfix was down.
func TestPostfixReceives(t *testing.T) {
	t.Parallel()
	s, p := neighbours(t)
	must(t, p.Start())
	programs.add("postfix")
	first := note("to-postfix", "to Postfix\r\n.\r\n..\r\nGr\u00fc\u00dfe")
	submit(t, s, "pia@peer.test", first)
	within(t, 20*time.Second, "Postfix has the message", func() bool { return got(t, p, "pia", first) })
	// Postfix tells when the connection ends, which is kept for a while for more mail.
	within(t, 20*time.Second, "Martlet has used the STARTTLS that Postfix offers", func() bool {
		log, _ := os.ReadFile(p.Log)
		return bytes.Contains(log, []byte("starttls=1"))
	})
	international(t, s, p)
	p.Stop()
	second := note("to-postfix-later", "waits for Postfix")
	submit(t, s, "pia@peer.test", second)
	var waiting []queued
	within(t, 20*time.Second, "the queue shows a message with a reason", func() bool {
		waiting = s.queue(t)
		return len(waiting) == 1 && waiting[0].Reason != "" && waiting[0].Attempts > 0
	})
	if q := waiting[0]; !strings.Contains(strings.ToLower(q.Reason), "refused") || !strings.Contains(string(q.To), "pia@peer.test") ||
		q.From != "alice@martlet.test" {
		t.Errorf("the queue shows %+v", q)
	}
	must(t, p.Start())
	_, err := s.Command("queue", "retry", "--all")
	must(t, err)
	within(t, 20*time.Second, "Postfix has the message that waited", func() bool { return got(t, p, "pia", second) })
	within(t, 10*time.Second, "the queue is empty", func() bool { return len(s.queue(t)) == 0 })
	if all, _ := p.Mail("pia"); len(all) != 2 {
		t.Errorf("Postfix has %d messages, not 2", len(all))
	}
}

// international sends to an address that only SMTPUTF8 can carry (RFC 6531).
func international(t *testing.T, s *subject, p *postfix.Server) {
	t.Helper()
	a := s.account(t, "alice")
	w := dialSMTP(t, s.addr("submission"), false)
	w.login(a.Address, a.Password)
	w.expect(2, "MAIL FROM:<%s> BODY=8BITMIME SMTPUTF8", a.Address)
	w.expect(2, "RCPT TO:<p\u00eda@peer.test>")
	w.expect(3, "DATA")
	m := []byte("From: alice@martlet.test\r\nTo: p\u00eda@peer.test\r\nSubject: Gr\u00fc\u00dfe\r\n\r\nUTF-8 in the header\r\n")
	w.Write(stuffed(m))
	if code, text := w.reply(); code != 250 {
		t.Fatal(text)
	}
	within(t, 20*time.Second, "Postfix has the message to an international address", func() bool { return got(t, p, "p\u00eda", m) })
}

// TestPostfixBounces sends to somebody whom Postfix does not know, to a domain that
// takes no mail, and to one that does not exist: the sender must be told in words.
func TestPostfixBounces(t *testing.T) {
	t.Parallel()
	s, p := neighbours(t)
	must(t, p.Start())
	programs.add("postfix")
	for i, c := range []struct{ to, words string }{
		{"nobody@peer.test", "User unknown"},
		{"x@nothing.test", "nothing.test"},
		{"x@none.invalid", "none.invalid"},
	} {
		id := fmt.Sprintf("bounced-%d", i)
		submit(t, s, c.to, note(id, "comes back"))
		var dsn []byte
		within(t, 20*time.Second, "the sender has a report about "+c.to, func() bool {
			dsn = s.mention(t, "alice", id+"@peers.example")
			return dsn != nil
		})
		for _, want := range []string{"Return-Path: <>", "multipart/report", "report-type", "message/delivery-status", "Final-Recipient: rfc822;",
			c.to, "Action: failed", "Status: 5.", "Auto-Submitted: auto-", "To: ", "alice@martlet.test", c.words, "Subject: note " + id} {
			if !bytes.Contains(dsn, []byte(want)) {
				t.Errorf("the report about %s lacks %q\n%s", c.to, want, dsn)
			}
		}
	}
	// Both recipients of one message: one is delivered, the other reported.
	a := s.account(t, "alice")
	w := dialSMTP(t, s.addr("submission"), false)
	w.login(a.Address, a.Password)
	w.expect(2, "MAIL FROM:<%s>", a.Address)
	w.expect(2, "RCPT TO:<pia@peer.test>")
	w.expect(2, "RCPT TO:<nobody@peer.test>")
	w.expect(3, "DATA")
	m := note("half", "for two")
	w.Write(stuffed(m))
	if code, text := w.reply(); code != 250 {
		t.Fatal(text)
	}
	within(t, 20*time.Second, "one of two recipients has it", func() bool { return got(t, p, "pia", m) })
	within(t, 20*time.Second, "the other one is reported", func() bool { return s.mention(t, "alice", "half@peers.example") != nil })
	if dsn := s.mention(t, "alice", "half@peers.example"); bytes.Contains(dsn, []byte("Final-Recipient: rfc822; pia@")) {
		t.Errorf("the recipient who got it is reported as failed\n%s", dsn)
	}
	within(t, 10*time.Second, "the queue is empty", func() bool { return len(s.queue(t)) == 0 })
}

// mention returns a message of INBOX whose text names id, or nil.
func (s *subject) mention(t *testing.T, name, id string) []byte {
	t.Helper()
	w := dialIMAP(t, s, name)
	defer w.ok("LOGOUT")
	w.ok("EXAMINE INBOX")
	_, all := w.bodies("BODY.PEEK[]")
	for _, b := range all {
		if bytes.Contains(b, []byte(id)) {
			return b
		}
	}
	return nil
}

// TestPostfixSends lets Postfix relay to Martlet: all of the corpus that SMTP can
// carry, with TLS, and to somebody who does not exist.
func TestPostfixSends(t *testing.T) {
	t.Parallel()
	s, p := neighbours(t)
	must(t, p.Start())
	programs.add("postfix")
	w := dialSMTP(t, p.Addr, false)
	n, before := 0, dialIMAP(t, s, "bob").exists("INBOX")
	for _, m := range letters() {
		if m.NUL() || len(m.Data) > 1<<20 || !strings.Contains(m.Name, "multipart-") {
			continue
		}
		if code, text := w.deliver("pia@peer.test", "bob@martlet.test", m.Lines()); code != 250 {
			t.Fatalf("Postfix did not take %s: %s", m.Name, text)
		}
		n++
	}
	within(t, 60*time.Second, "Postfix has relayed all", func() bool { return dialIMAP(t, s, "bob").exists("INBOX")-before >= n })
	last := note("from-postfix", "with TLS\r\n.\r\nGr\u00fc\u00dfe")
	w.deliver("pia@peer.test", "bob@martlet.test", last)
	within(t, 20*time.Second, "the last one is there", func() bool { return holds(t, s, "bob", "INBOX", last) })
	if b := s.mention(t, "bob", "from-postfix@peers.example"); !bytes.Contains(b, []byte("with ESMTPS")) ||
		!bytes.HasPrefix(b, []byte("Return-Path: <pia@peer.test>")) {
		t.Errorf("the trace fields do not tell of TLS and the sender\n%.600s", b)
	}
	w.deliver("pia@peer.test", "nobody@martlet.test", last)
	within(t, 20*time.Second, "Postfix has told the sender that nobody does not exist", func() bool {
		all, _ := p.Mail("pia")
		return len(all) == 1 && bytes.Contains(all[0], []byte("550"))
	})
}
