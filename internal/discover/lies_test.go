package discover

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// onlyAutoconfig is a world in which nothing but the domain's autoconfig answers.
func onlyAutoconfig(t *testing.T, handler http.HandlerFunc) *world {
	w := newWorld(t, zone)
	w.web("203.0.113.2", handler, "autoconfig.example.org")
	return w
}

func TestAttack80XMLThatIsALie(t *testing.T) {
	server := `<incomingServer type="imap"><hostname>imap.example.org</hostname><port>993</port><socketType>SSL</socketType></incomingServer>`
	good := `<clientConfig><emailProvider>` + server + `</emailProvider></clientConfig>`
	bomb := "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\">"
	for c := 'b'; c < 'l'; c++ {
		bomb += fmt.Sprintf("<!ENTITY %c %q>", c, strings.Repeat(fmt.Sprintf("&%c;", c-1), 10))
	}
	bomb += `]>` + strings.Replace(good, "imap.example.org", "&k;.example.org", 1)
	for name, c := range map[string]struct{ body, want string }{
		"control":         {good, "imap imap.example.org:993 tls"},
		"entity bomb":     {bomb, "document type definition"},
		"external entity": {`<!DOCTYPE x SYSTEM "file:///etc/passwd">` + good, "document type definition"},
		"unknown entity":  {strings.Replace(good, "imap.example.org", "&x;", 1), "entity"},
		"deep":            {strings.Repeat("<a>", 80_000), "too many elements, or too deep"},
		"wide":            {"<clientConfig>" + strings.Repeat("<a/>", 20_000), "too many elements"},
		"attributes":      {"<clientConfig " + strings.Repeat(`a="b" `, 20_000), "syntax error"},
		"text in pieces":  {"<clientConfig>" + strings.Repeat("a<!---->", 30_000) + "</clientConfig>", "no client configuration"},
		"HTML":            {"<html><body>not found</body></html>", "no client configuration"},
		"empty":           {"", "is not XML"},
		"encoding":        {`<?xml version="1.0" encoding="x-evil"?>` + good, "encoding"},
		"two roots":       {good + good, "too many elements"},
		"an address":      {strings.Replace(good, "imap.example.org", "192.168.1.1", 1), "names no server"},
		"a single label":  {strings.Replace(good, "imap.example.org", "localhost", 1), "names no server"},
		"odd port":        {strings.Replace(good, "993", "70000", 1), "names no server"},
		"markup in host":  {strings.Replace(good, "imap.example.org", "imap.example.org/x", 1), "names no server"},
	} {
		t.Run(name, func(t *testing.T) {
			w := onlyAutoconfig(t, func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, c.body) })
			a := w.find("me@example.org")
			if got := result(a, "autoconfig"); !strings.Contains(got, c.want) {
				t.Errorf("%q, wanted %q", got, c.want)
			}
			if name != "control" && len(a.Services) > 0 {
				t.Error(explained(a))
			}
		})
	}
}

// A hundred megabytes are not read: the server finds its connection closed.
func TestAttack80HugeDocument(t *testing.T) {
	sent := make(chan int, 1)
	w := onlyAutoconfig(t, func(rw http.ResponseWriter, r *http.Request) {
		chunk, n := bytes.Repeat([]byte("<!-- -->"), 4096), 0
		for n < 100<<20 {
			m, err := rw.Write(chunk)
			n += m
			if err != nil {
				break
			}
		}
		sent <- n
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a := w.find("me@example.org")
	runtime.ReadMemStats(&after)
	if got := result(a, "autoconfig"); got != "gives more than 256 KB" {
		t.Error(got)
	}
	if n := <-sent; n > 20<<20 { // what the kernel keeps on the way
		t.Errorf("%d bytes were taken", n)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 30<<20 {
		t.Errorf("%d bytes were allocated", grown)
	}
}

func TestAttack80Redirects(t *testing.T) {
	to := func(at string) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, at, http.StatusFound) }
	}
	for name, c := range map[string]struct{ at, want string }{
		"same owner":       {"https://example.org/c.xml", "imap imap.example.org:993"},
		"another owner":    {"https://other.net/c.xml", "imap imap.example.org:993"},
		"plain":            {"http://example.org/c.xml", "only https is followed"},
		"another port":     {"https://example.org:8443/c.xml", "port 8443"},
		"an address":       {"https://203.0.113.20/c.xml", "no host of a provider"},
		"loopback":         {"https://127.0.0.1/c.xml", "no host of a provider"},
		"IPv6":             {"https://[::1]/c.xml", "no host of a provider"},
		"a number":         {"https://2130706433/c.xml", "no host of a provider"},
		"a user":           {"https://a:b@example.org/c.xml", "a URL with a user"},
		"a file":           {"file:///etc/passwd", "only https is followed"},
		"gopher":           {"gopher://example.org/", "only https is followed"},
		"a private host":   {"https://inside.other.net/c.xml", "not public"},
		"itself, for ever": {"https://autoconfig.example.org/again", "more than 4 times"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, zone+"inside.other.net. A 10.0.0.1\n")
			w.web("203.0.113.2", to(c.at), "autoconfig.example.org")
			w.web("203.0.113.1", files(map[string]string{"/c.xml": configXML("example.org")}), "example.org")
			w.web("203.0.113.20", files(map[string]string{"/c.xml": configXML("example.org")}), "other.net")
			a := w.find("me@example.org")
			if got := result(a, "autoconfig"); !strings.Contains(got, c.want) {
				t.Errorf("%q, wanted %q", got, c.want)
			}
			if told := strings.Contains(strings.Join(a.Notes, " "), "other.net, to which the domain redirects"); told != (name == "another owner") {
				t.Error(a.Notes)
			}
		})
	}
}

