package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/martlet-mail/martlet/internal/fault"
)

// pieces reads from s at most n bytes at a time.
type pieces struct {
	s string
	n int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.s == "" {
		return 0, io.EOF
	}
	n := copy(b, p.s[:min(p.n, len(p.s))])
	p.s = p.s[n:]
	return n, nil
}

// readData reads one message from wire, which comes in pieces of n bytes, and what
// follows it.
func readData(wire string, n int, o DataOptions) (content, rest string, err error) {
	r := bufio.NewReaderSize(&pieces{wire, n}, 64)
	got, err := io.ReadAll(NewDataReader(r, o))
	after, _ := io.ReadAll(r)
	return string(got), string(after), err
}

// TestSmuggling is the table of what other servers have taken for the end of the
// data. Behind each stands a command; it must never come out as one.
func TestSmuggling(t *testing.T) {
	const attack = "MAIL FROM:<evil@x.test>\r\n"
	ends := map[string]string{ // name to bytes after the first line
		"LF.LF": "\n.\n", "LF.CRLF": "\n.\r\n", "CRLF.LF": "\r\n.\n", "CR.CR": "\r.\r", "CR.LF": "\r.\n",
		"LF.CR": "\n.\r", "CR.CRLF": "\r.\r\n", "CRLF.CR": "\r\n.\r", "CRLF NUL.CRLF": "\r\n\x00.\r\n",
		"CRLF.NUL CRLF": "\r\n.\x00\r\n", "CRLF.CRCRLF": "\r\n.\r\r\n", "CRCRLF.CRCRLF": "\r\r\n.\r\r\n",
		"CRLF..CRLF": "\r\n..\r\n", "CRLF.SP CRLF": "\r\n. \r\n", "CRLFLF.CRLF": "\r\n\n.\r\n", "LFCR.CRLF": "\n\r.\r\n",
	}
	clean := map[string]bool{"CRLF..CRLF": true, "CRLF.SP CRLF": true} // no fault at all
	for name, end := range ends {
		wire := "first" + end + attack + "\r\n.\r\nQUIT\r\n"
		for n := 1; n <= 70; n++ {
			content, rest, err := readData(wire, n, DataOptions{})
			if rest != "QUIT\r\n" {
				t.Fatalf("%s in pieces of %d: what follows the data is %q", name, n, rest)
			}
			if clean[name] != (err == nil) || err != nil && !fault.Is(err, fault.Invalid) {
				t.Fatalf("%s in pieces of %d: %v", name, n, err)
			}
			if err == nil && !strings.Contains(content, attack) {
				t.Fatalf("%s in pieces of %d: content %q", name, n, content)
			}
			content, rest, err = readData(wire, n, DataOptions{Normalise: true})
			hasNUL := strings.Contains(end, "\x00")
			if rest != "QUIT\r\n" || hasNUL != (err != nil) {
				t.Fatalf("%s normalised, in pieces of %d: rest %q, %v", name, n, rest, err)
			}
			if !hasNUL && (!strings.Contains(content, attack) || !isCanonical(content)) {
				t.Fatalf("%s normalised, in pieces of %d: content %q", name, n, content)
			}
		}
	}
}

// isCanonical tells whether s has CRLF and neither CR nor LF alone.
func isCanonical(s string) bool {
	return !strings.ContainsAny(strings.ReplaceAll(s, "\r\n", ""), "\r\n\x00")
}

func TestData(t *testing.T) {
	tests := []struct{ name, wire, content, rest string }{
		{"empty", ".\r\n", "", ""},
		{"one line", "a\r\n.\r\nQUIT\r\n", "a\r\n", "QUIT\r\n"},
		{"dots", "..\r\n.a\r\n...\r\n.\r\n", ".\r\na\r\n..\r\n", ""},
		{"dot in a line", "a.\r\n.\r\n", "a.\r\n", ""},
		{"blank lines", "\r\n\r\n.\r\n.\r\n", "\r\n\r\n", ".\r\n"},
		{"8 bit", "\xff\xfe\r\n.\r\n", "\xff\xfe\r\n", ""},
		{"long line", strings.Repeat("x", 5000) + "\r\n.\r\n", strings.Repeat("x", 5000) + "\r\n", ""},
	}
	for _, tt := range tests {
		for _, n := range []int{1, 2, 3, 7, 64, 1 << 20} {
			content, rest, err := readData(tt.wire, n, DataOptions{MaxSize: int64(len(tt.content))})
			if content != tt.content || rest != tt.rest || err != nil {
				t.Errorf("%s in pieces of %d: %q, rest %q, %v", tt.name, n, content, rest, err)
			}
		}
	}
}

