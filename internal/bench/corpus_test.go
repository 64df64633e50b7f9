package bench

import (
	"bytes"
	"compress/flate"
	"net/mail"
	"strings"
	"testing"
)

// A message goes into DATA as it is, so it must need no dot stuffing and end in CRLF.
func TestMessagesCanBeSentUnchanged(t *testing.T) {
	for _, sizes := range []Sizes{Small, Mixed, Corpus} {
		l := newLetters("x", sizes)
		for n := range 2 * variants {
			m := l.append(nil, n)
			if bytes.Contains(m, []byte("\n.")) || !bytes.HasSuffix(m, []byte("\r\n")) {
				t.Fatalf("%s message %d cannot be sent as it is", sizes, n)
			}
			if bytes.Count(m, []byte("\n")) != bytes.Count(m, []byte("\r\n")) {
				t.Fatalf("%s message %d has a bare line feed", sizes, n)
			}
			for line := range bytes.Lines(m) {
				if len(line) > 1000 {
					t.Fatalf("%s message %d has a line of %d bytes", sizes, n, len(line))
				}
			}
			head, body, ok := bytes.Cut(m, []byte("\r\n\r\n"))
			if !ok || bytes.IndexFunc(head, func(c rune) bool { return c > 0x7e }) >= 0 || bytes.ContainsRune(body, 0) {
				t.Fatalf("%s message %d is not mail", sizes, n)
			}
			if msg, err := mail.ReadMessage(bytes.NewReader(m)); err != nil || msg.Header.Get("Message-ID") == "" {
				t.Fatalf("%s message %d: %v", sizes, n, err)
			}
		}
	}
}

// What is said of the corpus holds.
func TestCorpusIsAsItSays(t *testing.T) {
	l := newLetters("x", Corpus)
	total, files, again := 0, 0, 0
	for n := range 1_000 {
		size := len(l.append(nil, n))
		total += size
		if slot := n * stride % 100; slot >= 90 {
			files += size
			if k := n/100*10 + slot - 90; l.corpus.sentBefore(k) != k {
				again++
			}
		}
	}
	if share := float64(files) / float64(total); share < 0.55 || share > 0.78 {
		t.Errorf("files make up %.2f of the bytes", share)
	}
	if again < 5 || again > 30 {
		t.Errorf("%d of 100 files are sent again, one in seven should be", again)
	}
	for i, w := range l.corpus.lang {
		for size, want := range map[int]float64{2_000: 0.47, 8_000: 0.38} {
			text := w.paragraph(l.corpus.dice("text", size), size)
			if got := packed(text) / float64(len(text)); got < want-0.05 || got > want+0.05 {
				t.Errorf("language %d: %d bytes of text compress to %.2f, want %.2f", i, size, got, want)
			}
		}
	}
}

func packed(s string) float64 {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 6)
	w.Write([]byte(s))
	w.Close()
	return float64(b.Len())
}

// A file that is sent again is the same to the byte, and no other is.
func TestCorpusRepeatsFiles(t *testing.T) {
	c := newCorpus("x")
	seen := map[string]int{}
	for k := range 40 {
		data := string(c.fileOf(k).data)
		if first, ok := seen[data]; ok != (c.sentBefore(k) != k) {
			t.Errorf("file %d is like %d: %v", k, first, ok)
		}
		seen[data] = k
	}
}

func TestQuotedPrintable(t *testing.T) {
	var w writing
	w.quotedPrintable([]byte("a=ü \n.dot\n" + strings.Repeat("x", 80) + "."))
	want := "a=3D=C3=BC=20\r\n=2Edot\r\n" + strings.Repeat("x", 75) + "=\r\nxxxxx.\r\n"
	if string(w.b) != want {
		t.Errorf("%q, want %q", w.b, want)
	}
}
