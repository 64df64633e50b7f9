package authres_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/check/authres"
	"github.com/martlet-mail/martlet/internal/fault"
)

// The examples of RFC 8601, Appendix B, and forms that other programs write.
func TestParse(t *testing.T) {
	prop := func(s string) authres.Property {
		kind, rest, _ := strings.Cut(s, ".")
		name, value, _ := strings.Cut(rest, "=")
		return authres.Property{Type: kind, Name: name, Value: value}
	}
	for _, c := range []struct {
		text string
		want authres.Field
	}{
		{"example.org 1; none", authres.Field{ID: "example.org", Version: "1"}},
		{" example.com;\r\n\t spf=pass smtp.mailfrom=example.net", authres.Field{ID: "example.com", Results: []authres.Result{
			{Method: "spf", Value: "pass", Props: []authres.Property{prop("smtp.mailfrom=example.net")}}}}},
		{"example.com; auth=pass (cram-md5) smtp.auth=sender@example.net; spf=fail smtp.mailfrom=example.net", authres.Field{ID: "example.com", Results: []authres.Result{
			{Method: "auth", Value: "pass", Comment: "cram-md5", Props: []authres.Property{prop("smtp.auth=sender@example.net")}},
			{Method: "spf", Value: "fail", Props: []authres.Property{prop("smtp.mailfrom=example.net")}}}}},
		{"example.com; dkim=pass reason=\"good signature\" header.i=@mail-router.example.net; dkim=fail reason=\"bad signature\" header.i=@newyork.example.com",
			authres.Field{ID: "example.com", Results: []authres.Result{
				{Method: "dkim", Value: "pass", Reason: "good signature", Props: []authres.Property{prop("header.i=@mail-router.example.net")}},
				{Method: "dkim", Value: "fail", Reason: "bad signature", Props: []authres.Property{prop("header.i=@newyork.example.com")}}}}},
		{"foo.example.net (foobar) 1 (baz); dkim (Because I like it) / 1 (One yay) = (wait for it) fail policy (A dot can go here) . (like that) expired (this surprised me) = (as I wasn't expecting it) 1362471462",
			authres.Field{ID: "foo.example.net", Version: "1", Results: []authres.Result{
				{Method: "dkim", Version: "1", Value: "fail", Props: []authres.Property{prop("policy.expired=1362471462")}}}}},
		{"mx.google.com; dkim=pass header.i=@a.test header.s=s1 header.b=\"ab/c+d==\"; dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=a.test;", authres.Field{ID: "mx.google.com", Results: []authres.Result{
			{Method: "dkim", Value: "pass", Props: []authres.Property{prop("header.i=@a.test"), prop("header.s=s1"), prop("header.b=ab/c+d==")}},
			{Method: "dmarc", Value: "pass", Comment: "p=REJECT sp=REJECT dis=NONE", Props: []authres.Property{prop("header.from=a.test")}}}}},
		{"\"my host\"; arc=none", authres.Field{ID: "my host", Results: []authres.Result{{Method: "arc", Value: "none"}}}},
	} {
		got, err := authres.Parse(c.text)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q:\n got %+v, %v\nwant %+v", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"", ";", "a.test", "; none", "a.test; spf", "a.test; spf=", "a.test; =pass", "a.test; spf=pass x", "a.test; spf=pass smtp.=x",
		"a.test; spf=pass (open", "a.test; spf=pass smtp.helo=\"open", "a.test spf=pass", "a.test; none=", "a.test; spf=pass reason=x y"} {
		if f, err := authres.Parse(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %+v, %v", text, f, err)
		}
	}
	if _, err := authres.Parse("a.test 2; spf=pass"); !fault.Is(err, fault.Unsupported) {
		t.Error(err)
	}
}

