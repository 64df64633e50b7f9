package outward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// letter is a message of an account in memory.
type letter struct {
	uid      mail.UID
	flags    mail.Flags
	keywords []string
	date     time.Time
	body     string
}

// origin is an account in memory as a source.
type origin struct {
	boxes  []move.Mailbox
	mail   map[string][]letter
	subs   []string
	budget int // messages that are handed over before it fails; negative: all
}

var errStopped = errors.New("stopped")

func (o *origin) ID() string   { return "test" }
func (o *origin) Close() error { return nil }
func (o *origin) Mailboxes(context.Context) ([]move.Mailbox, error) {
	for i := range o.boxes {
		o.boxes[i].Source = o.boxes[i].Name
		o.boxes[i].Messages = int64(len(o.mail[o.boxes[i].Name]))
	}
	return slices.Clone(o.boxes), nil
}
func (o *origin) Subscriptions() []string { return o.subs }
func (o *origin) Next(m move.Mailbox) mail.UID {
	next := mail.UID(1)
	for _, l := range o.mail[m.Name] {
		next = max(next, l.uid+1)
	}
	return next
}

func (o *origin) Read(ctx context.Context, m move.Mailbox, _ move.Reading, v move.Visitor) error {
	var items []move.Item
	for _, l := range o.mail[m.Name] {
		var h move.Summer
		io.WriteString(&h, l.body)
		items = append(items, move.Item{UID: l.uid, Size: int64(len(l.body)), Flags: l.flags, Keywords: l.keywords, Date: l.date, Content: h.Content()})
	}
	want, err := v.Want(ctx, items)
	if err != nil {
		return err
	}
	for i, it := range items {
		if !want[i] {
			continue
		}
		if o.budget == 0 {
			return errStopped
		}
		o.budget--
		if err := v.Put(ctx, it, strings.NewReader(o.mail[m.Name][i].body)); err != nil {
			return err
		}
	}
	return nil
}

func (o *origin) add(name string, role mail.Role, letters ...letter) {
	if o.mail == nil {
		o.mail, o.budget = map[string][]letter{}, -1
	}
	o.boxes = append(o.boxes, move.Mailbox{Name: name, Role: role, Subscribed: len(o.boxes)%2 == 0, UIDValidity: uint32(1000 + len(o.boxes))})
	o.mail[name] = letters
}

// nastyBodies are messages that something could be lost of.
var nastyBodies = []string{
	"Subject: plain\r\n\r\nbody\r\n",
	"", "\r\n", "\n", "x", "no end", "Subject: no body\r\n", "Subject: no body no end",
	"From here to there\r\n\r\nFrom me\r\n>From you\r\n>>From them\r\nfrom\r\n",
	"Subject: ends with From\r\n\r\nFrom ",
	"Subject: empty lines\r\n\r\n\r\n\r\nFrom x Sat Jan  1 00:00:00 2000\r\n\r\n\r\n",
	"Status: RO\r\nX-Status: AFT\r\nX-Keywords: evil\r\nX-UID: 99\r\nX-IMAPbase: 1 99\r\nContent-Length: 3\r\nsTaTuS : x\r\nX-Kept-Status: y\r\nX-Kept-X-Kept-X-UID: 1\r\n\r\nStatus: body\r\n",
	"Subject: bare\n\nlf\nonly\n",
	"Subject: mixed\r\n\r\nbare\nlf\r\ncr\ralone\r\r\ndouble\r\n\r",
	"Subject: nul\r\n\r\n\x00\xff\xfe\x1a\r\n",
	"Subject: folded\r\n\tContent-Length: 12\r\n\r\nx",
	"\r\nFrom the body\r\n",
	">From a header\r\n>>From two\r\nSubject: x\r\n\r\ny\r\n",
	"Subject: long line\r\n\r\n" + strings.Repeat("x", 200<<10) + "\r\nFrom " + strings.Repeat("y", 70<<10),
	"X-Long: " + strings.Repeat("From ", 60<<10) + "\r\n\r\nbody\r\n",
	"Subject: large\r\n\r\n" + strings.Repeat("From the large one, a line of it\r\n", 60<<10),
	"Subject: dots\r\n\r\n.\r\n..\r\n.\r\n",
	"Subject: cr at the edge\r\n\r\n" + strings.Repeat("z", 64<<10-28) + "\r\n" + strings.Repeat("w", 64<<10-2) + "\r\nend\r\n",
}

