package admin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/account"
	"github.com/martlet-mail/martlet/internal/store"
)

// get is how a command calls a handler.
func (w *world) get(ctx context.Context, path string) (io.ReadCloser, error) {
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, httptest.NewRequest("GET", path, nil).WithContext(ctx))
	if rec.Code != http.StatusOK {
		return nil, fmt.Errorf("%d %s", rec.Code, rec.Body)
	}
	return io.NopCloser(rec.Body), nil
}

// taken is what a source has handed over.
type taken struct {
	items  []move.Item
	bodies []string
	skips  []string
	wanted func()
	told   func(move.Item)
	not    map[mail.UID]bool
}

func (v *taken) Want(_ context.Context, items []move.Item) ([]bool, error) {
	if len(items) > move.MaxItems {
		return nil, fmt.Errorf("%d items at once", len(items))
	}
	want := make([]bool, len(items))
	for i, it := range items {
		want[i] = !v.not[it.UID]
		if v.told != nil {
			v.told(it)
		}
	}
	if v.wanted != nil {
		v.wanted()
	}
	return want, nil
}

func (v *taken) Put(_ context.Context, it move.Item, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	v.items = append(v.items, it)
	v.bodies = append(v.bodies, string(b))
	return nil
}

func (v *taken) Skip(_ context.Context, it move.Item, why error) error {
	v.skips = append(v.skips, fmt.Sprint(it.UID, " ", fault.Say(why)))
	return nil
}
func (v *taken) Gone(context.Context, []string) error { return nil }
func (v *taken) State(context.Context, []byte) error  { return nil }

