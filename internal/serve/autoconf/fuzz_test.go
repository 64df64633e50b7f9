package autoconf

import (
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

// A request is read or refused with a reason; what is read is in it as written again, and the
// answer to it is XML in which the address is text.
func FuzzQuestion(f *testing.F) {
	for _, seed := range []string{
		asked("a@here.example"), asked(`"<b>"@here.example`), asked(""), `<!DOCTYPE x [<!ENTITY e "x">]>` + asked("a@b"), "<a>&e;</a>", `<?xml version="1.0" encoding="utf-16"?><a/>`,
		"<Autodiscover><Request><EMailAddress>a<!-- c -->@here.example</EMailAddress></Request></Autodiscover>",
		"<Autodiscover><Request><EMailAddress><![CDATA[a@here.example]]></EMailAddress></Request></Autodiscover>", "", strings.Repeat("<a>", 100), "\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := readQuestion(body)
		if err != nil {
			if k := fault.Of(err); k != fault.Invalid && k != fault.TooLarge {
				t.Fatalf("%v is of kind %v", err, k)
			}
			return
		}
		if len(q.Address)+len(q.Schema) > len(body) {
			t.Fatalf("%d bytes of %d", len(q.Address)+len(q.Schema), len(body))
		}
		again, err := readQuestion([]byte(strings.Replace(asked(q.Address), schemaOutlook, "", 1)))
		if err != nil || again.Address != strings.TrimSpace(again.Address) || canonicalOf(again.Address) != canonicalOf(q.Address) {
			t.Fatalf("%q is %q when it is written again; %v", q.Address, again.Address, err)
		}
		r := ask(options(), "POST", "here.example", discoverPath, string(body))
		if len(body) <= maxQuestion && r.StatusCode != http.StatusOK && r.StatusCode != http.StatusServiceUnavailable {
			t.Fatal(r.Status)
		}
		if r.StatusCode != http.StatusOK {
			return
		}
		for d := xml.NewDecoder(strings.NewReader(bodyOf(t, r))); ; {
			token, err := d.Token()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Space != schemaFrame && e.Name.Space != schemaOutlook {
				t.Fatalf("element %v", e.Name)
			}
		}
	})
}

func canonicalOf(address string) string {
	a, _ := canonical(address)
	return a
}
