package send

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/sts"
)

const oneHost = `
example.org. IN MX 10 mx1.example.org.
mx1.example.org. IN A 127.0.0.1
mx2.example.org. IN A 127.0.0.2
`

const twoHosts = oneHost + "example.org. IN MX 20 mx2.example.org.\n"

// short is a result as "code enhanced", for tables.
func short(r Result) string { return strings.TrimSpace(fmt.Sprintf("%d %s", r.Code, r.Enhanced)) }

func shorts(rs []Result) string {
	var s []string
	for _, r := range rs {
		s = append(s, short(r))
	}
	return strings.Join(s, ", ")
}

func TestRoutes(t *testing.T) {
	p1, p2 := &peer{}, &peer{}
	port := peers(t, p1, p2)
	zone := twoHosts + `
null.test.      IN MX 0 .
implicit.test.  IN A 127.0.0.1
alias.test.     IN CNAME example.org.
nothing.test.   IN TXT "x"
noaddr.test.    IN MX 10 noaddr.nothing.test.
ours.test.      IN MX 10 mx.martlet.test.
ours.test.      IN MX 20 mx1.example.org.
better.test.    IN MX 5  mx1.example.org.
better.test.    IN MX 10 mx.martlet.test.
equal.test.     IN MX 10 mx1.example.org.
equal.test.     IN MX 10 other-name.test.
byaddr.test.    IN MX 10 self.example.org.
byaddr.test.    IN MX 20 mx1.example.org.
self.example.org. IN A 127.0.0.9
mx.martlet.test. IN A 127.0.0.9
mixed.test.     IN MX 0 .
mixed.test.     IN MX 10 mx1.example.org.
brokenmx.test.  IN MX 10 servfail.test.
half.test.      IN MX 10 servfail.test.
half.test.      IN MX 20 mx1.example.org.
cnamemx.test.   IN MX 10 cname.test.
cname.test.     IN CNAME mx1.example.org.
! servfail servfail.test
! silent silent.test
`
	c := courier(t, port, zone, func(o *Options) {
		o.SelfNames = []string{"Other-Name.test"}
		o.IsSelf = func(a netip.AddrPort) bool { return a.Addr() == netip.MustParseAddr("127.0.0.9") && a.Port() == port }
	})
	for domain, want := range map[string]string{
		"example.org":      "250 2.0.0",
		"null.test":        "556 5.1.10",
		"implicit.test":    "250 2.0.0",
		"alias.test":       "250 2.0.0",
		"nothing.test":     "550 5.4.4",
		"noaddr.test":      "550 5.4.4",
		"missing.test":     "550 5.1.2",
		"ours.test":        "554 5.4.6",
		"better.test":      "250 2.0.0",
		"equal.test":       "554 5.4.6",
		"byaddr.test":      "554 5.4.6",
		"mx.martlet.test":  "554 5.4.6",
		"mixed.test":       "250 2.0.0",
		"servfail.test":    "451 4.4.3",
		"silent.test":      "451 4.4.3",
		"brokenmx.test":    "451 4.4.3",
		"half.test":        "250 2.0.0",
		"cnamemx.test":     "250 2.0.0",
		"[127.0.0.1]":      "250 2.0.0",
		"[127.0.0.9]":      "554 5.4.6",
		"[ipv6:fe80::1%1]": "553 5.1.2",
		"[something]":      "553 5.1.2",
	} {
		env := mail.Envelope{To: []mail.Recipient{{Address: mail.Address{Local: "a", Domain: domain}}}}
		if got := shorts(c.Send(t.Context(), env, text("Subject: x\r\n\r\nbody\r\n"), nil)); got != want {
			t.Errorf("%s: %s, want %s", domain, got, want)
		}
	}
	if n, _ := p2.got(); n != 0 {
		t.Errorf("the worse host got %d", n)
	}
}

