package mime

import (
	"bytes"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func parse(s string, lim Limits) *Message {
	p := NewParser(lim)
	p.Write([]byte(s))
	return p.Finish()
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// wire is a value of an IMAP response, read independently of the code under test.
type wire struct {
	atom string // number or NIL
	str  *string
	list []wire
}

func readWire(t testing.TB, b []byte) wire {
	t.Helper()
	v, rest := readValue(t, b, 0)
	if len(rest) > 0 {
		t.Fatalf("%q stands after the value in %q", rest, b)
	}
	return v
}

func readValue(t testing.TB, b []byte, depth int) (wire, []byte) {
	t.Helper()
	if depth > 500 || len(b) == 0 {
		t.Fatalf("value is missing or nested %d deep", depth)
	}
	switch b[0] {
	case '(':
		v := wire{list: []wire{}}
		b = b[1:]
		for len(b) > 0 && b[0] != ')' {
			var e wire
			e, b = readValue(t, b, depth+1)
			v.list = append(v.list, e)
			if len(b) > 0 && b[0] == ' ' {
				b = b[1:]
				if len(b) == 0 || b[0] == ')' {
					t.Fatal("a space before ) or the end")
				}
			} else if len(b) > 0 && b[0] != ')' && (e.list == nil || b[0] != '(') {
				// Only bodies and addresses stand without a space between them, and
				// " " after the last body is checked by checkBody's count.
				t.Fatalf("no space before %.20q", b)
			}
		}
		if len(b) == 0 {
			t.Fatal("list is not closed")
		}
		return v, b[1:]
	case '"':
		var s []byte
		for i := 1; i < len(b); i++ {
			switch c := b[i]; {
			case c == '\\':
				i++
				s = append(s, b[i])
			case c == '"':
				str := string(s)
				return wire{str: &str}, b[i+1:]
			case c >= 0x80 || c < ' ' && c != '\t' || c == 0x7f:
				t.Fatalf("byte %#x in a quoted string", c)
			default:
				s = append(s, c)
			}
		}
		t.Fatal("quoted string is not closed")
	case '{':
		i := bytes.IndexByte(b, '}')
		n, err := strconv.Atoi(string(b[1:i]))
		if err != nil || string(b[i+1:i+3]) != "\r\n" || len(b) < i+3+n {
			t.Fatalf("bad literal %.20q", b)
		}
		str := string(b[i+3 : i+3+n])
		if strings.IndexByte(str, 0) >= 0 {
			t.Fatal("NUL in a literal")
		}
		return wire{str: &str}, b[i+3+n:]
	}
	i := 0
	for i < len(b) && (b[i] >= '0' && b[i] <= '9' || b[i] >= 'A' && b[i] <= 'Z') {
		i++
	}
	if i == 0 {
		t.Fatalf("no value at %.20q", b)
	}
	return wire{atom: string(b[:i])}, b[i:]
}

func (w wire) isNil() bool { return w.atom == "NIL" }

// checkBody compares a body structure with the part tree.
func checkBody(t testing.TB, w wire, p *Part, extended bool) {
	t.Helper()
	ext := 0
	if len(p.Children) > 0 && p.Type == "multipart" {
		if extended {
			ext = 4
		}
		n := len(p.Children)
		if len(w.list) != n+1+ext || w.list[n].str == nil || *w.list[n].str != p.Subtype {
			t.Fatalf("multipart/%s has %d values for %d children", p.Subtype, len(w.list), n)
		}
		for i, c := range p.Children {
			checkBody(t, w.list[i], c, extended)
		}
		return
	}
	if extended {
		ext = 4
	}
	want := 7
	if p.IsMessage() {
		want = 10
	} else if p.Type == "text" {
		want = 8
	}
	if len(w.list) != want+ext {
		t.Fatalf("%s/%s has %d values, want %d", p.Type, p.Subtype, len(w.list), want+ext)
	}
	if *w.list[0].str != p.Type || *w.list[1].str != p.Subtype || w.list[6].atom != strconv.FormatInt(p.End-p.Body, 10) {
		t.Fatalf("%v does not describe %+v", w.list[:7], p)
	}
	if w.list[5].str == nil {
		t.Fatal("the encoding is not a string")
	}
	if p.IsMessage() {
		checkEnvelope(t, w.list[7])
		checkBody(t, w.list[8], p.Children[0], extended)
	}
	if want > 7 && w.list[want-1].atom != strconv.FormatInt(p.Lines, 10) {
		t.Fatalf("lines %v, want %d", w.list[want-1], p.Lines)
	}
}

func checkEnvelope(t testing.TB, w wire) {
	t.Helper()
	if len(w.list) != 10 {
		t.Fatalf("envelope has %d values", len(w.list))
	}
	for i, v := range w.list {
		if i < 2 || i > 7 {
			if v.str == nil && !v.isNil() {
				t.Fatalf("value %d of the envelope is no nstring", i)
			}
			continue
		}
		if v.isNil() {
			continue
		}
		open := false
		for _, a := range v.list {
			if len(a.list) != 4 {
				t.Fatalf("address has %d values", len(a.list))
			}
			if a.list[3].isNil() { // a group begins or ends
				if open == !a.list[2].isNil() {
					t.Fatal("groups are not in pairs")
				}
				open = !open
			}
		}
		if open || len(v.list) == 0 {
			t.Fatal("a group is open or the list is empty")
		}
	}
}

// checkTree asserts what must hold for the parts of any message.
func checkTree(t testing.TB, raw []byte, p *Part, depth int) {
	t.Helper()
	if p.Header < 0 || p.Body < p.Header || p.End < p.Body || p.End > int64(len(raw)) {
		t.Fatalf("part at %d, %d, %d of %d bytes", p.Header, p.Body, p.End, len(raw))
	}
	if n := bytes.Count(raw[p.Body:p.End], []byte("\n")); int64(n) != p.Lines {
		t.Fatalf("%s/%s: %d lines, want %d", p.Type, p.Subtype, p.Lines, n)
	}
	switch {
	case p.IsMultipart() && len(p.Children) == 0:
		t.Fatal("multipart without parts")
	case p.IsMessage() && len(p.Children) != 1:
		t.Fatal("message without its inner message")
	case !p.IsMultipart() && !p.IsMessage() && len(p.Children) > 0:
		t.Fatal("leaf with children")
	}
	if p.IsMessage() && (p.Children[0].Header != p.Body || p.Children[0].End != p.End) {
		t.Fatal("the inner message does not fill its part")
	}
	at := p.Body
	for _, c := range p.Children {
		if c.Header < at || c.End > p.End {
			t.Fatalf("child at %d to %d, room from %d to %d", c.Header, c.End, at, p.End)
		}
		at = c.End
		checkTree(t, raw, c, depth+1)
	}
	if depth > DefaultLimits().Depth {
		t.Fatalf("depth %d", depth)
	}
}

// check asserts what must hold for any message.
func check(t testing.TB, raw []byte, m *Message) {
	t.Helper()
	if m.Size != int64(len(raw)) || m.Root.Header != 0 || m.Root.End != m.Size || m.HeaderSize != m.Root.Body {
		t.Fatalf("size %d, header %d, root %+v of %d bytes", m.Size, m.HeaderSize, m.Root, len(raw))
	}
	checkTree(t, raw, m.Root, 1)
	checkEnvelope(t, readWire(t, m.Envelope))
	checkBody(t, readWire(t, m.BodyStructure), m.Root, true)
	basic := BasicStructure(m.BodyStructure)
	if basic == nil {
		t.Fatalf("no basic form of %q", m.BodyStructure)
	}
	checkBody(t, readWire(t, basic), m.Root, false)
	if again := BasicStructure(basic); !bytes.Equal(again, basic) {
		t.Fatalf("basic form of the basic form differs: %q", again)
	}
	for _, s := range []string{m.Subject, m.BaseSubject, m.Preview, m.MessageID} {
		if !utf8.ValidString(s) {
			t.Fatalf("%q is no UTF-8", s)
		}
	}
	if n := utf8.RuneCountInString(m.Preview); n > 200 {
		t.Fatalf("preview of %d characters", n)
	}
	checkBytes(t, raw, m)
	stored := m.Root.AppendBinary(nil)
	p, err := ParsePart(stored)
	if err != nil {
		t.Fatal(err)
	}
	sameTree(t, m.Root, p)
	p.Shift(10)
	p.Shift(-10)
	sameTree(t, m.Root, p)
}

func sameTree(t testing.TB, a, b *Part) {
	t.Helper()
	if a.Type != b.Type || a.Subtype != b.Subtype || a.Encoding != b.Encoding || a.Charset() != b.Charset() ||
		a.Header != b.Header || a.Body != b.Body || a.End != b.End || a.Lines != b.Lines || len(a.Children) != len(b.Children) {
		t.Fatalf("stored %+v, read %+v", a, b)
	}
	for i := range a.Children {
		sameTree(t, a.Children[i], b.Children[i])
	}
}

// checkBytes compares the facts about bytes with a slow look at them.
func checkBytes(t testing.TB, raw []byte, m *Message) {
	t.Helper()
	var cr, lf, eight, nul bool
	longest := 0
	for i, c := range raw {
		cr = cr || c == '\r' && (i+1 == len(raw) || raw[i+1] != '\n')
		lf = lf || c == '\n' && (i == 0 || raw[i-1] != '\r')
		eight = eight || c >= 0x80
		nul = nul || c == 0
	}
	for _, l := range bytes.SplitAfter(raw, []byte("\n")) {
		if cut, ok := bytes.CutSuffix(l, []byte("\n")); ok {
			l = bytes.TrimSuffix(cut, []byte("\r"))
		}
		longest = max(longest, len(l))
	}
	if m.HasBareCR != cr || m.HasBareLF != lf || m.Has8Bit != eight || m.HasNUL != nul || m.LongestLine != longest {
		t.Fatalf("CR %v LF %v 8-bit %v NUL %v longest %d, want %v %v %v %v %d",
			m.HasBareCR, m.HasBareLF, m.Has8Bit, m.HasNUL, m.LongestLine, cr, lf, eight, nul, longest)
	}
	for _, c := range raw[:m.HeaderSize] {
		if c >= 0x80 && !m.HeaderHas8Bit {
			t.Fatal("8-bit header was not noticed")
		}
	}
}

// outline draws a tree as type/subtype[body bytes](children).
func outline(raw string, p *Part) string {
	s := p.Type + "/" + p.Subtype
	if len(p.Children) == 0 {
		return s + fmt.Sprintf("%q", raw[p.Body:p.End])
	}
	var kids []string
	for _, c := range p.Children {
		kids = append(kids, outline(raw, c))
	}
	return s + "(" + strings.Join(kids, " ") + ")"
}

// structures are messages with the tree they must give; LF stands for CRLF.
var structures = []struct{ name, in, want string }{
	{"empty", "", `text/plain""`},
	{"empty line alone", "\n", `text/plain""`},
	{"header alone", "Subject: x\n", `text/plain""`},
	{"header without line ending", "Subject: x", `text/plain""`},
	{"plain", "Subject: x\n\nhello\n", `text/plain"hello\r\n"`},
	{"garbage type", "Content-Type: ;;;\n\nx", `text/plain"x"`},
	{"type without subtype", "Content-Type: text\n\nx", `text/plain"x"`},
	{"two types, the first counts", "Content-Type: text/html\nContent-Type: text/plain\n\nx", `text/html"x"`},
	{"line that is no field", "From nobody\nContent-Type: text/html\n\nx", `text/html"x"`},
	{"folded type", "Content-Type:\n text/\n html; charset=x\n\nx", `text/html"x"`},
	{"preamble and epilogue", "Content-Type: multipart/mixed; boundary=b\n\npre\n--b\n\none\n--b\n\ntwo\n\n--b--\nepi\n--b\n",
		`multipart/mixed(text/plain"one" text/plain"two\r\n")`},
	{"no close delimiter", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\n",
		`multipart/mixed(text/plain"one" text/plain"two\r\n")`},
	{"white space after delimiters", "Content-Type: multipart/mixed; boundary=b\n\n--b \t\n\none\n--b-- \nx",
		`multipart/mixed(text/plain"one")`},
	{"longer line is no delimiter", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n--bb\n--b-\n--b--",
		`multipart/mixed(text/plain"--bb\r\n--b-")`},
	{"no boundary", "Content-Type: multipart/mixed\n\n--b\n\none\n--b--\n", `text/plain"--b\r\n\r\none\r\n--b--\r\n"`},
	{"empty boundary", "Content-Type: multipart/mixed; boundary=\"\"\n\n--\n\none\n", `text/plain"--\r\n\r\none\r\n"`},
	{"boundary never comes", "Content-Type: multipart/mixed; boundary=b\n\none\n", `text/plain"one\r\n"`},
	{"close delimiter alone", "Content-Type: multipart/mixed; boundary=b\n\none\n--b--\n", `text/plain"one\r\n--b--\r\n"`},
	{"header ended by a delimiter", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n--b\n\ntwo\n--b--\n",
		`multipart/mixed(text/html"" text/plain"two")`},
	{"delimiters in a row", "Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n--b--\n",
		`multipart/mixed(text/plain"" text/plain"")`},
	{"empty body before a delimiter", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n--b--\n", `multipart/mixed(text/plain"")`},
	{"nested", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative; boundary=b\n\n--b\n\n1\n--b\nContent-Type: text/html\n\n2\n--b--\n--a\n\n3\n--a--\n",
		`multipart/mixed(multipart/alternative(text/plain"1" text/html"2") text/plain"3")`},
	{"inner close is missing", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative; boundary=b\n\n--b\n\n1\n--a\n\n3\n--a--\n",
		`multipart/mixed(multipart/alternative(text/plain"1") text/plain"3")`},
	{"child has the boundary of its parent", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative; boundary=a\n\n--a\n\n1\n--a--\n--a\n\n2\n--a--\n",
		`multipart/mixed(multipart/alternative(text/plain"1") text/plain"2")`},
	{"one boundary begins with the other", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=\"a--\"\n\n--a--\n\n1\n--a----\n--a--\n",
		`multipart/mixed(multipart/mixed(text/plain"1"))`},
	{"the inner one takes a line of both", "Content-Type: multipart/mixed; boundary=\"a--\"\n\n--a--\nContent-Type: multipart/mixed; boundary=a\n\n--a\n\n1\n--a--\n--a----\n",
		`multipart/mixed(multipart/mixed(text/plain"1"))`},
	{"bare CR at the end", "\nx\r", `text/plain"x\r"`},
	{"message", "Content-Type: message/rfc822\n\nSubject: in\nContent-Type: text/html\n\nx\n", `message/rfc822(text/html"x\r\n")`},
	{"message without body", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\n--b--\n",
		`multipart/mixed(message/rfc822(text/plain""))`},
	{"message whose header is cut", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nSubject: x\n--b--\n",
		`multipart/mixed(message/rfc822(text/plain""))`},
	{"message header cut twice", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n--b--\n",
		`multipart/mixed(message/rfc822(text/plain""))`},
	{"encoded message", "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogeA==\n",
		`application/octet-stream"U3ViamVjdDogeA==\r\n"`},
	{"global message", "Content-Type: message/global\nContent-Transfer-Encoding: 8bit\n\nSubject: x\n\ny", `message/global(text/plain"y")`},
	{"message in a message", "Content-Type: message/rfc822\n\nContent-Type: message/rfc822\n\n\nx", `message/rfc822(message/rfc822(text/plain"x"))`},
	{"digest", "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: a\n\n1\n--b\nContent-Type: text/plain\n\n2\n--b--\n",
		`multipart/digest(message/rfc822(text/plain"1") text/plain"2")`},
	{"garbage in a digest is text", "Content-Type: multipart/digest; boundary=b\n\n--b\nContent-Type: ?\n\n2\n--b--\n",
		`multipart/digest(text/plain"2")`},
	{"boundary in pieces", "Content-Type: multipart/mixed; boundary*0=a;\n boundary*1=b\n\n--ab\n\n1\n--ab--", `multipart/mixed(text/plain"1")`},
	{"NUL in a delimiter", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n1\n--b\x00\n--b--", `multipart/mixed(text/plain"1\r\n--b\x00")`},
}

func TestStructure(t *testing.T) {
	for _, c := range structures {
		t.Run(c.name, func(t *testing.T) {
			in := crlf(c.in)
			m := parse(in, Limits{})
			check(t, []byte(in), m)
			if got := outline(in, m.Root); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			// Stored mail with LF alone has the same structure.
			m = parse(c.in, Limits{})
			check(t, []byte(c.in), m)
			if got, want := outline(c.in, m.Root), strings.ReplaceAll(c.want, `\r\n`, `\n`); got != want {
				t.Errorf("LF: got  %s\nwant %s", got, want)
			}
		})
	}
}

// TestSplits feeds messages in two pieces cut everywhere, and byte by byte.
func TestSplits(t *testing.T) {
	for name, in := range corpus(t) {
		if len(in) > 1500 {
			continue
		}
		want := parse(in, Limits{})
		for i := 0; i <= len(in); i++ {
			p := NewParser(Limits{})
			p.Write([]byte(in[:i]))
			p.Write([]byte(in[i:]))
			if got := p.Finish(); !reflect.DeepEqual(got, want) {
				t.Fatalf("%s cut at %d: got %+v, want %+v", name, i, got, want)
			}
		}
		p := NewParser(Limits{})
		for i := range len(in) {
			p.Write([]byte{in[i]})
		}
		if got := p.Finish(); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s byte by byte: got %+v, want %+v", name, got, want)
		}
	}
}

func TestFinishTwice(t *testing.T) {
	p := NewParser(Limits{})
	p.Write([]byte("Subject: x\r\n\r\nbody"))
	m := p.Finish()
	p.Write([]byte("more"))
	if again := p.Finish(); again != m || again.Size != 18 {
		t.Errorf("second Finish gave size %d", again.Size)
	}
}
