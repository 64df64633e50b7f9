package discover

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
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
)

// world is an Internet on loopback: names by a real DNS server, hosts by listeners that public
// addresses are mapped to. What is connected to, and every byte that servers are told, is kept.
type world struct {
	t     *testing.T
	zone  string
	dns   *dnstest.Server
	key   *ecdsa.PrivateKey
	ca    *x509.Certificate
	roots *x509.CertPool

	mu     sync.Mutex
	places map[string]string // "203.0.113.1:443" to where it is in truth, "" if it never answers
	dialed []string
	heard  bytes.Buffer
	serial int64
	wild   map[string]netip.Addr // names below these exist all
	clock  func() time.Time
}

func newWorld(t *testing.T, zone string) *world {
	t.Helper()
	w := &world{t: t, zone: zone, places: map[string]string{}, wild: map[string]netip.Addr{}, clock: time.Now}
	var err error
	if w.dns, err = dnstest.Start(zone); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.dns.Close)
	w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the tests' authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &w.key.PublicKey, w.key)
	if err != nil {
		t.Fatal(err)
	}
	w.ca, _ = x509.ParseCertificate(der)
	w.roots = x509.NewCertPool()
	w.roots.AddCert(w.ca)
	return w
}

// certificate is one of the world's authority.
func (w *world) certificate(names ...string) tls.Certificate {
	w.t.Helper()
	w.mu.Lock()
	w.serial++
	serial := w.serial + 1
	w.mu.Unlock()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: names, NotBefore: w.clock().Add(-time.Hour), NotAfter: w.clock().Add(time.Hour),
	}, w.ca, &w.key.PublicKey, w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: w.key}
}

// listen puts a listener at a place.
func (w *world) listen(place string) net.Listener {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { ln.Close() })
	w.mu.Lock()
	w.places[place] = ln.Addr().String()
	w.mu.Unlock()
	return ln
}

// silent makes places that never answer.
func (w *world) silent(places ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range places {
		w.places[p] = ""
	}
}

// web is an HTTPS server, or an HTTP one without names.
func (w *world) web(ip string, handler http.HandlerFunc, names ...string) {
	place, port := ip+":443", "443"
	if len(names) == 0 {
		place, port = ip+":80", "80"
	}
	ln := net.Listener(w.listen(place))
	if port == "443" {
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{w.certificate(names...)}})
	}
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		w.mu.Lock()
		fmt.Fprintf(&w.heard, "%s %s://%s%s\n", r.Method, map[string]string{"443": "https", "80": "http"}[port], r.Host, r.URL.RequestURI())
		r.Header.Write(&w.heard)
		w.heard.Write(body)
		w.heard.WriteByte('\n')
		w.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		handler(rw, r)
	})}
	go srv.Serve(ln)
	w.t.Cleanup(func() { srv.Close() })
}

// files answers with documents by host and path.
func files(all map[string]string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		body, ok := all[r.Host+r.URL.Path]
		if !ok {
			body, ok = all[r.URL.Path]
		}
		if !ok {
			http.NotFound(rw, r)
			return
		}
		io.WriteString(rw, body)
	}
}

// post is a mail server: what it says to each command, by protocol.
type post struct {
	protocol string
	security string
	names    []string // of its certificate
	offers   []string // words of CAPABILITY, lines of CAPA and EHLO
	greeting string
}

// mail runs a mail server at a place.
func (w *world) mail(place string, p post) {
	ln := w.listen(place)
	config := &tls.Config{Certificates: []tls.Certificate{w.certificate(p.names...)}}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				w.session(conn, p, config)
			}()
		}
	}()
}

func (w *world) session(conn net.Conn, p post, config *tls.Config) {
	if p.security == TLS {
		conn = tls.Server(conn, config)
	}
	greet := map[string]string{"imap": "* OK ready", "pop3": "+OK ready", "smtp": "220 ready"}[p.protocol]
	if p.greeting != "" {
		greet = p.greeting
	}
	in := bufio.NewReader(conn)
	fmt.Fprintf(conn, "%s\r\n", greet)
	for {
		text, err := in.ReadString('\n')
		if err != nil {
			return
		}
		w.mu.Lock()
		w.heard.WriteString(text)
		w.mu.Unlock()
		f := strings.Fields(strings.ToUpper(text))
		if len(f) == 0 {
			return
		}
		if p.protocol == "imap" && len(f) > 1 {
			f = append(f[1:], f[0])
		}
		tag := strings.ToLower(f[len(f)-1])
		switch {
		case f[0] == "STARTTLS" || f[0] == "STLS":
			fmt.Fprintf(conn, "%s\r\n", map[string]string{"imap": tag + " OK go", "pop3": "+OK go", "smtp": "220 go"}[p.protocol])
			conn = tls.Server(conn, config)
			in = bufio.NewReader(conn)
		case f[0] == "CAPABILITY":
			fmt.Fprintf(conn, "* CAPABILITY IMAP4rev1 %s\r\n%s OK done\r\n", strings.Join(p.offers, " "), tag)
		case f[0] == "CAPA":
			fmt.Fprintf(conn, "+OK\r\n%s\r\n.\r\n", strings.Join(append([]string{"UIDL"}, p.offers...), "\r\n"))
		case f[0] == "EHLO":
			fmt.Fprintf(conn, "250-here\r\n")
			for _, o := range p.offers {
				fmt.Fprintf(conn, "250-%s\r\n", o)
			}
			fmt.Fprintf(conn, "250 PIPELINING\r\n")
		default:
			return
		}
	}
}