func TestAttack31PrivateAddresses(t *testing.T) {
	p := &peer{}
	port := peers(t, p)
	c := courier(t, port, oneHost, func(o *Options) { o.AllowPrivate = false })
	for _, to := range []string{"a@example.org", "a@[127.0.0.1]", "a@[10.1.2.3]", "a@[ipv6:::1]", "a@[100.64.0.1]", "a@[169.254.1.1]", "a@[ipv6:::ffff:127.0.0.1]", "a@[0.0.0.0]"} {
		if got := shorts(c.Send(t.Context(), envelope("s@martlet.test", to), text("x\r\n"), nil)); got != "550 5.4.4" {
			t.Errorf("%s: %s", to, got)
		}
	}
	if _, conns := p.got(); conns != 0 {
		t.Errorf("%d connections", conns)
	}
}

func TestEqualHostsAreShuffled(t *testing.T) {
	p1, p2 := &peer{}, &peer{}
	port := peers(t, p1, p2)
	zone := oneHost + "example.org. IN MX 10 mx2.example.org.\n"
	for _, swap := range []bool{false, true} {
		c := courier(t, port, zone, func(o *Options) {
			o.Shuffle = func(n int, exchange func(i, j int)) {
				if swap {
					exchange(0, n-1)
				}
			}
		})
		c.Send(t.Context(), envelope("", "a@example.org"), text("x\r\n"), nil)
	}
	n1, _ := p1.got()
	n2, _ := p2.got()
	if n1 != 1 || n2 != 1 {
		t.Errorf("%d and %d", n1, n2)
	}
}

// What happens at the first host decides whether the second is tried, and the count
// of copies must be right in each case.
func TestNextHost(t *testing.T) {
	for _, tc := range []struct {
		name   string
		first  *peer
		want   string
		second int // copies at the second host
	}{
		{"works", &peer{}, "250 2.0.0", 0},
		{"drops at once", &peer{dropAt: "CONNECT"}, "250 2.0.0", 1},
		{"temporary greeting", &peer{greeting: "421 4.3.2 busy"}, "250 2.0.0", 1},
		{"permanent greeting", &peer{greeting: "554 no mail here"}, "250 2.0.0", 1},
		{"garbage", &peer{raw: func(c net.Conn) { io.WriteString(c, "\x00\x01HTTP/1.1 200\r\n") }}, "250 2.0.0", 1},
		{"code runs on", &peer{greeting: "2200 hello"}, "250 2.0.0", 1},
		{"drops at EHLO", &peer{dropAt: "EHLO"}, "250 2.0.0", 1},
		{"drops at MAIL", &peer{dropAt: "MAIL"}, "250 2.0.0", 1},
		{"drops at RCPT", &peer{dropAt: "RCPT"}, "250 2.0.0", 1},
		{"drops at DATA", &peer{dropAt: "DATA"}, "250 2.0.0", 1},
		{"drops in the middle", &peer{dropAt: "MIDDLE"}, "250 2.0.0", 1},
		{"drops after the final dot", &peer{dropAt: "."}, "451 4.4.2", 0},
		{"4xx to MAIL", &peer{answers: map[string]func(int, string) string{"MAIL": answering("451 4.7.1 later")}}, "250 2.0.0", 1},
		{"5xx to MAIL", &peer{answers: map[string]func(int, string) string{"MAIL": answering("550 5.7.1 never")}}, "550 5.7.1", 0},
		{"4xx to RCPT", &peer{answers: map[string]func(int, string) string{"RCPT": answering("450 4.7.1 greylisted")}}, "250 2.0.0", 1},
		{"5xx to RCPT", &peer{answers: map[string]func(int, string) string{"RCPT": answering("550 5.1.1 unknown")}}, "550 5.1.1", 0},
		{"5xx without enhanced code", &peer{answers: map[string]func(int, string) string{"RCPT": answering("550 unknown")}}, "550", 0},
		{"4xx to DATA", &peer{answers: map[string]func(int, string) string{"DATA": answering("451 4.3.0 later")}}, "250 2.0.0", 1},
		{"5xx to DATA", &peer{answers: map[string]func(int, string) string{"DATA": answering("554 5.3.0 no")}}, "554 5.3.0", 0},
		{"4xx at the end", &peer{answers: map[string]func(int, string) string{".": answering("452 4.3.1 full")}}, "250 2.0.0", 1},
		{"5xx at the end", &peer{answers: map[string]func(int, string) string{".": answering("554 5.6.0 virus")}}, "554 5.6.0", 0},
		{"421 at the end", &peer{answers: map[string]func(int, string) string{".": answering("421 4.3.2 going down")}}, "250 2.0.0", 1},
		{"3xx to RCPT", &peer{answers: map[string]func(int, string) string{"RCPT": answering("354 what")}}, "250 2.0.0", 1},
		{"silent at the end", &peer{answers: map[string]func(int, string) string{".": func(int, string) string { time.Sleep(2 * time.Second); return "250 ok" }}}, "451 4.4.2", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			second := &peer{}
			c := courier(t, peers(t, tc.first, second), twoHosts, func(o *Options) {
				if strings.HasPrefix(tc.name, "silent") {
					o.Timeouts.Final = 300 * time.Millisecond
				}
			})
			body := "Subject: x\r\n\r\na body\r\n"
			if tc.first.dropAt == "MIDDLE" {
				body = strings.Repeat(body, 1<<18) // more than any buffer on the way holds
			}
			got := c.Send(t.Context(), envelope("s@martlet.test", "a@example.org"), text(body), nil)
			if shorts(got) != tc.want {
				t.Errorf("%+v, want %s", got, tc.want)
			}
			if n, _ := second.got(); n != tc.second {
				t.Errorf("%d copies at the second host", n)
			}
		})
	}
}

