package report_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/check/dmarc"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/report"
	"github.com/martlet-mail/martlet/internal/report/aggregate"
	"github.com/martlet-mail/martlet/internal/report/tlsrpt"
)

var midnight = time.Date(2026, 3, 5, 0, 0, 0, 0, time.UTC)

// Asks: bank.test for reports at home, asks.test for them at third.test, which takes them
// for it, rude.test at victim.test, which does not, and down.test at a host without DNS.
const world = `
_dmarc.bank.test.   TXT "v=DMARC1; p=reject"
_dmarc.third.test.  TXT "v=DMARC1; p=none"
asks.test._report._dmarc.third.test. TXT "v=DMARC1"
moved.test._report._dmarc.third.test. TXT "v=DMARC1; rua=mailto:new@third.test"
! servfail _dmarc.down.test
_smtp._tls.far.test. TXT "v=TLSRPTv1; rua=mailto:tls@far.test"
_smtp._tls.two.test. TXT "v=TLSRPTv1; rua=mailto:a@two.test"
_smtp._tls.two.test. TXT "v=TLSRPTv1; rua=mailto:b@two.test"
! servfail _smtp._tls.broken.test
`

// send lets the book send what is due at a time, and returns what went out.
func (h *house) send(at time.Time) []sent {
	h.t.Helper()
	h.set(at)
	h.flush()
	if err := h.book.Send(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	return h.outbox()
}

// states are what is known of our reports.
func (h *house) states() string {
	h.t.Helper()
	list, err := h.book.SentSince(h.t.Context(), report.Query{})
	if err != nil {
		h.t.Fatal(err)
	}
	var b strings.Builder
	for _, s := range list {
		b.WriteString(s.Kind.String() + " " + s.Domain + " " + string(s.State) + " " + strings.Join(s.To, ",") + " " + s.Reason + "\n")
	}
	return b.String()
}

func saw(h *house, domain, policy string) {
	m := message(noon, domain)
	m.Policy = policy
	h.book.Saw(m)
}

// A day's reports go out once, in the hours after its end, each at a minute of its own that a
// restart does not change; nothing goes out before.
func TestSchedule(t *testing.T) {
	h := newHouse(t, "")
	for i := range 40 {
		domain := "d" + string(rune('a'+i%20)) + string(rune('a'+i/20)) + ".test"
		saw(h, domain, "v=DMARC1; p=none; rua=mailto:r@"+domain)
	}
	if got := h.send(midnight); len(got) != 0 {
		t.Fatalf("%d reports at midnight", len(got))
	}
	minutes, seen := map[int]int{}, map[string]bool{}
	for m := 1; m <= 241; m++ {
		if m == 100 {
			h.restart()
		}
		for _, s := range h.send(midnight.Add(time.Duration(m) * time.Minute)) {
			minutes[m]++
			to := s.env.To[0].Address.Domain
			if seen[to] {
				t.Errorf("a second report for %s", to)
			}
			seen[to] = true
		}
	}
	if len(seen) != 40 || len(minutes) < 25 {
		t.Errorf("%d reports in %d minutes", len(seen), len(minutes))
	}
	if got := h.send(midnight.Add(48 * time.Hour)); len(got) != 0 || h.owed() != "" {
		t.Errorf("%d reports more, %q", len(got), h.owed())
	}
}

// Reports go where the record says, if whoever is named there wants them.
func TestTargets(t *testing.T) {
	big := "mailto:big@bank.test!1k"
	for _, c := range []struct{ domain, record, to, state string }{
		{"bank.test", "v=DMARC1; p=reject; rua=mailto:r@bank.test", "r@bank.test", "dmarc bank.test sent mailto:r@bank.test "},
		{"bank.test", "v=DMARC1; p=reject; rua=mailto:r@sub.bank.test!10m", "r@sub.bank.test", "dmarc bank.test sent mailto:r@sub.bank.test "},
		{"bank.test", "v=DMARC1; p=reject; rua=" + big, "", "dmarc bank.test dropped  mailto:big@bank.test: the report has"},
		{"bank.test", "v=DMARC1; p=reject; rua=" + big + ",mailto:r@bank.test", "r@bank.test", "dmarc bank.test sent mailto:r@bank.test mailto:big@bank.test: the report has"},
		{"bank.test", "v=DMARC1; p=reject; rua=mailto:r@bank.test,mailto:R@Bank.test", "r@bank.test", "dmarc bank.test sent mailto:r@bank.test "},
		{"asks.test", "v=DMARC1; p=reject; rua=mailto:r@third.test", "r@third.test", "dmarc asks.test sent mailto:r@third.test "},
		{"moved.test", "v=DMARC1; p=reject; rua=mailto:r@third.test", "new@third.test", "dmarc moved.test sent mailto:new@third.test "},
		{"rude.test", "v=DMARC1; p=reject; rua=mailto:v@victim.test", "", "dmarc rude.test not wanted  no report goes to mailto:v@victim.test"},
		{"bank.test", "v=DMARC1; p=reject; rua=https://bank.test/r", "", "dmarc bank.test not wanted  no report goes to https://bank.test/r"},
		{"bank.test", "v=DMARC1; p=reject; aruax=1", "", ""},
		{"bank.test", "v=DMARC1; p=reject; rua=mailto:postmaster@here.test", "", "dmarc bank.test not wanted  no report goes"},
	} {
		h := newHouse(t, world)
		saw(h, c.domain, c.record)
		got := h.send(midnight.Add(5 * time.Hour))
		to := []string{}
		for _, s := range got {
			to = append(to, s.env.To[0].Address.String())
		}
		if strings.Join(to, " ") != c.to || !strings.HasPrefix(h.states(), c.state) || (h.states() == "") != (c.state == "") {
			t.Errorf("%s: to %q, %q\nwant %q, %q", c.record, to, h.states(), c.to, c.state)
		}
	}
}

// What cannot be addressed now is tried again, and given up after a day; nothing is sent
// without somebody who signs it.
func TestAgain(t *testing.T) {
	h := newHouse(t, world)
	saw(h, "down.test", "v=DMARC1; p=none; rua=mailto:r@elsewhere.test")
	h.book.Connected(session(noon, "broken.test", ""))
	tries := 0
	for m := 0; m < 60; m++ {
		before := h.owed()
		if got := h.send(midnight.Add(4*time.Hour + time.Duration(m)*30*time.Minute)); len(got) != 0 {
			t.Fatalf("%+v", got)
		}
		if before != "" {
			tries++
		}
	}
	if want := "dmarc down.test dropped  given up after a day"; !strings.HasPrefix(h.states(), want) || h.owed() != "" || tries < 30 {
		t.Errorf("%q, %q after %d", h.states(), h.owed(), tries)
	}

	h = newHouse(t, world)
	h.fail = errBusy
	saw(h, "bank.test", wantsReports)
	if got := h.send(midnight.Add(5 * time.Hour)); len(got) != 0 || h.owed() == "" {
		t.Errorf("%+v %q", got, h.owed())
	}
	h.fail = nil
	h.restart()
	if got := h.send(midnight.Add(6 * time.Hour)); len(got) != 1 {
		t.Errorf("%d reports", len(got))
	}

	h = newHouse(t, world)
	h.opt.From = func(context.Context) (mail.Address, error) {
		return mail.Address{}, fault.New(fault.Unsupported, "nobody signs")
	}
	h.restart()
	saw(h, "bank.test", wantsReports)
	if got := h.send(midnight.Add(5 * time.Hour)); len(got) != 0 || h.states() != "dmarc bank.test dropped  nobody signs\n" {
		t.Errorf("%+v %q", got, h.states())
	}
}

// file takes the report out of a message.
func fileOf(t *testing.T, text string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "Content-Disposition: attachment;\r\n filename=\"")
	_, rest, _ = strings.Cut(rest, "\r\n\r\n")
	encoded, _, _ := strings.Cut(rest, "\r\n\r\n--")
	packed, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(encoded, "\r\n", ""))
	if !ok || err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