// TestDataAroundBufferEdges puts the end of the data at every place near the usual
// buffer sizes.
func TestDataAroundBufferEdges(t *testing.T) {
	for _, size := range []int{4096, 8192, 65536} {
		for off := -6; off <= 6; off++ {
			body := strings.Repeat("y", size+off)
			r := bufio.NewReaderSize(strings.NewReader(body+"\r\n.\r\nQUIT\r\n"), size)
			got, err := io.ReadAll(NewDataReader(r, DataOptions{}))
			if err != nil || string(got) != body+"\r\n" {
				t.Fatalf("%d%+d: %d bytes, %v", size, off, len(got), err)
			}
		}
	}
}

func TestDataSize(t *testing.T) {
	wire := strings.Repeat("0123456789\r\n", 100) + ".\r\nQUIT\r\n"
	for n := 1; n < 70; n++ {
		_, rest, err := readData(wire, n, DataOptions{MaxSize: 1199})
		if !fault.Is(err, fault.TooLarge) || rest != "QUIT\r\n" {
			t.Fatalf("in pieces of %d: rest %q, %v", n, rest, err)
		}
	}
	// Without an end it is not read for ever.
	endless := bufio.NewReader(endlessReader{})
	if _, err := io.Copy(io.Discard, NewDataReader(endless, DataOptions{MaxSize: 1000})); !fault.Is(err, fault.Limited) {
		t.Errorf("endless data: %v", err)
	}
	if _, err := io.Copy(io.Discard, NewDataReader(bufio.NewReader(strings.NewReader("half\r\n.\r")), DataOptions{})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off data: %v", err)
	}
}

type endlessReader struct{}

