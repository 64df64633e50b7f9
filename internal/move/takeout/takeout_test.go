package takeout

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
	"github.com/martlet-mail/martlet/internal/move/rfc822/rfc822test"
)

func message(n int, labels string) string {
	if strings.ContainsFunc(labels, func(r rune) bool { return r >= 0x80 }) {
		labels = mime.QEncoding.Encode("UTF-8", labels)
	}
	return fmt.Sprintf("From %d@xxx Mon Jan 05 10:00:%02d +0000 2026\r\nX-GM-THRID: %[1]d\r\nX-Gmail-Labels: %[3]s\r\nSubject: m%[1]d\r\nMessage-ID: <m%[1]d@example.org>\r\n\r\n>From body %[1]d\r\n\r\n", n, n%60, labels)
}

type entry struct {
	name, data string
	link       string
}

func zipped(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		if e.link != "" {
			h.SetMode(fs.ModeSymlink | 0o777)
			e.data = e.link
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, e.data)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarred(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	w := tar.NewWriter(g)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o600, Size: int64(len(e.data)), ModTime: time.Unix(1767607200, 0)}
		if e.link != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, e.link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, e.data)
	}
	_, _ = w.Close(), g.Close()
	return b.Bytes()
}

func read(t testing.TB, labels Labels, parts ...[]byte) (*rfc822test.Visitor, error) {
	t.Helper()
	fsys := fstest.MapFS{}
	opt := Options{ID: "takeout:test", Labels: labels}
	for i, p := range parts {
		name := fmt.Sprintf("takeout-%03d", i)
		fsys[name] = &fstest.MapFile{Data: p}
		opt.Parts = append(opt.Parts, Part{fsys, name})
	}
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.Mailboxes(context.Background())
	if err != nil || len(list) != 1 || !list[0].Scattered {
		t.Fatal(list, err)
	}
	v := &rfc822test.Visitor{}
	err = s.Read(context.Background(), list[0], move.Reading{}, v)
	if len(v.Faults) > 0 {
		t.Error(v.Faults)
	}
	return v, err
}

