package mbox

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/rfc822/rfc822test"
)

const f1 = "From carol@example.org Mon Jan  5 10:00:00 2026\n"

// texts reads a file and returns its messages with LF.
func texts(t *testing.T, file string, q Quoting) []string {
	t.Helper()
	v := readFile(t, file, Options{Quoting: q})
	var out []string
	for _, m := range v.Got {
		if strings.Contains(strings.ReplaceAll(m.Text, "\r\n", ""), "\n") {
			t.Errorf("a line ends in LF alone: %q", m.Text)
		}
		out = append(out, strings.ReplaceAll(m.Text, "\r\n", "\n"))
	}
	return out
}

// readFile reads a file in all ways there are, which must give the same.
func readFile(t *testing.T, file string, opt Options) *rfc822test.Visitor {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, file)
	_ = z.Close()
	enc, _ := zstd.NewWriter(nil)
	fsys := fstest.MapFS{
		"a.mbox": {Data: []byte(file)}, "b.mbox.gz": {Data: packed.Bytes()}, "c.mbox.zst": {Data: enc.EncodeAll([]byte(file), nil)},
	}
	var first *rfc822test.Visitor
	for _, name := range []string{"a.mbox", "b.mbox.gz", "c.mbox.zst"} {
		_, got, err := rfc822test.ReadAll(t.Context(), New(fsys, name, opt), rfc822test.Reading{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, v := range got {
			if first == nil {
				first = v
			} else if opt.Quoting != Auto && !reflect.DeepEqual(first.Got, v.Got) && !hasUIDs(first) {
				t.Fatalf("%s gives\n%+v\nplain it is\n%+v", name, v.Got, first.Got)
			}
		}
	}
	return first
}

func hasUIDs(v *rfc822test.Visitor) bool { return len(v.Got) > 0 && v.Got[0].UID > 0 }

func TestWhatSeparates(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		want []string
	}{
		"two":                    {f1 + "A: 1\n\nx\n\n" + f1 + "B: 2\n\ny\n\n", []string{"A: 1\n\nx\n", "B: 2\n\ny\n"}},
		"CRLF":                   {strings.ReplaceAll(f1+"A: 1\n\nx\n\n"+f1+"B: 2\n\ny\n\n", "\n", "\r\n"), []string{"A: 1\n\nx\n", "B: 2\n\ny\n"}},
		"no newline at the end":  {f1 + "A: 1\n\nx\n\n" + f1 + "B: 2\n\ny", []string{"A: 1\n\nx\n", "B: 2\n\ny\n"}},
		"no empty line":          {f1 + "A: 1\n\nx\n" + f1 + "Received: 2\nSubject: b\n\ny\n", []string{"A: 1\n\nx\n", "Received: 2\nSubject: b\n\ny\n"}},
		"a sentence":             {f1 + "A: 1\n\n\nFrom time to time\nthere is one\n", []string{"A: 1\n\n\nFrom time to time\nthere is one\n"}},
		"a sentence with a date": {f1 + "A: 1\n\nsee\n\nFrom bob Mon Jan  5 10:00:00 2026\nI had nothing\n", []string{"A: 1\n\nsee\n\nFrom bob Mon Jan  5 10:00:00 2026\nI had nothing\n"}},
		"in a paragraph":         {f1 + "A: 1\n\nsee\nFrom bob Mon Jan  5 10:00:00 2026\nNote: no field\n\n", []string{"A: 1\n\nsee\nFrom bob Mon Jan  5 10:00:00 2026\nNote: no field\n"}},
		"empty message":          {f1 + "\n" + f1 + "B: 2\n\ny\n", []string{"\n", "B: 2\n\ny\n"}},
		"nothing at all":         {f1 + f1 + "B: 2\n\ny\n", []string{"", "B: 2\n\ny\n"}},
		"header only":            {f1 + "A: 1\n\n\n" + f1 + "B: 2\n\ny\n", []string{"A: 1\n\n", "B: 2\n\ny\n"}},
		"empty lines at the end": {f1 + "A: 1\n\nx\n\n\n\n" + f1 + "B: 2\n\ny\n", []string{"A: 1\n\nx\n\n\n", "B: 2\n\ny\n"}},
		"Thunderbird":            {"From - Mon Jan 05 10:00:00 2026\nX-Mozilla-Status: 0001\n\nx\n\nFrom \nX-Mozilla-Status: 0001\n\ny\n", []string{"X-Mozilla-Status: 0001\n\nx\n", "X-Mozilla-Status: 0001\n\ny\n"}},
		"quoted":                 {f1 + "A: 1\n\n>From a\n>>From b\n> From c\n", []string{"A: 1\n\nFrom a\n>From b\n> From c\n"}},
		"header is not unquoted": {f1 + ">From b\nA: 1\n\nx\n", []string{">From b\nA: 1\n\nx\n"}},
		"long lines":             {f1 + "A: 1\n\n" + strings.Repeat("x", 100_000) + "\n\n" + f1 + "B: 2\n\n" + strings.Repeat("y", 70_000), []string{"A: 1\n\n" + strings.Repeat("x", 100_000) + "\n", "B: 2\n\n" + strings.Repeat("y", 70_000) + "\n"}},
	} {
		if got := texts(t, c.file, RD); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %.300q\nwant %.300q", name, got, c.want)
		}
	}
}

