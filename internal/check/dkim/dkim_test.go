package dkim

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// keyOf makes a key of an algorithm, and rsaKey one that is shared by all tests, as making it
// takes long.
func keyOf(t testing.TB, algorithm string) crypto.Signer {
	t.Helper()
	if algorithm == RSA {
		return rsaKey()
	}
	k, err := GenerateKey(algorithm, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var rsaKey = sync.OnceValue(func() crypto.Signer {
	k, err := GenerateKey(RSA, rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

func record(t testing.TB, k crypto.Signer) string {
	t.Helper()
	text, err := Record(k)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// keys returns one key of each algorithm for example.org and the zone that has them.
func keys(t testing.TB) ([]Key, zone) {
	z, all := zone{}, []Key(nil)
	for _, algorithm := range []string{Ed25519, RSA} {
		k := Key{"example.org", strings.TrimSuffix(algorithm, "-sha256"), keyOf(t, algorithm)}
		z[RecordName(k.Selector, k.Domain)] = []string{record(t, k.Signer)}
		all = append(all, k)
	}
	return all, z
}

func signed(t testing.TB, text string, keys []Key, opt SignOptions) string {
	t.Helper()
	if opt.Now.IsZero() {
		opt.Now = then
	}
	header, open := split(text)
	body, _ := open(t.Context())
	fields, err := Sign(header, body, keys, opt)
	if err != nil {
		t.Fatal(err)
	}
	return string(fields) + text
}

const letter = "From: Ann <ann@example.org>\r\nTo: bob@example.net\r\nSubject: a letter\r\nDate: Sun, 1 Nov 2026 12:00:00 +0000\r\n" +
	"Message-ID: <1@example.org>\r\n\r\nDear Bob,\r\n\r\nthis  is all.\t\r\n.\r\n\r\n"

// odd are messages that are hard on canonicalisers.
var odd = map[string]string{
	"letter":            letter,
	"no body":           "From: a@example.org\r\n\r\n",
	"no empty line":     "From: a@example.org\r\n",
	"empty lines only":  "From: a@example.org\r\n\r\n\r\n\r\n",
	"white space only":  "From: a@example.org\r\n\r\n \t \r\n\t\r\n",
	"no line ending":    "From: a@example.org\r\n\r\ntext",
	"space at the end":  "From: a@example.org\r\n\r\ntext  ",
	"folded":            "From: a@example.org\r\nSubject:\r\n \t folded\r\n\tthrice \r\n more\t \r\n\r\nx\r\n",
	"empty value":       "From: a@example.org\r\nSubject:\r\nTo: \r\n\r\nx\r\n",
	"space at colon":    "From : a@example.org\r\nSubject\t:x\r\n\r\nx\r\n",
	"8 bit":             "From: Jörg <a@example.org>\r\nSubject: grün\r\n\r\nschöne \xff\xfe Grüße\r\n",
	"two of a name":     "From: a@example.org\r\nTo: b@example.net\r\nTo: c@example.net\r\nSubject: 1\r\nSubject: 2\r\n\r\nx\r\n",
	"long line":         "From: a@example.org\r\nSubject: " + strings.Repeat("long ", 500) + "\r\n\r\n" + strings.Repeat("x ", 9000) + "\r\n",
	"blank in between":  "From: a@example.org\r\n\r\na\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nb \r\n \r\n\r\n",
	"leading blanks":    "From: a@example.org\r\n\r\n\r\n\r\n  a\r\n",
	"dots":              "From: a@example.org\r\n\r\n.\r\n..\r\n.x\r\n",
	"list":              "From: a@example.org\r\nList-Id: <l.example.org>\r\nList-Unsubscribe: <https://example.org/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nx\r\n",
	"resent":            "Resent-From: r@example.org\r\nResent-From: s@example.org\r\nFrom: a@example.org\r\n\r\nx\r\n",
	"signed before":     "DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=x; h=from; bh=; b=\r\nFrom: a@example.org\r\n\r\nx\r\n",
	"many small pieces": "From: a@example.org\r\n\r\n" + strings.Repeat("a\tb  c \r\n \r\n\r\n", 5000),
}

// What is signed verifies, in every canonicalisation, by both algorithms at once.
func TestRoundTrip(t *testing.T) {
	all, z := keys(t)
	for name, text := range odd {
		for _, header := range []Canon{Relaxed, Simple} {
			for _, body := range []Canon{Relaxed, Simple} {
				out := signed(t, text, all, SignOptions{Header: header, Body: body, Expire: time.Hour, Identity: "ann@mail.example.org"})
				results := verify(t, out, z, then)
				if name == "signed before" {
					results = results[:2]
				}
				if statuses(results) != "pass pass" {
					t.Errorf("%s, %v/%v: %+v\n%s", name, header, body, results, out)
				}
				if r := results[1]; r.Domain != "example.org" || r.Selector != "rsa" || r.Algorithm != RSA || r.Identity != "ann@mail.example.org" || r.KeyBits != 2048 ||
					!r.Signed.Equal(then) || !r.Expires.Equal(then.Add(time.Hour)) || r.Reason != "" || r.Weak || r.Testing {
					t.Errorf("%s: %+v", name, r)
				}
			}
		}
	}
}

// No line of a signature is long, and the field is one that every parser takes.
func TestSignatureIsFolded(t *testing.T) {
	all, _ := keys(t)
	all[0].Domain = strings.Repeat("long.", 14) + "example.org"
	out := signed(t, letter, all, SignOptions{})
	fields, _, err := parseHeader([]byte(out[:strings.Index(out, "From: Ann")]))
	if err != nil || len(fields) != 2 || fields[0].Name != "dkim-signature" {
		t.Fatalf("%v %+v", err, fields)
	}
	for line := range strings.Lines(out[:strings.Index(out, "From: Ann")]) {
		if len(line) > 80+2 && !strings.Contains(line, "d=long") {
			t.Errorf("%d bytes: %q", len(line), line)
		}
	}
}

// A changed message does not verify: this is the test of TestRoundTrip.
func TestChangesAreSeen(t *testing.T) {
	all, z := keys(t)
	out := signed(t, letter, all, SignOptions{})
	for _, c := range [][2]string{
		{"Ann", "Anne"}, {"a letter", "A letter"}, {"\r\nTo: bob", "\r\nTo: bo b"}, {"12:00:00", "12:00:01"}, {"<1@", "<2@"}, {"Dear", "dear"}, {"all.\t\r\n", "all.\t\r\n\r\n"}, {"t=1793534400", "t=1793534401"},
		{"c=relaxed/relaxed", "c=relaxed/simple"}, {"c=relaxed/relaxed", "c=simple/relaxed"}, {"h=from:", "h=from:x:"},
	} {
		if got := verify(t, strings.ReplaceAll(out, c[0], c[1]), z, then); statuses(got) != "fail fail" {
			t.Errorf("%q for %q: %+v", c[1], c[0], got)
		}
	}
	for _, c := range [][2]string{{"Ann <", "Ann   <"}, {"Subject: a letter", "SUBJECT :a\r\n\tletter "}, {"this  is", "this is"}, {"From: Ann", "X-New: 1\r\nFrom: Ann"}, {".\r\n\r\n", ".\r\n\r\n\r\n"}} {
		if got := verify(t, strings.ReplaceAll(out, c[0], c[1]), z, then); statuses(got) != "pass pass" {
			t.Errorf("%q for %q: %+v", c[1], c[0], got)
		}
	}
}

// Fields that a message did not have, or one more of those that it has, break the
// signature; those of trace and of lists do not.
func TestAttack69OversigningAndLength(t *testing.T) {
	all, z := keys(t)
	out := signed(t, letter, all, SignOptions{})
	at := strings.Index(out, "From: Ann")
	for _, name := range always {
		for _, added := range []string{out[:at] + name + ": x\r\n" + out[at:], name + ": x\r\n" + out, strings.Replace(out, "\r\n\r\n", "\r\n"+name+": x\r\n\r\n", 1)} {
			if got := statuses(verify(t, added, z, then)); got != "fail fail" {
				t.Errorf("%s added: %s", name, got)
			}
		}
	}
	for _, name := range []string{"Received", "Return-Path", "List-Id", "List-Unsubscribe", "Sender", "Resent-From", "Authentication-Results", "ARC-Seal", "DKIM-Signature", "X-Spam"} {
		if got := verify(t, name+": x\r\n"+out, z, then); statuses(got[len(got)-2:]) != "pass pass" {
			t.Errorf("%s added: %+v", name, got)
		}
	}
	withList := signed(t, odd["list"], all, SignOptions{})
	for _, name := range []string{"List-Id", "List-Unsubscribe", "List-Unsubscribe-Post"} {
		if got := statuses(verify(t, name+": x\r\n"+withList, z, then)); got != "fail fail" {
			t.Errorf("another %s: %s", name, got)
		}
	}
	// l= never passes, though what it covers is right, and even if that is all there is.
	body := letter[strings.Index(letter, "\r\n\r\n")+4:]
	for _, text := range []string{letter, letter + "<h1>appended</h1>\r\n"} {
		n := len(canonical(Relaxed, body, 10))
		got := verify(t, forged(t, text, fmt.Sprintf("v=1; d=example.org; s=ed25519; c=relaxed/relaxed; h=from; l=%d", n), all[0], int64(n)), z, then)
		if statuses(got) != "policy" || !got[0].Weak || got[0].Reason == "" {
			t.Errorf("%+v", got)
		}
	}
	for l, want := range map[string]string{"0": "policy", "10": "policy", "9999": "fail", strings.Repeat("9", 76): "fail", strings.Repeat("9", 77): "permerror", "-1": "permerror", "1x": "permerror"} {
		if got := verify(t, forged(t, letter, "v=1; d=example.org; s=ed25519; c=relaxed/relaxed; h=from; l="+l, all[0], map[string]int64{"0": 0, "10": 10}[l]), z, then); statuses(got) != want {
			t.Errorf("l=%s: %+v", l, got)
		}
	}
}

// forged signs with any tags: a=, bh= and b= are added where they are not among them. With
// limit not less than 0 only that much of the body is hashed.
func forged(t testing.TB, text, tags string, key Key, limit int64) string {
	t.Helper()
	if !strings.Contains(tags, "a=") {
		tags = "a=" + Algorithm(key.Signer) + "; " + tags
	}
	parsed, _ := ParseTags([]byte(tags))
	hc, bc, _ := canons(parsed, Simple)
	header, open := split(text)
	body, _ := open(t.Context())
	if limit <= 0 && !strings.Contains(tags, "l=") {
		limit = noLimit
	}
	form := bodyForm{bc, limit}
	sums, err := sumBodies(body, []bodyForm{form})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(tags, "bh=") {
		tags += "; bh=" + base64.StdEncoding.EncodeToString(sums[form].hash.Sum(nil))
	}
	raw := "DKIM-Signature: " + tags + "; b="
	h, _ := parsed.Get("h")
	names, _ := list(h, 1<<20)
	m := NewMessage(header, open)
	data := hc.AppendField(m.AppendFields(nil, hc, names, Field{}), Field{"dkim-signature", []byte(raw + "\r\n"), 14})
	sig, err := key.sign(data[:len(data)-2], nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw + base64.StdEncoding.EncodeToString(sig) + "\r\n" + text
}

// Each line is a signature that is right but for its tags.
func TestSignatureTags(t *testing.T) {
	all, z := keys(t)
	const good = "v=1; d=example.org; s=ed25519; c=relaxed/relaxed; h=From"
	tests := map[string]string{
		good:                           "pass",
		good + "; t=1793534400":        "pass",
		good + "; unknown=x; _x=1":     "permerror",
		good + "; unknown=x; z_1=":     "pass",
		good + "; i=@example.org":      "pass",
		good + "; i=a@b@example.org":   "pass",
		good + "; i=x@a.b.Example.ORG": "pass",
		good + "; i=x=40y@example.org": "pass",
		good + "; q=dns/txt":           "pass",
		good + "; q=http/x : dns/txt":  "pass",
		good + "; z=From:x|To:y":       "pass",
		strings.Replace(good, "From", "to:FROM : Cc:\r\n\tsubject", 1):             "pass",
		strings.Replace(good, "; c=relaxed/relaxed", "", 1):                        "pass",
		strings.Replace(good, "relaxed/relaxed", "relaxed", 1):                     "pass",
		strings.Replace(good, "relaxed/relaxed", "simple/relaxed", 1):              "pass",
		strings.Replace(good, "d=example.org", "d=EXAMPLE.org", 1):                 "pass",
		strings.Replace(good, "v=1; ", "", 1) + "; v=1":                            "pass",
		strings.Replace(good, "; ", " \r\n\t ;\r\n ", -1):                          "pass",
		strings.Replace(good, "=", " = ", -1):                                      "pass",
		strings.Replace(good, "v=1", "v=2", 1):                                     "permerror",
		strings.Replace(good, "v=1", "v=", 1):                                      "permerror",
		strings.Replace(good, "v=1; ", "", 1):                                      "permerror",
		strings.Replace(good, "v=1", "V=1", 1):                                     "permerror",
		strings.Replace(good, "d=example.org", "d=", 1):                            "permerror",
		strings.Replace(good, "d=example.org", "d=org", 1):                         "permerror",
		strings.Replace(good, "d=example.org", "d=example.org.", 1):                "permerror",
		strings.Replace(good, "d=example.org", "d=exa mple.org", 1):                "permerror",
		strings.Replace(good, "d=example.org", "d=a..example.org", 1):              "permerror",
		strings.Replace(good, "d=example.org; ", "", 1):                            "permerror",
		strings.Replace(good, "s=ed25519", "s=", 1):                                "permerror",
		strings.Replace(good, "s=ed25519", "s=_", 1):                               "permerror", // no key
		strings.Replace(good, "s=ed25519", "s=a b", 1):                             "permerror",
		strings.Replace(good, "relaxed/relaxed", "relaxed/other", 1):               "permerror",
		strings.Replace(good, "relaxed/relaxed", "", 1):                            "permerror",
		strings.Replace(good, "relaxed/relaxed", "Relaxed/relaxed", 1):             "permerror",
		strings.Replace(good, "relaxed/relaxed", "relaxed/", 1):                    "permerror",
		strings.Replace(good, "h=From", "h=To", 1):                                 "permerror",
		strings.Replace(good, "h=From", "h=", 1):                                   "permerror",
		strings.Replace(good, "h=From", "h=From:", 1):                              "permerror",
		strings.Replace(good, "h=From", "h=From:T o", 1):                           "permerror",
		strings.Replace(good, "; h=From", "", 1):                                   "permerror",
		strings.Replace(good, "h=From", "h=From:DKIM-Signature", 1):                "pass",
		good + "; d=example.org":                                                   "permerror",
		good + "; x=1; x=2":                                                        "permerror",
		good + "; i=example.org":                                                   "permerror",
		good + "; i=@example.com":                                                  "permerror",
		good + "; i=@notexample.org":                                               "permerror",
		good + "; i=":                                                              "permerror",
		good + "; q=":                                                              "permerror",
		good + "; q=dns":                                                           "permerror",
		good + "; t=":                                                              "permerror",
		good + "; t=x":                                                             "permerror",
		good + "; t=+1":                                                            "permerror",
		good + "; t=1234567890123":                                                 "permerror",
		good + "; t=1793534400; x=1793534400":                                      "permerror",
		good + "; t=1793534400; x=1793534399":                                      "permerror",
		good + "; t=1793534400; x=1793534401":                                      "pass",
		good + "; x=1793534399":                                                    "pass", // clocks differ
		good + "; x=1793533000":                                                    "policy",
		good + "; t=1793620900":                                                    "policy", // tomorrow and later
		good + "; t=999999999999":                                                  "policy",
		good + ";":                                                                 "permerror", // an empty tag in the middle
		good + "; =x":                                                              "permerror",
		good + "; x":                                                               "permerror",
		good + "; 1x=1":                                                            "permerror",
		good + "; n=\x01":                                                          "permerror",
		good + "; a=rsa-sha1":                                                      "permerror",
		good + "; a=rsa-sha256":                                                    "permerror", // the key is of another kind
		good + "; a=ed25519-sha1":                                                  "permerror",
		good + "; a=":                                                              "permerror",
		good + "; bh=":                                                             "permerror",
		good + "; bh=AAAA":                                                         "permerror",
		good + "; bh=!":                                                            "permerror",
		good + "; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=":                 "fail",
		good + strings.Repeat("; n=1", 1):                                          "pass",
		good + "; n=" + strings.Repeat("x", maxField):                              "permerror",
		strings.Replace(good, "h=From", "h="+strings.Repeat("From:", 400)+"To", 1): "permerror",
		strings.Replace(good, "h=From", "h="+strings.Repeat("From:", 399)+"To", 1): "pass",
		strings.Replace(good, "h=From", "h=From:"+strings.Repeat("x:", 100000), 1): "permerror",
	}
	for tags, want := range tests {
		results := verify(t, forged(t, letter, tags, all[0], 0), z, then)
		if statuses(results) != want || (results[0].Reason == "") != (want == "pass") {
			t.Errorf("%.200q\n\tgot %+v, want %s", tags, results, want)
		}
	}
}

// Key records, each with the key that signed, or something else.
func TestKeyRecords(t *testing.T) {
	all, _ := keys(t)
	const tags = "v=1; d=example.org; s=ed25519; c=relaxed/relaxed; h=From"
	text := forged(t, letter, tags, all[0], 0)
	sub := forged(t, letter, tags+"; i=@sub.example.org", all[0], 0)
	p := strings.TrimPrefix(record(t, all[0].Signer), "v=DKIM1; k=ed25519; ")
	other := record(t, keyOf(t, Ed25519))
	tests := []struct {
		records []string
		want    string
		reason  string
	}{
		{[]string{"v=DKIM1; k=ed25519; " + p}, "pass", ""},
		{[]string{"k=ed25519; " + p}, "pass", ""},
		{[]string{p + " ; k = ed25519 ;"}, "pass", ""},
		{[]string{"v=DKIM1;k=ed25519;n=a note;g=x;" + p[:20] + " \t " + p[20:]}, "pass", ""},
		{[]string{"v=DKIM1; k=ed25519; t=y; " + p}, "pass testing", ""},
		{[]string{"v=DKIM1; k=ed25519; t=other : y:s; " + p}, "pass testing", ""},
		{[]string{"v=DKIM1; k=ed25519; s=email; " + p}, "pass", ""},
		{[]string{"v=DKIM1; k=ed25519; s=x:*; " + p}, "pass", ""},
		{[]string{"v=DKIM1; k=ed25519; h=sha1 : sha256; " + p}, "pass", ""},
		{[]string{"v=DKIM1; k=ed25519; s=tlsrpt; " + p}, "permerror", "not for mail"},
		{[]string{"v=DKIM1; k=ed25519; s=; " + p}, "permerror", "not for mail"},
		{[]string{"v=DKIM1; k=ed25519; h=sha1; " + p}, "permerror", "not for sha256"},
		{[]string{"v=DKIM1; k=ed25519; h=; " + p}, "permerror", "not for sha256"},
		{[]string{"v=DKIM1; " + p}, "permerror", "not an RSA key"},
		{[]string{"v=DKIM1; k=new; " + p}, "permerror", "kind of the key"},
		{[]string{"k=ed25519; v=DKIM1; " + p}, "permerror", "malformed"},
		{[]string{"v=DKIM1.0; k=ed25519; " + p}, "permerror", "malformed"},
		{[]string{"v=dkim1; k=ed25519; " + p}, "permerror", "malformed"},
		{[]string{"v=DKIM1; k=ed25519; " + p + "; p=x"}, "permerror", "twice"},
		{[]string{"v=DKIM1; k=ed25519"}, "permerror", "no p="},
		{[]string{"v=DKIM1; k=ed25519; p="}, "permerror", "revoked"},
		{[]string{"v=DKIM1; k=ed25519; p= "}, "permerror", "revoked"},
		{[]string{"v=DKIM1; k=ed25519; p=AAAA"}, "permerror", "length"},
		{[]string{"v=DKIM1; k=ed25519; p=?"}, "permerror", "base64"},
		{[]string{"v=spf1 -all"}, "permerror", "malformed"},
		{[]string{""}, "permerror", "malformed"},
		{[]string{}, "permerror", "no key"},
		{nil, "permerror", "no key"},
		{[]string{"!"}, "temperror", "could not be looked up"},
		{[]string{other}, "fail", "not right"},
		{[]string{"v=spf1 -all", "k=ed25519; " + p}, "pass", ""},
		{[]string{other, "k=ed25519; " + p}, "pass", ""},
		{[]string{"v=spf1 -all", other}, "fail", "not right"},
		{[]string{"x", "x", "x", "x", "k=ed25519; " + p}, "permerror", "malformed"},
		{[]string{"k=ed25519; n=" + strings.Repeat("x", maxRecord) + "; " + p}, "permerror", "bytes"},
		{[]string{"k=ed25519; t=s; " + p}, "pass", ""},
	}
	for _, tt := range tests {
		z := zone{}
		if tt.records != nil {
			z["ed25519._domainkey.example.org"] = tt.records
		}
		r := verify(t, text, z, then)[0]
		got := string(r.Status)
		if r.Testing {
			got += " testing"
		}
		if got != tt.want || !strings.Contains(r.Reason, tt.reason) || tt.reason == "" && r.Reason != "" {
			t.Errorf("%.100q: got %+v", tt.records, r)
		}
	}
	z := zone{"ed25519._domainkey.example.org": {"k=ed25519; t=s; " + p}}
	if r := verify(t, sub, z, then); statuses(r) != "permerror" {
		t.Errorf("t=s and i= of a subdomain: %+v", r)
	}
	z["ed25519._domainkey.example.org"][0] = "k=ed25519; " + p
	if r := verify(t, sub, z, then); statuses(r) != "pass" {
		t.Errorf("i= of a subdomain: %+v", r)
	}
}

// A thousand signatures, small and large keys, and long lists cost little and are no pass.
func TestAttack71Cost(t *testing.T) {
	all, z := keys(t)
	var asked counting
	asked.zone = z
	junk := ""
	for i := range 1000 {
		junk += fmt.Sprintf("DKIM-Signature: v=1; a=rsa-sha256; d=victim%d.example; s=x; h=from; c=relaxed/relaxed; bh=%s; b=AAAA\r\n", i, bodyHash(t, letter))
	}
	header, open := split(junk + signed(t, letter, all, SignOptions{}))
	results := Verify(t.Context(), &asked, header, open, VerifyOptions{Now: then})
	if want := "pass pass" + strings.Repeat(" permerror", 8) + " policy"; statuses(results) != want {
		t.Errorf("got %s", statuses(results))
	}
	if asked.n != 10 {
		t.Errorf("%d names were asked for", asked.n)
	}
	// However many lengths are signed, the body is read once.
	opened, lengths := 0, ""
	for i := range 200 {
		lengths += strings.SplitAfter(forged(t, letter, fmt.Sprintf("v=1; d=example.org; s=ed25519; c=relaxed/simple; h=from; l=%d", i%20), all[0], int64(i%20)), "\r\n")[0]
	}
	header, open = split(lengths + letter)
	results = Verify(t.Context(), z, header, func(ctx context.Context) (io.ReadCloser, error) { opened++; return open(ctx) }, VerifyOptions{Now: then})
	if opened != 1 || statuses(results) != strings.TrimSpace(strings.Repeat("policy ", 11)) {
		t.Errorf("opened %d times: %s", opened, statuses(results))
	}
	// Where the body is another nobody is asked at all.
	asked.n = 0
	header, open = split(junk + letter + "more\r\n")
	if results := Verify(t.Context(), &asked, header, open, VerifyOptions{Now: then}); asked.n != 0 || len(results) != 11 {
		t.Errorf("%d names were asked for, %d results", asked.n, len(results))
	}
	small, err := rsa.GenerateKey(rand.Reader, minBits)
	if err != nil {
		t.Fatal(err)
	}
	even := small.PublicKey
	even.N = new(big.Int).Lsh(big.NewInt(1), 2047)
	for _, e := range []int{1, 2, 3, 65537, 1<<31 - 1} {
		for _, n := range []*big.Int{even.N, small.N} {
			der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: e})
			if err != nil {
				t.Fatal(err)
			}
			z := zone{"x._domainkey.example.org": {"p=" + base64.StdEncoding.EncodeToString(der)}}
			text := forged(t, letter, "v=1; d=example.org; s=x; c=relaxed/relaxed; h=From", Key{Signer: small}, 0)
			if r := verify(t, text, z, then); r[0].Status == Pass && (e != 65537 || n != small.N) || r[0].Status == TempError {
				t.Errorf("exponent %d: %+v", e, r)
			}
		}
	}
	for bits, want := range map[int]string{512: "permerror", 1023: "permerror", 1024: "pass", 4096: "fail", 8192: "fail", 8193: "permerror", 16384: "permerror"} {
		public := small.PublicKey
		if bits != 1024 {
			public.N = new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), uint(bits-1)), big.NewInt(1))
		}
		der, err := x509.MarshalPKIXPublicKey(&public)
		if err != nil {
			t.Fatal(err)
		}
		z := zone{"x._domainkey.example.org": {"p=" + base64.StdEncoding.EncodeToString(der)}}
		text := forged(t, letter, "v=1; d=example.org; s=x; c=relaxed/relaxed; h=From", Key{Signer: small}, 0)
		if r := verify(t, text, z, then); statuses(r) != want || r[0].KeyBits != bits {
			t.Errorf("%d bits: %+v", bits, r)
		}
	}
}

func bodyHash(t testing.TB, text string) string {
	t.Helper()
	_, open := split(text)
	r, _ := open(t.Context())
	sum, err := sumOne(r, Relaxed)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sum)
}

type counting struct {
	zone
	mu sync.Mutex
	n  int
}

func (c *counting) LookupTXT(ctx context.Context, name string) ([]string, dnsx.Info, error) {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	return c.zone.LookupTXT(ctx, name)
}

// Where programs could take another line for the border of header and body, nothing is
// verified, though the signature is right.
func TestAttack70OddBorder(t *testing.T) {
	all, z := keys(t)
	out := signed(t, letter, all[:1], SignOptions{})
	if statuses(verify(t, out, z, then)) != "pass" {
		t.Fatal("the control does not pass")
	}
	at := strings.Index(out, "From: Ann")
	for name, text := range map[string]string{
		"a line that is no field":            out[:at] + "this is no field\r\n" + out[at:],
		"a field without a name":             out[:at] + ": x\r\n" + out[at:],
		"white space in a name":              out[:at] + "X Y: z\r\n" + out[at:],
		"mbox":                               "From ann@example.org Sun Nov  1 12:00:00 2026\r\n" + out,
		"white space before all":             " x\r\n" + out,
		"a line of white space":              out[:at] + "X: 1\r\n \r\n" + out[at:],
		"a line of white space, then folded": out[:at] + "X: 1\r\n\t\r\n more\r\n" + out[at:],
		"bare LF":                            out[:at] + "X: 1\nY: 2\r\n" + out[at:],
		"LF LF":                              out[:at] + "X: 1\n\n" + out[at:],
		"bare CR":                            out[:at] + "X: 1\rY: 2\r\n" + out[at:],
		"CR CR LF":                           out[:at] + "X: 1\r\r\n" + out[at:],
		"NUL":                                out[:at] + "X: \x00\r\n" + out[at:],
		"8 bits in a name":                   out[:at] + "Sübject: x\r\n" + out[at:],
	} {
		header, body := []byte(text), ""
		if i := strings.Index(text, "Dear"); i > 0 {
			header, body = []byte(text[:i]), text[i:]
		}
		r := Verify(t.Context(), z, header, func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }, VerifyOptions{Now: then})
		if statuses(r) != "permerror" || r[0].Reason == "" {
			t.Errorf("%s: %+v", name, r)
		}
		if _, err := Sign(header, strings.NewReader(body), all, SignOptions{Now: then}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: signed, %v", name, err)
		}
	}
	// A header that is cut where its caller keeps no more of it.
	header := []byte("From: a@example.org\r\n")
	cut := signed(t, string(header), all[:1], SignOptions{})
	r := Verify(t.Context(), z, []byte(cut), func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("Subject: more\r\n\r\ntext")), nil
	}, VerifyOptions{Now: then})
	if statuses(r) != "permerror" {
		t.Errorf("a header that is cut: %+v", r)
	}
	if _, err := Sign(header, strings.NewReader("more"), all, SignOptions{Now: then}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a header that is cut was signed: %v", err)
	}
	// And what is no doubt: a line of white space at the very end of the header.
	ending := strings.Replace(signed(t, strings.Replace(letter, "\r\n\r\n", "\r\n \r\n\r\n", 1), all[:1], SignOptions{}), "x", "x", 1)
	if r := verify(t, ending, z, then); statuses(r) != "pass" {
		t.Errorf("a last line of white space: %+v", r)
	}
}

