package clients

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/discover/format"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/serve/autoconf"
)

// world is a domain, here.example, whose settings a real server tells.
type world struct {
	t       *testing.T
	options autoconf.Options
	records map[string]any // by "TYPE name"
	change  func(http.Handler) http.Handler
	cert    *tls.Certificate // for all names but wrong.example
	wrong   *tls.Certificate
	badName map[string]bool // names for which the wrong one is shown
	roots   *x509.CertPool
	asked   atomic.Int64 // requests that had a password in them
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, badName: map[string]bool{}, roots: x509.NewCertPool(), change: func(h http.Handler) http.Handler { return h }}
	w.cert = w.certificate("here.example", "*.here.example", "mx.host.example", "*.host.example")
	w.wrong = w.certificate("wrong.example")
	service := func(protocol string, port int, security string) discover.Service {
		return discover.Service{Protocol: protocol, Host: "mx.host.example", Port: port, Security: security, Username: format.WholeAddress, Auth: []string{"password"}}
	}
	w.options = autoconf.Options{
		Now: time.Now, Hostname: "mx.host.example", Web: "https://mx.host.example",
		Services: []discover.Service{
			service("imap", 993, discover.TLS), service("imap", 143, discover.StartTLS), service("pop3", 995, discover.TLS), service("pop3", 110, discover.StartTLS),
			service("smtp", 465, discover.TLS), service("smtp", 587, discover.StartTLS),
		},
		IsLocal: func(_ context.Context, domain string) (bool, error) { return domain == "here.example", nil },
	}
	w.records = map[string]any{
		"MX here.example":                    []dnsx.MX{{Host: "mx.host.example"}},
		"SRV _imaps._tcp.here.example":       []dnsx.SRV{{Target: "mx.host.example", Port: 993}},
		"SRV _submissions._tcp.here.example": []dnsx.SRV{{Target: "mx.host.example", Port: 465}},
		"SRV _pop3s._tcp.here.example":       []dnsx.SRV{{}}, // not offered
	}
	for _, n := range []string{"here.example", "autoconfig.here.example", "autodiscover.here.example", "ua-auto-config.here.example", "imap.here.example", "smtp.here.example", "mail.here.example", "mx.host.example", "autoconfig.host.example"} {
		w.records["A "+n] = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	}
	w.digest()
	return w
}

// digest publishes that of the present document.
func (w *world) digest() {
	body, err := autoconf.New(w.options).Agents("here.example")
	if err != nil {
		w.t.Fatal(err)
	}
	sum := sha256.Sum256(body)
	w.records["TXT _ua-auto-config.here.example"] = []string{"v=UAAC1; a=sha256; d=" + base64.StdEncoding.EncodeToString(sum[:])}
}

func (w *world) certificate(names ...string) *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	w.roots.AddCert(leaf)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (w *world) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if w.badName[hello.ServerName] {
		return w.wrong, nil
	}
	return w.cert, nil
}

func lookup[T any](w *world, kind, name string) ([]T, dnsx.Info, error) {
	switch r := w.records[kind+" "+name].(type) {
	case []T:
		return r, dnsx.Info{}, nil
	case error:
		return nil, dnsx.Info{}, r
	}
	return nil, dnsx.Info{}, fault.Wrap(fault.NotFound, "nothing", dnsx.ErrNoName)
}

func (w *world) LookupAddr(_ context.Context, host string) ([]netip.Addr, dnsx.Info, error) {
	return lookup[netip.Addr](w, "A", host)
}
func (w *world) LookupMX(_ context.Context, domain string) ([]dnsx.MX, dnsx.Info, error) {
	return lookup[dnsx.MX](w, "MX", domain)
}
func (w *world) LookupSRV(_ context.Context, name string) ([]dnsx.SRV, dnsx.Info, error) {
	return lookup[dnsx.SRV](w, "SRV", name)
}
func (w *world) LookupTXT(_ context.Context, name string) ([]string, dnsx.Info, error) {
	return lookup[string](w, "TXT", name)
}