func TestQuotings(t *testing.T) {
	body := "From a\n>From b\n>>From c\n\n" + f1 + "Subject: not one\n\nend\n"
	quote := func(s, what string) string { return strings.ReplaceAll("\n"+s, "\n"+what, "\n>"+what)[1:] }
	mboxo := quote(body, "From ")
	mboxrd := quote(quote(quote(body, ">>From "), ">From "), "From ")
	message := func(head, body string) string { return f1 + head + "\n" + body + "\n" }
	length := func(body string) string { return fmt.Sprintf("Content-Length: %d\n", len(body)) }
	next := message("Z: 1\n", "z\n")
	nextLength := message("Z: 1\n"+length("z\n"), "z\n")
	for name, c := range map[string]struct {
		q    Quoting
		auto bool
		file string
		want string
	}{
		// mboxo cannot tell ">From " that was quoted from one that was not.
		"mboxo":   {O, false, message("A: 1\n", mboxo) + next, "A: 1\n\n" + strings.Replace(body, ">From b", "From b", 1)},
		"mboxrd":  {RD, true, message("A: 1\n", mboxrd) + next, "A: 1\n\n" + body},
		"mboxcl":  {CL, true, message(length(mboxrd)+"A: 1\n", mboxrd) + nextLength, length(mboxrd) + "A: 1\n\n" + body},
		"mboxcl2": {CL2, true, message(length(body)+"A: 1\n", body) + nextLength, length(body) + "A: 1\n\n" + body},
	} {
		qs := []Quoting{c.q}
		if c.auto {
			qs = append(qs, Auto)
		}
		for _, q := range qs {
			got := texts(t, c.file, q)
			if len(got) != 2 || got[0] != c.want {
				t.Errorf("%s read as %s:\n got %q\nwant %q", name, q, got, c.want)
			}
		}
	}
	// Control: what is not quoted needs the lengths.
	if got := texts(t, message(length(body)+"A: 1\n", body)+nextLength, RD); len(got) != 3 {
		t.Errorf("without lengths there are %d messages", len(got))
	}
	// Lengths that are wrong, absurd or beyond the end lead nowhere.
	for _, n := range []string{"3", "99999", "-5", "9223372036854775807", "x"} {
		file := message("Content-Length: "+n+"\nA: 1\n", "one\ntwo\n") + next
		for _, q := range []Quoting{CL, CL2, Auto} {
			if got := texts(t, file, q); len(got) != 2 || !strings.HasSuffix(got[0], "one\ntwo\n") {
				t.Errorf("length %s, %s: %q", n, q, got)
			}
		}
	}
	if got := texts(t, f1+"Content-Length: 3\nX-UID: 4\n\nend\n\n"+f1+"Content-Length: 2\nX-UID: 5\n\ny\n", Auto); len(got) != 2 || !strings.HasSuffix(got[0], "\n\nend") {
		t.Errorf("a body that ends without a line end: %q", got)
	}
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		header string
		flags  mail.Flags
		words  []string
		gone   bool
	}{
		{"Status: RO\nX-Status: AF", mail.Seen | mail.Answered | mail.Flagged, nil, false},
		{"Status: O\nX-Status: TD\nX-Keywords: $Label1  work (bad) work", mail.Draft | mail.Deleted, []string{"$Label1", "work"}, false},
		{"X-Mozilla-Status: 1007\nX-Mozilla-Status2: 00800000\nX-Mozilla-Keys: $label1 $label4                       ", mail.Seen | mail.Answered | mail.Flagged, []string{"$label1", "$label4", "$Forwarded"}, false},
		{"X-Mozilla-Status: 0009", 0, nil, true},
		{"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2", 0, nil, true},
		{"Subject: x", 0, nil, false},
	} {
		v := readFile(t, f1+c.header+"\n\nx\n\n"+f1+"Subject: y\n\ny\n", Options{Quoting: RD})
		switch {
		case c.gone != (len(v.Got) == 1):
			t.Errorf("%q: %d messages", c.header, len(v.Got))
		case !c.gone && (v.Got[0].Flags != c.flags || !reflect.DeepEqual(v.Got[0].Keywords, c.words)):
			t.Errorf("%q: %v %q", c.header, v.Got[0].Flags, v.Got[0].Keywords)
		}
	}
}

