package mime

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/test/memory"
)

// FuzzParser: any bytes give a tree whose offsets nest, wire forms that are
// grammatical and agree with it, facts that a slow look confirms, and the same for
// any cut of the input.
func FuzzParser(f *testing.F) {
	for _, in := range corpus(f) {
		if len(in) < 4000 {
			f.Add([]byte(in), uint16(7))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		var m *Message
		memory.Bounded(t, 1000*len(in), func() { m = parse(string(in), Limits{}) })
		check(t, in, m)
		p := NewParser(Limits{})
		for rest := in; len(rest) > 0; {
			n := min(int(cut%97)+1, len(rest))
			p.Write(rest[:n])
			rest = rest[n:]
		}
		if got := p.Finish(); !reflect.DeepEqual(got, m) {
			t.Fatalf("pieces of %d: got %+v, want %+v", cut%97+1, got, m)
		}
		tight := Limits{Depth: 3, Parts: 4, HeaderBytes: 100, HeaderFields: 3, TotalBytes: 200, Addresses: 2, AddressBytes: 60, References: 2, PlainBytes: 10, HTMLBytes: 10}
		check(t, in, parse(string(in), tight))
	})
}

// FuzzDecodeWords: the result is UTF-8, text without "=?" stays, and what a plain
// prefix adds comes out in front.
func FuzzDecodeWords(f *testing.F) {
	for _, c := range wordTable {
		f.Add(c.in)
	}
	f.Add("=?=?=?utf-8?q?=?=?b?====?=")
	f.Fuzz(func(t *testing.T, s string) {
		got := DecodeWords(s)
		if !utf8.ValidString(got) {
			t.Fatalf("%q is no UTF-8", got)
		}
		if !strings.Contains(s, "=?") && got != strings.ToValidUTF8(s, "\uFFFD") {
			t.Fatalf("%q became %q", s, got)
		}
		if len(got) > 4*len(s) {
			t.Fatalf("%d bytes became %d", len(s), len(got))
		}
		if pre := DecodeWords("x " + s); !strings.HasPrefix(pre, "x") {
			t.Fatalf("%q lost its start: %q", s, pre)
		}
	})
}

// FuzzAddressList: entries are UTF-8, not all empty, no more than the input can
// hold, and groups in the raw list come in pairs.
func FuzzAddressList(f *testing.F) {
	for _, c := range addressTable {
		f.Add(c.in)
	}
	f.Add("a (x\\")
	f.Add("x:;y:z:,;<@a,@b:")
	f.Fuzz(func(t *testing.T, s string) {
		list := ParseAddressList(s)
		if len(list) > len(s)/2+1 {
			t.Fatalf("%d addresses in %d bytes", len(list), len(s))
		}
		for _, a := range list {
			if a == (Address{}) || !utf8.ValidString(a.Name+a.Mailbox+a.Host) {
				t.Fatalf("%q gave %+v", s, a)
			}
		}
		open := false
		for _, m := range parseMailboxes(s, 10) {
			if m.start && open || m.end && !open {
				t.Fatalf("groups of %q are not in pairs", s)
			}
			open = (open || m.start) && !m.end
		}
		if open {
			t.Fatalf("%q leaves a group open", s)
		}
	})
}

// FuzzParseDate: a date that is read can be written and read again.
func FuzzParseDate(f *testing.F) {
	for _, c := range dateTable {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := ParseDate(s)
		if !ok {
			if !d.IsZero() {
				t.Fatalf("%q gave %v and false", s, d)
			}
			return
		}
		again, ok := ParseDate(d.Format(time.RFC1123Z))
		if !ok || !again.Equal(d) {
			t.Fatalf("%q gave %v, then %v", s, d, again)
		}
	})
}

// FuzzParsePart: what is read from any bytes has offsets that nest and comes back
// from its own stored form.
func FuzzParsePart(f *testing.F) {
	for _, in := range corpus(f) {
		f.Add(parse(in, Limits{}).Root.AppendBinary(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p *Part
		var err error
		memory.Bounded(t, 1000*len(b), func() { p, err = ParsePart(b) })
		if err != nil {
			return
		}
		nested(t, p)
		again, err := ParsePart(p.AppendBinary(nil))
		if err != nil {
			t.Fatal(err)
		}
		sameTree(t, p, again)
		p.Find([]int{1, 1, 1})
	})
}

func nested(t *testing.T, p *Part) {
	t.Helper()
	if p.Header < 0 || p.Body < p.Header || p.End < p.Body {
		t.Fatalf("part at %d, %d, %d", p.Header, p.Body, p.End)
	}
	at := p.Body
	for _, c := range p.Children {
		if c.Header < at || c.End > p.End {
			t.Fatalf("child at %d to %d, room from %d to %d", c.Header, c.End, at, p.End)
		}
		at = c.End
		nested(t, c)
	}
}

// FuzzBasicStructure: the result is no longer than the input, and making it twice
// changes nothing.
func FuzzBasicStructure(f *testing.F) {
	for _, in := range corpus(f) {
		f.Add(parse(in, Limits{}).BodyStructure)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out := BasicStructure(b)
		if out == nil {
			return
		}
		if len(out) > len(b) || !bytes.Equal(BasicStructure(out), out) {
			t.Fatalf("%q became %q", b, out)
		}
	})
}

