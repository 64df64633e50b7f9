package discoverworld

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// config is a document of autoconfig that names the provider's servers.
func config(domain string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><clientConfig version="1.1"><emailProvider id="` + domain + `"><domain>` + domain + `</domain><displayName>` + domain + `</displayName>
<incomingServer type="imap"><hostname>imap.provider.example</hostname><port>993</port><socketType>SSL</socketType><username>%EMAILADDRESS%</username><authentication>password-cleartext</authentication></incomingServer>
<outgoingServer type="smtp"><hostname>smtp.provider.example</hostname><port>587</port><socketType>STARTTLS</socketType><username>%EMAILADDRESS%</username><authentication>password-cleartext</authentication></outgoingServer>
</emailProvider></clientConfig>`
}

const pacc = `{"protocols":{"imap":{"host":"imap.provider.example"},"pop3":{"host":"pop.provider.example"},"smtp":{"host":"smtp.provider.example"},"submit":{"host":"smtp.provider.example"}},"authentication":{"password":true},"info":{"provider":{"name":"Provider"}}}`

const pox = `<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"><Response xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"><Account><AccountType>email</AccountType><Action>settings</Action>
<Protocol><Type>IMAP</Type><Server>imap.provider.example</Server><Port>993</Port><SSL>on</SSL><DomainRequired>off</DomainRequired><SPA>off</SPA><AuthRequired>on</AuthRequired></Protocol>
<Protocol><Type>SMTP</Type><Server>smtp.provider.example</Server><Port>465</Port><SSL>on</SSL><DomainRequired>off</DomainRequired><SPA>off</SPA><AuthRequired>on</AuthRequired></Protocol></Account></Response></Autodiscover>`

// srv is the one true answer of domains whose other answers are lies.
const srv = `_imaps._tcp 60 IN SRV 0 1 993 imap.provider.example.
_submissions._tcp 60 IN SRV 0 1 465 smtp.provider.example.
`

const (
	paccPath = "/.well-known/user-agent-configuration.json"
	path11   = "/mail/config-v1.1.xml"
	path12   = "/.well-known/autoconfig/mail/config-v1.1.xml"
)

// a names below a zone that are at an address.
func a(address string, names ...string) string {
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "%s 60 IN A %s\n", n, address)
	}
	return b.String()
}

func paccText(body string) string {
	return fmt.Sprintf("_ua-auto-config 60 IN TXT \"v=UAAC1; a=sha256; d=%s\"\n", digest(body))
}

// zones are those of all domains that are asked about.
func zones() (all []lab.Zone) {
	for name, text := range map[string]string{
		"client":   "",
		"martlet":  "",
		"provider": a(web, "imap", "smtp", "pop"),
		// Each source alone.
		"pacc":     a(web, "ua-auto-config") + paccText(pacc),
		"auto11":   a(web, "autoconfig"),
		"auto12":   a(web, "@"),
		"plain":    a(web, "autoconfig"),
		"srv":      srv,
		"hosted":   "@ 60 IN MX 10 mx1.bighost.example.\n",
		"bighost":  a(web, "autoconfig") + a(hole, "mx1"),
		"json":     a(web, "autodiscover"),
		"pox":      a(web, "autodiscover"),
		"guess":    a(web, "imap", "pop", "smtp"),
		"mx-only":  "@ 60 IN MX 10 mx.mx-only.example.\n" + a(web, "mx"),
		"database": "",
		"nothing":  "@ 60 IN TXT \"no mail\"\n",
		// Each lie.
		"cert":        a(web, "autoconfig") + srv,
		"self":        a(web, "ua-auto-config") + paccText(pacc) + srv,
		"wrong-pacc":  a(web, "ua-auto-config") + paccText(pacc+" ") + srv,
		"wild":        a(web, "*"),
		"wild-named":  a(web, "*"),
		"uncertified": a(web, "imap", "smtp"),
		"away-pacc":   a(web, "ua-auto-config") + paccText(pacc) + srv,
		"away":        a(web, "autoconfig") + srv,
		"away-plain":  a(web, "autoconfig") + srv,
		"inward":      a(web, "autoconfig") + srv,
		"huge":        a(web, "autoconfig") + srv,
		"bomb":        a(web, "autoconfig") + srv,
		"slow":        a(web, "autoconfig") + srv,
		"private":     a("127.0.0.1", "autoconfig", "imap", "smtp", "mail") + a("10.0.0.1", "ua-auto-config") + a("169.254.169.254", "autodiscover", "@") + paccText(pacc),
		"half":        a(hole, "@", "autoconfig", "ua-auto-config", "autodiscover", "mail", "pop") + a(web, "imap", "smtp") + "@ 60 IN MX 10 mail.half.example.\n",
		"dark":        a(hole, "@", "autoconfig", "ua-auto-config", "autodiscover", "imap", "smtp", "mail", "pop") + "@ 60 IN MX 10 mail.dark.example.\n",
		"away-to":     a(web, "config"),
	} {
		all = append(all, lab.Zone{Name: name + ".example", Trust: lab.Insecure, Text: text})
	}
	return append(all, lab.Zone{Name: "thunderbird.net", Trust: lab.Insecure, Text: a(web, "autoconfig", "live")})
}

var (
	hugeSent atomic.Int64
)

// sites are what is served, by the name in the URL.
var sites = map[string]planned{
	"ua-auto-config.pacc.example": {path: paccPath, text: pacc},
	"autoconfig.auto11.example":   {path: path11, text: config("auto11.example")},
	"auto12.example":              {path: path12, text: config("auto12.example")},
	"autoconfig.plain.example":    {path: path11, text: config("plain.example"), as: "-"},
	"autoconfig.bighost.example":  {path: path11, text: config("bighost.example")},
	"autoconfig.thunderbird.net":  {path: "/v1.1/database.example", text: config("database.example")},
	"autodiscover.json.example": {do: func(_ *internet, rw http.ResponseWriter, r *http.Request) {
		switch {
		case strings.EqualFold(r.URL.Path, "/autodiscover/autodiscover.json"):
			io.WriteString(rw, `{"Protocol":"AutodiscoverV1","Url":"https://autodiscover.json.example/other/place.xml"}`)
		case r.URL.Path == "/other/place.xml" && r.Method == "POST":
			io.WriteString(rw, pox)
		default:
			http.NotFound(rw, r)
		}
	}},
	"autodiscover.pox.example": {do: func(_ *internet, rw http.ResponseWriter, r *http.Request) {
		if !strings.EqualFold(r.URL.Path, "/autodiscover/autodiscover.xml") || r.Method != "POST" {
			http.NotFound(rw, r)
			return
		}
		io.WriteString(rw, pox)
	}},

	"autoconfig.cert.example":           {path: path11, text: config("cert.example"), as: "autoconfig.other.example"},
	"ua-auto-config.self.example":       {path: paccPath, text: pacc, as: "ua-auto-config.pacc.example"},
	"ua-auto-config.wrong-pacc.example": {path: paccPath, text: pacc},
	"config.away-to.example": {do: func(_ *internet, rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".json") {
			io.WriteString(rw, pacc)
			return
		}
		io.WriteString(rw, config("away-to.example"))
	}},
	"ua-auto-config.away-pacc.example": {do: func(_ *internet, rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://config.away-to.example/c.json", http.StatusFound)
	}},
	"autoconfig.away.example": {do: func(_ *internet, rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://config.away-to.example/c.xml", http.StatusFound)
	}},
	"autoconfig.away-plain.example": {as: "-", do: func(_ *internet, rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "http://config.away-to.example/c.xml", http.StatusFound)
	}},
	"autoconfig.inward.example": {do: func(_ *internet, rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://127.0.0.1/mail/config-v1.1.xml", http.StatusFound)
	}},
	"autoconfig.huge.example": {do: func(_ *internet, rw http.ResponseWriter, r *http.Request) {
		line := []byte(strings.Repeat(" ", 1<<16))
		io.WriteString(rw, `<?xml version="1.0"?><clientConfig version="1.1">`)
		for range 100 << 20 >> 16 {
			n, err := rw.Write(line)
			hugeSent.Add(int64(n))
			if err != nil {
				return
			}
		}
		io.WriteString(rw, strings.TrimPrefix(config("huge.example"), `<?xml version="1.0" encoding="UTF-8"?><clientConfig version="1.1">`))
	}},
	"autoconfig.bomb.example": {do: func(_ *internet, rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, `<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a0 "imap.provider.example">`)
		for i := range 20 {
			fmt.Fprintf(rw, `<!ENTITY a%d "%s">`, i+1, strings.Repeat(fmt.Sprintf("&a%d;", i), 10))
		}
		io.WriteString(rw, `]>`+strings.Replace(strings.TrimPrefix(config("bomb.example"), `<?xml version="1.0" encoding="UTF-8"?>`), "imap.provider.example", "&a20;", 1))
	}},
	"autoconfig.slow.example": {do: func(_ *internet, rw http.ResponseWriter, r *http.Request) {
		select { // never
		case <-r.Context().Done():
		case <-time.After(time.Minute):
		}
	}},
}

// TestEachSource has each one be the only one.
func TestEachSource(t *testing.T) {
	w := world(t)
	for _, c := range []struct {
		domain, imap, smtp string
		code               int
	}{
		{"pacc", "imap.provider.example:993 tls pacc verified", "smtp.provider.example:465 tls pacc verified", 0},
		{"auto11", "imap.provider.example:993 tls autoconfig published", "smtp.provider.example:587 starttls autoconfig published", 0},
		{"auto12", "imap.provider.example:993 tls autoconfig published", "smtp.provider.example:587 starttls autoconfig published", 0},
		{"plain", "imap.provider.example:993 tls autoconfig-http guessed insecure", "smtp.provider.example:587 starttls autoconfig-http guessed insecure", 3},
		{"srv", "imap.provider.example:993 tls srv published insecure", "smtp.provider.example:465 tls srv published insecure", 0},
		{"hosted", "imap.provider.example:993 tls mx published insecure", "smtp.provider.example:587 starttls mx published insecure", 0},
		{"database", "imap.provider.example:993 tls database database", "smtp.provider.example:587 starttls database database", 0},
		{"json", "imap.provider.example:993 tls autodiscover published", "smtp.provider.example:465 tls autodiscover published", 0},
		{"pox", "imap.provider.example:993 tls autodiscover published", "smtp.provider.example:465 tls autodiscover published", 0},
		{"guess", "imap.guess.example:993 tls guess guessed", "smtp.guess.example:465 tls guess guessed", 3},
		{"mx-only", "mx.mx-only.example:993 tls mx-host guessed", "mx.mx-only.example:465 tls mx-host guessed", 3},
		{"nothing", "none", "none", 4},
	} {
		t.Run(c.domain, func(t *testing.T) {
			t.Parallel()
			got := w.discover(t, "carol@"+c.domain+".example")
			if got.of("imap") != c.imap || got.of("smtp") != c.smtp || got.code != c.code {
				t.Errorf("%s: imap %q, want %q; smtp %q, want %q; exit code %d, want %d\n%s", c.domain, got.of("imap"), c.imap, got.of("smtp"), c.smtp, got.code, c.code,
					w.discover(t, "carol@"+c.domain+".example", "--explain").text)
			}
		})
	}
}

// TestProbeAsksTheRealServers connects to Dovecot and Postfix.
func TestProbeAsksTheRealServers(t *testing.T) {
	w := world(t)
	got := w.discover(t, "carol@pacc.example", "--probe")
	probed := 0
	for _, s := range got.Services {
		if s.Probe != nil && s.Probe.OK {
			probed++
		} else if s.Probe != nil {
			t.Errorf("%s %s: %s", s.Protocol, s.Host, s.Probe.Error)
		}
	}
	if probed < 3 {
		t.Errorf("%d servers answer: %s", probed, got.text)
	}
}

// TestEachLie has each one be told where a better source would be; what is true stands in the SRV
// records.
func TestEachLie(t *testing.T) {
	w := world(t)
	const truth = "imap.provider.example:993 tls srv published insecure"
	for _, c := range []struct {
		domain, step, says string // what came of the step
	}{
		{"cert", "autoconfig", "certificate"},
		{"self", "pacc", "certificate"},
		{"wrong-pacc", "pacc", "digest"},
		{"away-pacc", "pacc", ""},
		{"away-plain", "autoconfig-http", ""},
		{"inward", "autoconfig", ""},
		{"huge", "autoconfig", ""},
		{"bomb", "autoconfig", ""},
		{"slow", "autoconfig", ""},
	} {
		t.Run(c.domain, func(t *testing.T) {
			t.Parallel()
			got := w.discover(t, "carol@"+c.domain+".example", "--explain")
			if got.of("imap") != truth || got.code != 0 {
				t.Errorf("imap %q, exit code %d\n%s", got.of("imap"), got.code, got.text)
			}
			if said := got.result(c.step); said == "" || !strings.Contains(said, c.says) {
				t.Errorf("the step %s says %q, and nothing of %q\n%s", c.step, said, c.says, got.text)
			}
			if n := hugeSent.Load(); c.domain == "huge" && (n == 0 || n > 8<<20) { // what lies in buffers of sockets is sent
				t.Errorf("%d bytes of 100 MB were taken", n)
			}
			for _, s := range got.Services {
				if s.Source == c.step {
					t.Errorf("the lie is believed: %+v", s)
				}
			}
		})
	}
	t.Run("away", func(t *testing.T) { // https may lead to another owner, who is named
		got := w.discover(t, "carol@away.example")
		if !strings.HasPrefix(got.of("imap"), "imap.provider.example:993 tls autoconfig") || !slices.ContainsFunc(got.Notes, func(n string) bool { return strings.Contains(n, "away-to.example") }) {
			t.Errorf("%q %q", got.of("imap"), got.Notes)
		}
	})
	t.Run("uncertified", func(t *testing.T) { // the usual names, and a certificate for others
		got := w.discover(t, "carol@uncertified.example")
		if got.of("imap") != "none" || got.code != 4 {
			t.Errorf("%q, exit code %d\n%s", got.of("imap"), got.code, got.text)
		}
	})
	t.Run("wild-named", func(t *testing.T) { // so it is here, and somebody has made a certificate for the name
		got := w.discover(t, "carol@wild-named.example")
		if got.of("imap") != "imap.wild-named.example:993 tls guess guessed" || got.code != 3 {
			t.Errorf("%q, exit code %d\n%s", got.of("imap"), got.code, got.text)
		}
	})
	t.Run("wild", func(t *testing.T) { // every name there has an address, and a valid certificate
		got := w.discover(t, "carol@wild.example")
		if got.of("imap") != "none" || got.code != 4 {
			t.Errorf("%q, exit code %d\n%s", got.of("imap"), got.code, got.text)
		}
	})
}

// TestAttack80NoWayInward has names with addresses that are nobody else's, where somebody
// listens who counts.
func TestAttack80NoWayInward(t *testing.T) {
	w := world(t)
	var hits atomic.Int64
	for _, port := range []string{"80", "443", "993", "143", "465", "587", "995", "110"} {
		l, err := w.client.Listen("tcp", "127.0.0.1:"+port)
		must(t, err)
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				hits.Add(1)
				c.Close()
			}
		}()
	}
	got := w.discover(t, "carol@private.example", "--explain")
	if got.of("imap") != "none" || got.code != 4 || hits.Load() != 0 {
		t.Errorf("%d connections inward; imap %q, exit code %d\n%s", hits.Load(), got.of("imap"), got.code, got.text)
	}
	w.discover(t, "carol@inward.example", "--explain")
	if hits.Load() != 0 {
		t.Errorf("a redirect led to this host")
	}
	// The counter counts, and private addresses can be allowed.
	w.discover(t, "carol@private.example", "--allow-private", "--timeout", "3s")
	if hits.Load() == 0 {
		t.Error("nothing was counted where it was allowed")
	}
}

// TestHalfOfTheHostsAreSilent has most hosts of a domain never answer.
func TestHalfOfTheHostsAreSilent(t *testing.T) {
	w := world(t)
	got := w.discover(t, "carol@half.example", "--timeout", "8s")
	if got.of("imap") != "imap.half.example:993 tls guess guessed" || got.of("smtp") != "smtp.half.example:465 tls guess guessed" {
		t.Errorf("%s", got.text)
	}
	// As the program tells itself: with an answer at a quarter of the deadline, nothing was waited
	// for to the end.
	explained := w.discover(t, "carol@half.example", "--timeout", "8s", "--explain")
	for _, s := range explained.Steps {
		if s.MS > 8000 {
			t.Errorf("the step %s took %d ms", s.Step, s.MS)
		}
	}
	if dark := w.discover(t, "carol@dark.example", "--timeout", "4s", "--explain"); dark.code != 4 || slices.ContainsFunc(dark.Steps, func(s struct {
		Step, Asked, Result string
		MS                  int64
		Found               int
	}) bool {
		return s.MS > 4000
	}) {
		t.Errorf("where nobody answers: %s", dark.text)
	}
}

// TestNobodyGetsAPassword looks at all that the sites were asked.
func TestNobodyGetsAPassword(t *testing.T) {
	w := world(t)
	w.discover(t, "carol@pox.example")
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.secrets) > 0 || len(w.asked) == 0 {
		t.Errorf("%d requests, with secrets: %q", len(w.asked), w.secrets)
	}
	for _, line := range w.asked {
		if strings.Contains(line, url.QueryEscape("carol@")) && strings.Contains(line, "thunderbird.net") {
			t.Errorf("the database was told the address: %s", line)
		}
	}
}