// The fields in which programs keep status change; the message stays the same one. They are
// left out only if that was asked for.
func TestStatusIsNotContent(t *testing.T) {
	a := f1 + "Subject: x\nStatus: RO\nX-Keywords:\n  a\n  b\nX-UID: 4\nTo: y\n\nx\n"
	b := f1 + "X-UID: 7\nSubject: x\nTo: y\n\nx\n"
	for _, strip := range []bool{false, true} {
		x, y := readFile(t, a, Options{Quoting: RD, StripStatus: strip}).Got[0], readFile(t, b, Options{Quoting: RD, StripStatus: strip}).Got[0]
		if x.Key != y.Key {
			t.Errorf("keys %s and %s", x.Key, y.Key)
		}
		if same := x.Text == y.Text; same != strip {
			t.Errorf("strip %v: %q and %q", strip, x.Text, y.Text)
		}
	}
	if x := readFile(t, a, Options{Quoting: RD}).Got[0]; x.Text != strings.ReplaceAll(strings.TrimPrefix(a, f1), "\n", "\r\n") || !reflect.DeepEqual(x.Keywords, []string{"a", "b"}) {
		t.Errorf("%q %q", x.Text, x.Keywords)
	}
}

func TestUIDsAreKept(t *testing.T) {
	m := func(uid int) string { return fmt.Sprintf("%sX-UID: %d\nSubject: %[2]d\n\nx\n\n", f1, uid) }
	base := strings.Replace(m(3), "X-UID", "X-IMAPbase: 1234567890 0000000009 $a\nX-UID", 1)
	fsys := fstest.MapFS{"INBOX": {Data: []byte(base + m(5) + m(9) + m(8) + m(10))}}
	list, got, err := rfc822test.ReadAll(t.Context(), New(fsys, ".", Options{}), rfc822test.Reading{})
	if err != nil || list[0].UIDValidity != 1234567890 || list[0].Role != mail.RoleInbox {
		t.Fatalf("%+v %v", list, err)
	}
	var uids []mail.UID
	for _, m := range got["INBOX"].Got {
		uids = append(uids, m.UID)
	}
	if !reflect.DeepEqual(uids, []mail.UID{3, 5, 9, 0, 0}) {
		t.Errorf("UIDs %v", uids)
	}
}

func TestFromLines(t *testing.T) {
	for line, want := range map[string]string{
		"From a Mon Jan  5 10:00:00 2026":                  "2026-01-05T10:00:00Z",
		"From a@b Mon Jan 05 10:00:00 2026":                "2026-01-05T10:00:00Z",
		"From a Mon Jan  5 10:00 2026":                     "2026-01-05T10:00:00Z",
		"From a Mon Jan  5 10:00:00 +0130 2026":            "2026-01-05T10:00:00+01:30",
		"From 1854321@xxx Mon Jan 05 10:00:00 +0000 2026":  "2026-01-05T10:00:00Z",
		"From a Mon Jan  5 10:00:00 2026 -0800":            "2026-01-05T10:00:00-08:00",
		"From a Mon Jan  5 10:00:00 PST 2026":              "2026-01-05T10:00:00-08:00",
		"From a Mon Jan  5 10:00:00 MET DST 2026":          "2026-01-05T10:00:00+02:00",
		"From a Mon Jan  5 10:00:00 2026 remote from host": "2026-01-05T10:00:00Z",
		"From \"a b\"@c (x) Mon Jan  5 10:00:00 2026":      "2026-01-05T10:00:00Z",
		"From a Mon, 5 Jan 2026 10:00:00 +0100":            "2026-01-05T10:00:00+01:00",
		"From a Mon Jan  5 25:00:00 2026":                  "",
		"From a Mon Jan  5 10:00:00":                       "",
		"From a":                                           "", "From a Mon": "", "From time to time in Jan": "", "From a Mon Jan 35 10:00:00 2026": "",
		"From \"MAILER-DAEMON\" Fri Dec 31 12:19:00 1706": "0001-01-01T00:00:00Z", "From a Mon Jan  1 00:00:00 1601": "0001-01-01T00:00:00Z",
	} {
		_, got, _, ok := fromLine([]byte(line))
		if ok != (want != "") || ok && got.Format(time.RFC3339) != want {
			t.Errorf("%q: %v %v, want %s", line, ok, got.Format(time.RFC3339), want)
		}
	}
}

