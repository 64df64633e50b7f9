package mime

import (
	"slices"
	"strings"
	"testing"
)

func TestFilenames(t *testing.T) {
	const message = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b; name=\"whole\"\r\n\r\n" +
		"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nname\r\n" +
		"--b\r\nContent-Type: application/pdf; name=\"=?utf-8?q?Gr=C3=B6=C3=9Fe.pdf?=\"\r\nContent-Disposition: attachment; filename=\"a \\\"b\\\".pdf\"\r\n\r\nx\r\n" +
		"--b\r\nContent-Type: text/plain\r\nContent-Description: filename\r\nContent-Disposition: inline; size=\"3\"; filename*=utf-8''%E2%82%AC.txt\r\n\r\nx\r\n" +
		"--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: image/png; name=ü.png\r\n\r\nx\r\n" +
		"--b--\r\n"
	p := NewParser(DefaultLimits())
	p.Write([]byte(message))
	got := Filenames(p.Finish().BodyStructure)
	want := []string{"Größe.pdf", `a "b".pdf`, "€.txt", "ü.png", "whole"}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, s := range []string{"", "(", `("name`, `("name" {9}` + "\r\nabc", `("name" {99999999999}` + "\r\nabc", `)))("name" "x`, `("name" "\`} {
		if got := Filenames([]byte(s)); len(got) > 0 {
			t.Errorf("%q: %q", s, got)
		}
	}
	if got := Filenames([]byte(strings.Repeat("(", 1000) + `"NAME" "x"`)); !slices.Equal(got, []string{"x"}) {
		t.Errorf("%q", got)
	}
}

// FuzzFilenames: of any message, the names are those of its parts.
func FuzzFilenames(f *testing.F) {
	f.Add([]byte("Content-Type: a/b; name=x\r\nContent-Disposition: attachment; filename*=''y\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		Filenames(b)
		p := NewParser(DefaultLimits())
		p.Write(b)
		m := p.Finish()
		names := Filenames(m.BodyStructure)
		var walk func(*Part)
		walk = func(p *Part) {
			if n := p.Filename(); n != "" && !strings.Contains(n, "\x00") && !slices.Contains(names, n) {
				t.Errorf("%q is not among %q", n, names)
			}
			for _, kid := range p.Children {
				walk(kid)
			}
		}
		walk(m.Root)
	})
}