// Over plain HTTP anybody can redirect: what is of another owner, and HTTPS, is not followed.
func TestAttack80PlainRedirects(t *testing.T) {
	for _, at := range []string{"http://other.net/c.xml", "https://example.org/c.xml"} {
		w := newWorld(t, zone)
		w.web("203.0.113.2", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, at, http.StatusFound) })
		w.web("203.0.113.20", files(map[string]string{"/c.xml": configXML("example.org")}))
		w.web("203.0.113.1", files(map[string]string{"/c.xml": configXML("example.org")}), "example.org")
		if a := w.find("me@example.org"); len(a.Services) > 0 || strings.Contains(w.heard.String(), "c.xml") {
			t.Error(explained(a))
		}
	}
}

func TestCertificatesOfWebServersCount(t *testing.T) {
	w := newWorld(t, zone)
	w.web("203.0.113.2", files(map[string]string{"/mail/config-v1.1.xml": configXML("example.org")}), "www.example.org")
	if a := w.find("me@example.org"); len(a.Services) > 0 || result(a, "autoconfig") != "the certificate is for another name" {
		t.Error(explained(a))
	}
}

// Nobody's names can make us connect to what only we can reach.
func TestAttack80NoPrivateAddressIsConnectedTo(t *testing.T) {
	for _, ip := range []string{
		"127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1",
		"::1", "fe80::1", "fc00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "ff02::1",
		"198.18.0.1", "192.88.99.1", "::ffff:0:7f00:1", "2001:0:7f00:1::", "2001:db8::1", "3fff::1", "5f00::1", "64:ff9b:1::7f00:1", "fec0::1", "::127.0.0.1",
	} {
		kind := "A"
		if strings.Contains(ip, ":") {
			kind = "AAAA"
		}
		zone := ""
		for _, name := range []string{"", "autoconfig.", "ua-auto-config.", "autodiscover.", "imap.", "mail.", "smtp.", "pop.", "mx."} {
			zone += fmt.Sprintf("%sexample.org. %s %s\n", name, kind, ip)
		}
		zone += "example.org. MX 1 mx.example.org.\n_autodiscover._tcp.example.org. SRV 0 0 443 mx.example.org.\n"
		w := newWorld(t, zone)
		a := w.find("me@example.org", func(o *Options) { o.Probe = true })
		if len(w.dialed) > 0 || len(a.Services) > 0 {
			t.Errorf("%s: %v was connected to", ip, w.dialed)
		}
		if ip == "10.1.2.3" { // the control
			w.find("me@example.org", func(o *Options) { o.AllowPrivate = true })
			if !slices.Contains(w.dialed, "10.1.2.3:993") {
				t.Error("allow-private connects to nothing")
			}
		}
	}
}

func TestRebindingIsOfNoUse(t *testing.T) {
	w := newWorld(t, zone)
	w.mailAll("203.0.113.8", "imap.example.org", "smtp.example.org", "pop.example.org")
	a := w.find("me@example.org", func(o *Options) { o.Probe = true })
	if len(a.Services) == 0 || !a.Services[0].Probe.OK {
		t.Fatal(explained(a))
	}
	// The zone changes while connections are under way: only the guard's own look counts.
	w = newWorld(t, zone)
	w.web("203.0.113.2", func(rw http.ResponseWriter, r *http.Request) {
		_ = w.dns.SetZone(strings.ReplaceAll(zone, "203.0.113.", "10.0.0."))
		http.Redirect(rw, r, "https://autoconfig.example.org/again.xml", http.StatusFound)
	}, "autoconfig.example.org")
	w.find("me@example.org")
	for _, d := range w.dialed {
		if strings.HasPrefix(d, "10.") {
			t.Errorf("%s was connected to", d)
		}
	}
}