// nastyNames are names that a file system could take for something else.
var nastyNames = []string{
	"a..b", "a.b", ".hidden", "~root", "-rf", "con", "COM1.txt", "lpt9", "trailing.", "trailing ", "per%cent", "per%2Fcent", `back\slash`,
	`q"uote`, "st:ar", "Foo", "foo", "FOO", "fOO", "Größe", "größe", "日本語/メール", "emoji 😀", "a", "a/b", "a/b/c", "A", "x.mbox", "x", "x.mbox/y", "x.eml",
	"x.eml/z", "index.jsonl", "martlet-export", "martlet-export.json", "cur", "new", "tmp", "INBOX/child", "&", "a&b-", "&AOk-", strings.Repeat("long", 60),
	strings.Repeat("ü", 390), strings.Repeat("d/", 60) + "deep", "İstanbul.EML", "ſ", "s", "$money", "#hash", "a  b", "..", "...", "…", "dovecot-uidlist", "subscriptions",
	"Kelvin K", "Kelvin K", strings.Repeat("&", 200),
}

// nasty is an account of all that.
func nasty() *origin {
	o := &origin{subs: []string{"gone", "also/gone.x"}}
	date := time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC)
	var inbox []letter
	for i, b := range nastyBodies {
		keywords := []string{}
		for j := range i % 5 {
			keywords = append(keywords, []string{"$Forwarded", "work", "später", "$Label1", "A"}[j])
		}
		inbox = append(inbox, letter{mail.UID(3 + 7*i), mail.Flags(i % 32), keywords, date.AddDate(0, i, i).Add(time.Duration(i) * time.Hour), b})
	}
	o.add("INBOX", mail.RoleInbox, inbox...)
	o.add("Sent Items", mail.RoleSent, letter{uid: 1<<32 - 2, date: date, body: "Subject: last\r\n\r\n"})
	o.add("Empty", mail.RoleArchive)
	many := letter{uid: 9, date: time.Unix(0, 0).UTC(), body: "Subject: keywords\r\n\r\n"}
	for i := range 40 {
		many.keywords = append(many.keywords, fmt.Sprintf("word%d", i))
	}
	o.add("Many keywords", "", many)
	seen := map[string]bool{}
	for i, n := range nastyNames {
		if n == ".." || n == "..." || seen[n] { // ".." is no name in the store, but try it below
			continue
		}
		seen[n] = true
		o.add(n, "", letter{uid: mail.UID(i + 1), date: date, flags: mail.Flagged, body: "Subject: " + n[:1] + "\r\n\r\nin " + n + "\r\n"})
	}
	o.add("../x", "", letter{uid: 1, date: date, body: "out\r\n"})
	o.add("a/../../b", "", letter{uid: 1, date: date, body: "out\r\n"})
	o.add("/etc/passwd", "", letter{uid: 1, date: date, body: "out\r\n"})
	o.add("nul\x00byte\nline", "", letter{uid: 1, date: date, body: "out\r\n"})
	return o
}

// gathered is all that a source tells, in words that can be compared.
type gathered struct {
	lines   []string
	mailbox string
	skips   []string
}

func (g *gathered) Want(_ context.Context, items []move.Item) ([]bool, error) {
	want := make([]bool, len(items))
	for i := range want {
		want[i] = true
	}
	return want, nil
}
func (g *gathered) Put(_ context.Context, it move.Item, r io.Reader) error {
	b, err := io.ReadAll(r)
	g.lines = append(g.lines, fmt.Sprintf("%q %d %v %q %s %d %x %.60q", g.mailbox, it.UID, it.Flags, joined(it.Keywords), it.Date.UTC().Format(time.RFC3339), len(b), it.Content[:4], b))
	return err
}
func (g *gathered) Skip(_ context.Context, it move.Item, why error) error {
	g.skips = append(g.skips, fmt.Sprint(g.mailbox, " ", it.UID, " ", fault.Say(why)))
	return nil
}
func (g *gathered) Gone(context.Context, []string) error { return nil }
func (g *gathered) State(context.Context, []byte) error  { return nil }

// gather reads a whole source.
func gather(t *testing.T, s move.Source) (*gathered, error) {
	t.Helper()
	list, err := s.Mailboxes(t.Context())
	if err != nil {
		return nil, err
	}
	g := &gathered{}
	for _, m := range list {
		g.mailbox = m.Name
		g.lines = append(g.lines, fmt.Sprintf("%q %s %v %d", m.Name, m.Role, m.Subscribed, m.UIDValidity))
		if err := s.Read(t.Context(), m, move.Reading{}, g); err != nil {
			return nil, err
		}
	}
	slices.Sort(g.lines)
	return g, nil
}