// With one host only, a failure is told in words that name the host.
func TestReasons(t *testing.T) {
	gone := &peer{}
	port := peers(t, gone, &peer{answers: map[string]func(int, string) string{"RCPT": answering("450-4.7.1 Greylisted,\r\n450 4.7.1 come back\x07 later")}})
	c := courier(t, port, oneHost+`
grey.test. IN MX 1 mx2.example.org.
dead.test. IN MX 1 dead.example.org.
dead.example.org. IN A 127.0.0.77
`, nil)
	r := c.Send(t.Context(), envelope("s@martlet.test", "a@grey.test"), text("x\r\n"), nil)[0]
	if r.Code != 450 || r.Host != "mx2.example.org" || r.Text != "Greylisted, come back? later" || r.Enhanced != "4.7.1" || !strings.HasPrefix(r.Address, "127.0.0.2:") {
		t.Errorf("%+v", r)
	}
	r = c.Send(t.Context(), envelope("s@martlet.test", "a@dead.test"), text("x\r\n"), nil)[0]
	if r.Code/100 != 4 || r.Host != "" || r.Text != "dead.example.org [127.0.0.77]: connection refused" {
		t.Errorf("%+v", r)
	}
}

// Recipients of one domain share a transaction, and each has its own result.
func TestRecipientsAlone(t *testing.T) {
	p := &peer{ext: []string{"PIPELINING"}, answers: map[string]func(int, string) string{"RCPT": func(_ int, arg string) string {
		switch {
		case strings.Contains(arg, "bad"):
			return "550 5.1.1 unknown"
		case strings.Contains(arg, "full"):
			return "452 4.2.2 mailbox is full"
		}
		return ""
	}}}
	c := courier(t, peers(t, p), oneHost+"example.net. IN MX 1 mx1.example.org.\n", nil)
	got := c.Send(t.Context(), envelope("s@martlet.test", "a@example.org", "bad@example.org", "x@example.net", "full@example.org", "b@EXAMPLE.org"), text("x\r\n"), nil)
	if s := shorts(got); s != "250 2.0.0, 550 5.1.1, 250 2.0.0, 452 4.2.2, 250 2.0.0" {
		t.Error(s)
	}
	if n, conns := p.got(); n != 2 || conns != 1 {
		t.Errorf("%d copies, %d connections", n, conns)
	}
}