// dial is the network: web servers and mail servers on their ports.
func (w *world) dial(web map[string]string) func(context.Context, string, string) (net.Conn, error) {
	return func(_ context.Context, _, address string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(address)
		if at := web[port]; at != "" {
			return net.Dial("tcp", at)
		}
		kind := map[string]string{"993": "imap", "143": "imap", "995": "pop3", "110": "pop3", "465": "smtp", "587": "smtp"}[port]
		if kind == "" {
			return nil, &net.OpError{Op: "dial", Err: fmt.Errorf("refused")}
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		go func() {
			defer ln.Close()
			if c, err := ln.Accept(); err == nil {
				w.mailServer(c, kind, port == "993" || port == "995" || port == "465")
			}
		}()
		return net.Dial("tcp", ln.Addr().String())
	}
}

// mailServer greets, and starts TLS when it is asked to.
func (w *world) mailServer(c net.Conn, kind string, secure bool) {
	defer c.Close()
	if secure {
		c = tls.Server(c, &tls.Config{GetCertificate: w.get})
	}
	greeting := map[string]string{"imap": "* OK hello\r\n", "pop3": "+OK hello\r\n", "smtp": "220-hello\r\n220 there\r\n"}[kind]
	if _, err := c.Write([]byte(greeting)); err != nil || secure {
		return
	}
	for in := bufio.NewScanner(c); in.Scan(); {
		switch line := in.Text(); {
		case strings.HasPrefix(line, "EHLO"):
			fmt.Fprintf(c, "250-here\r\n250 STARTTLS\r\n")
		case line == "a STARTTLS", line == "STLS", line == "STARTTLS":
			fmt.Fprintf(c, "%s", map[string]string{"imap": "a OK begin\r\n", "pop3": "+OK begin\r\n", "smtp": "220 begin\r\n"}[kind])
			_ = tls.Server(c, &tls.Config{GetCertificate: w.get}).Handshake()
			return
		}
	}
}

func (w *world) play() map[string]Outcome {
	w.t.Helper()
	handler := w.change(autoconf.New(w.options).Wrap(http.NotFoundHandler()))
	watch := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); ok || r.Header.Get("Authorization") != "" || strings.Contains(r.URL.String(), "pass") {
			w.asked.Add(1)
		}
		handler.ServeHTTP(rw, r)
	})
	secure := httptest.NewUnstartedServer(watch)
	secure.TLS = &tls.Config{GetCertificate: w.get}
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	open := httptest.NewServer(watch)
	defer open.Close()
	web := map[string]string{"443": secure.Listener.Addr().String(), "80": open.Listener.Addr().String()}
	all, err := Play(w.t.Context(), "nobody@here.example", Options{Resolver: w, Dial: w.dial(web), Roots: w.roots, Now: time.Now, AllowPrivate: true})
	if err != nil {
		w.t.Fatal(err)
	}
	byName := map[string]Outcome{}
	for _, o := range all {
		byName[o.Client] = o
	}
	if len(byName) != len(programs) || w.asked.Load() > 0 {
		w.t.Fatalf("%d outcomes, %d passwords sent", len(byName), w.asked.Load())
	}
	return byName
}

func status(o Outcome, mechanism string) Try {
	i := slices.IndexFunc(o.Tries, func(t Try) bool { return t.Mechanism == mechanism })
	if i < 0 {
		return Try{}
	}
	return o.Tries[i]
}

// With everything in place every program ends with the right settings, whatever way it asks.
func TestAllWorks(t *testing.T) {
	for name, o := range newWorld(t).play() {
		if !o.OK {
			t.Errorf("%s: %s", name, o.Why)
		}
		for _, try := range o.Tries {
			if try.Status != Pass {
				t.Errorf("%s %s of %s: %s", name, try.Mechanism, try.Asked, try.Why)
			}
		}
		for protocol, port := range map[string]int{"imap": 993, "smtp": 465} {
			s := first(o.Services, protocol)
			if s == nil || s.Port != port || s.Security != discover.TLS || s.Username != "nobody@here.example" && s.Username != format.WholeAddress || !strings.HasSuffix(s.Host, ".example") {
				t.Errorf("%s has %+v for %s", name, s, protocol)
			}
		}
	}
}

// answer puts an answer in the place of one path.
func answer(path string, status int, header, body string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(strings.ToLower(r.URL.Path), path) {
				next.ServeHTTP(w, r)
				return
			}
			if key, value, ok := strings.Cut(header, ": "); ok {
				w.Header().Set(key, value)
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		})
	}
}

