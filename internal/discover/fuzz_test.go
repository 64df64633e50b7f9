package discover

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// usable checks what any parser of a stranger's words lets through: hosts that can be a
// provider's, ports that exist, and nothing that a terminal would obey.
func usable(t *testing.T, got found) {
	t.Helper()
	if len(got.services) > maxServices {
		t.Fatalf("%d services", len(got.services))
	}
	for _, s := range got.services {
		switch {
		case !slices.Contains(protocols[:], s.Protocol):
			t.Fatalf("the protocol %q", s.Protocol)
		case properHost(s.Host) != s.Host || s.Host == "" || s.Port < 1 || s.Port > 65535:
			t.Fatalf("the server %q:%d", s.Host, s.Port)
		case !slices.Contains([]string{TLS, StartTLS, "none"}, s.Security):
			t.Fatalf("the security %q", s.Security)
		case len(s.Auth) == 0 && s.Protocol != "jmap" && s.Source == "autoconfig":
			t.Fatal("no way to sign in")
		}
		for _, text := range append([]string{s.Username, s.URL}, s.Auth...) {
			if clip(text) != text {
				t.Fatalf("%q", text)
			}
		}
		if (s.URL != "") != overHTTP(s.Protocol) || s.URL != "" && hostOfURL(s.URL) != s.Host {
			t.Fatalf("the URL %q of %s", s.URL, s.Protocol)
		}
	}
	for _, text := range append(slices.Clone(got.notes), got.provider) {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
			t.Fatalf("%q", text)
		}
	}
}

func somebody(t testing.TB) subject {
	who, err := parseSubject("me@example.org")
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func FuzzAutoconfig(f *testing.F) {
	for _, s := range []string{
		configXML("example.org"), `<?xml version="1.0" encoding="iso-8859-1"?>` + configXML("example.org"), "<!DOCTYPE a><clientConfig/>",
		`<clientConfig version="1.2"><emailProvider><incomingServer type="jmap"><url>https://jmap.example.org/s</url></incomingServer><enable visiturl="https://example.org/on"/></emailProvider><calendar type="caldav"><serverURL>https://dav.example.org/%EMAILADDRESS%</serverURL></calendar><addressBook type="carddav"><url>https://dav.example.org/</url></addressBook></clientConfig>`,
		strings.Repeat("<clientConfig>", 20), "<a/><b/>", "<a b='&#x1b;'>&#155;</a>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseAutoconfig(body, somebody(t))
		if err == nil {
			usable(t, got)
		}
	})
}

// FuzzXML holds the small reader to bounds.
func FuzzXML(f *testing.F) {
	for _, s := range []string{configXML("x.example"), poxXML(""), "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", strings.Repeat("<a>", 30), "<a><![CDATA[x]]></a>", "\xff\xfe<\x00a\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		root, err := parseXML(body)
		if err != nil {
			return
		}
		nodes := 0
		var walk func(*node, int)
		walk = func(n *node, depth int) {
			if nodes++; nodes > maxNodes || depth > maxDepth {
				t.Fatalf("%d elements, %d deep", nodes, depth)
			}
			for _, k := range n.kids {
				walk(k, depth+1)
			}
		}
		walk(root, 1)
		if strings.Contains(strings.ToUpper(string(body)), "<!DOCTYPE") && !strings.Contains(string(body), "<![CDATA[") && !strings.Contains(string(body), "<!--") && !strings.Contains(string(body), "<?") {
			t.Fatal("a document type definition was read")
		}
	})
}

func FuzzPOX(f *testing.F) {
	for _, s := range []string{poxXML(""), `<Autodiscover><Response><Account><Action>redirectUrl</Action><RedirectUrl>https://x.example/a</RedirectUrl></Account></Response></Autodiscover>`, "<Autodiscover/>", strings.ReplaceAll(poxXML(""), "on</SSL>", "off</SSL>")} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, next, err := parsePOX(body, somebody(t), "me@example.org")
		if err != nil {
			return
		}
		usable(t, got)
		if next != "" && (hostOfURL(next) == "" || len(got.services) > 0) {
			t.Fatalf("on to %q", next)
		}
	})
}