// A host that takes a few recipients at a time gets them all on one connection.
func TestTooManyRecipients(t *testing.T) {
	for name, p := range map[string]*peer{
		"452":    {ext: []string{"PIPELINING"}},
		"limits": {ext: []string{"LIMITS MAILMAX=9 RCPTMAX=3", "PIPELINING"}},
	} {
		t.Run(name, func(t *testing.T) {
			inTransaction := 0
			p.answers = map[string]func(int, string) string{
				"MAIL": func(int, string) string { inTransaction = 0; return "" },
				"RCPT": func(int, string) string {
					if inTransaction++; inTransaction > 3 {
						return "452 4.5.3 too many recipients"
					}
					return ""
				}}
			c := courier(t, peers(t, p), oneHost, nil)
			var to []string
			for i := range 10 {
				to = append(to, fmt.Sprintf("r%d@example.org", i))
			}
			var early []int
			settled := func(who []int, r Result) {
				if r.Code != 250 {
					t.Errorf("%+v", r)
				}
				early = append(early, who...)
			}
			for i, r := range c.Send(t.Context(), envelope("", to...), text("x\r\n"), settled) {
				if r.Code != 250 {
					t.Errorf("%d: %+v", i, r)
				}
			}
			if n, conns := p.got(); n != 4 || conns != 1 {
				t.Errorf("%d transactions on %d connections", n, conns)
			}
			if fmt.Sprint(early) != "[0 1 2 3 4 5 6 7 8]" {
				t.Errorf("told early of %v", early)
			}
		})
	}
}

