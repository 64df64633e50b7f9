package outward

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// files are messages that are written to files of their own: several at once become
// durable together.
type files struct {
	d    Disk
	open []written
}

// written is a file that waits for being made durable.
type written struct {
	f       *os.File
	tmp, to string
}

// write puts a message into a file under a name for the time being.
func (w *files) write(tmp, to string, date time.Time, fill func(io.Writer) error) error {
	f, err := w.d.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return writing(tmp, err)
	}
	if err = fill(f); err == nil {
		err = w.d.Chtimes(tmp, date, date)
	}
	if err != nil { // a half message never gets a name
		f.Close()
		_ = w.d.Remove(tmp) // the next run does, if this fails
		return writing(tmp, err)
	}
	w.open = append(w.open, written{f, tmp, to})
	return nil
}

// settle makes all of them durable under their names.
func (w *files) settle(folder string) error {
	if len(w.open) == 0 {
		return nil
	}
	errs := make(chan error, len(w.open))
	for _, o := range w.open { // at the same time: one turn of the disk's log serves many
		go func() { errs <- o.f.Sync() }()
	}
	var failed error
	for range w.open {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	for _, o := range w.open {
		if err := o.f.Close(); err != nil && failed == nil {
			failed = err
		}
		if failed == nil {
			failed = w.d.Rename(o.tmp, o.to)
		}
	}
	w.open = w.open[:0]
	if failed != nil {
		return writing(folder, failed)
	}
	return syncFolder(w.d, folder)
}

// drop closes what was not made durable.
func (w *files) drop() {
	for _, o := range w.open {
		o.f.Close()
	}
	w.open = nil
}

// emlBox is a mailbox as a folder of files.
type emlBox struct {
	files
	dir string
}

func emlName(uid mail.UID) string { return fmt.Sprintf("%010d.eml", uid) }

// emlUID returns the UID in the name of a file of ours, 0 if it is not.
func emlUID(name string) mail.UID {
	var uid mail.UID
	if n, _ := fmt.Sscanf(name, "%010d.eml", &uid); n != 1 || emlName(uid) != name {
		return 0
	}
	return uid
}

// openEML opens one. What an export that was stopped has left, and no index tells of, goes.
func openEML(d Disk, e *Entry, x *index) (*emlBox, error) {
	b := &emlBox{files{d: d}, e.Path}
	if err := mkdirs(d, b.dir); err != nil {
		return nil, err
	}
	list, err := names(d, b.dir)
	for _, name := range list {
		uid := emlUID(strings.TrimSuffix(name, ".tmp"))
		if err != nil || uid == 0 {
			continue
		}
		half := strings.HasSuffix(name, ".tmp")
		if !half && x.lost(e) {
			return nil, lostIndex(e)
		}
		if half || x.find(uid) == nil {
			err = writing(name, d.Remove(path.Join(b.dir, name)))
		}
	}
	return b, err
}

func (b *emlBox) put(l *Line, t *text) error {
	l.File, l.Raw = emlName(l.UID), true
	to := path.Join(b.dir, l.File)
	return b.write(to+".tmp", to, *l.Date, func(w io.Writer) error {
		_, err := io.Copy(w, t.reader())
		return err
	})
}

func (b *emlBox) settle() error               { return b.files.settle(b.dir) }
func (b *emlBox) reflag(Line, Line) error     { return nil } // the index says it
func (b *emlBox) finish(*Entry, *index) error { return nil }
func (b *emlBox) close()                      { b.drop() }
func (b *emlBox) read(l *Line) (io.ReadCloser, error) {
	return b.d.OpenFile(path.Join(b.dir, l.File), os.O_RDONLY, 0)
}