func (endlessReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestDrain(t *testing.T) {
	r := bufio.NewReader(iotest.OneByteReader(strings.NewReader("a\r\nb\nc\r\n.\r\nQUIT\r\n")))
	d := NewDataReader(r, DataOptions{})
	io.ReadFull(d, make([]byte, 2))
	if err := d.Drain(); err != nil {
		t.Error(err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "QUIT\r\n" {
		t.Errorf("rest %q", rest)
	}
	if err := NewDataReader(bufio.NewReader(strings.NewReader("a\r\n")), DataOptions{}).Drain(); err == nil {
		t.Error("Drain of data without an end succeeds")
	}
}

func TestChunks(t *testing.T) {
	tests := []struct {
		name    string
		chunks  []string
		o       DataOptions
		content string
		err     fault.Kind // of the last chunk; Internal is none
	}{
		{"two", []string{"a\r\n", ".\r\nb"}, DataOptions{}, "a\r\n.\r\nb", 0},
		{"empty last", []string{"a", ""}, DataOptions{}, "a", 0},
		{"CRLF cut", []string{"a\r", "\nb"}, DataOptions{}, "a\r\nb", 0},
		{"CR at the end", []string{"a\r"}, DataOptions{}, "", fault.Invalid},
		{"CR at the end, normalised", []string{"a\r", ""}, DataOptions{Normalise: true}, "a\r\n", 0},
		{"bare LF", []string{"a\n", "b"}, DataOptions{}, "", fault.Invalid},
		{"bare LF, normalised", []string{"a\n", "b"}, DataOptions{Normalise: true}, "a\r\nb", 0},
		{"NUL", []string{"a\x00"}, DataOptions{}, "", fault.Invalid},
		{"binary", []string{"a\n\r", "\x00\r"}, DataOptions{Binary: true}, "a\n\r\x00\r", 0},
		{"size", []string{"12345", "67890"}, DataOptions{MaxSize: 9}, "", fault.TooLarge},
		{"just the size", []string{"12345", "67890"}, DataOptions{MaxSize: 10}, "1234567890", 0},
	}
	for _, tt := range tests {
		for n := 1; n < 8; n++ {
			r := bufio.NewReaderSize(&pieces{strings.Join(tt.chunks, "") + "QUIT\r\n", n}, 16)
			c := NewChunks(r, tt.o)
			var content []byte
			var err error
			for i, chunk := range tt.chunks {
				c.Begin(int64(len(chunk)), i == len(tt.chunks)-1)
				var part []byte
				part, err = io.ReadAll(c)
				content = append(content, part...)
			}
			if tt.err != 0 && !fault.Is(err, tt.err) || tt.err == 0 && (err != nil || string(content) != tt.content) {
				t.Errorf("%s in pieces of %d: %q, %v", tt.name, n, content, err)
			}
			if rest, _ := io.ReadAll(r); string(rest) != "QUIT\r\n" {
				t.Errorf("%s in pieces of %d: rest %q", tt.name, n, rest)
			}
		}
	}
}

func TestChunksBounded(t *testing.T) {
	c := NewChunks(bufio.NewReader(endlessReader{}), DataOptions{MaxSize: 100})
	c.Begin(1<<62, true)
	if _, err := io.Copy(io.Discard, c); !fault.Is(err, fault.Limited) {
		t.Errorf("a huge chunk: %v", err)
	}
	r := bufio.NewReader(strings.NewReader("abcdefQUIT"))
	c = NewChunks(r, DataOptions{})
	c.Begin(6, false)
	io.ReadFull(c, make([]byte, 2))
	if err := c.Drain(); err != nil {
		t.Error(err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "QUIT" {
		t.Errorf("after Drain: %q", rest)
	}
}

func TestDotWriter(t *testing.T) {
	for in, want := range map[string]string{
		"": ".\r\n", "a": "a\r\n.\r\n", "a\r\n": "a\r\n.\r\n", ".": "..\r\n.\r\n", ".\r\n": "..\r\n.\r\n",
		"a\n.\n": "a\r\n..\r\n.\r\n", "a\r.\r": "a\r\n..\r\n.\r\n", "a\r\n.\r\nMAIL": "a\r\n..\r\nMAIL\r\n.\r\n", "\r\r\n": "\r\n\r\n.\r\n",
	} {
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		d := NewDotWriter(w)
		for i := range len(in) {
			if n, err := d.Write([]byte(in[i : i+1])); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		d.Close()
		w.Flush()
		if b.String() != want {
			t.Errorf("%q: got %q, want %q", in, b.String(), want)
		}
	}
	if _, err := NewDotWriter(bufio.NewWriter(io.Discard)).Write([]byte("a\x00")); !fault.Is(err, fault.Invalid) {
		t.Errorf("NUL: %v", err)
	}
}

// reference says what DATA means in the plainest words there are.
func reference(wire string) (content, rest string, ended, faulty bool) {
	before, rest, ended := strings.Cut("\r\n"+wire, "\r\n.\r\n")
	if !ended {
		return "", "", false, false
	}
	before += "\r\n"
	content = strings.ReplaceAll(before, "\r\n.", "\r\n")[2:]
	return content, rest, true, !isCanonical(before)
}

// FuzzData holds the reader against the reference and against itself in pieces.
func FuzzData(f *testing.F) {
	f.Add("a\r\n..b\r\n.\r\nQUIT\r\n", 3)
	f.Add("a\n.\nMAIL FROM:<x@y>\r\n\r\n.\r\n", 1)
	f.Add("\r\r\n.\r\r\n.\r\n", 2)
	f.Add(".\r\n", 1)
	f.Fuzz(func(t *testing.T, wire string, n int) {
		n = 1 + (n&0x7fffffff)%70
		content, rest, ended, faulty := reference(wire)
		for _, size := range []int{n, len(wire) + 1} {
			got, after, err := readData(wire, size, DataOptions{})
			switch {
			case !ended:
				if err != io.ErrUnexpectedEOF {
					t.Fatalf("no end, got %v", err)
				}
			case after != rest:
				t.Fatalf("what follows is %q, want %q", after, rest)
			case faulty != (err != nil):
				t.Fatalf("faulty %v, got %v", faulty, err)
			case !faulty && got != content:
				t.Fatalf("got %q, want %q", got, content)
			}
		}
		a, restA, errA := readData(wire, n, DataOptions{Normalise: true})
		b, restB, errB := readData(wire, len(wire)+1, DataOptions{Normalise: true})
		if (errA == nil) != (errB == nil) || restA != restB || errA == nil && a != b {
			t.Fatalf("pieces of %d differ: %q %q %v, %q %q %v", n, a, restA, errA, b, restB, errB)
		}
		if errA == nil && (restA != rest || !isCanonical(a)) {
			t.Fatalf("normalised: %q, rest %q", a, restA)
		}
	})
}

// FuzzDotWriter sends anything and has the strict reader take it.
func FuzzDotWriter(f *testing.F) {
	f.Add([]byte(".\n.\r.\r\n..\r\nQUIT\r\n"))
	f.Add([]byte("no end"))
	f.Fuzz(func(t *testing.T, content []byte) {
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		d := NewDotWriter(w)
		if _, err := d.Write(content); err != nil {
			if !bytes.Contains(content, []byte{0}) {
				t.Fatal(err)
			}
			return
		}
		d.Close()
		w.Flush()
		got, rest, err := readData(b.String()+"QUIT\r\n", 5, DataOptions{})
		if err != nil || rest != "QUIT\r\n" {
			t.Fatalf("%q is taken for %q, rest %q, %v", content, got, rest, err)
		}
		want := strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n").Replace(string(content))
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}
