package send

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/sts"
)

// ca signs certificates of hosts.
type ca struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t *testing.T) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &ca{t, cert, key}
}

func (a *ca) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// sign returns a host's certificate, with that of the authority if whole.
func (a *ca) sign(name string, ends time.Duration, whole bool) (*tls.Config, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "ignored.test"}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(ends), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	chain := [][]byte{der}
	if whole {
		chain = append(chain, a.cert.Raw)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: key}}}, leaf
}

// tlsaOf is a record of a certificate.
func tlsaOf(usage, selector, matching int, cert *x509.Certificate) string {
	data := cert.Raw
	if selector == 1 {
		data = cert.RawSubjectPublicKeyInfo
	}
	switch matching {
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return fmt.Sprintf("%d %d %d %s", usage, selector, matching, hex.EncodeToString(data))
}

// signedZone is the zone of one host, all of it vouched for, with TLSA records.
func signedZone(port uint16, records ...string) string {
	name := fmt.Sprintf("_%d._tcp.mx1.example.org", port)
	z := oneHost + "! ad example.org\n! ad mx1.example.org\n! ad " + name + "\n"
	for _, r := range records {
		z += name + ". IN TLSA " + r + "\n"
	}
	return z
}

// once sends one message.
func once(t *testing.T, c *Courier, env mail.Envelope) Result {
	t.Helper()
	return c.Send(t.Context(), env, text("Subject: x\r\n\r\nbody\r\n"), nil)[0]
}

// What TLSA records ask for is done (RFC 7672): what matches is trusted, whatever its name
// and age if it is the host's own; what does not match gets no mail.
func TestDANE(t *testing.T) {
	a, other := newCA(t), newCA(t)
	good, leaf := a.sign("mx1.example.org", time.Hour, true)
	byDomain, _ := a.sign("example.org", time.Hour, true)
	wild, _ := a.sign("*.example.org", time.Hour, true)
	wrong, wrongLeaf := a.sign("elsewhere.test", time.Hour, true)
	old, oldLeaf := a.sign("mx1.example.org", -time.Hour, true)
	bare, bareLeaf := a.sign("mx1.example.org", time.Hour, false)
	twice := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{bareLeaf.Raw, bareLeaf.Raw}, PrivateKey: bare.Certificates[0].PrivateKey}}}
	same := func(r ...string) []string { return r }
	for _, tc := range []struct {
		name    string
		conf    *tls.Config // nil: TLS is not offered
		records []string
		want    string
		proof   mail.Proof
		failure mail.TLSFault
	}{
		{"3 1 1", good, same(tlsaOf(3, 1, 1, leaf)), "250 2.0.0", mail.ProofDANE, ""},
		{"3 0 1", good, same(tlsaOf(3, 0, 1, leaf)), "250 2.0.0", mail.ProofDANE, ""},
		{"3 1 2", good, same(tlsaOf(3, 1, 2, leaf)), "250 2.0.0", mail.ProofDANE, ""},
		{"3 0 2", good, same(tlsaOf(3, 0, 2, leaf)), "250 2.0.0", mail.ProofDANE, ""},
		{"3 1 0", good, same(tlsaOf(3, 1, 0, leaf)), "250 2.0.0", mail.ProofDANE, ""},
		{"3 0 0", good, same(tlsaOf(3, 0, 0, leaf)), "250 2.0.0", mail.ProofDANE, ""},
		{"3 1 1, another name", wrong, same(tlsaOf(3, 1, 1, wrongLeaf)), "250 2.0.0", mail.ProofDANE, ""},
		{"3 1 1, ended", old, same(tlsaOf(3, 1, 1, oldLeaf)), "250 2.0.0", mail.ProofDANE, ""},
		{"3 1 1 of the next key and of this", good, same(tlsaOf(3, 1, 1, wrongLeaf), tlsaOf(3, 1, 1, leaf)), "250 2.0.0", mail.ProofDANE, ""},
		{"3 1 1, no match", good, same(tlsaOf(3, 1, 1, wrongLeaf)), "454 4.7.5", "", mail.NotValid},
		{"3 1 1 of the authority", good, same(tlsaOf(3, 1, 1, a.cert)), "454 4.7.5", "", mail.NotValid},
		{"the stronger digest counts", good, same(tlsaOf(3, 1, 1, leaf), tlsaOf(3, 1, 2, wrongLeaf)), "454 4.7.5", "", mail.NotValid},
		{"of another selector, too", good, same(tlsaOf(3, 0, 1, leaf), tlsaOf(3, 1, 2, wrongLeaf)), "250 2.0.0", mail.ProofDANE, ""},
		{"a full one counts beside", good, same(tlsaOf(3, 1, 0, leaf), tlsaOf(3, 1, 2, wrongLeaf)), "250 2.0.0", mail.ProofDANE, ""},
		{"2 0 1", good, same(tlsaOf(2, 0, 1, a.cert)), "250 2.0.0", mail.ProofDANE, ""},
		{"2 1 1", good, same(tlsaOf(2, 1, 1, a.cert)), "250 2.0.0", mail.ProofDANE, ""},
		{"2 0 2", good, same(tlsaOf(2, 0, 2, a.cert)), "250 2.0.0", mail.ProofDANE, ""},
		{"2 0 1, the domain's name", byDomain, same(tlsaOf(2, 0, 1, a.cert)), "250 2.0.0", mail.ProofDANE, ""},
		{"2 0 1, wildcard", wild, same(tlsaOf(2, 0, 1, a.cert)), "250 2.0.0", mail.ProofDANE, ""},
		{"2 0 1, another name", wrong, same(tlsaOf(2, 0, 1, a.cert)), "454 4.7.5", "", mail.HostMismatch},
		{"2 0 1, ended", old, same(tlsaOf(2, 0, 1, a.cert)), "454 4.7.5", "", mail.Expired},
		{"2 0 1, another authority", good, same(tlsaOf(2, 0, 1, other.cert)), "454 4.7.5", "", mail.NotValid},
		{"2 0 1, not shown", bare, same(tlsaOf(2, 0, 1, a.cert)), "454 4.7.5", "", mail.NotValid},
		{"2 0 0, not shown", bare, same(tlsaOf(2, 0, 0, a.cert)), "250 2.0.0", mail.ProofDANE, ""},
		{"2 0 1 of the host itself", bare, same(tlsaOf(2, 0, 1, bareLeaf)), "454 4.7.5", "", mail.NotValid},
		{"2 0 0 of the host itself", bare, same(tlsaOf(2, 0, 0, bareLeaf)), "454 4.7.5", "", mail.NotValid},
		{"2 0 1 of the host itself, shown twice", twice, same(tlsaOf(2, 0, 1, bareLeaf)), "454 4.7.5", "", mail.NotValid},
		{"one that matches beside one that does not", good, same(tlsaOf(2, 0, 1, other.cert), tlsaOf(3, 1, 1, leaf)), "250 2.0.0", mail.ProofDANE, ""},
		{"of the web's authorities only", wrong, same(tlsaOf(1, 1, 1, leaf), tlsaOf(0, 0, 1, other.cert)), "250 2.0.0", mail.AnyProof, mail.TLSAInvalid},
		{"of unknown kinds only", wrong, same("4 0 1 "+strings.Repeat("00", 32), "3 2 1 "+strings.Repeat("00", 32), "3 1 3 "+strings.Repeat("00", 32), "255 255 255 00"), "250 2.0.0", mail.AnyProof, mail.TLSAInvalid},
		{"none usable, no TLS", nil, same(tlsaOf(1, 1, 1, leaf)), "454 4.7.0", "", mail.NoSTARTTLS},
		{"none usable, broken TLS", &tls.Config{}, same(tlsaOf(1, 1, 1, leaf)), "454 4.7.5", "", mail.NotValid},
		{"no TLS", nil, same(tlsaOf(3, 1, 1, leaf)), "454 4.7.0", "", mail.NoSTARTTLS},
		{"broken TLS", &tls.Config{}, same(tlsaOf(3, 1, 1, leaf)), "454 4.7.5", "", mail.NotValid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &peer{tls: tc.conf}
			if tc.conf != nil {
				p.ext = []string{"STARTTLS"}
			}
			var seen []TLSObservation
			port := peers(t, p)
			c := courier(t, port, signedZone(port, tc.records...), func(o *Options) {
				o.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
				o.Observed = func(s TLSObservation) { seen = append(seen, s) }
			})
			r := once(t, c, envelope("s@martlet.test", "a@example.org"))
			if short(r) != tc.want || r.Line.Verified != tc.proof && tc.want == "250 2.0.0" || r.Line.Failure != tc.failure {
				t.Errorf("%+v", r)
			}
			if n, _ := p.got(); n == 1 != (tc.want == "250 2.0.0") {
				t.Errorf("%d mails", n)
			}
			if len(seen) != 1 || seen[0].Policy.Type != "tlsa" || len(seen[0].Policy.Strings) != len(tc.records) || seen[0].Host != "mx1.example.org" || seen[0].Line.Failure != tc.failure {
				t.Errorf("%+v", seen)
			}
		})
	}
}