// difference returns the first lines in which two accounts differ.
func difference(a, b *gathered) string {
	for i := range max(len(a.lines), len(b.lines)) {
		x, y := "", ""
		if i < len(a.lines) {
			x = a.lines[i]
		}
		if i < len(b.lines) {
			y = b.lines[i]
		}
		if x != y {
			return fmt.Sprintf("line %d:\n%s\n%s", i, x, y)
		}
	}
	return ""
}

// folder makes one in memory, where there is such a place: hundreds of messages are synced.
func folder(t *testing.T) string {
	t.Helper()
	if dir, err := os.MkdirTemp("/dev/shm", "martlet-outward-"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		inner := filepath.Join(dir, "x")
		if err := os.Mkdir(inner, 0o700); err != nil {
			t.Fatal(err)
		}
		return inner
	}
	return t.TempDir()
}

func root(t *testing.T, dir string) *os.Root {
	t.Helper()
	r, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func now() time.Time { return time.Date(2026, 11, 29, 23, 0, 0, 0, time.UTC) }

// kinds are all forms of a folder that can be undone.
var kinds = []Options{{Form: Mbox}, {Form: Maildir}, {Form: EML}}

func (o Options) name() string { return string(o.Form) + string(o.Quoting) }

func run1(t *testing.T, o Options, src Source, d Disk) (*Report, error) {
	t.Helper()
	o.Source, o.Disk, o.Account, o.Now = src, d, "carol@example.org", now
	return Run(t.Context(), o)
}

func mustRun(t *testing.T, o Options, src Source, d Disk) *Report {
	t.Helper()
	r, err := run1(t, o, src, d)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Whole() {
		t.Fatalf("%+v", r)
	}
	return r
}

func mustEqual(t *testing.T, src move.Source, d Disk) {
	t.Helper()
	want, err := gather(t, src)
	if err != nil {
		t.Fatal(err)
	}
	f, err := OpenFolder(d)
	if err != nil || f == nil {
		t.Fatal(f, err)
	}
	got, err := gather(t, f)
	if err != nil {
		t.Fatal(err)
	}
	if diff := difference(want, got); diff != "" || len(got.skips) > 0 {
		t.Fatalf("what came back differs: %s %q", diff, got.skips)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name(), func(t *testing.T) {
			dir := folder(t)
			d := root(t, dir)
			src := nasty()
			mustRun(t, k, src, d)
			mustEqual(t, src, d)
			f, _ := OpenFolder(d)
			var subs []string
			list, _ := f.Mailboxes(t.Context())
			for _, m := range list {
				subs = append(subs, m.Subscriptions...)
				if !m.Exact {
					t.Error(m)
				}
			}
			if !slices.Equal(subs, src.subs) {
				t.Error(subs)
			}
			again := mustRun(t, k, src, d)
			for _, m := range again.Mailboxes {
				if m.Added != 0 || m.Reflagged != 0 || m.Proven != m.Messages {
					t.Errorf("run again: %+v", m)
				}
			}
			mustEqual(t, src, d)
			private(t, k.Form, dir)
			if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
				t.Error("something was written outside", entries)
			}
		})
	}
}

func bytesOf(list []letter) (n int64) {
	for _, l := range list {
		n += int64(len(l.body))
	}
	return n
}

// private tells what in a folder others may read, and names that only differ in case. (In a
// Maildir those are told apart if the disk does not.)
func private(t *testing.T, f Form, dir string) {
	t.Helper()
	seen := map[string]string{}
	filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
		if err != nil {
			t.Error(err)
			return nil
		}
		info, _ := e.Info()
		if info.Mode().Perm()&0o077 != 0 && name != dir {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		if old, ok := seen[folded(name)]; ok && f != Maildir {
			t.Errorf("%s and %s are one file to some", old, name)
		}
		seen[folded(name)] = name
		if strings.HasSuffix(name, ".tmp") && !e.IsDir() {
			t.Errorf("%s is left over", name)
		}
		return nil
	})
}