// mailAll runs IMAP, POP3 and submission with TLS at an address.
func (w *world) mailAll(ip string, names ...string) {
	w.mail(ip+":993", post{protocol: "imap", security: TLS, names: names, offers: []string{"AUTH=PLAIN", "IDLE"}})
	w.mail(ip+":995", post{protocol: "pop3", security: TLS, names: names, offers: []string{"SASL PLAIN"}})
	w.mail(ip+":465", post{protocol: "smtp", security: TLS, names: names, offers: []string{"AUTH PLAIN LOGIN"}})
}

// Dial connects to where a place is in truth.
func (w *world) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dialed = append(w.dialed, address)
	real, ok := w.places[address]
	w.mu.Unlock()
	if !ok {
		return nil, errors.New("connection refused")
	}
	if real == "" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return new(net.Dialer).DialContext(ctx, network, real)
}

// LookupIP makes wildcards, which the DNS server of the tests has none of.
type wildResolver struct {
	dnsx.Resolver
	w *world
}

func (r wildResolver) LookupIP(ctx context.Context, host string, six bool) ([]netip.Addr, dnsx.Info, error) {
	addrs, info, err := r.Resolver.LookupIP(ctx, host, six)
	if dnsx.NoName(err) && !six {
		for domain, a := range r.w.wild {
			if strings.HasSuffix(host, "."+domain) {
				return []netip.Addr{a}, info, nil
			}
		}
	}
	return addrs, info, err
}

func (w *world) options() Options {
	c, err := dnsx.New(dnsx.Options{Servers: []string{w.dns.Addr()}, Rounds: 1, Timeout: 2 * time.Second, TrustAD: true, Now: time.Now, ID: dns.Id, Dial: new(net.Dialer).DialContext})
	if err != nil {
		w.t.Fatal(err)
	}
	return Options{Resolver: wildResolver{c, w}, Dial: w.Dial, Now: time.Now, Random: rand.Reader, Roots: w.roots, Explain: true, Database: "https://db.test-db.org/v1.1/"}
}

func (w *world) find(text string, change ...func(*Options)) *Answer {
	w.t.Helper()
	o := w.options()
	for _, c := range change {
		c(&o)
	}
	f, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := f.Find(context.Background(), text)
	if err != nil {
		w.t.Fatal(err)
	}
	// Whatever happens, nobody is sent what signs in.
	w.mu.Lock()
	heard := strings.ToLower(w.heard.String())
	w.mu.Unlock()
	for _, never := range []string{"authorization:", "cookie:", "authenticate", "\nlogin", " login ", "user ", "pass ", "auth plain", "auth login", "password"} {
		if strings.Contains(heard, never) {
			w.t.Errorf("a server heard %q in:\n%s", never, heard)
		}
	}
	return a
}

// lines is an answer in short form.
func lines(a *Answer) string {
	var b strings.Builder
	for _, s := range a.Services {
		fmt.Fprintf(&b, "%s %s:%d %s %s %s", s.Protocol, s.Host, s.Port, s.Security, s.Source, s.Confidence)
		if s.Insecure {
			b.WriteString(" insecure")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func explained(a *Answer) string {
	b, _ := json.MarshalIndent(a, "", " ")
	return string(b)
}

func (w *world) want(a *Answer, want string) {
	w.t.Helper()
	want = strings.TrimSpace(strings.ReplaceAll(want, "\t", "")) + "\n"
	if got := lines(a); strings.TrimSpace(got) != strings.TrimSpace(want) {
		w.t.Errorf("found:\n%s\nwanted:\n%s\n%s", got, want, explained(a))
	}
}

// result is what came of a step.
func result(a *Answer, name string) string {
	for _, s := range a.Steps {
		if s.Name == name {
			return s.Result
		}
	}
	return "there is no such step"
}