func TestProfile(t *testing.T) {
	one := []byte(f1 + "Subject: x\n\nx\n")
	fsys := fstest.MapFS{
		"Inbox": {Data: one}, "Inbox.msf": {Data: []byte("// <!-- <mdb:mork:z v=\"1.4\"/> -->")},
		"Inbox.sbd/Work": {Data: one}, "Inbox.sbd/Work.sbd/2025": {Data: one}, "Sent": {Data: nil}, "Sent.msf": {},
		"Templates": {Data: nil}, "msgFilterRules.dat": {Data: []byte("version")}, "old/Archive.mbox": {Data: one},
		"Apple.mbox/mbox": {Data: one}, "Apple.mbox/table_of_contents": {Data: []byte{0, 1}}, "note.txt": {Data: []byte("From nobody\n")},
		"Personal Folders/Old/mbox": {Data: one},
		"link":                      {Data: one, Mode: fs.ModeSymlink | 0o777}, "pipe": {Data: one, Mode: fs.ModeNamedPipe},
	}
	list, got, err := rfc822test.ReadAll(t.Context(), New(fsys, ".", Options{}), rfc822test.Reading{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range list {
		names = append(names, m.Name+"="+string(m.Role))
		if want := 1; m.Name != "Sent" && len(got[m.Name].Got) != want {
			t.Errorf("%s has %d", m.Name, len(got[m.Name].Got))
		}
	}
	want := []string{"INBOX=Inbox", "Apple=", "Inbox/Work=", "Inbox/Work/2025=", "Personal Folders/Old=", "Sent=Sent", "old/Archive="}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("%q\nwant %q", names, want)
	}
}

func TestNotMbox(t *testing.T) {
	fsys := fstest.MapFS{"a": {Data: []byte("Subject: x\n\nx\n")}, "d/b": {Data: []byte("text\n")}, "gz": {Data: []byte("\x1f\x8bnothing")}}
	for _, name := range []string{"a", "d", "gz", "none"} {
		_, err := New(fsys, name, Options{}).Mailboxes(t.Context())
		if k := fault.Of(err); err == nil || k == fault.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A file that is cut says so, after what could be read.
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for i := range 3000 {
		fmt.Fprintf(z, "%sSubject: %d\n\n%d\n\n", f1, i, i*i*7919)
	}
	_ = z.Close()
	cut := fstest.MapFS{"a.mbox.gz": {Data: packed.Bytes()[:packed.Len()-100]}}
	_, got, err := rfc822test.ReadAll(t.Context(), New(cut, "a.mbox.gz", Options{}), rfc822test.Reading{})
	if !fault.Is(errors.Unwrap(err), fault.Corrupt) {
		t.Errorf("%v, %d", err, len(got))
	}
}

// What a file asks of memory does not grow with it, packed or not.
func TestMemory(t *testing.T) {
	const size = 48 << 20
	one := []byte(f1 + "Subject: x\n\n" + strings.Repeat(strings.Repeat("y", 70)+"\n", 1000) + "\n")
	read := func(v *rfc822test.Visitor) uint64 {
		var base, now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&base)
		most, n := uint64(0), 0
		v.Refuse = func(move.Item) bool {
			if n++; n%100 == 0 {
				runtime.GC()
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapAlloc-min(now.HeapAlloc, base.HeapAlloc))
			}
			return false
		}
		r := io.LimitReader(&repeated{one: one}, size)
		if err := (&Pass{}).Stream(t.Context(), r, move.Reading{}, v); err != nil || len(v.Faults) > 0 {
			t.Fatal(err, v.Faults)
		}
		return most
	}
	const bound = 28 << 20
	if most := read(&rfc822test.Visitor{Discard: true}); most > bound {
		t.Errorf("%d MB are held of %d", most>>20, size>>20)
	}
	if most := read(&rfc822test.Visitor{}); most <= bound { // control: a visitor that keeps all
		t.Errorf("what keeps all holds %d MB", most>>20)
	}
}

