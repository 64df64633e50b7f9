package main

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/test/world/lab"
)

// provider is a domain below evil.example whose settings are looked for, with hosts of its own
// at addresses of the attacker. In records and documents @ is the domain; %d are addresses.
type provider struct {
	name    string
	records string            // with %s for its address
	files   map[string]string // over HTTPS, by host and path
	plain   map[string]string // over HTTP
	mail    []string          // names in the certificate of IMAP, POP3 and submission
	to      string            // where everything over HTTPS redirects to
	certify []string          // other names than those of files
	want    string            // the services in short form
	step    string            // a step, and words of what came of it
	says    string
}

// nobody is an address that is in the network and that nobody has.
const nobody = "198.20.66.250"

func clientConfig(domain string) string {
	return `<clientConfig version="1.1"><emailProvider id="x"><domain>` + domain + `</domain><displayName>Kite</displayName>` +
		`<incomingServer type="imap"><hostname>imap.` + domain + `</hostname><port>993</port><socketType>SSL</socketType><username>%EMAILADDRESS%</username><authentication>password-cleartext</authentication></incomingServer>` +
		`<outgoingServer type="smtp"><hostname>smtp.` + domain + `</hostname><port>465</port><socketType>SSL</socketType><username>%EMAILADDRESS%</username><authentication>password-cleartext</authentication></outgoingServer></emailProvider></clientConfig>`
}

const agents = `{"protocols":{"imap":{"host":"imap.@"},"submit":{"host":"smtp.@"}},"authentication":{"password":true}}`

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "\"v=UAAC1; a=sha256; d=" + base64.StdEncoding.EncodeToString(sum[:]) + "\""
}

// providers are those that are as they should be, and those that lie.
func providers() []provider {
	both := func(source string) string { return "imap imap.@:993 " + source + ", smtp smtp.@:465 " + source }
	document := func(domain string) string { return strings.ReplaceAll(agents, "@", domain) }
	return []provider{
		{name: "pacc", records: "ua-auto-config.@. 60 IN A %s\n_ua-auto-config.@. 60 IN TXT " + digestOf(document("pacc.evil.example")),
			files: map[string]string{"ua-auto-config.@/.well-known/user-agent-configuration.json": agents}, want: both("pacc verified")},
		{name: "digest", records: "ua-auto-config.@. 60 IN A %s\n_ua-auto-config.@. 60 IN TXT " + digestOf("something else"),
			files: map[string]string{"ua-auto-config.@/.well-known/user-agent-configuration.json": agents}, step: "pacc", says: "not the one whose digest"},
		{name: "auto", records: "autoconfig.@. 60 IN A %s", files: map[string]string{"autoconfig.@/mail/config-v1.1.xml": clientConfig("@")}, want: both("autoconfig published")},
		{name: "known", records: "@. 60 IN A %s", files: map[string]string{"@/.well-known/autoconfig/mail/config-v1.1.xml": clientConfig("@")}, want: both("autoconfig published")},
		{name: "plain", records: "autoconfig.@. 60 IN A %s", plain: map[string]string{"autoconfig.@/mail/config-v1.1.xml": clientConfig("@")}, want: both("autoconfig-http published insecure")},
		{name: "wrongname", records: "autoconfig.@. 60 IN A %s", files: map[string]string{"autoconfig.@/mail/config-v1.1.xml": clientConfig("@")}, certify: []string{"www.evil.example"},
			step: "autoconfig", says: "for another name"},
		{name: "srv", records: "_imaps._tcp.@. 60 IN SRV 0 1 993 imap.@.\n_submissions._tcp.@. 60 IN SRV 0 1 465 smtp.@.\n_pop3s._tcp.@. 60 IN SRV 0 0 0 .", want: both("srv published")},
		{name: "hosted", records: "@. 60 IN MX 10 mx.martlet.example.", step: "mx", says: "imap mx.martlet.example:993"},
		{name: "guess", records: "mail.@. 60 IN A %s\nimap.@. 60 IN A " + nobody + "\nautoconfig.@. 60 IN A " + nobody + "\nsmtp.@. 60 IN A " + nobody, mail: []string{"mail.@"},
			want: "imap mail.@:993 guess guessed, pop3 mail.@:995 guess guessed, smtp mail.@:465 guess guessed"},
		{name: "mailhost", records: "@. 60 IN MX 10 in.@.\nin.@. 60 IN A %s", mail: []string{"in.@"},
			want: "imap in.@:993 mx-host guessed, pop3 in.@:995 mx-host guessed, smtp in.@:465 mx-host guessed"},
		{name: "parked", records: "*.@. 60 IN A %s", mail: []string{"*.@"}, step: "guess", says: "exists only as every name"},
		{name: "notmine", records: "mail.@. 60 IN A %s", mail: []string{"mail.martlet.example"}, step: "guess", says: "for another name"},
		{name: "inside", records: "autoconfig.@. 60 IN A 127.0.0.1\nimap.@. 60 IN A 10.0.0.1\nmail.@. 60 IN AAAA ::1", step: "guess", says: "not public"},
		{name: "away", records: "autoconfig.@. 60 IN A %s", files: map[string]string{"autoconfig.@/": ""}, to: "https://127.0.0.1/mail/config-v1.1.xml", step: "autoconfig", says: "no host of a provider"},
		{name: "round", records: "autoconfig.@. 60 IN A %s", files: map[string]string{"autoconfig.@/": ""}, to: "https://autoconfig.@/again", step: "autoconfig", says: "more than 4 times"},
		{name: "bomb", records: "autoconfig.@. 60 IN A %s", files: map[string]string{"autoconfig.@/mail/config-v1.1.xml": `<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>` + clientConfig("&b;")},
			step: "autoconfig", says: "document type definition"},
		{name: "huge", records: "autoconfig.@. 60 IN A %s", files: map[string]string{"autoconfig.@/mail/config-v1.1.xml": strings.Repeat("<!-- -->", 1<<20)}, step: "autoconfig", says: "more than 256 KB"},
	}
}