// Each fault is found by the programs that meet it, with a word that names it, and by no other.
func TestEachFault(t *testing.T) {
	const config, xmlPOX = "config-v1.1.xml", "/autodiscover.xml"
	document := func(change ...string) string {
		b, err := format.Autoconfig(discover.Answer{Domain: "here.example", Services: newWorld(t).options.Services}, format.Provider{})
		if err != nil {
			t.Fatal(err)
		}
		return strings.NewReplacer(change...).Replace(string(b))
	}
	for name, c := range map[string]struct {
		make  func(*world)
		fails string // mechanisms, with those of Android as auto*, separated by spaces
		word  string
		dead  string // programs that come to nothing
	}{
		"redirect":    {func(w *world) { w.change = answer(config, 302, "Location: https://elsewhere.example/", "") }, "auto well http mx auto* well* mx*", `redirects to "https://elsewhere.example/"`, "Thunderbird Android"},
		"password":    {func(w *world) { w.change = answer(xmlPOX, 401, "WWW-Authenticate: Basic", "") }, "pox json", "asks for a password", "Outlook (POX),Outlook (JSON)"},
		"missing":     {func(w *world) { w.change = answer(config, 404, "", "no") }, "auto well http mx auto* well* mx*", "answers 404", "Thunderbird Android"},
		"entities":    {func(w *world) { w.change = answer(config, 200, "", `<!DOCTYPE x [<!ENTITY a "b">]><clientConfig/>`) }, "auto well http mx auto* well* mx*", "document type", "Thunderbird Android"},
		"no XML":      {func(w *world) { w.change = answer(config, 200, "", "<html><p>hello") }, "auto well http mx auto* well* mx*", "not well-formed", "Thunderbird Android"},
		"too long":    {func(w *world) { w.change = answer(config, 200, "", strings.Repeat(" ", maxBody+1)) }, "auto well http mx auto* well* mx*", "more than 262144", "Thunderbird Android"},
		"no TLS":      {func(w *world) { w.change = answer(config, 200, "", document("STARTTLS", "plain")) }, "auto* well* mx*", "socketType", "Thunderbird Android"},
		"U-label":     {func(w *world) { w.change = answer(config, 200, "", document("mx.host", "mx.höst")) }, "auto well http mx auto* well* mx*", "", "Thunderbird Android"},
		"only OAuth":  {func(w *world) { w.change = answer(config, 200, "", document("password-cleartext", "OAuth2")) }, "auto well http mx auto* well* mx*", "", "Thunderbird Android"},
		"no domain":   {func(w *world) { w.change = answer(config, 200, "", document("<domain>here.example", "<domain>a b")) }, "auto well http mx auto* well* mx*", "no valid domain", "Thunderbird Android"},
		"certificate": {func(w *world) { w.badName["autoconfig.here.example"] = true }, "auto auto* prof", "certificate is valid for wrong.example", ""},
		"mail host":   {func(w *world) { w.badName["mx.host.example"] = true }, "auto well http mx srv pox json prof pacc auto* well* mx*", "mx.host.example port 993 (IMAP)", "Thunderbird Android,Outlook (POX),Outlook (JSON),PACC"},
		"digest":      {func(w *world) { w.records["TXT _ua-auto-config.here.example"] = []string{"v=UAAC1; a=sha256; d=AAAA"} }, "pacc", "is not that of the document", "PACC"},
		"no digest":   {func(w *world) { delete(w.records, "TXT _ua-auto-config.here.example") }, "pacc", "not in the DNS", "PACC"},
		"no SRV": {func(w *world) {
			delete(w.records, "SRV _imaps._tcp.here.example")
			delete(w.records, "SRV _submissions._tcp.here.example")
		}, "srv", "no records of services", ""},
		"no autoconfig": {func(w *world) { delete(w.records, "A autoconfig.here.example") }, "auto http auto* prof", "autoconfig.here.example is not in the DNS", ""},
		"no MX":         {func(w *world) { delete(w.records, "MX here.example") }, "mx mx*", "mail host of here.example is not in the DNS", ""},
		"error 600": {func(w *world) {
			w.change = answer(xmlPOX, 200, "", `<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"><Response><Error><ErrorCode>600</ErrorCode><Message>m</Message></Error></Response></Autodiscover>`)
		}, "pox json", "error 600", "Outlook (POX),Outlook (JSON)"},
		"another schema": {func(w *world) {
			w.change = answer(xmlPOX, 200, "", `<Autodiscover xmlns="x"><Response/></Autodiscover>`)
		}, "pox json", "no answer of Autodiscover", "Outlook (POX),Outlook (JSON)"},
		"to http": {func(w *world) {
			w.change = answer("/autodiscover.json", 200, "", `{"Protocol":"AutodiscoverV1","Url":"http://x.example/"}`)
		}, "json", "no https URL", "Outlook (JSON)"},
		"no profile": {func(w *world) { w.change = answer(".mobileconfig", 200, "", "hello") }, "prof", "neither a property list", ""},
		"names": {func(w *world) {
			w.badName["imap.here.example"], w.badName["mail.here.example"], w.badName["here.example"] = true, true, true
		}, "names well well*", "certificate", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.make(w)
			all := w.play()
			var fails []string
			said := ""
			for client, o := range all {
				for _, try := range o.Tries {
					key := try.Mechanism
					if client == "Thunderbird Android" {
						key += "*"
					}
					if try.Status == Fail && !slices.Contains(fails, key) {
						fails = append(fails, key)
						said += try.Why + "\n"
					}
				}
				if dead := slices.Contains(strings.Split(c.dead, ","), client); dead == o.OK {
					t.Errorf("%s works: %v", client, o.OK)
				}
			}
			want := strings.Fields(c.fails)
			slices.Sort(fails)
			slices.Sort(want)
			if !slices.Equal(fails, want) || !strings.Contains(said, c.word) {
				t.Errorf("%v fail, want %v:\n%s", fails, want, said)
			}
		})
	}
}

