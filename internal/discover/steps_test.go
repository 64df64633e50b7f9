package discover

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const zone = `
example.org.              A 203.0.113.1
autoconfig.example.org.   A 203.0.113.2
ua-auto-config.example.org. A 203.0.113.3
autodiscover.example.org. A 203.0.113.4
db.test-db.org.           A 203.0.113.5
example.org.              MX 10 mx.host-of-mail.net.
autoconfig.host-of-mail.net. A 203.0.113.6
mx.host-of-mail.net.      A 203.0.113.7
imap.example.org.         A 203.0.113.8
smtp.example.org.         A 203.0.113.8
pop.example.org.          A 203.0.113.8
mail.example.org.         A 203.0.113.9
other.net.                A 203.0.113.20
`

func configXML(host string) string {
	return `<?xml version="1.0"?><clientConfig version="1.1"><emailProvider id="x"><domain>example.org</domain><displayName>Example Host</displayName>
<incomingServer type="imap"><hostname>imap.` + host + `</hostname><port>993</port><socketType>SSL</socketType><username>%EMAILADDRESS%</username><authentication>OAuth2</authentication><authentication>password-cleartext</authentication></incomingServer>
<outgoingServer type="smtp"><hostname>smtp.` + host + `</hostname><port>587</port><socketType>STARTTLS</socketType><username>%EMAILLOCALPART%</username><authentication>password-cleartext</authentication></outgoingServer>
</emailProvider></clientConfig>`
}

const paccJSON = `{"protocols":{"imap":{"host":"imap.example.org"},"submit":{"host":"smtp.example.org"},"managesieve":{"host":"imap.example.org"},"jmap":{"url":"https://jmap.example.org/session"}},"authentication":{"oauth-public":{"issuer":"https://id.example.org"},"password":true},"info":{"provider":{"name":"Example"}}}`

func paccRecord(body string) string {
	sum := sha256.Sum256([]byte(body))
	return fmt.Sprintf("_ua-auto-config.example.org. TXT \"v=UAAC1; a=sha256; d=%s\"\n", base64.StdEncoding.EncodeToString(sum[:]))
}

func TestPACCIsVerifiedByItsDigest(t *testing.T) {
	w := newWorld(t, zone+paccRecord("an older document")+paccRecord(paccJSON))
	w.web("203.0.113.3", files(map[string]string{"/.well-known/user-agent-configuration.json": paccJSON}), "ua-auto-config.example.org")
	w.web("203.0.113.2", files(map[string]string{"/mail/config-v1.1.xml": configXML("other.example.org")}), "autoconfig.example.org")
	a := w.find("me@example.org")
	w.want(a, `imap imap.example.org:993 tls pacc verified
		smtp smtp.example.org:465 tls pacc verified
		jmap jmap.example.org:443 tls pacc verified
		sieve imap.example.org:4190 starttls pacc verified`)
	if a.Provider != "Example" || a.Services[0].Auth[0] != "oauth2" || a.Services[0].Username != "me@example.org" {
		t.Error(explained(a))
	}
}

func TestPACCWithoutItsDigestDoesNotCount(t *testing.T) {
	for name, record := range map[string]string{"mismatch": paccRecord("another document"), "none": "", "junk": "_ua-auto-config.example.org. TXT \"a=sha256; d=x\"\n"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, zone+record)
			w.web("203.0.113.3", files(map[string]string{"/.well-known/user-agent-configuration.json": paccJSON}), "ua-auto-config.example.org")
			if a := w.find("me@example.org"); len(a.Services) != 0 || strings.Contains(result(a, "pacc"), "imap") {
				t.Error(explained(a))
			}
		})
	}
}

func TestAutoconfigAtBothPlaces(t *testing.T) {
	for ip, at := range map[string][2]string{
		"203.0.113.2": {"autoconfig.example.org", "/mail/config-v1.1.xml"},
		"203.0.113.1": {"example.org", "/.well-known/autoconfig/mail/config-v1.1.xml"},
	} {
		w := newWorld(t, zone)
		w.web(ip, files(map[string]string{at[0] + at[1]: configXML("example.org")}), at[0])
		a := w.find("me@example.org")
		w.want(a, `imap imap.example.org:993 tls autoconfig published
			smtp smtp.example.org:587 starttls autoconfig published`)
		if a.Services[1].Username != "me" || strings.Join(a.Services[0].Auth, " ") != "oauth2 password" || a.Provider != "Example Host" {
			t.Error(explained(a))
		}
	}
}

