package tlsrpt_test

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
	"github.com/martlet-mail/martlet/internal/report/tlsrpt"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Reports in the forms that large reporters use.
func TestForms(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"google.json", "Google Inc. smtp-tls-reporting@google.com 2026-03-04T00:00:00Z_here.test 1772582400-1772668799; sts here.test 4 [mx.here.test] 12 3 [{certificate-expired 192.0.2.77 mx.here.test  192.0.2.1 3  }]"},
		{"outlook.json", "Microsoft Corporation tlsrpt-noreply@microsoft.com 0123+here.test 1772582400-1772668799; tlsa here.test 1 [] 5 0 []; sts here.test 1 [*.here.test] 4 1 []"},
	} {
		r, err := tlsrpt.Parse(t.Context(), bytes.NewReader(read(t, c.file)), tlsrpt.Limits{})
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		got := fmt.Sprintf("%s %s %s %d-%d", r.Organization, r.Contact, r.ID, r.Begin.Unix(), r.End.Unix())
		for _, p := range r.Policies {
			got += fmt.Sprintf("; %s %s %d %v %d %d %v", p.Type, p.Domain, len(p.Strings), p.Hosts, p.Successes, p.Failed, p.Failures)
		}
		if got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.file, got, c.want)
		}
	}
}

const (
	head = `{"date-range":{"start-datetime":"2026-03-04T00:00:00Z","end-datetime":"2026-03-04T23:59:59Z"},"policies":[`
	one  = `{"policy":{"policy-type":"sts","policy-domain":"here.test"}}`
)

// What is no report says so, and what is only a little wrong is read.
func TestOdd(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{head + one + "]}", "1"},
		{head + one + "]} and more", "1"},
		{head + one + `,17,null,"x",[],{}]}`, "1"},
		{head + one + `],"policies":7}`, "1"},
		{head + `{"policy":[{"policy-type":"sts"}],"failure-details":{"a":1}},` + one + "]}", "1"},
		{head + `{"policy":{"policy-type":{},"policy-domain":"here.test","policy-string":{"a":["b"]}},"summary":"x"}]}`, "1"},
		{head + "]}", "invalid"},
		{head + one, "invalid"},
		{"[]", "invalid"},
		{"", "invalid"},
		{`{"policies":[` + one + `]}`, "invalid"},
		{head + one + `],"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "}", "too large"},
		{head + one + `],"x":` + strings.Repeat("[", 1_000_000), "too large"},
	} {
		r, err := tlsrpt.Parse(t.Context(), strings.NewReader(c.text), tlsrpt.Limits{})
		got := fault.Of(err).String()
		if err == nil {
			got = fmt.Sprint(len(r.Policies))
		}
		if got != c.want {
			t.Errorf("%.200s: %s, want %s (%v)", c.text, got, c.want, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tlsrpt.Parse(ctx, strings.NewReader(head+one+"]}"), tlsrpt.Limits{}); !fault.Is(err, fault.Closed) {
		t.Errorf("without time: %v", err)
	}
}

// The record of a domain (RFC 8460, 3).
func TestWanted(t *testing.T) {
	for _, c := range []struct{ records, want string }{
		{"v=TLSRPTv1;rua=mailto:a@x.test", "mailto:a@x.test"},
		{"v=TLSRPTv1; rua=https://x.test/v1 , mailto:a@x.test;", "https://x.test/v1 mailto:a@x.test"},
		{"v=spf1 -all|v=TLSRPTv1; ext=1; rua=mailto:a@x.test", "mailto:a@x.test"},
		{"v=TLSRPTv1; rua=mailto:a@x.test|v=TLSRPTv1; rua=mailto:b@x.test", ""},
		{"v=TLSRPTv10; rua=mailto:a@x.test", ""},
		{"v=TLSRPTv1", ""},
		{"rua=mailto:a@x.test; v=TLSRPTv1", ""},
		{"v=TLSRPTv1; rua=http://x.test/, ftp://x.test, mailto:, https:", ""},
		{"v=TLSRPTv1; rua=" + strings.Repeat("mailto:a@x.test,", 9), strings.TrimSpace(strings.Repeat("mailto:a@x.test ", 5))},
		{"", ""},
	} {
		if got := strings.Join(tlsrpt.Wanted(strings.Split(c.records, "|")), " "); got != c.want {
			t.Errorf("%q: %q, want %q", c.records, got, c.want)
		}
	}
}

// FuzzParse: whatever comes, what is kept is within the limits, and what we write of it reads
// the same again.
func FuzzParse(f *testing.F) {
	f.Add(read(f, "google.json"))
	f.Add(read(f, "outlook.json"))
	f.Add([]byte(head + one + "]}"))
	f.Add([]byte(head + `{"failure-details":[{"result-type":"x"}],"policy":{"policy-type":"y"}}]}`))
	lim := tlsrpt.Limits{Bytes: 1 << 16, Entries: 20, Lines: 3, Text: 50}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := tlsrpt.Parse(t.Context(), bytes.NewReader(b), lim)
		if err != nil {
			return
		}
		n := len(r.Policies)
		for i := range r.Policies {
			p := &r.Policies[i]
			n += len(p.Failures)
			if len(p.Strings) > lim.Lines || len(p.Hosts) > lim.Lines || len(p.Type) > lim.Text {
				t.Fatalf("%+v", p)
			}
			if len(p.Strings) == 0 {
				p.Strings = nil
			}
			if len(p.Hosts) == 0 {
				p.Hosts = nil
			}
		}
		if n > lim.Entries {
			t.Fatalf("%d entries", n)
		}
		r.More = 0
		again, err := tlsrpt.Parse(t.Context(), bytes.NewReader(r.JSON()), tlsrpt.Limits{Text: 1000})
		if err != nil {
			t.Fatalf("%v\n%s", err, r.JSON())
		}
		if !reflect.DeepEqual(again, r) && fmt.Sprintf("%+v", *again) != fmt.Sprintf("%+v", *r) {
			t.Fatalf("\n%+v\nwant\n%+v", again, r)
		}
	})
}

// FuzzWanted: at most five places, all of them for mail or https.
func FuzzWanted(f *testing.F) {
	f.Add("v=TLSRPTv1; rua=https://x.test/v1 , mailto:a@x.test;", "v=spf1 -all")
	f.Fuzz(func(t *testing.T, a, b string) {
		got := tlsrpt.Wanted([]string{a, b})
		if len(got) > 5 {
			t.Fatal(got)
		}
		for _, u := range got {
			if s := strings.ToLower(u); !strings.HasPrefix(s, "mailto:") && !strings.HasPrefix(s, "https:") {
				t.Fatal(got)
			}
		}
	})
}
