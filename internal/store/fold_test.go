package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// noise returns bytes that no compressor makes shorter.
func random(seed uint64, n int) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// wrapped is b in base64, in lines of a length.
func wrapped(b []byte, line int, ending string) string {
	var out strings.Builder
	for s := base64.StdEncoding.EncodeToString(b); s != ""; {
		n := min(line, len(s))
		out.WriteString(s[:n] + ending)
		s = s[n:]
	}
	return out.String()
}

func foldPacker(t testing.TB) *packer {
	t.Helper()
	p, err := newPacker()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// repack packs and unpacks a chunk in both ways there are.
func repack(t *testing.T, p *packer, chunk []byte) (packed []byte) {
	t.Helper()
	packed = p.packBody([]byte("before"), chunk)[len("before"):]
	back, err := unpack(p.unbody, []byte("before"), packed)
	if err != nil || string(back) != "before"+string(chunk) {
		t.Fatalf("a chunk of %d bytes comes back as another of %d: %v", len(chunk), len(back), err)
	}
	stored := p.chunk(nil, chunk)
	if back, err = (&bodyReader{pack: p}).unchunk(nil, stored); err != nil || !bytes.Equal(back, chunk) {
		t.Fatalf("a chunk of %d bytes comes back as another of %d: %v", len(chunk), len(back), err)
	}
	return packed
}

func TestFold(t *testing.T) {
	file := random(7, 20_000)
	mail76 := wrapped(file, 76, "\r\n")
	for name, c := range map[string]struct {
		chunk  string
		folded bool
	}{
		"nothing":               {"", false},
		"text":                  {strings.Repeat("It is a truth universally acknowledged, that\r\n", 50), false},
		"lines of 76":           {mail76, true},
		"lines of 64":           {wrapped(file, 64, "\r\n"), true},
		"lines of 60":           {wrapped(file, 60, "\r\n"), true},
		"lines of 988":          {wrapped(file, 988, "\r\n"), true},
		"LF":                    {wrapped(file, 76, "\n"), true},
		"two lines":             {mail76[:2*78], true},
		"short lines":           {wrapped(file, 28, "\r\n"), false},
		"lines of 74":           {wrapped(file, 74, "\r\n"), false},
		"begins within a line":  {mail76[31:], true},
		"ends within a line":    {mail76[:5000], true},
		"ends within a CRLF":    {mail76[:78*30-1], true},
		"one byte of padding":   {wrapped(file[:1000], 76, "\r\n"), true},
		"two bytes of padding":  {wrapped(file[:1001], 76, "\r\n"), true},
		"a full last line":      {wrapped(file[:570], 76, "\r\n") + "--b--\r\n", true},
		"padding in full line":  {wrapped(file[:569], 76, "\r\n") + "--b--\r\n", true},
		"text before and after": {"--b\r\nContent-Type: x/y\r\n\r\n" + mail76 + "\r\n--b\r\n\r\n" + mail76[:3000] + "--b--", true},
		"a line too long":       {mail76[:780] + strings.Repeat("A", 80) + "\r\n" + mail76[780:], true},
		"padding in the middle": {mail76[:780] + "QUI=" + mail76[784:1560] + "\r\n", true},
		"bits after the end":    {mail76[:780] + "QUJDQR==\r\n", true},
		"CR in a line":          {mail76[:780] + "AAAA\rAAA" + mail76[788:], true},
		"changing line ends":    {wrapped(file[:570], 76, "\n") + mail76, true},
		"blank after a line":    {strings.ReplaceAll(mail76, "\r\n", " \r\n"), false},
	} {
		t.Run(name, func(t *testing.T) {
			p := foldPacker(t)
			packed := repack(t, p, []byte(c.chunk))
			if folded := packed[0] >= packedFolded; folded != c.folded {
				t.Errorf("folded: %v", folded)
			}
			if limit := len(c.chunk)*3/4 + 300; c.folded && len(packed) > limit {
				t.Errorf("%d bytes are kept as %d", len(c.chunk), len(packed))
			}
		})
	}
}

// TestFoldSays: what base64 says is compressed as if there were no base64.
func TestFoldSays(t *testing.T) {
	p := foldPacker(t)
	text := bytes.Repeat([]byte("В начале было слово, и слово было. "), 300)
	plain, coded := p.packBody(nil, text), p.packBody(nil, []byte(wrapped(text, 76, "\r\n")))
	if coded[0] != packedFoldedZstd || len(coded) > len(plain)+40 {
		t.Errorf("a text takes %d bytes, and %d in base64", len(plain), len(coded))
	}
}

// TestFoldDamage: broken bytes are an error, and ask for no memory beyond a chunk's.
func TestFoldDamage(t *testing.T) {
	p := foldPacker(t)
	good := p.packBody(nil, []byte("text\r\n"+wrapped(random(3, 3000), 76, "\r\n")))
	for n := range len(good) {
		if b, err := unpack(p.unbody, nil, good[:n]); err == nil && n < 2000 {
			t.Fatalf("of %d bytes the first %d give %d", len(good), n, len(b))
		}
	}
	huge := []run{{quads: 1 << 19, lines: 1 << 20}, {text: 1 << 21}, {tail: 1 << 30}, {quads: foldMost / 8, lines: 2}}
	for _, r := range huge {
		entry := appendRuns([]byte{packedFolded}, []run{r})
		if _, err := unpack(p.unbody, nil, entry); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	many := make([]run, 3)
	for i := range many {
		many[i] = run{quads: 100, lines: 2000}
	}
	if _, err := unpack(p.unbody, nil, append(appendRuns([]byte{packedFolded}, many), make([]byte, 2<<20)...)); !fault.Is(err, fault.Corrupt) {
		t.Errorf("runs that are longer together than a chunk: %v", err)
	}
}

func FuzzFold(f *testing.F) {
	file := random(5, 600)
	f.Add([]byte("text\r\n" + wrapped(file, 76, "\r\n") + "--b--\r\n"))
	f.Add([]byte(wrapped(file, 64, "\n")))
	f.Add([]byte(wrapped(file, 36, "\r\n")))
	p := foldPacker(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		repack(t, p, b)
		_, _ = unpack(p.unbody, nil, append([]byte{packedFolded}, b...))
	})
}

// TestFoldedBody reads ranges of a message with attachments, and what it takes.
func TestFoldedBody(t *testing.T) {
	s := newWorld(t).Store
	var b strings.Builder
	b.WriteString("From: a@example.org\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n")
	for i := range 5 {
		fmt.Fprintf(&b, "--b\r\nContent-Type: image/jpeg\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n",
			wrapped(random(uint64(i), 50_000+i), 76, "\r\n"))
	}
	b.WriteString("--b--\r\n")
	whole := b.String()
	p, err := s.Receive(ctx, strings.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		off, n := rnd.IntN(len(whole)), rnd.IntN(3000)
		if i == 0 {
			off, n = 0, len(whole)
		}
		n = min(n, len(whole)-off)
		readsAs(t, p, whole, off, n)
	}
	var stored int64
	err = s.eng.Blobs().List(ctx, func(name mail.BlobRef, _ time.Time, size int64) bool {
		stored += size
		return true
	})
	if err != nil || stored > int64(len(whole))*74/100 {
		t.Errorf("%d bytes are stored as %d: %v", len(whole), stored, err)
	}
}

// TestBodyVersion1 reads a body of the first version, whose chunks are never folded.
func TestBodyVersion1(t *testing.T) {
	s := newWorld(t).Store
	whole := []byte(wrapped(random(9, 100_000), 76, "\r\n"))
	var chunks []byte
	var lengths []int
	for rest := whole; len(rest) > 0; {
		n := min(chunkSize, len(rest))
		chunk := summed(pack(s.pack.body, nil, rest[:n]))
		chunks, lengths, rest = append(chunks, chunk...), append(lengths, len(chunk)), rest[n:]
	}
	head := bodyHead(int64(len(whole)), lengths)
	head[0] = 1
	head = summed(head[:len(head)-4])
	name := mail.BlobRef(sha256.Sum256(whole))
	if err := s.putBody(ctx, name, head, int64(len(chunks)), bytes.NewReader(chunks)); err != nil {
		t.Fatal(err)
	}
	r, err := openBody(ctx, s.eng.Blobs(), s.pack, name, 70_000, 50_000)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, whole[70_000:120_000]) {
		t.Errorf("%d bytes: %v", len(got), err)
	}
}

