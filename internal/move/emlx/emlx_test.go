package emlx

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/rfc822/rfc822test"
)

const plist = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>date-received</key>
	<integer>1767607200</integer>
	<key>flags</key>
	<integer>%d</integer>
	<key>nested</key>
	<dict><key>flags</key><integer>2</integer></dict>
	<key>subject</key>
	<string>a &amp; b</string>
</dict>
</plist>
`

func emlxOf(text string, flags int) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(fmt.Sprintf("%-10d\n%s", len(text), text) + fmt.Sprintf(plist, flags))}
}

const partial = `Subject: p
Content-Type: multipart/mixed; boundary="B"

--B
Content-Type: text/plain

text
--B
Content-Type: multipart/related; boundary=C

--C
Content-Type: image/png; name=x.png
Content-Transfer-Encoding: base64
X-Apple-Content-Length: 99

--C--
--B
Content-Type: application/pdf
X-Apple-Content-Length: 5
Content-Transfer-Encoding: 7bit

--B--
`

func TestFolders(t *testing.T) {
	picture := bytes.Repeat([]byte{0, 1, 2, 255}, 50)
	const account = "V10/8A1F-UUID/"
	fsys := fstest.MapFS{
		account + "INBOX.mbox/77-UUID/Data/Messages/2.emlx":                emlxOf("Subject: b\n\nb\n", 1),
		account + "INBOX.mbox/77-UUID/Data/Messages/10.emlx":               emlxOf("Subject: c\n\nc", 1<<2|1<<4|1<<8|1<<25),
		account + "INBOX.mbox/77-UUID/Data/1/Messages/1.emlx":              emlxOf("Subject: a\r\n\r\na\r\n", 0),
		account + "INBOX.mbox/77-UUID/Data/Messages/.hidden.emlx":          emlxOf("no", 0),
		account + "INBOX.mbox/Info.plist":                                  {Data: []byte("x")},
		account + "Archive.mbox/2025.mbox/77/Data/Messages/5.partial.emlx": emlxOf(partial, 1),
		account + "Archive.mbox/2025.mbox/77/Data/Attachments/5/2.1/x.png": {Data: picture},
		account + "Archive.mbox/2025.mbox/77/Data/Attachments/5/3/doc.pdf": {Data: []byte("%PDF\n")},
		account + "Archive.mbox/2025.mbox/77/Data/Messages/6.partial.emlx": emlxOf(partial, 1),
		account + "Sent Messages.mbox/77/Data/Messages/7.emlx":             {Data: []byte("999\nSubject: cut\n\n")},
		account + "Sent Messages.mbox/77/Data/Messages/8.emlx":             {Data: []byte("Subject: no length\n\n")},
		account + "Sent Messages.mbox/77/Data/Messages/9.emlx":             {Data: []byte("12\nSubject: x\n\n<plist><dict><key>flags</key>")},
	}
	list, got, err := rfc822test.ReadAll(t.Context(), New(fsys, "Imported", "emlx:test", nil), rfc822test.Reading{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range list {
		names = append(names, m.Name+"="+string(m.Role))
	}
	if want := []string{"INBOX=Inbox", "Archive/2025=", "Sent Messages=Sent"}; !reflect.DeepEqual(names, want) {
		t.Errorf("%q", names)
	}
	in := got["INBOX"].Got
	if len(in) != 3 || in[0].Text != "Subject: a\r\n\r\na\r\n" || in[1].Text != "Subject: b\r\n\r\nb\r\n" || in[2].Text != "Subject: c\r\n\r\nc" {
		t.Fatalf("%+v", in)
	}
	if in[0].Flags != 0 || in[1].Flags != mail.Seen || in[2].Flags != mail.Answered|mail.Flagged || !reflect.DeepEqual(in[2].Keywords, []string{"$Forwarded", "$NotJunk"}) || in[0].Date.Unix() != 1767607200 {
		t.Errorf("%+v", in)
	}
	ar := got["Archive/2025"].Got
	whole := ar[0].Text
	if ar[0].Broken != "" || !strings.Contains(whole, "Content-Type: image/png; name=x.png\r\nContent-Transfer-Encoding: base64\r\n\r\n"+base64.StdEncoding.EncodeToString(picture)[:76]+"\r\n") ||
		!strings.Contains(whole, "\r\n\r\n"+base64.StdEncoding.EncodeToString([]byte("%PDF\n"))+"\r\n--B--\r\n") || strings.Contains(whole, "X-Apple") || strings.Contains(whole, "7bit") {
		t.Errorf("%q %s", ar[0].Broken, whole)
	}
	if !strings.HasPrefix(ar[1].Broken, "2 of its attachments") || ar[1].Text != strings.ReplaceAll(partial, "\n", "\r\n") {
		t.Errorf("%q %s", ar[1].Broken, ar[1].Text)
	}
	for i, want := range []string{"cut short", "first line", "cannot be read"} {
		if m := got["Sent Messages"].Got[i]; !strings.Contains(m.Broken, want) {
			t.Errorf("%q, want %s", m.Broken, want)
		}
	}
	exported := fstest.MapFS{"Work.mbox/mbox": {Data: []byte("From a@b Mon Jan  5 10:00:00 2026\nSubject: x\n\nx\n")}, "Work.mbox/table_of_contents": {Data: []byte{0}}}
	list, got, err = rfc822test.ReadAll(t.Context(), New(exported, "Imported", "emlx:test", nil), rfc822test.Reading{})
	if err != nil || len(list) != 1 || len(got["Work"].Got) != 1 {
		t.Error(list, err)
	}
	if _, err := New(fstest.MapFS{"x": {}}, "", "", nil).Mailboxes(t.Context()); err == nil {
		t.Error("a folder without mail")
	}
}

// Attack 64: property lists that grow, nest or name files.
func TestAttack64PropertyLists(t *testing.T) {
	for name, list := range map[string]string{
		"entities": `<!DOCTYPE p [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><plist><dict><key>flags</key><string>&b;</string></dict></plist>`,
		"a file":   `<!DOCTYPE p [<!ENTITY x SYSTEM "file:///etc/passwd">]><plist><dict><key>flags</key><string>&x;</string></dict></plist>`,
		"deep":     strings.Repeat("<a>", 100_000),
		"huge":     "<plist><dict><key>" + strings.Repeat("k", 4<<20) + "</key></dict></plist>",
		"closed":   "</plist>",
	} {
		p, err := readProperties(io.LimitReader(strings.NewReader(list), maxList))
		if p.flags != 0 || err == nil && name != "huge" {
			t.Errorf("%s: %+v %v", name, p, err)
		}
	}
}

func FuzzPropertyList(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(plist, 5)))
	f.Add([]byte("<plist><dict><key>flags</key><real>1e3</real></dict></plist>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readProperties(bytes.NewReader(b))
		if err == nil && (p.flags > 1<<52 || !p.received.IsZero() && (p.received.Year() < 1970 || p.received.Year() > 9999)) {
			t.Fatalf("%+v", p)
		}
	})
}

// FuzzRebuild: a message without marks of what was taken out comes through as it is, and what
// is put in has a bound.
func FuzzRebuild(f *testing.F) {
	f.Add([]byte(partial), true)
	f.Add([]byte(strings.ReplaceAll(partial, "\n", "\r\n")), false)
	f.Add([]byte("A: 1\n\n--x\n"), true)
	f.Fuzz(func(t *testing.T, b []byte, there bool) {
		found := 0
		find := func(string) io.ReadCloser {
			if !there {
				return nil
			}
			found++
			return io.NopCloser(strings.NewReader("attachment"))
		}
		missing := 0
		got, err := io.ReadAll(newRebuild(bytes.NewReader(b), find, &missing))
		if err != nil {
			t.Fatal(err)
		}
		if found == 0 && !bytes.Equal(got, b) {
			t.Fatalf("%q\nis now\n%q", b, got)
		}
		if len(got) > len(b)+found*100 {
			t.Fatalf("%d bytes of %d", len(got), len(b))
		}
	})
}