// The whole of an aggregate report, to the letter.
func TestAggregateMessage(t *testing.T) {
	h := newHouse(t, world)
	policy := "v=DMARC1; p=reject; sp=quarantine; np=none; adkim=s; t=y; fo=1; rua=mailto:r@bank.test"
	m := message(noon, "bank.test")
	m.Policy = policy
	for range 3 {
		h.book.Saw(m)
	}
	m.Record = aggregate.Record{
		Source: netip.MustParseAddr("2001:db8::1"), Disposition: "none", HeaderFrom: "news.bank.test", EnvelopeFrom: "",
		Reasons:     []aggregate.Reason{{Type: "mailing_list", Comment: "List-Id & <more>"}},
		DKIMResults: []aggregate.Result{{Domain: "evil.test", Selector: "x", Result: "fail"}, {Domain: "list.test", Selector: "l", Result: "pass"}},
	}
	h.book.Saw(m)
	got := h.send(midnight.Add(5 * time.Hour))
	if len(got) != 1 {
		t.Fatal(len(got))
	}
	env := got[0].env
	if !env.From.IsZero() || env.To[0].Address.String() != "r@bank.test" || env.TLSOptional || env.To[0].Notify != mail.NotifyNever || env.By != (mail.DeliverBy{}) {
		t.Errorf("%+v", env)
	}
	head, _, _ := strings.Cut(got[0].text, "\r\n\r\n")
	const wantHead = "From: postmaster@here.test\r\nTo: r@bank.test\r\nDate: Thu, 05 Mar 2026 05:00:00 +0000\r\nSubject: Report Domain: bank.test\r\n Submitter: here.test\r\n Report-ID: <ID>\r\nMessage-ID: <ID>\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"B\""
	id, _, _ := strings.Cut(got[0].text[strings.Index(got[0].text, "Report-ID: <")+12:], ">")
	boundary, _, _ := strings.Cut(got[0].text[strings.Index(got[0].text, "boundary=\"")+10:], "\"")
	if head = strings.NewReplacer(id, "ID", boundary, "B").Replace(head); head != wantHead {
		t.Errorf("\n%s\nwant\n%s", head, wantHead)
	}
	if !strings.HasPrefix(id, "2026-03-04.") || !strings.HasSuffix(id, "@here.test") || !strings.Contains(got[0].text, "filename=\"here.test!bank.test!1772582400!1772668799.xml.gz\"") {
		t.Errorf("%s\n%s", id, got[0].text)
	}
	text := strings.ReplaceAll(fileOf(t, got[0].text), id, "ID")
	golden(t, "testdata/aggregate.xml", text)
	back, err := aggregate.Parse(t.Context(), strings.NewReader(text), aggregate.Limits{})
	if err != nil || len(back.Records) != 2 || back.Records[0].Count != 3 || back.Records[1].Reasons[0].Comment != "List-Id & <more>" || !back.Policy.Testing {
		t.Errorf("%v\n%+v", err, back)
	}
	if r, ok := dmarc.ParseRecord(policy); !ok || back.Policy.Policy != string(r.Policy) {
		t.Error(back.Policy)
	}
}