// TestAttack68ValuesSayWhatTheyAre writes what strangers choose, and reads it again.
func TestAttack68ValuesSayWhatTheyAre(t *testing.T) {
	for _, evil := range []string{
		"a@b.test; dmarc=pass header.from=bank.test", `x" ; dkim=pass header.d=bank.test`, "x\r\nAuthentication-Results: mx.here.test; dmarc=pass",
		"x\r\n\r\nbody", "(comment) evil", "a)(b", `back\slash`, `"`, "\x00\x7f", "b\xc3\xbccher", "\xff", " ", "'; drop", "=?utf-8?q?x?=", "a@b@c", "a..b@c.test", "@c.test",
		strings.Repeat("a", 5000), strings.Repeat("\"", 5000), ",", "a b@c.test",
	} {
		f := authres.Field{ID: "mx.here.test", Results: []authres.Result{
			{Method: "spf", Value: "fail", Reason: evil, Props: []authres.Property{{Type: "smtp", Name: "mailfrom", Value: evil}}},
			{Method: "dmarc", Value: "fail", Comment: evil, Props: []authres.Property{{Type: "header", Name: "from", Value: evil}}},
		}}
		text := string(f.Append(nil))
		if strings.Count(text, "\n") != strings.Count(text, "\r\n") || !strings.HasSuffix(text, "\r\n") {
			t.Fatalf("%q", text)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(text, "\r\n"), "\r\n") {
			if len(line) > 998 || !strings.HasPrefix(line, "Authentication-Results: ") && (len(line) < 2 || line[0] != '\t') {
				t.Fatalf("%q has the line %q", evil, line)
			}
		}
		got, err := authres.Parse(strings.TrimPrefix(text, "Authentication-Results:"))
		if err != nil || got.ID != "mx.here.test" || len(got.Results) != 2 {
			t.Fatalf("%q: %q is read as %+v, %v", evil, text, got, err)
		}
		for i, r := range got.Results {
			if r.Value != "fail" || len(r.Props) != 1 || r.Method != f.Results[i].Method {
				t.Errorf("%q: %+v", evil, r)
			}
		}
		if want := printable(evil); got.Results[0].Props[0].Value != want || got.Results[0].Reason != want {
			t.Errorf("%q comes back as %q", evil, got.Results[0])
		}
	}
}

