package store

import (
	"reflect"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
)

// RawKeys says the same as SortKeys, whatever a message has or lacks.
func TestRawKeys(t *testing.T) {
	w := newWorld(t)
	texts := []string{
		hello,
		"\r\nno header\r\n",
		"Subject: [x] Fwd: b\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\nReferences: <a@x> <b@x> <c@x>\r\nIn-Reply-To: <d@x>\r\n\r\n",
		"From: team: a@x, b@x;\r\nTo: =?utf-8?q?=C3=9Cs?=:;\r\nCc: c@x\r\n\r\n",
		"From: =?utf-8?q?J=C3=BCrgen?= <j@x>\r\nTo: k@x\r\nCc: l@x, m@x\r\nIn-Reply-To: <d@x> <e@x>\r\nDate: never\r\n\r\n",
	}
	wantRefs := [][]uint64{{}, {}, {HashMessageID("a@x"), HashMessageID("b@x"), HashMessageID("c@x")}, {}, {HashMessageID("d@x")}}
	var ids []mail.MessageID
	box := w.box(t, "INBOX").ID
	for _, text := range texts {
		uid := w.deliver(t, "INBOX", text)
		m, _ := w.picture(t, box).Message(uid)
		ids = append(ids, m.ID)
	}
	seen := 0
	err := w.a.View(ctx, func(s *Snapshot) error {
		return s.EachFacts(ids, func(i int, f Facts, ok bool) error {
			seen++
			want, err := f.SortKeys()
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			var raw RawKeys
			if err := f.RawKeys(&raw); err != nil {
				t.Fatal(err)
			}
			refs, err := raw.AppendReferences([]uint64{})
			if err != nil || !reflect.DeepEqual(refs, want.References) || !reflect.DeepEqual(refs, wantRefs[i]) {
				t.Errorf("%d: %v %v, want %v and %v", i, refs, err, want.References, wantRefs[i])
			}
			if i == 3 && (want.From != "team" || want.DisplayFrom != "team" || want.To != "Üs" || want.DisplayTo != "Üs") {
				t.Errorf("a group is %+v", want)
			}
			got := []string{
				string(raw.Base), string(raw.From), string(raw.To), string(raw.Cc), string(raw.DisplayFrom), string(raw.DisplayTo), string(raw.Message),
			}
			if w := []string{want.Base, want.From, want.To, want.Cc, want.DisplayFrom, want.DisplayTo, want.MessageID}; !reflect.DeepEqual(got, w) {
				t.Errorf("%d: %q, want %q", i, got, w)
			}
			if raw.Reply != want.Reply || raw.Dated == want.Date.IsZero() || raw.Dated && raw.Date != want.Date.Unix() {
				t.Errorf("%d: %+v, want %+v", i, raw, want)
			}
			return nil
		})
	})
	if err != nil || seen != len(texts) {
		t.Error(seen, err)
	}
}