// TestTheComparisonSees changes one thing at a time, which the comparison must find.
func TestTheComparisonSees(t *testing.T) {
	for what, change := range map[string]func(o *origin){
		"content":     func(o *origin) { o.mail["INBOX"][0].body += "x" },
		"flag":        func(o *origin) { o.mail["INBOX"][0].flags ^= mail.Seen },
		"keyword":     func(o *origin) { o.mail["INBOX"][3].keywords[0] = "other" },
		"date":        func(o *origin) { o.mail["INBOX"][0].date = o.mail["INBOX"][0].date.Add(time.Second) },
		"uid":         func(o *origin) { o.mail["INBOX"][0].uid++ },
		"role":        func(o *origin) { o.boxes[1].Role = "" },
		"subscribed":  func(o *origin) { o.boxes[1].Subscribed = !o.boxes[1].Subscribed },
		"uidvalidity": func(o *origin) { o.boxes[1].UIDValidity++ },
		"message":     func(o *origin) { o.mail["INBOX"] = o.mail["INBOX"][1:] },
		"mailbox":     func(o *origin) { o.boxes = o.boxes[1:] },
	} {
		a, _ := gather(t, nasty())
		other := nasty()
		change(other)
		b, _ := gather(t, other)
		if difference(a, b) == "" {
			t.Errorf("another %s is not seen", what)
		}
	}
}

// TestOtherQuotings keep content that their forms have room for.
func TestOtherQuotings(t *testing.T) {
	for _, q := range []Quoting{QuoteO, QuoteCL, QuoteCL2} {
		src := &origin{}
		var all []letter
		for i, b := range nastyBodies {
			if strings.Contains(b, ">From") { // cannot be told from what is quoted
				continue
			}
			all = append(all, letter{uid: mail.UID(i + 1), date: now(), body: b})
		}
		src.add("INBOX", mail.RoleInbox, all...)
		d := root(t, folder(t))
		mustRun(t, Options{Form: Mbox, Quoting: q}, src, d)
		mustEqual(t, src, d)
	}
	// The proof says so where it is lost.
	src := &origin{}
	src.add("INBOX", mail.RoleInbox, letter{uid: 1, date: now(), body: "Subject: x\r\n\r\n>From quoted\r\n"})
	r, err := run1(t, Options{Form: Mbox, Quoting: QuoteO}, src, root(t, folder(t)))
	if err != nil || r.Whole() || r.Mailboxes[0].Differ != 1 {
		t.Errorf("%+v %v", r, err)
	}
}

// TestGoesOn stops exports at every message and after changes of files that a stop may
// leave, and runs them again.
func TestGoesOn(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name(), func(t *testing.T) {
			dir := folder(t)
			d := root(t, dir)
			src := nasty()
			for stops := 0; ; stops++ {
				src.budget = 3
				_, err := run1(t, k, src, d)
				if err == nil {
					break
				}
				if !errors.Is(err, errStopped) || stops > 200 {
					t.Fatal(stops, err)
				}
			}
			src.budget = -1
			mustEqual(t, src, d)
			private(t, k.Form, dir)
		})
	}
}

// TestHalfMessagesGo leaves behind what a kill at the worst moment does.
func TestHalfMessagesGo(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	for _, k := range kinds {
		t.Run(k.name(), func(t *testing.T) {
			dir := folder(t)
			d := root(t, dir)
			src := nasty()
			mustRun(t, k, src, d)
			m, _ := ReadManifest(d)
			for range 4 {
				// Cut an index anywhere: the messages of the lost lines are no more known. The
				// manifest counts none either, until the first export has come to its end.
				i := chance.IntN(3)
				m.Mailboxes[i].Messages, m.Mailboxes[i].Bytes = 0, 0
				if err := m.write(d); err != nil {
					t.Fatal(err)
				}
				e := m.Mailboxes[i]
				name := filepath.Join(dir, e.Index)
				info, err := os.Stat(name)
				if err != nil {
					t.Fatal(err)
				}
				os.Truncate(name, chance.Int64N(info.Size()+1))
				switch k.Form {
				case Mbox:
					f, _ := os.OpenFile(filepath.Join(dir, e.Path), os.O_WRONLY|os.O_APPEND, 0)
					f.WriteString("From MAILER-DAEMON half a message\nSub")
					f.Close()
					os.WriteFile(filepath.Join(dir, journalName(&e)), []byte("0\n"), 0o600)
				case EML:
					os.WriteFile(filepath.Join(dir, e.Path, "0000000777.eml.tmp"), []byte("half"), 0o600)
				case Maildir:
					os.WriteFile(filepath.Join(dir, e.Path, "tmp", fmt.Sprintf("1.M%dP777.martlet,S=3,W=4", e.UIDValidity)), []byte("half"), 0o600)
				}
				mustRun(t, k, src, d)
				mustEqual(t, src, d)
				private(t, k.Form, dir)
			}
		})
	}
}

