package mime

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// A parser that is used again finds what a new one does, and what it found before stays
// as it was.
func TestReset(t *testing.T) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	in := []string{
		"", "\r\n", "Subject: alone", "To: a@b\r\nTo: c@d\r\n\r\n",
		"Content-Type: multipart/mixed; boundary=open\r\n\r\n--open\r\nSubject: not ended",
		"Subject: " + strings.Repeat("long ", 10_000) + "\r\nX: " + strings.Repeat("y", 300<<10) + "\r\n\r\nbody \x00\x80",
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, string(b))
	}
	p := NewParser(Limits{})
	var found []*Message
	for range 2 {
		for _, s := range in {
			p.Reset()
			p.Write([]byte(s))
			found = append(found, p.Finish())
		}
	}
	for i, m := range found {
		s := in[i%len(in)]
		if want := parse(s, Limits{}); !reflect.DeepEqual(m, want) {
			t.Errorf("%.60q: the parser that was used before found\n%+v, the new one\n%+v", s, m, want)
		}
	}
}
