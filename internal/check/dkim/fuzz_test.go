package dkim

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/martlet-mail/martlet/test/memory"
)

var runs = regexp.MustCompile(`[ \t]+`)

// plainly canonicalises a body as RFC 6376, 3.4.3 and 3.4.4 say it, all at once.
func plainly(c Canon, text string) string {
	lines := strings.Split(text, "\r\n")
	if c == Relaxed {
		for i := range lines {
			lines[i] = strings.TrimSuffix(runs.ReplaceAllString(lines[i], " "), " ")
		}
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) == 0 && c == Relaxed {
		return ""
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

// FuzzBody: a body in any pieces is canonical as a plain statement of the RFC has it.
func FuzzBody(f *testing.F) {
	for _, text := range odd {
		if len(text) < 4000 {
			f.Add(text, uint16(7))
		}
	}
	f.Add("a \r\rb\r \n\n\r\n\t\r\n\r", uint16(1))
	f.Add(" \r \r\n", uint16(2))
	f.Fuzz(func(t *testing.T, text string, cut uint16) {
		for _, c := range []Canon{Relaxed, Simple} {
			want := plainly(c, text)
			for _, piece := range []int{int(cut%97) + 1, max(len(text), 1)} {
				if got := canonical(c, text, piece); got != want {
					t.Fatalf("%v of %q in pieces of %d: %q, want %q", c, text, piece, got, want)
				}
			}
			if c == Relaxed && canonical(c, want, 5) != want {
				t.Fatalf("%q is canonical, and is not left so", want)
			}
		}
	})
}

// FuzzTags: a list is refused, or the values stand where it is said, no name is there twice,
// and what is written of them is read again as the same.
func FuzzTags(f *testing.F) {
	for _, s := range []string{"a=1", "v=1; a = x ;\r\n b=\r\n\tc d; ", "a=1;;", "a=1; a=2", "=", "a_1=;", "1=2", "p=a=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var tags Tags
		var err error
		memory.Bounded(t, 100*len(s), func() { tags, err = ParseTags([]byte(s)) })
		if err != nil {
			return
		}
		again := ""
		for i, tag := range tags {
			if strings.Trim(s[tag.Start:tag.End], " \t\r\n") != tag.Value || s[tag.Start-1] != '=' {
				t.Fatalf("%q: %+v", s, tag)
			}
			if v, _ := tags[:i+1].Get(tag.Name); v != tag.Value {
				t.Fatalf("%q has %s twice", s, tag.Name)
			}
			again += tag.Name + "=" + tag.Value + ";"
		}
		same, err := ParseTags([]byte(again))
		if err != nil || len(same) != len(tags) {
			t.Fatalf("%q was read as %q: %v", s, again, err)
		}
		for i := range tags {
			if tags[i].Name != same[i].Name || tags[i].Value != same[i].Value {
				t.Fatalf("%q: %+v, then %+v", s, tags[i], same[i])
			}
		}
	})
}

// FuzzRecord: a key record is refused with a reason, or is a key within bounds.
func FuzzRecord(f *testing.F) {
	for _, records := range rfc8463Zone {
		f.Add(records[0])
	}
	f.Add("v=DKIM1; p=")
	f.Add("k=ed25519; t=y:s; h=sha256; s=*; p=AAAA")
	f.Fuzz(func(t *testing.T, record string) {
		var k PublicKey
		var err error
		memory.Bounded(t, 1000*len(record), func() { k, err = ParseRecord(record) })
		if err == nil && (k.rsa == nil) == (k.ed == nil) || err == nil && (k.Bits < 256 || k.Bits > maxBits) {
			t.Fatalf("%q: %+v", record, k)
		}
	})
}

// FuzzVerify: any header gives results within bounds; one that an independent implementation
// does not pass is no pass here either, unless that implementation cannot read it for reasons
// of its own.
func FuzzVerify(f *testing.F) {
	for _, name := range []string{"rfc8463.eml", "rfc6376.eml"} {
		f.Add(read(f, name), uint16(0), "x")
		f.Add(read(f, name), uint16(30), " ")
	}
	f.Add(letter, uint16(1), "DKIM-Signature: ")
	f.Fuzz(func(t *testing.T, text string, at uint16, insert string) {
		if len(text) > 64<<10 || len(insert) > 1000 {
			return
		}
		n := min(int(at), len(text))
		text = text[:n] + insert + text[n:]
		var results []Result
		memory.Bounded(t, 200*len(text)+1<<20, func() { results = verify(t, text, exampleZone, then) })
		if len(results) > maxChecked+1 {
			t.Fatalf("%d results", len(results))
		}
		for i, r := range results {
			if (r.Status == Pass) != (r.Reason == "") || r.Status == Pass && (r.Domain == "" || r.Weak) {
				t.Fatalf("%+v", r)
			}
			if r.Status == Pass && i < 5 {
				if err := opinion(text, i); err != nil {
					t.Fatalf("passes here, elsewhere not: %v\n%q", err, text)
				}
			}
		}
	})
}

var exampleZone = zone{
	"brisbane._domainkey.football.example.com": rfc8463Zone["brisbane._domainkey.football.example.com"],
	"test._domainkey.football.example.com":     rfc8463Zone["test._domainkey.football.example.com"],
	"brisbane._domainkey.example.com": {"v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQ" +
		"KBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v" +
		"/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"},
}

// opinion is what another implementation says of the n-th signature.
func opinion(text string, n int) error { return opinionIn(text, n, exampleZone) }

func opinionIn(text string, n int, z zone) error {
	found, err := dkim.VerifyWithOptions(strings.NewReader(text), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		records, _, err := z.LookupTXT(context.Background(), name)
		return records, err
	}})
	if err != nil {
		return err
	}
	if n >= len(found) {
		return fmt.Errorf("only %d signatures", len(found))
	}
	return found[n].Err
}