func TestExtensions(t *testing.T) {
	all := []string{"PIPELINING", "SIZE 100000", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "BINARYMIME", "ENHANCEDSTATUSCODES"}
	eight := func(m Message) Message { m.Has8Bit = true; return m }
	utf8 := func(m Message) Message { m.NeedsUTF8 = true; return m }
	dsn := envelope("s@martlet.test", "a@example.org")
	dsn.EnvID, dsn.Ret = "id 1+2", mail.RetHeaders
	dsn.To[0].Notify, dsn.To[0].ORcpt = mail.NotifySuccess|mail.NotifyDelay, "rfc822;a=b@example.org"
	binary := envelope("s@martlet.test", "a@example.org")
	binary.Binary = true
	plain := envelope("s@martlet.test", "a@example.org")
	for _, tc := range []struct {
		name       string
		ext        []string
		env        mail.Envelope
		msg        Message
		want       string
		mail, rcpt string
	}{
		{"size", all, plain, text("x\r\n"), "250 2.0.0", "MAIL FROM:<s@martlet.test> SIZE=3", "RCPT TO:<a@example.org>"},
		{"nothing", nil, plain, text("x\r\n"), "250 2.0.0", "MAIL FROM:<s@martlet.test>", "RCPT TO:<a@example.org>"},
		{"null sender", nil, envelope("", "a@example.org"), text("x\r\n"), "250 2.0.0", "MAIL FROM:<>", "RCPT TO:<a@example.org>"},
		{"too large", []string{"SIZE 2"}, plain, text("x\r\n"), "552 5.3.4", "", ""},
		{"no limit", []string{"SIZE 0"}, plain, text("x\r\n"), "250 2.0.0", "MAIL FROM:<s@martlet.test> SIZE=3", "RCPT TO:<a@example.org>"},
		{"8bit", all, plain, eight(text("\xe4\r\n")), "250 2.0.0", "MAIL FROM:<s@martlet.test> SIZE=3 BODY=8BITMIME", "RCPT TO:<a@example.org>"},
		{"8bit refused", nil, plain, eight(text("\xe4\r\n")), "554 5.6.3", "", ""},
		{"utf8", all, plain, utf8(text("x\r\n")), "250 2.0.0", "MAIL FROM:<s@martlet.test> SIZE=3 BODY=8BITMIME SMTPUTF8", "RCPT TO:<a@example.org>"},
		{"utf8 refused", []string{"8BITMIME"}, plain, utf8(text("x\r\n")), "550 5.6.7", "", ""},
		{"utf8 recipient refused", []string{"8BITMIME"}, envelope("s@martlet.test", "ü@example.org"), text("x\r\n"), "550 5.6.7", "", ""},
		{"utf8 sender refused", nil, envelope("ü@martlet.test", "a@example.org"), text("x\r\n"), "550 5.6.7", "", ""},
		{"domain can be ASCII", nil, envelope("s@bücher.test", "a@bücher.example.org"), text("x\r\n"), "250 2.0.0", "MAIL FROM:<s@xn--bcher-kva.test>", "RCPT TO:<a@xn--bcher-kva.example.org>"},
		{"domain as it is", all, envelope("s@martlet.test", "a@bücher.example.org"), text("x\r\n"), "250 2.0.0", "MAIL FROM:<s@martlet.test> SIZE=3 BODY=8BITMIME SMTPUTF8", "RCPT TO:<a@bücher.example.org>"},
		{"binary", all, binary, text("a\nb\x00"), "250 2.0.0", "MAIL FROM:<s@martlet.test> SIZE=4 BODY=BINARYMIME", "RCPT TO:<a@example.org>"},
		{"binary refused", []string{"CHUNKING", "8BITMIME"}, binary, text("a\nb\x00"), "554 5.6.3", "", ""},
		{"dsn", all, dsn, text("x\r\n"), "250 2.0.0", "MAIL FROM:<s@martlet.test> SIZE=3 RET=HDRS ENVID=id+201+2B2", "RCPT TO:<a@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+3Db@example.org"},
		{"no dsn", []string{"SIZE"}, dsn, text("x\r\n"), "250 2.0.0", "MAIL FROM:<s@martlet.test> SIZE=3", "RCPT TO:<a@example.org>"},
		{"quoted", nil, envelope("s@martlet.test", `"a b>"@example.org`), text("x\r\n"), "250 2.0.0", "MAIL FROM:<s@martlet.test>", `RCPT TO:<"a b>"@example.org>`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &peer{ext: tc.ext}
			c := courier(t, peers(t, p), oneHost+"xn--bcher-kva.example.org. IN MX 1 mx1.example.org.\n", nil)
			got := c.Send(t.Context(), tc.env, tc.msg, nil)
			if shorts(got) != tc.want {
				t.Errorf("%+v", got)
			}
			if got[0].DSN != (len(tc.ext) > 4 && got[0].Code == 250) {
				t.Errorf("DSN %v", got[0].DSN)
			}
			if m := strings.Join(p.commands("MAIL"), "; "); m != tc.mail {
				t.Errorf("%s", m)
			}
			if r := strings.Join(p.commands("RCPT"), "; "); r != tc.rcpt {
				t.Errorf("%s", r)
			}
			if tc.env.Binary && len(p.mails) > 0 && string(p.mails[0]) != "a\nb\x00" {
				t.Errorf("%q", p.mails[0])
			}
		})
	}
}

func TestHELOForOldHosts(t *testing.T) {
	p := &peer{answers: map[string]func(int, string) string{"EHLO": answering("502 what")}}
	c := courier(t, peers(t, p), oneHost, nil)
	if got := shorts(c.Send(t.Context(), envelope("", "a@example.org"), text("x\r\n"), nil)); got != "250 2.0.0" {
		t.Error(got)
	}
	if len(p.commands("HELO mx.martlet.test")) != 1 {
		t.Error("no HELO")
	}
}

