package queue

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// parsed is a report as the standard library reads it.
type parsed struct {
	header   netmail.Header
	kinds    []string
	bodies   []string
	message  textproto.MIMEHeader
	statuses []textproto.MIMEHeader
}

func parseReport(t *testing.T, text string) parsed {
	t.Helper()
	if strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\n") || strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\r") {
		t.Error("a bare CR or LF")
	}
	msg, err := netmail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("%s %v %v", kind, params, err)
	}
	p := parsed{header: msg.Header}
	r := multipart.NewReader(msg.Body, params["boundary"])
	for {
		part, err := r.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type"))
		p.kinds = append(p.kinds, kind)
		p.bodies = append(p.bodies, string(body))
	}
	if len(p.bodies) < 2 {
		t.Fatalf("%d parts", len(p.bodies))
	}
	tr := textproto.NewReader(bufio.NewReader(strings.NewReader(p.bodies[1] + "\r\n\r\n")))
	if p.message, err = tr.ReadMIMEHeader(); err != nil {
		t.Fatal(err)
	}
	for {
		h, err := tr.ReadMIMEHeader()
		if len(h) == 0 || err != nil {
			return p
		}
		p.statuses = append(p.statuses, h)
	}
}

func TestFailureReport(t *testing.T) {
	b := newBench(t, nil)
	b.courier.script = func(_ Job, r mail.Recipient) Result {
		switch r.Address.Local {
		case "bob":
			return unknown
		case "null":
			return Result{Code: 556, Enhanced: "5.1.10", Text: "the domain example.org takes no mail"}
		}
		return ok
	}
	env := envelope("alice@martlet.test", "bob@example.org", "fine@example.org", "null@example.org", "quiet@example.org")
	env.To[0].ORcpt = "rfc822;robert@example.org"
	env.To[3].Notify = mail.NotifyNever
	env.EnvID, env.Helo = "QQ314159", "laptop.test"
	b.enqueue(Entry{Envelope: env, Parcel: b.parcel(sample)})
	b.pump()
	b.empty()
	if len(b.reports.text) != 1 {
		t.Fatalf("%d reports", len(b.reports.text))
	}
	p := parseReport(t, b.reports.text[0])
	for name, want := range map[string]string{
		"From": "Mail Delivery System <MAILER-DAEMON@mx.martlet.test>", "To": "alice@martlet.test",
		"Auto-Submitted": "auto-replied", "References": "<1@martlet.test>", "Mime-Version": "1.0",
		"Date": "Sun, 01 Mar 2026 12:00:00 +0000", "Subject": "Your message could not be delivered",
	} {
		if got := p.header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if fmt.Sprint(p.kinds) != "[text/plain message/delivery-status text/rfc822-headers]" {
		t.Errorf("%v", p.kinds)
	}
	for _, want := range []string{"bob@example.org\r\n    mx1.example.org answered 550 5.1.1 User unknown\r\n    Check the address",
		"null@example.org\r\n    the domain example.org takes no mail\r\n    The domain takes no mail at all", "Its subject was: Dinner"} {
		if !strings.Contains(p.bodies[0], want) {
			t.Errorf("no %q in\n%s", want, p.bodies[0])
		}
	}
	if head, _, _ := strings.Cut(sample, "At eight"); p.bodies[2] != head {
		t.Errorf("%q", p.bodies[2])
	}
	if p.message.Get("Reporting-MTA") != "dns; mx.martlet.test" || p.message.Get("Original-Envelope-Id") != "QQ314159" ||
		p.message.Get("Received-From-MTA") != "dns; laptop.test" {
		t.Errorf("%v", p.message)
	}
	if len(p.statuses) != 2 {
		t.Fatalf("%v", p.statuses)
	}
	for name, want := range map[string]string{
		"Original-Recipient": "rfc822; robert@example.org", "Final-Recipient": "rfc822; bob@example.org", "Action": "failed",
		"Status": "5.1.1", "Remote-MTA": "dns; mx1.example.org", "Diagnostic-Code": "smtp; 550 5.1.1 User unknown",
	} {
		if got := p.statuses[0].Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if s := p.statuses[1]; s.Get("Status") != "5.1.10" || s.Get("Remote-MTA") != "" {
		t.Errorf("%v", s)
	}
	e := b.reports.envs[0]
	if !e.From.IsZero() || len(e.To) != 1 || e.To[0].Address.String() != "alice@martlet.test" || e.To[0].Notify != mail.NotifyNever {
		t.Errorf("%+v", e)
	}
}

// Who is told what, and when (RFC 3461, 4.1; RFC 5321, 6.1).
func TestNotify(t *testing.T) {
	all := mail.NotifySuccess | mail.NotifyFailure | mail.NotifyDelay
	noDSN := ok
	noDSN.DSN = false
	for _, c := range []struct {
		from   string
		notify mail.Notify
		result Result
		road   Road
		want   string // actions
	}{
		{"alice@martlet.test", mail.NotifyDefault, unknown, Remote, "failed"},
		{"alice@martlet.test", mail.NotifyFailure, unknown, Remote, "failed"},
		{"alice@martlet.test", mail.NotifySuccess, unknown, Remote, ""},
		{"alice@martlet.test", mail.NotifyDelay, unknown, Remote, ""},
		{"alice@martlet.test", mail.NotifyNever, unknown, Remote, ""},
		{"", mail.NotifyDefault, unknown, Remote, ""},
		{"", all, unknown, Remote, ""},
		{"alice@martlet.test", mail.NotifyDefault, greylist, Remote, "delayed failed"},
		{"alice@martlet.test", mail.NotifyDelay, greylist, Remote, "delayed"},
		{"alice@martlet.test", mail.NotifyFailure, greylist, Remote, "failed"},
		{"alice@martlet.test", all, greylist, Remote, "delayed failed"},
		{"alice@martlet.test", mail.NotifyNever, greylist, Remote, ""},
		{"", mail.NotifyDefault, greylist, Remote, ""},
		{"alice@martlet.test", mail.NotifyDefault, noDSN, Remote, ""},
		{"alice@martlet.test", all, noDSN, Remote, "relayed"},
		{"alice@martlet.test", all, ok, Remote, ""},
		{"alice@martlet.test", mail.NotifyFailure, noDSN, Remote, ""},
		{"alice@martlet.test", all, noDSN, Local, "delivered"},
		{"", all, noDSN, Remote, ""},
	} {
		b := newBench(t, func(o *Options) { o.Gaps = []time.Duration{4 * time.Hour} })
		b.courier.script, b.local.script = always(c.result), always(c.result)
		env := envelope(c.from, "bob@example.org")
		env.To[0].Notify = c.notify
		b.enqueue(Entry{Envelope: env, Parcel: b.parcel(sample), Road: c.road})
		b.pump()
		b.pass(6*24*time.Hour, 4*time.Hour)
		b.empty()
		var got []string
		for _, r := range b.reports.all() {
			for _, s := range parseReport(t, r).statuses {
				got = append(got, s.Get("Action"))
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestDelayReport(t *testing.T) {
	b := newBench(t, nil)
	b.courier.script = always(greylist)
	b.put("alice@martlet.test", "bob@example.org")
	b.pump()
	b.pass(3*time.Hour+50*time.Minute, 10*time.Minute)
	b.pass(9*time.Minute, time.Minute)
	if len(b.reports.all()) != 0 {
		t.Error("too early")
	}
	b.pass(time.Hour, time.Minute)
	b.pass(48*time.Hour, 30*time.Minute)
	if len(b.reports.all()) != 1 {
		t.Fatalf("%d reports", len(b.reports.all()))
	}
	p := parseReport(t, b.reports.text[0])
	s := p.statuses[0]
	if s.Get("Action") != "delayed" || s.Get("Status") != "4.7.1" || s.Get("Will-Retry-Until") != "Fri, 06 Mar 2026 12:00:00 +0000" {
		t.Errorf("%v", s)
	}
	if !strings.Contains(p.bodies[0], "tried for another 5 days") {
		t.Error(p.bodies[0])
	}
	b.sound()
}

// What goes back of the message (RFC 3461, 4.3), also if it is odd.
func TestReturnedContent(t *testing.T) {
	utf8 := "From: alice@martlet.test\r\nSubject: Grüße\r\n\r\nbody\r\n"
	latin := "From: alice@martlet.test\r\nSubject: Gr\xfc\xdfe\r\n\r\nb\xf6dy\r\n"
	long := "Subject: x\r\n" + strings.Repeat("X-Long: "+strings.Repeat("y", 60)+"\r\n", 2000) + "\r\nbody\r\n"
	for _, c := range []struct {
		name, text string
		change     func(*mail.Envelope)
		kind       string
		want       string // the content
		eight      bool
		utf8       bool
	}{
		{"headers", sample, func(e *mail.Envelope) { e.Ret = mail.RetHeaders }, "text/rfc822-headers", sample[:strings.Index(sample, "At")], false, false},
		{"full", sample, func(e *mail.Envelope) { e.Ret = mail.RetFull }, "message/rfc822", sample, false, false},
		{"full, 8-bit", latin, func(e *mail.Envelope) { e.Ret = mail.RetFull }, "message/rfc822", latin, true, false},
		{"8-bit header", latin, func(e *mail.Envelope) {}, "text/rfc822-headers", latin[:strings.Index(latin, "b\xf6")], true, false},
		{"internationalized", utf8, func(e *mail.Envelope) { e.UTF8 = true }, "message/global-headers", utf8[:strings.Index(utf8, "body")], true, true},
		{"internationalized, full", utf8, func(e *mail.Envelope) { e.UTF8 = true; e.Ret = mail.RetFull }, "message/global", utf8, true, true},
		{"internationalized recipient", sample, func(e *mail.Envelope) { e.UTF8 = true; e.To[0].Address.Local = "bøb" }, "message/global-headers", sample[:strings.Index(sample, "At")], true, true},
		{"binary", sample, func(e *mail.Envelope) { e.Ret = mail.RetFull; e.Binary = true }, "text/rfc822-headers", sample[:strings.Index(sample, "At")], false, false},
		{"long header", long, func(e *mail.Envelope) {}, "text/rfc822-headers", long[:12+481*70], false, false},
		{"no header", "\r\nbody\r\n", func(e *mail.Envelope) {}, "text/rfc822-headers", "\r\n", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			b.courier.script = always(unknown)
			env := envelope("alice@martlet.test", "bob@example.org")
			c.change(&env)
			b.enqueue(Entry{Envelope: env, Parcel: b.parcel(c.text)})
			b.pump()
			if len(b.reports.text) != 1 {
				t.Fatalf("%d reports", len(b.reports.text))
			}
			p := parseReport(t, b.reports.text[0])
			if p.kinds[2] != c.kind || p.bodies[2] != c.want && len(c.want) < 1000 {
				t.Errorf("%s: %q", p.kinds[2], p.bodies[2])
			}
			if len(c.want) >= 1000 && (!strings.HasPrefix(c.text, p.bodies[2]) || len(p.bodies[2]) > maxReturned || len(p.bodies[2]) < maxReturned-100) {
				t.Errorf("%d bytes", len(p.bodies[2]))
			}
			if e := b.reports.envs[0]; e.Body8Bit != c.eight || e.UTF8 != c.utf8 {
				t.Errorf("%+v", e)
			}
			if eight := has8Bit([]byte(b.reports.text[0])); eight && !c.eight {
				t.Error("8-bit bytes in a 7-bit report")
			}
		})
	}
}

// A peer's words cannot break out of their line.
func TestReportIsNotInjected(t *testing.T) {
	b := newBench(t, nil)
	evil := Result{Code: 550, Enhanced: "5.1.1", Text: "x\r\nBcc: y@z\r\n\r\n--\x00\x1b[31mé", Host: "mx\r\n.test"}
	b.courier.script = always(evil)
	env := envelope("alice@martlet.test", "bob@example.org")
	env.EnvID, env.To[0].ORcpt = "a\r\nb", "rfc822;c\r\nd"
	b.enqueue(Entry{Envelope: env, Parcel: b.parcel("Subject: =?utf-8?q?a=0D=0ABcc:_x?=\r\nMessage-ID: <a b>\r\n\r\n")})
	b.pump()
	p := parseReport(t, b.reports.text[0])
	if len(p.statuses) != 1 || p.statuses[0].Get("Bcc") != "" || p.message.Get("b") != "" || strings.Contains(b.reports.text[0], "\r\nBcc") || strings.ContainsAny(b.reports.text[0], "\x00\x1b") {
		t.Errorf("%q", b.reports.text[0])
	}
}

// A report that cannot be sent now is sent later, one that can never be is dropped,
// and one that was too large goes without the message.
func TestReportTrouble(t *testing.T) {
	b := newBench(t, nil)
	b.courier.script = always(unknown)
	b.reports.err = fault.New(fault.Unavailable, "disk full")
	b.put("alice@martlet.test", "bob@example.org")
	b.pump()
	b.sound()
	b.restart()
	b.pump()
	b.reports.err = nil
	b.pass(time.Minute, time.Minute)
	if len(b.reports.all()) != 0 {
		t.Error("tried again at once")
	}
	b.pass(10*time.Minute, time.Minute)
	if len(b.reports.all()) != 1 {
		t.Error("not tried again")
	}
	b.empty()

	b.reports.err = fault.New(fault.NotFound, "no such mailbox")
	b.put("alice@martlet.test", "bob@example.org")
	b.pump()
	b.empty()

	b.reports.err = fault.New(fault.TooLarge, "message is larger than 100 bytes")
	env := envelope("alice@martlet.test", "bob@example.org")
	env.Ret = mail.RetFull
	asked := 0
	take := b.q.opt.Report
	b.q.opt.Report = func(ctx context.Context, key string, env mail.Envelope, r io.Reader) error {
		if asked++; asked == 2 {
			b.reports.err = nil
		}
		return take(ctx, key, env, r)
	}
	b.enqueue(Entry{Envelope: env, Parcel: b.parcel(sample)})
	b.pump()
	b.empty()
	if r := b.reports.all(); asked != 2 || len(r) != 2 || !strings.Contains(r[1], "text/rfc822-headers") {
		t.Errorf("%d %q", asked, r)
	}
}

// The message itself is damaged: the sender is told all the same.
func TestReportWithoutMessage(t *testing.T) {
	b := newBench(t, nil)
	b.courier.script = always(unknown)
	id := b.put("alice@martlet.test", "bob@example.org")
	err := b.eng.Update(t.Context(), shard, func(w engine.Writer) error {
		return w.Put(engine.Key(famPiece, uint64(id), 0), []byte("damaged"))
	})
	if err != nil {
		t.Fatal(err)
	}
	b.pump()
	b.empty()
	if r := b.reports.all(); len(r) != 1 || !strings.Contains(r[0], "cannot be read any more") {
		t.Errorf("%q", r)
	}
}

// The key of a report does not change over a restart.
func TestReportKey(t *testing.T) {
	about := []subject{{n: 1}, {n: 12}}
	if a, b := reportKey(7, owedFailure, about), reportKey(7, owedFailure, about); a != b {
		t.Error(a, b)
	}
	if a, b := reportKey(7, owedFailure, about), reportKey(7, owedFailure, []subject{{n: 11}, {n: 2}}); a == b {
		t.Error(a)
	}
}

func TestAdvice(t *testing.T) {
	for status, want := range map[string]string{
		"5.1.10": "takes no mail", "5.1.1": "typing mistakes, or ask", "5.1.2": "after the @", "5.2.2": "full", "5.2.1": "cannot take mail now",
		"5.4.7": "for days", "5.4.4": "as it is set up", "5.4.6": "circle", "5.3.4": "too large", "5.6.7": "letters beyond", "5.6.3": "in this form",
		"5.7.1": "rules", "5.0.0": "this report", "5.3.0": "this report",
	} {
		if got := advice(status); !strings.Contains(got, want) {
			t.Errorf("%s: %s", status, got)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "1 s", 59 * time.Second: "59 s", 5 * time.Minute: "5 min", 100 * time.Minute: "2 h", 30 * time.Hour: "30 h", 5 * 24 * time.Hour: "5 days",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

// What becomes of a message that must not travel in the clear is told by a report that must
// not either, without the body, whatever RET says (RFC 8689, 5).
func TestReportOfRequireTLS(t *testing.T) {
	for _, require := range []bool{true, false} {
		b := newBench(t, nil)
		b.courier.script = always(unknown)
		env := envelope("alice@martlet.test", "bob@example.org")
		env.Ret, env.RequireTLS = mail.RetFull, require
		b.enqueue(Entry{Envelope: env, Parcel: b.parcel(sample)})
		b.pump()
		if len(b.reports.text) != 1 {
			t.Fatalf("%d reports", len(b.reports.text))
		}
		if got := b.reports.envs[0].RequireTLS; got != require {
			t.Errorf("REQUIRETLS of the report: %v, want %v", got, require)
		}
		if whole := strings.Contains(b.reports.text[0], "At eight?"); whole == require {
			t.Errorf("REQUIRETLS %v: the body came back: %v", require, whole)
		}
	}
}