// repeated gives the same bytes for ever.
type repeated struct {
	one []byte
	at  int
}

func (r *repeated) Read(p []byte) (n int, _ error) {
	for n < len(p) {
		c := copy(p[n:], r.one[r.at:])
		n, r.at = n+c, (r.at+c)%len(r.one)
	}
	return n, nil
}

// FuzzScanner: whatever the file, the messages lie in it one behind the other, all ways of
// reading give the same messages, and what is handed over has as many bytes as was told.
func FuzzScanner(f *testing.F) {
	for _, s := range []string{f1 + "A: 1\n\nx\n\n" + f1 + "B: 2\n\ny", f1 + "Content-Length: 2\n\nx\n\n" + f1, "From \nX-Mozilla-Status: 0\n\n>From a\r\n\r\n", f1 + f1 + "\n\n"} {
		for q := range quotings {
			f.Add([]byte(s), uint8(q))
		}
	}
	f.Fuzz(func(t *testing.T, file []byte, quoting uint8) {
		q := Quoting(int(quoting) % len(quotings))
		if q == Auto {
			q = Detect(file)
		}
		end := int64(0)
		at := bytes.NewReader(file)
		scan := NewScanner(bytes.NewReader(file), at, q)
		for scan.Next() {
			if scan.Offset < end {
				t.Fatalf("a message at %d begins before the one before it ends, at %d", scan.Offset, end)
			}
			got, err := io.ReadAll(scan)
			if err != nil {
				t.Fatal(err)
			}
			if scan.Added {
				got = got[:len(got)-1]
			}
			end = scan.Offset + int64(len(got))
			if end > int64(len(file)) || !bytes.Equal(got, file[scan.Offset:end]) {
				t.Fatalf("what is read is not what lies there: %q", got)
			}
		}
		var all [2]*rfc822test.Visitor
		for i := range all {
			all[i] = &rfc822test.Visitor{}
			p := &Pass{Quoting: q}
			var err error
			if i == 0 {
				err = p.File(context.Background(), bytes.NewReader(file), bytes.NewReader(file), move.Reading{}, all[i])
			} else {
				err = p.Stream(context.Background(), bytes.NewReader(file), move.Reading{}, all[i])
			}
			if err != nil && !fault.Is(err, fault.Invalid) || len(all[i].Faults) > 0 {
				t.Fatal(err, all[i].Faults)
			}
		}
		if !reflect.DeepEqual(all[0].Got, all[1].Got) {
			t.Fatalf("%+v\n%+v", all[0].Got, all[1].Got)
		}
	})
}

func FuzzFromLine(f *testing.F) {
	for _, s := range []string{"a Mon Jan  5 10:00:00 2026", "-", "", "x Mon, 5 Jan 2026 10:00:00 +0100", "a Mon Jan 5 10:00:00 MET DST 2026"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsAny(s, "\r\n") {
			return
		}
		_, date, bare, ok := fromLine([]byte("From " + s))
		if date.IsZero() {
			return
		}
		if ok && !bare && (date.Year() < 1970 || date.Year() > 9998) {
			t.Fatalf("%q has the date %v", s, date)
		}
		if again, ok2 := separates([]byte("From x "+date.Format("Mon Jan _2 15:04:05 2006 -0700")), []byte("A: 1\n"), true); ok && !bare && (!ok2 || !again.Equal(date)) {
			t.Fatalf("%v is written and read as %v", date, again)
		}
	})
}

// A file that cannot be read is one of the mailboxes, and says why; the others are read.
func TestUnreadableFile(t *testing.T) {
	fsys := fstest.MapFS{
		"d/good.mbox":      {Data: []byte("From a@b Mon Jan  1 00:00:00 2024\nSubject: x\n\nbody\n")},
		"d/broken.mbox.gz": {Data: []byte("\x1f\x8bXXXXXXXXXXXX")},
	}
	list, err := New(fsys, "d", Options{ID: "x"}).Mailboxes(t.Context())
	if err != nil || len(list) != 2 || list[0].Unreadable == "" || list[0].Skip != "" || list[1].Unreadable != "" {
		t.Errorf("%+v %v", list, err)
	}
}
