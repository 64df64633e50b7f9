package store

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/turn"
)

// heldFS can hold back every sync of the log.
type heldFS struct {
	vfs.FS
	mu    sync.RWMutex
	asked chan struct{} // for a sync
}

type heldFile struct {
	vfs.File
	fs *heldFS
}

func (fs *heldFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return &heldFile{f, fs}, nil
}

func (f *heldFile) Sync() error {
	f.fs.ask()
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	return f.File.Sync()
}

func (fs *heldFS) ask() {
	select {
	case fs.asked <- struct{}{}:
	default:
	}
}

func (f *heldFile) SyncData() error {
	f.fs.ask()
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	return f.File.SyncData()
}

// Whoever waits for the disk with the lock of a picture has his turn back at once: else all of
// his account who want that picture would hold the turns that he waits for, for as long as
// others work.
func TestPictureBesideOthers(t *testing.T) {
	c := &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	fs := &heldFS{FS: vfs.NewMem(), asked: make(chan struct{}, 1)}
	eng, err := pebble.Open("data", pebble.Options{FS: fs, MemTableBytes: 1 << 20, Now: c.now, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	s, err := Open(eng, Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateAccount(ctx, 1, Quota{}); err != nil {
		t.Fatal(err)
	}
	var box Mailbox
	if err := s.Account(1).View(ctx, func(sn *Snapshot) (err error) { box, err = sn.Mailbox("INBOX"); return err }); err != nil {
		t.Fatal(err)
	}
	fs.mu.Lock()
	select {
	case <-fs.asked:
	default:
	}
	written := make(chan error, 1)
	go func() {
		written <- s.Account(1).Update(ctx, func(tx *Tx) error {
			_, err := tx.CreateMailbox("Other", "")
			return err
		})
	}()
	<-fs.asked
	g := turn.NewGate(2)
	other := g.Turn()
	other.Take("other")
	seen := make(chan error, 30)
	for range cap(seen) {
		go func() {
			w := g.Turn()
			w.Take("alice")
			defer w.Give()
			_, err := s.Account(1).Picture(turn.With(ctx, &w), box.ID)
			seen <- err
		}()
	}
	time.Sleep(300 * time.Millisecond) // for all to wait
	fs.mu.Unlock()
	late := time.After(10 * time.Second)
	for i := range cap(seen) {
		select {
		case err := <-seen:
			if err != nil {
				t.Error(err)
			}
		case <-late:
			t.Errorf("%d of %d have the picture 10 s after the disk has answered", i, cap(seen))
			other.Give()
			return
		}
	}
	other.Give()
	if err := <-written; err != nil {
		t.Error(err)
	}
}
