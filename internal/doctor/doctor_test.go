package doctor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/discover/format"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/publish"
	"github.com/martlet-mail/martlet/internal/serve/autoconf"
	"github.com/martlet-mail/martlet/test/memory"
)

var now = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// world is a server in good order: its names, its ports and its machine, each of which a
// test may break.
type world struct {
	Options
	domain publish.Domain
	zone   map[string]string // "name TYPE" -> lines of the zone
	ports  map[string]func(net.Conn)

	chain    []*x509.Certificate
	cert     tls.Certificate
	root     *x509.CertPool
	greeting string
	starttls bool
	relays   string // a spelling that is relayed
	policy   string
	ntp      time.Duration
	oldTLS   bool
	queries  int // that the last round asked of the DNS
}

// authority makes the certificate of the server.
func (w *world) authority(t *testing.T, begins, ends time.Time, names ...string) {
	t.Helper()
	make := func(form, parent *x509.Certificate, public any, by *ecdsa.PrivateKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, form, parent, public, by)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	caKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	form := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca := make(form, form, caKey.Public(), caKey)
	leaf := make(&x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: names, NotBefore: begins, NotAfter: ends, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, key.Public(), caKey)
	w.root = x509.NewCertPool()
	w.root.AddCert(ca)
	w.chain = []*x509.Certificate{leaf}
	w.cert = tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	w.Roots = w.root
	w.Site.TLSKeys = [][32]byte{sha256.Sum256(leaf.RawSubjectPublicKeyInfo)}
}

var testRSA = func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}()

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{greeting: "220 mx.example.org ESMTP", starttls: true, zone: map[string]string{}, ports: map[string]func(net.Conn){}}
	a4, a6 := netip.MustParseAddr("203.0.113.25"), netip.MustParseAddr("2001:db8::25")
	w.Options = Options{
		Site: publish.Site{
			Hostname: "mx.example.org", Addresses: []netip.Addr{a4, a6}, Web: 443, Issuer: "ca.example",
			Services: map[string]uint16{"imaps": 993, "submissions": 465},
			Agents:   w.settings().Agents,
		},
		Listeners: []Listener{{"smtp", "127.0.0.1:25", false}, {"submissions", "127.0.0.1:465", true}, {"imaps", "127.0.0.1:993", true}, {"https", "127.0.0.1:443", true}},
		Rotate:    180 * 24 * time.Hour, Now: func() time.Time { return now }, ACME: true,
		Chain:   func() ([]*x509.Certificate, error) { return w.chain, nil },
		Healthy: func(context.Context) error { return nil },
		Queue:   func(context.Context) (Queue, error) { return Queue{}, nil },
		Links:   func(context.Context) ([]LinkFact, error) { return []LinkFact{{ID: 1}}, nil },
		Exists:  func(_ context.Context, a mail.Address) (bool, error) { return a.Domain == "example.org", nil },
		Loop:    func(context.Context, string) error { return nil },
		Machine: Machine{
			Descriptors: 65536, Connections: 1000, Zone: func() error { return nil },
			Disk:      func() (uint64, uint64, error) { return 50e9, 100e9, nil },
			Data:      func() (fs.FileMode, error) { return 0o700, nil },
			Socket:    func(context.Context) error { return nil },
			Addresses: func() ([]netip.Addr, error) { return []netip.Addr{a4, a6}, nil },
			Synced:    func() (bool, bool) { return true, true },
			Backup:    func(context.Context) (time.Duration, bool, error) { return time.Hour, true, nil },
		},
		Probe: []string{"far.example"}, Signed: []string{"signed.example"}, Blocklists: []string{"bl.example"}, NameLists: []string{"dbl.example"},
		NTP: "time.example", Wait: 5 * time.Second,
	}
	w.authority(t, now.AddDate(0, 0, -10), now.AddDate(0, 0, 80), "mx.example.org", "mta-sts.example.org", "mail.example.org", "imap.example.org", "smtp.example.org", "autoconfig.example.org", "autodiscover.example.org", "ua-auto-config.example.org")
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	made := now.AddDate(0, -1, 0)
	w.domain = publish.Domain{
		Name:     "example.org",
		Settings: directory.Settings{Domain: "example.org", Sign: true, DMARC: "none", DMARCReports: "postmaster@example.org", MTASTS: "testing", MTASTSAge: 7 * 24 * time.Hour, TLSReports: "postmaster@example.org"},
		Keys: []directory.SigningKey{
			{Domain: "example.org", Selector: "2026a-ed", Algorithm: directory.Ed25519, State: directory.KeyActive, Signer: ed, Created: made, Activated: made},
			{Domain: "example.org", Selector: "2026a-rsa", Algorithm: directory.RSA, State: directory.KeyActive, Signer: testRSA, Created: made, Activated: made},
		},
	}
	w.policy = publish.Policy(w.Site, w.domain)
	for _, r := range publish.Records(w.Site, w.domain) {
		w.add(r)
	}
	w.put("far.example MX", "far.example. MX 10 mx.far.example.")
	w.put("mx.far.example A", "mx.far.example. A 198.51.100.1")
	w.put("time.example A", "time.example. A 198.51.100.123")
	w.put("2.0.0.127.bl.example A", "2.0.0.127.bl.example. A 127.0.0.2")
	w.put("signed", "! ad mx.example.org\n! ad _25._tcp.mx.example.org")
	w.serve()
	return w
}