// Whatever the message holds, the peer sees one message with the same lines, only
// CRLF as line ends, and no end of data before the end (attacks of the kind
// "LF . LF").
func TestAttack07Smuggling(t *testing.T) {
	for in, want := range map[string]string{
		"a\r\n.\r\nb\r\n":                 "a\r\n.\r\nb\r\n",
		".\r\n":                           ".\r\n",
		"..\r\n.a\r\n":                    "..\r\n.a\r\n",
		"a\n.\nMAIL FROM:<x@y>\r\n":       "a\r\n.\r\nMAIL FROM:<x@y>\r\n",
		"a\r.\rRSET\r\n":                  "a\r\n.\r\nRSET\r\n",
		"a\n.\r\nb":                       "a\r\n.\r\nb\r\n",
		"a\r\n.\nb\r\r\n":                 "a\r\n.\r\nb\r\n\r\n",
		"no end":                          "no end\r\n",
		"":                                "",
		"\r":                              "\r\n",
		strings.Repeat("x", 70000) + "\r": strings.Repeat("x", 70000) + "\r\n",
	} {
		p := &peer{}
		c := courier(t, peers(t, p), oneHost, nil)
		if got := shorts(c.Send(t.Context(), envelope("", "a@example.org"), text(in), nil)); got != "250 2.0.0" {
			t.Errorf("%q: %s", in, got)
		}
		if len(p.mails) != 1 || string(p.mails[0]) != want {
			t.Errorf("%.60q arrived as %.60q", in, p.mails)
		}
		if len(p.commands("RSET")) != 0 || len(p.commands("MAIL")) != 1 {
			t.Errorf("%q: %q", in, p.lines)
		}
	}
}

// Half a message is never ended as if it were whole.
func TestUnreadableMessage(t *testing.T) {
	p := &peer{}
	c := courier(t, peers(t, p), oneHost, nil)
	r := c.Send(t.Context(), envelope("", "a@example.org"), broken("Subject: x\r\n\r\nhalf"), nil)[0]
	if r.Code != 451 || r.Host != "" || strings.Contains(r.Text, "disk") {
		t.Errorf("%+v", r)
	}
	if n, _ := p.got(); n != 0 || p.count(".") != 0 {
		t.Error("the end was marked")
	}
}

func TestStartTLS(t *testing.T) {
	conf, pool := certificate(t, "mx1.example.org")
	wrong, _ := certificate(t, "elsewhere.test")
	for _, tc := range []struct {
		name  string
		peer  *peer
		mode  TLSMode
		want  string
		tls   string
		conns int
	}{
		{"verified", &peer{tls: conf}, TLSOpportunistic, "250 2.0.0", "TLS 1.3, certificate verified", 1},
		{"wrong name", &peer{tls: wrong}, TLSOpportunistic, "250 2.0.0", "TLS 1.3, certificate not verified", 1},
		{"no certificate", &peer{tls: &tls.Config{}}, TLSOpportunistic, "250 2.0.0", "", 2},
		{"refused", &peer{answers: map[string]func(int, string) string{"STARTTLS": answering("454 4.7.0 not now")}}, TLSOpportunistic, "250 2.0.0", "", 1},
		{"injection", &peer{tls: conf, after220: "\r\n250 injected"}, TLSOpportunistic, "421 4.7.0", "", 1},
		{"required", &peer{tls: wrong}, TLSRequired, "250 2.0.0", "TLS 1.3, certificate not verified", 1},
		{"required, broken", &peer{tls: &tls.Config{}}, TLSRequired, "454 4.7.5", "", 1},
		{"required, refused", &peer{answers: map[string]func(int, string) string{"STARTTLS": answering("454 4.7.0 not now")}}, TLSRequired, "454 4.7.0", "", 1},
		{"verification wanted", &peer{tls: conf}, TLSVerified, "250 2.0.0", "TLS 1.3, certificate verified", 1},
		{"verification fails", &peer{tls: wrong}, TLSVerified, "454 4.7.5", "", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.peer.ext = []string{"STARTTLS"}
			c := courier(t, peers(t, tc.peer), oneHost, func(o *Options) {
				o.TLS = &tls.Config{RootCAs: pool}
				o.Routes = []Route{{Domain: "*", TLS: tc.mode}}
			})
			r := c.Send(t.Context(), envelope("", "a@example.org"), text("x\r\n"), nil)[0]
			if short(r) != tc.want || r.TLS != tc.tls {
				t.Errorf("%+v", r)
			}
			if _, conns := tc.peer.got(); conns != tc.conns {
				t.Errorf("%d connections", conns)
			}
			if strings.Contains(r.Text, "injected") {
				t.Error("the injected line was taken for an answer")
			}
		})
	}
}