func TestAutoconfigOfTheDomainAloneKeepsPlaceholders(t *testing.T) {
	w := newWorld(t, zone)
	w.web("203.0.113.2", files(map[string]string{"/mail/config-v1.1.xml": configXML("example.org")}), "autoconfig.example.org")
	a := w.find("EXAMPLE.org")
	if a.Services[0].Username != "%EMAILADDRESS%" || a.Domain != "example.org" {
		t.Error(explained(a))
	}
}

func TestDatabase(t *testing.T) {
	w := newWorld(t, zone)
	w.web("203.0.113.5", files(map[string]string{"/v1.1/example.org": configXML("example.org")}), "db.test-db.org")
	a := w.find("me@example.org")
	w.want(a, `imap imap.example.org:993 tls database database
		smtp smtp.example.org:587 starttls database database`)
	if strings.Contains(w.heard.String(), "me@") {
		t.Error("the database was told the address")
	}
}

func TestServicesInTheDNS(t *testing.T) {
	w := newWorld(t, zone+`
_imaps._tcp.example.org. SRV 20 1 993 second.example.org.
_imaps._tcp.example.org. SRV 10 1 993 light.example.org.
_imaps._tcp.example.org. SRV 10 9 1993 heavy.example.org.
_pop3s._tcp.example.org. SRV 0 0 0 .
_pop3._tcp.example.org.  SRV 0 0 0 .
_submission._tcp.example.org. SRV 0 1 587 smtp.example.org.
`)
	w.mail("203.0.113.8:995", post{protocol: "pop3", security: TLS, names: []string{"pop.example.org"}})
	a := w.find("me@example.org")
	w.want(a, `imap heavy.example.org:1993 tls srv published
		imap light.example.org:993 tls srv published
		imap second.example.org:993 tls srv published
		smtp smtp.example.org:587 starttls srv published`)
}

func TestMailHostsProvider(t *testing.T) {
	for _, server := range []string{"203.0.113.6", "203.0.113.5"} {
		w := newWorld(t, zone)
		source := "mx published insecure"
		if server == "203.0.113.6" {
			w.web(server, files(map[string]string{"/mail/config-v1.1.xml": configXML("host-of-mail.net")}), "autoconfig.host-of-mail.net")
		} else {
			source = "mx-database database" // the database vouches for the provider, and nobody for the MX
			w.web(server, files(map[string]string{"/v1.1/host-of-mail.net": configXML("host-of-mail.net")}), "db.test-db.org")
		}
		a := w.find("me@example.org")
		w.want(a, "imap imap.host-of-mail.net:993 tls "+source+"\nsmtp smtp.host-of-mail.net:587 starttls "+source)
		if server == "203.0.113.6" && !strings.Contains(strings.Join(a.Notes, " "), "host-of-mail.net: make sure") {
			t.Error(a.Notes)
		}
	}
}

func TestTableByMailHost(t *testing.T) {
	for _, c := range []struct{ mx, want string }{
		{"aspmx.l.google.com", "imap.gmail.com:993"}, {"example-org.mail.protection.outlook.com", "outlook.office365.com:993"},
		{"mx01.mail.icloud.com", "imap.mail.me.com:993"}, {"in1-smtp.messagingengine.com", "imap.fastmail.com:993"}, {"mx.zoho.eu", "imappro.zoho.eu:993"},
		{"mx1.emailsrvr.com", "secure.emailsrvr.com:993"}, {"smtp.secureserver.net", "imap.secureserver.net:993"},
	} {
		w := newWorld(t, "example.org. MX 10 "+c.mx+".\n")
		a := w.find("me@example.org")
		if len(a.Services) == 0 || !strings.Contains(lines(a), c.want+" tls table-mx database") {
			t.Errorf("%s: %s", c.mx, explained(a))
		}
		if strings.Contains(c.mx, "icloud") && strings.Contains(lines(a), "pop3") {
			t.Error("iCloud has no POP3")
		}
	}
}

