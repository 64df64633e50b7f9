package mime

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emersion/go-message"

	"github.com/martlet-mail/martlet/internal/fault"
)

func convert(t testing.TB, in string, to Target) (string, error) {
	t.Helper()
	m := parse(in, Limits{})
	var out bytes.Buffer
	err := Convert(&out, strings.NewReader(in), m, to)
	if c := Convertible(m, to); (c == nil) != (err == nil) {
		t.Fatalf("Convertible says %v, Convert %v", c, err)
	}
	if err != nil {
		if out.Len() > 0 || !fault.Is(err, fault.Unsupported) || !Needs(m, to) {
			t.Fatalf("%d bytes, then %v", out.Len(), err)
		}
		return "", err
	}
	if Needs(m, to) != (out.String() != in) {
		t.Fatalf("Needs says %v, %q became %q", Needs(m, to), in, out.String())
	}
	return out.String(), nil
}

// In the tables a LF is CRLF, ~ a NUL, | a bare CR and ^ a bare LF; "refused" is a
// fault, "same" no change.
func odd(s string) string {
	return strings.NewReplacer("~", "\x00", "|", "\r", "^", "\n").Replace(crlf(s))
}

const long = "1234567890123456789012345678901234567890123456789012345678901234567890123456789" // 79

func TestConvert(t *testing.T) {
	longer := strings.Repeat("x", 999)
	for _, c := range []struct{ name, in, seven, eight string }{
		{"plain", "Subject: x\n\nhello\n", "same", "same"},
		{"nothing", "", "same", "same"},
		{"8-bit text", "Subject: x\n\n- é = \n-- \nend\n",
			"Subject: x\nMIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n- =C3=A9 =3D=20\n-=2D=20\nend\n", "same"},
		{"no newline", "\né", "MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A9", "same"},
		{"label in place", "A: b\nContent-transfer-encoding:\n 8bit\nMIME-version: 1.0 (x)\nC: d\n\né\t\n",
			"A: b\nContent-Transfer-Encoding: quoted-printable\nMIME-version: 1.0 (x)\nC: d\n\n=C3=A9=09\n", "same"},
		{"two labels", "Content-Transfer-Encoding : 8bit\nMime-Version: 1.0\nContent-Transfer-Encoding: base64\n\x20x\n\né\n",
			"Content-Transfer-Encoding: quoted-printable\nMime-Version: 1.0\n\n=C3=A9\n", "same"},
		{"promises too much", "Content-Transfer-Encoding: BINARY\n\nplain\n",
			"Content-Transfer-Encoding: 7bit\n\nplain\n", "Content-Transfer-Encoding: 8bit\n\nplain\n"},
		{"headers stay", "Subject: é|\nX: " + longer + "\n\nplain\n", "same", "same"},
		{"8-bit and NUL", "\né~\n", "MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A9=00\n",
			"MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A9=00\n"},
		{"line endings", "\na^b|c\n d ^|\n^\n|", "MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\na=0A=\nb=0Dc\n d =0A=\n=0D\n=0A\n=0D",
			"MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\na=0A=\nb=0Dc\n d =0A=\n=0D\n=0A\n=0D"},
		{"long lines", "\n" + longer + "\n", "MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n" +
			strings.Repeat(strings.Repeat("x", 75)+"=\n", 13) + strings.Repeat("x", 24) + "\n",
			"MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n" +
				strings.Repeat(strings.Repeat("x", 75)+"=\n", 13) + strings.Repeat("x", 24) + "\n"},
		{"998 is not long", "\n" + longer[1:] + "\n", "same", "same"},
		{"not text", "Content-Type: image/png\nMIME-Version: 1.0\n\n\x89PNG",
			"Content-Type: image/png\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\niVBORw==", "same"},
		{"base64 lines", "Content-Type: a/b\nMIME-Version: 1.0\n\n~" + long[:75],
			"Content-Type: a/b\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n" + encode("base64", []byte("\x00"+long[:56])) + "\nNzg5MDEyMzQ1Njc4OTAxMjM0NQ==",
			"Content-Type: a/b\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n" + encode("base64", []byte("\x00"+long[:56])) + "\nNzg5MDEyMzQ1Njc4OTAxMjM0NQ=="},
		{"base64 on one line", "Content-Transfer-Encoding: base64\nMIME-Version: 1.0\n\n" + strings.Repeat("QUJD", 250) + "\n",
			"Content-Transfer-Encoding: base64\nMIME-Version: 1.0\n\n" + strings.Repeat(strings.Repeat("QUJD", 19)+"\n", 13) + strings.Repeat("QUJD", 3),
			"Content-Transfer-Encoding: base64\nMIME-Version: 1.0\n\n" + strings.Repeat(strings.Repeat("QUJD", 19)+"\n", 13) + strings.Repeat("QUJD", 3)},
		{"quoted-printable with raw bytes", "Content-Transfer-Encoding: quoted-printable\nMIME-Version: 1.0\n\n=E9é\n",
			"Content-Transfer-Encoding: quoted-printable\nMIME-Version: 1.0\n\n=E9=C3=A9\n", "same"},
		{"unknown encoding", "Content-Transfer-Encoding: x-uue\n\né\n", "refused", "same"},
		{"unknown encoding, clean", "Content-Transfer-Encoding: x-uue\n\ne\n", "same", "same"},
		{"multipart", "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\npre\n--b \nContent-Type: text/html\nContent-Transfer-Encoding: 8bit\n\né\n--b\nContent-Type: a/b\n\n\n~é\n--b\n\nplain\n--b--\nend\n",
			"Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 7bit\nMIME-Version: 1.0\n\npre\n--b \nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A9\n--b\nContent-Type: a/b\nContent-Transfer-Encoding: base64\n\nDQoAw6k=\n--b\n\nplain\n--b--\nend\n",
			"Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\nMIME-Version: 1.0\n\npre\n--b \nContent-Type: text/html\nContent-Transfer-Encoding: 8bit\n\né\n--b\nContent-Type: a/b\nContent-Transfer-Encoding: base64\n\nDQoAw6k=\n--b\n\nplain\n--b--\nend\n"},
		{"unclosed", "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\né",
			"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A9", "same"},
		{"what nobody reads", "Content-Type: multipart/mixed; boundary=b\n\npré\nambule\n\n--b\n\n\n--b--\n\népi\nlogue",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n\n--b--\n", "same"},
		{"in a nested one", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\nplain\n--c\n\n--c--\né\n--b--\n",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\nplain\n--c\n\n--c--\n\n--b--\n", "same"},
		{"message", "Content-Type: message/rfc822\nContent-Transfer-Encoding: binary\n\nSubject: é\n\né~\n",
			"Content-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\nMIME-Version: 1.0\n\nSubject: é\nMIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A9=00\n",
			"Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\nMIME-Version: 1.0\n\nSubject: é\nMIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A9=00\n"},
		{"digest", "Content-Type: multipart/digest; boundary=b\nMIME-Version: 1.0\n\n--b\n\nMIME-Version: 1.0\n\né\n--b--\n",
			"Content-Type: multipart/digest; boundary=b\nMIME-Version: 1.0\n\n--b\n\nMIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A9\n--b--\n", "same"},
		{"report", "Content-Type: message/delivery-status\n\nX: é\n",
			"Content-Type: message/delivery-status\nMIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\nX: =C3=A9\n", "same"},
		{"partial", "Content-Type: message/partial\n\né\n", "refused", "same"},
		{"external", "Content-Type: message/external-body\n\n~\n", "refused", "refused"},
		{"multipart without parts", "Content-Type: multipart/mixed; boundary=b\n\né\n", "refused", "same"},
		{"signed", "Content-Type: multipart/signed; boundary=b\nContent-Transfer-Encoding: 8bit\n\n--b\n\né\n--b--\n", "refused", "same"},
		{"signed inside", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/signed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\né\n--c--\n--b--\n--a--\n", "refused", "same"},
		{"signed beside", "Content-Type: multipart/mixed; boundary=a\nMIME-Version: 1.0\n\n--a\nContent-Type: multipart/signed; boundary=b\nContent-Transfer-Encoding: binary\n\n--b\nContent-Transfer-Encoding: 8bit\n\ne\n--b--\n--a\n\né\n--a--\n",
			"Content-Type: multipart/mixed; boundary=a\nMIME-Version: 1.0\n\n--a\nContent-Type: multipart/signed; boundary=b\nContent-Transfer-Encoding: 7bit\n\n--b\nContent-Transfer-Encoding: 8bit\n\ne\n--b--\n--a\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A9\n--a--\n",
			"Content-Type: multipart/mixed; boundary=a\nMIME-Version: 1.0\n\n--a\nContent-Type: multipart/signed; boundary=b\nContent-Transfer-Encoding: 8bit\n\n--b\nContent-Transfer-Encoding: 8bit\n\ne\n--b--\n--a\n\né\n--a--\n"},
		{"encrypted", "Content-Type: multipart/encrypted; boundary=b\n\n--b\n\n~\n--b--\n", "refused", "refused"},
		{"NUL in a header", "A: ~\n\nx\n", "refused", "refused"},
		{"8-bit boundary", "Content-Type: multipart/mixed; boundary=\"é\"\n\n--é\n\nx\n--é--\n", "refused", "same"},
		{"bare LF in structure", "Content-Type: multipart/mixed;^ boundary=b^^--b^\nx^--b--^",
			"Content-Type: multipart/mixed;\n boundary=b\n\n--b\n\nx\n--b--\n", "Content-Type: multipart/mixed;\n boundary=b\n\n--b\n\nx\n--b--\n"},
		{"no delimiter is made", "Content-Type: multipart/mixed; boundary=abc\nMIME-Version: 1.0\n\n--abc\n\né" + long[:68] + "--abc\n--abc--\n",
			"Content-Type: multipart/mixed; boundary=abc\nMIME-Version: 1.0\n\n--abc\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A9" + long[:68] + "-=\n-abc\n--abc--\n", "same"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for to, want := range []string{c.seven, c.eight} {
				in := odd(c.in)
				got, err := convert(t, in, Target(to))
				switch {
				case want == "refused":
					if err == nil {
						t.Errorf("to %d: became %q", to, got)
					}
				case err != nil:
					t.Errorf("to %d: %v", to, err)
				case want == "same" && got != in, want != "same" && got != crlf(want):
					t.Errorf("to %d: got  %q\nwant %q", to, got, crlf(want))
				}
				if err == nil {
					converted(t, in, got, Target(to))
				}
			}
		})
	}
}

// converted checks what must hold for every conversion.
func converted(t testing.TB, in, out string, to Target) {
	t.Helper()
	a, b := parse(in, Limits{}), parse(out, Limits{})
	check(t, []byte(out), b)
	if Needs(b, to) {
		t.Fatalf("%q still needs conversion", out)
	}
	within(t, []byte(out), b.Root, to)
	sameMeaning(t, in, out, a.Root, b.Root)
}

// within asserts that no content of the parts is more than the target can carry.
func within(t testing.TB, raw []byte, p *Part, to Target) {
	t.Helper()
	for _, c := range p.Children {
		within(t, raw, c, to)
	}
	if len(p.Children) > 0 {
		return
	}
	body := raw[p.Body:p.End]
	for i, c := range body {
		if c == 0 || c >= 0x80 && to == SevenBit || c == '\r' && (i+1 == len(body) || body[i+1] != '\n') || c == '\n' && (i == 0 || body[i-1] != '\r') {
			t.Fatalf("byte %d of %q", i, body)
		}
	}
	for line := range bytes.SplitSeq(body, []byte("\r\n")) {
		if len(line) > 998 {
			t.Fatalf("line of %d bytes", len(line))
		}
	}
}

// sameMeaning asserts that two trees have one shape and the same decoded content.
func sameMeaning(t testing.TB, in, out string, a, b *Part) {
	t.Helper()
	if a.Type != b.Type || a.Subtype != b.Subtype || len(a.Children) != len(b.Children) || fmt.Sprint(a.Params) != fmt.Sprint(b.Params) ||
		a.ID != b.ID || a.Description != b.Description || a.Disposition != b.Disposition || fmt.Sprint(a.DispParams) != fmt.Sprint(b.DispParams) {
		t.Fatalf("%+v became %+v\n%q\n%q", a, b, in, out)
	}
	for i := range a.Children {
		sameMeaning(t, in, out, a.Children[i], b.Children[i])
	}
	if len(a.Children) > 0 {
		return
	}
	want := readAll(t, NewDecoder(a.Encoding, strings.NewReader(in[a.Body:a.End])), 4096)
	got := readAll(t, NewDecoder(b.Encoding, strings.NewReader(out[b.Body:b.End])), 4096)
	if !bytes.Equal(got, want) {
		t.Fatalf("%q became %q\n%q\n%q", want, got, in, out)
	}
}

// FuzzConvert: what is not refused satisfies the target, has the same tree and the
// same decoded content, needs no second conversion, and is the same for any cut of
// the source.
func FuzzConvert(f *testing.F) {
	for _, in := range corpus(f) {
		if len(in) < 4000 {
			f.Add([]byte(in), false)
			f.Add([]byte(strings.ReplaceAll(in, "e", "\xe9")), true)
			f.Add([]byte(strings.ReplaceAll(in, "a", "\x00")), true)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, eight bool) {
		to := SevenBit
		if eight {
			to = EightBit
		}
		out, err := convert(t, string(in), to)
		if err != nil {
			return
		}
		converted(t, string(in), out, to)
		var again bytes.Buffer
		if err := Convert(&again, iotest.OneByteReader(bytes.NewReader(in)), parse(string(in), Limits{}), to); err != nil || again.String() != out {
			t.Fatalf("in single bytes: %q, %v, want %q", again.Bytes(), err, out)
		}
	})
}

// TestConvertSecondOpinion: go-message reads the same parts from a message before
// and after.
func TestConvertSecondOpinion(t *testing.T) {
	changed := 0
	for seed := range uint64(500) {
		mk := &maker{r: rand.New(rand.NewPCG(seed, 7))}
		mk.b.WriteString("Subject: x\r\nMIME-Version: 1.0\r\n")
		mk.entity(0)
		in := mk.b.String()
		out, err := convert(t, in, SevenBit)
		if err != nil {
			t.Fatalf("%v: %q", err, in)
		}
		if out != in {
			changed++
		}
		converted(t, in, out, SevenBit)
		if a, b := goMessageParts(t, in), goMessageParts(t, out); !slices.Equal(a, b) {
			t.Fatalf("seed %d\nbefore %q\nafter  %q\n%s\n%s", seed, a, b, in, out)
		}
	}
	if changed < 50 {
		t.Errorf("only %d messages needed it", changed)
	}
}

func goMessageParts(t *testing.T, raw string) (parts []string) {
	t.Helper()
	e, err := message.Read(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	err = e.Walk(func(path []int, e *message.Entity, err error) error {
		if err != nil || e.MultipartReader() != nil {
			return err
		}
		body, err := io.ReadAll(e.Body)
		parts = append(parts, fmt.Sprintln(path, e.Header.Get("Content-Type"), string(body)))
		return err
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	return parts
}

// A header so long that a reader may stop before its end gets the field at its top,
// and one far down does not count besides.
func TestConvertLongHeader(t *testing.T) {
	fill := "X: " + strings.Repeat("v", 900) + "\r\n"
	in := strings.Repeat(fill, 400) + "Content-Transfer-Encoding: 8bit\r\n\r\n\xe9"
	out, err := convert(t, in, SevenBit)
	want := "Content-Transfer-Encoding: quoted-printable\r\n" + strings.Repeat(fill, 400) + "MIME-Version: 1.0\r\n\r\n=E9"
	if err != nil || out != want {
		t.Errorf("%v, %d bytes, want %d", err, len(out), len(want))
	}
	// A field name that a reader finds only past many spaces is found here too.
	in = "Content-Transfer-Encoding" + strings.Repeat(" ", 10_000) + ": 8bit\r\n\r\n\xe9"
	if out, err = convert(t, in, SevenBit); err != nil || strings.Count(out, "Content-Transfer-Encoding") != 1 {
		t.Errorf("%v, %q", err, out)
	}
	converted(t, in, out, SevenBit)
}

// A source that ends early is a fault, wherever it ends.
func TestConvertShortSource(t *testing.T) {
	in := crlf("Content-Type: multipart/mixed; boundary=b\n\npré\n--b\n\né\n--b\nContent-Type: a/b\n\n~\n--b--\né\n")
	m := parse(in, Limits{})
	for n := range len(in) {
		if err := Convert(io.Discard, strings.NewReader(in[:n]), m, SevenBit); !fault.Is(err, fault.Corrupt) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if err := Convert(io.Discard, io.MultiReader(strings.NewReader(in[:60]), iotest.ErrReader(io.ErrClosedPipe)), m, SevenBit); err != io.ErrClosedPipe {
		t.Errorf("a failing source: %v", err)
	}
	for n := range 60 {
		if err := Convert(&full{n}, strings.NewReader(strings.Repeat(in, 1)), m, SevenBit); err != errFull {
			t.Fatalf("a target that takes %d bytes: %v", n, err)
		}
	}
}

var errFull = fmt.Errorf("full")

// full takes so many bytes.
type full struct{ left int }

func (f *full) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

// endless is a message with a large body of one line, made as it is read.
type endless struct{ left int }

func (e *endless) Read(b []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := min(len(b), e.left)
	for i := range b[:n] {
		b[i] = 0xe9
	}
	e.left -= n
	return n, nil
}

// Memory does not grow with the message.
func TestConvertMemory(t *testing.T) {
	const size = 8 << 20
	head := "Content-Type: a/b\r\n\r\n"
	src := func() io.Reader { return io.MultiReader(strings.NewReader(head), &endless{left: size}) }
	p := NewParser(Limits{})
	if _, err := io.Copy(p, src()); err != nil {
		t.Fatal(err)
	}
	m := p.Finish()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := Convert(io.Discard, src(), m, SevenBit); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 256<<10 {
		t.Errorf("%d bytes for a message of %d", n, size)
	}
}
