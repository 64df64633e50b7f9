package imap

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// readParts reads the parts of a message that is put together.
func readParts(d *Decoder, out *[]string) bool {
	var last *CatPart
	for {
		var p CatPart
		if !d.NextCatPart(last, &p) {
			return d.Err() == nil
		}
		last = &p
		if p.Data == nil {
			*out = append(*out, "URL "+p.URL)
			continue
		}
		b, err := io.ReadAll(p.Data)
		if err != nil {
			return false
		}
		*out = append(*out, fmt.Sprintf("%v %v %q", p.UTF8, p.Data.Binary, b))
	}
}

func TestCatenate(t *testing.T) {
	got, err := parse("Drafts (\\Seen) CATENATE (URL \"/Drafts/;UID=20/;section=HEADER\" TEXT {4}\r\n\r\nab URL x text ~{2+}\r\n\x00c utf8 (~{1}\r\nz)) {1}\r\ny CATENATE (TEXT {1}\r\nb)", readAppend)
	want := []string{
		`(\Seen) ["URL /Drafts/;UID=20/;section=HEADER" "false false \"\\r\\nab\"" "URL x" "false true \"\\x00c\"" "true true \"z\""]`,
		`() 0001-01-01T00:00:00Z false "y" false false`,
		`() ["false false \"b\""]`,
	}
	if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s %v\nwant %s", strings.Join(got, "\n"), err, strings.Join(want, "\n"))
	}
	for in, why := range map[string]string{
		"x CATENATE": "a space", "x CATENATE ": "'('", "x CATENATE ()": "TEXT or URL", "x CATENATE (URL)": "a space", `x CATENATE (URL "")`: "an empty string",
		"x CATENATE (TEXT abc)": "a literal", "x CATENATE (URL a": "a space or ')'", "x CATENATE (URL a URL)": "a space", "x CATENATE (FILE a)": "no part of the form",
		"x CATENATE (UTF8 (~{1}\r\na": "')'", "x CATENATE (TEXT {1}\r\nab)": "a space or ')'",
		"x CATENATE (" + many("URL a", 3000): "more than",
	} {
		_, err := parse(in, readAppend)
		says(t, err, why)
	}
}