func poxXML(extra string) string {
	return `<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"><Response xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"><Account><AccountType>email</AccountType><Action>settings</Action>` + extra + `
<Protocol><Type>IMAP</Type><Server>imap.example.org</Server><Port>993</Port><SSL>on</SSL><AuthRequired>on</AuthRequired></Protocol>
<Protocol><Type>SMTP</Type><Server>smtp.example.org</Server><Port>587</Port><SSL>on</SSL><Encryption>TLS</Encryption></Protocol></Account></Response></Autodiscover>`
}

func TestAutodiscoverTakesTheAddressAlone(t *testing.T) {
	w := newWorld(t, zone)
	w.web("203.0.113.4", func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != "POST" || r.URL.Path != "/autodiscover/autodiscover.xml" || !strings.Contains(string(body), "<EMailAddress>me&amp;co@example.org</EMailAddress>") {
			http.NotFound(rw, r)
			return
		}
		io.WriteString(rw, poxXML(""))
	}, "autodiscover.example.org")
	a := w.find("me&co@example.org")
	w.want(a, `imap imap.example.org:993 tls autodiscover published
		smtp smtp.example.org:587 starttls autodiscover published`)
}

func TestAutodiscoverJSONNamesTheURL(t *testing.T) {
	w := newWorld(t, zone)
	w.web("203.0.113.4", func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/autodiscover/autodiscover.json" && r.URL.Query().Get("Email") == "me@example.org":
			io.WriteString(rw, `{"Protocol":"autodiscoverv1","Url":"https://autodiscover.example.org/elsewhere.xml"}`)
		case r.URL.Path == "/elsewhere.xml" && r.Method == "POST":
			io.WriteString(rw, poxXML(""))
		default:
			http.NotFound(rw, r)
		}
	}, "autodiscover.example.org")
	w.want(w.find("me@example.org"), `imap imap.example.org:993 tls autodiscover published
		smtp smtp.example.org:587 starttls autodiscover published`)
}

func TestAutodiscoverThatWantsAPasswordIsGivenUp(t *testing.T) {
	w := newWorld(t, zone)
	w.web("203.0.113.4", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		rw.WriteHeader(401)
	}, "autodiscover.example.org")
	a := w.find("me@example.org")
	if len(a.Services) > 0 || result(a, "autodiscover") != "wants a password; none was sent" {
		t.Error(explained(a))
	}
}

func TestAutodiscoverOfAnotherOwnerIsMarked(t *testing.T) {
	pox := func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, poxXML("")) }
	elsewhere := func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://other.net/x.xml", http.StatusFound)
	}
	for name, set := range map[string]func(*world){
		"https redirect": func(w *world) { w.web("203.0.113.4", elsewhere, "autodiscover.example.org") },
		"http redirect":  func(w *world) { w.web("203.0.113.4", elsewhere) },
		"redirectUrl": func(w *world) {
			w.web("203.0.113.4", func(rw http.ResponseWriter, r *http.Request) {
				io.WriteString(rw, `<Autodiscover><Response><Account><Action>redirectUrl</Action><RedirectUrl>https://other.net/x.xml</RedirectUrl></Account></Response></Autodiscover>`)
			}, "autodiscover.example.org")
		},
		"json": func(w *world) {
			w.web("203.0.113.4", files(map[string]string{"/autodiscover/autodiscover.json": `{"Protocol":"AutodiscoverV1","Url":"https://other.net/x.xml"}`}), "autodiscover.example.org")
		},
		"srv": func(w *world) {
			if err := w.dns.SetZone(zone + "_autodiscover._tcp.example.org. SRV 0 0 443 other.net.\n"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, zone)
			w.web("203.0.113.20", pox, "other.net")
			set(w)
			a := w.find("me@example.org")
			w.want(a, `imap imap.example.org:993 tls autodiscover published insecure
				smtp smtp.example.org:587 starttls autodiscover published insecure`)
			if !strings.Contains(strings.Join(a.Notes, " "), "other.net") {
				t.Error(a.Notes)
			}
		})
	}
}