func (w *world) put(key, lines string) { w.zone[key] = lines }

func (w *world) add(r publish.Record) {
	w.zone[r.Name+" "+r.Type] += r.Name + ". 300 IN " + r.Type + " " + r.Data() + "\n"
}

// serve puts servers behind the ports.
func (w *world) serve() {
	smtp := w.smtp
	for _, at := range []string{"127.0.0.1:25", "203.0.113.25:25", "[2001:db8::25]:25"} {
		w.ports[at] = smtp
	}
	w.ports["198.51.100.1:25"] = func(c net.Conn) { fmt.Fprint(c, "220 mx.far.example\r\n"); bufio.NewReader(c).ReadString('\n') }
	w.ports["127.0.0.1:465"] = w.behindTLS("220 mx.example.org ESMTP\r\n")
	w.ports["127.0.0.1:993"] = w.behindTLS("* OK ready\r\n")
	for _, at := range []string{"203.0.113.25:", "[2001:db8::25]:"} {
		w.ports[at+"465"], w.ports[at+"993"] = w.ports["127.0.0.1:465"], w.ports["127.0.0.1:993"]
	}
	for _, at := range []string{"203.0.113.25:443", "[2001:db8::25]:443"} {
		w.ports[at] = w.web
	}
	w.ports["198.51.100.123:123"] = func(c net.Conn) {
		question := make([]byte, 48)
		c.Read(question)
		answer := make([]byte, 48)
		answer[0], answer[1] = 4<<3|4, 2
		binary.BigEndian.PutUint32(answer[40:], uint32(now.Add(w.ntp).Unix()+ntpEpoch))
		c.Write(answer)
	}
}

func (w *world) tlsConfig() *tls.Config {
	c := &tls.Config{Certificates: []tls.Certificate{w.cert}, MinVersion: tls.VersionTLS12, Time: w.Now}
	if w.oldTLS {
		c.MinVersion = tls.VersionTLS10
	}
	return c
}

func (w *world) behindTLS(greeting string) func(net.Conn) {
	return func(c net.Conn) {
		t := tls.Server(c, w.tlsConfig())
		fmt.Fprint(t, greeting)
		bufio.NewReader(t).ReadString('\n')
	}
}

// settings are what programs are told of this server.
func (w *world) settings() *autoconf.Server {
	service := func(protocol string, port int) discover.Service {
		return discover.Service{Protocol: protocol, Host: "mx.example.org", Port: port, Security: discover.TLS, Username: format.WholeAddress, Auth: []string{"password"}}
	}
	return autoconf.New(autoconf.Options{
		Now: func() time.Time { return now }, Hostname: "mx.example.org", Web: "https://mx.example.org", Services: []discover.Service{service("imap", 993), service("smtp", 465)},
		IsLocal: func(_ context.Context, domain string) (bool, error) { return domain == "example.org", nil },
	})
}

func (w *world) web(c net.Conn) {
	t := tls.Server(c, w.tlsConfig())
	r, err := http.ReadRequest(bufio.NewReader(t))
	if err != nil {
		return
	}
	answer := httptest.NewRecorder()
	w.settings().Wrap(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, w.policy) })).ServeHTTP(answer, r)
	got := answer.Result()
	got.ContentLength = int64(answer.Body.Len())
	_ = got.Write(t)
}

func (w *world) smtp(c net.Conn) {
	fmt.Fprint(c, w.greeting+"\r\n")
	for in := bufio.NewReader(c); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch {
		case strings.HasPrefix(line, "EHLO"):
			fmt.Fprint(c, "250-mx.example.org\r\n")
			if w.starttls {
				fmt.Fprint(c, "250-STARTTLS\r\n")
			}
			fmt.Fprint(c, "250 8BITMIME\r\n")
		case strings.HasPrefix(line, "STARTTLS"):
			fmt.Fprint(c, "220 go\r\n")
			t := tls.Server(c, w.tlsConfig())
			t.Handshake()
			return
		case strings.HasPrefix(line, "RCPT") && (w.relays == "" || !strings.Contains(line, w.relays)):
			fmt.Fprint(c, "550 5.7.1 no\r\n")
		default:
			fmt.Fprint(c, "250 ok\r\n")
		}
	}
}