func TestSignRefuses(t *testing.T) {
	all, _ := keys(t)
	for name, header := range map[string]string{
		"no From": "To: x\r\n\r\n", "two From": "From: a@example.org\r\nfrom: b@example.org\r\n\r\n",
		"too many": "From: a@example.org\r\n" + strings.Repeat("To: x\r\n", 500) + "\r\n",
	} {
		if _, err := Sign([]byte(header), strings.NewReader(""), all, SignOptions{Now: then}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := errors.New("disk")
	if _, err := Sign([]byte(letter[:strings.Index(letter, "Dear")]), io.MultiReader(strings.NewReader("x"), failing{broken}), all, SignOptions{}); !errors.Is(err, broken) {
		t.Errorf("a body that cannot be read: %v", err)
	}
	if fields, err := Sign([]byte("x"), nil, nil, SignOptions{}); err != nil || fields != nil {
		t.Errorf("no keys: %q %v", fields, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A body that cannot be read now is no failure of the signature, nor is a name server
// that does not answer.
func TestTemporary(t *testing.T) {
	all, z := keys(t)
	out := signed(t, letter, all, SignOptions{})
	header, _ := split(out)
	calls := 0
	r := Verify(t.Context(), z, header, func(context.Context) (io.ReadCloser, error) {
		calls++
		return io.NopCloser(failing{errors.New("disk")}), nil
	}, VerifyOptions{Now: then})
	if statuses(r) != "temperror temperror" || calls != 1 {
		t.Errorf("%+v, opened %d times", r, calls)
	}
}

// The body is read once for all signatures.
func TestOnePass(t *testing.T) {
	all, z := keys(t)
	text := letter
	for i := range 4 {
		text = signed(t, text, all, SignOptions{Header: Canon(i % 2), Body: Canon(i / 2)})
	}
	header, open := split(text)
	calls := 0
	r := Verify(t.Context(), z, header, func(ctx context.Context) (io.ReadCloser, error) { calls++; return open(ctx) }, VerifyOptions{Now: then})
	if statuses(r) != strings.TrimSpace(strings.Repeat("pass ", 8)) || calls != 1 {
		t.Errorf("%s, opened %d times", statuses(r), calls)
	}
}

func TestKeys(t *testing.T) {
	for _, algorithm := range []string{RSA, Ed25519} {
		k := keyOf(t, algorithm)
		der, err := MarshalKey(k)
		if err != nil {
			t.Fatal(err)
		}
		for name, form := range map[string][]byte{"DER": der, "PEM": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
			again, err := ParseKey(form)
			if err != nil || record(t, again) != record(t, k) || Algorithm(again) != algorithm {
				t.Errorf("%s %s: %v", algorithm, name, err)
			}
		}
	}
	old := x509.MarshalPKCS1PrivateKey(rsaKey().(*rsa.PrivateKey))
	if k, err := ParseKey(old); err != nil || Algorithm(k) != RSA {
		t.Errorf("PKCS #1: %v", err)
	}
	other, err := x509.MarshalPKCS8PrivateKey(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, []byte("x"), other, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")} {
		if _, err := ParseKey(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if _, err := GenerateKey("rsa-sha1", rand.Reader); !fault.Is(err, fault.Unsupported) {
		t.Error(err)
	}
	if got := RecordName("a.b", "example.org"); got != "a.b._domainkey.example.org" {
		t.Error(got)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