func TestPlainAutoconfigIsMarked(t *testing.T) {
	w := newWorld(t, zone)
	w.web("203.0.113.2", files(map[string]string{"/mail/config-v1.1.xml": configXML("example.org")}))
	a := w.find("me@example.org")
	w.want(a, `imap imap.example.org:993 tls autoconfig-http published insecure
		smtp smtp.example.org:587 starttls autoconfig-http published insecure`)
	if strings.Contains(w.heard.String(), "me@") || strings.Contains(w.heard.String(), "me%40") {
		t.Error("the address went over plain HTTP")
	}
}

func TestGuessByCertificate(t *testing.T) {
	w := newWorld(t, zone)
	w.mailAll("203.0.113.8", "imap.example.org", "pop.example.org", "smtp.example.org")
	w.mail("203.0.113.8:587", post{protocol: "smtp", security: StartTLS, names: []string{"smtp.example.org"}, offers: []string{"AUTH XOAUTH2 PLAIN"}})
	w.mailAll("203.0.113.9", "mail.example.org")
	a := w.find("me@example.org")
	w.want(a, `imap imap.example.org:993 tls guess guessed
		pop3 pop.example.org:995 tls guess guessed
		smtp smtp.example.org:465 tls guess guessed
		smtp smtp.example.org:587 starttls guess guessed`)
	if strings.Join(a.Services[3].Auth, " ") != "oauth2 password" {
		t.Error(explained(a))
	}
}

func TestGuessOfStartTLS(t *testing.T) {
	w := newWorld(t, zone)
	n := []string{"mail.example.org"}
	w.mail("203.0.113.9:143", post{protocol: "imap", security: StartTLS, names: n})
	w.mail("203.0.113.9:110", post{protocol: "pop3", security: StartTLS, names: n})
	w.mail("203.0.113.9:587", post{protocol: "smtp", security: StartTLS, names: n})
	w.want(w.find("me@example.org"), `imap mail.example.org:143 starttls guess guessed
		pop3 mail.example.org:110 starttls guess guessed
		smtp mail.example.org:587 starttls guess guessed`)
}

func TestGuessOfTheMailHost(t *testing.T) {
	w := newWorld(t, zone)
	w.mailAll("203.0.113.7", "mx.host-of-mail.net")
	w.want(w.find("me@example.org"), `imap mx.host-of-mail.net:993 tls mx-host guessed insecure
		pop3 mx.host-of-mail.net:995 tls mx-host guessed insecure
		smtp mx.host-of-mail.net:465 tls mx-host guessed insecure`)
}

func TestGuessOfTheMailHostsOwner(t *testing.T) {
	w := newWorld(t, zone+"imap.host-of-mail.net. A 203.0.113.40\nmail.host-of-mail.net. A 203.0.113.40\n")
	w.mailAll("203.0.113.40", "imap.host-of-mail.net", "mail.host-of-mail.net")
	a := w.find("me@example.org")
	w.want(a, `imap imap.host-of-mail.net:993 tls mx-host guessed insecure
		pop3 mail.host-of-mail.net:995 tls mx-host guessed insecure
		smtp mail.host-of-mail.net:465 tls mx-host guessed insecure`)
	if !strings.Contains(strings.Join(a.Notes, " "), "host-of-mail.net: make sure") {
		t.Error(a.Notes)
	}
}

func TestGuessRefusesWhatIsNotTheHost(t *testing.T) {
	for name, set := range map[string]func(*world){
		"another name":      func(w *world) { w.mailAll("203.0.113.8", "imap.example.net") },
		"another authority": func(w *world) { newWorldAuthority(w); w.mailAll("203.0.113.8", "imap.example.org", "smtp.example.org") },
		"no mail server": func(w *world) {
			for port, p := range map[string]string{"993": "imap", "465": "smtp", "995": "pop3"} {
				w.mail("203.0.113.8:"+port, post{protocol: p, security: TLS, names: []string{"imap.example.org", "smtp.example.org", "pop.example.org"}, greeting: "HTTP/1.1 400 Bad Request"})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, zone)
			set(w)
			if a := w.find("me@example.org"); len(a.Services) > 0 {
				t.Error(explained(a))
			}
		})
	}
}

