package mime

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

func nest(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	return b.String() + "\r\nin the middle"
}

func depth(p *Part) int {
	d := 0
	for _, c := range p.Children {
		d = max(d, depth(c))
	}
	return d + 1
}

func count(p *Part) int {
	n := 1
	for _, c := range p.Children {
		n += count(c)
	}
	return n
}

func TestDepthLimit(t *testing.T) {
	for _, in := range []string{nest(10_000), strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 10_000)} {
		m := parse(in, Limits{})
		check(t, []byte(in), m)
		if d := depth(m.Root); d != 100 {
			t.Errorf("depth %d", d)
		}
		p := m.Root
		for len(p.Children) > 0 {
			p = p.Children[0]
		}
		if p.Type != "application" || p.End != m.Size {
			t.Errorf("innermost part is %s/%s and ends at %d of %d", p.Type, p.Subtype, p.End, m.Size)
		}
	}
	if m := parse(nest(99), Limits{}); depth(m.Root) != 100 || m.Preview != "in the middle" {
		t.Errorf("99 levels: depth %d, preview %q", depth(m.Root), m.Preview)
	}
}

func TestPartsLimit(t *testing.T) {
	in := "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		strings.Repeat("--b\r\n\r\nx\r\n", 20_000) + "--b--\r\n--a\r\n\r\nafter\r\n--a\r\n\r\nlast\r\n--a--\r\n"
	m := parse(in, Limits{})
	check(t, []byte(in), m)
	// The root, the inner multipart, 9,998 leaves, and the rest of each multipart.
	if n := count(m.Root); n != 10_002 {
		t.Errorf("%d parts", n)
	}
	rest := m.Root.Children[1]
	if got := in[rest.Header:rest.End]; rest.Type != "application" || got != "\r\nafter\r\n--a\r\n\r\nlast" {
		t.Errorf("rest of the outer multipart: %s/%s %q", rest.Type, rest.Subtype, got)
	}
	inner := m.Root.Children[0]
	rest = inner.Children[len(inner.Children)-1]
	if rest.Subtype != "octet-stream" || rest.Header != rest.Body || int(rest.Size()) != (20_000-9_998)*10-7 {
		t.Errorf("rest of the inner multipart: %+v", rest)
	}
}

func TestHeaderLimits(t *testing.T) {
	long := "X: " + strings.Repeat("x", 300<<10) + "\r\n"
	for _, c := range []struct{ name, in, subject string }{
		{"after the byte limit", long + "Subject: x\r\n\r\nbody", ""},
		{"before the byte limit", "Subject: x\r\n" + long + "\r\nbody", "x"},
		{"after the field limit", strings.Repeat("a:\r\n", 10_000) + "Subject: x\r\n\r\nbody", ""},
		{"before the field limit", strings.Repeat("a:\r\n", 9_999) + "Subject: x\r\n\r\nbody", "x"},
	} {
		m := parse(c.in, Limits{})
		check(t, []byte(c.in), m)
		if m.Subject != c.subject || m.Preview != "body" {
			t.Errorf("%s: subject %q, preview %q", c.name, m.Subject, m.Preview)
		}
	}
}

func TestTotalLimit(t *testing.T) {
	in := "Subject: 0123456789\r\nMessage-ID: <a@b>\r\n\r\n"
	m := parse(in, Limits{TotalBytes: 8})
	check(t, []byte(in), m)
	if m.Subject != "" || m.MessageID != "a@b" {
		t.Errorf("kept %q and %q", m.Subject, m.MessageID)
	}
}

func TestLongLineIsNoDelimiter(t *testing.T) {
	in := "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n--b" + strings.Repeat(" ", 5000) + "x\r\n--b--\r\n"
	m := parse(in, Limits{})
	check(t, []byte(in), m)
	if len(m.Root.Children) != 1 || m.Root.Children[0].Size() != 5004 {
		t.Errorf("tree %s", outline(in, m.Root))
	}
	boundary := strings.Repeat("b", maxBoundary+1)
	in = "Content-Type: multipart/mixed; boundary=" + boundary + "\r\n\r\n--" + boundary + "\r\n\r\nx\r\n"
	if m := parse(in, Limits{}); m.Root.Type != "text" {
		t.Errorf("a boundary of %d bytes is used", len(boundary))
	}
}

