package netsrv

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
)

// once gives what it holds in reads of a few bytes and then says that there is no more
// yet, as a connection with a deadline does.
type once struct {
	b    []byte
	most int
}

var errNothingYet = errors.New("nothing yet")

func (o *once) Read(p []byte) (int, error) {
	if len(o.b) == 0 {
		return 0, errNothingYet
	}
	n := copy(p[:min(len(p), o.most)], o.b)
	o.b = o.b[n:]
	return n, nil
}

// drain reads all there is to be had now.
func drain(t *testing.T, f *inflater) []byte {
	t.Helper()
	var got []byte
	buf := make([]byte, 1000)
	for {
		n, err := f.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			if !errors.Is(err, errNothingYet) {
				t.Fatal(err)
			}
			return got
		}
	}
}

// partialFlush is a writer of blocks with the fixed code, each flushed as zlib does for
// Z_PARTIAL_FLUSH: an empty block of ten bits, of which up to seven stay behind.
type partialFlush struct {
	acc  uint64
	n    uint
	wire []byte
}

func (p *partialFlush) bits(v uint64, n uint) {
	p.acc |= v << p.n
	for p.n += n; p.n >= 8; p.n -= 8 {
		p.wire = append(p.wire, byte(p.acc))
		p.acc >>= 8
	}
}

func reversed(v uint64, n uint) (r uint64) {
	for range n {
		r, v = r<<1|v&1, v>>1
	}
	return r
}

func (p *partialFlush) write(text string) {
	p.bits(2, 3) // not the last, fixed code
	for _, c := range []byte(text) {
		if c < 144 {
			p.bits(reversed(uint64(c)+0x30, 8), 8)
		} else {
			p.bits(reversed(uint64(c)-144+0x190, 9), 9)
		}
	}
	p.bits(0, 7)
	p.bits(2, 3)
	p.bits(0, 7)
}

// All that a client has flushed is there at once, however it flushes.
func TestInflatePartialFlush(t *testing.T) {
	var p partialFlush
	src := &once{most: 7}
	f := newInflater(src)
	for i := range 50 {
		want := fmt.Sprintf("a%d NOOP %s\r\n", i, strings.Repeat("ü", i%5))
		p.write(want)
		src.b, p.wire = p.wire, nil
		if got := drain(t, f); string(got) != want {
			t.Fatalf("%d: %q, want %q", i, got, want)
		}
	}
}

func TestInflateSyncFlush(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
		var wire bytes.Buffer
		w, err := flate.NewWriter(&wire, level)
		if err != nil {
			t.Fatal(err)
		}
		src := &once{most: 1 + rng.IntN(3000)}
		f := newInflater(src)
		for i := range 40 {
			text := make([]byte, rng.IntN(1<<rng.IntN(17)))
			for j := range text {
				text[j] = byte(rng.IntN(1 + rng.IntN(255)))
			}
			if i%3 == 0 {
				text = bytes.Repeat(text[:min(len(text), 50)], 1+rng.IntN(2000))
			}
			w.Write(text)
			w.Flush()
			src.b = bytes.Clone(wire.Bytes())
			wire.Reset()
			if got := drain(t, f); !bytes.Equal(got, text) {
				t.Fatalf("level %d, %d: %d bytes, want %d", level, i, len(got), len(text))
			}
		}
		w.Close()
		src.b = wire.Bytes()
		if n, err := f.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatal(n, err)
		}
	}
}

// zlib itself, which Python has, flushing each way it can.
func TestInflateZlib(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	for _, flush := range []string{"Z_SYNC_FLUSH", "Z_PARTIAL_FLUSH", "Z_FULL_FLUSH"} {
		script := `
import sys, zlib
c = zlib.compressobj(6, zlib.DEFLATED, -15)
for i in range(60):
    text = (b"a%d FETCH %d:* (FLAGS) " % (i, i)) * (i % 7 + 1) + bytes((j * j * i) % 251 for j in range(i * 40))
    b = c.compress(text) + c.flush(zlib.` + flush + `)
    sys.stdout.buffer.write(b"%d %d\n" % (len(text), len(b)) + text + b)
`
		out, err := exec.Command(python, "-c", script).Output()
		if err != nil {
			t.Fatal(err)
		}
		src := &once{most: 100}
		f := newInflater(src)
		for i := 0; len(out) > 0; i++ {
			var plain, packed int
			line, rest, _ := bytes.Cut(out, []byte("\n"))
			fmt.Sscan(string(line), &plain, &packed)
			src.b, out = rest[plain:plain+packed], rest[plain+packed:]
			got := drain(t, f)
			if !bytes.Equal(got, rest[:plain]) {
				t.Fatalf("%s, %d: %d bytes, want %d", flush, i, len(got), plain)
			}
		}
	}
}

func TestInflateErrors(t *testing.T) {
	for name, wire := range map[string]string{
		"kind 3":           "\x07",
		"stored length":    "\x00\x01\x00\x00\x00",
		"too far back":     "\x63\x04\xff\xff\xff\xff\xff\xff",
		"nonsense":         "\xff\xff\xff\xff",
		"no codes at all":  "\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"a line of IMAP":   "a LOGIN alice secret\r\n",
		"TLS":              "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"a wrapper (zlib)": "\x78\x9c\x03\x00\x00\x00\x00\x01",
	} {
		f := newInflater(&once{b: []byte(wire), most: 100})
		_, err := io.Copy(io.Discard, onlyReader{f})
		if !errors.Is(err, errDeflate) {
			t.Errorf("%s: %v", name, err)
		}
		if _, again := f.Read(make([]byte, 1)); !errors.Is(again, err) {
			t.Errorf("%s: then %v", name, again)
		}
	}
}

type onlyReader struct{ io.Reader }

// What compress/flate reads, the inflater reads the same way, and the other way round.
func FuzzInflate(f *testing.F) {
	var p partialFlush
	p.write("a NOOP\r\n")
	f.Add(p.wire)
	for _, level := range []int{0, 1, 9} {
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, level)
		for i := range 20 {
			fmt.Fprintf(w, "a%d FETCH %d (FLAGS UID)\r\n", i, i*i)
		}
		w.Close()
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		const most = 1 << 20
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(wire)), most))
		got, err := io.ReadAll(io.LimitReader(newInflater(iotest.OneByteReader(bytes.NewReader(wire))), most))
		if wantErr == nil && (err != nil || !bytes.Equal(got, want)) {
			t.Fatalf("%d bytes, %v; want %d", len(got), err, len(want))
		}
		if wantErr != nil && !bytes.HasPrefix(got, want) {
			t.Fatalf("%d bytes differ from the %d before the error %v", len(got), len(want), wantErr)
		}
		if wantErr != nil && wantErr != io.ErrUnexpectedEOF && err == nil {
			t.Fatalf("no error, want %v", wantErr)
		}
	})
}