// newWorldAuthority signs from now on by an authority that nobody trusts.
func newWorldAuthority(w *world) {
	other := newWorld(w.t, "")
	w.key, w.ca = other.key, other.ca
}

// Every name exists, so that imap. existing says nothing, even with a certificate for all.
func TestGuessSeesWildcards(t *testing.T) {
	w := newWorld(t, "parked.org. A 203.0.113.30\n")
	w.wild["parked.org"] = netip.MustParseAddr("203.0.113.31")
	w.mailAll("203.0.113.31", "*.parked.org")
	a := w.find("me@parked.org")
	if len(a.Services) > 0 || !strings.Contains(result(a, "guess"), "exists only as every name") {
		t.Error(explained(a))
	}
	// A host of its own among them is one.
	if err := w.dns.SetZone("parked.org. A 203.0.113.30\nmail.parked.org. A 203.0.113.32\n"); err != nil {
		t.Fatal(err)
	}
	w.mailAll("203.0.113.32", "mail.parked.org")
	w.want(w.find("me@parked.org"), `imap mail.parked.org:993 tls guess guessed
		pop3 mail.parked.org:995 tls guess guessed
		smtp mail.parked.org:465 tls guess guessed`)
}

func TestAWorseSourceAddsWhatABetterOneDoesNotHave(t *testing.T) {
	w := newWorld(t, zone+"_pop3s._tcp.example.org. SRV 0 1 995 pop.example.org.\n")
	w.web("203.0.113.2", files(map[string]string{"/mail/config-v1.1.xml": configXML("example.org")}), "autoconfig.example.org")
	for _, explain := range []bool{true, false} {
		w.want(w.find("me@example.org", func(o *Options) { o.Explain = explain }), `imap imap.example.org:993 tls autoconfig published
			pop3 pop.example.org:995 tls srv published
			smtp smtp.example.org:587 starttls autoconfig published`)
	}
}

func TestOverridesGoFirst(t *testing.T) {
	w := newWorld(t, zone)
	a := w.find("me@example.org", func(o *Options) {
		o.Explain = false
		o.Overrides = "[Ours]\nfrom us 2026-11\nat example.org\nimap mail.corp.example.org 143\nsmtp mail.corp.example.org\nno pop3\nnote ask Ann\n"
	})
	w.want(a, `imap mail.corp.example.org:143 starttls override database
		smtp mail.corp.example.org:465 tls override database`)
	if a.Notes[0] != "ask Ann" || len(w.dialed) > 0 {
		t.Error(explained(a), w.dialed)
	}
}

func TestProbeSaysWhereItDiffers(t *testing.T) {
	w := newWorld(t, zone)
	w.web("203.0.113.2", files(map[string]string{"/mail/config-v1.1.xml": configXML("example.org")}), "autoconfig.example.org")
	w.mail("203.0.113.8:993", post{protocol: "imap", security: TLS, names: []string{"imap.example.org"}, offers: []string{"AUTH=PLAIN", "IDLE"}})
	w.mail("203.0.113.8:587", post{protocol: "smtp", security: StartTLS, names: []string{"wrong.example.org"}})
	a := w.find("me@example.org", func(o *Options) { o.Probe, o.Explain = true, false })
	imap, smtp := a.Services[0].Probe, a.Services[1].Probe
	if imap == nil || !imap.OK || imap.TLS != "TLS 1.3" || imap.Greeting != "* OK ready" || strings.Join(imap.Auth, " ") != "PLAIN LOGIN" || imap.Names[0] != "imap.example.org" {
		t.Error(explained(a))
	}
	if _, err := time.Parse(time.RFC3339, imap.Expires); err != nil {
		t.Error(err)
	}
	if smtp == nil || smtp.OK || smtp.Error != "the certificate is for another name" {
		t.Error(explained(a))
	}
	notes := strings.Join(a.Notes, "\n")
	if !strings.Contains(notes, "does not offer OAuth2") || !strings.Contains(notes, "does not work as it was found") {
		t.Error(notes)
	}
}