// examine runs the doctor and returns its lines by check.
func (w *world) examine(t *testing.T) map[string]Line {
	t.Helper()
	var text strings.Builder
	for _, lines := range w.zone {
		text.WriteString(lines + "\n")
	}
	names, err := dnstest.Start(text.String())
	if err != nil {
		t.Fatal(err, "\n", text.String())
	}
	defer names.Close()
	client, err := dnsx.New(dnsx.Options{Servers: []string{names.Addr()}, Timeout: time.Second, Rounds: 1, Now: time.Now, ID: dns.Id, Dial: new(net.Dialer).DialContext})
	if err != nil {
		t.Fatal(err)
	}
	o := w.Options
	o.Resolver, o.Domains = client, append(o.Domains, w.domain)
	o.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
		handle := w.ports[address]
		if handle == nil {
			return nil, errors.New("connection refused by " + address)
		}
		return connected(handle)
	}
	found, order := map[string]Line{}, []string{}
	d := New(o)
	if err := d.Run(context.Background(), func(l Line) error {
		if _, twice := found[l.Check]; twice {
			t.Errorf("%s is told twice", l.Check)
		}
		if l.Why == "" || (l.Status == Warn || l.Status == Fail) != (l.Fix != "") {
			t.Errorf("%+v: why and fix do not go with the status", l)
		}
		found[l.Check] = l
		order = append(order, l.Check)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.queries = names.Queries()
	if len(order) != d.Count() || order[0] != "resolver" {
		t.Errorf("%d lines, %d were promised; the first is %s", len(order), d.Count(), order[0])
	}
	return found
}

// connected returns one end of a connection; handle has the other. It is no pipe: both ends
// of TLS may write at the same time.
func connected(handle func(net.Conn)) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	here, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	there, err := l.Accept()
	if err != nil {
		return nil, err
	}
	go func() { defer there.Close(); handle(there) }()
	return here, nil
}

// notOK names the checks that are not ok.
func notOK(found map[string]Line) (names []string) {
	for name, l := range found {
		if l.Status != OK {
			names = append(names, fmt.Sprintf("%s %s: %s", l.Status, name, l.Why))
		}
	}
	slices.Sort(names)
	return names
}

