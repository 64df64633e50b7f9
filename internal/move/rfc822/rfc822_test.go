package rfc822

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

func isStatus(name string) bool { return name == "status" || name == "x-long" }

func TestReader(t *testing.T) {
	long := strings.Repeat("y", 3*pieces)
	for in, want := range map[string]string{
		"":                                  "",
		"A: 1\n\nx\n":                       "A: 1\r\n\r\nx\r\n",
		"A: 1\r\n\r\nx\r\n":                 "A: 1\r\n\r\nx\r\n",
		"A: 1\nStatus: R\n O\nB: 2\n\nx":    "A: 1\r\nB: 2\r\n\r\nx",
		"Status: R\n\nStatus: x\n":          "\r\nStatus: x\r\n",
		"status : R\nA: 1\n":                "A: 1\r\n",
		"\nx\n\r\n":                         "\r\nx\r\n\r\n",
		"a\rb\n":                            "a\rb\r\n",
		"X-Long: " + long + "\nA: 1\n\n":    "A: 1\r\n\r\n",
		"A: 1\n\n" + long + "\n" + long:     "A: 1\r\n\r\n" + long + "\r\n" + long,
		"A: 1\n\n" + long[:pieces-9] + "\r": "A: 1\r\n\r\n" + long[:pieces-9] + "\r",
	} {
		got, err := io.ReadAll(NewReader(strings.NewReader(in), Form{Drop: isStatus}))
		if err != nil || string(got) != want {
			t.Errorf("%.60q is %.80q, want %.80q (%v)", in, got, want, err)
		}
	}
}

// FuzzReader: what is read does not depend on the pieces in which it comes; lines end in
// CRLF; reading what was read changes nothing more; what is left out is counted.
func FuzzReader(f *testing.F) {
	for _, s := range []string{"A: 1\nStatus: R\n\nx\n", "Status: a\r\n b\r\n\r\n", "\n", "x", strings.Repeat("y", pieces) + "\r\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b), Form{Drop: isStatus})
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		other, err := io.ReadAll(NewReader(iotest.OneByteReader(bytes.NewReader(b)), Form{Drop: isStatus}))
		if err != nil || !bytes.Equal(got, other) {
			t.Fatalf("in single bytes it is %q, not %q (%v)", other, got, err)
		}
		whole, _ := io.ReadAll(NewReader(bytes.NewReader(b), Form{}))
		if int64(len(whole)) != int64(len(got))+r.Dropped {
			t.Fatalf("%d bytes with all fields, %d without, %d left out", len(whole), len(got), r.Dropped)
		}
		if bytes.Count(whole, []byte("\n")) != bytes.Count(whole, []byte("\r\n")) || bytes.Count(whole, []byte("\n")) != bytes.Count(b, []byte("\n")) {
			t.Fatalf("%q", whole)
		}
		if again, _ := io.ReadAll(NewReader(bytes.NewReader(whole), Form{})); !bytes.Equal(again, whole) {
			t.Fatalf("%q is read again as %q", whole, again)
		}
		if h := r.Header(); len(h) > MaxGlance || len(h) <= MaxGlance-pieces && !bytes.HasPrefix(whole, h) {
			t.Fatalf("the header is %q", h)
		}
	})
}

func TestKeys(t *testing.T) {
	var k Keys
	look := NewLooker(Form{}, isStatus)
	key := func(s string) string {
		l, err := look.Look(strings.NewReader(s))
		if err != nil {
			t.Fatal(err)
		}
		return k.Key(l.Digest)
	}
	a, b, c, d := key("A: 1\n\nx\n"), key("A: 1\r\nStatus: R\r\n\r\nx\r\n"), key("A: 1\n\ny\n"), key("A: 1\n\nx\n")
	if a[:32] != b[:32] || !strings.HasSuffix(a, ".1") || !strings.HasSuffix(b, ".2") || !strings.HasSuffix(c, ".1") || !strings.HasSuffix(d, ".3") || len(d) > 64 {
		t.Error(a, b, c, d)
	}
	if SourceName("a/b") != "a/b" || len(SourceName(strings.Repeat("x", 500))) > 64 || SourceName("\xff") == SourceName("\xfe") || len(KeyOfName(strings.Repeat("n", 100))) > 64 {
		t.Error("names")
	}
}