// BenchmarkPackBody packs and unpacks a chunk of a file that does not compress, of text,
// and of text in base64.
func BenchmarkPackBody(b *testing.B) {
	p := foldPacker(b)
	text := []byte(prose(1, chunkSize))[:chunkSize]
	for name, chunk := range map[string][]byte{
		"file":         []byte(wrapped(random(1, chunkSize), 76, "\r\n"))[:chunkSize],
		"text":         text,
		"text, base64": []byte(wrapped(text, 76, "\r\n"))[:chunkSize],
	} {
		packed := p.packBody(nil, chunk)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			for b.Loop() {
				packed = p.packBody(packed[:0], chunk)
			}
			b.ReportMetric(float64(len(packed))/float64(len(chunk)), "ratio")
		})
		b.Run(name+", back", func(b *testing.B) {
			b.SetBytes(int64(len(chunk)))
			r := &bodyReader{pack: p}
			kept := summed(packed)
			var out []byte
			for b.Loop() {
				out, _ = r.unchunk(out[:0], kept)
			}
		})
	}
}

// readsAs holds n bytes of a parcel from off on against the whole message.
func readsAs(t *testing.T, p *Parcel, whole string, off, n int) {
	t.Helper()
	r, err := p.Open(ctx, int64(off), int64(n))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || string(got) != whole[off:off+n] {
		t.Fatalf("of a message of %d bytes, %d from %d are others: %v", len(whole), n, off, err)
	}
}