func TestAddressLimits(t *testing.T) {
	var to []string
	for i := range 5000 {
		to = append(to, fmt.Sprintf("user%d@example.com", i))
	}
	in := "To: group: " + strings.Join(to, ",\r\n ") + ";\r\nCc: " + strings.Join(to, ", ") + "\r\n\r\n"
	m := parse(in, Limits{})
	check(t, []byte(in), m)
	if len(m.Envelope) > 70<<10 || len(m.Cc) != 1000 || len(m.To) < 990 || len(m.To) > 1000 {
		t.Errorf("envelope of %d bytes, %d and %d addresses", len(m.Envelope), len(m.To), len(m.Cc))
	}
}

// TestParserMemory streams messages far larger than what may be kept and looks at
// what is kept and what was ever allocated.
func TestParserMemory(t *testing.T) {
	chunk := func(s string) []byte { return bytes.Repeat([]byte(s), 1+(64<<10)/len(s)) }
	for _, c := range []struct {
		name  string
		head  string
		chunk []byte
		alloc uint64
	}{
		{"body of one line", "Subject: x\r\n\r\n", chunk("x"), 1 << 20},
		{"body of short lines", "Subject: x\r\n\r\n", chunk("x\r\n"), 1 << 20},
		{"line that begins like a delimiter", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--", chunk("b"), 1 << 20},
		{"lines that begin like a delimiter", "Content-Type: multipart/mixed; boundary=b\r\n\r\n", chunk("\r\n--c"), 1 << 20},
		{"header of one line", "Subject: ", chunk("x"), 4 << 20},
		{"header of short fields", "", chunk("To: a@b\r\n"), 16 << 20},
		{"header of continuations", "Subject: x\r\n", chunk(" x\r\n"), 4 << 20},
		{"html", "Content-Type: text/html\r\n\r\n", chunk("<p>"), 1 << 20},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p := NewParser(Limits{})
		p.Write([]byte(c.head))
		for range 16 << 20 / len(c.chunk) {
			p.Write(c.chunk)
		}
		kept := cap(p.line) + cap(p.capture) + cap(p.head.field) + p.used
		m := p.Finish()
		runtime.ReadMemStats(&after)
		if kept > 2<<20 {
			t.Errorf("%s: %d bytes are kept", c.name, kept)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > c.alloc {
			t.Errorf("%s: %d bytes allocated for %d", c.name, got, m.Size)
		}
	}
}

// TestStructureStaysInProportion feeds hostile headers in many parts: what is made
// from them must not multiply.
func TestStructureStaysInProportion(t *testing.T) {
	for name, field := range map[string]string{
		"addresses":  "From: " + strings.Repeat("a,", 5000),
		"groups":     "To: " + strings.Repeat("a:;", 5000),
		"parameters": "Content-Disposition: a" + strings.Repeat("; x", 5000),
		"encoded":    "Content-Disposition: a; x*0*=''" + strings.Repeat("%", 5000) + "; x*1=" + strings.Repeat("\"", 5000),
	} {
		in := "Content-Type: multipart/digest; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n"+field+"\r\n\r\n", 500)
		m := parse(in, Limits{})
		check(t, []byte(in), m)
		if n := len(m.BodyStructure); n > 4<<20 {
			t.Errorf("%s: body structure of %d bytes from %d", name, n, len(in))
		}
	}
}

// TestAllocationIsLinear compares the bytes allocated for n and 2n of hostile text.
func TestAllocationIsLinear(t *testing.T) {
	const n = 20_000
	for name, c := range map[string]struct {
		unit string
		run  func(string)
	}{
		"words":          {"=?utf-8?q?=C3=A9?= ", func(s string) { DecodeWords(s) }},
		"mixed words":    {"=?utf-8?q?a?= =?koi8-r?q?b?= ", func(s string) { DecodeWords(s) }},
		"broken words":   {"=?", func(s string) { DecodeWords(s) }},
		"addresses":      {"a b <c@d>, ", func(s string) { parseMailboxes(s, 1<<30) }},
		"comments":       {"(a)", func(s string) { parseMailboxes(s, 1<<30) }},
		"atoms":          {"a. ", func(s string) { parseMailboxes(s, 1<<30) }},
		"ids":            {"<a@b> ", func(s string) { ParseMessageIDs(s, 100) }},
		"pieces":         {"; x*1=a", func(s string) { parseContentType("a/b" + s) }},
		"leaders":        {"re: [a] ", func(s string) { BaseSubject(s) }},
		"html":           {"<p>a&amp;", func(s string) { HTMLText(s) }},
		"to fields":      {"To: a\r\n", func(s string) { parse(s, Limits{HeaderBytes: 1 << 30, HeaderFields: 1 << 30, TotalBytes: 1 << 30}) }},
		"parts":          {"--b\r\n\r\n", func(s string) { parse("Content-Type: multipart/mixed; boundary=b\r\n\r\n"+s, Limits{Parts: 1 << 30}) }},
		"header filter":  {"a: b\r\n", func(s string) { FilterHeader([]byte(s), []string{"a"}, false) }},
		"unfold":         {"a\r\n ", func(s string) { Unfold([]byte(s)) }},
		"base64 decoder": {"YWJj", func(s string) { io.Copy(io.Discard, NewDecoder("base64", strings.NewReader(s))) }},
		"qp decoder":     {"= ", func(s string) { io.Copy(io.Discard, NewDecoder("quoted-printable", strings.NewReader(s))) }},
	} {
		measure := func(k int) uint64 {
			s := strings.Repeat(c.unit, k)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			c.run(s)
			runtime.ReadMemStats(&after)
			return after.TotalAlloc - before.TotalAlloc
		}
		one, two := measure(n), measure(2*n)
		if two > one*3+64<<10 {
			t.Errorf("%s: %d bytes for n, %d for 2n", name, one, two)
		}
	}
}

// TestHostileTextEnds runs megabytes of text in which a scan that starts over at
// each byte would need 10^11 steps a call: such a scan does not come to an end here.
func TestHostileTextEnds(t *testing.T) {
	const n = 1 << 19
	for _, unit := range []string{
		"(", "()", "\"", "\\", "<", ">", "[", "[]", "[a", "[a]", "re:", "re[", "[fwd:", "=?", "=?a", "=?a?", "=?a?q?", "=?a?q?b?",
		"?", "a@", "@", ":", ";", ":;", ",", "a ", ". ", "a\r\n ", "</", "</style", "<style>", "<!--", "<a \"", "&", "%", "'", "*", "x*0=", ";x*0*=''%", "-",
	} {
		s := strings.Repeat(unit, n/len(unit))
		DecodeWords(s)
		parseMailboxes(s, 1<<30)
		ParseMessageIDs(s, 100)
		ParseDate(s)
		BaseSubject(s)
		HTMLText(s)
		parseContentType("a/b;" + s)
		parseContentType("a/b; x=" + s)
		parseDisposition(s)
		parseLanguages(s)
		Unfold([]byte(s))
		BasicStructure([]byte(s))
		ParsePart([]byte(s))
		FilterHeader([]byte(s), []string{"x"}, false)
		Params{{"x*", s}}.Get("x")
		parse("Subject: "+s+"\r\nFrom: "+s+"\r\nContent-Type: a/b;"+s+"\r\n\r\n"+s, Limits{HeaderBytes: 1 << 30, TotalBytes: 1 << 30})
	}
}
