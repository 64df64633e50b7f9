package aggregate_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/report/aggregate"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t testing.TB, b []byte) (*aggregate.Report, error) {
	t.Helper()
	return aggregate.Parse(t.Context(), bytes.NewReader(b), aggregate.Limits{})
}

// Reports in the forms that large reporters use.
func TestForms(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"google.xml", "google.com 1111111111111111111 1772582400-1772668799 here.test none/none/none r r false; 192.0.2.10 7 none true true here.test [] [{here.test 2026a  pass }] [{here.test   pass }]; 2001:db8:77::1 2 none false false here.test [{local_policy arc=pass}] [{list.test k1  pass } {here.test 2026a  fail }] [{list.test   pass }]"},
		{"outlook.xml", "Outlook.com 0123456789abcdef0123456789abcdef 1772582400-1772668800 here.test reject/reject/ r r false; 198.51.100.7 1 reject false false here.test [] [] [{bounce.evil.test  mfrom softfail }]"},
		{"yahoo.xml", "Yahoo 1772700000.123456 1772582400-1772668799 here.test quarantine// r s false; 203.0.113.9 3 quarantine false false here.test [{sampled_out }] [] [{news.test   pass }]"},
		{"rfc9990.xml", "A reporter 2026-03-04.here.test@reporter.test 1772582400-1772668799 here.test reject/none/reject   true; 192.0.2.10 4 pass true false shop.here.test [] [{here.test s  pass fine}] []"},
	} {
		r, err := parse(t, read(t, c.file))
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		p := r.Policy
		got := fmt.Sprintf("%s %s %d-%d %s %s/%s/%s %s %s %v", r.Organization, r.ID, r.Begin.Unix(), r.End.Unix(), p.Domain, p.Policy, p.Subdomains, p.NonExistent, p.DKIM, p.SPF, p.Testing)
		for _, x := range r.Records {
			got += fmt.Sprintf("; %s %d %s %v %v %s %v %v %v", x.Source, x.Count, x.Disposition, x.DKIM, x.SPF, x.HeaderFrom, x.Reasons, x.DKIMResults, x.SPFResults)
		}
		if got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.file, got, c.want)
		}
	}
}

const (
	head = `<feedback><report_metadata><org_name>x</org_name><report_id>1</report_id><date_range><begin>1772582400</begin><end>1772668799</end></date_range></report_metadata><policy_published><domain>here.test</domain><p>none</p></policy_published>`
	line = `<record><row><source_ip>192.0.2.1</source_ip><count>1</count></row></record>`
)

// What is no report says so, and what is only a little wrong is read.
func TestOdd(t *testing.T) {
	for _, c := range []struct {
		text, want string // rows, or the fault
	}{
		{head + line + "</feedback>", "1"},
		{"\ufeff" + head + line + "</feedback>", "1"},
		{`<?xml version="1.0" encoding="windows-1252"?>` + strings.Replace(head, "<org_name>x", "<org_name>J\xfcrgen", 1) + line + "</feedback>", "1"},
		{head + line + "</feedback>trailing < nonsense", "1"},
		{head + "<record><row><source_ip>no address</source_ip></row></record>" + line + "</feedback>", "1 and 1"},
		{head + "<record/></feedback>", "0 and 1"},
		{head + strings.Replace(line, "<count>1", "<count>-99999999999999999999", 1) + "</feedback>", "1"},
		{head + line, "invalid"},
		{head + "<record><row></record></row></feedback>", "invalid"},
		{"", "invalid"},
		{"<html><body>hello</body></html>", "invalid"},
		{"<feedback/>", "invalid"},
		{strings.Replace(head, "1772582400", "yesterday", 1) + line + "</feedback>", "invalid"},
		{strings.Replace(head, "1772582400", "1772668800", 1) + line + "</feedback>", "invalid"},
		{`<!DOCTYPE feedback>` + head + line + "</feedback>", "invalid"},
		{head + "<record>&unknown;</record></feedback>", "invalid"},
		{head + strings.Repeat("<a>", 20) + strings.Repeat("</a>", 20) + "</feedback>", "too large"},
	} {
		r, err := parse(t, []byte(c.text))
		got := fault.Of(err).String()
		if err == nil {
			if got = fmt.Sprint(len(r.Records)); r.More > 0 {
				got += fmt.Sprint(" and ", r.More)
			}
		}
		if got != c.want {
			t.Errorf("%.200s: %s, want %s (%v)", c.text, got, c.want, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := aggregate.Parse(ctx, strings.NewReader(head+line+"</feedback>"), aggregate.Limits{}); !fault.Is(err, fault.Closed) {
		t.Errorf("without time: %v", err)
	}
}

// FuzzParse: whatever comes, what is kept is within the limits, and what we write of it reads
// the same again.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"google.xml", "outlook.xml", "yahoo.xml", "rfc9990.xml"} {
		f.Add(read(f, name))
	}
	f.Add([]byte(head + line + "</feedback>"))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><feedback>&b;</feedback>`))
	lim := aggregate.Limits{Bytes: 1 << 16, Token: 1 << 12, Records: 20, Results: 3, Text: 50}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := aggregate.Parse(t.Context(), bytes.NewReader(b), lim)
		if err != nil {
			return
		}
		if len(r.Records) > lim.Records || len(r.Organization) > lim.Text {
			t.Fatalf("%d records, %q", len(r.Records), r.Organization)
		}
		for i := range r.Records {
			if x := &r.Records[i]; len(x.DKIMResults) > lim.Results || len(x.SPFResults) > lim.Results || len(x.Reasons) > lim.Results {
				t.Fatalf("%+v", x)
			} else {
				x.SPFResults = x.SPFResults[:min(len(x.SPFResults), 1)]
				for j := range x.SPFResults {
					x.SPFResults[j].Selector = ""
				}
				for j := range x.DKIMResults {
					x.DKIMResults[j].Scope = ""
				}
			}
		}
		r.More = 0
		big := aggregate.Limits{Text: 1000}
		again, err := aggregate.Parse(t.Context(), bytes.NewReader(r.XML()), big)
		if err != nil {
			t.Fatalf("%v\n%s", err, r.XML())
		}
		if got, want := fmt.Sprintf("%+v", *again), fmt.Sprintf("%+v", *r); got != want && !reflect.DeepEqual(again, r) {
			t.Fatalf("\n%s\nwant\n%s", got, want)
		}
	})
}
