package imap

import (
	"bufio"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/test/memory"
)

// dec returns a decoder of in whose client sends literals at once.
func dec(in string) *Decoder {
	d := NewDecoder(bufio.NewReaderSize(strings.NewReader(in), 16), DefaultLimits)
	d.Continue = func() error { return nil }
	return d
}

// parse reads one value and the end of the command.
func parse[T any](in string, read func(*Decoder, *T) bool) (T, error) {
	var v T
	d := dec(in + "\r\n")
	if read(d, &v) {
		d.ExpectCRLF()
	}
	return v, d.Err()
}

func says(t *testing.T, err error, part string) {
	t.Helper()
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Say(err), part) {
		t.Errorf("error is %v, want one of kind invalid that says %q", err, part)
	}
}

func TestAString(t *testing.T) {
	for in, want := range map[string]string{
		"atom":              "atom",
		"a]b[c":             "a]b[c",
		`"a \"b\" \\"`:      `a "b" \`,
		`""`:                "",
		`"é"`:               "é",
		"{3}\r\na\r\n":      "a\r\n",
		"{3+}\r\n\"()":      `"()`,
		"{0}\r\n":           "",
		"{26}\r\n" + letter: letter,
	} {
		if got, err := parse(in, (*Decoder).ExpectAString); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for in, why := range map[string]string{
		"":                           "the command ends where a string is expected",
		"(":                          "expected a string, found '('",
		"é":                          "expected a string",
		`"abc`:                       "not closed",
		`"a\b"`:                      "backslash",
		"\"\xff\"":                   "UTF-8",
		"\"a\x00\"":                  "NUL",
		"{3}\r\na\x00":               "NUL",
		"{x}\r\n":                    "the size of a literal",
		"{99999999999999999999}\r\n": "too large",
		"{1000000}\r\n":              "too large here",
		"{3} \r\nabc":                "line end",
		strings.Repeat("a", DefaultLimits.Line+1):           "longer than",
		`"` + strings.Repeat("a", DefaultLimits.Line) + `"`: "longer than",
	} {
		_, err := parse(in, (*Decoder).ExpectAString)
		says(t, err, why)
	}
}

const letter = "abcdefghijklmnopqrstuvwxyz"

func TestTag(t *testing.T) {
	for _, ok := range []string{"a1", "A.b-1", "]", "1"} {
		if got, err := parse(ok, (*Decoder).ExpectTag); err != nil || got != ok {
			t.Errorf("%q: %q %v", ok, got, err)
		}
	}
	for _, bad := range []string{"", "*", "+", "a+b", "\xc3\xa9", " a", strings.Repeat("x", MaxTag+1)} {
		if got, err := parse(bad, (*Decoder).ExpectTag); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q was read as %q, %v", bad, got, err)
		}
	}
}

func TestNesting(t *testing.T) {
	var walk func(d *Decoder) bool
	walk = func(d *Decoder) bool { return d.ExpectList(func() bool { return walk(d) }) }
	read := func(d *Decoder, _ *int) bool { return walk(d) }
	deep := func(n int) string { return strings.Repeat("(", n) + strings.Repeat(")", n) }
	if _, err := parse(deep(DefaultLimits.Depth), read); err != nil {
		t.Error(err)
	}
	_, err := parse(deep(DefaultLimits.Depth+1), read)
	says(t, err, "nested more than")
	_, err = parse(strings.Repeat("(", 60000), read)
	says(t, err, "nested more than")
	_, err = parse("("+strings.Repeat("() ", 20000)+")", read)
	says(t, err, "more than 2000 items")
}

// A large literal is streamed and the command goes on behind it.
func TestLiteralStreams(t *testing.T) {
	asked := 0
	d := dec("{200000}\r\n" + strings.Repeat("x", 200000) + " tail\r\n")
	d.Continue = func() error { asked++; return nil }
	var lit *Literal
	if !d.ExpectLiteral(&lit, false) || asked != 0 {
		t.Fatal(d.Err(), asked)
	}
	n, err := io.Copy(io.Discard, lit)
	var word string
	if n != 200000 || err != nil || asked != 1 || !d.ExpectSP() || !d.ExpectAtom(&word) || !d.ExpectCRLF() || word != "tail" {
		t.Fatal(n, err, asked, word, d.Err())
	}
}

func TestLiteralCutShort(t *testing.T) {
	var s string
	d := dec("{10+}\r\nabc")
	if d.ExpectAString(&s) || !errors.Is(d.Err(), io.ErrUnexpectedEOF) {
		t.Fatal(s, d.Err())
	}
	if err := d.Skip(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal("skipped a broken connection:", err)
	}
}

func TestStringsTogetherAreLimited(t *testing.T) {
	d := dec(strings.Repeat("{60000+}\r\n"+strings.Repeat("x", 60000)+" ", 10))
	var err error
	for range 10 {
		var s string
		if !d.ExpectAString(&s) || !d.ExpectSP() {
			err = d.Err()
			break
		}
	}
	says(t, err, "too large here")
}

