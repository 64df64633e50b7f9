package store

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

func TestCleanEntry(t *testing.T) {
	for in, want := range map[string]string{
		"/Private/Comment": "/private/comment", "/shared/vendor/acme/x": "/shared/vendor/acme/x", "/shared/a/b": "/shared/a/b",
	} {
		if got, err := CleanEntry(in); err != nil || got != want {
			t.Errorf("%q: %q %v", in, got, err)
		}
	}
	for _, bad := range []string{
		"", "/", "/private", "/private/", "/shared//x", "/shared/x/", "private/x", "/other/x", "/shared/a*", "/shared/%",
		"/shared/é", "/shared/a\x01", "/shared/a\x7f", "/shared/vendor/acme", "/shared/" + strings.Repeat("x", MaxEntryName),
	} {
		if got, err := CleanEntry(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.30q: %q %v", bad, got, err)
		}
	}
}

// entries returns the annotations of a mailbox as one line.
func (w *world) entries(t interface {
	Helper()
	Fatal(...any)
}, box mail.MailboxID, reader mail.AccountID) string {
	t.Helper()
	var all []string
	err := w.a.View(ctx, func(s *Snapshot) error {
		all = nil
		return s.EachEntry(box, reader, func(e Entry) bool {
			all = append(all, e.Name+"="+string(e.Value))
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestEntriesFollowTheirMailbox(t *testing.T) {
	w := newWorld(t)
	var box Mailbox
	w.update(t, func(tx *Tx) (err error) {
		if box, err = tx.CreateMailbox("a", ""); err != nil {
			return err
		}
		for reader, value := range map[mail.AccountID]string{1: "mine", 2: "theirs"} {
			if err := tx.SetEntry(box.ID, reader, "/private/comment", []byte(value)); err != nil {
				return err
			}
		}
		return tx.SetEntry(box.ID, 2, "/SHARED/comment", []byte("ours"))
	})
	if got := w.entries(t, box.ID, 1); got != "/shared/comment=ours /private/comment=mine" {
		t.Error(got)
	}
	w.update(t, func(tx *Tx) error { return tx.RenameMailbox("a", "b") })
	if got := w.entries(t, box.ID, 2); got != "/shared/comment=ours /private/comment=theirs" {
		t.Error(got)
	}
	w.verify(t)
	w.update(t, func(tx *Tx) error { return tx.DeleteMailbox("b") })
	w.verify(t)
	if got := w.entries(t, box.ID, 1); got != "" {
		t.Error("after the mailbox was deleted:", got)
	}
	err := w.a.Update(ctx, func(tx *Tx) error { return tx.SetEntry(box.ID, 1, "/private/comment", []byte("x")) })
	if !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

func TestRenameInboxCopiesEntries(t *testing.T) {
	w := newWorld(t)
	inbox := w.box(t, "INBOX").ID
	w.update(t, func(tx *Tx) error { return tx.SetEntry(inbox, 1, "/private/comment", []byte{}) })
	if err := w.a.RenameInbox(ctx, "old"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"INBOX", "old"} {
		if got := w.entries(t, w.box(t, name).ID, 1); got != "/private/comment=" {
			t.Errorf("%s: %q", name, got)
		}
	}
	w.verify(t)
}

func TestEntryLimits(t *testing.T) {
	w := newWorld(t)
	inbox := w.box(t, "INBOX").ID
	set := func(box mail.MailboxID, name string, value []byte) error {
		return w.a.Update(ctx, func(tx *Tx) error { return tx.SetEntry(box, 1, name, value) })
	}
	if err := set(inbox, "/shared/x", make([]byte, MaxEntryValue+1)); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
	w.update(t, func(tx *Tx) error {
		for round := range 3 { // what is removed makes room
			for i := range MaxEntries {
				if err := tx.SetEntry(inbox, 1, fmt.Sprintf("/shared/%d/%d", round, i), []byte("v")); err != nil {
					return err
				}
			}
			for i := range MaxEntries - 1 {
				if err := tx.SetEntry(inbox, 1, fmt.Sprintf("/shared/%d/%d", round, i), nil); err != nil {
					return err
				}
			}
			if err := tx.SetEntry(inbox, 1, fmt.Sprintf("/shared/%d/%d", round, MaxEntries-1), nil); err != nil {
				return err
			}
		}
		for i := range MaxEntries {
			if err := tx.SetEntry(inbox, 1, fmt.Sprintf("/private/%d", i), []byte("v")); err != nil {
				return err
			}
		}
		return nil
	})
	if err := set(inbox, "/private/more", []byte("v")); !fault.Is(err, fault.Limited) {
		t.Error(err)
	}
	if err := set(inbox, "/private/7", []byte("other")); err != nil {
		t.Error("one that is there can be changed:", err)
	}
	stored := 0
	w.a.View(ctx, func(s *Snapshot) error {
		return s.eachRecord(inbox, func([]byte, Entry) bool { stored++; return true })
	})
	if stored > 3*MaxEntries {
		t.Errorf("%d records are kept for %d annotations", stored, MaxEntries)
	}
	w.verify(t)
	full := make([]byte, MaxEntryValue)
	const each = 100 // of a mailbox
	var err error
	for i := 0; err == nil && i < MaxMetadata/MaxEntryValue/each+1; i++ {
		err = w.a.Update(ctx, func(tx *Tx) error {
			m, err := tx.CreateMailbox(fmt.Sprint("m", i), "")
			for k := 0; err == nil && k < each; k++ {
				err = tx.SetEntry(m.ID, 1, fmt.Sprint("/shared/", k), full)
			}
			return err
		})
	}
	if !fault.Is(err, fault.Limited) {
		t.Error("all together:", err)
	}
}

func TestMetadataChanges(t *testing.T) {
	w := newWorld(t)
	inbox := w.box(t, "INBOX").ID
	var since mail.ModSeq
	changed := func(reader mail.AccountID) string {
		var out []string
		w.a.View(ctx, func(s *Snapshot) error {
			found, now, err := s.MetadataChanges(reader, since)
			if err != nil || now != s.ModSeq() {
				t.Error(now, err)
			}
			for _, box := range slices.Sorted(maps.Keys(found)) {
				for _, e := range found[box] {
					out = append(out, fmt.Sprint(box, e.Name))
				}
			}
			return nil
		})
		return strings.Join(out, " ")
	}
	w.update(t, func(tx *Tx) error {
		since = tx.ModSeq()
		return tx.SetEntry(inbox, 1, "/shared/old", []byte("x"))
	})
	w.update(t, func(tx *Tx) error {
		if err := tx.SetEntry(inbox, 1, "/private/a", []byte("x")); err != nil {
			return err
		}
		return tx.SetEntry(0, 1, "/shared/b", []byte("x"))
	})
	if got, want := changed(1), fmt.Sprintf("0/shared/b %d/private/a", inbox); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := changed(2); got != "0/shared/b" {
		t.Errorf("somebody else is told of %q", got)
	}
	w.a.View(ctx, func(s *Snapshot) error { since = s.ModSeq(); return nil })
	w.update(t, func(tx *Tx) error { return tx.SetEntry(inbox, 1, "/shared/none", nil) })
	w.update(t, func(tx *Tx) error { return tx.SetEntry(inbox, 1, "/shared/old", nil) })
	if got, want := changed(1), fmt.Sprintf("%d/shared/old", inbox); got != want {
		t.Errorf("removed: %q, want %q", got, want)
	}
}

// TestEntriesAgainstModel: random changes of annotations and mailboxes, and after each
// one every reader sees what a map would hold.
func TestEntriesAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rapidT{rt})
		type key struct {
			box    string
			reader mail.AccountID
			name   string
		}
		model := map[key]string{}
		boxes := []string{"", "INBOX", "Archive", "x", "y"}
		box := func(tx *Tx, name string) (mail.MailboxID, error) {
			if name == "" {
				return 0, nil
			}
			m, err := tx.Mailbox(name)
			return m.ID, err
		}
		rt.Repeat(map[string]func(*rapid.T){
			"set": func(rt *rapid.T) {
				k := key{rapid.SampledFrom(boxes).Draw(rt, "box"), mail.AccountID(rapid.IntRange(1, 2).Draw(rt, "reader")),
					rapid.SampledFrom([]string{"/shared/a", "/shared/b", "/private/a", "/private/b"}).Draw(rt, "name")}
				var value []byte
				if rapid.Bool().Draw(rt, "some") {
					value = []byte(rapid.StringN(0, 5, -1).Draw(rt, "value"))
				}
				err := w.a.Update(ctx, func(tx *Tx) error {
					id, err := box(tx, k.box)
					if err != nil {
						return err
					}
					return tx.SetEntry(id, k.reader, k.name, value)
				})
				if fault.Is(err, fault.NotFound) {
					return
				}
				if err != nil {
					rt.Fatal(err)
				}
				if strings.HasPrefix(k.name, "/shared") {
					k.reader = 0
				}
				if delete(model, k); value != nil {
					model[k] = string(value)
				}
			},
			"make": func(rt *rapid.T) {
				name := rapid.SampledFrom(boxes[3:]).Draw(rt, "box")
				w.a.Update(ctx, func(tx *Tx) error { _, err := tx.CreateMailbox(name, ""); return err })
			},
			"delete": func(rt *rapid.T) {
				name := rapid.SampledFrom(boxes[3:]).Draw(rt, "box")
				w.a.Update(ctx, func(tx *Tx) error { return tx.DeleteMailbox(name) })
				maps.DeleteFunc(model, func(k key, _ string) bool { return k.box == name })
			},
			"": func(rt *rapid.T) {
				for _, name := range boxes {
					id := mail.MailboxID(0)
					if name != "" {
						m, err := w.boxErr(name)
						if err != nil {
							continue
						}
						id = m.ID
					}
					for reader := mail.AccountID(1); reader <= 2; reader++ {
						var want []string
						for _, scope := range []string{"/shared", "/private"} {
							for _, n := range []string{scope + "/a", scope + "/b"} {
								r := reader
								if scope == "/shared" {
									r = 0
								}
								if v, ok := model[key{name, r, n}]; ok {
									want = append(want, n+"="+v)
								}
							}
						}
						if got := w.entries(rt, id, reader); got != strings.Join(want, " ") {
							rt.Fatalf("%q of %d: %q, want %q", name, reader, got, want)
						}
					}
				}
			},
		})
		w.verify(rt)
	})
}

func TestVerifyFindsBrokenEntries(t *testing.T) {
	for what, breaks := range map[string]func(tx *Tx) error{
		"checksum": func(tx *Tx) error { return tx.w.Put(metaKey(1, 1, "/shared/x"), []byte("broken")) },
		"nobody's": func(tx *Tx) error {
			e := Entry{Name: "/shared/y"}
			return tx.w.Put(metaKey(999, 0, e.Name), e.encode())
		},
		"size": func(tx *Tx) error { return tx.growMetadata(5) },
		"key":  func(tx *Tx) error { return tx.w.Put(engine.Key(famURLKey, 1, 1), bytes.Repeat([]byte{1}, 40)) },
	} {
		w := newWorld(t)
		w.update(t, func(tx *Tx) error { return tx.SetEntry(1, 1, "/shared/x", []byte("v")) })
		w.update(t, breaks)
		var found []Problem
		if _, err := w.Verify(ctx, func(p Problem) { found = append(found, p) }, nil); err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			t.Errorf("%s: verify finds nothing", what)
		}
	}
}

func TestURLKeys(t *testing.T) {
	w := newWorld(t)
	inbox, archive := w.box(t, "INBOX").ID, w.box(t, "Archive").ID
	one, two := bytes.Repeat([]byte{1}, URLKeySize), bytes.Repeat([]byte{2}, URLKeySize)
	w.update(t, func(tx *Tx) error {
		for _, box := range []mail.MailboxID{inbox, archive} {
			for user, key := range map[mail.AccountID][]byte{1: one, 2: two} {
				if err := tx.SetURLKey(box, user, key); err != nil {
					return err
				}
			}
		}
		return nil
	})
	key := func(box mail.MailboxID, user mail.AccountID) (k []byte) {
		if err := w.a.View(ctx, func(s *Snapshot) (err error) { k, err = s.URLKey(box, user); return err }); err != nil {
			t.Fatal(err)
		}
		return k
	}
	if !bytes.Equal(key(inbox, 1), one) || !bytes.Equal(key(archive, 2), two) || key(inbox, 3) != nil {
		t.Error("keys are mixed up")
	}
	w.update(t, func(tx *Tx) error { return tx.DropURLKeys(1) })
	if key(inbox, 1) != nil || key(archive, 1) != nil || key(inbox, 2) == nil {
		t.Error("dropped too few or too many")
	}
	w.update(t, func(tx *Tx) error { return tx.DeleteMailbox("Archive") })
	if key(archive, 2) != nil {
		t.Error("the key of a deleted mailbox is kept")
	}
	if err := w.a.Update(ctx, func(tx *Tx) error { return tx.SetURLKey(inbox, 1, one[:8]) }); err == nil {
		t.Error("a short key")
	}
	w.verify(t)
}

// An annotation of a mailbox raises its modseq, one of the account does not (RFC 7162,
// 3.2).
func TestEntryRaisesModSeq(t *testing.T) {
	w := newWorld(t)
	before := w.box(t, "INBOX")
	w.update(t, func(tx *Tx) error { return tx.SetEntry(0, 0, "/shared/comment", []byte("x")) })
	if got := w.box(t, "INBOX"); got.HighestModSeq != before.HighestModSeq {
		t.Errorf("%d, was %d", got.HighestModSeq, before.HighestModSeq)
	}
	w.update(t, func(tx *Tx) error { return tx.SetEntry(before.ID, 0, "/shared/comment", []byte("x")) })
	if got := w.box(t, "INBOX"); got.HighestModSeq <= before.HighestModSeq {
		t.Errorf("%d, was %d", got.HighestModSeq, before.HighestModSeq)
	}
}