// policyOf is an MTA-STS policy of every domain.
func policyOf(mode sts.Mode, hosts ...string) func(context.Context, string) (sts.Found, error) {
	return func(context.Context, string) (sts.Found, error) {
		return sts.Found{ID: "1", Policy: &sts.Policy{Mode: mode, MaxAge: time.Hour, MX: hosts}}, nil
	}
}

// A policy that names no reason to trust a host keeps the mail here.
func TestPolicyError(t *testing.T) {
	p := &peer{}
	c := courier(t, peers(t, p), oneHost, func(o *Options) {
		o.STS = policyOf("enforce", "mx2.example.org")
	})
	r := c.Send(t.Context(), envelope("", "a@example.org"), text("x\r\n"), nil)[0]
	if r.Code != 451 || !strings.Contains(r.Text, "the MTA-STS policy of example.org does not name the mail host mx1.example.org") {
		t.Errorf("%+v", r)
	}
	if _, conns := p.got(); conns != 0 {
		t.Error("it was tried")
	}
}

// An endless answer costs bounded memory and is a temporary failure.
func TestAttack15EndlessReplies(t *testing.T) {
	for name, unit := range map[string]string{"line": strings.Repeat("x", 1000), "continuations": "220-more\r\n"} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan int, 1)
			p := &peer{raw: func(c net.Conn) {
				n := 0
				io.WriteString(c, "220-")
				for n < 64<<20 {
					m, err := io.WriteString(c, unit)
					n += m
					if err != nil {
						break
					}
				}
				sent <- n
			}}
			c := courier(t, peers(t, p), oneHost, nil)
			if r := c.Send(t.Context(), envelope("", "a@example.org"), text("x\r\n"), nil)[0]; r.Code/100 != 4 {
				t.Errorf("%+v", r)
			}
			if n := <-sent; n >= 64<<20 {
				t.Error("all of it was read")
			}
		})
	}
}

func TestCancelledSendEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := &peer{answers: map[string]func(int, string) string{"MAIL": func(int, string) string { cancel(); time.Sleep(time.Second); return "" }}}
	c := courier(t, peers(t, p), oneHost, func(o *Options) { o.Timeouts.Command = time.Minute })
	if r := c.Send(ctx, envelope("", "a@example.org"), text("x\r\n"), nil)[0]; r.Code/100 != 4 {
		t.Errorf("%+v", r)
	}
}

func TestAttack31ManyMX(t *testing.T) {
	var z strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&z, "many.test. IN MX %d h%d.many.test.\nh%d.many.test. IN A 127.1.%d.%d\n", i, i, i, i/200, i%200+1)
	}
	dials := 0
	c := courier(t, 1, z.String(), func(o *Options) {
		o.Dial = func(context.Context, string, string) (net.Conn, error) {
			dials++
			return nil, io.ErrUnexpectedEOF
		}
	})
	if r := c.Send(t.Context(), envelope("", "a@many.test"), text("x\r\n"), nil)[0]; r.Code/100 != 4 || dials != maxAttempts {
		t.Errorf("%+v after %d", r, dials)
	}
}

