package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"net/smtp"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/check"
	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/check/dmarc"
	"github.com/martlet-mail/martlet/internal/check/spf"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/internal/publish"
	"github.com/martlet-mail/martlet/internal/receive"
	reports "github.com/martlet-mail/martlet/internal/report"
)

// lateBook is the book of a house, as it is in the evening of the next day.
func lateBook(t *testing.T, h *house) *reports.Book {
	t.Helper()
	o, err := h.reportOptions()
	if err != nil {
		t.Fatal(err)
	}
	o.Now = func() time.Time { return time.Now().Add(30 * time.Hour) }
	return reports.New(o)
}

// keysOf are the DNS records of the keys of a domain.
func keysOf(t *testing.T, h *house, domain string) string {
	t.Helper()
	keys, err := h.directory.Keys(t.Context(), domain)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, k := range keys {
		text := publish.DKIMText(k)
		fmt.Fprintf(&b, "%s. TXT %q %q\n", publish.DKIMName(k), text[:len(text)/2], text[len(text)/2:])
	}
	return b.String()
}

// TestReportsBetweenServers: two servers tell each other what they have seen, by mail, and
// martlet reports shows it: of one that mail in its name came from where, of the other that
// TLS to it fails and what mends it.
func TestReportsBetweenServers(t *testing.T) {
	const zone = `
near.example.          MX  10 mail.near.example.
mail.near.example.     A   127.0.0.2
near.example.          TXT "v=spf1 ip4:127.0.0.1 -all"
_dmarc.near.example.   TXT "v=DMARC1; p=reject; rua=mailto:postmaster@near.example"
far.example.           MX  10 mail.far.example.
mail.far.example.      A   127.0.0.3
far.example.           TXT "v=spf1 ip4:127.0.0.1 -all"
_smtp._tls.far.example. TXT "v=TLSRPTv1; rua=mailto:postmaster@far.example"
1.0.0.127.in-addr.arpa. PTR one.example.
`
	dns, err := dnstest.Start(zone)
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	port := freeBase(t) + 25
	text := func(last int, more string) string {
		return fmt.Sprintf("[[listen]]\nprotocol = \"smtp\"\naddress = \"127.0.0.%d:%d\"\n%s[queue]\nresolver = %q\nport = %d\nallow_private = true\n[checks]\ntrusted = true\n", last, port, more, dns.Addr(), port)
	}
	nearConfig := server(t, "near.example", text(2, "[[listen]]\nprotocol = \"submission\"\naddress = \"127.0.0.1:0\"\n")+"[reports]\nfile_only = true\n")
	farConfig := server(t, "far.example", text(3, ""))
	for _, c := range []struct{ config, domain string }{{nearConfig, "near.example"}, {farConfig, "far.example"}} {
		if got := command(t, "", "alias", "add", "postmaster@"+c.domain, "carol@"+c.domain, "--config", c.config); got.code != 0 {
			t.Fatal(got.err)
		}
	}
	near, at := runHouse(t, nearConfig, slog.New(slog.DiscardHandler), renewal{})
	far, _ := runHouse(t, farConfig, slog.New(slog.DiscardHandler), renewal{})
	if err := dns.SetZone(zone + keysOf(t, near, "near.example") + keysOf(t, far, "far.example")); err != nil {
		t.Fatal(err)
	}
	if got := command(t, "", "reports", "--config", farConfig); got.code != 0 || !strings.HasPrefix(got.out, "no report has come") {
		t.Fatalf("%+v", got)
	}
	err = smtp.SendMail(fmt.Sprintf("127.0.0.1:%d", at["submission"]), smtp.PlainAuth("", "carol@near.example", "secret", "127.0.0.1"),
		"carol@near.example", []string{"carol@far.example"}, []byte("From: carol@near.example\r\nSubject: a letter\r\n\r\nhello\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the letter has left", func() bool { return len(queueOf(t, nearConfig)) == 0 })
	for _, h := range []*house{near, far} {
		if err := h.reports.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := lateBook(t, h).Send(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var got ran
	shows := func(config string, args ...string) func() bool {
		return func() bool {
			got = command(t, "", append([]string{"reports", "--config", config}, args...)...)
			return got.code == 0 && !strings.HasPrefix(got.out, "no report") && got.out != ""
		}
	}
	eventually(t, "a report of far has come to near", shows(nearConfig))
	for _, want := range []string{
		"Mail in the name of near.example: 1 message, 100.0 % pass DMARC",
		"1         127.0.0.1  one.example  near.example  pass  pass  delivered\n",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("%q is not in\n%s", want, got.out)
		}
	}
	eventually(t, "a report of near has come to far", shows(farConfig, "far.example", "--kind", "tls"))
	for _, want := range []string{
		"TLS to far.example: 1 connection, 0.0 % as they should be",
		"1            starttls-not-supported  no-policy-found  mail.far.example  near.example\n",
		"fix: give the server a certificate",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("%q is not in\n%s", want, got.out)
		}
	}
	eventually(t, "the same for programs", shows(farConfig, "--json"))
	var line struct {
		Kind, Domain, Result, Fix string
		Sessions                  int
		Verified                  bool
		Reporters                 []string
	}
	if err := json.Unmarshal([]byte(got.out), &line); err != nil || line.Kind != "tls" || line.Sessions != 1 || !line.Verified || line.Result != "starttls-not-supported" || line.Reporters[0] != "near.example" || line.Fix == "" {
		t.Errorf("%v, %s", err, got.out)
	}
	// What was sent is told; the reports themselves were not counted as mail.
	eventually(t, "what near has sent", shows(nearConfig, "--sent"))
	if !strings.Contains(got.out, "tls   far.example  1      sent   mailto:postmaster@far.example") {
		t.Error(got.out)
	}
	eventually(t, "the reports have left", func() bool { return len(queueOf(t, nearConfig))+len(queueOf(t, farConfig)) == 0 })
	for _, h := range []*house{near, far} {
		if err := h.reports.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := lateBook(t, h).Send(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := queueOf(t, nearConfig); len(left) > 0 {
			t.Errorf("a report of reports: %+v", left)
		}
	}
	// The mail itself is in the mailbox, too, but for the server that only files it.
	if boxes := command(t, "", "mailbox", "list", "carol@near.example", "--json", "--config", nearConfig); !strings.Contains(boxes.out, `"messages":0`) || strings.Contains(boxes.out, `"messages":1`) {
		t.Error(boxes.out)
	}
	if boxes := command(t, "", "mailbox", "list", "carol@far.example", "--json", "--config", farConfig); !strings.Contains(boxes.out, `"messages":2`) {
		t.Error(boxes.out)
	}
	if bad := command(t, "", "reports", "--kind", "spam", "--config", farConfig); bad.code != 2 {
		t.Errorf("%+v", bad)
	}
}

// What is done with a message is told in the words of reports, and never as more than its
// domain asks for.
func TestDisposed(t *testing.T) {
	for _, c := range []struct {
		status    dmarc.Status
		policy    dmarc.Policy
		applied   dmarc.Policy
		done      check.Disposition
		override  string
		want, why string
	}{
		{dmarc.Pass, "reject", "reject", check.None, "", "pass", ""},
		{dmarc.Pass, "none", "none", check.None, "", "none", ""},
		{dmarc.Pass, "reject", "reject", check.Junk, "", "pass", ""}, // for a list of hosts, say
		{dmarc.Fail, "reject", "reject", check.Reject, "", "reject", ""},
		{dmarc.Fail, "quarantine", "quarantine", check.Junk, "", "quarantine", ""},
		{dmarc.Fail, "none", "none", check.Reject, "", "none", ""},
		{dmarc.Fail, "reject", "reject", check.Junk, "mailing_list", "quarantine", "mailing_list"},
		{dmarc.Fail, "reject", "reject", check.None, "trusted_forwarder", "none", "trusted_forwarder"},
		{dmarc.Fail, "reject", "reject", check.Mark, "", "none", "local_policy"},
		{dmarc.Fail, "reject", "quarantine", check.Junk, "", "quarantine", "policy_test_mode"},
		{dmarc.TempError, "reject", "reject", check.None, "", "none", "other"},
	} {
		o := receive.Observation{
			Verdict:     &check.Verdict{DMARC: dmarc.Result{Status: c.status, Policy: c.policy, Applied: c.applied}},
			Disposition: c.done,
			Rulings:     []receive.Ruling{{Decision: check.Decision{Disposition: c.done, Override: c.override}}},
		}
		got, reasons := disposed(o)
		why := ""
		if len(reasons) > 0 {
			why = reasons[0].Type
		}
		if got != c.want || why != c.why {
			t.Errorf("%+v: %s, %s", c, got, why)
		}
	}
}

// A message becomes a row as RFC 9990 has it.
func TestDMARCMessage(t *testing.T) {
	v := &check.Verdict{
		Peer: check.Peer{Addr: netip.MustParseAddr("192.0.2.1")},
		DMARC: dmarc.Result{Status: dmarc.Pass, Author: "a.bank.test", Domain: "bank.test", Policy: "reject", Applied: "reject", SPF: true,
			Record: dmarc.Record{Text: "v=DMARC1; p=reject; rua=mailto:x@bank.test"}},
		SPF:  spf.Result{Status: spf.Pass, Domain: "mail.bank.test", IsHelo: true},
		DKIM: []dkim.Result{{Status: dkim.Fail, Domain: "bank.test", Selector: "s"}, {Status: dkim.PermError}},
	}
	m, ok := dmarcMessage(receive.Observation{Verdict: v})
	got := fmt.Sprintf("%v %s %s; %s %s %v %v %s %q %v %v", ok, m.Domain, m.Policy, m.Record.Source, m.Record.Disposition, m.Record.DKIM, m.Record.SPF, m.Record.HeaderFrom, m.Record.EnvelopeFrom, m.Record.DKIMResults, m.Record.SPFResults)
	if want := `true bank.test v=DMARC1; p=reject; rua=mailto:x@bank.test; 192.0.2.1 pass false true a.bank.test "" [{bank.test s  fail }] []`; got != want {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
	v.DMARC.Domain = ""
	if _, ok := dmarcMessage(receive.Observation{Verdict: v}); ok {
		t.Error("a message without a policy is told of")
	}
}