// FuzzDecoders: decoding gives the same for any size of read, and what the standard
// encoders write comes back.
func FuzzDecoders(f *testing.F) {
	f.Add([]byte("a=20b =\r\nc  \r\n=C3=A4=\n=zz="), uint8(1))
	f.Add([]byte("aGVs\r\nbG8=\r\naGVsbG8"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		for _, enc := range []string{"base64", "quoted-printable"} {
			whole := readAll(t, NewDecoder(enc, bytes.NewReader(b)), 4096)
			if len(whole) > len(b) {
				t.Fatalf("%s grew from %d to %d", enc, len(b), len(whole))
			}
			if got := readAll(t, NewDecoder(enc, &pieces{b, int(size)%7 + 1}), int(size)%5+1); !bytes.Equal(got, whole) {
				t.Fatalf("%s in pieces: %q, want %q", enc, got, whole)
			}
			if got := readAll(t, NewDecoder(enc, strings.NewReader(encode(enc, b))), 512); !bytes.Equal(got, b) {
				t.Fatalf("%s: %q came back as %q", enc, b, got)
			}
		}
	})
}

// FuzzIsPlain: what is said to be plain is left as it is by the decoders.
func FuzzIsPlain(f *testing.F) {
	for _, c := range []string{"", "us-ascii", "utf-8", "utf-16", "iso-2022-jp", "hz-gb-2312", "utf-7"} {
		for _, e := range []string{"", "7bit", "Base64", " quoted-printable", "x"} {
			f.Add(c, e, []byte("plain =41 ~{text\r\n"))
			f.Add(c, e, []byte("na\xc3\xafve\r\n"))
		}
	}
	f.Fuzz(func(t *testing.T, charset, encoding string, text []byte) {
		if !IsPlain(charset, encoding, text) {
			return
		}
		if got := readAll(t, ToUTF8(charset, NewDecoder(encoding, bytes.NewReader(text))), 512); !bytes.Equal(got, text) {
			t.Fatalf("%q in %q and %q became %q", text, charset, encoding, got)
		}
	})
}

// FuzzBaseSubject: a base subject is its own base.
func FuzzBaseSubject(f *testing.F) {
	for _, c := range subjectTable {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		base, _ := BaseSubject(s)
		if len(base) > len(s) || strings.Contains(base, "  ") || strings.HasPrefix(base, " ") || strings.HasSuffix(base, " ") {
			t.Fatalf("%q gave %q", s, base)
		}
		if again, _ := BaseSubject(base); again != base {
			t.Fatalf("%q gave %q, then %q", s, base, again)
		}
	})
}

// FuzzFilterHeader: what is filtered and what is left make up the header.
func FuzzFilterHeader(f *testing.F) {
	f.Add([]byte("Subject: a\r\n b\r\nTo: c\r\nsubject : d\r\n\r\nbody"))
	f.Fuzz(func(t *testing.T, h []byte) {
		names := []string{"SUBJECT", "To"}
		in, out := FilterHeader(h, names, false), FilterHeader(h, names, true)
		for _, b := range [][]byte{in, out} {
			if !bytes.HasSuffix(b, []byte("\r\n")) {
				t.Fatalf("%q does not end in an empty line", b)
			}
		}
		for name := range Fields(in) {
			if !strings.EqualFold(string(name), "subject") && !strings.EqualFold(string(name), "to") {
				t.Fatalf("%q is among the fields asked for", name)
			}
		}
		for name := range Fields(out) {
			if strings.EqualFold(string(name), "subject") || strings.EqualFold(string(name), "to") {
				t.Fatalf("%q is among the fields not asked for", name)
			}
		}
	})
}

// FuzzHTMLText: the result is UTF-8 and not much longer than the input.
func FuzzHTMLText(f *testing.F) {
	f.Add("<p>a &amp; b<style>x</style><!-- c --><b>d</b>e < f")
	f.Fuzz(func(t *testing.T, s string) {
		if got := HTMLText(s); !utf8.ValidString(got) || len(got) > 6*len(s)+8 {
			t.Fatalf("%d bytes gave %d", len(s), len(got))
		}
	})
}
