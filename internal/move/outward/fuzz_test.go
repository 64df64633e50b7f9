package outward

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// strict wants what it is given to be what was promised.
type strict struct {
	gathered
	wrong string
}

func (s *strict) Put(_ context.Context, it move.Item, r io.Reader) error {
	var sum move.Summer
	if _, err := io.Copy(&sum, r); err != nil {
		return err
	}
	if sum.Content() != it.Content {
		s.wrong = fmt.Sprintf("UID %d has other bytes than its hash says", it.UID)
	}
	return nil
}

func FuzzFolder(f *testing.F) {
	for i, k := range kinds {
		dir := f.TempDir()
		d, err := os.OpenRoot(dir)
		if err != nil {
			f.Fatal(err)
		}
		src := &origin{}
		src.add("INBOX", mail.RoleInbox, letter{uid: 1, date: now(), keywords: []string{"work"}, body: "Subject: x\r\n\r\nFrom me\r\n"}, letter{uid: 5, date: now(), flags: mail.Seen, body: "bare\nlf"})
		o := k
		o.Source, o.Disk, o.Account, o.Now = src, d, "carol@example.org", now
		if _, err := Run(f.Context(), o); err != nil {
			f.Fatal(err)
		}
		m, _ := ReadManifest(d)
		e := m.Mailboxes[0]
		index, _ := os.ReadFile(filepath.Join(dir, e.Index))
		var file []byte
		if k.Form == Mbox {
			file, _ = os.ReadFile(filepath.Join(dir, e.Path))
		}
		f.Add(i, index, file)
		d.Close()
	}
	f.Fuzz(func(t *testing.T, kind int, index, file []byte) {
		if kind < 0 || kind >= len(kinds) {
			return
		}
		dir := folder(t)
		d := root(t, dir)
		m := &Manifest{Version: 1, Form: kinds[kind].Form, Quoting: QuoteRD, Mailboxes: []Entry{{Mailbox: "INBOX", UIDValidity: 7, Path: "box", Index: "index"}}}
		os.WriteFile(filepath.Join(dir, "index"), index, 0o600)
		switch m.Form {
		case Mbox:
			os.WriteFile(filepath.Join(dir, "box"), file, 0o600)
		case Maildir:
			os.MkdirAll(filepath.Join(dir, "box", "cur"), 0o700)
			os.WriteFile(filepath.Join(dir, "box", "cur", "1.M7P1.martlet,S=9,W=9:2,S"), file, 0o600)
		default:
			os.MkdirAll(filepath.Join(dir, "box"), 0o700)
			os.WriteFile(filepath.Join(dir, "box", "0000000001.eml"), file, 0o600)
		}
		if err := m.write(d); err != nil {
			t.Fatal(err)
		}
		fold, err := OpenFolder(d)
		if err != nil {
			t.Fatal(err)
		}
		list, _ := fold.Mailboxes(t.Context())
		v := &strict{}
		if err := fold.Read(t.Context(), list[0], move.Reading{}, v); err == nil && v.wrong != "" {
			t.Fatal(v.wrong)
		}
		slices.Sort(v.skips)
	})
}