// A server in good order is all green, but for what it does not have.
func TestAllGreen(t *testing.T) {
	w := newWorld(t)
	found := w.examine(t)
	if got := notOK(found); len(got) != 1 || !strings.Contains(got[0], "dns-update") {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	if len(found) < 60 {
		t.Errorf("there are only %d checks", len(found))
	}
}

// What is broken on purpose, one after the other, is named, with what mends it.
func TestBrokenOnPurpose(t *testing.T) {
	edit := func(key, by string) func(*world) { return func(w *world) { w.put(key, by) } }
	key := func(change func(*directory.SigningKey)) func(*world) {
		return func(w *world) {
			w.domain.Keys = slices.Clone(w.domain.Keys)
			change(&w.domain.Keys[1])
		}
	}
	set := func(change func(*directory.Settings)) func(*world) {
		return func(w *world) { change(&w.domain.Settings) }
	}
	for _, c := range []struct {
		check  string
		status Status
		fix    string
		harm   func(*world)
	}{
		{"resolver", Fail, "unbound", func(w *world) {
			w.zone = map[string]string{"x": "! servfail mx.example.org\n! servfail far.example"}
		}},
		{"resolver-dnssec", Warn, "unbound", func(w *world) {
			w.put("signed", "signed.example. A 192.0.2.1")
			w.put("_25._tcp.mx.example.org TLSA", "")
		}},
		{"hostname", Fail, "set hostname", func(w *world) { w.Site.Hostname = "localhost" }},
		{"hostname-address", Fail, "put into the DNS: mx.example.org. IN A 203.0.113.25", edit("mx.example.org A", "")},
		{"hostname-address", Fail, "take out of the DNS: mx.example.org. IN A 203.0.113.99", func(w *world) {
			w.zone["mx.example.org A"] += "mx.example.org. A 203.0.113.99\n"
		}},
		{"hostname-alias", Fail, "replace the CNAME record", func(w *world) {
			for _, kind := range []string{"A", "AAAA", "TXT", "CAA"} {
				w.put("mx.example.org "+kind, "")
			}
			w.put("alias", "mx.example.org. CNAME host.example.org.\nhost.example.org. A 203.0.113.25")
		}},
		{"address-public", Fail, "set addresses", func(w *world) { w.Site.Addresses = []netip.Addr{netip.MustParseAddr("192.168.1.2")} }},
		{"ptr", Fail, "25.113.0.203.in-addr.arpa. IN PTR mx.example.org.", edit("25.113.0.203.in-addr.arpa PTR", "")},
		{"ptr", Fail, "25.113.0.203.in-addr.arpa. IN PTR mx.example.org.", edit("25.113.0.203.in-addr.arpa PTR", "25.113.0.203.in-addr.arpa. PTR host25.provider.example.")},
		{"ptr-confirmed", Fail, "put into the DNS: host25.provider.example. IN A 203.0.113.25", edit("25.113.0.203.in-addr.arpa PTR", "25.113.0.203.in-addr.arpa. PTR host25.provider.example.\n25.113.0.203.in-addr.arpa. PTR mx.example.org.")},
		{"helo-spf", Warn, `put into the DNS: mx.example.org. IN TXT "v=spf1 a -all"`, edit("mx.example.org TXT", "")},
		{"helo-spf", Fail, `put into the DNS: mx.example.org. IN TXT "v=spf1 a -all"`, edit("mx.example.org TXT", `mx.example.org. TXT "v=spf1 -all"`)},
		{"ipv6", Warn, "put into the DNS: mx.example.org. IN AAAA 2001:db8::25", func(w *world) { w.Site.Addresses = w.Site.Addresses[:1] }},
		{"dns-update", Fail, "[[dns.update]]", func(w *world) {
			w.Updater = &publish.Updater{Zones: []publish.Zone{{Name: "example.org", Broken: errors.New("no key")}}}
		}},
		{"blocklists", Fail, "bl.example removal", edit("listed", "25.113.0.203.bl.example. A 127.0.0.4")},
		{"blocklists", Skipped, "", edit("2.0.0.127.bl.example A", "! refused 2.0.0.127.bl.example")},
		{"admin-socket", Fail, "martlet serve", func(w *world) { w.Machine.Socket = func(context.Context) error { return os.ErrNotExist } }},
		{"port-25-listen", Fail, "martlet serve", func(w *world) { delete(w.ports, "127.0.0.1:25") }},
		{"port-25-listen", Fail, `address = ":25"`, func(w *world) { w.Listeners = w.Listeners[1:] }},
		{"port-25-in", Warn, "let TCP port 25 in", func(w *world) { delete(w.ports, "203.0.113.25:25") }},
		{"port-25-out", Fail, "smarthost", func(w *world) { delete(w.ports, "198.51.100.1:25") }},
		{"smarthost", Fail, "[queue.smarthost]", func(w *world) { w.Smarthost = "mx.far.example:587" }},
		{"client-names example.org", Warn, "imap.example.org", func(w *world) {
			w.authority(t, now.AddDate(0, 0, -1), now.AddDate(0, 0, 80), "mx.example.org", "mta-sts.example.org", "mail.example.org")
		}},
		{"greeting", Warn, "ss -ltnp", func(w *world) { w.greeting = "220 other.example ESMTP" }},
		{"greeting", Fail, "log", func(w *world) { w.greeting = "554 go away" }},
		{"starttls", Fail, "[tls.acme]", func(w *world) { w.starttls = false }},
		{"tls-versions", Fail, `min_version = "1.2"`, func(w *world) { w.oldTLS = true }},
		{"submission", Fail, "martlet serve", func(w *world) { delete(w.ports, "127.0.0.1:465") }},
		{"submission", Warn, "submissions", func(w *world) { w.Listeners = w.Listeners[:1] }},
		{"mailboxes", Fail, "log", func(w *world) { w.ports["127.0.0.1:993"] = w.behindTLS("* BYE too many\r\n") }},
		{"open-relay", Fail, "port 25", func(w *world) { w.relays = "relay-test%relay-test.invalid@mx" }},
		{"certificate", Fail, "log", func(w *world) { w.chain = nil }},
		{"certificate", Fail, "[tls.acme]", func(w *world) { w.chain, w.ACME = nil, false }},
		{"certificate-name", Fail, "mx.example.org", func(w *world) {
			w.authority(t, now.AddDate(0, 0, -1), now.AddDate(0, 0, 80), "www.example.org")
		}},
		{"certificate-time", Fail, "authority", func(w *world) {
			w.authority(t, now.AddDate(0, 0, -90), now.AddDate(0, 0, -1), "mx.example.org")
		}},
		{"certificate-time", Warn, "authority", func(w *world) {
			w.authority(t, now.AddDate(0, 0, -85), now.AddDate(0, 0, 5), "mx.example.org")
		}},
		{"certificate-chain", Fail, "fullchain.pem", func(w *world) { w.Roots = x509.NewCertPool() }},
		{"acme", Fail, "[tls.acme]", func(w *world) { w.Missing = []string{"mta-sts.example.org"} }},
		{"caa", Fail, `put into the DNS: example.org. IN CAA 0 issue "ca.example"`, func(w *world) {
			w.put("mx.example.org CAA", "")
			w.put("example.org CAA", `example.org. CAA 0 issue "other.example"`)
		}},
		{"tlsa", Fail, "put into the DNS: _25._tcp.mx.example.org. IN TLSA 3 1 1 ", edit("_25._tcp.mx.example.org TLSA", "_25._tcp.mx.example.org. TLSA 3 1 1 "+strings.Repeat("ab", 32))},
		{"tlsa", Warn, "DNSSEC", edit("signed", "! ad mx.example.org")},
		{"clock", Fail, "timedatectl", func(w *world) { w.ntp = 10 * time.Minute }},
		{"clock", Warn, "timedatectl", func(w *world) { w.ntp = -time.Minute }},
		{"clock", Warn, "timedatectl", func(w *world) { w.NTP, w.Machine.Synced = "", func() (bool, bool) { return false, true } }},
		{"time-zone", Warn, "tzdata", func(w *world) { w.Machine.Zone = func() error { return errors.New("unknown") } }},
		{"disk", Fail, "room", func(w *world) { w.Machine.Disk = func() (uint64, uint64, error) { return 1e8, 1e11, nil } }},
		{"disk", Warn, "room", func(w *world) { w.Machine.Disk = func() (uint64, uint64, error) { return 3e9, 1e11, nil } }},
		{"data-folder", Warn, "chmod 700", func(w *world) { w.Machine.Data = func() (fs.FileMode, error) { return 0o755, nil } }},
		{"store", Fail, "martlet verify", func(w *world) { w.Healthy = func(context.Context) error { return errors.New("the disk is full") } }},
		{"backup", Fail, "martlet backup", func(w *world) {
			w.Machine.Backup = func(context.Context) (time.Duration, bool, error) { return 30 * 24 * time.Hour, true, nil }
		}},
		{"descriptors", Warn, "LimitNOFILE", func(w *world) { w.Machine.Descriptors = 1024 }},
		{"root", Warn, "user =", func(w *world) { w.Machine.Root = true }},
		{"queue-size", Warn, "martlet queue list", func(w *world) {
			w.Queue = func(context.Context) (Queue, error) { return Queue{Messages: 5000}, nil }
		}},
		{"queue-age", Warn, "martlet queue list", func(w *world) {
			w.Queue = func(context.Context) (Queue, error) {
				return Queue{Messages: 1, Oldest: 3 * 24 * time.Hour, Reason: "refused"}, nil
			}
		}},
		{"queue-failures", Warn, "martlet queue list", func(w *world) {
			w.Queue = func(context.Context) (Queue, error) { return Queue{Messages: 50, Failing: 40, Reason: "refused"}, nil }
		}},
		{"links", Warn, "martlet link list", func(w *world) {
			w.Links = func(context.Context) ([]LinkFact, error) { return []LinkFact{{ID: 1}, {ID: 2, Error: "no route"}}, nil }
		}},
		{"links", Fail, "martlet link passwd 3", func(w *world) {
			w.Links = func(context.Context) ([]LinkFact, error) {
				return []LinkFact{{ID: 2, Error: "no route"}, {ID: 3, Paused: true, Error: "needs a password", Fix: "martlet link passwd 3"}}, nil
			}
		}},

		{"mx example.org", Fail, "put into the DNS: example.org. IN MX 10 mx.example.org.", edit("example.org MX", "")},
		{"mx example.org", Fail, "put into the DNS: example.org. IN MX 10 mx.example.org.", edit("example.org MX", "example.org. MX 10 mx.provider.example.")},
		{"mx example.org", Fail, "10 mx.example.org", edit("example.org MX", "example.org. MX 0 .")},
		{"mx example.org", Warn, "lowest", edit("example.org MX", "example.org. MX 10 mx.example.org.\nexample.org. MX 5 mx.provider.example.")},
		{"mx-alias example.org", Fail, "mx.example.org itself", edit("example.org MX", "example.org. MX 10 mail2.example.org.\nmail2.example.org. CNAME mx.example.org.")},
		{"mx-address example.org", Fail, "gone.example.org", edit("example.org MX", "example.org. MX 10 mx.example.org.\nexample.org. MX 20 gone.example.org.")},
		{"mx-address example.org", Fail, "public", edit("example.org MX", "example.org. MX 10 mx.example.org.\nexample.org. MX 20 in.example.org.\nin.example.org. A 10.0.0.5")},
		{"spf example.org", Fail, `put into the DNS: example.org. IN TXT "v=spf1 mx -all"`, edit("example.org TXT", "")},
		{"spf example.org", Fail, "v=spf1 mx -all", edit("example.org TXT", "example.org. TXT \"v=spf1 mx -all\"\nexample.org. TXT \"v=spf1 ~all\"")},
		{"spf-lookups example.org", Fail, "ten", edit("example.org TXT", "example.org. TXT \"v=spf1 mx a:a.example a:b.example a:c.example a:d.example a:e.example a:f.example a:g.example a:h.example a:i.example a:j.example -all\"")},
		{"spf-addresses example.org", Fail, "ip6:2001:db8::25", edit("example.org TXT", "example.org. TXT \"v=spf1 ip4:203.0.113.25 -all\"")},
		{"spf-all example.org", Fail, "-all", edit("example.org TXT", "example.org. TXT \"v=spf1 +all\"")},
		{"spf-all example.org", Warn, "-all", edit("example.org TXT", "example.org. TXT \"v=spf1 mx\"")},
		{"dkim example.org", Fail, "put into the DNS: 2026a-rsa._domainkey.example.org. IN TXT \"v=DKIM1; k=rsa; p=", edit("2026a-rsa._domainkey.example.org TXT", "")},
		{"dkim example.org", Fail, "replace it: put into the DNS: 2026a-ed._domainkey.example.org. IN TXT", edit("2026a-ed._domainkey.example.org TXT", "2026a-ed._domainkey.example.org. TXT \"v=DKIM1; k=ed25519; p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"")},
		{"dkim example.org", Warn, "sign=yes", set(func(s *directory.Settings) { s.Sign = false })},
		{"dkim-signature example.org", Fail, "put into the DNS: 2026a-rsa._domainkey", edit("2026a-rsa._domainkey.example.org TXT", "2026a-rsa._domainkey.example.org. TXT \"v=DKIM1; k=rsa; p=\"")},
		{"dkim-strength example.org", Warn, "martlet domain rotate example.org", key(func(k *directory.SigningKey) { k.Signer, _ = rsa.GenerateKey(rand.Reader, 1024) })},
		{"dkim-age example.org", Warn, "martlet domain rotate example.org", key(func(k *directory.SigningKey) { k.Activated = now.AddDate(-2, 0, 0) })},
		{"dkim-next example.org", Warn, "put into the DNS: 2026b-rsa._domainkey.example.org.", func(w *world) {
			k := w.domain.Keys[1]
			k.Selector, k.State = "2026b-rsa", directory.KeyNext
			w.domain.Keys = append(slices.Clone(w.domain.Keys), k)
		}},
		{"dkim-stale example.org", Warn, "2025a-rsa._domainkey.example.org", func(w *world) {
			w.domain.Keys = append(slices.Clone(w.domain.Keys), directory.SigningKey{Domain: "example.org", Selector: "2025a-rsa", State: directory.KeyGone})
			w.put("stale", "2025a-rsa._domainkey.example.org. TXT \"v=DKIM1; p=x\"")
		}},
		{"dmarc example.org", Fail, `put into the DNS: _dmarc.example.org. IN TXT "v=DMARC1; p=none; rua=mailto:postmaster@example.org"`, edit("_dmarc.example.org TXT", "")},
		{"dmarc example.org", Fail, "leave one", edit("_dmarc.example.org TXT", "_dmarc.example.org. TXT \"v=DMARC1; p=none\"\n_dmarc.example.org. TXT \"v=DMARC1; p=reject\"")},
		{"dmarc example.org", Fail, "replace it", edit("_dmarc.example.org TXT", "_dmarc.example.org. TXT \"v=DMARC1; p=perhaps\"")},
		{"dmarc-policy example.org", Warn, "dmarc=reject", edit("_dmarc.example.org TXT", "_dmarc.example.org. TXT \"v=DMARC1; p=reject; rua=mailto:postmaster@example.org\"")},
		{"dmarc-reports example.org", Warn, "rua=mailto:postmaster@example.org", edit("_dmarc.example.org TXT", "_dmarc.example.org. TXT \"v=DMARC1; p=none\"")},
		{"dmarc-reports example.org", Warn, "martlet alias add", func(w *world) {
			w.Exists = func(_ context.Context, a mail.Address) (bool, error) { return false, nil }
		}},
		{"dmarc-reports-elsewhere example.org", Warn, `example.org._report._dmarc.far.example. IN TXT "v=DMARC1"`, edit("_dmarc.example.org TXT", "_dmarc.example.org. TXT \"v=DMARC1; p=none; rua=mailto:x@far.example\"")},
		{"mta-sts example.org", Warn, "put into the DNS: _mta-sts.example.org. IN TXT \"v=STSv1; id=", edit("_mta-sts.example.org TXT", "")},
		{"mta-sts example.org", Warn, "replace it", edit("_mta-sts.example.org TXT", "_mta-sts.example.org. TXT \"v=STSv1; id=1\"")},
		{"mta-sts example.org", Warn, "replace it: put into the DNS: _mta-sts.example.org.", set(func(s *directory.Settings) { s.MTASTS = "none" })},
		{"mta-sts-policy example.org", Warn, "put into the DNS: mta-sts.example.org. IN CNAME mx.example.org.", edit("mta-sts.example.org CNAME", "")},
		{"mta-sts-policy example.org", Warn, "mta-sts=none", func(w *world) { w.policy = strings.Replace(w.policy, "testing", "none", 1) }},
		{"mta-sts-policy example.org", Warn, "https", func(w *world) { w.ports["203.0.113.25:443"], w.ports["[2001:db8::25]:443"] = nil, nil }},
		{"mta-sts-mx example.org", Warn, "mx.provider.example", edit("example.org MX", "example.org. MX 10 mx.example.org.\nexample.org. MX 20 mx.provider.example.")},
		{"mta-sts-mx example.org", Fail, "mx.provider.example", func(w *world) {
			w.policy, w.domain.Settings.MTASTS = strings.Replace(w.policy, "testing", "enforce", 1), "enforce"
			w.put("example.org MX", "example.org. MX 10 mx.example.org.\nexample.org. MX 20 mx.provider.example.")
		}},
		{"tls-reports example.org", Warn, `put into the DNS: _smtp._tls.example.org. IN TXT "v=TLSRPTv1; rua=mailto:postmaster@example.org"`, edit("_smtp._tls.example.org TXT", "")},
		{"autoconfig example.org", Warn, "put into the DNS: autoconfig.example.org. IN CNAME mx.example.org.", edit("autoconfig.example.org CNAME", "")},
		{"autodiscover example.org", Warn, "replace it", edit("autodiscover.example.org CNAME", "autodiscover.example.org. A 192.0.2.80")},
		{"services example.org", Warn, "put into the DNS: _imaps._tcp.example.org. IN SRV 0 1 993 mx.example.org.", edit("_imaps._tcp.example.org SRV", "")},
		{"services example.org", Warn, "replace it", edit("_submissions._tcp.example.org SRV", "_submissions._tcp.example.org. SRV 0 1 465 smtp.provider.example.")},
		{"agents example.org", Warn, "replace it: put into the DNS: _ua-auto-config.example.org. IN TXT", edit("_ua-auto-config.example.org TXT", "_ua-auto-config.example.org. TXT \"v=UAAC1; a=sha256; d=AAAA\"")},
		{"programs example.org", Warn, "martlet discover example.org --serve-check", edit("autodiscover.example.org CNAME", "")},
		{"programs example.org", Warn, "martlet discover example.org --serve-check", func(w *world) { w.ports["203.0.113.25:993"], w.ports["[2001:db8::25]:993"] = nil, nil }},
		{"postmaster example.org", Fail, "martlet alias add postmaster@example.org", func(w *world) {
			w.Exists = func(_ context.Context, a mail.Address) (bool, error) { return a.Local != "postmaster", nil }
		}},
		{"abuse example.org", Warn, "martlet alias add abuse@example.org", func(w *world) {
			w.Exists = func(_ context.Context, a mail.Address) (bool, error) { return a.Local != "abuse", nil }
		}},
		{"name-lists example.org", Fail, "dbl.example", edit("named", "example.org.dbl.example. A 127.0.1.2")},
		{"loop example.org", Fail, "martlet trace postmaster@example.org", func(w *world) {
			w.Loop = func(context.Context, string) error { return errors.New("refused") }
		}},
	} {
		w := newWorld(t)
		c.harm(w)
		found := w.examine(t)
		l, there := found[c.check]
		if !there || l.Status != c.status || !strings.Contains(l.Fix, c.fix) {
			t.Errorf("%s should be %s with %q:\n%+v", c.check, c.status, c.fix, l)
		}
	}
}

// A domain that is in good order is so beside one that is not, and where nothing answers at
// all each check says so and none stops the others.
func TestNothingAnswers(t *testing.T) {
	w := newWorld(t)
	w.ports = nil
	w.zone = map[string]string{}
	for _, r := range publish.Records(w.Site, w.domain) {
		w.put("! "+r.Name, "! servfail "+r.Name)
	}
	w.put("!far", "! silent far.example\n! servfail signed.example\n! servfail time.example\n! servfail 2.0.0.127.bl.example\n! servfail example.org.dbl.example\n! servfail _mta-sts.example.org")
	found := w.examine(t)
	for name, l := range found {
		if strings.Contains(l.Fix, "put into the DNS") {
			t.Errorf("%s wants %q although nothing is known of the DNS", name, l.Fix)
		}
	}
	if found["resolver"].Status != Fail || w.queries > 10 {
		t.Errorf("%+v, and %d questions were asked all the same", found["resolver"], w.queries)
	}
}

// Where hardly anything is known, hardly anything is said, and nothing breaks.
func TestLittleIsKnown(t *testing.T) {
	w := newWorld(t)
	w.Machine, w.Queue, w.Exists, w.Loop, w.Healthy, w.Chain, w.NTP = Machine{}, nil, nil, nil, nil, nil, ""
	w.Site.Addresses, w.Blocklists, w.NameLists, w.Probe = nil, nil, nil, nil
	w.Site.Smarthost = "relay.example.net"
	found := w.examine(t)
	for _, name := range []string{"store", "queue-size", "disk", "loop example.org", "certificate", "blocklists", "port-25-out", "spf-addresses example.org", "clock"} {
		if found[name].Status != Skipped {
			t.Errorf("%+v", found[name])
		}
	}
}

// Whoever asks may go away: nothing is left running.
func TestInterrupted(t *testing.T) {
	w := newWorld(t)
	gone := errors.New("gone")
	client, err := dnsx.New(dnsx.Options{Servers: []string{"127.0.0.1:1"}, Timeout: time.Second, Rounds: 1, Now: time.Now, ID: dns.Id, Dial: new(net.Dialer).DialContext})
	if err != nil {
		t.Fatal(err)
	}
	o := w.Options
	o.Resolver, o.Domains = client, []publish.Domain{w.domain}
	o.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }
	told := 0
	if err := New(o).Run(context.Background(), func(Line) error { told++; return gone }); err != gone || told != 1 {
		t.Errorf("%v after %d", err, told)
	}
}

// A host that is tried, and means harm, ends in a defined state and in little memory: it never
// stops, hangs at each stage, or says what is no reply.
func TestHostileHosts(t *testing.T) {
	hosts := map[string]func(net.Conn){
		"endless lines": func(c net.Conn) {
			for {
				if _, err := c.Write([]byte("220-and more\r\n")); err != nil {
					return
				}
			}
		},
		"an endless line": func(c net.Conn) {
			for junk := bytes.Repeat([]byte("220 "), 1<<10); ; {
				if _, err := c.Write(junk); err != nil {
					return
				}
			}
		},
		"silence":         func(c net.Conn) { c.Read(make([]byte, 1)) },
		"half a greeting": func(c net.Conn) { c.Write([]byte("220-mx\r\n22")) },
		"half a line":     func(c net.Conn) { c.Write([]byte("220 mx.far.example")) },
		"no reply":        func(c net.Conn) { c.Write([]byte("\r\n")) },
	}
	examine := func(t *testing.T, host func(net.Conn)) {
		t.Parallel()
		w := newWorld(t)
		w.Wait = 2 * time.Second
		w.ports["198.51.100.1:25"], w.ports["203.0.113.25:25"] = host, host
		w.ports["203.0.113.25:443"], w.ports["[2001:db8::25]:443"] = host, host
		found := w.examine(t)
		if l := found["port-25-out"]; l.Status != Fail {
			t.Errorf("%+v", l)
		}
		if l := found["mta-sts-policy example.org"]; l.Status != Warn {
			t.Errorf("%+v", l)
		}
		if l := found["mx example.org"]; l.Status != OK {
			t.Errorf("another check suffers: %+v", l)
		}
	}
	memory.Once(t, 256<<20, func() {
		t.Run("hosts", func(t *testing.T) {
			for name, host := range hosts {
				t.Run(name, func(t *testing.T) { examine(t, host) })
			}
		})
	})
}
