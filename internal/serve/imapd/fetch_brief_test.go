package imapd

import (
	"bufio"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

var everyBrief = []store.BriefKind{store.BriefEnvelope, store.BriefStructure, store.BriefHeader}

// briefed returns how many messages of INBOX have briefs of all these kinds.
func (w *world) briefed(kinds ...store.BriefKind) (count int) {
	w.t.Helper()
	return w.briefedIn("INBOX", kinds...)
}

func (w *world) briefedIn(box string, kinds ...store.BriefKind) (count int) {
	w.t.Helper()
	pic := w.picture(box)
	var list []store.Message
	for _, m := range pic.Messages(store.All()) {
		list = append(list, m)
	}
	b := store.NewBriefs(pic.Mailbox().ID, kinds...)
	err := w.alice.View(w.ctx, func(s *store.Snapshot) error {
		count = 0
		for rest := list; len(rest) > 0; {
			n, found, err := b.Read(s, rest)
			if err != nil {
				return err
			}
			if found {
				count += n
			}
			rest = rest[n:]
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return count
}

// awaitBriefs waits until so many messages of INBOX have briefs.
func (w *world) awaitBriefs(want int, kinds ...store.BriefKind) {
	w.t.Helper()
	for w.briefed(kinds...) < want {
		runtime.Gosched()
	}
}

var briefFetches = []string{
	"FETCH 1:* (ENVELOPE)", "UID FETCH 1:* (FLAGS BODYSTRUCTURE RFC822.SIZE)", "FETCH 1:* FULL", "FETCH 1:* (BODY)",
	"UID FETCH 60:70 (ENVELOPE)", "UID FETCH 1:50,65,129:200 (ENVELOPE BODYSTRUCTURE)", "FETCH 400:* (MODSEQ ENVELOPE)",
	"UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)] FLAGS)",
	"UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)] ENVELOPE BODY.PEEK[HEADER.FIELDS (TO X-NONE \"Content-Type\")])",
	"UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (RECEIVED SUBJECT)])", "FETCH 1:* (BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT)])",
	"FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)]<3.5>)", "FETCH 1:* (PREVIEW ENVELOPE)",
	"UID FETCH 1:* (ENVELOPE) (CHANGEDSINCE 40)",
}

// FETCH answers the same with briefs as without, and for messages that went meanwhile.
func TestBriefsChangeNoAnswer(t *testing.T) {
	w := newWorld(t)
	const many = 450
	for n := range many {
		flags := []mail.Flags{0, mail.Seen, mail.Flagged | mail.Answered}[n%3]
		w.deliver("INBOX", append([]byte("Received: from a\r\n"), letter(n)...), flags)
	}
	a, b := w.login("A", ""), w.login("B", "")
	a.command(t, "SELECT INBOX (CONDSTORE)")
	b.command(t, "SELECT INBOX")
	ask := func() (answers []string) {
		for _, f := range briefFetches {
			lines, tagged := a.command(t, f)
			if !strings.HasPrefix(tagged, "zz OK") {
				t.Fatal(f, tagged)
			}
			answers = append(answers, strings.Join(lines, "\n"))
		}
		return answers
	}
	compare := func(when string, got, want []string) {
		t.Helper()
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: %s: %.300q, not %.300q", when, briefFetches[i], got[i], want[i])
			}
		}
	}
	plain := ask()
	if n := w.briefed(store.BriefEnvelope); n != 0 {
		t.Fatalf("%d messages have briefs too early", n)
	}
	var uids []mail.UID
	for n := range mail.UID(7) {
		uids = append(uids, n*64)
	}
	w.alice.MakeBriefs(w.picture("INBOX").Mailbox().ID, everyBrief, uids)
	w.awaitBriefs(447, everyBrief...)
	compare("with briefs", ask(), plain)

	// B removes some, of which A has not been told during FETCH.
	b.command(t, `UID STORE 66,130:140 +FLAGS.SILENT (\Deleted)`)
	b.command(t, "EXPUNGE")
	if n := w.briefed(everyBrief...); n != 447-2*64 {
		t.Errorf("%d messages have briefs after the expunge", n)
	}
	lines, tagged := a.command(t, "FETCH 1:* (UID ENVELOPE)")
	lines = slices.DeleteFunc(lines, func(line string) bool { return !strings.HasPrefix(line, "* ") })
	if len(lines) != many-12 || !strings.Contains(tagged, "EXPUNGEISSUED") {
		t.Errorf("%d lines, %s", len(lines), tagged)
	}
	for i, line := range lines {
		if uid := i + 1; uid < 66 && !strings.HasPrefix(line, fmt.Sprintf("* %d FETCH (UID %d ENVELOPE", uid, uid)) || strings.Contains(line, "(UID 66 ") {
			t.Fatalf("line %d: %s", i, line)
		}
	}
	if !strings.HasPrefix(lines[len(lines)-1], fmt.Sprintf("* %d FETCH (", many)) {
		t.Errorf("numbers moved: %s", lines[len(lines)-1])
	}
	a.command(t, "NOOP")
	short := ask()
	w.alice.MakeBriefs(w.picture("INBOX").Mailbox().ID, everyBrief, uids)
	w.awaitBriefs(447-12, everyBrief...)
	compare("made again", ask(), short)
}

// A FETCH that misses briefs asks for them; for short headers they are not worth it.
func TestFetchAsksForBriefs(t *testing.T) {
	w := newWorld(t)
	w.fillBox("INBOX", "600")
	c := w.login("A", "")
	c.command(t, "SELECT INBOX")
	w.awaitBriefs(511, store.BriefEnvelope) // of delivery
	c.command(t, "UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
	c.command(t, "UID FETCH 1:* (BODYSTRUCTURE)")
	w.fillBox("Sent", "600") // which makes its briefs after those of INBOX
	for sent := false; !sent; runtime.Gosched() {
		sent = w.briefedIn("Sent", store.BriefStructure) > 0
	}
	if n := w.briefed(store.BriefHeader); n != 0 {
		t.Errorf("%d messages have briefs of short headers", n)
	}
	long := "X-Long: " + strings.Repeat("x", 70) + "\r\n"
	for range 600 {
		w.deliver("Archive", []byte(strings.Repeat(long, 20)+"Subject: x\r\n\r\ny\r\n"), 0)
	}
	c.command(t, "SELECT Archive")
	c.command(t, "UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
	for w.briefedIn("Archive", store.BriefHeader) < 575 {
		runtime.Gosched()
	}
}

// Briefs are used where they have all that is asked for.
func TestBriefPlans(t *testing.T) {
	for items, want := range map[string][]store.BriefKind{
		"ENVELOPE": {store.BriefEnvelope}, "FULL": {store.BriefEnvelope, store.BriefStructure}, "(UID BODY)": {store.BriefStructure},
		"(FLAGS BODY.PEEK[HEADER.FIELDS (TO)] BODYSTRUCTURE)": {store.BriefHeader, store.BriefStructure},
		"FLAGS": nil, "(ENVELOPE PREVIEW)": nil, "BODY[HEADER.FIELDS (TO)]": nil, "BODY.PEEK[HEADER.FIELDS (Received)]": nil,
		"BODY.PEEK[HEADER]": nil, "BODY.PEEK[1.HEADER.FIELDS (TO)]": nil, "(ENVELOPE BODY.PEEK[])": nil, "(ENVELOPE X-GM-LABELS)": nil,
		"BODY.PEEK[HEADER.FIELDS.NOT (TO)]": nil, "(ENVELOPE BINARY.SIZE[1])": nil,
	} {
		d := imap.NewDecoder(bufio.NewReader(strings.NewReader(" 1 "+items+"\r\n")), imap.LoginLimits)
		d.Begin()
		var args imap.Fetch
		if !d.ExpectSP() || !d.ExpectFetch(&args) {
			t.Fatal(items, d.Err())
		}
		var got []store.BriefKind
		p := newFetchPlan(args, false).briefs
		if p != nil && !p.trace {
			got = p.kinds
		}
		heads := strings.Contains(items, "HEADER.FIELDS") && strings.Contains(items, "PEEK[H") && !strings.Contains(items, "STRUCTURE")
		if p != nil && p.heads != heads || p == nil && heads {
			t.Errorf("%s: %+v", items, p)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, not %v", items, got, want)
		}
	}
}

// Fields that are read from headers alone are those that are read with all of the message,
// of headers too long to be read at once as well.
func TestFieldsOfHeadersAlone(t *testing.T) {
	w := newWorld(t)
	for n := range 30 {
		w.deliver("INBOX", append([]byte("Received: from a\r\n"), letter(n)...), 0)
	}
	long := "Subject: long\r\nX-Long: " + strings.Repeat("x y z\r\n ", 40000) + "\r\nTo: late@example.org\r\n\r\ntext\r\n"
	for _, text := range []string{long, "Subject: no end", "\r\n\r\ntext", "", long, "Subject: bare\nTo: a@b.example\n\ntext\n"} {
		w.deliver("INBOX", []byte(text), 0)
	}
	c := w.login("A", "")
	c.command(t, "SELECT INBOX")
	for _, fields := range []string{"HEADER.FIELDS (SUBJECT TO)", "HEADER.FIELDS (Received X-Long)", "HEADER.FIELDS.NOT (Subject X-Long)", "HEADER.FIELDS (X-NONE)"} {
		alone, _ := c.command(t, "FETCH 1:* (UID BODY.PEEK["+fields+"])")
		whole, tagged := c.command(t, "FETCH 1:* (UID BODY.PEEK["+fields+"]<0.1000000>)")
		if got, want := strings.Join(alone, "\n"), strings.ReplaceAll(strings.Join(whole, "\n"), "<0>", ""); got != want || !strings.HasPrefix(tagged, "zz OK") {
			t.Errorf("%s: %.2000q, not %.2000q", fields, got, want)
		}
	}
}