// A DNS that does not answer is no fault of the domain.
func TestSilentDNS(t *testing.T) {
	w := newWorld(t)
	w.records["TXT _ua-auto-config.here.example"] = fault.New(fault.Unavailable, "no answer")
	w.records["SRV _imap._tcp.here.example"] = fault.New(fault.Unavailable, "no answer")
	all := w.play()
	if o := all["PACC"]; o.OK || !o.Unknown || status(o, "pacc").Status != Skipped {
		t.Errorf("%+v", o)
	}
	if o := all["FairEmail"]; !o.OK || status(o, "srv").Status != Pass {
		t.Errorf("%+v", o)
	}
}

// A server that has been asked too often says nothing of its settings.
func TestAskedTooOften(t *testing.T) {
	w := newWorld(t)
	w.change = answer("config-v1.1.xml", 429, "", "later")
	all := w.play()
	if o := all["Thunderbird Android"]; o.OK || !o.Unknown || status(o, "auto").Status != Skipped {
		t.Errorf("%+v", o)
	}
	if o := all["FairEmail"]; !o.OK {
		t.Errorf("%+v", o)
	}
}

// What does not end is left when the time is over.
func TestSilentServer(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	defer close(release)
	w.change = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "config-v1.1") {
				select {
				case <-release:
				case <-r.Context().Done():
				}
				return
			}
			next.ServeHTTP(rw, r)
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	secure := httptest.NewUnstartedServer(w.change(autoconf.New(w.options).Wrap(http.NotFoundHandler())))
	secure.TLS, secure.Config.ErrorLog = &tls.Config{GetCertificate: w.get}, log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	all, err := Play(ctx, "nobody@here.example", Options{Resolver: w, Dial: w.dial(map[string]string{"443": secure.Listener.Addr().String()}), HTTP: "-", Roots: w.roots, Now: time.Now, AllowPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		if try := status(o, "auto"); try.Mechanism != "" && (try.Status != Fail || !strings.Contains(try.Why, "in time")) {
			t.Errorf("%s: %+v", o.Client, try)
		}
		if try := status(o, "http"); try.Mechanism != "" && try.Status != Skipped {
			t.Errorf("%s: %+v", o.Client, try)
		}
	}
	if !slices.ContainsFunc(all, func(o Outcome) bool { return o.Client == "Outlook (POX)" && o.OK }) {
		t.Error("a slow document keeps others from their answers")
	}
}

func TestNoAddress(t *testing.T) {
	for _, bad := range []string{"", "here.example", "@here.example", "a@[192.0.2.1]x", "a b@here.example"} {
		if _, err := Play(t.Context(), bad, Options{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Records and documents of strangers lead into no network of ours, be it by name or by address.
func TestStaysOutside(t *testing.T) {
	w := newWorld(t)
	for name := range w.records {
		if strings.HasPrefix(name, "A ") {
			w.records[name] = []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("127.0.0.1")}
		}
	}
	var dialed atomic.Int64
	dial := func(context.Context, string, string) (net.Conn, error) {
		dialed.Add(1)
		return nil, errors.New("nobody is there")
	}
	play := func(private bool) []Outcome {
		all, err := Play(t.Context(), "nobody@here.example", Options{Resolver: w, Dial: dial, Roots: w.roots, Now: time.Now, AllowPrivate: private})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	for _, o := range play(false) {
		for _, try := range o.Tries {
			if try.Status != Fail || !strings.Contains(try.Why, "not public") {
				t.Errorf("%s %s: %s %s", o.Client, try.Mechanism, try.Status, try.Why)
			}
		}
	}
	p := &player{Options: Options{Resolver: w, Dial: dial}}
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "::ffff:10.0.0.1", "169.254.169.254", "imap.here.example"} {
		if _, err := p.dialName(t.Context(), net.JoinHostPort(host, "993")); !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if dialed.Load() != 0 {
		t.Errorf("%d connections", dialed.Load())
	}
	if play(true); dialed.Load() == 0 { // the control
		t.Error("nothing is connected to though it may be")
	}
}