// A message goes out in the clear only where nothing that can be trusted says otherwise,
// and an answer that cannot be had says everything: the host is left alone.
func TestDANELookups(t *testing.T) {
	a := newCA(t)
	good, leaf := a.sign("mx1.example.org", time.Hour, true)
	match, clash := tlsaOf(3, 1, 1, leaf), tlsaOf(3, 1, 1, a.cert)
	for _, tc := range []struct {
		name  string
		zone  string // PORT stands for _25._tcp
		want  string
		proof mail.Proof
		conns int
	}{
		{"records of an unsigned name", oneHost + "! ad example.org\n! ad mx1.example.org\nPORT.mx1.example.org. IN TLSA " + clash, "250 2.0.0", mail.AnyProof, 1},
		{"unsigned list of hosts", oneHost + "! ad mx1.example.org\n! ad PORT.mx1.example.org\nPORT.mx1.example.org. IN TLSA " + clash, "250 2.0.0", mail.AnyProof, 1},
		{"unsigned addresses", oneHost + "! ad example.org\n! ad PORT.mx1.example.org\nPORT.mx1.example.org. IN TLSA " + clash, "250 2.0.0", mail.AnyProof, 1},
		{"no records", oneHost + "! ad example.org\n! ad mx1.example.org\n! ad PORT.mx1.example.org\n", "250 2.0.0", mail.AnyProof, 1},
		{"no answer", oneHost + "! ad example.org\n! ad mx1.example.org\n! silent PORT.mx1.example.org\n", "451 4.7.5", "", 0},
		{"bogus answer", oneHost + "! ad example.org\n! ad mx1.example.org\n! servfail PORT.mx1.example.org\nPORT.mx1.example.org. IN TLSA " + match, "451 4.7.5", "", 0},
		{"garbage", oneHost + "! ad example.org\n! ad mx1.example.org\n! garbage PORT.mx1.example.org\n", "451 4.7.5", "", 0},
		{"bogus answer of an unsigned host is not asked for", oneHost + "! ad example.org\n! servfail PORT.mx1.example.org\n", "250 2.0.0", mail.AnyProof, 1},
		{"IPv6 addresses cannot be had", oneHost + "! ad example.org\n! ad mx1.example.org\n! servfail:AAAA mx1.example.org\n! ad PORT.mx1.example.org\nPORT.mx1.example.org. IN TLSA " + clash, "454 4.7.5", "", 1},
		{"the domain itself is the host", "alone.test. IN A 127.0.0.1\n! ad alone.test\n! ad PORT.alone.test\nPORT.alone.test. IN TLSA " + match, "250 2.0.0", mail.ProofDANE, 1},
		{"alias, records at its end", "alone.test. IN MX 1 alias.test.\nalias.test. IN CNAME mx1.example.org.\nmx1.example.org. IN A 127.0.0.1\n! ad alone.test\n! ad alias.test\n! ad mx1.example.org\n! ad PORT.mx1.example.org\nPORT.mx1.example.org. IN TLSA " + match + "\nPORT.alias.test. IN TLSA " + clash + "\n! ad PORT.alias.test\n", "250 2.0.0", mail.ProofDANE, 1},
		{"alias, records at its beginning", "alone.test. IN MX 1 alias.test.\nalias.test. IN CNAME mx1.example.org.\nmx1.example.org. IN A 127.0.0.1\n! ad alone.test\n! ad alias.test\n! ad mx1.example.org\nPORT.alias.test. IN TLSA " + match + "\n! ad PORT.alias.test\n", "250 2.0.0", mail.ProofDANE, 1},
		{"alias to an unsigned name, signed itself", "alone.test. IN MX 1 alias.test.\nalias.test. IN CNAME mx1.example.org.\nmx1.example.org. IN A 127.0.0.1\n! ad alone.test\n! ad:CNAME alias.test\nPORT.alias.test. IN TLSA " + clash + "\n! ad PORT.alias.test\n", "454 4.7.5", "", 1},
		{"alias to an unsigned name, unsigned itself", "alone.test. IN MX 1 alias.test.\nalias.test. IN CNAME mx1.example.org.\nmx1.example.org. IN A 127.0.0.1\n! ad alone.test\nPORT.alias.test. IN TLSA " + clash + "\n! ad PORT.alias.test\n", "250 2.0.0", mail.AnyProof, 1},
		{"records by an alias", oneHost + "! ad example.org\n! ad mx1.example.org\n! ad PORT.mx1.example.org\nPORT.mx1.example.org. IN CNAME tlsa._dane.example.org.\ntlsa._dane.example.org. IN TLSA " + match, "250 2.0.0", mail.ProofDANE, 1},
		{"another host is tried", twoHosts + "! ad example.org\n! ad mx1.example.org\n! servfail PORT.mx1.example.org\n", "250 2.0.0", mail.Unproven, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, second := &peer{tls: good, ext: []string{"STARTTLS"}}, &peer{}
			port := peers(t, p, second)
			c := courier(t, port, strings.ReplaceAll(tc.zone, "PORT", fmt.Sprintf("_%d._tcp", port)), func(o *Options) {
				o.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
			})
			to := "a@example.org"
			if strings.Contains(tc.zone, "alone.test") {
				to = "a@alone.test"
			}
			r := once(t, c, envelope("s@martlet.test", to))
			if short(r) != tc.want || r.Code == 250 && r.Line.Verified != tc.proof {
				t.Errorf("%+v", r)
			}
			if _, conns := p.got(); conns != tc.conns {
				t.Errorf("%d connections", conns)
			}
		})
	}
}

