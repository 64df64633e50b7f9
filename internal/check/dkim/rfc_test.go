package dkim

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// zone answers for a name server: names and their TXT records.
type zone map[string][]string

func (z zone) LookupTXT(_ context.Context, name string) ([]string, dnsx.Info, error) {
	records, ok := z[name]
	switch {
	case len(records) == 1 && records[0] == "!":
		return nil, dnsx.Info{}, fault.New(fault.Unavailable, "timeout")
	case !ok:
		return nil, dnsx.Info{}, fault.Wrap(fault.NotFound, "", dnsx.ErrNoName)
	}
	return records, dnsx.Info{AD: true}, nil
}

// split cuts a message into its header with the empty line, and the rest.
func split(text string) (header []byte, open func(context.Context) (io.ReadCloser, error)) {
	h, b := text, ""
	if i := strings.Index(text, "\r\n\r\n"); i >= 0 {
		h, b = text[:i+4], text[i+4:]
	}
	return []byte(h), func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(b)), nil }
}

func verify(t *testing.T, text string, z zone, now time.Time) []Result {
	t.Helper()
	header, open := split(text)
	return Verify(t.Context(), z, header, open, VerifyOptions{Now: now})
}

func statuses(results []Result) string {
	var all []string
	for _, r := range results {
		all = append(all, string(r.Status))
	}
	return strings.Join(all, " ")
}

var rfc8463Zone = zone{
	"brisbane._domainkey.football.example.com": {"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},
	"test._domainkey.football.example.com": {"v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR" +
		"iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC" +
		"DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3" +
		"Ip3G+2kryOTIKT+l/K4w3QIDAQAB"},
}

func read(t testing.TB, name string) string {
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var then = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// RFC 8463, A: both signatures verify, and neither once anything signed is changed.
func TestExampleOfRFC8463(t *testing.T) {
	text := read(t, "rfc8463.eml")
	results := verify(t, text, rfc8463Zone, then)
	if statuses(results) != "pass pass" {
		t.Fatalf("%+v", results)
	}
	want := Result{Status: Pass, Domain: "football.example.com", Selector: "brisbane", Algorithm: Ed25519, Identity: "@football.example.com",
		Signature: "/gCrinpc", Secure: true, KeyBits: 256, Signed: time.Unix(1528637909, 0).UTC()}
	if results[0] != want {
		t.Errorf("got %+v", results[0])
	}
	for from, to := range map[string]string{
		"Joe SixPack": "Joe Sixpack", "We lost": "We won", "dinner": "Dinner", "Date: Fri": "Date: Sat", "s=brisbane; t=1528637909": "s=brisbane; t=1528637908",
		"To: Suzie": "Subject: more\r\nTo: Suzie", "Joe.\r\n": "Joe.\r\n\r\nP.S.\r\n",
	} {
		if got := statuses(verify(t, strings.Replace(text, from, to, 1), rfc8463Zone, then)); !strings.Contains(got, "fail") {
			t.Errorf("%q for %q: %s", to, from, got)
		}
	}
	for from, to := range map[string]string{"Subject: Is dinner": "SUBJECT:  Is\r\n dinner\t", "Hi.": "Hi. \t", "Joe.\r\n": "Joe.\r\n\r\n\r\n", "Subject:": "Received: x\r\nSubject:"} {
		if got := statuses(verify(t, strings.Replace(text, from, to, 1), rfc8463Zone, then)); got != "pass pass" {
			t.Errorf("%q for %q, which relaxed allows: %s", to, from, got)
		}
	}
}

// The keys of RFC 8463, A.1 give the signatures of A.3: Ed25519 and this RSA are
// deterministic, so the data that is signed is the same to the byte.
func TestSignsAsRFC8463(t *testing.T) {
	seed, _ := base64.StdEncoding.DecodeString("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
	key := ed25519.NewKeyFromSeed(seed)
	m := NewMessage(split(read(t, "rfc8463.eml")))
	field := m.Fields("DKIM-Signature")[0]
	s, err := ParseSignature(field)
	if err != nil || s.ParseContent(Simple) != nil {
		t.Fatal(err)
	}
	data := s.AppendUnsigned(m.AppendFields(nil, s.canon, s.names, field), s.canon)
	sig, err := Key{Signer: key}.sign(data, nil)
	if err != nil || !bytes.Equal(sig, s.sig) {
		t.Errorf("another signature than in the RFC: %v\n%s", err, data)
	}
	record, err := Record(key)
	if err != nil || !slices.Equal(rfc8463Zone["brisbane._domainkey.football.example.com"], []string{record}) {
		t.Errorf("another record than in the RFC: %s %v", record, err)
	}
}

// RFC 6376, A: with the spaces that were signed, not those that the RFC's typesetting made
// of them (two behind a full stop, five in front of a folded line).
func TestExampleOfRFC6376(t *testing.T) {
	z := zone{"brisbane._domainkey.example.com": {"v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQ" +
		"KBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v" +
		"/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"}}
	text := read(t, "rfc6376.eml")
	results := verify(t, text, z, then)
	if statuses(results) != "pass" || results[0].Identity != "joe@football.example.com" || results[0].Domain != "example.com" {
		t.Errorf("%+v", results)
	}
	for from, to := range map[string]string{"SUBMISSION;": "SUBMISSION; ", "From:": "from:", "game. Are": "game.  Are"} {
		if got := statuses(verify(t, strings.Replace(text, from, to, 1), z, then)); got != "fail" {
			t.Errorf("%q for %q, which simple does not allow: %s", to, from, got)
		}
	}
}

// RFC 6376, 3.4.5.
func TestCanonicalExamples(t *testing.T) {
	header, open := split("A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n")
	m := NewMessage(header, open)
	for c, want := range map[Canon][2]string{
		Relaxed: {"a:X\r\nb:Y Z\r\n", " C\r\nD E\r\n"},
		Simple:  {"A: X\r\nB : Y\t\r\n\tZ  \r\n", " C \r\nD \t E\r\n"},
	} {
		got := ""
		for _, f := range m.fields {
			got += string(c.AppendField(nil, f))
		}
		if got != want[0] {
			t.Errorf("%v header: %q", c, got)
		}
		if got := canonical(c, " C \r\nD \t E\r\n\r\n\r\n", 1000); got != want[1] {
			t.Errorf("%v body: %q", c, got)
		}
	}
}

func canonical(c Canon, text string, piece int) string {
	var out strings.Builder
	b := newBody(c, func(p []byte) { out.Write(p) })
	for text != "" {
		n := min(piece, len(text))
		b.Write([]byte(text[:n]))
		text = text[n:]
	}
	b.end()
	return out.String()
}

// RFC 6376, 3.4.3 and 3.4.4: the hashes of bodies that are empty.
func TestEmptyBodies(t *testing.T) {
	for c, want := range map[Canon]string{Simple: "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=", Relaxed: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="} {
		for _, body := range []string{"", "\r\n", "\r\n\r\n\r\n"} {
			sum, err := sumOne(strings.NewReader(body), c)
			if got := base64.StdEncoding.EncodeToString(sum); err != nil || got != want {
				t.Errorf("%v %q: %s %v", c, body, got, err)
			}
		}
	}
	if relaxed, _ := sumOne(strings.NewReader(" \t\r\n "), Relaxed); base64.StdEncoding.EncodeToString(relaxed) != "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" {
		t.Error("lines of white space are no empty lines")
	}
}