func FuzzAutodiscoverJSON(f *testing.F) {
	f.Add([]byte(`{"Protocol":"AutodiscoverV1","Url":"https://x.example/a"}`))
	f.Add([]byte(`{"protocol":"autodiscoverv1","url":"http://x.example/a"}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if at, err := parseAutodiscoverJSON(body); err == nil && hostOfURL(at) == "" {
			t.Fatalf("%q", at)
		}
	})
}

func FuzzPACC(f *testing.F) {
	for _, s := range []string{paccJSON, `{"protocols":{"smtp":{"host":"a.example"},"imap":5}}`, `{"protocols":{"jmap":{"url":"https://a.example/\u001b"}}}`, `{}`, strings.Repeat("[", 1000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parsePACC(body, somebody(t))
		if err != nil {
			return
		}
		usable(t, got)
		for _, s := range got.services {
			if s.Port != defaultPorts[s.Protocol] {
				t.Fatalf("port %d", s.Port)
			}
		}
	})
}

// FuzzDigest: only a record that has the digest of these very bytes lets them pass.
func FuzzDigest(f *testing.F) {
	sum := sha256.Sum256([]byte("x"))
	f.Add("v=UAAC1; a=sha256; d="+base64.StdEncoding.EncodeToString(sum[:]), []byte("x"))
	f.Add("v=UAAC1;a=sha256;d=", []byte(""))
	f.Add("a=sha256; v=UAAC1; d=x", []byte("x"))
	f.Fuzz(func(t *testing.T, record string, body []byte) {
		sum := sha256.Sum256(body)
		has := strings.Contains(record, base64.StdEncoding.EncodeToString(sum[:])[:42])
		if checkDigest([]string{record}, body) == nil && !has {
			t.Fatalf("%q was enough", record)
		}
	})
}

// FuzzTable: what is read has its form, and what is not says the line.
func FuzzTable(f *testing.F) {
	f.Add("[x]\nfrom me 2026-11\nat a.example .b.example\nmx c.example\nimap %d 143 starttls user=local auth=oauth2,password\nno pop3\nnote x\n")
	f.Add("[x]\nimap a.example 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		all := &table{domains: map[string]*provider{}, mx: map[string]*provider{}}
		if err := all.read("x", text); err != nil {
			if !strings.Contains(err.Error(), "x:") {
				t.Fatal(err)
			}
			return
		}
		for _, p := range all.all {
			for _, s := range p.Services {
				if s.Port < 1 || s.Port > 65535 || s.Username == "" || len(s.Auth) == 0 {
					t.Fatalf("%+v", s)
				}
			}
		}
	})
}

// FuzzGreeting: whatever a mail server says, no more than its bounds is listened to, and its
// capabilities are words.
func FuzzGreeting(f *testing.F) {
	f.Add("imap", "* OK x\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN LOGINDISABLED\r\nb OK done\r\n")
	f.Add("pop3", "+OK x\r\n+OK\r\nSASL PLAIN\r\nUSER\r\n.\r\n")
	f.Add("smtp", "220-x\r\n220 y\r\n250-x\r\n250-AUTH=LOGIN PLAIN\r\n250 AUTH XOAUTH2\r\n")
	f.Add("smtp", "250")
	f.Fuzz(func(t *testing.T, protocol, said string) {
		d, ok := dialects[protocol]
		if !ok {
			return
		}
		l := &line{conn: deaf{}, in: bufio.NewReaderSize(strings.NewReader(said), maxLine), left: maxLines}
		greeting, err := d.greeting(l)
		if err != nil {
			return
		}
		offers, err := d.offers(l)
		if err != nil {
			return
		}
		if len(offers) > maxLine*maxLines/2 || len(greeting) > maxLine {
			t.Fatalf("%d offers", len(offers))
		}
		for _, m := range (talk{offers: offers}).mechanisms(protocol) {
			if m != strings.ToUpper(m) || strings.ContainsAny(m, " \r\n") {
				t.Fatalf("the mechanism %q", m)
			}
		}
	})
}

// deaf is a connection that takes what it is told.
type deaf struct{ net.Conn }

func (deaf) Write(b []byte) (int, error) { return io.Discard.Write(b) }

func FuzzSubject(f *testing.F) {
	for _, s := range []string{"me@example.org", "bücher.example", `"a b"@example.org`, "a@[::1]", "com", "a@b@c.example", "me@1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		who, err := parseSubject(text)
		if err != nil {
			return
		}
		if properHost(who.Domain) != who.Domain || !strings.Contains(who.Domain, ".") || (who.Address == "") != (who.Local == "") {
			t.Fatalf("%q is %+v", text, who)
		}
		again, err := parseSubject(who.Address + map[bool]string{true: who.Domain}[who.Address == ""])
		if err != nil || again.Domain != who.Domain || again.Local != who.Local {
			t.Fatalf("%q is %+v, and then %+v, %v", text, who, again, err)
		}
	})
}