// The server that shows certificates by name is asked for that of the TLSA base domain.
func TestDANEServerName(t *testing.T) {
	a := newCA(t)
	good, leaf := a.sign("mx1.example.org", time.Hour, true)
	wrong, _ := a.sign("elsewhere.test", time.Hour, true)
	p := &peer{ext: []string{"STARTTLS"}, tls: &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if h.ServerName == "mx1.example.org" {
			return &good.Certificates[0], nil
		}
		return &wrong.Certificates[0], nil
	}}}
	port := peers(t, p)
	c := courier(t, port, signedZone(port, tlsaOf(3, 1, 1, leaf)), nil)
	if r := once(t, c, envelope("", "a@example.org")); r.Code != 250 {
		t.Errorf("%+v", r)
	}
}

// Records with the data of a wrong length, or none, are as good as none: TLS with whatever
// certificate, and no panic.
func TestAttack31BadTLSA(t *testing.T) {
	a := newCA(t)
	good, _ := a.sign("mx1.example.org", time.Hour, true)
	chain := []*x509.Certificate{a.cert, a.cert}
	for _, usage := range []uint8{0, 1, 2, 3, 4, 255} {
		for _, selector := range []uint8{0, 1, 2} {
			for _, matching := range []uint8{0, 1, 2, 3} {
				for n := range 21 {
					r := dnsx.TLSA{Usage: usage, Selector: selector, Matching: matching, Data: make([]byte, n)}
					if got := usableTLSA([]dnsx.TLSA{r}); len(got) != 0 {
						t.Fatalf("%v is usable", r)
					}
					set := &tlsaSet{base: "x.test", usable: []dnsx.TLSA{r}} // were it so nevertheless
					if set.judge(tls.ConnectionState{PeerCertificates: chain}, nil, time.Now()) == nil {
						t.Fatalf("%v matches", r)
					}
				}
			}
		}
	}
	p := &peer{ext: []string{"STARTTLS"}, tls: good}
	port := peers(t, p)
	c := courier(t, port, signedZone(port, "3 1 1 00", "2 0 2 "+strings.Repeat("ab", 20), "3 0 0 30"), nil)
	if r := once(t, c, envelope("", "a@example.org")); r.Code != 250 || r.Line.Version == "" || r.Line.Failure != mail.TLSAInvalid {
		t.Errorf("%+v", r)
	}
}