// TestChangesFollow adds messages, changes flags and expunges.
func TestChangesFollow(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name(), func(t *testing.T) {
			d := root(t, folder(t))
			src := nasty()
			mustRun(t, k, src, d)
			for i := range src.mail["INBOX"] {
				l := &src.mail["INBOX"][i]
				l.flags ^= mail.Flags(i % 32)
				l.keywords = append(slices.Clone(l.keywords[:len(l.keywords)/2]), "neu")
			}
			src.mail["INBOX"] = append(src.mail["INBOX"], letter{uid: 5000, date: now(), body: "Subject: new\r\n\r\n"})
			src.add("New mailbox", "", letter{uid: 1, date: now(), body: "x"})
			src.boxes[1].Role = ""
			r := mustRun(t, k, src, d)
			if r.Mailboxes[0].Added != 1 || r.Mailboxes[0].Reflagged == 0 {
				t.Errorf("%+v", r.Mailboxes[0])
			}
			mustEqual(t, src, d)
			gone := src.mail["INBOX"][4].uid
			src.mail["INBOX"] = slices.Delete(src.mail["INBOX"], 4, 5)
			for range 2 {
				if r := mustRun(t, k, src, d); r.Mailboxes[0].Kept != 1 {
					t.Errorf("UID %d: %+v", gone, r.Mailboxes[0])
				}
				mustEqual(t, src, d) // what is gone stays in the folder, and does not come back
				if m, _ := ReadManifest(d); m.Mailboxes[0].Messages != int64(len(src.mail["INBOX"])) || m.Mailboxes[0].Bytes != bytesOf(src.mail["INBOX"]) {
					t.Errorf("%+v", m.Mailboxes[0])
				}
			}
			// Part of an account says nothing of what is gone.
			all := src.mail["INBOX"]
			src.mail["INBOX"] = all[:3]
			part := k
			part.Partly = true
			mustRun(t, part, src, d)
			src.mail["INBOX"] = all
			mustEqual(t, src, d)
			// An account that was restored has it again.
			src.mail["INBOX"] = all[1:]
			mustRun(t, k, src, d)
			src.mail["INBOX"] = all
			if r := mustRun(t, k, src, d); r.Mailboxes[0].Kept != 1 {
				t.Errorf("%+v", r.Mailboxes[0])
			}
			mustEqual(t, src, d)
			// Made anew under the same name: another mailbox.
			src.boxes[1].UIDValidity = 77
			src.mail["Sent Items"] = []letter{{uid: 1, date: now(), body: "another one\r\n"}}
			mustRun(t, k, src, d)
			f, _ := OpenFolder(d)
			list, _ := f.Mailboxes(t.Context())
			var sent []string
			for _, m := range list {
				if m.Name == "Sent Items" {
					sent = append(sent, fmt.Sprint(m.UIDValidity, m.Skip != ""))
				}
			}
			if !slices.Equal(sent, []string{"1001 true", "77 false"}) {
				t.Error(sent)
			}
		})
	}
}

// TestDamageIsTold changes a byte of what was written.
func TestDamageIsTold(t *testing.T) {
	for _, k := range kinds {
		dir := folder(t)
		d := root(t, dir)
		src := &origin{}
		src.add("INBOX", mail.RoleInbox, letter{uid: 1, date: now(), body: "Subject: x\r\n\r\nright\r\n"}, letter{uid: 2, date: now(), body: "Subject: y\r\n\r\nother\r\n"})
		mustRun(t, k, src, d)
		done := false
		filepath.WalkDir(dir, func(name string, e os.DirEntry, _ error) error {
			if b, err := os.ReadFile(name); err == nil && strings.Contains(string(b), "right") && !done {
				os.WriteFile(name, []byte(strings.Replace(string(b), "right", "wrong", 1)), 0o600)
				done = true
			}
			return nil
		})
		r, err := run1(t, k, src, d)
		if err != nil || r.Whole() || r.Mailboxes[0].Differ != 1 || r.Mailboxes[0].Proven != 1 {
			t.Errorf("%s: %+v %v", k.Form, r, err)
		}
		f, _ := OpenFolder(d)
		g, err := gather(t, f)
		if err != nil || len(g.skips) != 1 || !strings.Contains(g.skips[0], "changed since") {
			t.Errorf("%s: %v %v", k.Form, g, err)
		}
	}
}