func FuzzReply(f *testing.F) {
	f.Add([]byte("250 2.0.0 ok\r\n"))
	f.Add([]byte("250-a\r\n250 b\r\n"))
	f.Add([]byte("450-4.7.1 a\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if !bytes.HasSuffix(b, []byte("\n")) {
			b = append(b, '\n')
		}
		a, conn := net.Pipe()
		defer a.Close()
		go func() {
			defer conn.Close()
			conn.Write(b)
		}()
		s := &session{c: &Courier{opt: Options{Timeouts: Timeouts{}.filled()}}, stop: func() bool { return true }}
		s.use(a)
		rep, err := s.reply(time.Second)
		if err != nil {
			if r := resultOf(err); r.Code/100 != 4 {
				t.Fatalf("%+v", r)
			}
			return
		}
		r := s.result(rep)
		if r.Code < 200 || r.Code > 599 || len(r.Text) > maxText || strings.ContainsAny(r.Text, "\r\n\x00\x1b") {
			t.Fatalf("%+v", r)
		}
	})
}

// What a man in the middle puts behind the answer to STARTTLS is not taken for what the
// host says under TLS: the connection is given up, and nothing goes out in the clear.
func TestAttack12InjectedReplies(t *testing.T) {
	conf, pool := certificate(t, "mx1.example.org")
	for _, behind := range []string{"\r\n250 injected", "\r\n220 2.0.0 injected\r\n250 injected", "\r\n5", "\r\n554 injected\r\n"} {
		for _, mode := range []TLSMode{TLSOpportunistic, TLSRequired, TLSVerified} {
			p := &peer{tls: conf, after220: behind, ext: []string{"STARTTLS"}}
			c := courier(t, peers(t, p), oneHost, func(o *Options) {
				o.TLS = &tls.Config{RootCAs: pool}
				o.Routes = []Route{{Domain: "example.org", TLS: mode}}
			})
			r := c.Send(t.Context(), envelope("", "a@example.org"), text("x\r\n"), nil)[0]
			if n, _ := p.got(); n != 0 || r.Code/100 != 4 || strings.Contains(r.Text, "injected") {
				t.Errorf("%q, mode %v: %+v, %d mails", behind, mode, r, n)
			}
		}
	}
}

// A host that must speak TLS and does not offer it any more gets nothing; the mail waits.
func TestAttack13StrippedTLS(t *testing.T) {
	_, leaf := newCA(t).sign("mx1.example.org", time.Hour, true)
	for name, p := range map[string]*peer{
		"not offered": {}, "refused": {ext: []string{"STARTTLS"}, answers: map[string]func(int, string) string{"STARTTLS": answering("502 5.5.1 no such thing")}},
		"offered under another name": {ext: []string{"XTARTTLS"}},
	} {
		for by, change := range map[string]func(*Options){
			"MTA-STS": func(o *Options) { o.STS = policyOf(sts.Enforce, "mx1.example.org") },
			"DANE":    nil,
		} {
			port, zone := peers(t, p), oneHost
			if by == "DANE" {
				zone = signedZone(port, tlsaOf(3, 1, 1, leaf))
			}
			r := courier(t, port, zone, change).Send(t.Context(), envelope("", "a@example.org"), text("x\r\n"), nil)[0]
			if n, _ := p.got(); n != 0 || short(r) != "454 4.7.0" || r.Line.Failure != mail.NoSTARTTLS {
				t.Errorf("%s, %s: %+v, %d mails", name, by, r, n)
			}
		}
	}
	for _, mode := range []TLSMode{TLSRequired, TLSVerified, TLSDANE} {
		for name, p := range map[string]*peer{
			"not offered": {}, "refused": {ext: []string{"STARTTLS"}, answers: map[string]func(int, string) string{"STARTTLS": answering("502 5.5.1 no such thing")}},
			"offered under another name": {ext: []string{"XTARTTLS"}},
		} {
			c := courier(t, peers(t, p), oneHost, func(o *Options) {
				o.Routes = []Route{{Domain: "example.org", TLS: mode}}
			})
			r := c.Send(t.Context(), envelope("", "a@example.org"), text("x\r\n"), nil)[0]
			if n, _ := p.got(); n != 0 || r.Code/100 != 4 {
				t.Errorf("%s, mode %v: %+v, %d mails", name, mode, r, n)
			}
		}
	}
}