// DANE has precedence: a policy cannot heal what fails, nor hurt what holds.
func TestDANEBeforeSTS(t *testing.T) {
	a := newCA(t)
	good, leaf := a.sign("mx1.example.org", time.Hour, true)
	for _, tc := range []struct {
		record string
		host   string // that the policy names
		want   string
	}{
		{tlsaOf(3, 1, 1, leaf), "other.test", "250 2.0.0"},
		{tlsaOf(3, 1, 1, a.cert), "mx1.example.org", "454 4.7.5"},
	} {
		p := &peer{ext: []string{"STARTTLS"}, tls: good}
		port := peers(t, p)
		c := courier(t, port, signedZone(port, tc.record), func(o *Options) {
			o.STS = policyOf(sts.Enforce, tc.host)
			o.TLS = &tls.Config{RootCAs: a.pool()}
		})
		if r := once(t, c, envelope("", "a@example.org")); short(r) != tc.want {
			t.Errorf("%+v", r)
		}
	}
}

// Where DANE is demanded, a host without it gets nothing.
func TestDANERequired(t *testing.T) {
	a := newCA(t)
	good, leaf := a.sign("mx1.example.org", time.Hour, true)
	for _, tc := range []struct {
		name, zone, want string
	}{
		{"has it", signedZone(0, tlsaOf(3, 1, 1, leaf)), "250 2.0.0"},
		{"has none", oneHost, "451 4.7.5"},
		{"has none that is usable", signedZone(0, "1 1 1 00"), "451 4.7.5"},
	} {
		p := &peer{ext: []string{"STARTTLS"}, tls: good}
		port := peers(t, p)
		c := courier(t, port, strings.ReplaceAll(tc.zone, "_0.", fmt.Sprintf("_%d.", port)), func(o *Options) {
			o.Routes = []Route{{Domain: "example.org", TLS: TLSDANE}}
		})
		if r := once(t, c, envelope("", "a@example.org")); short(r) != tc.want {
			t.Errorf("%s: %+v", tc.name, r)
		}
	}
}

// FuzzTLSA: whatever DNS says, a chain is judged without a panic, and only what is usable
// can match.
func FuzzTLSA(f *testing.F) {
	f.Add(uint8(3), uint8(1), uint8(1), []byte{})
	f.Add(uint8(2), uint8(0), uint8(0), []byte{0x30, 0x82})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"x.test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		f.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(3), uint8(0), uint8(0), der)
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data []byte) {
		set := &tlsaSet{base: "x.test", usable: usableTLSA([]dnsx.TLSA{{Usage: usage, Selector: selector, Matching: matching, Data: data}})}
		if set.judge(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert, cert}}, []string{"x.test"}, time.Now()) == nil && len(set.usable) == 0 {
			t.Fatal("matched by nothing")
		}
	})
}