func TestExportReadsAnAccountOut(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for _, line := range []string{`POST /v1/domains {"domain":"example.org"}`, `POST /v1/accounts {"address":"carol@example.org"}`} {
		if code, text := w.call(t, line); code >= 300 {
			t.Fatal(line, code, text)
		}
	}
	addr, _ := mail.ParseAddress("carol@example.org")
	acct, err := w.directory.Lookup(ctx, addr)
	if err != nil {
		t.Fatal(err)
	}
	a := w.store.Account(acct.ID)
	bodies := []string{
		"Subject: one\r\n\r\nbody\r\n", "", "\r\n", "no header end", "Subject: x\r\n\r\n",
		"Subject: bare\n\nlines\nof\rodd\r\r\nkinds", "\r\nbody only",
		"X-Long: " + strings.Repeat("a", 300<<10) + "\r\n\r\nbody after a long header\r\n",
		"Subject: big\r\n\r\n" + strings.Repeat("0123456789abcdef0123456789abcde\r\n", 20000),
		"Subject: nul\r\n\r\n\x00\xff\xfe\r\n",
	}
	for range 1100 {
		bodies = append(bodies, fmt.Sprintf("Subject: %d\r\n\r\nbody %d\r\n", len(bodies), len(bodies)))
	}
	var box store.Mailbox
	date := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	var parcels []*store.Parcel
	for _, b := range bodies {
		p, err := w.store.Receive(ctx, strings.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		parcels = append(parcels, p)
	}
	for from := 0; from < len(parcels); from += 100 {
		err := a.Update(ctx, func(tx *store.Tx) error {
			if box, err = tx.Mailbox("INBOX"); err != nil {
				return err
			}
			for _, p := range parcels[from:min(from+100, len(parcels))] {
				if _, err := tx.Append(box.ID, store.NewMessage{Parcel: p, Flags: mail.Seen | mail.Flagged, Keywords: []string{"$Label1"}, InternalDate: date}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	src := account.New(account.Options{Call: w.get, Address: "carol@example.org"})
	list, err := src.Mailboxes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 6 || list[0].Name != "INBOX" || list[0].Messages != int64(len(bodies)) || list[0].UIDValidity == 0 || !list[0].Subscribed {
		t.Fatalf("%+v", list)
	}
	if !slices.ContainsFunc(list, func(m move.Mailbox) bool { return m.Name == "Trash" && m.Role == mail.RoleTrash }) {
		t.Errorf("no trash in %+v", list)
	}
	v := &taken{not: map[mail.UID]bool{3: true}}
	v.wanted = func() { // between what is listed and what is asked for
		v.wanted = nil
		err := a.Update(ctx, func(tx *store.Tx) error {
			_, err := tx.Expunge(box.ID, mail.SetOf(11, 12), false)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if err := src.Read(ctx, list[0], move.Reading{}, v); err != nil {
		t.Fatal(err)
	}
	want := append(slices.Clone(bodies[:2]), bodies[3:10]...)
	want = append(want, bodies[12:]...)
	if len(v.skips) != 2 || !strings.Contains(v.skips[0], "expunged") {
		t.Errorf("skipped: %q", v.skips)
	}
	if !slices.Equal(v.bodies, want) {
		t.Fatalf("%d messages of %d, or other ones", len(v.bodies), len(want))
	}
	for i, it := range v.items {
		var h move.Summer
		io.Copy(&h, strings.NewReader(v.bodies[i]))
		if it.Content != h.Content() || it.Flags != mail.Seen|mail.Flagged || !slices.Equal(it.Keywords, []string{"$Label1"}) || !it.Date.Equal(date) || it.Size != int64(len(v.bodies[i])) {
			t.Fatalf("%+v is not what was stored", it)
		}
	}
	since := account.New(account.Options{Call: w.get, Address: "carol@example.org", Since: date.Add(time.Second)})
	since.Mailboxes(ctx)
	v = &taken{}
	if err := since.Read(ctx, list[0], move.Reading{}, v); err != nil || len(v.items) != 0 {
		t.Errorf("%d messages before the time asked for, %v", len(v.items), err)
	}
}

// A message that has lost a record is damaged, and not expunged: what was taken out of it before
// is not to be marked as gone.
func TestExportTellsDamagedFromExpunged(t *testing.T) {
	w := newWorld(t)
	w.populate(t)
	ctx := t.Context()
	addr, _ := mail.ParseAddress("carol@example.org")
	acct, err := w.directory.Lookup(ctx, addr)
	if err != nil {
		t.Fatal(err)
	}
	a := w.store.Account(acct.ID)
	var box store.Mailbox
	var ids []mail.MessageID
	add := func(text string) {
		p, err := w.store.Receive(ctx, strings.NewReader(text))
		if err == nil {
			err = a.Update(ctx, func(tx *store.Tx) error {
				if box, err = tx.Mailbox("INBOX"); err != nil {
					return err
				}
				_, err := tx.Append(box.ID, store.NewMessage{Parcel: p})
				return err
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const long = 2
	for i := range 5 {
		text := fmt.Sprintf("Subject: %d\r\n\r\nbody %d\r\n", i, i)
		if i == long { // its hash is found without a snapshot
			text = "X-Long: " + strings.Repeat("a", 300<<10) + "\r\n" + text
		}
		add(text)
	}
	pic, err := a.Picture(ctx, box.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range pic.Messages(store.All()) {
		ids = append(ids, m.ID)
	}
	lose := func(family byte, i int) {
		err := w.engine.Update(ctx, store.ShardOf(acct.ID), func(wr engine.Writer) error { return wr.Delete(engine.Key(family, uint64(ids[i]))) })
		if err != nil {
			t.Fatal(err)
		}
	}
	lose('h', 0)
	lose('f', 1)
	src := account.New(account.Options{Call: w.get, Address: "carol@example.org"})
	list, err := src.Mailboxes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	v := &taken{}
	broken := map[mail.UID]string{}
	v.told = func(it move.Item) { broken[it.UID] = it.Broken }
	v.wanted = func() { // between what is listed and what is asked for
		v.wanted = nil
		lose('f', long)
		if err := a.Update(ctx, func(tx *store.Tx) error { _, err := tx.Expunge(box.ID, mail.SetOf(4), false); return err }); err != nil {
			t.Error(err)
		}
	}
	if err := src.Read(ctx, list[0], move.Reading{}, v); err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[mail.UID]bool{1: true, 2: true, 3: false, 4: false, 5: false} {
		if why, told := broken[uid]; !told || (why != "") != want {
			t.Errorf("message %d is told of: %v, broken: %q", uid, told, why)
		}
	}
	want := []string{"1 the message is damaged", "2 the message is damaged", "3 the message is damaged", "4 it was expunged meanwhile"}
	if len(v.skips) != len(want) || len(v.bodies) != 1 {
		t.Fatalf("%q, %d messages", v.skips, len(v.bodies))
	}
	for i, s := range v.skips {
		if !strings.HasPrefix(s, want[i]) {
			t.Errorf("%q, not %q", s, want[i])
		}
	}
	if code, text := w.call(t, fmt.Sprintf("GET /v1/accounts/carol@example.org/export/%d?limit=2", box.ID)); code != 200 || !strings.Contains(text, `"more":true,"next":3}`) {
		t.Errorf("%d %s", code, text)
	}
	x := &exporter{account: a, box: box.ID}
	for i, want := range []bool{true, true, true, false, false} {
		e := exported{id: ids[i]}
		e.UID = mail.UID(i + 1)
		if err := x.hash(ctx, &e); err != nil || (e.Error != "") != want || (e.id == 0) != (i == 3) {
			t.Errorf("message %d is read: %+v %v", i+1, e, err)
		}
	}
}

// An answer that tells of no message, as all it was about were expunged meanwhile, is not the end.
func TestExportGoesOnBehindExpungedMail(t *testing.T) {
	const line = `{"uid":%d,"size":0,"flags":[],"keywords":[],"date":"2001-02-03T04:05:06Z","error":"x"}` + "\n"
	for _, c := range []struct{ what, end, fail string }{
		{"all expunged", `{"done":true,"more":true,"next":1001}`, ""},
		{"the last expunged", fmt.Sprintf(line, 7) + `{"done":true,"more":true,"next":1001}`, ""},
		{"an earlier version", fmt.Sprintf(line, 1000) + `{"done":true,"more":true}`, ""},
		{"an earlier version, all expunged", `{"done":true,"more":true}`, "from which message on"},
		{"no further", `{"done":true,"more":true,"next":1}`, "from which message on"},
	} {
		src := account.New(account.Options{Address: "a@b", Call: func(_ context.Context, path string) (io.ReadCloser, error) {
			answer := fmt.Sprintf(line, 2000) + `{"done":true,"more":false}`
			switch {
			case strings.HasSuffix(path, "/export"):
				answer = `{"id":7,"mailbox":"INBOX","uidvalidity":5}` + "\n" + `{"done":true}`
			case strings.Contains(path, "uids=1%3A"):
				answer = c.end
			case !strings.Contains(path, "uids=1001%3A"):
				return nil, fmt.Errorf("%s: an unexpected call: %s", c.what, path)
			}
			return io.NopCloser(strings.NewReader(answer + "\n")), nil
		}})
		list, err := src.Mailboxes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var last mail.UID
		v := &taken{not: map[mail.UID]bool{7: true, 1000: true, 2000: true}, told: func(it move.Item) { last = it.UID }}
		err = src.Read(t.Context(), list[0], move.Reading{}, v)
		if c.fail == "" && (err != nil || last != 2000) || c.fail != "" && (err == nil || !strings.Contains(fault.Say(err), c.fail)) {
			t.Errorf("%s: the last message is %d, %v", c.what, last, err)
		}
	}
}

// TestExportedBytesAreCompared gives a source bytes that are not those that were promised.
func TestExportedBytesAreCompared(t *testing.T) {
	var h move.Summer
	h.Write([]byte("Subject: x\r\n\r\n"))
	sum := h.Content()
	line := func(after string) string {
		return fmt.Sprintf(`{"uid":1,"size":14,"flags":[],"keywords":[],"date":"2001-02-03T04:05:06Z","content":"%x"}`+"\n", sum[:]) + after
	}
	const end = `{"done":true,"more":false}` + "\n"
	for _, c := range []struct{ what, answer, skip, fail string }{
		{"right", "Subject: x\r\n\r\n{}\n" + end, "", ""},
		{"other", "Subject: y\r\n\r\n{}\n" + end, "not those", ""},
		{"broken", "Subject: x\r\n\x00\x00{\"error\":\"fails its checksum\"}\n" + end, "fails its checksum", ""},
		{"cut in the body", "Subject", "", "cut short"},
		{"cut after it", "Subject: x\r\n\r\n{}\n", "", "cut short"},
		{"failed", "Subject: x\r\n\r\n{}\n" + `{"error":"disk","kind":"unavailable"}` + "\n", "", "disk"},
	} {
		call := func(_ context.Context, path string) (io.ReadCloser, error) {
			switch {
			case strings.HasSuffix(path, "/export"):
				return io.NopCloser(strings.NewReader(`{"id":7,"mailbox":"INBOX","uidvalidity":5}` + "\n" + end)), nil
			case strings.Contains(path, "bodies=yes"):
				return io.NopCloser(strings.NewReader(line(c.answer))), nil
			}
			return io.NopCloser(bytes.NewReader([]byte(line("") + end))), nil
		}
		src := account.New(account.Options{Call: call, Address: "a@b"})
		list, err := src.Mailboxes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		v := &taken{}
		err = src.Read(t.Context(), list[0], move.Reading{}, v)
		if c.fail != "" && (err == nil || !strings.Contains(fault.Say(err), c.fail)) || c.fail == "" && err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if got := strings.Join(v.skips, ";"); !strings.Contains(got, c.skip) || c.skip == "" && got != "" {
			t.Errorf("%s: skipped %q", c.what, got)
		}
	}
}