func TestSpool(t *testing.T) {
	made := 0
	s := &Spool{NewTemp: func() (Temp, error) {
		made++
		return os.CreateTemp(t.TempDir(), "spool")
	}}
	defer s.Close()
	check := func(from int64, want []byte) {
		t.Helper()
		got, err := io.ReadAll(s.Section(from, int64(len(want))))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes from %d: %v", len(got), from, err)
		}
	}
	for round := range 3 {
		small, large := bytes.Repeat([]byte{byte(round)}, 100), bytes.Repeat([]byte("ab"), spoolMemory/2+5)
		_, _ = s.Write(small)
		check(0, small)
		if _, err := s.Write(large); err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write(small)
		check(100, large)
		check(int64(100+len(large)), small)
		check(50, append(bytes.Clone(small[:50]), large[:50]...))
		if err := s.Reset(); err != nil || s.Len() != 0 {
			t.Fatal(err)
		}
	}
	if made != 1 {
		t.Errorf("%d files", made)
	}
	if _, err := (&Spool{}).Write(make([]byte, spoolMemory+1)); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
}

// Attack 64: what is packed without end is stopped; what is packed well is not.
func TestAttack64PackedWithoutEnd(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	zeros := make([]byte, 1<<20)
	for range 4 {
		_, _ = z.Write(zeros)
	}
	_ = z.Close()
	r, packed, err := Unpack(bytes.NewReader(b.Bytes()))
	if err != nil || !packed {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); err != nil || n != 4<<20 { // a thousand times, and small
		t.Error(n, err)
	}
	endless := &Ratio{R: zeroes{}, In: &Counter{N: 1 << 10}, Free: 4 << 20}
	if n, err := io.Copy(io.Discard, endless); !fault.Is(err, fault.TooLarge) || n > 5<<20 {
		t.Error(n, err)
	}
	r, _, _ = Unpack(bytes.NewReader(b.Bytes()[:b.Len()/2]))
	if _, err := io.Copy(io.Discard, r); !fault.Is(err, fault.Corrupt) {
		t.Error(err)
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Attack 91: no link leads out of the folder that was given, and none within it is followed.
func TestAttack91LinksAreNotFollowed(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(outside, "secret"), []byte("Subject: secret\n\n"), 0o600))
	must(os.WriteFile(filepath.Join(dir, "plain"), []byte("Subject: x\n\n"), 0o600))
	must(os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "out")))
	must(os.Symlink("plain", filepath.Join(dir, "in")))
	must(os.Symlink(outside, filepath.Join(dir, "folder")))
	must(os.Symlink(".", filepath.Join(dir, "loop")))
	root, err := os.OpenRoot(dir)
	must(err)
	defer root.Close()
	for _, name := range []string{"out", "in", "folder", "loop", "folder/secret", "../x", "."} {
		if f, _, err := Open(root.FS(), name); err == nil {
			f.Close()
			t.Errorf("%s was opened", name)
		}
	}
	if f, _, err := Open(root.FS(), "plain"); err != nil { // control
		t.Error(err)
	} else {
		f.Close()
	}
	var seen []string
	must(Walk(root.FS(), func(name string, _ fs.DirEntry, err error) error {
		seen = append(seen, name)
		return err
	}))
	if strings.Join(seen, " ") != ". plain" {
		t.Errorf("%q", seen)
	}
	deep := fstest.MapFS{strings.Repeat("d/", MaxDepth+2) + "x": {}}
	if err := Walk(deep, func(string, fs.DirEntry, error) error { return nil }); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	if err := refused("x", fs.ErrPermission); !fault.Is(err, fault.Denied) {
		t.Error(err)
	}
	if err := refused("x", errors.New("odd")); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
	if _, err := ReadSmall(fstest.MapFS{"a": {Data: make([]byte, 100)}}, "a", 10); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
}

func TestRoles(t *testing.T) {
	list := []move.Mailbox{{Name: "Sent Items"}, {Name: "sent"}, {Name: "x", Role: mail.RoleJunk}, {Name: "Junk"}, {Name: "Inbox"}, {Name: "a/Trash"}}
	GiveRoles(list)
	InboxFirst(list)
	var got []string
	for _, m := range list {
		got = append(got, m.Name+"="+string(m.Role))
	}
	if want := "INBOX=Inbox Sent Items=Sent sent= x=Junk Junk= a/Trash="; strings.Join(got, " ") != want {
		t.Errorf("%q", got)
	}
}
