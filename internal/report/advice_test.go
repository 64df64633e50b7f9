package report_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/report"
)

// Of each kind of failure a sentence says why, and another what to do.
func TestAdvice(t *testing.T) {
	row := func(i int, spf, dkim, more string) string {
		return fmt.Sprintf("<record><row><source_ip>192.0.2.%d</source_ip><count>1</count><policy_evaluated><disposition>none</disposition><dkim>%s</dkim><spf>%s</spf>%s", i, dkim, spf, more)
	}
	const end = "</policy_evaluated></row><identifiers><header_from>here.test</header_from></identifiers><auth_results>"
	signed := func(domain, result string) string {
		return "<dkim><domain>" + domain + "</domain><selector>s</selector><result>" + result + "</result></dkim>"
	}
	from := func(domain, result string) string {
		return "<spf><domain>" + domain + "</domain><result>" + result + "</result></spf>"
	}
	cases := []struct{ row, why, fix string }{
		1:  {row(1, "pass", "pass", end+signed("here.test", "pass")), "", ""},
		2:  {row(2, "fail", "pass", end+signed("here.test", "pass")), "", ""},
		3:  {row(3, "fail", "pass", end+signed("here.test", "pass")), "SPF does not", "martlet dns diff here.test"},
		4:  {row(4, "pass", "fail", end+signed("here.test", "fail")), "signature is not valid; it passes by SPF alone", "key"},
		5:  {row(5, "pass", "fail", end), "not signed for here.test", "have the service sign as here.test"},
		6:  {row(6, "fail", "fail", "<reason><type>mailing_list</type></reason>"+end+signed("here.test", "fail")), "mailing list", "nothing"},
		7:  {row(7, "fail", "fail", end+signed("here.test", "fail")), "changed on its way", "key"},
		8:  {row(8, "fail", "fail", end+signed("news.test", "pass")), "signed by news.test", "have it sign as here.test"},
		9:  {row(9, "fail", "fail", end+from("news.test", "pass")), "its sender is news.test", "have it sign as here.test"},
		10: {row(10, "fail", "fail", end+from("here.test", "fail")), "forged", "ip4:192.0.2.10"},
	}
	text := "<feedback><report_metadata><org_name>x</org_name><report_id>1</report_id><date_range><begin>1772582400</begin><end>1772668799</end></date_range></report_metadata><policy_published><domain>here.test</domain><p>none</p></policy_published>"
	for _, c := range cases[1:] {
		text += c.row + "</auth_results></record>"
	}
	h := newHouse(t, "mx.here.test. A 192.0.2.3\n10.2.0.192.in-addr.arpa. PTR bad.test.\n! servfail 9.2.0.192.in-addr.arpa\n")
	h.set(midnight.Add(10 * time.Hour))
	if !h.book.Take(t.Context(), arrived(post("Report Domain: here.test", "text/xml", "", []byte(text+"</feedback>")), "big.test", "postmaster@here.test")) {
		t.Fatal("the report is not read")
	}
	sources, _, err := h.book.View(t.Context(), report.Query{})
	if err != nil || len(sources) != len(cases)-1 {
		t.Fatalf("%v, %d lines", err, len(sources))
	}
	for _, s := range sources {
		var n int
		_, _ = fmt.Sscanf(s.Address, "192.0.2.%d", &n)
		c := cases[n]
		if !strings.Contains(s.Why, c.why) || !strings.Contains(s.Fix, c.fix) || (s.Why == "") != (c.why == "") || (s.Fix == "") != (c.why == "") {
			t.Errorf("%d: %q, %q", n, s.Why, s.Fix)
		}
		if s.Ours != (n == 3) || (s.Name == "bad.test") != (n == 10) {
			t.Errorf("%d: ours %v, name %q", n, s.Ours, s.Name)
		}
	}
	if sources[0].DMARC != "fail" || sources[len(sources)-1].DMARC != "pass" {
		t.Error("failures do not come first")
	}
}

// Every kind of failure of RFC 8460, 4.3 is explained.
func TestTLSAdvice(t *testing.T) {
	kinds := strings.Fields("starttls-not-supported certificate-host-mismatch certificate-expired certificate-not-trusted validation-failure tlsa-invalid dnssec-invalid dane-required sts-policy-fetch-error sts-policy-invalid sts-webpki-invalid something-new")
	text := `{"date-range":{"start-datetime":"2026-03-04T00:00:00Z","end-datetime":"2026-03-04T23:59:59Z"},"policies":[{"policy":{"policy-type":"sts","policy-domain":"here.test"},"summary":{"total-successful-session-count":1,"total-failure-session-count":20},"failure-details":[`
	for i, k := range kinds {
		if i > 0 {
			text += ","
		}
		text += `{"result-type":"` + k + `","failed-session-count":1}`
	}
	h := newHouse(t, "")
	h.set(midnight.Add(10 * time.Hour))
	if !h.book.Take(t.Context(), arrived(post("", "application/tlsrpt+json", "", []byte(text+"]}]}")), "big.test", "postmaster@here.test")) {
		t.Fatal("the report is not read")
	}
	_, list, err := h.book.View(t.Context(), report.Query{Kind: report.TLS, Domain: "here.test"})
	if err != nil || len(list) != len(kinds)+1 {
		t.Fatalf("%v, %d lines", err, len(list))
	}
	sum := uint64(0)
	for _, l := range list {
		sum += l.Sessions
		if l.Result != "ok" && (l.Why == "" || l.Fix == "" || strings.Contains(l.Fix, "%")) {
			t.Errorf("%s: %q, %q", l.Result, l.Why, l.Fix)
		}
	}
	if sum != 21 {
		t.Errorf("%d sessions, want those that were not explained, too", sum)
	}
}

// What was kept for long enough goes, and no more.
func TestSweep(t *testing.T) {
	h := newHouse(t, world)
	h.opt.Keep = 30 * 24 * time.Hour
	h.restart()
	saw(h, "here.test", "v=DMARC1; p=reject; rua=mailto:postmaster@here.test")
	h.send(midnight.Add(5 * time.Hour))
	saw(h, "bank.test", wantsReports) // of a day that is over, and not sent
	h.flush()
	for _, c := range []struct {
		days       int
		kept, owed bool
	}{{1, true, true}, {6, true, true}, {9, true, false}, {29, true, false}, {32, false, false}} {
		h.set(noon.Add(time.Duration(c.days) * 24 * time.Hour))
		if err := h.book.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if kept, owed := h.view(report.Query{}) != "" && h.states() != "", h.owed() != ""; kept != c.kept || owed != c.owed {
			t.Errorf("after %d days: %v, %v", c.days, kept, owed)
		}
	}
}