// After any error the next command is found, and literals sent unasked are not
// taken for commands.
func TestSkip(t *testing.T) {
	for _, first := range []string{
		"a1 bad\r\n",
		"a1 \"open\r\n",
		"a1 {5+}\r\nx y z more\r\n",
		"a1 ( {3+}\r\n\r\n\r {4+}\r\nb2 N\r\n",
		"a1 ( {3+}\r\n\n\n\n {70000+}\r\n" + strings.Repeat("b2 NOOP\r\n", 7000) + strings.Repeat("y", 7000) + "\r\n",
		"a1 {70000}\r\n", // too large: never asked for
		"a1 (((( {3}\r\n",
		"a1 " + strings.Repeat("x", 200000) + "\r\n",
		"a1 x\ry {3+}\r\nabc\r\n",
		"{3+}\r\nabc\r\n",
		"\r\n",
		"a1 {3+}x\r\n",
		"a1 (a{1+}\r\n) {3}\r\n",
	} {
		d := dec(first + "b2 NOOP\r\n")
		var tag, word, s string
		if d.ExpectTag(&tag) && d.ExpectSP() && d.ExpectString(&s) && d.ExpectCRLF() {
			t.Errorf("%.40q was accepted", first)
		}
		if err := d.Skip(); err != nil {
			t.Errorf("%.40q: %v", first, err)
		}
		d.Begin()
		if !d.ExpectTag(&tag) || !d.ExpectSP() || !d.ExpectAtom(&word) || !d.ExpectCRLF() || tag != "b2" || word != "NOOP" {
			t.Errorf("%.40q: next is %q %q, %v", first, tag, word, d.Err())
		}
	}
}

// What is too much to skip is not read.
func TestSkipGivesUp(t *testing.T) {
	for _, first := range []string{
		"a1 {4294967295+}\r\n", "a1 {99999999999999999999999+}\r\n", "a1 {70000+}\r\n",
		"a1 " + strings.Repeat("x", int(LoginLimits.Discard)+LoginLimits.Line+1), // no end in sight
		"a1 " + strings.Repeat(" {4000+}\r\n"+strings.Repeat("x", 4000), 30),
	} {
		d := dec(first + strings.Repeat("x", 100000))
		d.SetLimits(LoginLimits)
		var tag, s string
		if d.ExpectTag(&tag) && d.ExpectSP() && d.ExpectString(&s) {
			t.Errorf("%.40q was accepted", first)
		}
		if err := d.Skip(); !fault.Is(err, fault.TooLarge) {
			t.Errorf("%.40q: %v", first, err)
		}
	}
}

func TestLiteralMinus(t *testing.T) {
	d := dec("{4097+}\r\n")
	d.SetLimits(LoginLimits)
	var lit *Literal
	d.ExpectLiteral(&lit, false)
	says(t, d.Err(), "must wait for leave")
}

func TestLine(t *testing.T) {
	d := dec("DONE\r\nnext\nlast")
	for _, want := range []string{"DONE", "next"} {
		if got, err := d.Line(); err != nil || got != want {
			t.Errorf("%q %v", got, err)
		}
	}
	if got, err := d.Line(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q %v", got, err)
	}
	if got, err := dec("").Line(); !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q %v", got, err)
	}
}

// oneByOne reads in as a slow client sends it.
func oneByOne[T any](in string, read func(*Decoder, *T) bool) (T, error) {
	var v T
	d := NewDecoder(bufio.NewReader(iotest.OneByteReader(strings.NewReader(in+"\r\n"))), DefaultLimits)
	d.Continue = func() error { return nil }
	if read(d, &v) {
		d.ExpectCRLF()
	}
	return v, d.Err()
}

// stable checks what holds for every parser: the same answer however the bytes
// arrive, an error of the right kind, and, if there is a printer, that what is
// printed is read as the same again.
func stable[T any](t *testing.T, in string, read func(*Decoder, *T) bool, print func(T) []byte) {
	t.Helper()
	var v T
	var err error
	memory.Bounded(t, 1000*len(in), func() { v, err = parse(in, read) })
	slow, slowErr := oneByOne(in, read)
	if (err == nil) != (slowErr == nil) || err == nil && !reflect.DeepEqual(v, slow) {
		t.Fatalf("%q: %+v %v, byte by byte %+v %v", in, v, err, slow, slowErr)
	}
	if err != nil {
		var f *fault.Error
		if !errors.As(err, &f) && !errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &f) && f.Say == "" {
			t.Fatalf("%q: %v", in, err)
		}
		if strings.Contains(err.Error(), "internal") {
			t.Fatalf("%q: %v", in, err)
		}
		return
	}
	if print == nil {
		return
	}
	text := string(print(v))
	again, err := parse(text, read)
	if err != nil {
		t.Fatalf("%q was printed as %q: %v", in, text, err)
	}
	if got := string(print(again)); got != text {
		t.Fatalf("%q printed as %q, then as %q", in, text, got)
	}
}

func FuzzSkip(f *testing.F) {
	for _, s := range []string{"a1 x", "a1 (((", `a1 "`, "a1 {3+} x", "{", "a1 SEARCH OR OR ALL", "\r\r\r"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, junk string) {
		if strings.ContainsAny(junk, "\n}") || len(junk) > 4096 {
			return
		}
		d := dec(junk + "\r\nzz NOOP\r\n")
		var tag string
		var s Search
		_ = d.ExpectTag(&tag) && d.ExpectSP() && d.ExpectSearch(&s) && d.ExpectCRLF()
		if err := d.Skip(); err != nil {
			t.Fatalf("%q: %v", junk, err)
		}
		d.Begin()
		if !d.ExpectTag(&tag) || tag != "zz" {
			t.Fatalf("%q: the next tag is %q, %v", junk, tag, d.Err())
		}
	})
}