func TestLabels(t *testing.T) {
	for _, c := range []struct {
		labels   string
		places   string
		flags    mail.Flags
		keywords string
	}{
		{"Inbox,Important,Opened,Category Personal", "INBOX", mail.Seen, "$Important"},
		{"Inbox,Unread,Category Promotions", "INBOX", 0, "Promotions"},
		{"Sent,Opened", "Sent", mail.Seen, ""},
		{"Sent", "Sent", mail.Seen, ""},
		{"Archived,Opened", "Archive", mail.Seen, ""},
		{"Archived,Opened,Work/2025", "Work/2025", mail.Seen, ""},
		{"Inbox,Starred,Work,Family", "INBOX|Work|Family", mail.Seen | mail.Flagged, ""},
		{`Inbox,"Bills, paid","A ""b"""`, `INBOX|Bills, paid|A "b"`, mail.Seen, ""},
		{"Drafts", "Drafts", mail.Seen | mail.Draft, ""},
		{"Spam,Unread,Category Updates,Work", "Junk", 0, "Updates Work"},
		{"Trash,Inbox,Work", "Trash", mail.Seen, "Work"},
		{"Chat,Opened", "Chat", mail.Seen, ""},
		{"", "Archive", mail.Seen, ""},
		{"Posteingang,Geöffnet,Kategorie: \"Soziale Medien\"", "INBOX", mail.Seen, "Social"},
		{"Posteingang,Ungelesen,Wichtig,Rechnungen/Größe", "INBOX|Rechnungen/Größe", 0, "$Important"},
		{"Gesendet,Todos", "Sent|Todos", mail.Seen, ""},
		{"Boîte de réception,Non lus,Suivi", "INBOX", mail.Flagged, ""},
		{"Archivés,Envoyé", "Sent", mail.Seen, ""},
		{"Recibidos,No leídos,Categoría: Promociones", "INBOX", 0, "Promotions"},
		{"Входящие,Непрочитанные,Работа", "INBOX|Работа", 0, ""},
		{"受信トレイ,未読,重要", "INBOX", 0, "$Important"},
		{"収件,受信トレイ,カテゴリ「プロモーション」", "INBOX|収件", mail.Seen, "カテゴリ プロモーション"},
		{"收件箱,未读", "INBOX", 0, ""},
		{"البريد الوارد,غير مقروء", "INBOX", 0, ""},
		{`\Inbox,\Starred`, "INBOX", mail.Seen | mail.Flagged, ""},
	} {
		v, err := read(t, Mailboxes, []byte(message(7, c.labels)))
		if err != nil || len(v.Got) != 1 {
			t.Fatal(c.labels, err, v)
		}
		m := v.Got[0]
		if got := strings.Join(m.Places, "|"); got != c.places || m.Flags != c.flags || strings.Join(m.Keywords, " ") != c.keywords {
			t.Errorf("%q: %q %v %q", c.labels, got, m.Flags, m.Keywords)
		}
		if !m.Date.Equal(time.Date(2026, 1, 5, 10, 0, 7, 0, time.UTC)) || !strings.Contains(m.Text, "X-GM-THRID: 7\r\n") || !strings.Contains(m.Text, "\r\n\r\nFrom body 7\r\n") {
			t.Errorf("%v %q", m.Date, m.Text)
		}
	}
	v, err := read(t, Keywords, []byte(message(7, "Inbox,Unread,Work,Family things")))
	if err != nil || !reflect.DeepEqual(v.Got[0].Places, []string{"INBOX"}) || !reflect.DeepEqual(v.Got[0].Keywords, []string{"Work", "Family things"}) {
		t.Errorf("%+v %v", v.Got, err)
	}
	if _, err := New(Options{Names: map[string]string{"x": "nothing"}}); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

// What is Gmail's own in one language is a person's label in another: the file says which it is.
func TestLanguage(t *testing.T) {
	v, err := read(t, Mailboxes, []byte(message(1, "Posteingang,Geöffnet")+message(2, "Gesendet,Inbox,Sent")))
	if err != nil || !reflect.DeepEqual(v.Got[1].Places, []string{"Sent", "Inbox", "Sent"}) {
		t.Errorf("%q %v", v.Got[1].Places, err)
	}
	for language, row := range words {
		for k, names := range row {
			for _, n := range strings.Split(names, ";") {
				if n == "" || !utf8.ValidString(n) || strings.TrimSpace(n) != n || strings.Contains(n, ",") {
					t.Errorf("%s: %q", language, n)
				}
				for other, names := range row {
					if other != k && slices.Contains(strings.Split(names, ";"), n) {
						t.Errorf("%s: %q is two things", language, n)
					}
				}
			}
		}
	}
	if len(words) < 40 {
		t.Error(len(words))
	}
}

// All forms give the same, parts are one after the other, and nothing comes twice.
func TestForms(t *testing.T) {
	all := message(1, "Inbox,Opened") + message(2, "Sent") + message(3, "Archived,Work")
	other := message(4, "Inbox,Unread")
	name := "Takeout/Mail/All mail Including Spam and Trash.mbox"
	junk := entry{name: "Takeout/Mail/User Settings/Filters.json", data: "{}"}
	var packed bytes.Buffer
	g := gzip.NewWriter(&packed)
	_, _ = io.WriteString(g, all+other)
	_ = g.Close()
	var want []rfc822test.Message
	for form, parts := range map[string][][]byte{
		"mbox":      {[]byte(all + other)},
		"mbox.gz":   {packed.Bytes()},
		"zip":       {zipped(t, junk, entry{name: name, data: all + other})},
		"tgz":       {tarred(t, junk, entry{name: name, data: all + other})},
		"two zips":  {zipped(t, junk, entry{name: name, data: all}), zipped(t, entry{name: strings.Replace(name, ".mbox", "-002.mbox", 1), data: other})},
		"per label": {zipped(t, entry{name: "Takeout/Mail/Inbox.mbox", data: message(1, "Inbox,Opened")}, entry{name: "Takeout/Mail/x.mbox", data: all}), tarred(t, entry{name: name, data: all + other})},
	} {
		v, err := read(t, Mailboxes, parts...)
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		if want == nil {
			want = v.Got
		}
		if len(v.Got) != 4 || !reflect.DeepEqual(v.Got, want) {
			t.Errorf("%s: %d messages\n%+v", form, len(v.Got), v.Got)
		}
	}
	fsys := fstest.MapFS{"T/Mail/a.mbox": {Data: []byte(all)}, "T/Mail/b.mbox": {Data: []byte(other)}, "T/Photos/x.jpg": {Data: []byte("x")}}
	s, _ := New(Options{Parts: []Part{{fsys, "T"}}})
	v := &rfc822test.Visitor{}
	if err := s.Read(t.Context(), move.Mailbox{}, move.Reading{}, v); err != nil || !reflect.DeepEqual(v.Got, want) {
		t.Errorf("a folder: %v %+v", err, v.Got)
	}
	// The same message with other labels, from a later Takeout, is the same.
	later, err := read(t, Mailboxes, []byte(message(1, "Archived,Opened,New")))
	if err != nil || later.Got[0].Key != want[0].Key {
		t.Error(err, later.Got)
	}
}

// Attack 91: archives that lead out of themselves are refused, and so are links. Nothing is
// ever written, so that there is nothing to find; what is checked is that no mail is taken.
func TestAttack91ArchivesThatLeadOut(t *testing.T) {
	good := entry{name: "Takeout/Mail/x.mbox", data: message(1, "Inbox")}
	for _, name := range []string{"../../etc/cron.d/x", "/etc/passwd", "Takeout/../../x.mbox", `..\..\x.mbox`, `C:\x.mbox`, "C:/x.mbox", "a//b.mbox", "Takeout/./x.mbox", "x\x00.mbox"} {
		for form, archive := range map[string][]byte{"zip": zipped(t, entry{name: name, data: message(2, "Inbox")}, good), "tgz": nil} {
			if form == "tgz" {
				if strings.Contains(name, "\x00") {
					continue
				}
				archive = tarred(t, entry{name: name, data: message(2, "Inbox")}, good)
			}
			v, err := read(t, Mailboxes, archive)
			if !fault.Is(err, fault.Invalid) || len(v.Told) > 0 {
				t.Errorf("%s, %q: %v, %d messages", form, name, err, len(v.Told))
			}
		}
	}
	for _, target := range []string{"/etc/passwd", "x.mbox"} {
		link := entry{name: "Takeout/Mail/link.mbox", link: target}
		for form, archive := range map[string][]byte{"zip": zipped(t, link, good), "tgz": tarred(t, link, good)} {
			if v, err := read(t, Mailboxes, archive); !fault.Is(err, fault.Invalid) || len(v.Told) > 0 {
				t.Errorf("%s with a link: %v, %d messages", form, err, len(v.Told))
			}
		}
	}
	// Control.
	if v, err := read(t, Mailboxes, zipped(t, good)); err != nil || len(v.Got) != 1 {
		t.Error(err)
	}
	// A part that is a link is not followed.
	fsys := fstest.MapFS{"a.zip": {Data: []byte("/etc/passwd"), Mode: fs.ModeSymlink | 0o777}}
	s, _ := New(Options{Parts: []Part{{fsys, "a.zip"}}})
	if err := s.Read(t.Context(), move.Mailbox{}, move.Reading{}, &rfc822test.Visitor{}); err == nil {
		t.Error("a link was followed")
	}
}

// Attack 64: archives that grow without end. Their time is bounded, and their memory is that
// of any other.
func TestAttack64ArchivesThatGrow(t *testing.T) {
	zeros := strings.Repeat("\x00", 4<<20)
	inner := zipped(t, entry{name: "a.mbox", data: zeros})
	for name, archive := range map[string][]byte{
		"zip of zeros":      zipped(t, entry{name: "Takeout/Mail/x.mbox", data: zeros}),
		"zip within a zip":  zipped(t, entry{name: "Takeout/Mail/x.zip", data: string(inner)}),
		"a zip called mbox": zipped(t, entry{name: "Takeout/Mail/x.mbox", data: string(inner)}),
		"tgz of zeros":      tarred(t, entry{name: "Takeout/Mail/x.mbox", data: zeros}),
		"cut":               inner[:len(inner)/2],
		"damaged":           append([]byte("PK\x03\x04"), bytes.Repeat([]byte{7}, 1000)...),
		"nothing":           {},
	} {
		v, err := read(t, Mailboxes, archive)
		if k := fault.Of(err); err == nil || k == fault.Internal || len(v.Told) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A message that never ends, of next to nothing.
	endless := io.MultiReader(strings.NewReader("From 1@xxx Mon Jan 05 10:00:00 +0000 2026\nSubject: x\n\n"), &zeroes{left: 3 << 30})
	r := &reading{ctx: t.Context(), v: &rfc822test.Visitor{Discard: true}, how: move.Reading{Plan: true}}
	src, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.opt, r.seen, r.keys = src.opt, map[uint64]struct{}{}, &rfc822.Keys{}
	err = r.mail(&rfc822.Ratio{R: endless, In: &rfc822.Counter{N: 1000}, Free: 4 << 20})
	if !fault.Is(err, fault.TooLarge) {
		t.Errorf("a message without end: %v", err)
	}
}

type zeroes struct{ left int64 }

func (z *zeroes) Read(p []byte) (int, error) {
	if z.left <= 0 {
		return 0, io.EOF
	}
	z.left -= int64(len(p))
	clear(p)
	return len(p), nil
}

func FuzzLabels(f *testing.F) {
	for _, s := range []string{"Inbox,Opened", `"a, b",c`, "=?UTF-8?Q?Posteingang,Ge=C3=B6ffnet?=", `Kategorie: "Soziale Medien",x`, `"`, ",,", `\Inbox`} {
		f.Add(s)
	}
	d, err := newDictionary(nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		labels := splitLabels(s)
		if len(labels) > 200 {
			t.Fatal(len(labels))
		}
		total := 0
		for _, l := range labels {
			if l == "" || strings.TrimSpace(l) != l {
				t.Fatalf("%q", l)
			}
			total += len(l)
		}
		if total > 4*len(s)+1024 {
			t.Fatalf("%d bytes of %d", total, len(s))
		}
		for _, how := range []Labels{Mailboxes, Keywords} {
			var item move.Item
			d.apply(s, true, how, &item)
			if len(item.Places) == 0 || slices.Contains(item.Places, "") {
				t.Fatalf("%q", item.Places)
			}
		}
	})
}

// FuzzArchive: whatever is given as a Takeout, messages or a reason.
func FuzzArchive(f *testing.F) {
	f.Add(zipped(f, entry{name: "T/a.mbox", data: message(1, "Inbox")}))
	f.Add(tarred(f, entry{name: "T/a.mbox", data: message(1, "Inbox")}))
	f.Add([]byte(message(1, "Inbox") + message(2, "Sent")))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := read(t, Mailboxes, b)
		if err != nil && fault.Of(err) == fault.Internal {
			t.Fatal(err)
		}
		for _, m := range v.Told {
			if len(m.Places) == 0 {
				t.Fatal(m)
			}
		}
	})
}