func TestAttack80MarkupInTheAddress(t *testing.T) {
	for _, local := range []string{"a&b", "a'b", "a{b}", "a%41", "a#b", "a?b=c", `"<x>"`, `"a b"`} {
		w := newWorld(t, zone)
		w.web("203.0.113.2", files(map[string]string{"/mail/config-v1.1.xml": configXML("example.org")}), "autoconfig.example.org")
		a := w.find(local + "@example.org")
		if len(a.Services) != 2 || a.Services[0].Username != local+"@example.org" {
			t.Error(local, explained(a))
		}
		for text := range strings.Lines(w.heard.String()) {
			if strings.HasPrefix(text, "GET") && strings.ContainsAny(text, `<>"{}'`) {
				t.Errorf("%q was sent", text)
			}
			if strings.Contains(text, "<EMailAddress>") && strings.Count(text, "<") != 12 {
				t.Errorf("%q was sent", text)
			}
		}
	}
}

func TestWhatIsNoSubject(t *testing.T) {
	f, err := New(Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "com", "me@com", "localhost", "me@[192.0.2.1]", "[192.0.2.1]", "192.0.2.1", "me@192.0.2.1", "::1", "me@[IPv6:::1]", "a@b@", "@example.org",
		"me@exa mple.org", "me@example..org", "me@-x.org", "a\nb@example.org", "me@example.org/x", "https://example.org", "me@1.2", strings.Repeat("a", 65) + "@example.org",
		strings.Repeat("a.", 130) + "org", "me@xn--a.org\x00",
	} {
		if a, err := f.Find(context.Background(), text); err == nil {
			t.Errorf("%q is taken for %s", text, a.Domain)
		}
	}
	for text, want := range map[string]string{"Me@EXAMPLE.org.": "example.org", "me@bücher.example": "xn--bcher-kva.example", "bücher.example": "xn--bcher-kva.example", " gmail.com ": "gmail.com"} {
		if a, err := f.Find(context.Background(), text); err != nil || a.Domain != want {
			t.Errorf("%q: %v %v", text, a, err)
		}
	}
}

// A server that says anything at all costs bounded memory and time.
func TestChattyMailServers(t *testing.T) {
	for name, greeting := range map[string]string{
		"a long line": strings.Repeat("x", 1<<20), "many lines": strings.Repeat("* OK x\r\n", 100_000), "binary": strings.Repeat("\x00\xff", 5000), "nothing": " ",
		"STARTTLS injection": "220 ready\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n220 go\r\n250 AUTH X\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, zone)
			for port, p := range map[string]string{"143": "imap", "587": "smtp", "110": "pop3"} {
				w.mail("203.0.113.8:"+port, post{protocol: p, security: StartTLS, names: []string{"imap.example.org", "smtp.example.org"}, greeting: greeting})
			}
			if a := w.find("me@example.org", func(o *Options) { o.Deadline = 2 * time.Second }); len(a.Services) > 0 {
				t.Error(explained(a))
			}
		})
	}
}

// What strangers say cannot move a terminal's cursor.
func TestStrangersTextIsClean(t *testing.T) {
	w := onlyAutoconfig(t, func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, strings.Replace(configXML("example.org"), "Example Host", "A\u009bB\u202eC"+strings.Repeat("ü", 300), 1))
	})
	a := w.find("me@example.org")
	if strings.ContainsAny(a.Provider, "\u009b\u202e") || len(a.Provider) > 200 || strings.Contains(a.Provider, "\ufffd") {
		t.Errorf("%q", a.Provider)
	}
}

func TestInterrupted(t *testing.T) {
	w := newWorld(t, zone)
	for _, ip := range []string{"1", "2", "3", "4", "8", "9"} {
		for _, port := range []string{"443", "80", "993", "143", "995", "110", "465", "587"} {
			w.silent("203.0.113." + ip + ":" + port)
		}
	}
	f, err := New(w.options())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	if a, err := f.Find(ctx, "me@example.org"); err == nil {
		t.Error(explained(a))
	}
}

// Text that comes in pieces is not copied again and again.
func TestTextInPiecesIsCheap(t *testing.T) {
	cost := func(pieces int) uint64 {
		body := []byte("<a>" + strings.Repeat("a<!---->", pieces) + "</a>")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := parseXML(body); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	if few, many := cost(1_000), cost(16_000); many > 40*few {
		t.Errorf("%d bytes for 1,000 pieces, and %d for 16,000", few, many)
	}
}