// open has a provider be there.
func (p provider) open(t *testing.T, w *lab.Town, address string) {
	t.Helper()
	domain := p.name + ".evil.example"
	fill := func(text string) string { return strings.ReplaceAll(text, "@", domain) }
	records := p.records
	if strings.Contains(records, "%s") {
		records = fmt.Sprintf(records, address)
	}
	must(t, w.DNS.AddAll(fill(records)))
	_, err := w.Attacker.Output("ip", "addr", "add", address+"/15", "dev", "eth0")
	must(t, err)
	listen := func(port int, names []string) net.Listener {
		l, err := w.Attacker.Listen("tcp", fmt.Sprintf("%s:%d", address, port))
		must(t, err)
		t.Cleanup(func() { l.Close() })
		if names == nil {
			return l
		}
		for i := range names {
			names[i] = fill(names[i])
		}
		cert, err := w.CA.Issue(time.Hour, names...)
		must(t, err)
		pair, err := tls.LoadX509KeyPair(cert.File, cert.Key)
		must(t, err)
		return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}})
	}
	serve := func(l net.Listener, files map[string]string) {
		srv := &http.Server{ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if p.to != "" {
				http.Redirect(rw, r, fill(p.to), http.StatusFound)
				return
			}
			for at, text := range files {
				if fill(at) == r.Host+r.URL.Path {
					io.WriteString(rw, fill(text))
					return
				}
			}
			http.NotFound(rw, r)
		})}
		go srv.Serve(l)
		t.Cleanup(func() { srv.Close() })
	}
	if p.files != nil {
		names := p.certify
		for at := range p.files {
			host, _, _ := strings.Cut(at, "/")
			if p.certify == nil {
				names = append(names, host)
			}
		}
		serve(listen(443, names), p.files)
	}
	if p.plain != nil {
		serve(listen(80, nil), p.plain)
	}
	if p.mail != nil {
		for port, greeting := range map[int]string{993: "* OK hello\r\n", 995: "+OK hello\r\n", 465: "220 hello\r\n"} {
			go offer(listen(port, append([]string{}, p.mail...)), greeting)
		}
	}
}

// offer is a mail server up to the login.
func offer(l net.Listener, greeting string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			io.WriteString(c, greeting)
			in := bufio.NewReader(c)
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				switch f := strings.Fields(line); {
				case len(f) > 1 && f[1] == "CAPABILITY":
					fmt.Fprintf(c, "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n%s OK\r\n", f[0])
				case len(f) > 0 && f[0] == "CAPA":
					io.WriteString(c, "+OK\r\nSASL PLAIN\r\n.\r\n")
				case len(f) > 0 && f[0] == "EHLO":
					io.WriteString(c, "250-hello\r\n250 AUTH PLAIN\r\n")
				default:
					return
				}
			}
		}()
	}
}

// discovered asks at the client's host.
func discovered(t *testing.T, w *lab.Town, who string, flags ...string) (a discover.Answer) {
	t.Helper()
	out, err := w.Client.Command(w.Martlet.Binary, append([]string{"discover", who, "--json"}, flags...)...).Output()
	if jsonErr := json.Unmarshal(out, &a); jsonErr != nil {
		t.Fatalf("%s: %v, %v: %s", who, err, jsonErr, out)
	}
	return a
}

func services(a discover.Answer) string {
	var all []string
	for _, s := range a.Services {
		text := fmt.Sprintf("%s %s:%d %s %s", s.Protocol, s.Host, s.Port, s.Source, s.Confidence)
		if s.Insecure {
			text += " insecure"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// Each way in which a provider can publish its settings, and each in which somebody can lie
// about them, with names, certificates and silence as they are on the Internet.
func TestDiscover(t *testing.T) {
	w := town(t)
	for i, p := range providers() {
		p.open(t, w, fmt.Sprintf("198.20.66.%d", 100+i))
	}
	for _, p := range providers() {
		t.Run(p.name, func(t *testing.T) {
			who := "kit@" + p.name + ".evil.example"
			if p.step == "" {
				began := time.Now()
				a := discovered(t, w, who)
				t.Logf("%v", time.Since(began).Round(10*time.Millisecond))
				if got, want := services(a), strings.ReplaceAll(p.want, "@", a.Domain); got != want {
					t.Errorf("found  %s\nwanted %s", got, want)
				}
				return
			}
			a := discovered(t, w, who, "--explain")
			told := ""
			for _, s := range a.Steps {
				if s.Name == p.step {
					told = s.Result
				}
			}
			if !strings.Contains(told, p.says) || p.name != "hosted" && len(a.Services) > 0 {
				t.Errorf("%s says %q; found %s", p.step, told, services(a))
			}
		})
	}
}

// What this server publishes of itself is found, believed, and works.
func TestDiscoverFindsUs(t *testing.T) {
	w := town(t)
	a := discovered(t, w, "alice@martlet.example", "--explain", "--probe")
	var steps []string
	for _, s := range a.Steps {
		steps = append(steps, fmt.Sprintf("%s: %s", s.Name, s.Result))
	}
	t.Log(strings.Join(steps, "\n"))
	if len(a.Services) == 0 || !strings.Contains(services(a), "imap mx.martlet.example:993") {
		t.Fatalf("found %s", services(a))
	}
	for _, s := range a.Services {
		if s.Probe != nil && !s.Probe.OK {
			t.Errorf("%s at %s:%d: %s", s.Protocol, s.Host, s.Port, s.Probe.Error)
		}
	}
}