func printable(s string) string {
	b := []byte(s[:min(len(s), 255)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// TestAttack68ForgedFieldsGo has fields that somebody could take for ours.
func TestAttack68ForgedFieldsGo(t *testing.T) {
	ours := func(id string) bool { return id == "mx.here.test" || id == "xn--bcher-kva.test" }
	for _, forged := range []string{
		"Authentication-Results: mx.here.test; dmarc=pass",
		"authentication-RESULTS:MX.Here.Test;dmarc=pass",
		"Authentication-Results : mx.here.test; dmarc=pass",
		"Authentication-Results:\r\n\tmx.here.test;\r\n dmarc=pass",
		"Authentication-Results: (a comment) mx.here.test (another); dmarc=pass",
		"Authentication-Results: (nested (comment; x) \\) ) mx.here.test; dmarc=pass",
		"Authentication-Results: \"mx.here.test\"; dmarc=pass",
		"Authentication-Results: \"mx\\.here.test\"; dmarc=pass",
		"Authentication-Results: mx.here.test.; dmarc=pass",
		"Authentication-Results: mx.here.test 1; dmarc=pass",
		"Authentication-Results: mx.here.test 2; dmarc=pass",
		"Authentication-Results: other.test 99; dmarc=pass", // a version nobody knows
		"Authentication-Results: mx.here.test/7; dmarc=pass",
		"Authentication-Results: mx.here.test",
		"Authentication-Results: ; mx.here.test; dmarc=pass",
		"Authentication-Results: =?utf-8?q?mx=2Ehere=2Etest?=; dmarc=pass",
		"Authentication-Results: b\xc3\xbccher.test; dmarc=pass",
		"Authentication-Results: B\xc3\x9cCHER.test; dmarc=pass",
		"Authentication-Results: xn--bcher-kva.test; dmarc=pass",
		"Authentication-Results: (open mx.here.test; dmarc=pass",
		"Authentication-Results: \"open mx.here.test; dmarc=pass",
		"Authentication-Results: other.test\x00mx.here.test; dmarc=pass",
		"Authentication-Results\x00: mx.here.test; dmarc=pass",
		" Authentication-Results: mx.here.test; dmarc=pass", // only as the first line
	} {
		header := forged + "\r\nSubject: x\r\nFrom: a@a.test\r\n\r\n"
		got, n := authres.Remove([]byte(header), ours)
		if string(got) != "Subject: x\r\nFrom: a@a.test\r\n\r\n" || n != 1 {
			t.Errorf("%q: %d removed, %q", forged, n, got)
		}
		if forged[0] == ' ' {
			continue
		}
		header = "Received: x\r\n" + forged + "\r\nX: y\r\n" + forged + "\r\n\r\n" + forged + "\r\n"
		got, n = authres.Remove([]byte(header), ours)
		if string(got) != "Received: x\r\nX: y\r\n\r\n"+forged+"\r\n" || n != 2 {
			t.Errorf("%q: %d removed, %q", forged, n, got)
		}
	}
	for _, kept := range []string{
		"Authentication-Results: other.test; dmarc=pass",
		"Authentication-Results: other.test; dmarc=pass header.from=mx.here.test",
		"Authentication-Results: other.test (for mx.here.test); dmarc=pass",
		"Authentication-Results: not-mx.here.test; dmarc=pass",
		"Authentication-Results: mx.here.test.evil.test; dmarc=pass",
		"ARC-Authentication-Results: i=1; mx.here.test; dmarc=pass",
		"X-Authentication-Results: mx.here.test; dmarc=pass",
		"Subject: Authentication-Results: mx.here.test; dmarc=pass",
		"Subject: x\r\n Authentication-Results: mx.here.test; dmarc=pass",
	} {
		header := kept + "\r\nFrom: a@a.test\r\n\r\n"
		if got, n := authres.Remove([]byte(header), ours); string(got) != header || n != 0 {
			t.Errorf("%q: %d removed, %q", kept, n, got)
		}
	}
}

// FuzzParse: what is read and written again is read the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a.test 1; none", "a.test; spf=pass (x) reason=\"y z\" smtp.mailfrom=b@c.test; dkim/1=fail header.d=d.test;", "\"a b\"; x=y", "a; b=c d.e=\"\\\"\"", "a (b) 2; c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := authres.Parse(text)
		if err != nil {
			if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Unsupported) {
				t.Fatal(err)
			}
			return
		}
		again, err := authres.Parse(strings.TrimPrefix(string(got.Append(nil)), "Authentication-Results:"))
		if err != nil || len(again.Results) != len(got.Results) || printable(got.ID) != again.ID {
			t.Fatalf("%+v is written as %q and read as %+v, %v", got, got.Append(nil), again, err)
		}
		for i, r := range again.Results {
			if r.Method != got.Results[i].Method && len(got.Results[i].Method) <= 255 {
				t.Fatalf("%+v and %+v", got.Results[i], r)
			}
		}
	})
}

// FuzzRemove: nothing of ours is left that a reader of the grammar would find, and all
// other lines stay as they are.
func FuzzRemove(f *testing.F) {
	f.Add([]byte("Authentication-Results: (x) mx.here.test; dmarc=pass\r\nSubject: y\r\n\r\n"))
	f.Add([]byte("A: b\nAuthentication-Results: \"mx.here.test\" 1; none\n\nc"))
	f.Fuzz(func(t *testing.T, header []byte) {
		ours := func(id string) bool { return id == "mx.here.test" }
		got, n := authres.Remove(header, ours)
		if again, m := authres.Remove(got, ours); m != 0 && n == 0 || len(again) > len(got) || len(got) > len(header) {
			t.Fatalf("%q, then %q", got, again)
		}
		head, _, _ := strings.Cut(string(got), "\r\n\r\n")
		for line := range strings.SplitSeq(head, "\r\n") {
			name, value, found := strings.Cut(line, ":")
			if !found || !strings.EqualFold(name, "Authentication-Results") || strings.Contains(line, "\n") {
				continue
			}
			if field, err := authres.Parse(value); err == nil && strings.EqualFold(field.ID, "mx.here.test") {
				t.Fatalf("%q is left", line)
			}
		}
	})
}