// The whole of a TLS report.
func TestTLSMessage(t *testing.T) {
	h := newHouse(t, world)
	sts := tlsrpt.Policy{Type: "sts", Strings: []string{"version: STSv1", "mode: testing", "mx: *.far.test", "max_age: 86400"}, Domain: "far.test", Hosts: []string{"*.far.test"}}
	for range 5 {
		h.book.Connected(report.Session{At: noon, Domain: "far.test", Policy: sts})
	}
	for range 2 {
		h.book.Connected(report.Session{At: noon, Domain: "far.test", Policy: sts, Failure: tlsrpt.Failure{
			Result: "certificate-expired", Sending: "192.0.2.1", Host: "mx.far.test", Helo: "mx", Receiving: "192.0.2.9", Reason: "ended\r\non Monday"}})
	}
	h.book.Connected(session(noon, "far.test", "starttls-not-supported"))
	h.book.Connected(session(noon, "two.test", ""))   // two records: it asks for nothing
	h.book.Connected(session(noon, "plain.test", "")) // nor does it
	got := h.send(midnight.Add(5 * time.Hour))
	if len(got) != 1 || h.states() != "tls far.test sent mailto:tls@far.test \n" || h.owed() != "" {
		t.Fatalf("%d, %q, %q", len(got), h.states(), h.owed())
	}
	text := got[0].text
	if !got[0].env.TLSOptional || !strings.Contains(text, "\r\nTLS-Report-Domain: far.test\r\nTLS-Report-Submitter: here.test\r\n") ||
		!strings.Contains(text, "Content-Type: multipart/report; report-type=\"tlsrpt\";") || !strings.Contains(text, "\r\nContent-Type: application/tlsrpt+gzip\r\n") ||
		!strings.Contains(text, "Subject: Report Domain: far.test\r\n Submitter: here.test\r\n Report-ID: <") || !strings.Contains(text, "!1772582400!1772668799.json.gz\"") {
		t.Error(text)
	}
	id, _, _ := strings.Cut(text[strings.Index(text, "Report-ID: <")+12:], ">")
	file := strings.ReplaceAll(fileOf(t, text), id, "ID")
	golden(t, "testdata/tls.json", file)
	back, err := tlsrpt.Parse(t.Context(), strings.NewReader(file), tlsrpt.Limits{})
	if err != nil || len(back.Policies) != 2 || back.Policies[1].Successes != 5 || back.Policies[1].Failed != 2 || back.Policies[1].Failures[0].Result != "certificate-expired" {
		t.Errorf("%v\n%+v", err, back)
	}
}

// A report about a domain here, or to one, goes into the book and not into the mail.
func TestFiled(t *testing.T) {
	h := newHouse(t, world)
	saw(h, "here.test", "v=DMARC1; p=reject; rua=mailto:postmaster@here.test")
	h.book.Connected(session(noon, "here.test", "certificate-expired"))
	if got := h.send(midnight.Add(5 * time.Hour)); len(got) != 0 || h.states() != "dmarc here.test filed mailto:postmaster@here.test \n" {
		t.Errorf("%+v %q", got, h.states())
	}
	if got := h.view(report.Query{Domain: "here.test"}); !strings.HasPrefix(got, "dmarc here.test 192.0.2.1 1 spf=fail dkim=pass pass by here.test") {
		t.Error(got)
	}
}