// changing is an account whose flags change between an export and its proof.
type changing struct{ *origin }

func (c changing) Read(ctx context.Context, m move.Mailbox, how move.Reading, v move.Visitor) error {
	if how.Plan {
		for i := range c.mail[m.Name] {
			c.mail[m.Name][i].flags ^= mail.Seen
		}
	}
	return c.origin.Read(ctx, m, how, v)
}

// TestProofReadsWhatWasReflagged damages a message whose flags change meanwhile: its bytes are
// read all the same, and other flags are no difference.
func TestProofReadsWhatWasReflagged(t *testing.T) {
	for _, k := range kinds {
		dir := folder(t)
		d, src := root(t, dir), few()
		mustRun(t, k, changing{src}, d)
		filepath.WalkDir(dir, func(name string, e os.DirEntry, _ error) error {
			if b, err := os.ReadFile(name); err == nil && strings.Contains(string(b), "two") {
				os.WriteFile(name, []byte(strings.Replace(string(b), "two", "2wo", 1)), 0o600)
			}
			return nil
		})
		r, err := run1(t, k, changing{src}, d)
		if err != nil || r.Whole() || r.Mailboxes[0].Differ != 1 || r.Mailboxes[0].Proven != 1 || r.Mailboxes[1].Proven != 1 {
			t.Errorf("%s: %+v %v", k.Form, r, err)
		}
	}
}

// full is a disk that has no room for more files.
type full struct {
	Disk
	left int
}

func (f *full) OpenFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	if flag&os.O_CREATE != 0 {
		if f.left--; f.left < 0 {
			return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
		}
	}
	return f.Disk.OpenFile(name, flag, perm)
}

func TestDiskFull(t *testing.T) {
	for _, k := range kinds {
		d := root(t, folder(t))
		src := nasty()
		_, err := run1(t, k, src, &full{d, 9})
		if err == nil || !strings.Contains(fault.Say(err), "disk is full") || !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v", k.Form, err)
		}
		mustRun(t, k, src, d)
		mustEqual(t, src, d)
	}
}

func TestAttack43ExportStaysInItsFolder(t *testing.T) {
	for _, k := range kinds {
		dir := folder(t)
		outside := filepath.Join(dir, "outside")
		os.Mkdir(outside, 0o700)
		os.Mkdir(filepath.Join(dir, "out"), 0o700)
		d := root(t, filepath.Join(dir, "out"))
		src := nasty()
		mustRun(t, k, src, d)
		// A link that somebody has laid into the folder leads out of it.
		m, _ := ReadManifest(d)
		i := slices.IndexFunc(m.Mailboxes, func(e Entry) bool { return e.Mailbox == "a" })
		at := filepath.Join(dir, "out", m.Mailboxes[i].Path)
		os.RemoveAll(at)
		if err := os.Symlink(outside, at); err != nil {
			t.Fatal(err)
		}
		src.mail["a"] = append(src.mail["a"], letter{uid: 9999, date: now(), body: "Subject: y\r\n\r\nout of it\r\n"})
		if _, err := run1(t, k, src, d); err == nil {
			t.Errorf("%s: a link was followed", k.Form)
		}
		if list, _ := os.ReadDir(outside); len(list) != 0 {
			t.Errorf("%s: written outside: %v", k.Form, list)
		}
		// A manifest that names a file outside.
		os.WriteFile(filepath.Join(dir, "out", ManifestName), []byte(`{"version":1,"form":"eml","mailboxes":[{"mailbox":"x","path":"../outside","index":"../outside/i"}]}`), 0o600)
		if _, err := OpenFolder(d); err == nil {
			t.Errorf("%s: a path that leads out was taken", k.Form)
		}
	}
}

func TestFolderIsRefused(t *testing.T) {
	dir := folder(t)
	d := root(t, dir)
	os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o600)
	if _, err := run1(t, Options{Form: EML}, nasty(), d); !fault.Is(err, fault.Exists) {
		t.Error(err)
	}
	os.Remove(filepath.Join(dir, "letter.txt"))
	mustRun(t, Options{Form: EML}, nasty(), d)
	if _, err := run1(t, Options{Form: Mbox}, nasty(), d); !fault.Is(err, fault.Exists) {
		t.Error(err)
	}
	if _, err := run1(t, Options{Form: EML, Mailboxes: []string{"no such"}}, nasty(), d); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}
